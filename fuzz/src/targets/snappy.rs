//! Compressed bodies of every kind.
//!
//! Strategy: the first byte picks the encoding and the bound.
//! Invariants: what comes out is never longer than the bound; what we compress comes back.

use pilothouse_wire::body::{Encoding, decompress, gzip, snappy};

const ENCODINGS: [Encoding; 5] =
    [Encoding::Snappy, Encoding::Gzip, Encoding::Zstd, Encoding::Deflate, Encoding::Identity];

pub fn run(data: &[u8]) {
    let Some((pick, data)) = data.split_first() else { return };
    let max_bytes = [0, 100, 1 << 16, 1 << 20][usize::from(pick / 64)];
    for encoding in [ENCODINGS[usize::from(pick % 5)], Encoding::Snappy] {
        if let Ok(out) = decompress(encoding, data, max_bytes) {
            assert!(out.len() as u64 <= max_bytes);
        }
    }
    let whole = data.len() as u64;
    assert_eq!(decompress(Encoding::Snappy, &snappy(data), whole).as_deref(), Ok(data));
    assert_eq!(decompress(Encoding::Gzip, &gzip(data), whole).as_deref(), Ok(data));
}
