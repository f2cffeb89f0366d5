//! Data sources that other systems keep: made when they are first used, made anew when their
//! settings change.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pilothouse_api::{Backend, Family, HeadFigures, LogsAdmin, LogsBackend, SourceBackend, SourceFigures};
use pilothouse_api::{DeletionError, KnownDeletion, LogDeletion, StoreAdmin};
use pilothouse_control::{Control, DataSource, DeclaredSource, RemoteSettings, SourceId, SourceKind};
use pilothouse_model::limits::{Limits, LiveLimits};
use pilothouse_model::log_ports::LogAppended;
use pilothouse_model::ports::SystemClock;
use pilothouse_model::write::{Appended, WriteBatch};
use pilothouse_model::{
    ActiveLimit, EntrySink, LogBatch, Matcher, Memory, SampleSink, ServerCount, SourceError,
};
use pilothouse_remote::{
    Kind, Link, OutcomeFigures, Peer, QueueFigures, RemoteLogs, RemoteMetrics, Settings,
};
use tokio::runtime::Handle;

/// How long what waits for another system is given when nobody will ask for it any more.
const LONGEST_DRAIN: Duration = Duration::from_secs(5);

/// A store that is far away.
#[derive(Debug, Clone)]
pub(crate) enum Remote {
    Metrics(Arc<RemoteMetrics>),
    Logs(Arc<RemoteLogs>),
}

#[derive(Debug, Clone)]
struct Open {
    settings: RemoteSettings,
    remote: Remote,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Remotes {
    control: Arc<Control>,
    limits: LiveLimits,
    /// Where answers are booked.
    memory: Arc<Memory>,
    /// Where calls are made.
    runtime: Handle,
    series: Arc<ServerCount>,
    streams: Arc<ServerCount>,
    open: Mutex<HashMap<SourceId, Open>>,
}

impl Remotes {
    pub(crate) fn new(
        control: Arc<Control>,
        limits: LiveLimits,
        memory: Arc<Memory>,
        runtime: Handle,
        series: Arc<ServerCount>,
        streams: Arc<ServerCount>,
    ) -> Self {
        Self { control, limits, memory, runtime, series, streams, open: Mutex::default() }
    }

    /// The remote store of a source, if that has one now.
    pub(crate) fn of(&self, id: SourceId) -> Result<Option<Remote>, SourceError> {
        let Some(settings) = self.control.remote_of(id) else { return Ok(None) };
        let mut open = self.open.lock();
        if let Some(known) = open.get(&id).filter(|known| known.settings == settings) {
            return Ok(Some(known.remote.clone()));
        }
        // It may have been deleted since.
        let Some(source) = self.control.source(id) else { return Ok(None) };
        let remote = self.connect(&source, &settings)?;
        let before = open.insert(id, Open { settings, remote: remote.clone() });
        drop(open);
        before.into_iter().for_each(|before| self.let_go(before));
        Ok(Some(remote))
    }

    fn connect(&self, source: &DataSource, settings: &RemoteSettings) -> Result<Remote, SourceError> {
        let kind = kind_of(source.kind);
        let peer = peer(&source.name, kind, settings, &self.limits.now(), &self.memory)?;
        let is_copy = peer.settings().is_copy;
        let (limits, clock, runtime) = (self.limits.clone(), Arc::new(SystemClock), self.runtime.clone());
        let (own_series, own_streams) = own_limits(source);
        Ok(match kind {
            Kind::Metrics => {
                let active = active_limit(&self.series, own_series, is_copy);
                Remote::Metrics(Arc::new(RemoteMetrics::new(peer, limits, active, clock, runtime)))
            }
            Kind::Logs => {
                let active = active_limit(&self.streams, own_streams, is_copy);
                Remote::Logs(Arc::new(RemoteLogs::new(peer, limits, active, clock, runtime)))
            }
        })
    }

    /// Limits of a source have changed, or where it is kept.
    pub(crate) fn update(&self, source: &DataSource) {
        let (own_series, own_streams) = own_limits(source);
        match self.open.lock().get(&source.id).map(|open| &open.remote) {
            Some(Remote::Metrics(remote)) => remote.link().active_limit().set_own_limit(own_series),
            Some(Remote::Logs(remote)) => remote.link().active_limit().set_own_limit(own_streams),
            None => {}
        }
        if source.remote.is_none() {
            self.close(source.id);
        }
    }

    /// Forgets a store until it is asked for again.
    pub(crate) fn close(&self, id: SourceId) {
        let gone = self.open.lock().remove(&id);
        gone.into_iter().for_each(|gone| self.let_go(gone));
    }

    /// What waits in it is sent still, beside everything else.
    fn let_go(&self, gone: Open) {
        self.runtime.spawn_blocking(move || gone.remote.drain(LONGEST_DRAIN));
    }

    /// Sends what waits, for some seconds in all. Blocks.
    pub(crate) fn drain(&self) {
        let began = Instant::now();
        let all: Vec<Open> = self.open.lock().drain().map(|(_, open)| open).collect();
        all.iter().for_each(|open| open.remote.drain(LONGEST_DRAIN.saturating_sub(began.elapsed())));
    }

    /// Makes all that there are, so that they are watched from the start.
    pub(crate) fn warm_up(&self) {
        for source in self.control.all_sources().iter().filter(|source| source.remote.is_some()) {
            if let Err(e) = self.of(source.id) {
                tracing::error!(source = %source.id, "a remote data source cannot be used: {e}");
            }
        }
    }

    /// What waits to be sent, of all together.
    pub(crate) fn waiting_bytes(&self) -> u64 {
        self.open.lock().values().map(|open| open.remote.waiting().bytes).sum()
    }

    /// What is known of series and streams that were active lately, of all together.
    pub(crate) fn index_bytes(&self) -> u64 {
        self.open.lock().values().map(|open| open.remote.link().known_bytes()).sum()
    }

    pub(crate) fn figures(&self) -> Vec<(SourceId, SourceFigures)> {
        let open = self.open.lock();
        open.iter().map(|(id, open)| (*id, open.remote.figures())).collect()
    }

    /// How calls to other systems went.
    pub(crate) fn families(&self) -> Vec<Family> {
        let mut families = Families::new();
        let open = self.open.lock();
        for (id, Open { remote, .. }) in &*open {
            families.add(&id.to_string(), remote);
        }
        if open.is_empty() { Vec::new() } else { families.finish() }
    }
}

/// Whether a declared source could be used: its settings hold, and files of certificates are there.
pub(crate) fn may_connect(source: &DeclaredSource, limits: &Limits) -> Result<(), SourceError> {
    let Some(settings) = &source.remote else { return Ok(()) };
    let name = if source.name.is_empty() { "the default one" } else { &source.name };
    // Nothing is called.
    peer(name, kind_of(source.kind), settings, limits, &Arc::default()).map(drop)
}

fn peer(
    name: &str,
    kind: Kind,
    settings: &RemoteSettings,
    limits: &Limits,
    memory: &Arc<Memory>,
) -> Result<Peer, SourceError> {
    let fault = |e: &dyn std::fmt::Display| SourceError::storage(format!("{name}: {e}"));
    let value = serde_json::from_str(settings.expose()).map_err(|e| fault(&e))?;
    let settings = Settings::read(kind, &value).map_err(|e| fault(&e))?;
    Peer::new(name, settings, limits, memory).map_err(|e| fault(&e))
}

fn kind_of(kind: SourceKind) -> Kind {
    if kind == SourceKind::Logs { Kind::Logs } else { Kind::Metrics }
}

/// Of a copy the store of this server counts what is active.
fn active_limit(server: &Arc<ServerCount>, own: u64, is_copy: bool) -> Arc<ActiveLimit> {
    Arc::new(if is_copy { ActiveLimit::alone(0) } else { ActiveLimit::new(Arc::clone(server), own) })
}

/// Active series and streams; 0 where there is no own limit.
fn own_limits(source: &DataSource) -> (u64, u64) {
    (source.limits.max_active_series.unwrap_or(0), source.limits.max_log_streams.unwrap_or(0))
}

impl Remote {
    fn link(&self) -> &Link {
        match self {
            Self::Metrics(remote) => remote.link(),
            Self::Logs(remote) => remote.link(),
        }
    }

    pub(crate) fn peer(&self) -> &Arc<Peer> {
        self.link().peer()
    }

    /// Whether this server keeps all of it too, and answers.
    pub(crate) fn is_copy(&self) -> bool {
        self.peer().settings().is_copy
    }

    /// What is behind a root whose data is in `here` and goes on from there.
    pub(crate) fn copying(&self, here: SourceBackend) -> Result<SourceBackend, SourceError> {
        Ok(match (here, self) {
            (SourceBackend::Metrics(here), Self::Metrics(there)) => {
                let there = Arc::clone(there) as _;
                let sink = Arc::new(Both { here: Arc::clone(&here.sink), there });
                SourceBackend::Metrics(Backend { sink, ..here })
            }
            (SourceBackend::Logs(here), Self::Logs(there)) => {
                let there = Arc::clone(there) as _;
                let sink = Arc::new(BothLogs { here: Arc::clone(&here.sink), there });
                SourceBackend::Logs(LogsBackend { sink, ..here })
            }
            _ => return Err(SourceError::storage("the two stores of a data source hold different things")),
        })
    }

    pub(crate) fn backend(&self) -> SourceBackend {
        match self {
            Self::Metrics(remote) => SourceBackend::Metrics(Backend {
                source: Arc::clone(remote) as _,
                sink: Arc::clone(remote) as _,
                store: Arc::new(Admin(Arc::clone(remote.link().peer()))),
            }),
            Self::Logs(remote) => SourceBackend::Logs(LogsBackend {
                source: Arc::clone(remote) as _,
                sink: Arc::clone(remote) as _,
                admin: Arc::new(Admin(Arc::clone(remote.link().peer()))),
            }),
        }
    }

    fn figures(&self) -> SourceFigures {
        match self {
            Self::Metrics(remote) => {
                SourceFigures { active_series: remote.link().active(), ..SourceFigures::default() }
            }
            Self::Logs(remote) => {
                SourceFigures { active_streams: remote.link().active(), ..SourceFigures::default() }
            }
        }
    }

    fn waiting(&self) -> QueueFigures {
        self.link().waiting()
    }

    fn drain(&self, longest: Duration) {
        self.link().drain(longest);
    }
}

/// A store here and one far away: what comes in goes to both, and is good when both have it.
pub(crate) struct Both {
    pub(crate) here: Arc<dyn SampleSink>,
    pub(crate) there: Arc<dyn SampleSink>,
}

impl SampleSink for Both {
    /// What is refused is told by the store here.
    fn append(&self, batch: &WriteBatch) -> Result<Appended, SourceError> {
        let mut appended = self.here.append(batch)?;
        let (here, there) = (appended.durable, self.there.append(batch)?.durable);
        appended.durable = Box::pin(async move {
            here.await?;
            there.await
        });
        Ok(appended)
    }
}

/// The same of entries.
pub(crate) struct BothLogs {
    pub(crate) here: Arc<dyn EntrySink>,
    pub(crate) there: Arc<dyn EntrySink>,
}

impl EntrySink for BothLogs {
    fn append(&self, batch: &LogBatch) -> Result<LogAppended, SourceError> {
        self.append_noting(batch, &mut Vec::new())
    }

    fn append_noting(&self, batch: &LogBatch, skipped: &mut Vec<u32>) -> Result<LogAppended, SourceError> {
        let mut appended = self.here.append_noting(batch, skipped)?;
        let (here, there) = (appended.durable, self.there.append(batch)?.durable);
        appended.durable = Box::pin(async move {
            here.await?;
            there.await
        });
        Ok(appended)
    }
}

/// What a store does besides taking and giving data, where another system does it: the paths that
/// ask for it are handed on.
struct Admin(Arc<Peer>);

const ELSEWHERE: &str = "another system keeps the data of this data source";

impl StoreAdmin for Admin {
    fn head(&self) -> HeadFigures {
        HeadFigures::default()
    }

    fn delete(&self, _: &[Matcher], _: i64, _: i64) -> Result<(), SourceError> {
        Err(SourceError::NotWritable(ELSEWHERE.into()))
    }

    fn families(&self) -> Vec<Family> {
        Vec::new()
    }

    fn remote(&self) -> Option<Arc<Peer>> {
        Some(Arc::clone(&self.0))
    }
}

impl LogsAdmin for Admin {
    fn delete(&self, _: &LogDeletion) -> Result<u64, DeletionError> {
        Err(DeletionError::Refused(ELSEWHERE.to_owned()))
    }

    fn deletions(&self) -> Vec<KnownDeletion> {
        Vec::new()
    }

    fn cancel_deletion(&self, _: u64) -> Result<bool, SourceError> {
        Ok(false)
    }

    fn families(&self) -> Vec<Family> {
        Vec::new()
    }

    fn remote(&self) -> Option<Arc<Peer>> {
        Some(Arc::clone(&self.0))
    }
}

/// The figures of all remote stores, by the id of their data source.
struct Families {
    up: Family,
    calls: Family,
    seconds: Family,
    waiting: Family,
    waiting_bytes: Family,
    lost: Family,
}

impl Families {
    fn new() -> Self {
        Self {
            up: Family::gauge(
                "pilothouse_remote_up",
                "Whether the remote store took or answered the last call.",
            ),
            calls: Family::counter("pilothouse_remote_calls_total", "Calls to remote stores."),
            seconds: Family::histogram("pilothouse_remote_call_duration_seconds", "Time of one call."),
            waiting: Family::gauge(
                "pilothouse_remote_waiting_writes",
                "Writes of this server's own that a remote store has not taken yet.",
            ),
            waiting_bytes: Family::gauge("pilothouse_remote_waiting_bytes", "Bytes of those writes."),
            lost: Family::counter(
                "pilothouse_remote_lost_writes_total",
                "Writes of this server's own that found no room, or that a remote store refused.",
            ),
        }
    }

    fn add(&mut self, id: &str, remote: &Remote) {
        let figures = remote.peer().figures();
        let source = [("source", id)];
        let put = |family: &mut Family, labels: &[(&'static str, &str)], value: f64| {
            *family = family.clone().labelled(labels, value);
        };
        put(&mut self.up, &source, f64::from(u8::from(figures.is_up)));
        for (kind, of) in [("query", figures.queries), ("write", figures.writes)] {
            let OutcomeFigures { good, refused, away, seconds } = of;
            for (outcome, count) in [("away", away), ("good", good), ("refused", refused)] {
                let labels = [("source", id), ("kind", kind), ("outcome", outcome)];
                put(&mut self.calls, &labels, count as f64);
            }
            let seconds_of = self.seconds.clone();
            self.seconds = seconds_of.distribution(&[("source", id), ("kind", kind)], seconds.into());
        }
        let QueueFigures { bodies, bytes, lost } = remote.waiting();
        put(&mut self.waiting, &source, bodies as f64);
        put(&mut self.waiting_bytes, &source, bytes as f64);
        put(&mut self.lost, &source, lost as f64);
    }

    fn finish(self) -> Vec<Family> {
        vec![self.up, self.calls, self.seconds, self.waiting, self.waiting_bytes, self.lost]
    }
}
