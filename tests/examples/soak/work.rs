//! Batches that are encoded once. Only times, values and ids differ between two of them, and
//! those stand in places of fixed width, so that a driver on the server's own cores takes as
//! little of them as may be. For the same reason the snappy block is one literal.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Signal {
    Samples,
    Lines,
}

pub(crate) const SERIES: u64 = 2_000;
pub(crate) const LINES: u64 = 1_000;
/// How far in the past the data begins, so that it never runs ahead of the clock.
const BEGIN_AGO_S: u64 = 3_000;
/// Time between two batches of samples of one writer.
const SAMPLES_EVERY_MS: u64 = 10;
/// Nanoseconds of a second between these take five bytes as a varint, always.
const FIRST_MS: u64 = 270;
const LINES_EVERY_MS: u64 = 5;
const BATCHES_A_SECOND: u64 = (1_000 - FIRST_MS) / LINES_EVERY_MS;

pub(crate) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// When the data of a run begins.
pub(crate) fn begin_s() -> u64 {
    now_s() - BEGIN_AGO_S
}

impl Signal {
    pub(crate) fn per_batch(self) -> u64 {
        match self {
            Self::Samples => SERIES,
            Self::Lines => LINES,
        }
    }

    /// Seconds of data time that so many batches of one writer fill.
    pub(crate) fn span_s(self, batches: u64) -> u64 {
        match self {
            Self::Samples => batches * SAMPLES_EVERY_MS / 1_000 + 1,
            Self::Lines => batches / BATCHES_A_SECOND + 1,
        }
    }
}

/// What one writer sends, again and again.
pub(crate) struct Batches {
    signal: Signal,
    begin_s: u64,
    body: Vec<u8>,
    /// Of each sample or entry: where its changing parts stand.
    places: Vec<[usize; 4]>,
    made: u64,
}

impl Batches {
    pub(crate) fn new(signal: Signal, writer: u64, begin_s: u64) -> Self {
        let mut encoded = Encoded::default();
        match signal {
            Signal::Samples => samples(writer, &mut encoded),
            Signal::Lines => lines(writer, &mut encoded),
        }
        let mut body = Vec::new();
        varint(&mut body, encoded.bytes.len() as u64);
        body.push(63 << 2);
        body.extend((encoded.bytes.len() as u32 - 1).to_le_bytes());
        let places = encoded.places.iter().map(|places| places.map(|at| at + body.len())).collect();
        body.extend(encoded.bytes);
        Self { signal, begin_s, body, places, made: 0 }
    }

    /// Batches so far.
    pub(crate) fn made(&self) -> u64 {
        self.made
    }

    pub(crate) fn next(&mut self) -> Bytes {
        self.made += 1;
        match self.signal {
            Signal::Samples => self.set_samples(),
            Signal::Lines => self.set_lines(),
        }
        Bytes::copy_from_slice(&self.body)
    }

    fn set_samples(&mut self) {
        let t_ms = self.begin_s * 1_000 + self.made * SAMPLES_EVERY_MS;
        for (i, [value, time, ..]) in (7u64..).zip(&self.places) {
            let noise = (t_ms.wrapping_mul(i) % 10_007) as f64 / 7.0;
            self.body[*value..value + 8].copy_from_slice(&noise.to_le_bytes());
            wide_varint(&mut self.body[*time..time + 6], t_ms);
        }
    }

    fn set_lines(&mut self) {
        let second = self.begin_s + self.made / BATCHES_A_SECOND;
        let first_ns = (FIRST_MS + self.made % BATCHES_A_SECOND * LINES_EVERY_MS) * 1_000_000;
        for (i, [seconds, nanos, id, took]) in (0u64..).zip(&self.places) {
            let hash = (second * 1_000_000_000 + first_ns + i).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            wide_varint(&mut self.body[*seconds..seconds + 5], second);
            wide_varint(&mut self.body[*nanos..nanos + 5], first_ns + i);
            digits(&mut self.body[*id..id + 16], hash, 16);
            digits(&mut self.body[*took..took + 4], hash >> 40, 10);
        }
    }
}

#[derive(Default)]
struct Encoded {
    bytes: Vec<u8>,
    places: Vec<[usize; 4]>,
}

impl Encoded {
    /// Appends a message of which the places are relative to its beginning.
    fn message(&mut self, field: u8, body: &[u8], places: [usize; 4]) {
        prefix(&mut self.bytes, field, body.len());
        let at = self.bytes.len();
        self.places.push(places.map(|place| place + at));
        self.bytes.extend(body);
    }
}

fn samples(writer: u64, out: &mut Encoded) {
    for i in 0..SERIES {
        let mut one = Vec::new();
        let instance = format!("10.0.{}.{}:9100", i / 250, i % 250);
        let labels = [
            ("__name__", "soak"),
            ("i", &i.to_string()),
            ("instance", &instance),
            ("job", "node"),
            ("w", &writer.to_string()),
        ];
        for (name, value) in labels {
            let mut label = Vec::new();
            bytes(&mut label, 1, name.as_bytes());
            bytes(&mut label, 2, value.as_bytes());
            bytes(&mut one, 1, &label);
        }
        // A double, and a time in six bytes.
        prefix(&mut one, 2, 1 + 8 + 1 + 6);
        one.push(1 << 3 | 1);
        let value = one.len();
        one.extend([0; 8]);
        one.push(2 << 3);
        let time = one.len();
        one.extend([0; 6]);
        out.message(1, &one, [value, time, 0, 0]);
    }
}

fn lines(writer: u64, out: &mut Encoded) {
    let mut stream = Encoded::default();
    bytes(&mut stream.bytes, 1, format!("{{app=\"soak\", w=\"{writer}\"}}").as_bytes());
    for i in 0..LINES {
        let mut entry = Vec::new();
        prefix(&mut entry, 1, 2 * (1 + 5));
        entry.push(1 << 3);
        let seconds = entry.len();
        entry.extend([0; 5]);
        entry.push(2 << 3);
        let nanos = entry.len();
        entry.extend([0; 5]);
        let head = format!("level=info msg=\"request served\" method=GET path=/api/v1/items/{} id=", i % 97);
        let line = format!("{head}{:016} took={:04}ms", 0, 0);
        bytes(&mut entry, 2, line.as_bytes());
        let (id, took) = (entry.len() - line.len() + head.len(), entry.len() - "0000ms".len());
        stream.message(2, &entry, [seconds, nanos, id, took]);
    }
    prefix(&mut out.bytes, 1, stream.bytes.len());
    let at = out.bytes.len();
    out.places.extend(stream.places.iter().map(|places| places.map(|place| place + at)));
    out.bytes.extend(stream.bytes);
}

fn prefix(out: &mut Vec<u8>, field: u8, length: usize) {
    out.push(field << 3 | 2);
    varint(out, length as u64);
}

fn bytes(out: &mut Vec<u8>, field: u8, value: &[u8]) {
    prefix(out, field, value.len());
    out.extend(value);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A varint that fills its place.
fn wide_varint(place: &mut [u8], mut value: u64) {
    let last = place.len() - 1;
    for (n, byte) in place.iter_mut().enumerate() {
        *byte = (value & 0x7f) as u8 | if n < last { 0x80 } else { 0 };
        value >>= 7;
    }
}

fn digits(place: &mut [u8], mut value: u64, base: u64) {
    for byte in place.iter_mut().rev() {
        *byte = b"0123456789abcdef"[(value % base) as usize];
        value /= base;
    }
}
