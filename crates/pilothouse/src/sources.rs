//! The stores of all data sources: opened when they are first used, closed when they are idle,
//! removed when their source is gone.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use pilothouse_api::{App, Backend, Family, SourceBackend, SourceFigures, Sources};
use pilothouse_control::{Control, DataSource, SourceId, SourceKind};
use pilothouse_metrics::Store;
use pilothouse_model::limits::{Limits, LiveLimits};
use pilothouse_model::ports::SystemClock;
use pilothouse_model::{ActiveLimit, Clock as _, EntrySink, Memory, ServerCount, SourceError};
use tokio::runtime::Handle;

use crate::config::Config;
use crate::logs::{self, OwnLines};
use crate::reload::{Apply, Part};
use crate::remotes::Remotes;
use crate::store::{self, Admin};

const DAY_MS: i64 = 86_400_000;
/// A source that nobody used for this long is closed. Longer than a stream counts as active, so
/// that nothing that counts towards a limit is forgotten.
const IDLE_MS: i64 = 45 * 60_000;
/// How often usage is written down and idle sources are looked for.
const TICK: Duration = Duration::from_secs(60);
/// How many ticks lie between two looks at the closed sources, whose old days go then.
const TICKS_OF_RETENTION: u32 = 30;

#[derive(Debug)]
pub(crate) struct Stores {
    control: Arc<Control>,
    data_dir: PathBuf,
    limits: LiveLimits,
    /// Of sources that have none of their own; 0 keeps for ever.
    retention_ms: AtomicI64,
    open: Mutex<HashMap<SourceId, Opened>>,
    /// Active series and streams of all sources together.
    series: Arc<ServerCount>,
    streams: Arc<ServerCount>,
    /// Those that other systems keep. A source that went to one may still have data here.
    remotes: Remotes,
    /// Who opens, closes or removes a store. Held over the work; the map above is not.
    changing: Mutex<Phase>,
    /// Who puts in force what is said of a source now.
    updating: Mutex<()>,
}

/// Whether stores are opened still.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Phase {
    #[default]
    Open,
    Closed,
}

#[derive(Debug, Clone)]
pub(crate) enum Opened {
    Metrics(Store, Arc<ActiveLimit>),
    Logs(pilothouse_logs::Store, Arc<ActiveLimit>),
}

impl Opened {
    fn close(&self) -> Result<(), SourceError> {
        match self {
            Self::Metrics(store, _) => store.close().map_err(SourceError::storage),
            Self::Logs(store, _) => Ok(store.close()?),
        }
    }

    fn maintain(&self) -> Result<(), SourceError> {
        match self {
            Self::Metrics(store, _) => store.maintain().map_err(SourceError::storage),
            Self::Logs(store, _) => Ok(store.maintain()?),
        }
    }

    fn figures(&self) -> SourceFigures {
        match self {
            Self::Metrics(store, _) => {
                let stats = store.stats();
                SourceFigures {
                    active_series: stats.active_series,
                    active_streams: 0,
                    disk_bytes: stats.disk_bytes,
                }
            }
            Self::Logs(store, _) => {
                let stats = store.stats();
                SourceFigures {
                    active_series: 0,
                    active_streams: stats.active_streams,
                    disk_bytes: stats.disk_bytes,
                }
            }
        }
    }

    fn backend(&self) -> SourceBackend {
        match self {
            Self::Metrics(store, _) => SourceBackend::Metrics(Backend {
                source: Arc::new(store.clone()),
                sink: Arc::new(store.clone()),
                store: Arc::new(Admin(store.clone())),
            }),
            Self::Logs(store, _) => SourceBackend::Logs(logs::backend(store)),
        }
    }
}

impl Stores {
    /// Calls to other systems are made on `runtime`.
    pub(crate) fn new(
        control: Arc<Control>,
        config: &Config,
        limits: LiveLimits,
        memory: Arc<Memory>,
        runtime: Handle,
    ) -> Self {
        let now = limits.now();
        let series = Arc::new(ServerCount::new(now.max_active_series));
        let streams = Arc::new(ServerCount::new(now.max_log_streams));
        let (of_remotes, lines) = (Arc::clone(&series), Arc::clone(&streams));
        Self {
            remotes: Remotes::new(Arc::clone(&control), limits.clone(), memory, runtime, of_remotes, lines),
            control,
            retention_ms: AtomicI64::new(config.retention_ms),
            data_dir: config.data_dir.clone(),
            limits,
            open: Mutex::default(),
            series,
            streams,
            changing: Mutex::default(),
            updating: Mutex::default(),
        }
    }

    /// The source of a kind behind the shared root.
    pub(crate) fn default_source(&self, kind: SourceKind) -> Result<DataSource, SourceError> {
        let source = self.control.default_source(kind);
        source.ok_or_else(|| SourceError::storage(format!("there is no default source of {}", kind.as_str())))
    }

    /// Opens what has to be there before anything is served.
    pub(crate) fn open_default(&self) -> Result<(), SourceError> {
        for kind in [SourceKind::Metrics, SourceKind::Logs] {
            self.open(&self.default_source(kind)?)?;
        }
        Ok(())
    }

    fn own_source(&self) -> Result<DataSource, SourceError> {
        let source = self.control.internal_source();
        source.ok_or_else(|| SourceError::storage("there is no internal source of logs"))
    }

    /// The server's own lines of before.
    pub(crate) fn own_logs(&self) -> Result<pilothouse_logs::Store, SourceError> {
        self.logs_of(&self.own_source()?)
    }

    /// Where the server's own lines go.
    pub(crate) fn own_lines(&self, app: Arc<App>) -> Result<Arc<dyn EntrySink>, SourceError> {
        let source = self.own_source()?;
        Ok(Arc::new(OwnLines { app, source: source.id, store: self.logs_of(&source)? }))
    }

    fn logs_of(&self, source: &DataSource) -> Result<pilothouse_logs::Store, SourceError> {
        match self.opened(source)? {
            Opened::Logs(store, _) => Ok(store),
            Opened::Metrics(..) => Err(SourceError::storage("a source of logs holds metrics")),
        }
    }

    pub(crate) fn control(&self) -> &Control {
        &self.control
    }

    pub(crate) fn remotes(&self) -> &Remotes {
        &self.remotes
    }

    /// Every store that is open now, of those that this server keeps.
    pub(crate) fn all_open(&self) -> Vec<Opened> {
        self.open.lock().values().cloned().collect()
    }

    /// From now on at most as many active series and streams as these limits say.
    pub(crate) fn obey(&self, limits: &Limits) {
        self.series.set_limit(limits.max_active_series);
        self.streams.set_limit(limits.max_log_streams);
    }

    /// Active series and streams of all sources together.
    pub(crate) fn counts(&self) -> (&ServerCount, &ServerCount) {
        (&self.series, &self.streams)
    }

    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    pub(crate) fn directory(&self, kind: SourceKind, name: &str) -> PathBuf {
        self.data_dir.join(kind.as_str()).join(name)
    }

    pub(crate) fn opened(&self, source: &DataSource) -> Result<Opened, SourceError> {
        if let Some(opened) = self.open.lock().get(&source.id) {
            return Ok(opened.clone());
        }
        let changing = self.changing.lock();
        if let Some(opened) = self.open.lock().get(&source.id) {
            return Ok(opened.clone());
        }
        if *changing == Phase::Closed {
            return Err(SourceError::storage("the server is about to end"));
        }
        // It may have been deleted since the caller looked.
        if self.control.source(source.id).is_none() {
            return Err(SourceError::storage(format!("data source {} is gone", source.id)));
        }
        let opened = self.open_store(source)?;
        self.open.lock().insert(source.id, opened.clone());
        Ok(opened)
    }

    fn open_store(&self, source: &DataSource) -> Result<Opened, SourceError> {
        let directory = self.directory(source.kind, &source.directory());
        let fault =
            |e: pilothouse_metrics::Error| SourceError::storage(format!("{}: {e}", directory.display()));
        match source.kind {
            SourceKind::Metrics => {
                let mut options = store::options(&self.limits, self.retention_ms(source));
                let own = source.limits.max_active_series.unwrap_or(0);
                let active = Arc::new(ActiveLimit::new(Arc::clone(&self.series), own));
                options.active = Some(Arc::clone(&active));
                Ok(Opened::Metrics(Store::open(&directory, options).map_err(fault)?, active))
            }
            SourceKind::Logs => {
                let mut options = logs::options(&self.limits, self.retention_ms(source));
                let own = source.limits.max_log_streams.unwrap_or(0);
                let active = Arc::new(ActiveLimit::new(Arc::clone(&self.streams), own));
                options.active = Some(Arc::clone(&active));
                Ok(Opened::Logs(pilothouse_logs::Store::open(&directory, options)?, active))
            }
            kind => Err(SourceError::storage(format!("there is no store of {}", kind.as_str()))),
        }
    }

    fn retention_ms(&self, source: &DataSource) -> i64 {
        source.own_retention_days.map_or(self.retention_ms.load(Relaxed), |days| i64::from(days) * DAY_MS)
    }

    /// Closes a store; what is written to it while it closes is refused and comes again.
    fn close(&self, id: SourceId) {
        self.remotes.close(id);
        let _changing = self.changing.lock();
        let opened = self.open.lock().remove(&id);
        if let Some(Err(e)) = opened.map(|o| o.close()) {
            tracing::error!(source = %id, "a data source could not be closed: {e}");
        }
    }

    /// Closes everything, whatever fails on the way; nothing is opened any more. Writes down what is only
    /// in memory, so that the next start has nothing to replay.
    pub(crate) fn close_all(&self) -> Result<(), SourceError> {
        self.remotes.drain();
        let mut changing = self.changing.lock();
        *changing = Phase::Closed;
        let all: Vec<(SourceId, Opened)> = self.open.lock().drain().collect();
        let mut closed = Ok(());
        for (id, opened) in all {
            if let Err(e) = opened.close() {
                tracing::error!(source = %id, "a data source could not be closed: {e}");
                closed = closed.and(Err(e));
            }
        }
        let saved = self.control.save_usage().map_err(SourceError::from);
        self.control.close();
        closed.and(saved)
    }

    // ---- what is done now and then ----

    /// Opens what has data, so that all of it counts towards the server's limits and is looked
    /// after; then does what is due, every minute until the task is aborted.
    pub(crate) async fn run(self: Arc<Self>, app: Arc<App>) {
        let stores = Arc::clone(&self);
        let _ = tokio::task::spawn_blocking(move || stores.warm_up()).await;
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for tick in 0u32.. {
            ticks.tick().await;
            let (stores, app) = (Arc::clone(&self), Arc::clone(&app));
            let _ = tokio::task::spawn_blocking(move || stores.look_after(&app, tick)).await;
        }
    }

    fn warm_up(&self) {
        self.remotes.warm_up();
        if let Err(e) = self.remove_deleted() {
            tracing::error!("data of deleted data sources stays: {e}");
        }
        for source in self.with_data() {
            if let Err(e) = self.opened(&source) {
                tracing::error!(source = %source.id, "a data source cannot be opened: {e}");
            }
        }
    }

    pub(crate) fn with_data(&self) -> Vec<DataSource> {
        let has_data = |s: &DataSource| {
            matches!(s.kind, SourceKind::Metrics | SourceKind::Logs)
                && self.directory(s.kind, &s.directory()).exists()
        };
        self.control.all_sources().into_iter().filter(has_data).collect()
    }

    fn look_after(&self, app: &App, tick: u32) {
        if let Err(e) = self.control.save_usage() {
            tracing::error!("usage is not written down: {e}");
        }
        // Counts what is no longer active, also where nothing is pushed any more.
        self.figures();
        for id in app.idle_roots(SystemClock.now_ms() - IDLE_MS) {
            app.forget_root(id);
            self.close(id);
        }
        if tick % TICKS_OF_RETENTION == TICKS_OF_RETENTION - 1 {
            self.maintain_closed();
        }
    }

    /// Lets old days of sources that nobody uses go.
    fn maintain_closed(&self) {
        for source in self.with_data() {
            if self.open.lock().contains_key(&source.id) {
                continue;
            }
            if let Err(e) = self.opened(&source).and_then(|opened| opened.maintain()) {
                tracing::error!(source = %source.id, "old data is not removed: {e}");
            }
            self.close(source.id);
        }
    }
}

/// The retention of sources that have none of their own.
#[derive(Debug)]
pub(crate) struct Retention(pub(crate) Arc<Stores>);

impl Part for Retention {
    fn prepare(&self, next: &Config) -> Result<Apply, String> {
        let (stores, retention_ms) = (Arc::clone(&self.0), next.retention_ms);
        Ok(Box::new(move || {
            stores.retention_ms.store(retention_ms, Relaxed);
            stores.control.all_sources().iter().for_each(|source| stores.update(source.id));
        }))
    }
}

impl Sources for Stores {
    fn open(&self, source: &DataSource) -> Result<SourceBackend, SourceError> {
        match self.remotes.of(source.id)? {
            Some(remote) if remote.is_copy() => remote.copying(self.opened(source)?.backend()),
            Some(remote) => Ok(remote.backend()),
            None => Ok(self.opened(source)?.backend()),
        }
    }

    fn update(&self, id: SourceId) {
        // Of two changes at once that is put in force last which was made last.
        let _updating = self.updating.lock();
        let Some(source) = &self.control.source(id) else { return };
        self.remotes.update(source);
        let opened = self.open.lock().get(&source.id).cloned();
        match opened {
            Some(Opened::Metrics(store, active)) => {
                store.set_retention_ms(self.retention_ms(source));
                active.set_own_limit(source.limits.max_active_series.unwrap_or(0));
            }
            Some(Opened::Logs(store, active)) => {
                store.set_retention_ms(self.retention_ms(source));
                active.set_own_limit(source.limits.max_log_streams.unwrap_or(0));
            }
            None => {}
        }
    }

    fn remove_deleted(&self) -> Result<(), SourceError> {
        for removal in self.control.removals() {
            self.remotes.close(removal.source);
            let _changing = self.changing.lock();
            let opened = self.open.lock().remove(&removal.source);
            // Ends its threads; what it still writes goes with the rest.
            if let Some(Err(e)) = opened.map(|o| o.close()) {
                tracing::warn!(source = %removal.source, "closing a deleted data source: {e}");
            }
            remove_directory(&self.directory(removal.kind, &removal.directory))?;
            self.control.removed(removal.source)?;
        }
        Ok(())
    }

    fn totals(&self) -> SourceFigures {
        SourceFigures {
            active_series: self.series.total(),
            active_streams: self.streams.total(),
            disk_bytes: 0,
        }
    }

    fn figures(&self) -> Vec<(SourceId, SourceFigures)> {
        let open: Vec<_> = self.open.lock().iter().map(|(id, opened)| (*id, opened.clone())).collect();
        let mut figures: HashMap<SourceId, SourceFigures> =
            open.into_iter().map(|(id, opened)| (id, opened.figures())).collect();
        // What lies here still of a source that went to another system goes on taking room.
        for (id, remote) in self.remotes.figures() {
            let disk_bytes = figures.get(&id).map_or(0, |here| here.disk_bytes);
            figures.insert(id, SourceFigures { disk_bytes, ..remote });
        }
        figures.into_iter().collect()
    }

    fn families(&self) -> Vec<Family> {
        self.remotes.families()
    }
}

fn remove_directory(path: &Path) -> Result<(), SourceError> {
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(SourceError::storage(format!("{}: {e}", path.display())))
        }
        _ => Ok(()),
    }
}
