//! From a request to an answer: who may, what it asks, which handler, how it is shown.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{RawPathParams, Request};
use axum::response::Response;
use axum::routing::any;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body::Body as _;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use pilothouse_control::Amounts;
use pilothouse_model::NoMemory;
use pilothouse_model::limits::Limits;
use pilothouse_model::memory::Reservation;

use crate::App;
use crate::auth::{Auth, Caller, Peer, Refusal};
use crate::client::Client;
use crate::error::{ApiError, Kind};
use crate::offload;
use crate::origin;
use crate::params::{Params, is_form};
use crate::reply::Reply;
use crate::routes::{self, Route, Scope};
use crate::synthetic;

/// Forms up to this are taken apart on the spot.
const INLINE_FORM_BYTES: usize = 64 << 10;

/// What a form or a document takes once it is taken apart, in times of its bytes. Documents of some kinds
/// take more, and have bounds of their own.
const READ: u64 = 3;

/// A request with its body in hand.
pub(crate) struct Call {
    /// Method, headers, and what an upgrade of the connection needs.
    pub(crate) parts: Parts,
    pub(crate) params: Params,
    pub(crate) body: Bytes,
    pub(crate) caller: Caller,
    /// The same, as far as the order of queries goes.
    pub(crate) client: Client,
    /// The named segments of the path, percent-decoded.
    segments: Vec<(String, String)>,
}

impl Call {
    /// A header as text; empty where it is missing or not text.
    pub(crate) fn header(&self, name: header::HeaderName) -> &str {
        self.parts.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("")
    }

    /// The other end of the connection; tests have none.
    pub(crate) fn peer(&self) -> Option<Peer> {
        self.parts.extensions.get().copied()
    }

    /// The `{name}` of the path; empty where the route has none.
    pub(crate) fn segment(&self, name: &str) -> &str {
        self.segments.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v.as_str())
    }
}

pub(crate) fn router(app: Arc<App>) -> Router {
    let mut router = Router::new();
    for (path, rows) in routes::by_path() {
        let below = rows.iter().copied().filter(|row| row.endpoint.is_of_sources()).collect::<Vec<_>>();
        router = router.route(&path, any(handler(&app, rows)));
        if !below.is_empty() {
            router = router.route(&format!("/ds/{{{SOURCE}}}{path}"), any(handler(&app, below)));
        }
    }
    let fallback = move |request: Request| not_found(Arc::clone(&app), request);
    router.fallback(fallback)
}

/// The segment that names a data source.
const SOURCE: &str = "ds";

fn handler(
    app: &Arc<App>,
    rows: Vec<&'static Route>,
) -> impl Fn(RawPathParams, Request) -> Pin<Box<dyn Future<Output = Response> + Send>> + Clone + use<> {
    let (app, rows) = (Arc::clone(app), Arc::<[&Route]>::from(rows));
    move |params, request| Box::pin(answer(Arc::clone(&app), Arc::clone(&rows), params, request))
}

async fn answer(
    app: Arc<App>,
    rows: Arc<[&'static Route]>,
    path: RawPathParams,
    request: Request,
) -> Response {
    let started = Instant::now();
    let (gzip, origin) = (accepts_gzip(request.headers()), request.headers().get(header::ORIGIN).cloned());
    let taker = rows.iter().find(|row| row.takes(request.method()));
    let Some(route) = taker.or_else(|| rows.first()).copied() else {
        return not_found(app, request).await;
    };
    let reply = match handle(&app, route, &rows, path, request).await {
        Ok(reply) => reply,
        Err(e) => route.endpoint.refuse(&app, e),
    };
    app.telemetry.served(route.endpoint, reply.status.as_u16(), started.elapsed());
    let mut response = reply.into_response(gzip, app.patience(), app.memory()).await;
    if let Some(origin) = origin {
        let is_own = origin.to_str().is_ok_and(|origin| app.settings.origins.contains(origin));
        allow_origins(response.headers_mut(), is_own);
    }
    response
}

async fn handle(
    app: &Arc<App>,
    route: &'static Route,
    rows: &[&'static Route],
    path: RawPathParams,
    request: Request,
) -> Result<Reply, ApiError> {
    if request.method() == Method::OPTIONS {
        return Ok(Reply::empty(StatusCode::NO_CONTENT));
    }
    if !route.takes(request.method()) {
        let methods = rows.iter().fold(route.methods, |all, row| all.or(row.methods));
        return Ok(route.endpoint.refuse_method().header(header::ALLOW, methods.allow()));
    }
    let (parts, body) = request.into_parts();
    if matches!(app.settings.auth, Auth::Off)
        && !origin::is_open(route, &parts.method)
        && origin::is_foreign(&parts.headers, &parts.uri, &app.settings.origins)
    {
        return Err(ApiError::new(Kind::Forbidden, "pages of other origins may not do this"));
    }
    let peer = parts.extensions.get().copied();
    let caller = admit(app, route.scope, &parts.headers, peer).await?;
    let segments: Vec<_> = path.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
    let root = match segments.iter().find(|(name, _)| name == SOURCE) {
        Some((_, id)) => &app.root_of(id, route.endpoint, &caller).await?,
        None => app,
    };
    let _place = app.admission.request()?;
    if route.scope.stores() {
        may_store(root, route.scope)?;
    }
    let mut held = Reservation::nothing(&app.settings.memory);
    let body = match parts.method {
        Method::GET | Method::HEAD => Bytes::new(),
        _ => read_body(body, &app.limits(), &mut held).await?,
    };
    if !route.scope.stores() {
        // What comes to be stored books what it becomes by itself.
        held.grow(READ * body.len() as u64)?;
    }
    let (parts, params) = read_params(parts, body.clone()).await?;
    let source = segments.iter().find(|(name, _)| name == SOURCE).map_or("", |(_, id)| id.as_str());
    let client = Client::of(&caller, peer, source, &parts.headers);
    let call = Call { parts, params, body, caller: caller.clone(), client, segments };
    let reply = route.endpoint.answer(root, call).await?;
    if reply.stored != Amounts::default() {
        root.account(&caller, reply.stored);
    }
    Ok(reply)
}

/// Who asks, if he may; what failed before too often from the same address is told so late.
async fn admit(app: &App, scope: Scope, headers: &HeaderMap, peer: Option<Peer>) -> Result<Caller, ApiError> {
    let refusal = match app.settings.auth.admit(scope, headers) {
        Ok(caller) => return Ok(caller),
        Err(refusal) => refusal,
    };
    if refusal == Refusal::Unauthorized {
        app.telemetry.unauthorized.add(1);
        app.failures.hold(peer).await;
    }
    Err(refusal.into())
}

/// Whether there is room for more, on the disk and in memory. Asked before the body is read. What
/// another system keeps takes no room on the disk.
fn may_store(root: &App, scope: Scope) -> Result<(), ApiError> {
    if let Some(full) = root.settings.disk.refusal()
        && !root.is_kept_elsewhere(scope)
    {
        return Err(full.into());
    }
    Ok(root.settings.memory.check_write()?)
}

/// The whole body, up to the limit on what it may be after decompression. Its memory is taken
/// from the account as it comes.
async fn read_body(body: Body, limits: &Limits, held: &mut Reservation) -> Result<Bytes, ApiError> {
    let (limit, timeout) = (limits.max_body_bytes, Duration::from_millis(limits.body_timeout_ms));
    let bytes = usize::try_from(limit).unwrap_or(usize::MAX);
    if body.size_hint().lower() > limit {
        return Err(too_large(limit));
    }
    let whole = collect(Limited::new(body, bytes), held);
    match tokio::time::timeout(timeout, whole).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(Unread::Memory(e))) => Err(e.into()),
        Ok(Err(Unread::Body(e))) if e.is::<LengthLimitError>() => Err(too_large(limit)),
        Ok(Err(Unread::Body(e))) => Err(ApiError::bad_data(format!("cannot read the request body: {e}"))),
        Err(_) => Err(ApiError::bad_data(format!("the request body did not come within {timeout:?}"))),
    }
}

enum Unread {
    Memory(NoMemory),
    Body(Box<dyn std::error::Error + Send + Sync>),
}

async fn collect(mut body: Limited<Body>, held: &mut Reservation) -> Result<Bytes, Unread> {
    let mut parts: Vec<Bytes> = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(Unread::Body)?.into_data() else { continue };
        held.grow(data.len() as u64).map_err(Unread::Memory)?;
        parts.push(data);
    }
    Ok(if parts.len() == 1 { parts.pop().unwrap_or_default() } else { parts.concat().into() })
}

/// Forms may be megabytes; a large one is taken apart on the pool.
async fn read_params(parts: Parts, body: Bytes) -> Result<(Parts, Params), ApiError> {
    let is_large = body.len() > INLINE_FORM_BYTES && is_form(&parts.headers);
    let read = move || {
        let params = Params::read(parts.uri.query(), &parts.headers, &body);
        (parts, params)
    };
    if is_large { Ok(offload::short(read).await?) } else { Ok(read()) }
}

pub(crate) fn too_large(limit: u64) -> ApiError {
    let text = format!(
        "the incoming push request has been rejected because its message size is larger than the allowed limit of \
         {limit} bytes (err-mimir-distributor-max-write-message-size). To adjust the related limit, configure \
         -distributor.max-recv-msg-size, or contact your service administrator."
    );
    ApiError::new(Kind::TooLarge, text)
}

/// As Go's router says it: plain text, never HTML, so that no client takes it for a page.
async fn not_found(app: Arc<App>, request: Request) -> Response {
    let (parts, _body) = request.into_parts();
    if synthetic::owns(parts.uri.path()) {
        return synthetic::absent(&app, &parts.headers)
            .into_response(false, app.patience(), app.memory())
            .await;
    }
    let reply = match admit(&app, Scope::Root, &parts.headers, parts.extensions.get().copied()).await {
        // Which paths there are is no secret from who has a token.
        Ok(_) | Err(ApiError { kind: Kind::Forbidden, .. }) => {
            Reply::text(StatusCode::NOT_FOUND, "404 page not found\n")
        }
        Err(e) => e.into_json(),
    };
    reply.into_response(false, app.patience(), app.memory()).await
}

pub(crate) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok());
    accepted.flat_map(|v| v.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or("");
        let refused = parts.any(|p| p.replace(' ', "").trim_start_matches("q=").parse() == Ok(0.0f32));
        name.eq_ignore_ascii_case("gzip") && !refused
    })
}

/// Pages of origins that count as this server's own may change and delete.
fn allow_origins(headers: &mut HeaderMap, is_own: bool) {
    let methods = if is_own { "GET, POST, PUT, PATCH, DELETE, OPTIONS" } else { "GET, POST, OPTIONS" };
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, methods),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "Accept, Authorization, Content-Type, Origin"),
        (header::ACCESS_CONTROL_EXPOSE_HEADERS, "Date"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_used_when_asked_for() {
        for (accept, expected) in
            [("gzip", true), ("deflate, GZIP;q=0.5", true), ("gzip;q=0", false), ("br", false), ("", false)]
        {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, accept.parse().unwrap());
            assert_eq!(accepts_gzip(&headers), expected, "{accept}");
        }
    }
}
