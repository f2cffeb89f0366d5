//! How far a move came: in a small file for the next run, and on standard error for people.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use pilothouse_disk::files;
use serde::{Deserialize, Serialize};

use super::super::client::CommandError;
use super::super::progress::{Meter, say};
use super::super::when::Bounds;

const VERSION: u32 = 1;
/// Between two writes of the file.
const BETWEEN: Duration = Duration::from_secs(1);

/// What is done: all of the lanes before this one, and of this one what is before `next`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// A part that is gone through by itself, such as one metric; lanes are in the order of their
    /// names.
    pub(super) lane: String,
    /// A time in the unit of what is carried, an offset into a file that is read, or a number of
    /// series of the lane.
    pub(super) next: i64,
    /// Length of a file that is written, or how many files are.
    pub(super) file_bytes: u64,
    /// Samples or lines carried.
    pub(super) items: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct State {
    version: u32,
    /// Of what.
    what: String,
    start_ms: i64,
    /// Fixed by the first run, also where it was said as now.
    end_ms: i64,
    /// `None` before anything is done.
    place: Option<Place>,
}

/// The state of one move.
#[derive(Debug)]
pub(super) struct Ledger {
    path: Option<PathBuf>,
    state: State,
    /// An earlier run has begun, however far it came.
    was_there: bool,
    saved: Instant,
    meter: Meter,
    /// Samples or lines carried over all runs, also those that `place` does not count yet.
    items: u64,
}

impl Ledger {
    /// Goes on with the file where there is one.
    pub(super) fn open(
        path: Option<PathBuf>,
        what: String,
        meter: Meter,
        bounds: impl FnOnce() -> Result<Bounds, CommandError>,
    ) -> Result<Self, CommandError> {
        let bytes = match path.as_ref().map(std::fs::read) {
            Some(Ok(bytes)) => Some(bytes),
            Some(Err(e)) if e.kind() != std::io::ErrorKind::NotFound => return Err(e.into()),
            _ => None,
        };
        let was_there = bytes.is_some();
        let shown = path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        let state = match bytes {
            Some(bytes) => {
                read(&bytes, &what).map_err(|why| CommandError::Usage(format!("{shown} {why}")))?
            }
            None => {
                let Bounds { start_ms, end_ms } = bounds()?;
                State { version: VERSION, what, start_ms, end_ms, place: None }
            }
        };
        let items = state.place.as_ref().map_or(0, |place| place.items);
        Ok(Self { path, state, was_there, saved: Instant::now(), meter, items })
    }

    pub(super) fn bounds(&self) -> Bounds {
        Bounds { start_ms: self.state.start_ms, end_ms: self.state.end_ms }
    }

    /// Where an earlier run came to.
    pub(super) fn place(&self) -> Option<&Place> {
        self.state.place.as_ref()
    }

    /// How much of what an earlier run has written counts; `None` where there was none.
    pub(super) fn reached_bytes(&self) -> Option<u64> {
        self.state.place.as_ref().map(|place| place.file_bytes).or(self.was_there.then_some(0))
    }

    /// Before anything is written: whatever ends the run from here on, the next one knows that what lies there
    /// is its own.
    pub(super) fn begin(&mut self) -> Result<(), CommandError> {
        if self.was_there { Ok(()) } else { self.save() }
    }

    /// Everything before `place` is done and durable at the other side; `None` where nothing more is
    /// than before. `share` of the whole, where that is known, and `at` show it to people.
    pub(super) fn advance(
        &mut self,
        place: Option<Place>,
        share: Option<(u64, u64)>,
        at: impl FnOnce() -> String,
    ) -> Result<(), CommandError> {
        self.meter.show(share, at);
        let Some(place) = place else { return Ok(()) };
        self.items = place.items;
        self.state.place = Some(place);
        if self.saved.elapsed() >= BETWEEN { self.save() } else { Ok(()) }
    }

    fn save(&mut self) -> Result<(), CommandError> {
        self.saved = Instant::now();
        let Some(path) = &self.path else { return Ok(()) };
        let bytes = serde_json::to_vec_pretty(&self.state).map_err(std::io::Error::from)?;
        files::write_atomic(path, &bytes).map_err(|e| CommandError::Usage(e.to_string()))
    }

    /// So many samples or lines are carried in the end.
    pub(super) fn carried(&mut self, items: u64) {
        self.items = items;
    }

    /// After a failure: the next run goes on from here, if there is anything to go on from.
    pub(super) fn keep(mut self) -> Result<(), CommandError> {
        if self.state.place.is_none() {
            return Ok(());
        }
        self.save()?;
        if let Some(path) = &self.path {
            say(&format!("run the same command again to go on; {} knows where", path.display()));
        }
        Ok(())
    }

    /// After the end; tells what was carried over all runs.
    pub(super) fn finish(self) -> Result<u64, CommandError> {
        match self.path.as_ref().map(std::fs::remove_file) {
            Some(Err(e)) if e.kind() != std::io::ErrorKind::NotFound => Err(e.into()),
            _ => Ok(self.items),
        }
    }
}

fn read(bytes: &[u8], what: &str) -> Result<State, String> {
    let state: State = serde_json::from_slice(bytes).map_err(|e| format!("is no state of a move: {e}"))?;
    if state.version != VERSION {
        return Err(format!("is of version {}, and this is {VERSION}", state.version));
    }
    if state.what != what {
        return Err(format!("is of another move, {}; remove it or name another with --state", state.what));
    }
    Ok(state)
}

#[cfg(test)]
mod tests {
    use super::super::super::progress::Loudness;
    use super::*;

    fn open(path: &std::path::Path, what: &str, end_ms: i64) -> Result<Ledger, CommandError> {
        let meter = Meter::new(&Loudness { quiet: true });
        Ledger::open(Some(path.to_owned()), what.to_owned(), meter, || Ok(Bounds { start_ms: 0, end_ms }))
    }

    #[test]
    fn a_failed_move_is_gone_on_with_and_a_finished_one_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let mut ledger = open(&path, "this", 10).unwrap();
        let place = Place { lane: "up".to_owned(), next: 7, file_bytes: 3, items: 2 };
        ledger.advance(Some(place.clone()), None, String::new).unwrap();
        ledger.keep().unwrap();
        assert!(open(&path, "that", 10).is_err());
        assert_eq!(open(&path, "this", 99).unwrap().reached_bytes(), Some(3));
        let ledger = open(&path, "this", 99).unwrap();
        assert_eq!((ledger.place(), ledger.bounds().end_ms), (Some(&place), 10));
        assert_eq!(ledger.finish().unwrap(), 2);
        assert!(open(&path, "that", 10).unwrap().place().is_none());
    }

    #[test]
    fn one_that_was_killed_at_once_is_gone_on_with_too() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let mut ledger = open(&path, "this", 10).unwrap();
        assert_eq!(ledger.reached_bytes(), None);
        ledger.begin().unwrap();
        drop(ledger);
        let ledger = open(&path, "this", 99).unwrap();
        assert_eq!((ledger.place(), ledger.reached_bytes(), ledger.bounds().end_ms), (None, Some(0), 10));
    }
}
