//! Recently compiled expressions of the whole process.
//!
//! Dashboards ask the same few expressions over and over, and every query builds its matchers
//! anew. Held are few, the most recent first; their number, their length and what they take in
//! memory are bounded.

use crate::limits;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::pattern::{Anchoring, Inner};

struct Entry {
    text: Box<str>,
    anchoring: Anchoring,
    bytes: usize,
    compiled: Arc<Inner>,
}

struct Recent {
    entries: VecDeque<Entry>,
    bytes: usize,
}

static RECENT: Mutex<Recent> = Mutex::new(Recent { entries: VecDeque::new(), bytes: 0 });

/// A panic elsewhere cannot leave the list broken: every change of it is complete.
fn recent() -> MutexGuard<'static, Recent> {
    RECENT.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn get(text: &str, anchoring: Anchoring) -> Option<Arc<Inner>> {
    let mut recent = recent();
    let same = |e: &Entry| e.anchoring == anchoring && *e.text == *text;
    let at = recent.entries.iter().position(same)?;
    let entry = recent.entries.remove(at)?;
    let compiled = Arc::clone(&entry.compiled);
    recent.entries.push_front(entry);
    Some(compiled)
}

pub(super) fn put(text: &str, anchoring: Anchoring, compiled: &Arc<Inner>) {
    let bytes = compiled.bytes() + text.len();
    if text.len() > limits::REGEX_CACHE_TEXT_BYTES || bytes > limits::REGEX_CACHE_BYTES / 4 {
        return;
    }
    let mut recent = recent();
    recent.entries.push_front(Entry { text: text.into(), anchoring, bytes, compiled: Arc::clone(compiled) });
    recent.bytes += bytes;
    while recent.entries.len() > limits::REGEX_CACHE_ENTRIES || recent.bytes > limits::REGEX_CACHE_BYTES {
        let Some(oldest) = recent.entries.pop_back() else { break };
        recent.bytes -= oldest.bytes;
    }
}
