//! HTTP: a request, its redirects, and what the answer must be.

mod body;
mod hop;
mod judge;
mod oauth;
mod phases;
mod request;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cookie_store::CookieStore;
use http::{StatusCode, Uri, Version, header};
use pilothouse_model::NoMemory;
use pilothouse_model::limits::CHECK_REDIRECTS;
use rand::Rng as _;
use url::Url;

use super::LocalProber;
use super::clock::in_time;
use super::connect::ConnectError;
use crate::run::{Recorder, Target};
use crate::words::HttpSettings;

pub(super) use body::text;
pub(super) use hop::{Answer, Hop, Sent};
pub(super) use judge::INLINE_BYTES;
pub(super) use phases::Phases;
pub(super) use request::set_run_by;

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Tls(#[from] pilothouse_net::BuildError),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("{0}")]
    Request(String),
    #[error("the body is longer than {0} bytes")]
    BodyTooLong(u64),
    #[error("{0}")]
    Coding(String),
    #[error("the proxy answered {0}")]
    Proxy(StatusCode),
    #[error("the token endpoint {0}")]
    Token(String),
    #[error(transparent)]
    NoMemory(#[from] NoMemory),
}

pub(super) async fn probe(
    prober: &LocalProber,
    target: &Target<'_>,
    settings: &HttpSettings,
    recorder: &mut Recorder,
) -> Result<bool, NoMemory> {
    let mut run = Run { prober, target, settings, phases: Phases::default(), redirects: 0 };
    let answered = in_time(target.timeout, run.follow(recorder)).await;
    run.phases.take_down(recorder);
    let help = "The number of redirects";
    recorder.gauge("probe_http_redirects", help, &[], f64::from(run.redirects));
    match answered {
        Ok(answer) => judge::judge(prober, answer, settings, recorder).await,
        Err(HttpError::NoMemory(full)) => Err(full),
        Err(e) => {
            recorder.error("Error for HTTP request", &[("err", &e)]);
            judge::no_answer(recorder);
            Ok(false)
        }
    }
}

struct Run<'a> {
    prober: &'a LocalProber,
    target: &'a Target<'a>,
    settings: &'a HttpSettings,
    phases: Phases,
    redirects: u32,
}

impl Run<'_> {
    /// The answer at the end of the redirects.
    async fn follow(&mut self, recorder: &mut Recorder) -> Result<Answer, HttpError> {
        let mut url = self.first_url()?;
        let token = oauth::token(self.prober, self.settings, recorder).await?;
        let mut request = request::first(self.settings, token, &self.target.run_by)?;
        let mut cookies = CookieStore::default();
        let origin = url.origin();
        loop {
            recorder.info("Making HTTP request", &[("url", &url), ("host", &url.host_str().unwrap_or(""))]);
            let hop = Hop { prober: self.prober, settings: self.settings };
            let answer = hop.send(&url, &request, &cookies, &mut self.phases, recorder).await?;
            keep_cookies(&mut cookies, &answer, &url);
            let Some(next) = self.next_url(&answer, &url, recorder) else { return Ok(answer) };
            request = request.redirected(answer.status, next.origin() == origin);
            url = next;
            self.redirects += 1;
        }
    }

    /// The target, with a value that no cache has seen if that is asked for.
    fn first_url(&self) -> Result<Url, HttpError> {
        let mut url = Url::parse(self.target.target).map_err(|e| HttpError::Request(e.to_string()))?;
        let name = &self.settings.cache_busting_query_param_name;
        if !name.is_empty() {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
            let fresh = format!("{}{:08x}", since.as_nanos(), rand::rng().random::<u32>());
            let kept: Vec<(String, String)> =
                url.query_pairs().into_owned().filter(|(n, _)| n != name).collect();
            url.query_pairs_mut().clear().extend_pairs(kept).append_pair(name, &fresh);
        }
        Ok(url)
    }

    /// Where a redirect leads; `None` where this answer is the last.
    fn next_url(&self, answer: &Answer, url: &Url, recorder: &mut Recorder) -> Option<Url> {
        if !matches!(answer.status.as_u16(), 301 | 302 | 303 | 307 | 308) {
            return None;
        }
        let location = answer.headers.get(header::LOCATION)?.to_str().ok()?;
        if self.settings.no_follow_redirects {
            recorder.info("Not following redirect", &[("location", &location)]);
            return None;
        }
        recorder.info("Received redirect", &[("location", &location)]);
        let next = url.join(location).ok().filter(|next| matches!(next.scheme(), "http" | "https"));
        next.filter(|_| self.redirects < CHECK_REDIRECTS)
    }
}

pub(super) fn keep_cookies(cookies: &mut CookieStore, answer: &Answer, url: &Url) {
    let set = answer.headers.get_all(header::SET_COOKIE).iter().filter_map(|v| v.to_str().ok());
    for cookie in set {
        // A cookie that may not be set by this host is left out.
        let _ = cookies.parse(cookie, url);
    }
}

/// `1.1`, `2`: the number that series carry.
pub(super) fn version_number(version: Version) -> f64 {
    match version {
        Version::HTTP_10 => 1.0,
        Version::HTTP_2 => 2.0,
        Version::HTTP_3 => 3.0,
        _ => 1.1,
    }
}

/// As `validHTTPVersions` spells them.
fn version_text(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}

/// The path and query of an address as a request line carries them.
fn request_target(url: &Url) -> Result<Uri, HttpError> {
    let path = &url[url::Position::BeforePath..url::Position::AfterQuery];
    path.parse().map_err(|e| HttpError::Request(format!("{e}: {path}")))
}
