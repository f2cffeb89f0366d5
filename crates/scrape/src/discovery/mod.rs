//! Finding targets: fixed lists, files, HTTP endpoints and a Docker daemon.
//!
//! A discovery gives whole lists: what it says now replaces what it said before. While it fails,
//! what it said last stays.

mod ask;
mod docker;
mod file;
mod group;
mod http;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pilothouse_model::memory::{Holding, Part};
use pilothouse_model::{Memory, NoMemory};
use pilothouse_net::{BuildError, CallError};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::config::sections::JobSection;
pub use group::Group;
pub(crate) use group::{ADDRESS, check_address};

/// One way in which a job finds targets, checked.
#[derive(Debug, Clone, PartialEq)]
pub enum Discovery {
    Static(Vec<Group>),
    File(file::Settings),
    Http(Box<http::Settings>),
    Docker(Box<docker::Settings>),
}

/// Why a discovery found nothing this time.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    #[error(transparent)]
    Client(#[from] BuildError),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("server returned HTTP status {0}")]
    Status(::http::StatusCode),
    #[error("unsupported content type {0:?}")]
    ContentType(String),
    #[error("more than {limit} bytes")]
    TooLong { limit: u64 },
    #[error("{0}")]
    Malformed(String),
    #[error("{path}: {cause}")]
    File { path: String, cause: std::io::Error },
    #[error("{0}")]
    Pattern(#[from] glob::PatternError),
    #[error(transparent)]
    NoMemory(#[from] NoMemory),
    #[error("the reader of files ended: {0}")]
    Panicked(#[from] tokio::task::JoinError),
}

impl Discovery {
    /// All that a job names.
    pub(crate) fn of(section: &JobSection, directory: &Path) -> Result<Vec<Self>, String> {
        let mut all = Vec::new();
        if !section.static_configs.is_empty() {
            let groups: Result<Vec<Group>, String> = section.static_configs.iter().map(Group::of).collect();
            let groups = groups?;
            // With rules an address may still be made; without, it is what is written.
            if section.relabel_configs.is_empty() {
                groups.iter().flat_map(Group::addresses).try_for_each(check_address)?;
            }
            all.push(Self::Static(groups));
        }
        for file in &section.file_sd_configs {
            all.push(Self::File(file::Settings::new(file, directory)?));
        }
        for http in &section.http_sd_configs {
            all.push(Self::Http(Box::new(http::Settings::new(http, directory)?)));
        }
        for docker in &section.docker_sd_configs {
            all.push(Self::Docker(Box::new(docker::Settings::new(docker, directory)?)));
        }
        Ok(all)
    }
}

/// What all discoveries of a job found last, each in its own slot.
#[derive(Debug)]
pub(crate) struct Found {
    slots: Mutex<Slots>,
    pub(crate) changed: Notify,
}

#[derive(Debug)]
struct Slots {
    lists: Vec<Arc<[Group]>>,
    held: Holding,
}

impl Found {
    fn nothing(discoveries: usize, memory: &Arc<Memory>) -> Self {
        let slots = Slots { lists: vec![Arc::from([]); discoveries], held: memory.holding(Part::Targets) };
        Self { slots: Mutex::new(slots), changed: Notify::new() }
    }

    pub(crate) fn groups(&self) -> Vec<Arc<[Group]>> {
        self.slots.lock().lists.clone()
    }

    /// `false` where nothing is new.
    fn set(&self, slot: usize, groups: Vec<Group>) -> bool {
        let mut slots = self.slots.lock();
        match slots.lists.get_mut(slot) {
            Some(known) if **known != *groups => *known = Arc::from(groups),
            _ => return false,
        }
        let bytes = slots.lists.iter().flat_map(|list| list.iter()).map(Group::held_bytes).sum();
        slots.held.set(bytes);
        drop(slots);
        self.changed.notify_one();
        true
    }
}

/// Starts the discoveries of a job; they run until their tasks are aborted. What is fixed is
/// there at once. Answers are booked in `memory`; while one finds no room there, what was found before
/// stays.
pub(crate) fn start(
    discoveries: &[Discovery],
    job: &str,
    max_bytes: u64,
    memory: &Arc<Memory>,
) -> (Arc<Found>, Vec<JoinHandle<()>>) {
    let found = Arc::new(Found::nothing(discoveries.len(), memory));
    let mut tasks = Vec::new();
    for (slot, discovery) in discoveries.iter().enumerate() {
        let source = match discovery {
            Discovery::Static(groups) => {
                found.set(slot, groups.clone());
                continue;
            }
            Discovery::File(settings) => Source::File(file::Files::new(settings, max_bytes)),
            Discovery::Http(settings) => {
                let asker = settings.asker(max_bytes, memory);
                Source::Http(http::Endpoint::new((**settings).clone(), asker))
            }
            Discovery::Docker(settings) => {
                let asker = settings.asker(max_bytes, memory);
                Source::Docker(docker::Daemon::new((**settings).clone(), asker))
            }
        };
        tasks.push(tokio::spawn(follow(source, Arc::clone(&found), slot, job.to_owned())));
    }
    (found, tasks)
}

enum Source {
    File(file::Files),
    Http(http::Endpoint),
    Docker(docker::Daemon),
}

impl Source {
    /// `None` where nothing can have changed.
    async fn refresh(&mut self) -> Result<Option<Vec<Group>>, DiscoveryError> {
        match self {
            Self::File(files) => files.refresh().await,
            Self::Http(endpoint) => endpoint.refresh().await.map(Some),
            Self::Docker(daemon) => daemon.refresh().await.map(Some),
        }
    }

    fn interval(&self) -> Duration {
        match self {
            Self::File(files) => files.interval(),
            Self::Http(endpoint) => endpoint.interval(),
            Self::Docker(daemon) => daemon.interval(),
        }
    }
}

async fn follow(mut source: Source, found: Arc<Found>, slot: usize, job: String) {
    loop {
        match source.refresh().await {
            Ok(Some(groups)) => drop(found.set(slot, groups)),
            Ok(None) => {}
            Err(e) => tracing::warn!(job, "targets are not found anew: {e}"),
        }
        tokio::time::sleep(source.interval()).await;
    }
}

/// At least a second: what is asked for more often is a mistake.
fn interval(duration: crate::config::Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.0).unwrap_or(0)).max(Duration::from_secs(1))
}
