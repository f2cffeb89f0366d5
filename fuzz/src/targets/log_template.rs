//! Templates of LogQL, over lines: `line_format` and `label_format`.
//!
//! Strategy: up to the first zero the template, behind it a line.
//! Invariants: never a panic; what comes out is no longer than a line may be, and labels are not
//! repeated.

use pilothouse_logql::{LogPipeline, parse_log};
use pilothouse_model::Labels;
use pilothouse_model::labels::quote;
use pilothouse_model::limits::LOG_LINE_BYTES;

use super::as_text;

pub fn run(data: &[u8]) {
    let at = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (template, line) = (as_text(&data[..at]), as_text(data.get(at + 1..).unwrap_or_default()));
    let quoted = quote(template);
    for stage in ["line_format ", "label_format x="] {
        let query = format!("{{app=\"x\"}} | logfmt | {stage}{quoted}");
        let Ok(mut pipeline) = parse_log(&query).and_then(|log| LogPipeline::new(&log)) else { continue };
        let labels = Labels::from_pairs([("app", "x"), ("n", "17"), ("t", "2026-01-02T03:04:05Z")]);
        let metadata = Labels::from_pairs([("json", "{\"a\":[1,{\"b\":null}]}")]);
        let Some(passed) = pipeline.process(&labels, 1_767_323_045_000_000_000, line, &metadata) else {
            continue;
        };
        let all = passed.merged();
        assert!(all.windows(2).all(|pair| pair[0].0 != pair[1].0), "{all:?}");
        assert!(passed.line.len() as u64 <= LOG_LINE_BYTES);
    }
}
