//! A server that answers: its parts started in an order in which each finds what it needs, and ended in
//! the other one.

use std::net::SocketAddr;
use std::sync::Arc;

use pilothouse_api::{App, Auth, Build, Configuration, Listening, Origins, Settings, Tls};
use pilothouse_control::Control;
use pilothouse_disk::space::Guard;
use pilothouse_model::limits::LiveLimits;
use pilothouse_model::ports::SystemClock;
use pilothouse_model::{Clock as _, Memory};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::signal::unix::Signal;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::backup::Archive;
use crate::config::Config;
use crate::declared::Declared;
use crate::reload::{self, Reloader};
use crate::room::DiskRoom;
use crate::serve::ServeError;
use crate::sources::Stores;
use crate::stored::{Stored, Writer};
use crate::watch::{Watch, Watched};
use crate::workers::{Ground, Workers};

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

/// What is there before anybody is answered.
pub(crate) struct Opened {
    pub(crate) config: Config,
    pub(crate) limits: LiveLimits,
    pub(crate) control: Arc<Control>,
    pub(crate) auth: Auth,
    pub(crate) max_connections: usize,
}

/// All that runs. It is ended by [`Serving::stop`] alone.
pub(crate) struct Serving {
    ground: Ground,
    workers: Workers,
    watch: Watch,
    reloading: JoinHandle<()>,
    listening: Listener,
}

/// The task that accepts connections, and how it is told to end.
struct Listener {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Serving {
    /// Answers from the first moment on; what needs the data answers 503 until it is there, which is when
    /// this returns. The configuration is read again at every `hangup`.
    pub(crate) async fn start(
        opened: Opened,
        listener: TcpListener,
        local: SocketAddr,
        hangup: Signal,
    ) -> Result<Self, ServeError> {
        let Opened { config, limits, control, auth, max_connections } = opened;
        let tls = config.tls.clone().map(Tls::load).transpose()?.map(Arc::new);
        let settings = settings(&config, &limits, &control, auth);
        let room = DiskRoom::new(Arc::clone(&settings.disk), config.room.when_full);
        let shown = Arc::clone(&settings.configuration);
        let app = App::new(settings, Arc::new(SystemClock));
        let listening = Listener::start(&app, listener, Listening { max_connections, tls });
        let ground = ground(config, limits, app, control, local);
        let watch = watch(&ground, &room)?;
        let sources = declare(&ground).await?;
        start_data(&ground).await?;
        let workers = Workers::start(&ground).await?;
        let mut parts = workers.parts();
        parts.push(Arc::new(room));
        let reloader = Reloader::new(Config::clone(&ground.config), shown, parts, sources);
        ground.app.start_reload(Arc::clone(&reloader) as _);
        let reloading = tokio::spawn(reloader.follow(hangup));
        ground.app.start_serving();
        Ok(Self { ground, workers, watch, reloading, listening })
    }

    pub(crate) fn config(&self) -> &Config {
        &self.ground.config
    }

    /// Where people reach it, without a trailing slash.
    pub(crate) fn url(&self) -> &str {
        &self.ground.url
    }

    /// Ends it: first who writes, then who answers, then the stores. Nothing of it is left afterwards.
    pub(crate) async fn stop(self) -> Result<(), ServeError> {
        let Self { ground, workers, watch, reloading, listening } = self;
        reloading.abort();
        workers.drain().await;
        let _ = listening.stop.send(());
        let _ = listening.task.await;
        drop(watch);
        ground.blocking(Stores::close_all).await
    }
}

impl Listener {
    fn start(app: &Arc<App>, listener: TcpListener, listening: Listening) -> Self {
        let (stop, stopped) = oneshot::channel();
        let serving = pilothouse_api::serve(Arc::clone(app), listener, listening, async {
            let _ = stopped.await;
        });
        Self { stop, task: tokio::spawn(serving) }
    }
}

fn settings(config: &Config, limits: &LiveLimits, control: &Arc<Control>, auth: Auth) -> Settings {
    Settings {
        limits: limits.clone(),
        auth,
        control: Arc::clone(control),
        disk: Arc::new(Guard::new(&config.data_dir, config.room.disk)),
        memory: Arc::new(Memory::never_above(config.room.memory_limit_bytes)),
        external_url: config.external_url.clone(),
        origins: Origins::of(config.origins_of_pages()),
        enrichment: config.enrichment.clone(),
        configuration: Arc::new(Configuration::new(reload::shown(config), SystemClock.now_ms())),
        build: BUILD,
    }
}

fn ground(
    config: Config,
    limits: LiveLimits,
    app: Arc<App>,
    control: Arc<Control>,
    local: SocketAddr,
) -> Ground {
    let (of_stores, memory) = (Arc::clone(&control), Arc::clone(app.memory()));
    let stores = Arc::new(Stores::new(of_stores, &config, limits.clone(), memory, Handle::current()));
    let (url, instance) = (config.url(local), local.to_string());
    Ground { config: Arc::new(config), limits, app, control, stores, url, instance }
}

fn watch(ground: &Ground, disk: &DiskRoom) -> Result<Watch, ServeError> {
    let watched = Watched {
        stores: Arc::clone(&ground.stores),
        disk: disk.clone(),
        memory: Arc::clone(ground.app.memory()),
        runtime: Handle::current(),
    };
    Watch::start(watched).map_err(ServeError::Start)
}

/// Data sources are as the configuration says before any of them is opened.
async fn declare(ground: &Ground) -> Result<Declared, ServeError> {
    let Ground { config, control, stores, app, .. } = ground;
    let declared =
        Declared { control: Arc::clone(control), stores: Arc::clone(stores), app: Arc::downgrade(app) };
    let (this, config) = (declared.clone(), Arc::clone(config));
    let done = tokio::task::spawn_blocking(move || this.reconcile(&config)).await;
    done.map_err(|e| ServeError::Start(std::io::Error::other(e)))?.map_err(ServeError::Declared)?;
    Ok(declared)
}

/// Opens the default sources and hands them to the server.
async fn start_data(ground: &Ground) -> Result<(), ServeError> {
    let Ground { app, control, stores, .. } = ground;
    let buckets = ground.config.buckets.clone().or_environment();
    let memory = Arc::clone(app.memory());
    app.start_backups(Arc::new(Archive::new(Arc::clone(stores), Arc::clone(control), memory, buckets)));
    ground.blocking(Stores::open_default).await?;
    app.start_logs(Stored::default_logs(stores, Writer::Client)?.logs_backend());
    app.start_data(Stored::default_metrics(stores, Writer::Client)?.metrics_backend());
    app.start_sources(Arc::clone(stores) as _);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;
    use std::time::{Duration, Instant};

    use pilothouse_control::{Options, SourceKind};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use tokio::signal::unix::{SignalKind, signal};

    use super::*;
    use crate::config::{Flags, load};

    fn opened(data_dir: &std::path::Path) -> Opened {
        let said = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let values = vec![
            said("data_dir", data_dir.to_str().unwrap()),
            said("listen", "127.0.0.1:0"),
            said("auth", "off"),
        ];
        let config = load(&Flags { values, ..Flags::default() }).unwrap();
        let limits = LiveLimits::from(config.limits.clone());
        let options = Options { limits: limits.clone(), ..Options::default() };
        let control = Control::open_mended(&data_dir.join("control.redb"), options).unwrap();
        Opened { config, limits, control: Arc::new(control), auth: Auth::Off, max_connections: 100 }
    }

    async fn answer(local: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(local).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    fn request(line: &str, body: &str) -> String {
        format!(
            "{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\nContent-Type: application/json\r\n\r\n{body}",
            body.len()
        )
    }

    /// How many hold something still.
    type Holders = (&'static str, Box<dyn Fn() -> usize>);

    fn left(kept: &[Holders]) -> Vec<(&'static str, usize)> {
        kept.iter().map(|(name, count)| (*name, count())).filter(|(_, count)| *count > 0).collect()
    }

    fn weak<T: ?Sized + 'static>(held: &Arc<T>) -> Box<dyn Fn() -> usize> {
        let weak: Weak<T> = Arc::downgrade(held);
        Box::new(move || weak.strong_count())
    }

    #[test]
    fn all_stores_are_closed_though_figures_cannot_be_written_down() {
        let directory = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let Opened { config, limits, control, .. } = opened(directory.path());
        let (of_stores, handle) = (Arc::clone(&control), runtime.handle().clone());
        let stores = Stores::new(of_stores, &config, limits, Arc::default(), handle);
        stores.open_default().unwrap();
        let [metrics, logs] = [SourceKind::Metrics, SourceKind::Logs].map(|kind| {
            let source = stores.default_source(kind).unwrap();
            (stores.directory(kind, &source.directory()), source)
        });
        let opens_metrics = || {
            pilothouse_metrics::Store::open(&metrics.0, pilothouse_metrics::StoreOptions::default()).is_ok()
        };
        let opens_logs =
            || pilothouse_logs::Store::open(&logs.0, pilothouse_logs::StoreOptions::default()).is_ok();
        assert!(!opens_metrics() && !opens_logs(), "they are in use");
        control.close();
        assert!(stores.close_all().is_err());
        assert!(opens_metrics() && opens_logs());
        assert!(stores.opened(&metrics.1).is_err() && stores.opened(&logs.1).is_err(), "nothing opens again");
    }

    #[test]
    fn nothing_is_left_of_a_server_that_was_stopped() {
        let directory = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let kept = runtime.block_on(async {
            let opened = opened(directory.path());
            let (listener, local) = pilothouse_api::bind("127.0.0.1:0").await.unwrap();
            let hangup = signal(SignalKind::hangup()).unwrap();
            let serving = Serving::start(opened, listener, local, hangup).await.unwrap();
            // A data source with a root of its own, used and changed.
            let body =
                r#"{"name":"own","type":"metrics","project_id":"00000000-0000-0000-0000-000000000000"}"#;
            let made = answer(local, &request("POST /cockpit/v1/regions/fr-par/data-sources", body)).await;
            assert!(made.starts_with("HTTP/1.1 200"), "{made}");
            let id = made.split("\"id\":\"").nth(1).and_then(|rest| rest.get(..36)).unwrap().to_owned();
            let asked = format!("GET /ds/{id}/prometheus/api/v1/query?query=1");
            let asked = answer(local, &request(&asked, "")).await;
            assert!(asked.starts_with("HTTP/1.1 200"), "{asked}");
            let reloaded = answer(local, &request("POST /-/reload", "")).await;
            assert!(reloaded.starts_with("HTTP/1.1 200"), "{reloaded}");
            let Ground { app, control, stores, limits: _, config, .. } = &serving.ground;
            let kept = [
                ("app", weak(app)),
                ("control", weak(control)),
                ("stores", weak(stores)),
                ("configuration", weak(config)),
            ];
            serving.stop().await.unwrap();
            kept
        });
        // Tasks that were ended let go when the runtime next looks at them.
        drop(runtime);
        let deadline = Instant::now() + Duration::from_secs(20);
        while !left(&kept).is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(left(&kept), []);
    }
}
