//! Texts of rules: labels and annotations as templates, over an alert whose queries answer.
//!
//! Invariant: never a panic, nor more text than a line of a log may be.

use pilothouse_model::limits::LOG_LINE_BYTES;
use pilothouse_model::{Labels, SampleValue};
use pilothouse_rules::expression::Element;
use pilothouse_rules::try_text;

use super::as_text;

pub fn run(data: &[u8]) {
    let labels = Labels::from_pairs([("alertname", "A"), ("instance", "h1.example.org:9100")]);
    let element = Element { labels, value: SampleValue::Float(1_795_305_600.25) };
    let text = as_text(data);
    if let Ok(shown) = try_text(text, &element) {
        assert!(shown.len() as u64 <= LOG_LINE_BYTES.max(text.len() as u64));
    }
}
