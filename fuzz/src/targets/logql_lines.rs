//! Lines from outside through every parser of LogQL: never a panic, and a label set without
//! repeated names comes out.
//!
//! Strategy: the bytes up to the first zero choose nothing; each further part is a line.

use std::cell::RefCell;

use pilothouse_logql::{LogPipeline, parse_log};
use pilothouse_model::Labels;

const STAGES: [&str; 9] = [
    "| json",
    "| json a=\"b.c[0]\", d=\"[1][\\\"k\\\"]\", e",
    "| logfmt",
    "| logfmt --strict --keep-empty | unpack",
    "| logfmt a, b=\"c\"",
    "| unpack | json",
    "| pattern \"<a> <_>=<b>\" |> \"<_> <_>\"",
    "| regexp \"(?P<k>\\\\w+)=(?P<v>\\\\S*)\" | decolorize | a = ip(\"10.0.0.0/8\") or b > 5 or c < 1s or d >= 1KB",
    "| json | line_format \"{{.a}} {{.b | upper}} {{__line__ | trunc 5}}\" | label_format x=\"{{.a}}\", y=b | drop a, b=\"1\" | logfmt | keep x, y",
];

thread_local! {
    static PIPELINES: RefCell<Vec<LogPipeline>> = RefCell::new(
        STAGES
            .iter()
            .map(|stages| {
                let log = parse_log(&format!("{{app=\"x\"}} {stages}")).expect(stages);
                LogPipeline::new(&log).expect(stages)
            })
            .collect(),
    );
}

pub fn run(data: &[u8]) {
    let labels = Labels::from_pairs([("app", "x"), ("a", "1")]);
    let metadata = Labels::from_pairs([("b", "2"), ("app", "meta")]);
    for line in data.split(|b| *b == 0).map(String::from_utf8_lossy) {
        PIPELINES.with_borrow_mut(|pipelines| {
            for pipeline in pipelines {
                let Some(passed) = pipeline.process(&labels, 1, &line, &metadata) else { continue };
                let all = passed.merged();
                assert!(all.windows(2).all(|pair| pair[0].0 != pair[1].0), "{all:?}");
            }
        });
    }
}
