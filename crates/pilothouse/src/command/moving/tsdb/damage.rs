//! What cannot be read of blocks: named, up to a point, and counted.

use std::path::Path;

use pilothouse_model::limits::TSDB_DAMAGE_NAMED;
use pilothouse_wire::tsdb::TsdbError;

use super::super::super::progress::say;

#[derive(Debug, Default)]
pub(super) struct Damage {
    count: u64,
}

impl Damage {
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// `place` says what of the file, or what follows from it; it may be empty.
    pub(super) fn tell(&mut self, path: &Path, place: &str, error: &TsdbError) {
        self.count += 1;
        let path = path.display();
        match self.count {
            ..=TSDB_DAMAGE_NAMED if place.is_empty() => say(&format!("{path}: {error}")),
            ..=TSDB_DAMAGE_NAMED => say(&format!("{path}: {error}; {place}")),
            n if n == TSDB_DAMAGE_NAMED + 1 => say("further damage is counted and not named"),
            _ => {}
        }
    }
}
