//! What the targets of log pushes share: a batch that is looked over, and put back into a request.

use pilothouse_model::Labels;
use pilothouse_wire::logs::LogDecoded;

/// Panics unless the batch is as a store expects it.
pub(crate) fn check(decoded: &LogDecoded) {
    let batch = &decoded.batch;
    assert!(batch.streams.len() as u64 <= decoded.streams);
    let mut entries = 0;
    for stream in &batch.streams {
        assert_sorted(&stream.labels);
        assert!(stream.labels.get("service_name").is_some());
        for entry in batch.entries_of(stream) {
            assert_sorted(&entry.metadata);
            assert!(entry.metadata.get("detected_level").is_some());
            let range = entry.line.start as usize..entry.line.end as usize;
            assert!(batch.text.get(range).is_some());
            entries += 1;
        }
    }
    assert_eq!(entries, batch.entries.len());
}

fn assert_sorted(labels: &Labels) {
    let pairs: Vec<_> = labels.iter().collect();
    assert!(pairs.is_sorted_by(|a, b| a.0 < b.0), "{labels}");
    assert!(pairs.iter().all(|(name, value)| !name.is_empty() && !value.is_empty()), "{labels}");
}

/// A `logproto.PushRequest` with what was taken.
pub(crate) fn as_protobuf(decoded: &LogDecoded) -> Vec<u8> {
    let batch = &decoded.batch;
    let mut body = Vec::new();
    for stream in &batch.streams {
        let mut message = Vec::new();
        push_bytes(&mut message, 1, stream.labels.to_string().as_bytes());
        for entry in batch.entries_of(stream) {
            let mut time = vec![0x08];
            push_varint(&mut time, entry.t_ns.div_euclid(1_000_000_000) as u64);
            time.push(0x10);
            push_varint(&mut time, entry.t_ns.rem_euclid(1_000_000_000) as u64);
            let mut bytes = Vec::new();
            push_bytes(&mut bytes, 1, &time);
            push_bytes(&mut bytes, 2, batch.line_of(entry).as_bytes());
            for (name, value) in &entry.metadata {
                let mut pair = Vec::new();
                push_bytes(&mut pair, 1, name.as_bytes());
                push_bytes(&mut pair, 2, value.as_bytes());
                push_bytes(&mut bytes, 3, &pair);
            }
            push_bytes(&mut message, 2, &bytes);
        }
        push_bytes(&mut body, 1, &message);
    }
    body
}

/// What was taken, as text.
pub(crate) fn words(decoded: &LogDecoded) -> Vec<String> {
    let batch = &decoded.batch;
    let of = |stream| {
        let entry = |e| format!("{:?} {}", batch.line_of(e), e.metadata);
        let entries: Vec<_> = batch.entries_of(stream).iter().map(|e| (e.t_ns, entry(e))).collect();
        format!("{} {entries:?}", stream.labels)
    };
    batch.streams.iter().map(of).collect()
}

fn push_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    push_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn push_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}
