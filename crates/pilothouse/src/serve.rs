//! `pilothouse serve`: bind, open, answer, drain, close.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use pilothouse_api::{App, Auth, Build, Configuration, Listening, Settings, Tls, TlsError};
use pilothouse_control::{Control, Options};
use pilothouse_disk::space::Guard;
use pilothouse_model::limits::LiveLimits;
use pilothouse_model::ports::SystemClock;
use pilothouse_model::{Clock as _, Memory};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};

use crate::backup::Archive;
use crate::banner;
use crate::config::{AuthMode, Config, ConfigError};
use crate::declared::Declared;
use crate::descriptors;
use crate::reload::{self, Reloader};
use crate::room::DiskRoom;
use crate::sources::Stores;
use crate::stored::{Stored, Writer};
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
    #[error("cannot make or read {path}: {cause}")]
    Token { path: String, cause: std::io::Error },
    #[error("cannot start: {0}")]
    Start(std::io::Error),
    #[error("rules: {0}")]
    Rules(String),
    /// A data source that the configuration declares.
    #[error("{0}")]
    Declared(String),
    #[error(transparent)]
    Alertmanager(#[from] pilothouse_alertmanager::service::StartError),
    #[error("control plane: {0}")]
    Control(#[from] pilothouse_control::Error),
    #[error(
        "control plane: {cause}. No row of it was changed. Restore a backup, or run `pilothouse check-data {data_dir} --repair`, \
         which saves the tokens, data sources, rules and checks that can be read and sets the damaged file aside"
    )]
    DamagedControl { cause: pilothouse_control::Error, data_dir: String },
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
    let limits = LiveLimits::from(config.limits.clone());
    pilothouse_model::matcher::pattern::set_max_compiled_bytes(config.limits.max_regex_bytes);
    let max_connections = descriptors::raise_limit(config.limits.max_open_days);
    make_directory(&config.data_dir)?;
    let (root, made) = root_token(&config)?;
    let control = open_control(&config, &limits)?;
    let auth = match root {
        Some(root) => Auth::Required { root, control: Arc::clone(&control) },
        None => Auth::Off,
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(ServeError::Start)?;
    let served = runtime.block_on(serve(config, limits, control, auth, made, max_connections));
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
    let (token, made) = token::load_or_make(&config.data_dir).map_err(|cause| ServeError::Token {
        path: config.data_dir.join(token::FILE_NAME).display().to_string(),
        cause,
    })?;
    Ok((Some(token.clone()), made.then_some(token)))
}

fn open_control(config: &Config, limits: &LiveLimits) -> Result<Arc<Control>, ServeError> {
    let path = config.data_dir.join("control.redb");
    let has_copy = || pilothouse_control::has_copy(&path);
    if path.metadata().map_or(true, |metadata| metadata.len() == 0) && has_copy() {
        let saved = pilothouse_control::salvage(&path)?;
        tracing::error!(
            rows = saved.rows,
            "the file of the control plane is gone or empty; it was written anew from its copy"
        );
    }
    let damage = tell_damage(&path)?;
    // Of what the copy still knows a repair may have need.
    let options = Options { limits: limits.clone(), leaves_copy: damage > 0, ..Options::default() };
    let refused =
        |cause| ServeError::DamagedControl { cause, data_dir: config.data_dir.display().to_string() };
    let control = match Control::open(&path, options.clone()) {
        Err(cause) if cause.is_damage() && has_copy() => {
            tracing::error!(%cause, "the file of the control plane cannot be used; what it lacks comes from its copy");
            let saved = pilothouse_control::salvage(&path)?;
            tracing::error!(rows = saved.rows, copied = saved.copied, aside = %saved.aside.display(), "the control plane's file was written anew; the damaged one is kept");
            let options = Options { leaves_copy: false, ..options };
            let control = Control::open(&path, options).map_err(refused)?;
            control.met_damage(damage.max(1));
            control
        }
        Err(cause) if cause.is_damage() => return Err(refused(cause)),
        opened => {
            let control = opened?;
            control.met_damage(damage);
            control
        }
    };
    // Checks and receivers present secrets to others, and those are in there as they are.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(ServeError::Start)?;
    Ok(Arc::new(control))
}

/// Tells of damage with which the file may open all the same: what is not in the way of a start is
/// no reason to stay away. Gives how many places there are.
fn tell_damage(path: &Path) -> Result<u64, ServeError> {
    let mut checked = pilothouse_disk::check::Checked::default();
    let is_there = path.metadata().is_ok_and(|metadata| metadata.len() > 0);
    if is_there && !pilothouse_control::check(path, &mut checked).map_err(pilothouse_control::Error::from)? {
        for finding in &checked.findings {
            tracing::error!(%finding, "the file of the control plane is damaged; stop the server and run `pilothouse check-data` with --repair");
        }
    }
    Ok(checked.findings.len() as u64)
}

async fn serve(
    config: Config,
    limits: LiveLimits,
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
    let settings = settings(&config, &limits, &control, auth);
    let disk = DiskRoom::new(Arc::clone(&settings.disk), config.room.when_full);
    let memory = Arc::clone(&settings.memory);
    let configuration = Arc::clone(&settings.configuration);
    let app = App::new(settings, Arc::new(SystemClock));
    let (stopped, serving) = start_listener(&app, listener, Listening { max_connections, tls });
    let (of_stores, held) = (Arc::clone(&control), Arc::clone(&memory));
    let stores = Arc::new(Stores::new(of_stores, &config, limits.clone(), held, Handle::current()));
    let watched =
        Watched { stores: Arc::clone(&stores), disk: disk.clone(), memory, runtime: Handle::current() };
    let watch = Watch::start(watched).map_err(ServeError::Start)?;
    let url = config.url(local);
    let instance = local.to_string();
    let ground = Ground { config: Arc::new(config), limits, app, control, stores, url, instance };
    let declared = declare(&ground).await?;
    start_data(&ground).await?;
    let workers = Workers::start(&ground).await?;
    let mut parts = workers.parts();
    parts.push(Arc::new(disk));
    parts.push(Arc::new(declared));
    let reloader = Reloader::new(Config::clone(&ground.config), configuration, parts);
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

fn settings(config: &Config, limits: &LiveLimits, control: &Arc<Control>, auth: Auth) -> Settings {
    Settings {
        limits: limits.clone(),
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

/// Data sources are as the configuration says before any of them is opened.
async fn declare(ground: &Ground) -> Result<Declared, ServeError> {
    let Ground { config, control, stores, app, .. } = ground;
    let declared =
        Declared { control: Arc::clone(control), stores: Arc::clone(stores), app: Arc::clone(app) };
    let (this, sources) = (declared.clone(), config.data_sources.clone());
    let done = tokio::task::spawn_blocking(move || this.reconcile(&sources)).await;
    done.map_err(|e| ServeError::Start(std::io::Error::other(e)))?.map_err(ServeError::Declared)?;
    Ok(declared)
}

/// Opens the default sources and hands them to the server.
async fn start_data(ground: &Ground) -> Result<(), ServeError> {
    let Ground { app, control, stores, .. } = ground;
    let buckets = ground.config.buckets.clone().or_environment();
    let (of_archive, memory) = (Arc::clone(stores), Arc::clone(app.memory()));
    app.start_backups(Arc::new(Archive::new(of_archive, Arc::clone(control), memory, buckets)));
    ground.blocking(Stores::open_default).await?;
    app.start_logs(Stored::default_logs(stores, Writer::Client)?.logs_backend());
    app.start_data(Stored::default_metrics(stores, Writer::Client)?.metrics_backend());
    app.start_sources(Arc::clone(stores) as _);
    Ok(())
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
