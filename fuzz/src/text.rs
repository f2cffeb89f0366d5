//! What the targets of the two text formats share.

use pilothouse_model::limits::Limits;
use pilothouse_model::write::MetricType;
use pilothouse_wire::exposition::{TextFormat, TextWriter, import, parse};

use crate::wire::read_all_labels;

const NAME: &[u8] = b"__name__";

pub(crate) fn check(format: TextFormat, text: &[u8]) {
    let limits = Limits::default();
    let imported = import(format, text, 7, &limits).expect("within the limits");
    // What is scraped is read with more severity.
    assert!(parse(format, text, 7, &limits).is_err() || imported.rejected == 0);
    for (labels, series) in read_all_labels(&imported).iter().zip(&imported.batch.series) {
        // A quoted name beside a label `__name__` are two names, `{""}` is none: no door takes those.
        let mut names = labels.iter().filter(|(name, _)| name == NAME);
        if !matches!((names.next(), names.next()), (Some((_, name)), None) if !name.is_empty()) {
            continue;
        }
        for sample in imported.batch.floats_of(series) {
            check_sample(format, labels, sample.value);
        }
    }
}

fn check_sample(format: TextFormat, labels: &[(Vec<u8>, Vec<u8>)], value: f64) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let named = |n: &[u8]| n == NAME;
    let name = labels.iter().find(|(n, _)| named(n)).map(|(_, v)| text(v)).unwrap_or_default();
    let others: Vec<(String, String)> =
        labels.iter().filter(|(n, _)| !named(n)).map(|(n, v)| (text(n), text(v))).collect();
    let pairs: Vec<(&str, &str)> = others.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let mut writer = TextWriter::new(format);
    writer.family(&name, MetricType::Gauge, "", "");
    writer.sample("", &pairs, value);
    let again =
        parse(format, writer.finish().as_bytes(), 7, &Limits::default()).expect("what was written is read");
    let read = again.batch.floats[0].value;
    assert!(read.to_bits() == value.to_bits() || read.is_nan() && value.is_nan());
    let lossy = |l: &[(Vec<u8>, Vec<u8>)]| l.iter().map(|(n, v)| (text(n), text(v))).collect::<Vec<_>>();
    let (mut read, mut wanted) = (lossy(&read_all_labels(&again)[0]), lossy(labels));
    read.sort();
    wanted.sort();
    assert_eq!(read, wanted);
}
