//! Bit packing of 64 numbers of one width, unrolled per width.

/// Reads 64 numbers of `W` bits from `bytes`, which must hold at least `8 * W` bytes.
#[inline]
fn unpack_width<const W: usize>(bytes: &[u8], out: &mut [u64; 64]) {
    if W == 0 {
        *out = [0; 64];
        return;
    }
    let mut words = [0u64; 65];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)).take(W) {
        let mut raw = [0u8; 8];
        raw.copy_from_slice(chunk);
        *word = u64::from_le_bytes(raw);
    }
    let mask = if W >= 64 { u64::MAX } else { (1u64 << (W % 64)) - 1 };
    for (i, slot) in out.iter_mut().enumerate() {
        let (at, shift) = (i * W / 64, i * W % 64);
        let low = words[at] >> shift;
        let high = if shift == 0 { 0 } else { words[at + 1] << (64 - shift) };
        *slot = (low | high) & mask;
    }
}

macro_rules! by_width {
    ($width:expr, $bytes:expr, $out:expr; $($w:literal)*) => {
        match $width { $( $w => unpack_width::<$w>($bytes, $out), )* _ => *$out = [0; 64] }
    };
}

/// Reads 64 numbers of `width` bits (0 to 64); `bytes` shorter than `8 * width` reads zeros.
pub(super) fn unpack(width: u32, bytes: &[u8], out: &mut [u64; 64]) {
    by_width!(width, bytes, out;
        0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32
        33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63 64);
}

#[cfg(test)]
mod tests {
    use super::super::bits::{BitWriter, low_mask};
    use super::*;

    #[test]
    fn every_width_reads_what_the_bit_writer_wrote() {
        for width in 0..=64 {
            let numbers: [u64; 64] =
                std::array::from_fn(|i| (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) & low_mask(width));
            let mut bytes = Vec::new();
            let mut writer = BitWriter::new(&mut bytes);
            for number in numbers {
                writer.put(number, width);
            }
            writer.finish();
            let mut read = [1u64; 64];
            unpack(width, &bytes, &mut read);
            assert_eq!(read, numbers, "width {width}");
        }
    }
}
