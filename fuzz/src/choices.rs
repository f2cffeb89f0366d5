//! Plausible samples made from arbitrary bytes.
//!
//! Arbitrary bits are rarely numbers that a scraped target would show, and the codecs choose
//! their form by just that. So the bytes are read as steps of a walk: most keep or nudge the last
//! value in its unit, some jump, some are bits as they come.

/// Bytes as a source of choices; beyond the end everything is zero.
#[derive(Debug, Clone)]
pub(crate) struct Choices<'a> {
    bytes: &'a [u8],
}

impl<'a> Choices<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.bytes
    }

    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        let n = N.min(self.bytes.len());
        out[..n].copy_from_slice(&self.bytes[..n]);
        self.bytes = &self.bytes[n..];
        out
    }

    pub(crate) fn byte(&mut self) -> u8 {
        u8::from_le_bytes(self.array())
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::from(u16::from_le_bytes(self.array())) % n.max(1)
    }

    fn signed(&mut self) -> i64 {
        i64::from(i16::from_le_bytes(self.array()))
    }

    /// The next value of a walk.
    pub(crate) fn value(&mut self, last: f64) -> f64 {
        const UNITS: [f64; 8] = [1.0, 10.0, 100.0, 1e3, 1e6, 1e9, 1.0 / 1024.0, 1.0 / 4096.0];
        match self.byte() {
            0..=79 => last,
            op @ 80..=199 => {
                let unit = UNITS[usize::from(op % 8)];
                ((last * unit).round() + self.signed() as f64) / unit
            }
            200..=215 => last + f64::from(self.byte()),
            216..=223 => f64::from_bits(0x7ff0_0000_0000_0002),
            224..=231 => {
                [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.0, f64::MAX, 5e-324, 1e15][self.below(8)]
            }
            _ => f64::from_bits(u64::from_le_bytes(self.array())),
        }
    }

    /// The next time of a list; mostly one step of 15 s on.
    pub(crate) fn time(&mut self, last: i64) -> i64 {
        match self.byte() {
            0..=159 => last.wrapping_add(15_000),
            160..=199 => last.wrapping_add(15_000 + i64::from(self.byte() as i8)),
            200..=223 => last.wrapping_add(self.signed().abs() + 1),
            224..=239 => last.wrapping_add(15_000 * i64::from(self.byte())),
            240..=247 => last.wrapping_add(self.signed()),
            _ => i64::from_le_bytes(self.array()),
        }
    }

    /// All that is left as values, at most `max`.
    pub(crate) fn values(&mut self, max: usize) -> Vec<f64> {
        let mut last = 0.0;
        let mut values = Vec::new();
        while !self.is_empty() && values.len() < max {
            last = self.value(last);
            values.push(last);
        }
        values
    }

    /// `n` times.
    pub(crate) fn times(&mut self, n: usize) -> Vec<i64> {
        let mut last = 1_795_305_600_000;
        let next = |_| {
            last = self.time(last);
            last
        };
        (0..n).map(next).collect()
    }
}

/// Panics unless both hold the same bits.
#[track_caller]
pub(crate) fn assert_same_bits(read: &[f64], wanted: &[f64]) {
    assert_eq!(read.len(), wanted.len());
    for (at, (r, w)) in read.iter().zip(wanted).enumerate() {
        assert_eq!(r.to_bits(), w.to_bits(), "value {at}: {r} is not {w}");
    }
}
