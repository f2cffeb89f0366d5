//! `pilothouse serve`: bind, open, answer, drain, close.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use pilothouse_api::{App, Auth, Backend, Build, Configuration, Listening, Settings, Tls, TlsError};
use pilothouse_control::{Control, Options};
use pilothouse_disk::space::Guard;
use pilothouse_metrics::Store;
use pilothouse_model::ports::SystemClock;
use pilothouse_model::{AlertSink, Memory, Clock as _, SourceError};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::alerting;
use crate::audit;
use crate::backup::Archive;
use crate::banner;
use crate::config::{AuthMode, Config, ConfigError};
use crate::descriptors;
use crate::logs;
use crate::reload::{self, Part, Reloader};
use crate::rule_book::Book;
use crate::rules::{self, Rules};
use crate::scrape::Scraping;
use crate::sources::{self, Stores};
use crate::store;
use crate::synthetic;
use crate::token;
use crate::watch::{Watch, Watched};

#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("cannot make the data directory {path}: {cause}")]
    DataDir { path: String, cause: std::io::Error },
    #[error("cannot listen on {address}: {cause}")]
    Listen { address: String, cause: std::io::Error },
    #[error("cannot make or read the root token: {0}")]
    Token(std::io::Error),
    #[error("cannot start: {0}")]
    Start(std::io::Error),
    #[error("rule files: {0}")]
    Rules(String),
    #[error(transparent)]
    Alertmanager(#[from] pilothouse_alertmanager::service::StartError),
    #[error("control plane: {0}")]
    Control(#[from] pilothouse_control::Error),
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    #[error("data: {0}")]
    Source(#[from] pilothouse_model::SourceError),
}

const BUILD: Build = Build {
    version: env!("CARGO_PKG_VERSION"),
    revision: match option_env!("PILOTHOUSE_REVISION") {
        Some(revision) => revision,
        None => "unknown",
    },
    date: match option_env!("PILOTHOUSE_BUILD_DATE") {
        Some(date) => date,
        None => "unknown",
    },
};

pub(crate) fn run(config: Config) -> Result<(), ServeError> {
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    pilothouse_model::matcher::pattern::set_max_compiled_bytes(config.limits.max_regex_bytes);
    let max_connections = descriptors::raise_limit(config.limits.max_open_days);
    make_directory(&config.data_dir)?;
    let (root, made) = root_token(&config)?;
    let control = open_control(&config)?;
    let auth = match root {
        Some(root) => Auth::Required { root, control: Arc::clone(&control) },
        None => Auth::Off,
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(ServeError::Start)?;
    let served = runtime.block_on(serve(config, control, auth, made, max_connections));
    // Nothing is left that must end; threads that sleep are not waited for.
    runtime.shutdown_background();
    served
}

fn make_directory(path: &Path) -> Result<(), ServeError> {
    std::fs::create_dir_all(path)
        .map_err(|cause| ServeError::DataDir { path: path.display().to_string(), cause })
}

/// The root token where one is asked for, and the same again if it was made just now.
fn root_token(config: &Config) -> Result<(Option<String>, Option<String>), ServeError> {
    if config.auth == AuthMode::Off {
        return Ok((None, None));
    }
    if let Some(token) = &config.root_token {
        return Ok((Some(token.clone()), None));
    }
    let (token, made) = token::load_or_make(&config.data_dir).map_err(ServeError::Token)?;
    Ok((Some(token.clone()), made.then_some(token)))
}

fn open_control(config: &Config) -> Result<Arc<Control>, ServeError> {
    let options = Options { limits: Arc::new(config.limits.clone()), ..Options::default() };
    Ok(Arc::new(Control::open(&config.data_dir.join("control.redb"), options)?))
}

async fn serve(
    config: Config,
    control: Arc<Control>,
    auth: Auth,
    made: Option<String>,
    max_connections: usize,
) -> Result<(), ServeError> {
    let (listener, local) = pilothouse_api::bind(&config.listen)
        .await
        .map_err(|cause| ServeError::Listen { address: config.listen.clone(), cause })?;
    // From now on SIGHUP does not end the process; what comes before it can be obeyed waits.
    let hangup = signal(SignalKind::hangup()).map_err(ServeError::Start)?;
    let stop = stop_signal().map_err(ServeError::Start)?;
    let tls = config.tls.clone().map(Tls::load).transpose()?.map(Arc::new);
    let disk = Arc::new(Guard::new(&config.data_dir, config.room.disk));
    let memory = Arc::new(Memory::limited(config.room.memory_limit_bytes));
    let configuration = Arc::new(Configuration::new(reload::shown(&config), SystemClock.now_ms()));
    let settings = Settings {
        limits: config.limits.clone(),
        auth,
        control: Arc::clone(&control),
        disk: Arc::clone(&disk),
        memory: Arc::clone(&memory),
        external_url: config.external_url.clone(),
        enrichment: config.enrichment.clone(),
        configuration: Arc::clone(&configuration),
        build: BUILD,
    };
    let app = App::new(settings, Arc::new(SystemClock));
    let (stopped, serving) = start_listener(&app, listener, Listening { max_connections, tls });
    let stores = Arc::new(Stores::new(Arc::clone(&control), config.clone()));
    let when_full = config.room.when_full;
    let watched = Watched { stores: Arc::clone(&stores), disk, memory, when_full };
    let watch = Watch::start(watched).map_err(ServeError::Start)?;
    app.start_backups(Arc::new(Archive::new(Arc::clone(&stores), Arc::clone(&control))));
    let store = blocking(&stores, |stores| stores.default_metrics()).await?;
    let logs = blocking(&stores, |stores| stores.default_logs()).await?;
    app.start_logs(logs::backend(&logs));
    let base = config.external_url.clone().unwrap_or_else(|| format!("http://{local}"));
    let alertmanager = alerting::start(&config, &base, &control).await?;
    app.start_alertmanager(alertmanager.clone());
    // Before the server says that it is ready: who asks for rules then finds them.
    let rules = start_rules(&config, &app, &control, &stores, &base, Arc::new(alertmanager.clone())).await?;
    let book = Book { rules: Arc::clone(&rules), alertmanager: alertmanager.clone() };
    app.start_alerting(Arc::new(alertmanager.clone()), Arc::new(book));
    let ready = Ready { config: &config, local, made: made.as_deref() };
    let scraping = ready.start(&app, &stores, &store).await;
    let looking_after = tokio::spawn(Arc::clone(&stores).run(Arc::clone(&app)));
    let told = Arc::clone(&app);
    let own_lines = blocking(&stores, |stores| stores.own_lines(told)).await?;
    let telling = tokio::spawn(audit::follow(Arc::clone(&control), Arc::clone(&own_lines)));
    let recalling = tokio::spawn(alerting::follow(alertmanager.clone(), rules.transitions(), own_lines));
    let following = tokio::spawn(Arc::clone(&rules).run());
    let synthetic = synthetic::start(&config, &app, &control, &stores, rules.ruler()).await?;
    let parts: Vec<Arc<dyn Part>> = vec![
        Arc::new(rules::Files(Arc::clone(&rules))),
        Arc::new(alerting::ConfigFile(alertmanager.clone())),
        Arc::new(sources::Retention(Arc::clone(&stores))),
        Arc::new(synthetic.declared()),
        Arc::new(scraping.jobs()),
    ];
    let reloader = Reloader::new(config.clone(), configuration, parts);
    app.start_reload(Arc::clone(&reloader) as _);
    let reloading = tokio::spawn(reloader.follow(hangup));
    app.start_serving();
    stop.await;
    reloading.abort();
    scraping.drain().await;
    synthetic.drain().await;
    following.abort();
    // No rule is evaluated any more once the first store closes.
    let _ = tokio::task::spawn_blocking(move || rules.drain()).await;
    alerting::drain(alertmanager).await;
    looking_after.abort();
    telling.abort();
    recalling.abort();
    let _ = stopped.send(());
    let _ = serving.await;
    drop(watch);
    blocking(&stores, |stores| stores.close_all()).await
}

/// Puts rules to work once the data is there.
async fn start_rules(
    config: &Config,
    app: &Arc<App>,
    control: &Arc<Control>,
    stores: &Arc<Stores>,
    base: &str,
    alerts: Arc<dyn AlertSink>,
) -> Result<Arc<Rules>, ServeError> {
    let url = base.to_owned();
    let (config, control, stores) = (config.clone(), Arc::clone(control), Arc::clone(stores));
    let memory = Arc::clone(app.memory());
    let start = move || Rules::start(&config, &url, control, stores, alerts, memory, Arc::new(SystemClock));
    let started = tokio::task::spawn_blocking(start).await;
    let rules = started.map_err(|e| ServeError::Start(std::io::Error::other(e)))??;
    app.start_rules(Arc::clone(rules.ruler()), Arc::clone(&rules) as _);
    Ok(rules)
}

async fn blocking<T: Send + 'static>(
    stores: &Arc<Stores>,
    work: impl FnOnce(&Stores) -> Result<T, SourceError> + Send + 'static,
) -> Result<T, ServeError> {
    let stores = Arc::clone(stores);
    let done = tokio::task::spawn_blocking(move || work(&stores)).await;
    Ok(done.map_err(|e| ServeError::Start(std::io::Error::other(e)))??)
}

/// Answers from the first moment on; what needs the data answers 503 until it is there.
fn start_listener(
    app: &Arc<App>,
    listener: TcpListener,
    listening: Listening,
) -> (tokio::sync::oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let (stopped, stop) = tokio::sync::oneshot::channel::<()>();
    let serving = pilothouse_api::serve(Arc::clone(app), listener, listening, async {
        let _ = stop.await;
    });
    (stopped, tokio::spawn(serving))
}

struct Ready<'a> {
    config: &'a Config,
    local: SocketAddr,
    made: Option<&'a str>,
}

impl Ready<'_> {
    /// Hands the data to the server, starts to scrape, tells the operator.
    async fn start(&self, app: &Arc<App>, stores: &Arc<Stores>, store: &Store) -> Scraping {
        app.start_data(Backend {
            source: Arc::new(store.clone()),
            sink: Arc::new(store.clone()),
            store: Arc::new(store::Admin(store.clone())),
        });
        app.start_sources(Arc::clone(stores) as _);
        let instance = self.local.to_string();
        // The line to try shall find something.
        let scraping = Scraping::start(app, store, self.config, &instance).await;
        let text = banner::text(self.config, &self.local.to_string(), self.made);
        // Standard output may be closed; that is no reason to stop.
        let _ = writeln!(std::io::stdout(), "{text}");
        scraping
    }
}

/// Ends at the first SIGTERM or SIGINT.
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
