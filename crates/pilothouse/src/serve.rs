//! `pilothouse serve`: bind, open, answer, drain, close.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use pilothouse_api::{App, Auth, Backend, Build, Configuration, Listening, Settings, Tls, TlsError};
use pilothouse_control::{Control, Options};
use pilothouse_disk::space::Guard;
use pilothouse_metrics::Store;
use pilothouse_model::ports::SystemClock;
use pilothouse_model::{Clock as _, Memory};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};

use crate::backup::Archive;
use crate::banner;
use crate::config::{AuthMode, Config, ConfigError};
use crate::descriptors;
use crate::logs;
use crate::reload::{self, Reloader};
use crate::sources::Stores;
use crate::store;
use crate::token;
use crate::watch::{Watch, Watched};
use crate::workers::{Ground, Workers};

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
    #[error("rules: {0}")]
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
    let path = config.data_dir.join("control.redb");
    let control = Control::open(&path, options)?;
    // Checks and receivers present secrets to others, and those are in there as they are.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(ServeError::Start)?;
    Ok(Arc::new(control))
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
    let settings = settings(&config, &control, auth);
    let (disk, memory) = (Arc::clone(&settings.disk), Arc::clone(&settings.memory));
    let configuration = Arc::clone(&settings.configuration);
    let app = App::new(settings, Arc::new(SystemClock));
    let (stopped, serving) = start_listener(&app, listener, Listening { max_connections, tls });
    let stores = Arc::new(Stores::new(Arc::clone(&control), config.clone()));
    let when_full = config.room.when_full;
    let watched =
        Watched { stores: Arc::clone(&stores), disk, memory, when_full, runtime: Handle::current() };
    let watch = Watch::start(watched).map_err(ServeError::Start)?;
    let url = config.url(local);
    let ground = Ground { config: Arc::new(config), app, control, stores, url, instance: local.to_string() };
    let store = start_data(&ground).await?;
    let workers = Workers::start(&ground, &store).await?;
    let reloader = Reloader::new(Config::clone(&ground.config), configuration, workers.parts());
    ground.app.start_reload(Arc::clone(&reloader) as _);
    let reloading = tokio::spawn(reloader.follow(hangup));
    ground.app.start_serving();
    let text = banner::text(&ground.config, &ground.url, made.as_deref());
    // Standard output may be closed; that is no reason to stop.
    let _ = writeln!(std::io::stdout(), "{text}");
    stop.await;
    reloading.abort();
    workers.drain().await;
    let _ = stopped.send(());
    let _ = serving.await;
    drop(watch);
    ground.blocking(|stores| stores.close_all()).await
}

fn settings(config: &Config, control: &Arc<Control>, auth: Auth) -> Settings {
    Settings {
        limits: config.limits.clone(),
        auth,
        control: Arc::clone(control),
        disk: Arc::new(Guard::new(&config.data_dir, config.room.disk)),
        memory: Arc::new(Memory::limited(config.room.memory_limit_bytes)),
        external_url: config.external_url.clone(),
        enrichment: config.enrichment.clone(),
        configuration: Arc::new(Configuration::new(reload::shown(config), SystemClock.now_ms())),
        build: BUILD,
    }
}

/// Opens the default sources and hands them to the server. Returns the one of series.
async fn start_data(ground: &Ground) -> Result<Store, ServeError> {
    let Ground { app, control, stores, .. } = ground;
    let buckets = ground.config.buckets.clone().or_environment();
    app.start_backups(Arc::new(Archive::new(Arc::clone(stores), Arc::clone(control), buckets)));
    let store = ground.blocking(|stores| stores.default_metrics()).await?;
    let logs = ground.blocking(|stores| stores.default_logs()).await?;
    app.start_logs(logs::backend(&logs));
    app.start_data(Backend {
        source: Arc::new(store.clone()),
        sink: Arc::new(store.clone()),
        store: Arc::new(store::Admin(store.clone())),
    });
    app.start_sources(Arc::clone(stores) as _);
    Ok(store)
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
