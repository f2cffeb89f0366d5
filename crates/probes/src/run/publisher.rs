//! From results to the sinks: a bounded queue and one thread, so that a slow disk never delays a
//! run, and runs that end together share one append.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use pilothouse_model::{Labels, LogBatch, SourceError};

/// Where results of a tenant go: the default data sources, or those its remotes name.
pub trait ResultSink: Send + Sync + fmt::Debug {
    /// Blocks until it is taken; need not wait for the disk.
    fn series(&self, tenant: i64, samples: &[(Labels, i64, f64)]) -> Result<(), SourceError>;
    fn entries(&self, tenant: i64, entries: &LogBatch) -> Result<(), SourceError>;
}

/// What one run, or the end of a runner, gives.
#[derive(Debug)]
pub struct Publication {
    pub tenant: i64,
    /// Labels, milliseconds since 1970, value.
    pub samples: Vec<(Labels, i64, f64)>,
    pub entries: Option<LogBatch>,
}

/// How results went.
#[derive(Debug, Default)]
pub struct PublisherStats {
    pub published: AtomicU64,
    /// Refused by a sink.
    pub failed: AtomicU64,
    /// Came while the queue was full.
    pub dropped: AtomicU64,
}

/// Publications that may wait.
const QUEUE: usize = 4_096;
/// Publications whose samples share one append.
const MAX_TOGETHER: usize = 256;

/// Cloning gives another way to the same queue; the thread ends with the last one.
#[derive(Debug, Clone)]
pub struct Publisher {
    queue: SyncSender<Publication>,
    stats: Arc<PublisherStats>,
}

impl Publisher {
    /// Starts the thread; it ends, everything published, when all publishers are gone.
    pub fn start(sink: Arc<dyn ResultSink>) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (queue, publications) = sync_channel(QUEUE);
        let stats = Arc::new(PublisherStats::default());
        let own = Arc::clone(&stats);
        let thread = std::thread::Builder::new()
            .name("synthetic-results".to_owned())
            .spawn(move || publish(&publications, sink.as_ref(), &own))?;
        Ok((Self { queue, stats }, thread))
    }

    /// Never waits; what does not fit is counted.
    pub fn publish(&self, publication: Publication) {
        match self.queue.try_send(publication) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.stats.dropped.fetch_add(1, Relaxed);
            }
        }
    }

    pub fn stats(&self) -> &PublisherStats {
        &self.stats
    }
}

fn publish(publications: &Receiver<Publication>, sink: &dyn ResultSink, stats: &PublisherStats) {
    while let Ok(first) = publications.recv() {
        let mut together = vec![first];
        while together.len() < MAX_TOGETHER
            && let Ok(next) = publications.try_recv()
        {
            together.push(next);
        }
        together.sort_by_key(|publication| publication.tenant);
        for of_tenant in together.chunk_by_mut(|a, b| a.tenant == b.tenant) {
            if let Err(e) = publish_together(of_tenant, sink) {
                stats.failed.fetch_add(of_tenant.len() as u64, Relaxed);
                tracing::warn!("results of synthetic checks were not taken: {e}");
            } else {
                stats.published.fetch_add(of_tenant.len() as u64, Relaxed);
            }
        }
    }
}

/// Series and entries fail apart: a full log store loses no series.
fn publish_together(publications: &mut [Publication], sink: &dyn ResultSink) -> Result<(), SourceError> {
    let Some(tenant) = publications.first().map(|p| p.tenant) else { return Ok(()) };
    let samples: Vec<_> = publications.iter_mut().flat_map(|p| std::mem::take(&mut p.samples)).collect();
    let series = if samples.is_empty() { Ok(()) } else { sink.series(tenant, &samples) };
    let entries: Result<(), SourceError> = publications
        .iter()
        .filter_map(|p| p.entries.as_ref())
        .try_for_each(|entries| sink.entries(tenant, entries));
    series.and(entries)
}
