//! Varints over a slice, and bit streams, least significant bit first.

use pilothouse_model::bytes::{Malformed, Reader};
pub use pilothouse_model::bytes::{push_signed as put_signed, push_varint as put_varint, unzigzag, zigzag};

use super::CodecError;

/// Bytes that are read from the front.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a>(Reader<'a>);

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(Reader(bytes))
    }

    pub fn rest(&self) -> &'a [u8] {
        self.0.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[inline]
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], CodecError> {
        Ok(self.0.take(n)?)
    }

    #[inline]
    pub fn byte(&mut self) -> Result<u8, CodecError> {
        Ok(self.0.byte()?)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        self.take(N)?.try_into().map_err(|_| CodecError::Truncated)
    }

    #[inline]
    pub fn varint(&mut self) -> Result<u64, CodecError> {
        Ok(self.0.varint()?)
    }

    #[inline]
    pub fn signed(&mut self) -> Result<i64, CodecError> {
        Ok(self.0.signed()?)
    }

    /// A varint that must not exceed `max`.
    pub fn varint_to(&mut self, max: usize, what: &'static str) -> Result<usize, CodecError> {
        let value = self.varint()?;
        usize::try_from(value).ok().filter(|v| *v <= max).ok_or(CodecError::Corrupt(what))
    }
}

impl From<Malformed> for CodecError {
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::END => Self::Truncated,
            Malformed(what) => Self::Corrupt(what),
        }
    }
}

/// Bytes that [`put_varint`] writes.
pub fn varint_len(value: u64) -> usize {
    (bit_length(value).max(1) as usize).div_ceil(7)
}

#[inline]
pub fn bit_length(value: u64) -> u32 {
    64 - value.leading_zeros()
}

/// The lowest `width` bits; `width` may be 64.
#[inline]
pub fn low_mask(width: u32) -> u64 {
    if width >= 64 { u64::MAX } else { (1 << width) - 1 }
}

/// Appends bits to a byte list; the last byte is zero beyond the written bits.
#[derive(Debug)]
pub struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    pending: u64,
    pending_bits: u32,
}

impl<'a> BitWriter<'a> {
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, pending: 0, pending_bits: 0 }
    }

    /// Writes the lowest `width` bits, at most 64; higher ones must be zero.
    pub fn put(&mut self, value: u64, width: u32) {
        self.pending |= value << self.pending_bits;
        let total = self.pending_bits + width;
        if total < 64 {
            self.pending_bits = total;
            return;
        }
        self.out.extend_from_slice(&self.pending.to_le_bytes());
        let written = 64 - self.pending_bits;
        self.pending = if written >= 64 { 0 } else { value >> written };
        self.pending_bits = total - 64;
    }

    pub fn finish(self) {
        let bytes = self.pending_bits.div_ceil(8) as usize;
        self.out.extend_from_slice(&self.pending.to_le_bytes()[..bytes]);
    }
}

/// Reads bits. Beyond the end there are zeros; whoever must know asks [`BitReader::is_overrun`].
#[derive(Debug, Clone)]
pub struct BitReader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> BitReader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// The next bits without taking them: at least 57 of them are real.
    #[inline]
    pub fn peek(&self) -> u64 {
        let at = self.position >> 3;
        let word = match self.bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
            Some(chunk) => u64::from_le_bytes(*chunk),
            None => self.peek_end(at),
        };
        word >> (self.position & 7)
    }

    #[cold]
    fn peek_end(&self, at: usize) -> u64 {
        let mut word = [0u8; 8];
        for (to, from) in word.iter_mut().zip(self.bytes.get(at..).unwrap_or(&[])) {
            *to = *from;
        }
        u64::from_le_bytes(word)
    }

    #[inline]
    pub fn skip(&mut self, bits: u32) {
        self.position = self.position.saturating_add(bits as usize);
    }

    /// Takes `width` bits, at most 64.
    #[inline]
    pub fn take(&mut self, width: u32) -> u64 {
        if width <= 56 {
            let value = self.peek() & low_mask(width);
            self.skip(width);
            return value;
        }
        let low = self.take(32);
        low | self.take(width - 32) << 32
    }

    pub fn is_overrun(&self) -> bool {
        self.position > self.bytes.len() * 8
    }

    /// Bytes begun.
    pub fn bytes_used(&self) -> usize {
        self.position.div_ceil(8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn bits_and_varints_read_back(items in proptest::collection::vec((proptest::num::u64::ANY, 0u32..=64), 0..200)) {
            let items: Vec<(u64, u32)> = items.into_iter().map(|(v, w)| (v & low_mask(w), w)).collect();
            let mut out = Vec::new();
            let mut writer = BitWriter::new(&mut out);
            for (value, width) in &items {
                writer.put(*value, *width);
            }
            writer.finish();
            let mut reader = BitReader::new(&out);
            for (value, width) in &items {
                proptest::prop_assert_eq!(reader.take(*width), *value);
            }
            proptest::prop_assert!(!reader.is_overrun());
            proptest::prop_assert_eq!(reader.bytes_used(), out.len());

            let mut out = Vec::new();
            let mut length = 0;
            for (value, _) in &items {
                put_varint(&mut out, *value);
                put_signed(&mut out, *value as i64);
                length += varint_len(*value) + varint_len(zigzag(*value as i64));
            }
            proptest::prop_assert_eq!(out.len(), length);
            let mut input = Input::new(&out);
            for (value, _) in &items {
                proptest::prop_assert_eq!(input.varint(), Ok(*value));
                proptest::prop_assert_eq!(input.signed(), Ok(*value as i64));
            }
            proptest::prop_assert!(input.is_empty());
        }
    }

    #[test]
    fn overlong_varints_are_refused() {
        assert_eq!(Input::new(&[0x80]).varint(), Err(CodecError::Truncated));
        assert_eq!(Input::new(&[0xff; 11]).varint(), Err(CodecError::Corrupt("number")));
        let mut last_too_large = [0x80u8; 10];
        last_too_large[9] = 2;
        assert_eq!(Input::new(&last_too_large).varint(), Err(CodecError::Corrupt("number")));
    }
}
