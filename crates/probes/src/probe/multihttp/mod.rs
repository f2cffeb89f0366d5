//! Several requests in order, with assertions, variables from one to the next, and one jar of
//! cookies. Redirects are answers like any other: nothing follows them here.

mod assertion;
mod inspected;
mod page;
mod tree;
mod variables;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use cookie_store::CookieStore;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use pilothouse_model::memory::Reservation;
use pilothouse_model::{Memory, NoMemory, limits};
use url::Url;

use super::LocalProber;
use super::clock::in_time;
use super::http::{
    Answer, Hop, HttpError, INLINE_BYTES, Phases, Sent, keep_cookies, set_run_by, version_number,
};
use crate::run::{Recorder, Target};
use crate::words::{
    HttpMethod, HttpSettings, MultiHttpAssertion, MultiHttpEntry, MultiHttpRequest, MultiHttpSettings,
    MultiHttpVariable, VariableType,
};

use assertion::Tally;
use inspected::Inspected;
use variables::Variables;

pub(super) async fn probe(
    prober: &LocalProber,
    target: &Target<'_>,
    settings: &MultiHttpSettings,
    recorder: &mut Recorder,
) -> Result<bool, NoMemory> {
    let started = Instant::now();
    let mut run = Run {
        prober,
        target,
        variables: Variables::default(),
        cookies: CookieStore::default(),
        totals: Totals::default(),
        tally: Tally::default(),
        deadline: started + target.timeout,
        broken: false,
    };
    let mut good = true;
    for (number, entry) in settings.entries.iter().enumerate() {
        good = run.step(number, entry, settings.log_responses, recorder).await?;
        if !good {
            break;
        }
    }
    run.totals.take_down(recorder);
    let seconds = started.elapsed().as_secs_f64();
    recorder.gauge("probe_iteration_duration_seconds", "Duration of an iteration", SCENARIO, seconds);
    Ok(good)
}

/// Pages up to this are looked into on the spot.
const INLINE_PAGE_BYTES: usize = 4 << 10;

const SCENARIO: &[(&str, &str)] = &[("scenario", "default")];

#[derive(Debug, Default)]
struct Totals {
    requests: u32,
    sent_bytes: usize,
    received_bytes: usize,
}

impl Totals {
    fn take_down(&self, recorder: &mut Recorder) {
        recorder.gauge("probe_data_sent_bytes", "Bytes sent", SCENARIO, self.sent_bytes as f64);
        recorder.gauge("probe_data_received_bytes", "Bytes received", SCENARIO, self.received_bytes as f64);
    }
}

struct Run<'a> {
    prober: &'a LocalProber,
    target: &'a Target<'a>,
    variables: Variables,
    cookies: CookieStore,
    totals: Totals,
    tally: Tally,
    deadline: Instant,
    /// A request got no answer; the assertions that follow fail.
    broken: bool,
}

impl Run<'_> {
    /// One entry: its request, its assertions, its variables. `false` ends the run.
    async fn step(
        &mut self,
        number: usize,
        entry: &MultiHttpEntry,
        log_body: bool,
        recorder: &mut Recorder,
    ) -> Result<bool, NoMemory> {
        let Some(request) = &entry.request else { return Ok(false) };
        let labels = Labels::of(number, request);
        let mut phases = Phases::default();
        let left = self.deadline.saturating_duration_since(Instant::now());
        let answer = match in_time(left, self.send(request, &mut phases, recorder)).await {
            Ok(answer) => Some(answer),
            Err(HttpError::NoMemory(full)) => return Err(full),
            Err(e) => {
                recorder.error("Error for HTTP request", &[("url", &request.url), ("err", &e)]);
                self.broken = true;
                None
            }
        };
        self.totals.requests += 1;
        labels.take_down(answer.as_ref(), &phases, recorder);
        if let Some(answer) = &answer {
            self.totals.received_bytes += answer.body.len();
            if log_body {
                let body = String::from_utf8_lossy(
                    answer.body.get(..limits::CHECK_LOGGED_BODY_BYTES).unwrap_or(&answer.body),
                );
                recorder.info("Response body", &[("url", &request.url), ("body", &body)]);
            }
        }
        let findings = match answer {
            Some(answer) if !self.broken => {
                found(self.prober, entry, Inspected::new(answer, self.deadline)).await?
            }
            _ => Findings::default(),
        };
        for (i, assertion) in entry.assertions.iter().enumerate() {
            let held = i < findings.held;
            self.tally.take_down(assertion, held, (labels.method, &labels.url), recorder);
            if !held {
                return Ok(false);
            }
        }
        self.variables.keep(findings.values);
        // A request without an answer fails the assertions that follow, not the run by itself.
        Ok(true)
    }

    async fn send(
        &mut self,
        request: &MultiHttpRequest,
        phases: &mut Phases,
        recorder: &mut Recorder,
    ) -> Result<Answer, HttpError> {
        let wrong = |e: String| HttpError::Request(e);
        let mut url = Url::parse(&self.variables.fill(&request.url)).map_err(|e| wrong(e.to_string()))?;
        for field in &request.query_fields {
            url.query_pairs_mut()
                .append_pair(&self.variables.fill(&field.name), &self.variables.fill(&field.value));
        }
        let sent = self.sent(request).map_err(wrong)?;
        self.totals.sent_bytes += sent.body.len();
        let settings = HttpSettings::default();
        let hop = Hop { prober: self.prober, settings: &settings };
        let mut aside = Recorder::default();
        let answer = hop.send(&url, &sent, &self.cookies, phases, &mut aside).await?;
        let status = answer.status.as_u16();
        recorder.info("Received HTTP response", &[("url", &request.url), ("status_code", &status)]);
        keep_cookies(&mut self.cookies, &answer, &url);
        Ok(answer)
    }

    fn sent(&self, request: &MultiHttpRequest) -> Result<Sent, String> {
        let mut headers = HeaderMap::new();
        for h in &request.headers {
            let name = HeaderName::from_bytes(h.name.as_bytes()).map_err(|e| e.to_string())?;
            let value = HeaderValue::from_str(&self.variables.fill(&h.value)).map_err(|e| e.to_string())?;
            headers.append(name, value);
        }
        let mut body = Vec::new();
        if let Some(wanted) = &request.body {
            let text = String::from_utf8_lossy(&wanted.payload);
            body = self.variables.fill(&text).into_bytes();
            for (name, value) in [
                (header::CONTENT_TYPE, &wanted.content_type),
                (header::CONTENT_ENCODING, &wanted.content_encoding),
            ] {
                if !value.is_empty() {
                    headers.insert(name, HeaderValue::from_str(value).map_err(|e| e.to_string())?);
                }
            }
        }
        set_run_by(&mut headers, &self.target.run_by);
        let method = HttpMethod::try_from(request.method).unwrap_or_default().text();
        Ok(Sent {
            method: Method::from_bytes(method.as_bytes()).map_err(|e| e.to_string())?,
            headers,
            body: body.into(),
        })
    }
}

/// What the words of an entry find in its answer.
#[derive(Debug, Default)]
struct Findings {
    /// How many of the assertions hold, from the first on; the first that does not ends the run.
    held: usize,
    /// Of the variables, where all assertions hold.
    values: Vec<(String, String)>,
}

impl Findings {
    fn of(
        assertions: &[MultiHttpAssertion],
        variables: &[MultiHttpVariable],
        inspected: &mut Inspected,
    ) -> Result<Self, NoMemory> {
        for (held, assertion) in assertions.iter().enumerate() {
            if inspected.is_late() || !assertion::holds(assertion, inspected)? {
                return Ok(Self { held, values: Vec::new() });
            }
        }
        Ok(Self { held: assertions.len(), values: variables::values(variables, inspected)? })
    }
}

/// Long bodies are searched and taken apart off the async workers, a page that a selector looks into
/// long before it is long.
async fn found(
    prober: &LocalProber,
    entry: &MultiHttpEntry,
    mut inspected: Inspected,
) -> Result<Findings, NoMemory> {
    let selects = entry.variables.iter().any(|v| v.kind == VariableType::CssSelector as i32);
    let inline_bytes = if selects { INLINE_PAGE_BYTES } else { INLINE_BYTES };
    if inspected.answer.body.len() <= inline_bytes {
        return Findings::of(&entry.assertions, &entry.variables, &mut inspected);
    }
    let (assertions, variables) = (entry.assertions.clone(), entry.variables.clone());
    let looking = prober.readers.run(move || Findings::of(&assertions, &variables, &mut inspected));
    // If that panicked, nothing holds.
    looking.await.unwrap_or_else(|_| Ok(Findings::default()))
}

/// What a variable finds in a body, as a run would before its deadline. The empty text where it finds
/// nothing.
pub fn found_in(
    variable: &MultiHttpVariable,
    body: Bytes,
    deadline: Instant,
    memory: &Arc<Memory>,
) -> Result<String, NoMemory> {
    let answer = Answer {
        status: StatusCode::OK,
        version: Version::HTTP_11,
        headers: HeaderMap::new(),
        body,
        held: Reservation::nothing(memory),
        encrypted: false,
    };
    let found = variables::find(variable, &mut Inspected::new(answer, deadline))?;
    Ok(found.unwrap_or_default())
}

/// What tells the series of one request from those of another.
struct Labels {
    name: String,
    method: &'static str,
    url: String,
}

impl Labels {
    fn of(number: usize, request: &MultiHttpRequest) -> Self {
        Self {
            name: number.to_string(),
            method: HttpMethod::try_from(request.method).unwrap_or_default().text(),
            url: request.url.clone(),
        }
    }

    fn take_down(&self, answer: Option<&Answer>, phases: &Phases, recorder: &mut Recorder) {
        let own: [(&'static str, &str); 4] =
            [("scenario", "default"), ("name", &self.name), ("method", self.method), ("url", &self.url)];
        for (phase, seconds) in phases.each() {
            let labels = [own.as_slice(), &[("phase", phase)]].concat();
            recorder.gauge(
                "probe_http_duration_seconds",
                "Duration of http request by phase",
                &labels,
                seconds,
            );
        }
        let status = answer.map_or(0, |a| a.status.as_u16());
        let failed = answer.is_none_or(|a| a.status.is_client_error() || a.status.is_server_error());
        let number = |flag: bool| f64::from(u8::from(flag));
        for (name, help, value) in [
            ("probe_http_status_code", "Response HTTP status code", f64::from(status)),
            (
                "probe_http_version",
                "Returns the version of HTTP of the probe response",
                answer.map_or(0.0, |a| version_number(a.version)),
            ),
            ("probe_http_ssl", "Indicates if SSL was used", number(answer.is_some_and(|a| a.encrypted))),
            ("probe_http_requests_total", "Requests made", 1.0),
            ("probe_http_requests_failed_total", "Requests that failed", number(failed)),
            ("probe_http_got_expected_response", "Whether the response was expected", number(!failed)),
        ] {
            recorder.gauge(name, help, &own, value);
        }
        let proto = answer.map_or(String::new(), |a| format!("{:?}", a.version));
        let status = status.to_string();
        let labels = [own.as_slice(), &[("status", &status), ("proto", &proto)]].concat();
        recorder.gauge("probe_http_info", "Information about the request", &labels, 1.0);
    }
}
