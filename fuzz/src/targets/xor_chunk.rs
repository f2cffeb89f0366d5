//! Prometheus' chunks.
//!
//! Strategy: the first byte picks the encoding, the rest is the chunk.
//! Invariant: what was decoded is encoded and decoded the same (hints of resets aside, which a
//! chunk sharpens, and the sign of a zero bound, which its form cannot say).

use pilothouse_model::{Histogram, ResetHint, SampleColumns};
use pilothouse_wire::chunk::{ChunkEncoding, decode_chunk, encode_chunks};

pub fn run(data: &[u8]) {
    let Some((pick, data)) = data.split_first() else { return };
    let encoding = ChunkEncoding::from_wire(i32::from(pick % 3) + 1).expect("one of three");
    let mut first = SampleColumns::default();
    if decode_chunk(encoding, data, &mut first).is_err() {
        return;
    }
    let mut second = SampleColumns::default();
    encode_chunks(&first, |chunk| {
        decode_chunk(chunk.encoding, &chunk.data, &mut second).expect("what was encoded is decoded");
    });
    assert_eq!(words(&first), words(&second));
}

fn words(columns: &SampleColumns) -> (Vec<(i64, u64)>, Vec<String>) {
    let floats = columns.times_ms.iter().zip(&columns.values).map(|(t, v)| (*t, v.to_bits())).collect();
    let bare = |h: &Histogram| Histogram {
        reset_hint: ResetHint::Unknown,
        custom_bounds: h.custom_bounds.iter().map(|b| b + 0.0).collect(),
        ..h.clone()
    };
    (floats, columns.histograms.iter().map(|(t, h)| format!("{t} {:?}", bare(h))).collect())
}
