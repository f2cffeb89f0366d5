//! The engine at work: one thread steps it, tasks make the calls, the store keeps what must last.

mod views;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use pilothouse_model::limits::LiveLimits;
use pilothouse_model::memory::{NoMemory, Part};
use pilothouse_model::{Alert, AlertSink, Clock, Memory, SourceError, StateChange, StateStore};
use pilothouse_net::Secret;
use tokio::runtime::Handle;

use crate::config::{Config, ConfigError, Document, DocumentError, Global};
use crate::contacts::{self, Contact, Mail};
use crate::engine::{Attempt, Engine, JobId, Kept, Setup, Taking};
use crate::heartbeat::{Heartbeat, STEP_MS};
use crate::keeper::Teller;
use crate::receivers::{Failure, Integration, Places};
use crate::silence::{SilenceError, Wanted};
use crate::telemetry::FailureReason;
use crate::templates::Templates;

pub use views::TooLong;

/// Where the configuration of the API is kept, under one key.
const CONFIG_TABLE: &str = "alertmanager_config";
const CONFIG_KEY: &str = "default";
const CONFIG_VERSION: u8 = 1;
/// In force where nothing else is said: alerts are shown and nobody is told.
const FALLBACK: &str = "route:\n  receiver: empty-receiver\nreceivers:\n- name: empty-receiver\n";
/// How long calls under way are waited for at the end.
const LAST_CALLS: Duration = Duration::from_secs(5);
const LAST_LOOKS_MS: i64 = 100;
const AFTER_PANIC: Duration = Duration::from_secs(1);

/// What an Alertmanager is told at its start.
#[derive(Debug, Clone)]
pub struct Options {
    pub limits: LiveLimits,
    /// The account that what is held is booked in.
    pub memory: Arc<Memory>,
    /// Where people reach it: goes into payloads and links.
    pub external_url: String,
    /// Says the configuration as long as none is stored through the API.
    pub config_file: Option<PathBuf>,
    /// Told every minute that all is well.
    pub heartbeat_url: Option<Secret>,
    /// How contact points get mail.
    pub mail: Option<Mail>,
}

/// Why an Alertmanager did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("alertmanager configuration {path}: {cause}")]
    Config { path: String, cause: ConfigError },
    #[error("alertmanager: {0}")]
    Options(#[from] ConfigError),
    #[error("alertmanager state: {0}")]
    State(#[from] SourceError),
    #[error("alertmanager thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// Why a change was not made: it is wrong, or could not be written down.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError<E: std::error::Error> {
    #[error(transparent)]
    Refused(E),
    #[error(transparent)]
    State(SourceError),
}

/// Why alerts were not taken, all or some.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    #[error("{}", .0.join("\n"))]
    Refused(Vec<String>),
    #[error(transparent)]
    NoMemory(NoMemory),
    #[error(transparent)]
    TooLong(#[from] TooLong),
}

/// A running Alertmanager. Clones are the same one. Calls may wait for the disk where they say
/// so, never for the network.
#[derive(Debug, Clone)]
pub struct Alertmanager {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Mutex<Engine>,
    store: Arc<dyn StateStore>,
    clock: Arc<dyn Clock>,
    options: Options,
    runtime: Handle,
    places: Arc<Places>,
    events: Sender<Event>,
    /// Held by whoever writes down what changed.
    keeping: Mutex<()>,
    /// A wake-up is on its way.
    waking: AtomicBool,
    /// When the thread ends at the latest, once it is told to.
    stop_at: Mutex<Option<Instant>>,
    last_step_ms: Arc<AtomicI64>,
    /// The file in force where no document is stored.
    config_file: Mutex<Option<PathBuf>>,
    contacts: Mutex<Vec<Contact>>,
    /// The document in force, where one is stored; held while it changes.
    document: Mutex<Option<Document>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    heartbeat: Mutex<Option<tokio::task::JoinHandle<()>>>,
    started_ms: i64,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Alertmanager").field("options", &self.options).finish_non_exhaustive()
    }
}

enum Event {
    Wake,
    Finished { job: JobId, outcome: Result<(), Failure>, took_ms: u64 },
}

impl Alertmanager {
    /// Reads what was kept and starts. Waits for the disk.
    pub fn spawn(
        options: Options,
        store: Arc<dyn StateStore>,
        clock: Arc<dyn Clock>,
        runtime: Handle,
    ) -> Result<Self, StartError> {
        let now_ms = clock.now_ms();
        let kept = Kept::load(store.as_ref())?;
        let (engine, unreadable) = Engine::new(kept, options.limits.clone(), now_ms);
        let engine = engine.within(Arc::clone(&options.memory));
        if unreadable > 0 {
            tracing::error!(unreadable, "alerts, silences or log entries that cannot be read were left out");
        }
        let heartbeat = options.heartbeat_url.clone().map(Heartbeat::new).transpose()?;
        let (events, received) = channel();
        let last_step_ms = Arc::new(AtomicI64::new(now_ms));
        let shared = Arc::new(Shared {
            engine: Mutex::new(engine),
            store,
            clock: Arc::clone(&clock),
            runtime: runtime.clone(),
            places: Arc::new(Places::new(Arc::clone(&options.memory))),
            events,
            keeping: Mutex::new(()),
            waking: AtomicBool::new(false),
            stop_at: Mutex::new(None),
            last_step_ms: Arc::clone(&last_step_ms),
            config_file: Mutex::new(options.config_file.clone()),
            contacts: Mutex::default(),
            document: Mutex::new(None),
            options,
            thread: Mutex::new(None),
            heartbeat: Mutex::new(None),
            started_ms: now_ms,
        });
        shared.first_configuration()?;
        let stepping = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("alertmanager".to_owned())
            .spawn(move || stepping.keep_running(&received))?;
        *shared.thread.lock() = Some(thread);
        *shared.heartbeat.lock() = heartbeat.map(|h| runtime.spawn(h.run(last_step_ms, clock)));
        Ok(Self { shared })
    }

    /// Starts no more notifications, waits a little for those under way, writes down how they
    /// went. Waits.
    pub fn drain(&self) {
        if let Some(heartbeat) = self.shared.heartbeat.lock().take() {
            heartbeat.abort();
        }
        *self.shared.stop_at.lock() = Some(Instant::now() + LAST_CALLS);
        self.shared.wake();
        if let Some(thread) = self.shared.thread.lock().take() {
            let _ = thread.join();
        }
    }

    pub fn now_ms(&self) -> i64 {
        self.shared.clock.now_ms()
    }

    pub fn started_ms(&self) -> i64 {
        self.shared.started_ms
    }

    /// Where people reach it, without a trailing slash.
    pub fn external_url(&self) -> &str {
        self.shared.options.external_url.trim_end_matches('/')
    }

    /// The state, to look at. Nothing else happens while it is held.
    pub fn engine(&self) -> MutexGuard<'_, Engine> {
        self.shared.engine.lock()
    }

    /// Takes alerts; errors are Alertmanager's words, one for each alert that is bad. Those that
    /// began or ended outlive a crash once this returns. Waits for the disk.
    pub fn put(&self, alerts: &[Alert]) -> Result<(), PutError> {
        let taken = self.take(alerts, Teller::Anybody);
        // A disk that is full shall keep nobody from being told.
        self.shared.keep();
        match taken? {
            Taking { no_memory: Some(full), .. } => Err(PutError::NoMemory(full)),
            Taking { errors, .. } if !errors.is_empty() => Err(PutError::Refused(errors)),
            _ => Ok(()),
        }
    }

    /// Those that were taken before time was over stay.
    fn take(&self, alerts: &[Alert], teller: Teller) -> Result<Taking, TooLong> {
        let (mut taking, patience) = (Taking::default(), self.patience());
        while taking.next < alerts.len() {
            patience.check()?;
            let mut engine = self.engine();
            engine.put_some(alerts, &mut taking, teller, self.now_ms());
            MutexGuard::unlock_fair(engine);
            self.shared.wake();
        }
        Ok(taking)
    }

    /// Makes or changes a silence and gives its id. Waits for the disk.
    pub fn set_silence(&self, wanted: Wanted) -> Result<String, ChangeError<SilenceError>> {
        let now_ms = self.now_ms();
        let mut engine = self.engine();
        let changed = engine.set_silence(wanted, new_id(), now_ms).map_err(ChangeError::Refused)?;
        let id = changed.id.clone();
        match self.shared.store.apply(&engine.silence_records(&changed)) {
            Ok(()) => Ok(id),
            Err(error) => {
                engine.revert_silence(changed);
                Err(ChangeError::State(error))
            }
        }
    }

    /// Ends a silence. Waits for the disk.
    pub fn expire_silence(&self, id: &str) -> Result<(), ChangeError<SilenceError>> {
        let now_ms = self.now_ms();
        let mut engine = self.engine();
        let changed = engine.expire_silence(id, now_ms).map_err(ChangeError::Refused)?;
        self.shared.store.apply(&engine.silence_records(&changed)).map_err(|error| {
            engine.revert_silence(changed);
            ChangeError::State(error)
        })
    }

    /// The document stored through the API.
    pub fn document(&self) -> Option<Document> {
        self.shared.document.lock().clone()
    }

    /// Stores a document and obeys it at once. A bad one leaves the old one in force. Waits for
    /// the disk.
    pub fn set_document(&self, body: &[u8]) -> Result<(), ChangeError<DocumentError>> {
        let shared = &self.shared;
        let (document, config, templates) =
            Document::read(body, &shared.options.limits.now()).map_err(ChangeError::Refused)?;
        let setup =
            shared.setup(config, templates).map_err(|e| ChangeError::Refused(DocumentError::Invalid(e)))?;
        let mut current = shared.document.lock();
        let mut value = vec![CONFIG_VERSION];
        value.extend_from_slice(document.to_yaml().as_bytes());
        shared.store.apply(&[config_change(Some(value))]).map_err(ChangeError::State)?;
        shared.configure(setup);
        *current = Some(document);
        Ok(())
    }

    /// Removes the stored document, if there is one; the file or the fallback is in force again.
    /// Waits for the disk.
    pub fn delete_document(&self) -> Result<(), SourceError> {
        let mut current = self.shared.document.lock();
        self.shared.store.apply(&[config_change(None)])?;
        if current.take().is_some() {
            let path = self.shared.config_file.lock().clone();
            match self.shared.own_configuration(path.as_deref()) {
                Ok(setup) => self.shared.configure(setup),
                Err(error) => tracing::error!(%error, "configuration cannot be read; the old one stays"),
            }
        }
        Ok(())
    }

    /// Says who gets mail beside the default receiver of the configuration, whichever is in force.
    pub fn set_contacts(&self, contacts: Vec<Contact>) {
        let _document = self.shared.document.lock();
        let mut current = self.shared.contacts.lock();
        if *current == contacts {
            return;
        }
        *current = contacts;
        let global = self.engine().setup().map(|setup| setup.config.global.clone()).unwrap_or_default();
        let integrations = self.shared.contact_integrations(&current, &global);
        self.engine().replace_contacts(integrations);
    }

    /// Reads the configuration file again, unless a stored document is in force. Waits for the
    /// disk.
    pub fn reload(&self) -> Result<(), StartError> {
        if self.document().is_some() {
            return Ok(());
        }
        let path = self.shared.config_file.lock().clone();
        let read = self.read_file(path)?;
        self.obey_file(read);
        Ok(())
    }

    /// Reads a configuration file, or takes the fallback where there is none, and makes it ready.
    /// Nothing changes yet. Waits for the disk.
    pub fn read_file(&self, path: Option<PathBuf>) -> Result<ReadFile, StartError> {
        match self.shared.own_configuration(path.as_deref()) {
            Ok(setup) => Ok(ReadFile { path, setup }),
            Err(error) => {
                self.engine().configuration_failed();
                Err(error)
            }
        }
    }

    /// Obeys a file that was read, at once or as soon as no stored document is in force.
    pub fn obey_file(&self, read: ReadFile) {
        let document = self.shared.document.lock();
        *self.shared.config_file.lock() = read.path;
        if document.is_none() {
            self.shared.configure(read.setup);
        }
    }
}

/// A configuration file that was read, found good and made ready.
#[derive(Debug)]
pub struct ReadFile {
    path: Option<PathBuf>,
    setup: Arc<Setup>,
}

/// Rulers tell again what a crash takes, and wait for no disk here.
impl AlertSink for Alertmanager {
    fn send(&self, alerts: &[Alert]) -> Result<(), SourceError> {
        let errors = match self.take(alerts, Teller::Ruler) {
            Ok(taken) => taken.errors,
            Err(late) => vec![late.to_string()],
        };
        if let Some(first) = errors.first() {
            tracing::warn!(refused = errors.len(), of = alerts.len(), %first, "alerts were refused");
        }
        Ok(())
    }
}

fn config_change(value: Option<Vec<u8>>) -> StateChange {
    StateChange { table: CONFIG_TABLE, key: CONFIG_KEY.to_owned(), value }
}

/// A UUID of version 4, which clients check for.
fn new_id() -> String {
    let number = rand::random::<u128>() & !(0xf << 76) & !(0x3 << 62) | 4 << 76 | 2 << 62;
    let hex = format!("{number:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or("");
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

impl Shared {
    fn wake(&self) {
        if !self.waking.swap(true, Relaxed) {
            let _ = self.events.send(Event::Wake);
        }
    }

    // Configuration.

    fn setup(&self, config: Config, templates: Templates) -> Result<Arc<Setup>, ConfigError> {
        let (count, most) = (config.inhibit_rules.len() as u64, self.options.limits.now().max_inhibit_rules);
        if most > 0 && count > most {
            let text = format!("too many inhibition rules in the configuration: {count} (limit: {most})");
            return Err(ConfigError(text));
        }
        Setup::new(config, templates, &self.options.external_url, self.concurrency()).map(Arc::new)
    }

    fn contact_integrations(&self, contacts: &[Contact], global: &Global) -> Vec<Arc<Integration>> {
        contacts::integrations(contacts, self.options.mail.as_ref(), global, self.concurrency())
    }

    fn concurrency(&self) -> usize {
        usize::try_from(self.options.limits.now().max_concurrent_notifications).unwrap_or(1)
    }

    fn configure(&self, setup: Arc<Setup>) {
        let contacts = self.contact_integrations(&self.contacts.lock(), &setup.config.global);
        let setup = Arc::new(Setup::clone(&setup).with_contacts(contacts));
        self.engine.lock().configure(setup, self.clock.now_ms());
        self.wake();
    }

    fn first_configuration(&self) -> Result<(), StartError> {
        let stored = self.store.load(CONFIG_TABLE)?.into_iter().find(|(key, _)| key == CONFIG_KEY);
        let own = self.own_configuration(self.options.config_file.as_deref())?;
        let Some((_, bytes)) = stored else {
            self.configure(own);
            return Ok(());
        };
        match self.stored_configuration(&bytes) {
            Ok((document, setup)) => {
                *self.document.lock() = Some(document);
                self.configure(setup);
            }
            Err(error) => {
                tracing::error!(%error, "the stored configuration cannot be obeyed");
                self.configure(own);
                self.engine.lock().configuration_failed();
            }
        }
        Ok(())
    }

    fn stored_configuration(&self, bytes: &[u8]) -> Result<(Document, Arc<Setup>), ConfigError> {
        let Some((&CONFIG_VERSION, yaml)) = bytes.split_first() else {
            return Err("of a version that is not known".into());
        };
        let document: Document = serde_norway::from_slice(yaml).map_err(|e| ConfigError(e.to_string()))?;
        let (config, templates) = document.check(&self.options.limits.now())?;
        let setup = self.setup(config, templates)?;
        Ok((document, setup))
    }

    /// The file's configuration, or the fallback.
    fn own_configuration(&self, path: Option<&Path>) -> Result<Arc<Setup>, StartError> {
        let Some(path) = path else {
            let config = Config::load(FALLBACK)?;
            return Ok(self.setup(config, Templates::new([])?)?);
        };
        let read = || {
            let config = Config::load_file(path)?;
            let files = template_files(&config)?;
            let templates = Templates::new(files.iter().map(|(name, text)| (name.as_str(), text.as_str())))?;
            self.setup(config, templates)
        };
        read().map_err(|cause| StartError::Config { path: path.display().to_string(), cause })
    }

    // The loop.

    /// A step that panics ends what it was about, and no more.
    fn keep_running(self: &Arc<Self>, received: &Receiver<Event>) {
        while catch_unwind(AssertUnwindSafe(|| self.run(received))).is_err() {
            tracing::error!("a step of the Alertmanager panicked; it goes on");
            // One that panics each time shall not keep a processor busy with that.
            std::thread::sleep(AFTER_PANIC);
        }
    }

    fn run(self: &Arc<Self>, received: &Receiver<Event>) {
        let mut running = 0usize;
        let mut last_ms = self.clock.now_ms();
        loop {
            let now_ms = self.clock.now_ms();
            let stop_at = *self.stop_at.lock();
            self.last_step_ms.store(now_ms, Relaxed);
            let (attempts, due_ms) = self.step(now_ms, last_ms, stop_at.is_some());
            last_ms = now_ms;
            running += attempts.len();
            attempts.into_iter().for_each(|attempt| self.start(attempt));
            let kept = self.keep();
            if stop_at.is_some_and(|at| running == 0 && kept || Instant::now() >= at) {
                return;
            }
            let longest = if kept { STEP_MS } else { 1_000 };
            let wait_ms = match stop_at {
                // What is due now is left to the next start.
                Some(_) => LAST_LOOKS_MS,
                None => due_ms.saturating_sub(now_ms).clamp(0, longest),
            };
            let first = match received.recv_timeout(Duration::from_millis(wait_ms.unsigned_abs())) {
                Ok(event) => Some(event),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            self.waking.store(false, Relaxed);
            for event in first.into_iter().chain(received.try_iter()) {
                match event {
                    Event::Wake => {}
                    Event::Finished { job, outcome, took_ms } => {
                        running = running.saturating_sub(1);
                        self.engine.lock().finished(job, outcome, took_ms, self.clock.now_ms());
                    }
                }
            }
        }
    }

    /// What is to be done now, and when something is next.
    fn step(&self, now_ms: i64, last_ms: i64, stopping: bool) -> (Vec<Attempt>, i64) {
        let mut engine = self.engine.lock();
        if now_ms < last_ms {
            engine.clock_went_back(last_ms - now_ms, now_ms);
        }
        let attempts = if stopping { Vec::new() } else { engine.step(now_ms) };
        self.options.memory.hold(Part::Alerts, engine.held_bytes());
        let due_ms = engine.next_due_ms();
        MutexGuard::unlock_fair(engine);
        (attempts, due_ms)
    }

    /// Writes down what changed; `false` where that failed and has to be tried again. What others
    /// took with them to write is written as well when this returns.
    fn keep(&self) -> bool {
        let _keeping = self.keeping.lock();
        let changes = self.engine.lock().take_changes();
        if changes.is_empty() {
            return true;
        }
        match self.store.apply(&changes) {
            Ok(()) => {
                self.engine.lock().changes_written(&changes);
                true
            }
            Err(error) => {
                tracing::error!(%error, "alerts and notifications cannot be written down; a restart may repeat");
                self.engine.lock().changes_failed(changes);
                false
            }
        }
    }

    fn start(&self, attempt: Attempt) {
        let events = self.events.clone();
        let patience = Duration::from_millis(attempt.patience_ms.unsigned_abs());
        let places = Arc::clone(&self.places);
        self.runtime.spawn(async move {
            let began = Instant::now();
            let sending = attempt.integration.send(&attempt.message, &places);
            let outcome = match tokio::time::timeout(patience, sending).await {
                Ok(outcome) => outcome,
                Err(_) => {
                    let reason = FailureReason::ContextDeadlineExceeded;
                    Err(Failure::retry(reason, "context deadline exceeded"))
                }
            };
            let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            let _ = events.send(Event::Finished { job: attempt.job, outcome, took_ms });
        });
    }
}

/// Template files that the patterns of a configuration name. A pattern may fit none.
fn template_files(config: &Config) -> Result<Vec<(String, String)>, ConfigError> {
    let mut files = Vec::new();
    for pattern in &config.templates {
        let path = Path::new(pattern);
        let (Some(directory), Some(names)) = (path.parent(), path.file_name().and_then(|n| n.to_str()))
        else {
            continue;
        };
        let Ok(entries) = std::fs::read_dir(directory) else { continue };
        let mut fitting: Vec<PathBuf> = entries
            .filter_map(|entry| entry.ok().map(|e| e.path()))
            .filter(|p| p.file_name().and_then(|n| n.to_str()).is_some_and(|n| crate::config::fits(names, n)))
            .collect();
        fitting.sort();
        for file in fitting {
            let name = file.display().to_string();
            let text =
                std::fs::read_to_string(&file).map_err(|e| ConfigError(format!("open {name}: {e}")))?;
            files.push((name, text));
        }
    }
    Ok(files)
}
