//! The whole file: what survives a crash, what a model says, what is refused.

mod crash;
mod damage;
mod faults;
mod mend;
mod model;
mod rules;
mod salvage;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use parking_lot::Mutex;
use pilothouse_model::Clock;
use pilothouse_model::limits::Limits;

use crate::{
    Actor, Control, DataSource, Error, NewToken, Options, ProjectId, Region, Scopes, SourceChange, SourceId,
};

/// Copies the file as a crash at this very moment would leave it.
pub(crate) struct CrashPoints {
    path: PathBuf,
    copies: Mutex<Vec<(&'static str, tempfile::TempDir)>>,
}

impl CrashPoints {
    pub(crate) fn reached(&self, name: &'static str) {
        let copy = tempfile::tempdir().unwrap();
        std::fs::copy(&self.path, copy.path().join(FILE)).unwrap();
        self.copies.lock().push((name, copy));
    }
}

const FILE: &str = "control.redb";

#[derive(Debug)]
struct Stepped(AtomicI64);

impl Clock for Stepped {
    fn now_ms(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

struct Fixture {
    directory: tempfile::TempDir,
    clock: Arc<Stepped>,
    limits: Limits,
    control: Control,
}

impl Fixture {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(Stepped(AtomicI64::new(1_700_000_000_000)));
        let options = Options { clock: Arc::clone(&clock) as _, limits: limits.clone().into() };
        let control = Control::open(&directory.path().join(FILE), options).unwrap();
        Self { directory, clock, limits, control }
    }

    fn options(&self) -> Options {
        Options { clock: Arc::clone(&self.clock) as _, limits: self.limits.clone().into() }
    }

    /// Closes the file and opens it again.
    fn reopened(self) -> Self {
        let options = self.options();
        let Self { directory, clock, limits, control } = self;
        drop(control);
        let control = Control::open(&directory.path().join(FILE), options).unwrap();
        Self { directory, clock, limits, control }
    }

    fn token(&self, name: &str, scopes: Scopes) -> (crate::Token, String) {
        let new =
            NewToken { project: ProjectId::DEFAULT, region: Region::FrPar, name: name.to_owned(), scopes };
        let (token, secret) = self.control.create_token(&root(), new).unwrap();
        (token, secret.reveal().to_owned())
    }
}

impl Fixture {
    fn update(&self, id: SourceId, change: SourceChange) -> Result<DataSource, Error> {
        self.control.update_source(&root(), Region::FrPar, id, |_| Ok(change))
    }
}

fn root() -> Actor {
    Actor::root(None)
}
