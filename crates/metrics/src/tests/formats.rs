//! A data directory of every format version that was ever released, opened by this code.
//!
//! Each is one compressed file beside this one. `WRITE_FORMAT=1` writes the one of the present
//! code anew; do that only for a format that is not released yet.

use pilothouse_model::ports::LabelQuery;
use pilothouse_model::write::{BatchExemplar, MetadataEntry, MetricType};

use super::*;

fn histogram(count: f64) -> Histogram {
    Histogram {
        schema: 1,
        integer: true,
        count,
        sum: 2.5,
        positive_spans: vec![pilothouse_model::Span { offset: 0, length: 1 }],
        positive_counts: vec![count],
        ..Histogram::default()
    }
}

/// A closed day, a young day, and a log with what is in neither.
fn write(directory: &std::path::Path, clock: &Arc<Stepped>) {
    let store = Store::open(directory, options(clock)).unwrap();
    for round in 0..3i64 {
        let t = NOON + round * DAY_MS;
        let mut push = Push::new();
        for i in 0..5 {
            let samples: Vec<(i64, f64)> =
                (0..50).map(|k| (t - k * 15_000, (k * i) as f64 / 4.0)).rev().collect();
            push = push.series(&series("a", i as usize), &samples, &[]);
        }
        push = push.series(&series("h", 1), &[], &[(t - 1, histogram(3.0)), (t, histogram(4.0))]);
        if let Some(last) = push.0.series.last_mut() {
            last.exemplars = 0..1;
        }
        let labels = vec![("trace_id".to_owned(), "x".to_owned())];
        push.0.exemplars.push(BatchExemplar { t_ms: t, value: 1.5, labels });
        push.0.metadata.push(MetadataEntry {
            family: "a".into(),
            metric_type: MetricType::Counter,
            help: format!("help {round}"),
            unit: String::new(),
        });
        assert_eq!(push.to(&store).rejected, 0);
        if round == 0 {
            store.compact_now().unwrap();
        } else if round == 1 {
            store.delete_series(&[vec![Matcher::equal("i", "4")]], t - 60_000, t).unwrap();
            store.seal_all().unwrap();
        }
        clock.step(DAY_MS);
    }
}

fn check(directory: &std::path::Path, clock: &Arc<Stepped>) {
    let store = Store::open(directory, options(clock)).unwrap();
    let content = read_all(&store);
    assert_eq!(content.len(), 6);
    for (labels, samples) in &content {
        let expected = match (labels.metric_name(), labels.value("i")) {
            (Some("h"), _) => 6,
            (_, "4") => 145,
            _ => 150,
        };
        assert_eq!(samples.len(), expected, "{labels}");
    }
    let h = &content[&series("h", 1)];
    assert_eq!(h[&NOON], Value::Histogram(Box::new(histogram(4.0))));
    let a = &content[&series("a", 3)];
    assert_eq!(a[&(NOON - 15_000 * 7)], Value::Float(5.25f64.to_bits()));
    assert_eq!(store.metadata(Some("a"), &Budget::unlimited()).unwrap().len(), 3);
    let query = LabelQuery { matcher_sets: vec![], start_ms: i64::MIN, end_ms: i64::MAX, limit: 0 };
    let exemplars = store.exemplars(&query, &Budget::unlimited()).unwrap();
    assert_eq!((exemplars.len(), exemplars[0].1.len()), (1, 3));
    assert_eq!(store.label_names(&query, &Budget::unlimited()).unwrap(), ["__name__", "i"]);
    let stats = store.stats();
    assert_eq!((stats.days, stats.closed_day_files, stats.open_day_files, stats.corruptions), (2, 1, 1, 0));
}

fn archive(directory: &std::path::Path) -> Vec<u8> {
    let mut out = Vec::new();
    for part in ["wal", "day", "."] {
        for entry in std::fs::read_dir(directory.join(part)).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                let name = format!("{part}/{}", entry.file_name().to_str().unwrap());
                let bytes = std::fs::read(entry.path()).unwrap();
                out.extend_from_slice(&(name.len() as u32).to_le_bytes());
                out.extend_from_slice(name.as_bytes());
                out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
                out.extend_from_slice(&bytes);
            }
        }
    }
    zstd::encode_all(out.as_slice(), 19).unwrap()
}

fn unpack(archive: &[u8], directory: &std::path::Path) {
    let bytes = zstd::decode_all(archive).unwrap();
    let mut rest = bytes.as_slice();
    let mut take = || {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (part, after) = after.split_at(u32::from_le_bytes(*length) as usize);
        rest = after;
        Some(part)
    };
    while let (Some(name), Some(content)) = (take(), take()) {
        let path = directory.join(std::str::from_utf8(name).unwrap());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
}

#[test]
fn a_directory_of_every_format_opens() {
    let clock = Stepped::new(NOON);
    let written = tempfile::tempdir().unwrap();
    write(written.path(), &clock);
    check(written.path(), &clock);
    let version_1 = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats/1.zst");
    if std::env::var_os("WRITE_FORMAT").is_some() {
        std::fs::create_dir_all(version_1.parent().unwrap()).unwrap();
        std::fs::write(&version_1, archive(written.path())).unwrap();
    }
    let unpacked = tempfile::tempdir().unwrap();
    unpack(&std::fs::read(version_1).unwrap(), unpacked.path());
    check(unpacked.path(), &clock);
}

#[test]
fn a_directory_in_use_and_a_newer_format_are_refused() {
    let clock = Stepped::new(NOON);
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), options(&clock)).unwrap();
    let refused = Store::open(dir.path(), options(&clock)).unwrap_err();
    assert!(refused.to_string().contains("in use"), "{refused}");
    drop(store);
    let catalog = dir.path().join("series.redb");
    std::fs::remove_file(&catalog).unwrap();
    drop(pilothouse_disk::Database::open(&catalog, "metrics-series", 99, 1 << 20).unwrap());
    let refused = Store::open(dir.path(), options(&clock)).unwrap_err();
    assert!(refused.to_string().contains("series.redb"), "{refused}");
}
