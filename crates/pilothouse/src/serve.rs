//! `pilothouse serve`: what is opened before anything is answered, and for how long it is.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use pilothouse_api::{Auth, TlsError};
use pilothouse_control::{Control, Options};
use pilothouse_disk::Error;
use pilothouse_disk::files::DirectoryLock;
use pilothouse_model::limits::LiveLimits;
use tokio::signal::unix::{SignalKind, signal};

use crate::banner;
use crate::config::{AuthMode, Config, ConfigError};
use crate::descriptors;
use crate::serving::{Opened, Serving};
use crate::token;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("cannot make the data directory {path}: {cause}")]
    DataDir { path: String, cause: std::io::Error },
    #[error(
        "the data directory {0} is in use by another process: a server that runs on it or has not ended yet, a restore, or a \
         repair. Nothing in it was touched; start again when that has ended, or give another --data-dir"
    )]
    InUse(String),
    #[error("data directory: {0}")]
    Lock(pilothouse_disk::Error),
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
    #[error(transparent)]
    Restore(#[from] pilothouse_disk::backup::BackupError),
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    #[error("data: {0}")]
    Source(#[from] pilothouse_model::SourceError),
}

pub(crate) fn run(config: Config) -> Result<(), ServeError> {
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let limits = LiveLimits::from(config.limits.clone());
    pilothouse_model::matcher::pattern::set_max_compiled_bytes(config.limits.max_regex_bytes);
    let max_connections = descriptors::raise_limit(config.limits.max_open_days);
    make_directory(&config.data_dir)?;
    hold(&config.data_dir)?;
    pilothouse_disk::backup::refuse_unfinished(&config.data_dir)?;
    let (root, made) = root_token(&config)?;
    let control = open_control(&config, &limits)?;
    let auth = match root {
        Some(root) => Auth::Required { root, control: Arc::clone(&control) },
        None => Auth::Off,
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(ServeError::Start)?;
    let served = runtime.block_on(serve(Opened { config, limits, control, auth, max_connections }, made));
    // Nothing is left that must end; threads that sleep are not waited for.
    runtime.shutdown_background();
    served
}

fn make_directory(path: &Path) -> Result<(), ServeError> {
    std::fs::create_dir_all(path)
        .map_err(|cause| ServeError::DataDir { path: path.display().to_string(), cause })
}

/// Keeps all others away from the data directory, before anything in it is looked at: a start mends
/// files. Until the process ends, since threads that are not waited for may write to the last.
fn hold(data_dir: &Path) -> Result<(), ServeError> {
    static HELD: OnceLock<DirectoryLock> = OnceLock::new();
    let lock = DirectoryLock::acquire(data_dir).map_err(|error| match error {
        Error::Locked { .. } => ServeError::InUse(data_dir.display().to_string()),
        error => ServeError::Lock(error),
    })?;
    let _ = HELD.set(lock);
    Ok(())
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
    let options = Options { limits: limits.clone(), ..Options::default() };
    let control = Control::open_mended(&path, options).map_err(|cause| match cause.is_damage() {
        true => ServeError::DamagedControl { cause, data_dir: config.data_dir.display().to_string() },
        false => cause.into(),
    })?;
    // Checks and receivers present secrets to others, and those are in there as they are.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(ServeError::Start)?;
    Ok(Arc::new(control))
}

async fn serve(opened: Opened, made: Option<String>) -> Result<(), ServeError> {
    let listen = &opened.config.listen;
    let (listener, local) = pilothouse_api::bind(listen)
        .await
        .map_err(|cause| ServeError::Listen { address: listen.clone(), cause })?;
    // From now on SIGHUP does not end the process; what comes before it can be obeyed waits.
    let hangup = signal(SignalKind::hangup()).map_err(ServeError::Start)?;
    let stop = stop_signal().map_err(ServeError::Start)?;
    let serving = Serving::start(opened, listener, local, hangup).await?;
    let text = banner::text(serving.config(), serving.url(), made.as_deref());
    // Standard output may be closed; that is no reason to stop.
    let _ = writeln!(std::io::stdout(), "{text}");
    stop.await;
    serving.stop().await
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
