//! The whole way of a request, over a store in memory.

mod memory;
mod requests;

use std::sync::Arc;

use axum::body::Body;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use pilothouse_model::Clock;
use pilothouse_model::limits::Limits;

use crate::{App, Auth, Build, Settings};
use memory::Memory;

pub(crate) const NOW_S: i64 = 1_700_000_000;

#[derive(Debug)]
struct Stopped;

impl Clock for Stopped {
    fn now_ms(&self) -> i64 {
        NOW_S * 1000
    }
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
        Self { memory, app }
    }

    /// A server whose data is not there yet.
    pub(crate) fn starting(limits: Limits, auth: Auth) -> Arc<App> {
        let build = Build { version: "1.2.3", revision: "abc", date: "today" };
        let settings =
            Settings { limits, auth, retention_ms: 0, config_yaml: "listen: x\n".to_owned(), build };
        App::new(settings, Arc::new(Stopped))
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
