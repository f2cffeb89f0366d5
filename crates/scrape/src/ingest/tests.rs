//! Tables: what a job says and what a target exposes, and the samples that come of it.

use pilothouse_model::histogram::CUSTOM_BUCKETS_SCHEMA;
use pilothouse_model::labels::SeriesText;
use pilothouse_model::limits::Limits;
use pilothouse_model::sample::{format_float, is_stale};
use pilothouse_model::write::{RawPair, WriteBatch};
use pilothouse_model::{Histogram, Labels, Span};
use pilothouse_wire::exposition::TextFormat;

mod histograms;

use super::{Counts, Filling, Ingest, finest_for};
use crate::cache::SeriesCache;
use crate::config::{Job, Sections, load};
use crate::exchange::Form;
use crate::report::Report;

fn job(fields: &str) -> Job {
    let yaml = format!("[{{job_name: j, {fields}}}]");
    let scrape_configs = serde_norway::from_str(&yaml).unwrap();
    let sections = Sections { scrape_configs, ..Sections::default() };
    load(&sections, std::path::Path::new("/")).unwrap().remove(0)
}

fn lines(batch: &WriteBatch) -> Vec<String> {
    let mut out = Vec::new();
    for series in &batch.series {
        let mut pairs: Vec<RawPair<'_>> = Vec::new();
        (batch.read_labels)(batch.raw_labels(series), &mut pairs).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let labels = Labels::from_pairs(pairs.into_iter().map(|(n, v)| (text(n), text(v))));
        for sample in batch.floats_of(series) {
            let value = if is_stale(sample.value) { "stale".to_owned() } else { format_float(sample.value) };
            out.push(format!("{} {value} @{}", SeriesText(&labels), sample.t_ms));
        }
        for exemplar in batch.exemplars_of(series) {
            out.push(format!("  exemplar {} @{}", exemplar.value, exemplar.t_ms));
        }
    }
    out
}

/// Scrapes bodies one after the other, at 1000, 2000 and so on; gives the last one's outcome.
struct Target {
    job: Job,
    public: Labels,
    cache: SeriesCache,
    t_ms: i64,
}

impl Target {
    fn new(fields: &str) -> Self {
        let public = Labels::from_pairs([("instance", "i"), ("job", "j")]);
        Self { job: job(fields), public, cache: SeriesCache::default(), t_ms: 0 }
    }

    fn scrape(&mut self, body: &str) -> (Vec<String>, Counts, Option<String>) {
        self.scrape_as(body, TextFormat::Prometheus)
    }

    fn scrape_as(&mut self, body: &str, format: TextFormat) -> (Vec<String>, Counts, Option<String>) {
        self.t_ms += 1000;
        let limits = Limits::default();
        let ingest = Ingest {
            job: &self.job,
            public: &self.public,
            histograms: self.job.histograms,
            limits: &limits,
            t_ms: self.t_ms,
        };
        let done = ingest.body(&mut self.cache, body.as_bytes(), Form::Text(format));
        let mut lines = lines(&done.batch);
        // Markers come in no order.
        lines.sort_by_key(|line| line.contains(" stale @"));
        (lines, done.counts, done.result.err().map(|e| e.to_string()))
    }
}

fn check(fields: &str, body: &str, expected: &[&str]) {
    let (lines, _, error) = Target::new(fields).scrape(body);
    assert_eq!(
        (lines, error),
        (expected.iter().map(ToString::to_string).collect(), None),
        "{fields}\n{body}"
    );
}

#[test]
fn labels_of_the_target_and_of_what_it_exposes() {
    for (fields, body, expected) in [
        ("", "a 1\n", "a{instance=\"i\", job=\"j\"} 1 @1000"),
        ("", "a{x=\"y\",empty=\"\"} 1\n", "a{instance=\"i\", job=\"j\", x=\"y\"} 1 @1000"),
        ("", "a{job=\"own\"} 1\n", "a{exported_job=\"own\", instance=\"i\", job=\"j\"} 1 @1000"),
        (
            "",
            "a{job=\"own\",exported_job=\"other\"} 1\n",
            "a{exported_exported_job=\"own\", exported_job=\"other\", instance=\"i\", job=\"j\"} 1 @1000",
        ),
        ("honor_labels: true", "a{job=\"own\"} 1\n", "a{instance=\"i\", job=\"own\"} 1 @1000"),
        ("honor_labels: true", "a{instance=\"\"} 1\n", "a{job=\"j\"} 1 @1000"),
        ("", "a{instance=\"\"} 1\n", "a{instance=\"i\", job=\"j\"} 1 @1000"),
        (
            "",
            "{\"dotted.name\",\"a b\"=\"c\"} 1\n",
            "{__name__=\"dotted.name\", \"a b\"=\"c\", instance=\"i\", job=\"j\"} 1 @1000",
        ),
    ] {
        check(fields, body, &[expected]);
    }
}

#[test]
fn times_that_are_exposed() {
    check("", "a 1 500\n", &["a{instance=\"i\", job=\"j\"} 1 @500"]);
    check("honor_timestamps: false", "a 1 500\n", &["a{instance=\"i\", job=\"j\"} 1 @1000"]);
    // Several samples of a series, each with its time.
    check(
        "",
        "a 1 500\na 2 600\n",
        &["a{instance=\"i\", job=\"j\"} 1 @500", "a{instance=\"i\", job=\"j\"} 2 @600"],
    );
    // Who says when, says that it knows when to end, unless the job asks for more.
    for (fields, ended) in [("", 0), ("track_timestamps_staleness: true", 1)] {
        let mut target = Target::new(fields);
        target.scrape("a 1 500\n");
        assert_eq!(target.scrape("b 1\n").0.len(), 1 + ended, "{fields}");
    }
}

#[test]
fn metric_relabelling() {
    let fields = "metric_relabel_configs: [{action: drop, source_labels: [__name__], regex: b.*}, \
                  {action: labeldrop, regex: x}]";
    let mut target = Target::new(fields);
    let (lines, counts, _) = target.scrape("a{x=\"1\"} 1\nb 2\nbb 3\n");
    assert_eq!(lines, ["a{instance=\"i\", job=\"j\"} 1 @1000"]);
    assert_eq!(counts, Counts { scraped: 3, kept: 1, added: 1, duplicates: 0 });
    assert_eq!(
        target.scrape("a{x=\"1\"} 1\nb 2\nbb 3\n").1,
        Counts { scraped: 3, kept: 1, added: 0, duplicates: 0 }
    );
    let (_, _, error) =
        Target::new("metric_relabel_configs: [{action: labeldrop, regex: __name__}]").scrape("a 1\n");
    assert_eq!(error.as_deref(), Some("missing metric name (__name__ label)"));
}

#[test]
fn series_end() {
    let mut target = Target::new("");
    target.scrape("a 1\nb{x=\"1\"} 2\nb{x=\"2\"} 2\n");
    let (lines, ..) = target.scrape("a 1\nb{x=\"2\"} 2\n");
    assert_eq!(lines.last().unwrap(), "b{instance=\"i\", job=\"j\", x=\"1\"} stale @2000");
    // A body that cannot be read ends everything; what comes back goes on.
    let (mut lines, counts, error) = target.scrape("a 1\nb\n");
    lines.sort();
    assert_eq!(
        lines,
        ["a{instance=\"i\", job=\"j\"} stale @3000", "b{instance=\"i\", job=\"j\", x=\"2\"} stale @3000"]
    );
    // What stood before the fault is counted.
    assert_eq!(counts, Counts { scraped: 1, kept: 1, added: 0, duplicates: 0 });
    assert_eq!(error.unwrap(), "line 2: expected value after metric, got the end of the line");
    assert!(target.scrape("nonsense{\n").0.is_empty());
    assert_eq!(target.scrape("a 1\n").0, ["a{instance=\"i\", job=\"j\"} 1 @5000"]);
    assert_eq!(target.scrape("").0, ["a{instance=\"i\", job=\"j\"} stale @6000"]);
}

#[test]
fn samples_that_are_there_twice() {
    let (lines, counts, error) = Target::new("").scrape("a 1\nb 1\na 2\nb 3\nb 4\n");
    assert_eq!(lines.len(), 2);
    assert_eq!((counts, error), (Counts { scraped: 5, kept: 5, added: 2, duplicates: 3 }, None));
    let (_, _, error) = Target::new("").scrape("a{x=\"1\",x=\"2\"} 1\n");
    assert_eq!(error.as_deref(), Some("label name \"x\" is not unique: invalid sample"));
}

#[test]
fn limits_of_a_job_fail_the_scrape() {
    let long = format!("a{{{}=\"v\"}} 1\n", "n".repeat(60));
    for (fields, body, error) in [
        ("sample_limit: 2", "a 1\nb 1\nc 1\nd 1\n", "sample limit exceeded"),
        (
            "label_limit: 3",
            "a{x=\"1\"} 1\n",
            "label_limit exceeded (metric: a, number of labels: 4, limit: 3)",
        ),
        (
            "label_name_length_limit: 8",
            "a{too_long_a_name=\"1\"} 1\n",
            "label_name_length_limit exceeded (metric: a, label name: too_long_a_name, length: 15, limit: 8)",
        ),
        (
            "label_value_length_limit: 3",
            "a{x=\"four\"} 1\n",
            "label_value_length_limit exceeded (metric: a, label name: x, value: \"four\", length: 4, limit: 3)",
        ),
        (
            "label_name_length_limit: 50",
            &long,
            &format!(
                "label_name_length_limit exceeded (metric: a, label name: {}, length: 60, limit: 50)",
                "n".repeat(50)
            ),
        ),
        (
            "metric_name_validation_scheme: legacy",
            "{\"a.b\"} 1\n",
            "invalid metric name or label names: {__name__=\"a.b\", instance=\"i\", job=\"j\"}",
        ),
    ] {
        let (lines, _, got) = Target::new(fields).scrape(body);
        assert_eq!((lines.len(), got.as_deref()), (0, Some(error)), "{fields}");
    }
    // All is counted nevertheless, and a series that had a place before ends.
    let mut target = Target::new("sample_limit: 2");
    assert_eq!(target.scrape("a 1\nb 1\n").1.kept, 2);
    let (lines, counts, _) = target.scrape("a 1\nb 1\nc 1\n");
    assert_eq!((lines.len(), counts), (2, Counts { scraped: 3, kept: 3, added: 0, duplicates: 0 }));
    assert!(lines.iter().all(|line| line.contains("stale")));
    assert_eq!(target.scrape("a 1\n").0, ["a{instance=\"i\", job=\"j\"} 1 @3000"]);
}

#[test]
fn exemplars_without_a_time_have_the_samples() {
    let body = "# TYPE a counter\na_total 1 # {x=\"y\"} 0.5\na_created 7\n# EOF\n";
    let (lines, ..) = Target::new("").scrape_as(body, TextFormat::OpenMetrics);
    assert_eq!(
        lines,
        [
            "a_total{instance=\"i\", job=\"j\"} 1 @1000",
            "  exemplar 0.5 @1000",
            "a_created{instance=\"i\", job=\"j\"} 7 @1000"
        ]
    );
}

#[test]
fn classic_histograms_may_become_native_ones() {
    let body = "# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 3\nh_sum 4\nh_count 3\na 1\n";
    for (fields, floats) in [
        ("convert_classic_histograms_to_nhcb: true", 1),
        ("convert_classic_histograms_to_nhcb: true, always_scrape_classic_histograms: true", 5),
    ] {
        let mut target = Target::new(fields);
        let limits = Limits::default();
        let ingest = Ingest {
            job: &target.job,
            public: &target.public,
            histograms: target.job.histograms,
            limits: &limits,
            t_ms: 1,
        };
        let done = ingest.body(&mut target.cache, body.as_bytes(), Form::Text(TextFormat::Prometheus));
        assert_eq!((done.batch.floats.len(), done.batch.histograms.len()), (floats, 1), "{fields}");
        assert_eq!(done.counts.added as usize, floats + 1);
        assert_eq!(target.scrape("a 1\n").0.len(), 1 + floats, "{fields}: all but one end");
    }
}

#[test]
fn a_scrape_reports_itself() {
    let limits = Limits::default();
    for (fields, expected) in [("", 5), ("extra_scrape_metrics: true, sample_limit: 9", 8)] {
        let job = job(fields);
        let public = Labels::from_pairs([("job", "j")]);
        let ingest =
            Ingest { job: &job, public: &public, histograms: job.histograms, limits: &limits, t_ms: 7 };
        let counts = Counts { scraped: 3, kept: 2, added: 1, duplicates: 0 };
        let mut batch = WriteBatch::of_labels();
        Report { up: true, duration_s: 0.25, counts, body_bytes: 100.0 }.add(ingest, 10_000, &mut batch);
        let all = [
            "up{job=\"j\"} 1 @7",
            "scrape_duration_seconds{job=\"j\"} 0.25 @7",
            "scrape_samples_scraped{job=\"j\"} 3 @7",
            "scrape_samples_post_metric_relabeling{job=\"j\"} 2 @7",
            "scrape_series_added{job=\"j\"} 1 @7",
            "scrape_timeout_seconds{job=\"j\"} 10 @7",
            "scrape_sample_limit{job=\"j\"} 9 @7",
            "scrape_body_size_bytes{job=\"j\"} 100 @7",
        ];
        assert_eq!(lines(&batch), all[..expected]);
        let mut ends = WriteBatch::of_labels();
        Report::end(ingest, &mut ends);
        assert_eq!(ends.series.len(), expected);
        assert!(ends.floats.iter().all(|f| is_stale(f.value)));
    }
}

/// What one scrape of a target with these labels writes, or why it fails.
fn taken(fields: &str, public: &[(&str, &str)], body: &str) -> Result<Vec<String>, String> {
    let mut target = Target { public: Labels::from_pairs(public.iter().copied()), ..Target::new(fields) };
    let (lines, _, error) = target.scrape(body);
    error.map_or(Ok(lines), Err)
}

/// What is exposed makes room, as often as it takes.
#[test]
fn names_that_are_taken_give_way() {
    for (public, exposed, expected) in [
        (&[("x", "t")][..], "m{x=\"1\"} 0", "m{exported_x=\"1\", x=\"t\"}"),
        (
            &[("x", "t"), ("exported_x", "u")],
            "m{x=\"1\"} 0",
            "m{exported_exported_x=\"1\", exported_x=\"u\", x=\"t\"}",
        ),
        (
            &[("x", "t")],
            "m{x=\"1\", exported_x=\"2\"} 0",
            "m{exported_exported_x=\"1\", exported_x=\"2\", x=\"t\"}",
        ),
        (&[("exported_x", "u")], "m{exported_x=\"1\"} 0", "m{exported_exported_x=\"1\", exported_x=\"u\"}"),
        (
            &[("x", "t"), ("exported_x", "u")],
            "m{x=\"1\", exported_x=\"2\"} 0",
            "m{exported_exported_exported_x=\"2\", exported_exported_x=\"1\", exported_x=\"u\", x=\"t\"}",
        ),
        (
            &[("x", "t"), ("exported_exported_x", "u"), ("exported_exported_exported_x", "v")],
            "m{x=\"1\", exported_x=\"2\", exported_exported_exported_x=\"3\"} 0",
            "m{exported_exported_exported_exported_exported_x=\"3\", \
             exported_exported_exported_exported_x=\"1\", exported_exported_exported_x=\"v\", \
             exported_exported_x=\"u\", exported_x=\"2\", x=\"t\"}",
        ),
    ] {
        assert_eq!(taken("", public, exposed), Ok(vec![format!("{expected} 0 @1000")]), "{exposed}");
    }
}

/// Labels of the target count as those that are exposed do.
#[test]
fn labels_within_limits() {
    let two = &[("y", "5"), ("z", "6")][..];
    for (fields, public, exposed, is_taken) in [
        ("label_limit: 3", &[][..], "m{a=\"1\", b=\"2\"} 0", true),
        ("label_limit: 3", &[], "m{a=\"1\", b=\"2\", c=\"3\"} 0", false),
        ("label_limit: 4", two, "m{a=\"1\"} 0", true),
        ("label_limit: 4", two, "m{a=\"1\", b=\"2\"} 0", false),
        ("label_name_length_limit: 8", two, "m{a=\"1\"} 0", true),
        ("label_name_length_limit: 8", two, "m{rather_long=\"1\"} 0", false),
        ("label_name_length_limit: 8", &[("rather_long", "1")], "m 0", false),
        ("label_value_length_limit: 4", two, "m{a=\"1234\"} 0", true),
        ("label_value_length_limit: 4", two, "m{a=\"12345\"} 0", false),
        ("label_value_length_limit: 4", &[("y", "12345")], "m 0", false),
    ] {
        assert_eq!(taken(fields, public, exposed).is_ok(), is_taken, "{fields}: {exposed}");
    }
}

/// What relabelling drops does not count towards the limit of samples.
#[test]
fn samples_that_are_dropped_take_no_room() {
    let fields = "sample_limit: 1, metric_relabel_configs: [{action: drop, source_labels: [gone], regex: x}]";
    let (lines, counts, error) = Target::new(fields).scrape("a 1\nb{gone=\"x\"} 1\n");
    assert_eq!((lines.len(), counts.scraped, counts.kept, error), (1, 2, 1, None));
    let (_, counts, error) = Target::new(fields).scrape("a 1\nb{gone=\"x\"} 1\nc 1\nd 1\n");
    assert_eq!((counts.scraped, counts.kept, error.as_deref()), (4, 3, Some("sample limit exceeded")));
}

/// Rules see `le` and `quantile` as they are stored.
#[test]
fn relabelling_of_bounds() {
    let fields = "metric_relabel_configs: [{source_labels: [le, __name__], regex: '(\\d+)\\.0+;.*_bucket', \
                  target_label: le}, {source_labels: [quantile], regex: '(\\d+)\\.0+', target_label: quantile}]";
    let body = "# TYPE h histogram\nh_bucket{le=\"0.5\"} 1\nh_bucket{le=\"10\"} 1\nh_bucket{le=\"+Inf\"} 1\n\
                # TYPE s summary\ns{quantile=\"0.9\"} 1\ns{quantile=\"1\"} 1\n";
    let lines = taken(fields, &[], body).unwrap();
    for (line, label) in
        lines.iter().zip(["le=\"0.5\"", "le=\"10\"", "le=\"+Inf\"", "quantile=\"0.9\"", "quantile=\"1\""])
    {
        assert!(line.contains(label), "{line}");
    }
}

#[test]
fn the_schema_of_a_bucket_factor() {
    for (factor, schema) in [
        (65_536.0, -4),
        (256.0, -3),
        (16.0, -2),
        (4.0, -1),
        (2.0, 0),
        (1.4, 1),
        (1.1, 2),
        (1.09, 3),
        (1.04, 4),
        (1.02, 5),
        (1.01, 6),
        (1.005, 7),
        (1.002, 8),
        (1.000_1, 8),
    ] {
        assert_eq!(finest_for(factor), schema, "{factor}");
    }
}

/// Buckets of a native histogram are merged until there are few enough, where they can be.
#[test]
fn native_histograms_within_limits() {
    let spans = |spans: &[(i32, u32)]| -> Vec<Span> {
        spans.iter().map(|&(offset, length)| Span { offset, length }).collect()
    };
    let both = Histogram {
        positive_spans: spans(&[(0, 3)]),
        positive_counts: vec![3.0; 3],
        negative_spans: spans(&[(0, 3)]),
        negative_counts: vec![3.0; 3],
        ..Histogram::default()
    };
    let gap = Histogram {
        positive_spans: spans(&[(1, 1), (2, 1)]),
        positive_counts: vec![1.0; 2],
        ..Histogram::default()
    };
    let custom = Histogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        positive_spans: spans(&[(0, 3)]),
        positive_counts: vec![3.0; 3],
        custom_bounds: [1.0, 2.0, 3.0].into(),
        ..Histogram::default()
    };
    for (fields, histogram, expected) in [
        ("native_histogram_bucket_limit: 3", &both, None),
        ("native_histogram_bucket_limit: 4", &both, Some((4, -1))),
        ("native_histogram_bucket_limit: 10", &both, Some((6, 0))),
        ("native_histogram_bucket_limit: 1", &gap, Some((1, -2))),
        ("native_histogram_bucket_limit: 2", &custom, None),
        ("native_histogram_bucket_limit: 3", &custom, Some((3, CUSTOM_BUCKETS_SCHEMA))),
        ("native_histogram_min_bucket_factor: 4", &both, Some((4, -1))),
        ("native_histogram_min_bucket_factor: 1", &both, Some((6, 0))),
        ("native_histogram_min_bucket_factor: 4", &custom, Some((3, CUSTOM_BUCKETS_SCHEMA))),
    ] {
        let (job, public, limits) = (job(fields), Labels::default(), Limits::default());
        let ingest =
            Ingest { job: &job, public: &public, histograms: job.histograms, limits: &limits, t_ms: 1 };
        let mut filling =
            Filling { ingest, batch: WriteBatch::of_labels(), counts: Counts::default(), over: None };
        let resized = filling.resized(histogram.clone());
        let found = resized.map(|h| (h.positive_counts.len() + h.negative_counts.len(), h.schema));
        assert_eq!((found, filling.over.is_some()), (expected, expected.is_none()), "{fields}");
    }
}
