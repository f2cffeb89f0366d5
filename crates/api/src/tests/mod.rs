//! The whole way of a request, over a store in memory.

mod documented;
mod doors;
mod memory;
mod requests;
mod synthetic;

use std::sync::Arc;

use axum::body::Body;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use pilothouse_control::Control;
use pilothouse_disk::space::Guard;
use pilothouse_logql::MemoryEntries;
use pilothouse_model::limits::Limits;
use pilothouse_model::{Clock, SourceError};

use crate::{
    App, Auth, Build, Configuration, DeletionError, Enrichment, Family, KnownDeletion, LogDeletion,
    LogsAdmin, LogsBackend, Settings, Shown,
};
use memory::Memory;

pub(crate) const NOW_S: i64 = 1_700_000_000;

#[derive(Debug)]
struct Stopped;

impl Clock for Stopped {
    fn now_ms(&self) -> i64 {
        NOW_S * 1000
    }
}

/// Entries in memory.
pub(crate) fn logs() -> LogsBackend {
    struct NoMetrics;
    impl LogsAdmin for NoMetrics {
        fn delete(&self, _: &LogDeletion) -> Result<u64, DeletionError> {
            Err(DeletionError::Refused("this store keeps everything".to_owned()))
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
    }
    let entries = Arc::new(MemoryEntries::default());
    LogsBackend { source: Arc::clone(&entries) as _, sink: entries, admin: Arc::new(NoMetrics) }
}

/// A server over a store in memory.
pub(crate) struct Fixture {
    pub(crate) memory: Arc<Memory>,
    app: Arc<App>,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::with(Limits::default(), Auth::Off)
    }

    pub(crate) fn with(limits: Limits, auth: Auth) -> Self {
        let app = Self::starting(limits, auth);
        let (memory, backend) = Memory::backend();
        app.start_data(backend);
        app.start_logs(logs());
        Self { memory, app }
    }

    /// A server that wants tokens; this is the root's.
    pub(crate) fn locked(root: &str) -> Self {
        let control = Self::control();
        let auth = Auth::Required { root: root.to_owned(), control: Arc::clone(&control) };
        let app = Self::server(Limits::default(), auth, control);
        let (memory, backend) = Memory::backend();
        app.start_data(backend);
        app.start_sources(Arc::new(memory::MemorySources));
        app.start_synthetic(synthetic::idle());
        Self { memory, app }
    }

    /// A server whose data is not there yet.
    pub(crate) fn starting(limits: Limits, auth: Auth) -> Arc<App> {
        Self::server(limits, auth, Self::control())
    }

    /// The file has no name any more; it lives as long as it is open.
    fn control() -> Arc<Control> {
        let directory = tempfile::tempdir().unwrap();
        let options = pilothouse_control::Options::default();
        Arc::new(Control::open(&directory.path().join("control.redb"), options).unwrap())
    }

    fn server(limits: Limits, auth: Auth, control: Arc<Control>) -> Arc<App> {
        let settings = Settings {
            limits: limits.into(),
            auth,
            control,
            disk: Arc::new(Guard::unbounded()),
            memory: Arc::default(),
            external_url: None,
            origins: crate::Origins::default(),
            enrichment: Enrichment::default(),
            configuration: Arc::new(Configuration::new(
                Shown { yaml: "listen: x\n".to_owned(), retention_ms: 0 },
                0,
            )),
            build: Build { version: "1.2.3", revision: "abc", date: "today" },
        };
        App::new(settings, Arc::new(Stopped))
    }

    pub(crate) fn app(&self) -> Arc<App> {
        Arc::clone(&self.app)
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> (http::response::Parts, Vec<u8>) {
        send(&self.app, request).await
    }

    /// A GET; status and body as text.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let (parts, body) = self.send(Request::get(path).body(Body::empty()).unwrap()).await;
        (parts.status.as_u16(), String::from_utf8(body).unwrap())
    }
}

pub(crate) async fn send(app: &Arc<App>, request: Request<Body>) -> (http::response::Parts, Vec<u8>) {
    let service = TowerToHyperService::new(crate::service::router(Arc::clone(app)));
    let response: Response<Body> = service.call(request).await.unwrap();
    let (parts, body) = response.into_parts();
    (parts, body.collect().await.unwrap().to_bytes().to_vec())
}
