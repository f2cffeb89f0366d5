//! Reading the configuration again while the server runs: all of it takes effect, or nothing.
//!
//! Every part first does what can fail and hands back what cannot; only when all parts have done
//! so is anything changed. First of all data sources are written down, in one step that may fail still and
//! then leaves everything as it was. A part that joins in is one more entry of the list that
//! `serving` makes.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use pilothouse_api::{Configuration, Reload, Shown, needs_restart};
use pilothouse_model::Clock as _;
use pilothouse_model::ports::SystemClock;
use tokio::signal::unix::Signal;

use crate::config::{self, Config};
use crate::declared::Declared;

/// Puts in force what a part has prepared. Must not fail; may wait for the disk.
pub(crate) type Apply = Box<dyn FnOnce() + Send>;

/// A part of the server that takes over a changed configuration while it runs.
pub(crate) trait Part: Send + Sync + fmt::Debug {
    /// Reads and checks all that may be wrong, files that the configuration names included, and
    /// changes nothing. Blocks.
    fn prepare(&self, next: &Config) -> Result<Apply, String>;
}

/// Knows the parts and what is in force.
#[derive(Debug)]
pub(crate) struct Reloader {
    parts: Vec<Arc<dyn Part>>,
    sources: Declared,
    shown: Arc<Configuration>,
    /// In force. Held for as long as a reload takes: one comes after the other.
    current: Mutex<Config>,
}

/// What clients are shown of a configuration.
pub(crate) fn shown(config: &Config) -> Shown {
    Shown { yaml: config.to_yaml(), retention_ms: config.retention_ms }
}

impl Reloader {
    pub(crate) fn new(
        config: Config,
        shown: Arc<Configuration>,
        parts: Vec<Arc<dyn Part>>,
        sources: Declared,
    ) -> Arc<Self> {
        Arc::new(Self { parts, sources, shown, current: Mutex::new(config) })
    }

    fn try_reload(&self) -> Result<Vec<String>, String> {
        let mut current = self.current.lock();
        let read = config::load(&current.flags).map_err(|e| e.to_string())?;
        let (next, waiting) = current.reloaded(&read).map_err(|e| e.to_string())?;
        let applies = self.prepare(&next)?;
        let changed = self.sources.keep(&next)?;
        applies.into_iter().for_each(|apply| apply());
        self.sources.show(&changed);
        self.shown.replace(shown(&next), SystemClock.now_ms());
        *current = next;
        Ok(waiting)
    }

    /// What all parts have to put in force, or all that is wrong.
    fn prepare(&self, next: &Config) -> Result<Vec<Apply>, String> {
        let mut faults: Vec<String> = self.sources.check(next).err().into_iter().collect();
        let mut applies = Vec::new();
        for part in &self.parts {
            match part.prepare(next) {
                Ok(apply) => applies.push(apply),
                Err(why) => faults.push(why),
            }
        }
        if faults.is_empty() { Ok(applies) } else { Err(faults.join("\n")) }
    }

    /// Reloads at every SIGHUP until the task is aborted.
    pub(crate) async fn follow(self: Arc<Self>, mut hangup: Signal) {
        while hangup.recv().await.is_some() {
            let this = Arc::clone(&self);
            // The outcome is in the log.
            let _ = tokio::task::spawn_blocking(move || this.reload()).await;
        }
    }
}

impl Reload for Reloader {
    fn reload(&self) -> Result<Vec<String>, String> {
        let done = self.try_reload();
        match &done {
            Ok(waiting) if waiting.is_empty() => tracing::info!("the configuration was read again"),
            Ok(waiting) => tracing::warn!("{}", needs_restart(waiting)),
            Err(why) => {
                self.shown.failed();
                tracing::error!("the configuration was not read again, nothing has changed: {why}");
            }
        }
        done
    }
}
