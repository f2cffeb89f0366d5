//! Walking protobuf by hand: a cursor over borrowed bytes, and the few ways to append to bytes.
//!
//! Generated decoders build a tree of small allocations; the bodies on the hot path hold tens of
//! thousands of labels that are only looked at for series not met before.

/// What is wrong with the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtoError {
    #[error("unexpected end")]
    Truncated,
    #[error("a number that does not end within 10 bytes")]
    Varint,
    #[error("an illegal tag")]
    Tag,
    #[error("a wrong wire type for its field")]
    WireType,
    #[error("a group that does not close")]
    Group,
}

/// The key of a field: its number and wire type as one number, as they stand on the wire.
pub(crate) const fn varint_key(field: u32) -> u32 {
    field << 3
}
pub(crate) const fn fixed64_key(field: u32) -> u32 {
    field << 3 | 1
}
pub(crate) const fn bytes_key(field: u32) -> u32 {
    field << 3 | 2
}

/// A cursor over one message. Positions count from the start of the outermost message, so that
/// a nested cursor can say where in the body it stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a> {
    /// The outermost bytes, cut at the end of this message.
    bytes: &'a [u8],
    pub(crate) at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The key of the next field, `None` at the end of the message.
    #[inline]
    pub(crate) fn key(&mut self) -> Result<Option<u32>, ProtoError> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let key = u32::try_from(self.varint()?).map_err(|_| ProtoError::Tag)?;
        if key >> 3 == 0 || key & 7 > 5 { Err(ProtoError::Tag) } else { Ok(Some(key)) }
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, ProtoError> {
        match self.bytes.get(self.at) {
            Some(byte) if *byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, ProtoError> {
        let rest = self.bytes.get(self.at..).unwrap_or(&[]);
        if let Some(head) = rest.first_chunk::<8>()
            && let Some((value, length)) = short_varint(u64::from_le_bytes(*head))
        {
            self.at += length;
            return Ok(value);
        }
        let mut value = 0u64;
        for (i, byte) in rest.iter().take(10).enumerate() {
            // Bits beyond the 64th are dropped, as other decoders drop them.
            value |= u64::from(byte & 0x7f) << (7 * i);
            if *byte < 0x80 {
                self.at += i + 1;
                return Ok(value);
            }
        }
        Err(if rest.len() < 10 { ProtoError::Truncated } else { ProtoError::Varint })
    }

    #[inline]
    pub(crate) fn int64(&mut self) -> Result<i64, ProtoError> {
        Ok(self.varint()? as i64)
    }

    /// An `int32` or an enum: the low 32 bits count.
    #[inline]
    pub(crate) fn int32(&mut self) -> Result<i32, ProtoError> {
        Ok(self.varint()? as i32)
    }

    #[inline]
    pub(crate) fn sint64(&mut self) -> Result<i64, ProtoError> {
        Ok(zigzag(self.varint()?))
    }

    #[inline]
    pub(crate) fn sint32(&mut self) -> Result<i32, ProtoError> {
        Ok(zigzag(u64::from(self.varint()? as u32)) as i32)
    }

    #[inline]
    pub(crate) fn double(&mut self) -> Result<f64, ProtoError> {
        let end = self.at.checked_add(8).ok_or(ProtoError::Truncated)?;
        let bytes = self.bytes.get(self.at..end).ok_or(ProtoError::Truncated)?;
        self.at = end;
        Ok(f64::from_le_bytes(bytes.try_into().map_err(|_| ProtoError::Truncated)?))
    }

    #[inline]
    pub(crate) fn fixed32(&mut self) -> Result<u32, ProtoError> {
        let end = self.at.checked_add(4).ok_or(ProtoError::Truncated)?;
        let bytes = self.bytes.get(self.at..end).ok_or(ProtoError::Truncated)?;
        self.at = end;
        Ok(u32::from_le_bytes(bytes.try_into().map_err(|_| ProtoError::Truncated)?))
    }

    /// The end of the length-delimited field whose length stands here; the cursor moves to its
    /// first byte.
    #[inline]
    fn delimited_end(&mut self) -> Result<usize, ProtoError> {
        let length = usize::try_from(self.varint()?).map_err(|_| ProtoError::Truncated)?;
        match self.at.checked_add(length) {
            Some(end) if end <= self.bytes.len() => Ok(end),
            _ => Err(ProtoError::Truncated),
        }
    }

    #[inline]
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], ProtoError> {
        let end = self.delimited_end()?;
        let out = self.bytes.get(self.at..end).ok_or(ProtoError::Truncated)?;
        self.at = end;
        Ok(out)
    }

    /// Text, with what is not UTF-8 replaced.
    pub(crate) fn text(&mut self) -> Result<String, ProtoError> {
        Ok(String::from_utf8_lossy(self.bytes()?).into_owned())
    }

    /// A cursor over the nested message that stands here; this one moves behind it.
    #[inline]
    pub(crate) fn message(&mut self) -> Result<Cursor<'a>, ProtoError> {
        let end = self.delimited_end()?;
        let nested = Cursor { bytes: self.bytes.get(..end).ok_or(ProtoError::Truncated)?, at: self.at };
        self.at = end;
        Ok(nested)
    }

    /// The bytes between two positions of this message.
    #[inline]
    pub(crate) fn slice(&self, from: usize, to: usize) -> &'a [u8] {
        self.bytes.get(from..to).unwrap_or(&[])
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// Skips the value of a field that nobody asks for.
    pub(crate) fn skip(&mut self, key: u32) -> Result<(), ProtoError> {
        let mut depth = 0u32;
        let mut key = key;
        loop {
            match key & 7 {
                0 => drop(self.varint()?),
                1 => self.advance(8)?,
                2 => self.at = self.delimited_end()?,
                3 => depth += 1,
                4 => depth = depth.checked_sub(1).ok_or(ProtoError::Group)?,
                _ => self.advance(4)?,
            }
            if depth == 0 {
                return Ok(());
            }
            key = self.key()?.ok_or(ProtoError::Group)?;
        }
    }

    /// Skips a field, refusing one of the given numbers: those are known, and stand here with a
    /// wire type that they do not have.
    pub(crate) fn skip_unknown(
        &mut self,
        key: u32,
        known: std::ops::RangeInclusive<u32>,
    ) -> Result<(), ProtoError> {
        if known.contains(&(key >> 3)) { Err(ProtoError::WireType) } else { self.skip(key) }
    }

    fn advance(&mut self, n: usize) -> Result<(), ProtoError> {
        match self.at.checked_add(n) {
            Some(at) if at <= self.bytes.len() => {
                self.at = at;
                Ok(())
            }
            _ => Err(ProtoError::Truncated),
        }
    }
}

/// A number that ends within the 8 bytes of `word`, and its length. Timestamps take 6 bytes:
/// the groups of 7 bits are moved together all at once.
#[inline]
fn short_varint(word: u64) -> Option<(u64, usize)> {
    let ends = !word & 0x8080_8080_8080_8080;
    if ends == 0 {
        return None;
    }
    // All bits up to the one that ends the number.
    let x = word & (ends ^ (ends - 1)) & 0x7f7f_7f7f_7f7f_7f7f;
    let x = x & 0x007f_007f_007f_007f | (x & 0x7f00_7f00_7f00_7f00) >> 1;
    let x = x & 0x0000_3fff_0000_3fff | (x & 0x3fff_0000_3fff_0000) >> 2;
    let x = x & 0x0000_0000_0fff_ffff | (x & 0x0fff_ffff_0000_0000) >> 4;
    Some((x, ends.trailing_zeros() as usize / 8 + 1))
}

fn zigzag(n: u64) -> i64 {
    (n >> 1) as i64 ^ -((n & 1) as i64)
}

fn unzigzag(n: i64) -> u64 {
    (n << 1 ^ n >> 63) as u64
}

pub(crate) fn push_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

pub(crate) fn varint_len(n: u64) -> usize {
    (64 - (n | 1).leading_zeros() as usize).div_ceil(7)
}

/// The writers leave out fields that are zero, as proto3 does.
pub(crate) fn push_uint(out: &mut Vec<u8>, field: u32, n: u64) {
    if n != 0 {
        push_varint(out, u64::from(varint_key(field)));
        push_varint(out, n);
    }
}

pub(crate) fn push_int(out: &mut Vec<u8>, field: u32, n: i64) {
    push_uint(out, field, n as u64);
}

pub(crate) fn push_sint(out: &mut Vec<u8>, field: u32, n: i64) {
    push_uint(out, field, unzigzag(n));
}

/// Only +0.0 is the zero that may be left out.
pub(crate) fn push_double(out: &mut Vec<u8>, field: u32, value: f64) {
    if value.to_bits() != 0 {
        push_varint(out, u64::from(fixed64_key(field)));
        out.extend_from_slice(&value.to_le_bytes());
    }
}

/// A length-delimited field, also an empty one.
pub(crate) fn push_bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    push_varint(out, u64::from(bytes_key(field)));
    push_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(crate) fn push_text(out: &mut Vec<u8>, field: u32, text: &str) {
    if !text.is_empty() {
        push_bytes(out, field, text.as_bytes());
    }
}

/// A nested message, whose length is only known once it is written.
pub(crate) fn push_message(out: &mut Vec<u8>, field: u32, write: impl FnOnce(&mut Vec<u8>)) {
    push_varint(out, u64::from(bytes_key(field)));
    let at = out.len();
    out.push(0);
    write(out);
    let length = out.len() - at - 1;
    if length < 0x80 {
        out[at] = length as u8;
        return;
    }
    let mut prefix = Vec::with_capacity(5);
    push_varint(&mut prefix, length as u64);
    out.splice(at..=at, prefix);
}

/// Packed zigzag numbers.
pub(crate) fn push_packed_sint(out: &mut Vec<u8>, field: u32, numbers: impl Iterator<Item = i64>) {
    let mut packed = Vec::new();
    numbers.for_each(|n| push_varint(&mut packed, unzigzag(n)));
    if !packed.is_empty() {
        push_bytes(out, field, &packed);
    }
}

pub(crate) fn push_packed_doubles(out: &mut Vec<u8>, field: u32, values: &[f64]) {
    if !values.is_empty() {
        push_varint(out, u64::from(bytes_key(field)));
        push_varint(out, values.len() as u64 * 8);
        values.iter().for_each(|v| out.extend_from_slice(&v.to_le_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn numbers_go_back(n in proptest::num::u64::ANY, shift in 0u32..64, tail in 0usize..9) {
            let n = n >> shift;
            let mut out = Vec::new();
            push_varint(&mut out, n);
            let length = out.len();
            proptest::prop_assert_eq!(length, varint_len(n));
            out.extend(std::iter::repeat_n(0xff, tail));
            let mut cursor = Cursor::new(&out);
            proptest::prop_assert_eq!((cursor.varint(), cursor.at), (Ok(n), length));
            proptest::prop_assert_eq!(zigzag(unzigzag(n as i64)), n as i64);
            let mut cut = Cursor::new(&out[..length - 1]);
            proptest::prop_assert_eq!(cut.varint(), Err(ProtoError::Truncated));
        }
    }
}
