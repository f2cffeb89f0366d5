//! Queries of a remote data source: they go on to the system that keeps its data, and its answer
//! comes back as it is, while it comes.
//!
//! What the client says of who it is stays here, since it is this server's token; the other system
//! is shown what the settings of the data source hold.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use http_body::Frame;
use pilothouse_net::{BodyStream, CallError};
use pilothouse_remote::{Answering, Forwarded, Peer};
use tokio::sync::OwnedSemaphorePermit;

use crate::error::ApiError;
use crate::reply::{Reply, ReplyBody};
use crate::service::{Call, accepts_gzip};

/// What of a request says how it shall be answered.
const ASKED: [HeaderName; 5] = [
    header::ACCEPT,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    HeaderName::from_static("x-prometheus-remote-read-version"),
    HeaderName::from_static("x-loki-response-encoding-flags"),
];

/// What of an answer is the client's.
const ANSWERED: [HeaderName; 5] = [
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::RETRY_AFTER,
    header::VARY,
];

/// Hands a query on. The path that both systems have begins with one of `bases`.
pub(crate) async fn forward(peer: Arc<Peer>, call: &Call, bases: &[&str]) -> Result<Reply, ApiError> {
    let mut headers = asked(&call.parts.headers);
    if accepts_gzip(&call.parts.headers) {
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    }
    let forwarded = Forwarded {
        method: call.parts.method.clone(),
        path_and_query: behind(&call.parts.uri, bases)?,
        headers,
        body: call.body.clone(),
    };
    let Answering { streamed, place } = peer.forward(forwarded).await?;
    let headers = picked(&streamed.headers, &ANSWERED);
    let mut response = Response::new(Body::new(Handed { inner: streamed.body, _place: place }));
    *response.status_mut() = streamed.status;
    *response.headers_mut() = headers.clone();
    Ok(Reply::of(streamed.status, headers, ReplyBody::Made(Box::new(response))))
}

/// What of a client's headers goes on to the other system.
pub(crate) fn asked(headers: &HeaderMap) -> HeaderMap {
    picked(headers, &ASKED)
}

/// The path from the first of `bases` on with its parameters, as the client wrote it. A path that
/// would be another one once its dots are resolved is refused: over there it could be one that a
/// client's scope is not for.
pub(crate) fn behind(uri: &http::Uri, bases: &[&str]) -> Result<String, ApiError> {
    let plain = uri.path().replace("%2e", ".").replace("%2E", ".").replace("%2f", "/").replace("%2F", "/");
    if plain.split(['/', '\\']).any(|segment| matches!(segment, "." | "..")) {
        return Err(ApiError::bad_data("the path has a segment of dots"));
    }
    let whole = uri.path_and_query().map_or("", |p| p.as_str());
    let at = bases.iter().filter_map(|base| uri.path().find(base)).min().unwrap_or(0);
    Ok(whole.get(at..).unwrap_or(whole).to_owned())
}

fn picked(from: &HeaderMap, names: &[HeaderName]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for name in names {
        if let Some(value) = from.get(name) {
            headers.insert(name, value.clone());
        }
    }
    headers
}

/// The body, and the place that the query takes until it is sent.
struct Handed {
    inner: BodyStream,
    _place: OwnedSemaphorePermit,
}

impl http_body::Body for Handed {
    type Data = Bytes;
    type Error = CallError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CallError>>> {
        Pin::new(&mut self.inner).poll_frame(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_the_one_behind_the_root() {
        let logs = ["/loki/api/v1/", "/api/prom/"];
        for (uri, bases, expected) in [
            ("/prometheus/api/v1/query?query=up", &["/api/v1/"][..], "/api/v1/query?query=up"),
            ("/ds/x/api/v1/label/a%2Fb/values", &["/api/v1/"], "/api/v1/label/a%2Fb/values"),
            ("http://h/ds/x/loki/api/v1/series", &logs, "/loki/api/v1/series"),
            ("/api/prom/query?x=/loki/api/v1/", &logs, "/api/prom/query?x=/loki/api/v1/"),
        ] {
            assert_eq!(behind(&uri.parse().unwrap(), bases).unwrap(), expected);
        }
        for name in ["..", "%2e%2E", ".%2e", "a%2f..%2F..%2Fadmin", "."] {
            let uri = format!("/api/v1/label/{name}/values").parse().unwrap();
            assert!(behind(&uri, &["/api/v1/"]).is_err(), "{name}");
        }
    }
}
