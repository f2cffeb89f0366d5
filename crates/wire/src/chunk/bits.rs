//! Bits, most significant first, and the two variable-length codes made of them.

/// What is wrong with the data of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    #[error("chunk data ends early")]
    Truncated,
    #[error("chunk data holds a number that does not end")]
    Varint,
    #[error("chunk data holds an unknown histogram schema: {0}")]
    Schema(i64),
}

#[derive(Debug)]
pub(super) struct BitWriter {
    out: Vec<u8>,
    /// Bits not yet in `out`, at the low end; fewer than 8.
    pending: u64,
    pending_bits: u32,
}

impl BitWriter {
    /// Starts behind a header of whole bytes.
    pub(super) fn after(header: Vec<u8>) -> Self {
        Self { out: header, pending: 0, pending_bits: 0 }
    }

    #[inline]
    pub(super) fn bit(&mut self, bit: bool) {
        self.bits(u64::from(bit), 1);
    }

    /// The low `n` bits of a number, `n <= 64`.
    #[inline]
    pub(super) fn bits(&mut self, value: u64, n: u32) {
        if n > 56 {
            self.bits(value >> 32, n - 32);
            return self.bits(value & 0xffff_ffff, 32);
        }
        self.pending = self.pending << n | value & ((1 << n) - 1);
        self.pending_bits += n;
        while self.pending_bits >= 8 {
            self.pending_bits -= 8;
            self.out.push((self.pending >> self.pending_bits) as u8);
        }
    }

    /// As Go's `binary.PutUvarint`, at whatever bit the writer stands.
    pub(super) fn uvarint(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.bits(n & 0x7f | 0x80, 8);
            n >>= 7;
        }
        self.bits(n, 8);
    }

    pub(super) fn varint(&mut self, n: i64) {
        self.uvarint((n << 1 ^ n >> 63) as u64);
    }

    /// A signed number in one of nine sizes: the count of leading ones says which.
    pub(super) fn varbit(&mut self, n: i64) {
        self.sized(n as u64, |bits| in_range(n, bits));
    }

    pub(super) fn varbit_unsigned(&mut self, n: u64) {
        self.sized(n, |bits| n >> bits == 0);
    }

    fn sized(&mut self, value: u64, fits: impl Fn(u32) -> bool) {
        if value == 0 {
            return self.bit(false);
        }
        match SIZES.iter().position(|bits| fits(*bits)) {
            Some(i) => {
                let prefix = i as u32 + 1;
                // As many ones as the size's place, and a zero behind them.
                self.bits((1 << (prefix + 1)) - 2, prefix + 1);
                self.bits(value, SIZES[i]);
            }
            None => {
                self.bits(0xff, 8);
                self.bits(value, 64);
            }
        }
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        if self.pending_bits > 0 {
            self.out.push((self.pending << (8 - self.pending_bits)) as u8);
        }
        self.out
    }
}

/// Bits of a variable-length number by its prefix; the ninth size is 64 with a prefix of eight ones.
const SIZES: [u32; 7] = [3, 6, 9, 12, 18, 25, 56];

/// Whether a signed number fits into `bits`: from -(2^(bits-1))+1 to 2^(bits-1). The range is
/// shifted by one against two's complement.
#[inline]
pub(super) fn in_range(n: i64, bits: u32) -> bool {
    -((1i64 << (bits - 1)) - 1) <= n && n <= 1i64 << (bits - 1)
}

/// The number that stands in `bits` bits written under [`in_range`].
#[inline]
pub(super) fn signed(raw: u64, bits: u32) -> i64 {
    if raw > 1 << (bits - 1) { raw.wrapping_sub(1 << bits) as i64 } else { raw as i64 }
}

#[derive(Debug)]
pub(super) struct BitReader<'a> {
    data: &'a [u8],
    /// Of the next bit.
    at: usize,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0 }
    }

    pub(super) fn remaining_bits(&self) -> usize {
        self.data.len() * 8 - self.at
    }

    #[inline]
    pub(super) fn bit(&mut self) -> Result<bool, ChunkError> {
        let byte = self.data.get(self.at / 8).ok_or(ChunkError::Truncated)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Ok(bit == 1)
    }

    pub(super) fn bits(&mut self, n: u32) -> Result<u64, ChunkError> {
        if n as usize > self.remaining_bits() {
            return Err(ChunkError::Truncated);
        }
        let (mut value, mut left) = (0u64, n);
        while left > 0 {
            let byte = u64::from(*self.data.get(self.at / 8).ok_or(ChunkError::Truncated)?);
            let unread = 8 - (self.at % 8) as u32;
            let take = unread.min(left);
            let part = byte >> (unread - take) & ((1 << take) - 1);
            value = value << take | part;
            self.at += take as usize;
            left -= take;
        }
        Ok(value)
    }

    pub(super) fn uvarint(&mut self) -> Result<u64, ChunkError> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.bits(8)?;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= (byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(ChunkError::Varint)
    }

    pub(super) fn varint(&mut self) -> Result<i64, ChunkError> {
        let n = self.uvarint()?;
        Ok((n >> 1) as i64 ^ -((n & 1) as i64))
    }

    pub(super) fn varbit(&mut self) -> Result<i64, ChunkError> {
        let (raw, bits) = self.sized()?;
        Ok(if bits == 64 || bits == 0 { raw as i64 } else { signed(raw, bits) })
    }

    pub(super) fn varbit_unsigned(&mut self) -> Result<u64, ChunkError> {
        Ok(self.sized()?.0)
    }

    /// How many ones stand in front of a zero; at `most`, no zero follows.
    #[inline]
    pub(super) fn ones(&mut self, most: u32) -> Result<u32, ChunkError> {
        let mut ones = 0;
        while ones < most && self.bit()? {
            ones += 1;
        }
        Ok(ones)
    }

    fn sized(&mut self) -> Result<(u64, u32), ChunkError> {
        let bits = match self.ones(8)? {
            0 => 0,
            8 => 64,
            ones => SIZES[ones as usize - 1],
        };
        Ok((self.bits(bits)?, bits))
    }

    pub(super) fn float(&mut self) -> Result<f64, ChunkError> {
        Ok(f64::from_bits(self.bits(64)?))
    }
}
