//! The open chunk of a series, against a plain list.
//!
//! Strategy: the bytes are a walk of times and values, appended one by one; the chunk is read
//! whole and by a range chosen from the bytes.
//! Invariants: first, last and count are right after every append; what was appended is read, to
//! the bit and in order; a range gives what a filter of the list gives where times ascend.

use pilothouse_metrics::codec::HeadChunk;
use pilothouse_model::SampleColumns;

use crate::choices::{Choices, assert_same_bits};

pub fn run(data: &[u8]) {
    let mut choices = Choices::new(data);
    let ascending = choices.byte().is_multiple_of(2);
    let (from, length) = (choices.below(1_000), choices.below(1_000));
    let (mut times, mut values) = (Vec::new(), Vec::new());
    let (mut t, mut value) = (1_795_305_600_000i64, 0.0f64);
    let mut head = HeadChunk::new();
    while !choices.is_empty() {
        let next = choices.time(t);
        t = if ascending && next <= t { t.saturating_add(1) } else { next };
        if ascending && times.last() == Some(&t) {
            break;
        }
        value = choices.value(value);
        head.append(t, value);
        times.push(t);
        values.push(value);
        assert_eq!((head.len(), head.last_t(), head.first_t()), (times.len(), Some(t), Some(times[0])));
        assert_eq!(head.last_value().map(f64::to_bits), Some(value.to_bits()));
    }
    let (mut read_times, mut read_values) = (Vec::new(), Vec::new());
    head.read_all(&mut read_times, &mut read_values);
    assert_eq!(read_times, times);
    assert_same_bits(&read_values, &values);
    if ascending {
        check_range(&head, &times, &values, from, length);
    }
}

fn check_range(head: &HeadChunk, times: &[i64], values: &[f64], from: usize, length: usize) {
    let start = times.get(from).copied().unwrap_or(0);
    let end = times.get(from + length).copied().unwrap_or(start.saturating_add(100_000));
    let mut columns = SampleColumns::default();
    head.read_range(start, end, &mut columns);
    let within = |t: &i64| (start..=end).contains(t);
    let wanted: Vec<i64> = times.iter().copied().filter(within).collect();
    assert_eq!(columns.times_ms, wanted);
    let wanted: Vec<f64> = times.iter().zip(values).filter(|(t, _)| within(t)).map(|(_, v)| *v).collect();
    assert_same_bits(&columns.values, &wanted);
}
