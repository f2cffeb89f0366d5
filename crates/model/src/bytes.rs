//! The bytes of our own formats: variable-length integers, and a reader that never runs past the
//! end.

/// The bytes are not what was written; says what of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed {0}")]
pub struct Malformed(pub &'static str);

impl Malformed {
    /// They end too early.
    pub const END: Self = Self("end");
}

#[inline]
pub fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[inline]
pub fn push_signed(out: &mut Vec<u8>, value: i64) {
    push_varint(out, zigzag(value));
}

/// Small magnitudes of either sign become small numbers.
#[inline]
pub fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

#[inline]
pub fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

pub fn push_f64(out: &mut Vec<u8>, value: f64) {
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

/// A length and the bytes.
pub fn push_slice(out: &mut Vec<u8>, bytes: &[u8]) {
    push_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads from the front of a slice, of which it holds the rest.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[inline]
    pub fn byte(&mut self) -> Result<u8, Malformed> {
        let (first, rest) = self.0.split_first().ok_or(Malformed::END)?;
        self.0 = rest;
        Ok(*first)
    }

    /// An unsigned LEB128 number of at most ten bytes.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return if shift == 63 && byte > 1 { Err(Malformed("number")) } else { Ok(value) };
            }
        }
        Err(Malformed("number"))
    }

    #[inline]
    pub fn signed(&mut self) -> Result<i64, Malformed> {
        self.varint().map(unzigzag)
    }

    pub fn u32(&mut self) -> Result<u32, Malformed> {
        u32::try_from(self.varint()?).map_err(|_| Malformed("number"))
    }

    pub fn i32(&mut self) -> Result<i32, Malformed> {
        i32::try_from(self.signed()?).map_err(|_| Malformed("number"))
    }

    pub fn f64(&mut self) -> Result<f64, Malformed> {
        let bytes = self.take(8)?;
        Ok(f64::from_bits(u64::from_le_bytes(bytes.try_into().map_err(|_| Malformed("float"))?)))
    }

    #[inline]
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.0.split_at_checked(n).ok_or(Malformed::END)?;
        self.0 = rest;
        Ok(head)
    }

    pub fn slice(&mut self) -> Result<&'a [u8], Malformed> {
        let n = usize::try_from(self.varint()?).map_err(|_| Malformed("length"))?;
        self.take(n)
    }

    pub fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.slice()?).map_err(|_| Malformed("text"))
    }

    /// A count of things of which each takes at least one byte, so that a wrong count cannot
    /// ask for more memory than there are bytes.
    pub fn count(&mut self) -> Result<usize, Malformed> {
        let n = usize::try_from(self.varint()?).map_err(|_| Malformed("count"))?;
        if n > self.0.len() { Err(Malformed("count")) } else { Ok(n) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_texts_read_back_and_every_cut_is_told() {
        let mut bytes = Vec::new();
        for value in [0, 1, 127, 128, u64::from(u32::MAX), u64::MAX] {
            push_varint(&mut bytes, value);
            push_signed(&mut bytes, value as i64);
        }
        push_f64(&mut bytes, f64::NAN);
        push_slice(&mut bytes, "é".as_bytes());
        let read = |mut from: Reader<'_>| -> Result<(), Malformed> {
            for value in [0, 1, 127, 128, u64::from(u32::MAX), u64::MAX] {
                assert_eq!((from.varint()?, from.signed()?), (value, value as i64));
            }
            assert_eq!(from.f64()?.to_bits(), f64::NAN.to_bits());
            assert_eq!(from.text()?, "é");
            assert!(from.is_empty());
            Ok(())
        };
        assert_eq!(read(Reader(&bytes)), Ok(()));
        assert!((0..bytes.len()).all(|cut| read(Reader(&bytes[..cut])).is_err()));
        // A tenth byte that says more than 64 bits hold, an eleventh, and a count of more than is there.
        assert!(Reader(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]).varint().is_err());
        assert!(Reader(&[0x80; 11]).varint().is_err());
        assert_eq!(Reader(&[2, 0]).count(), Err(Malformed("count")));
    }
}
