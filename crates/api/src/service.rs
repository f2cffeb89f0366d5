//! From a request to an answer: who may, what it asks, which handler, how it is shown.

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
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use crate::App;
use crate::error::{ApiError, Kind};
use crate::offload;
use crate::params::{Params, is_form};
use crate::reply::Reply;
use crate::routes::{self, Route};

/// A body that takes longer than this to arrive is given up.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// Forms up to this are taken apart on the spot.
const INLINE_FORM_BYTES: usize = 64 << 10;

/// A request with its body in hand.
pub(crate) struct Call {
    /// Method, headers, and what an upgrade of the connection needs.
    pub(crate) parts: Parts,
    pub(crate) params: Params,
    pub(crate) body: Bytes,
    /// The named segments of the path, percent-decoded.
    segments: Vec<(String, String)>,
}

impl Call {
    /// A header as text; empty where it is missing or not text.
    pub(crate) fn header(&self, name: header::HeaderName) -> &str {
        self.parts.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("")
    }

    /// The `{name}` of the path; empty where the route has none.
    pub(crate) fn segment(&self, name: &str) -> &str {
        self.segments.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v.as_str())
    }
}

pub(crate) fn router(app: Arc<App>) -> Router {
    let mut router = Router::new();
    for (path, rows) in routes::by_path() {
        let (app, rows) = (Arc::clone(&app), Arc::<[&Route]>::from(rows));
        let handler = move |params: RawPathParams, request: Request| answer(app, rows, params, request);
        router = router.route(&path, any(handler));
    }
    let fallback = move |request: Request| not_found(Arc::clone(&app), request);
    router.fallback(fallback)
}

async fn answer(
    app: Arc<App>,
    rows: Arc<[&'static Route]>,
    path: RawPathParams,
    request: Request,
) -> Response {
    let started = Instant::now();
    let (gzip, origin) = (accepts_gzip(request.headers()), request.headers().get(header::ORIGIN).cloned());
    let taker = rows.iter().find(|row| row.methods.accept(request.method()));
    let Some(route) = taker.or_else(|| rows.first()).copied() else {
        return not_found(app, request).await;
    };
    let reply = match handle(&app, route, &rows, path, request).await {
        Ok(reply) => reply,
        Err(e) => route.endpoint.refuse(e),
    };
    app.telemetry.served(route.endpoint, reply.status.as_u16(), started.elapsed());
    let mut response = reply.into_response(gzip).await;
    if origin.is_some() {
        allow_origins(response.headers_mut());
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
    if !app.settings.auth.permits(route.scope, request.headers()) {
        return Ok(unauthorized());
    }
    if !route.methods.accept(request.method()) {
        let methods = rows.iter().fold(route.methods, |all, row| all.or(row.methods));
        return Ok(Reply::text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n")
            .header(header::ALLOW, methods.allow()));
    }
    let _place = app.admission.request()?;
    let segments = path.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
    let (parts, body) = request.into_parts();
    let body = match parts.method {
        Method::GET | Method::HEAD => Bytes::new(),
        _ => read_body(body, app.settings.limits.max_body_bytes).await?,
    };
    let (parts, params) = read_params(parts, body.clone()).await?;
    route.endpoint.answer(app, Call { parts, params, body, segments }).await
}

/// The whole body, up to the limit on what it may be after decompression.
async fn read_body(body: Body, limit: u64) -> Result<Bytes, ApiError> {
    let bytes = usize::try_from(limit).unwrap_or(usize::MAX);
    let whole = Limited::new(body, bytes).collect();
    match tokio::time::timeout(BODY_TIMEOUT, whole).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(e)) if e.is::<LengthLimitError>() => Err(too_large(limit)),
        Ok(Err(e)) => Err(ApiError::bad_data(format!("cannot read the request body: {e}"))),
        Err(_) => Err(ApiError::bad_data(format!("the request body did not come within {BODY_TIMEOUT:?}"))),
    }
}

/// Forms may be megabytes; a large one is taken apart on the pool.
async fn read_params(parts: Parts, body: Bytes) -> Result<(Parts, Params), ApiError> {
    let is_large = body.len() > INLINE_FORM_BYTES && is_form(&parts.headers);
    let read = move || {
        let params = Params::read(parts.uri.query(), &parts.headers, &body);
        (parts, params)
    };
    if is_large { Ok(offload::query(read).await?) } else { Ok(read()) }
}

pub(crate) fn too_large(limit: u64) -> ApiError {
    let text = format!(
        "the incoming push request has been rejected because its message size is larger than the allowed limit of \
         {limit} bytes (err-mimir-distributor-max-write-message-size). To adjust the related limit, configure \
         -distributor.max-recv-msg-size, or contact your service administrator."
    );
    ApiError::new(Kind::TooLarge, text)
}

/// No kind of Prometheus' API; the body has its envelope all the same.
fn unauthorized() -> Reply {
    let body = "{\"status\":\"error\",\"errorType\":\"unauthorized\",\"error\":\"missing or invalid token\"}";
    Reply::new(StatusCode::UNAUTHORIZED, "application/json", body)
}

/// As Go's router says it: plain text, never HTML, so that no client takes it for a page.
async fn not_found(app: Arc<App>, request: Request) -> Response {
    let permitted = app.settings.auth.permits(crate::routes::Scope::Root, request.headers());
    let reply =
        if permitted { Reply::text(StatusCode::NOT_FOUND, "404 page not found\n") } else { unauthorized() };
    reply.into_response(false).await
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok());
    accepted.flat_map(|v| v.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or("");
        let refused = parts.any(|p| p.replace(' ', "").trim_start_matches("q=").parse() == Ok(0.0f32));
        name.eq_ignore_ascii_case("gzip") && !refused
    })
}

fn allow_origins(headers: &mut HeaderMap) {
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, OPTIONS"),
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
