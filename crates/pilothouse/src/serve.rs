//! `pilothouse serve`: bind, open, answer, drain, close.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use pilothouse_api::{App, Auth, Backend, Build, Settings};
use pilothouse_metrics::Store;
use pilothouse_model::ports::SystemClock;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::banner;
use crate::config::{AuthMode, Config, ConfigError};
use crate::descriptors;
use crate::scrape;
use crate::store;
use crate::token;

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
    #[error("data in {path}: {cause}")]
    Store { path: String, cause: pilothouse_metrics::Error },
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
    let (auth, made) = authentication(&config)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(ServeError::Start)?;
    let served = runtime.block_on(serve(config, auth, made, max_connections));
    // Nothing is left that must end; threads that sleep are not waited for.
    runtime.shutdown_background();
    served
}

fn make_directory(path: &Path) -> Result<(), ServeError> {
    std::fs::create_dir_all(path)
        .map_err(|cause| ServeError::DataDir { path: path.display().to_string(), cause })
}

/// How requests are admitted, and the token if it was made just now.
fn authentication(config: &Config) -> Result<(Auth, Option<String>), ServeError> {
    if config.auth == AuthMode::Off {
        return Ok((Auth::Off, None));
    }
    if let Some(token) = &config.root_token {
        return Ok((Auth::RootToken(token.clone()), None));
    }
    let (token, made) = token::load_or_make(&config.data_dir).map_err(ServeError::Token)?;
    Ok((Auth::RootToken(token.clone()), made.then_some(token)))
}

async fn serve(
    config: Config,
    auth: Auth,
    made: Option<String>,
    max_connections: usize,
) -> Result<(), ServeError> {
    let (listener, local) = pilothouse_api::bind(&config.listen)
        .await
        .map_err(|cause| ServeError::Listen { address: config.listen.clone(), cause })?;
    let stop = stop_signal().map_err(ServeError::Start)?;
    let settings = Settings {
        limits: config.limits.clone(),
        auth,
        retention_ms: config.retention_ms,
        config_yaml: config.to_yaml(),
        build: BUILD,
    };
    let app = App::new(settings, Arc::new(SystemClock));
    let (stopped, serving) = start_listener(&app, listener, max_connections);
    let store = open(&config).await?;
    let ready = Ready { config: &config, local, made: made.as_deref() };
    let scraping = ready.start(&app, &store).await;
    stop.await;
    scraping.abort();
    let _ = stopped.send(());
    let _ = serving.await;
    close(&config, store).await
}

/// Answers from the first moment on; what needs the data answers 503 until it is there.
fn start_listener(
    app: &Arc<App>,
    listener: TcpListener,
    max_connections: usize,
) -> (tokio::sync::oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let (stopped, stop) = tokio::sync::oneshot::channel::<()>();
    let serving = pilothouse_api::serve(Arc::clone(app), listener, max_connections, async {
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
    /// Hands the data to the server, stores a first round of own metrics, tells the operator.
    async fn start(&self, app: &Arc<App>, store: &Store) -> tokio::task::JoinHandle<()> {
        app.start_data(Backend {
            source: Arc::new(store.clone()),
            sink: Arc::new(store.clone()),
            store: Arc::new(store::Admin(store.clone())),
        });
        let own = Arc::new(scrape::Scrape {
            app: Arc::clone(app),
            sink: Arc::new(store.internal_sink()),
            limits: self.config.limits.clone(),
            instance: self.local.to_string(),
        });
        // The line to try shall find something.
        own.once_or_warn().await;
        let text = banner::text(self.config, &self.local.to_string(), self.made);
        // Standard output may be closed; that is no reason to stop.
        let _ = writeln!(std::io::stdout(), "{text}");
        tokio::spawn(own.run())
    }
}

async fn open(config: &Config) -> Result<Store, ServeError> {
    let path = config.data_dir.join("metrics").join("default");
    let shown = path.display().to_string();
    let options = store::options(config);
    let opened = tokio::task::spawn_blocking(move || Store::open(&path, options)).await;
    opened
        .map_err(|e| ServeError::Start(std::io::Error::other(e)))?
        .map_err(|cause| ServeError::Store { path: shown, cause })
}

/// Writes down what is only in memory, so that the next start has nothing to replay.
async fn close(config: &Config, store: Store) -> Result<(), ServeError> {
    let closed = tokio::task::spawn_blocking(move || store.close()).await;
    closed
        .map_err(|e| ServeError::Start(std::io::Error::other(e)))?
        .map_err(|cause| ServeError::Store { path: config.data_dir.display().to_string(), cause })
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
