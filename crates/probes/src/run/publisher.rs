//! From results to the sinks: a bounded queue and one thread, so that a slow disk never delays a
//! run, and runs that end together share one append.

use pilothouse_model::limits;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use pilothouse_model::memory::{Holding, Part};
use pilothouse_model::{Labels, LogBatch, Memory, SourceError};

use super::stats::PublisherStats;

/// Where results of a tenant go: the default data sources, or those its remotes name.
pub trait ResultSink: Send + Sync + fmt::Debug {
    /// Blocks until it is taken; need not wait for the disk.
    fn series(&self, tenant: i64, samples: &[(Labels, i64, f64)]) -> Result<(), SourceError>;
    /// The entries of several runs.
    fn entries(&self, tenant: i64, entries: &[LogBatch]) -> Result<(), SourceError>;
}

/// What one run, or the end of a runner, gives.
#[derive(Debug)]
pub struct Publication {
    pub tenant: i64,
    /// Labels, milliseconds since 1970, value.
    pub samples: Vec<(Labels, i64, f64)>,
    pub entries: Option<LogBatch>,
}

impl Publication {
    /// About.
    fn held_bytes(&self) -> u64 {
        let samples = self.samples.iter().map(|sample| size_of_val(sample) + sample.0.as_encoded().len());
        let entries = self.entries.as_ref().map_or(0, LogBatch::held_bytes);
        (samples.sum::<usize>() + entries) as u64
    }
}

enum Piece {
    Publication(Publication, Holding),
    /// Nothing comes after this.
    End,
}

/// Cloning gives another way to the same queue.
#[derive(Clone)]
pub struct Publisher {
    queue: SyncSender<Piece>,
    memory: Arc<Memory>,
    stats: Arc<PublisherStats>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("stats", &self.stats).finish_non_exhaustive()
    }
}

impl Publisher {
    /// Starts the thread. `max_waiting`: publications that may wait; `memory`: where they are counted.
    pub fn start(
        sink: Arc<dyn ResultSink>,
        max_waiting: usize,
        memory: &Arc<Memory>,
    ) -> std::io::Result<Self> {
        let (queue, pieces) = sync_channel(max_waiting.max(1));
        let stats = Arc::new(PublisherStats::default());
        let own = Arc::clone(&stats);
        let thread = std::thread::Builder::new()
            .name("synthetic-results".to_owned())
            .spawn(move || publish(&pieces, sink.as_ref(), &own))?;
        Ok(Self { queue, memory: Arc::clone(memory), stats, thread: Arc::new(Mutex::new(Some(thread))) })
    }

    /// Never waits; what does not fit is counted.
    pub fn publish(&self, publication: Publication) {
        let mut held = self.memory.holding(Part::Checks);
        held.set(publication.held_bytes());
        match self.queue.try_send(Piece::Publication(publication, held)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.stats.dropped.fetch_add(1, Relaxed);
            }
        }
    }

    pub fn stats(&self) -> &PublisherStats {
        &self.stats
    }

    /// Blocks until all that was published before is with the sinks; what comes later is dropped.
    pub fn drain(&self) {
        // A thread that is gone has nothing left.
        let _ = self.queue.send(Piece::End);
        if let Some(Err(_)) = self.thread.lock().take().map(JoinHandle::join) {
            tracing::error!("the thread of synthetic results ended in a panic");
        }
    }
}

fn publish(pieces: &Receiver<Piece>, sink: &dyn ResultSink, stats: &PublisherStats) {
    while let Ok(Piece::Publication(first, held)) = pieces.recv() {
        let (mut together, mut all_held) = (vec![first], vec![held]);
        let mut ended = false;
        while together.len() < limits::PUBLICATIONS_TOGETHER
            && !ended
            && let Ok(next) = pieces.try_recv()
        {
            match next {
                Piece::Publication(publication, held) => {
                    together.push(publication);
                    all_held.push(held);
                }
                Piece::End => ended = true,
            }
        }
        publish_all(together, sink, stats);
        if ended {
            return;
        }
    }
}

fn publish_all(mut publications: Vec<Publication>, sink: &dyn ResultSink, stats: &PublisherStats) {
    publications.sort_by_key(|publication| publication.tenant);
    for of_tenant in publications.chunk_by_mut(|a, b| a.tenant == b.tenant) {
        let count = of_tenant.len() as u64;
        match publish_together(of_tenant, sink) {
            Ok(()) => stats.published.fetch_add(count, Relaxed),
            Err(e) => {
                tracing::warn!("results of synthetic checks were not taken: {e}");
                stats.failed.fetch_add(count, Relaxed)
            }
        };
    }
}

/// Series and entries fail apart: a full log store loses no series.
fn publish_together(publications: &mut [Publication], sink: &dyn ResultSink) -> Result<(), SourceError> {
    let Some(tenant) = publications.first().map(|p| p.tenant) else { return Ok(()) };
    let samples: Vec<_> = publications.iter_mut().flat_map(|p| std::mem::take(&mut p.samples)).collect();
    let entries: Vec<LogBatch> = publications.iter_mut().filter_map(|p| p.entries.take()).collect();
    let series = if samples.is_empty() { Ok(()) } else { sink.series(tenant, &samples) };
    let entries = if entries.is_empty() { Ok(()) } else { sink.entries(tenant, &entries) };
    series.and(entries)
}
