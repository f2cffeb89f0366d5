//! What remote systems answer to queries.
//!
//! Strategy: the first byte picks the kind of answer, the rest is its body.
//! Invariants: never a panic; labels are in order and have values; samples of a series ascend; a page
//! of lines is within the range that was asked for, each stream of it in order.

use pilothouse_model::logs::ReadOrder;
use pilothouse_model::{Budget, Labels, LogSelection, QueryValue};
use pilothouse_remote::{answers, first_page};

pub fn run(data: &[u8]) {
    let Some((kind, body)) = data.split_first() else { return };
    match kind % 10 {
        0 => {
            if let Ok(Some(QueryValue::Vector(samples))) = answers::query_value(body) {
                samples.iter().for_each(|sample| check(&sample.labels));
            }
        }
        1 => {
            for (labels, samples) in answers::raw_series(body).ok().flatten().unwrap_or_default() {
                check(&labels);
                assert_eq!(samples.times_ms.len(), samples.values.len());
                assert!(samples.times_ms.is_sorted_by(|a, b| a < b));
            }
        }
        2 => drop(answers::texts(body)),
        3 => answers::label_sets(body).unwrap_or_default().iter().for_each(check),
        4 => {
            for (labels, exemplars) in answers::exemplars(body).unwrap_or_default() {
                check(&labels);
                exemplars.iter().for_each(|exemplar| check(&exemplar.labels));
            }
        }
        5 => drop(answers::metadata(body)),
        6 => drop(answers::stats(body)),
        7 => check_page(body, ReadOrder::Oldest),
        8 => check_page(body, ReadOrder::Newest),
        _ => {
            for series in answers::read_series(body, 100, &Budget::unlimited()).unwrap_or_default() {
                check(&series.labels);
                assert!(series.samples.times_ms.is_sorted_by(|a, b| a < b));
            }
        }
    }
}

fn check(labels: &Labels) {
    let pairs: Vec<_> = labels.iter().collect();
    assert!(pairs.is_sorted_by(|a, b| a.0 < b.0), "{labels}");
    assert!(pairs.iter().all(|(_, value)| !value.is_empty()), "{labels}");
}

fn check_page(body: &[u8], order: ReadOrder) {
    let range = LogSelection { order, ..LogSelection::all(Vec::new(), -5, 1_000) };
    for times in first_page(body, &range).unwrap_or_default() {
        assert!(times.is_sorted() && times.iter().all(|t| (-5..1_000).contains(t)));
    }
}
