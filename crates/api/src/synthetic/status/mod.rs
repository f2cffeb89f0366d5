//! Status pages: `/status/<name>` as a page or as JSON.
//!
//! A page is made for strangers' eyes: it names no target unless told to, loads nothing from
//! elsewhere, runs no script, and asking for it often costs no more than asking once, since
//! everybody is shown the same answer for a while.

mod page;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderName, StatusCode, header};
use parking_lot::RwLock;
use pilothouse_probes::status::{LATENCY_STEP_MS, Report, State, StatusPage, Uptimes, report, uptimes};
use pilothouse_probes::words::Check;
use serde_json::json;
use tokio::sync::Mutex;

use super::Synthetic;
use crate::App;
use crate::admission::InTurn;
use crate::auth::Refusal;
use crate::client::Client;
use crate::error::ApiError;
use crate::reply::Reply;
use crate::routes::Scope;
use crate::service::Call;

/// How long a report is shown.
const REPORT_TTL: Duration = Duration::from_secs(15);
/// How long one is that knows nothing of a check, as after a start.
const UNKNOWN_TTL: Duration = Duration::from_secs(2);
/// How long the uptimes of a week and a month are: they cost most and change least.
const UPTIMES_TTL: Duration = Duration::from_secs(300);

/// The pages that the configuration names.
#[derive(Debug, Default)]
pub struct StatusPages(RwLock<HashMap<String, Arc<Page>>>);

impl StatusPages {
    /// Takes over a configuration. A page that is said as before keeps what it has.
    pub fn replace(&self, pages: Vec<StatusPage>) {
        let mut known = self.0.write();
        let before = std::mem::take(&mut *known);
        for config in pages {
            let kept = before.get(&config.name).filter(|page| page.config == config);
            let page = kept.map_or_else(|| Arc::new(Page::of(config.clone())), Arc::clone);
            known.insert(config.name, page);
        }
    }

    fn get(&self, name: &str) -> Option<Arc<Page>> {
        self.0.read().get(name).cloned()
    }
}

#[derive(Debug)]
struct Page {
    config: StatusPage,
    /// Held while an answer is made, so that it is made once for all who ask.
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    report: Option<(Instant, Arc<Shown>)>,
    uptimes: Option<(Instant, Arc<Long>)>,
}

type Long = HashMap<(String, String), Uptimes>;

/// A report, and when it was made.
#[derive(Debug)]
struct Shown {
    now_ms: i64,
    report: Report,
}

impl Shown {
    fn ttl(&self) -> Duration {
        let unknown = self.report.checks.iter().any(|check| check.state == State::Unknown);
        if unknown { UNKNOWN_TTL } else { REPORT_TTL }
    }
}

impl Page {
    fn of(config: StatusPage) -> Self {
        Self { config, known: Mutex::default() }
    }

    async fn shown(&self, app: &Arc<App>, synthetic: &Synthetic) -> Result<Arc<Shown>, ApiError> {
        let mut known = self.known.lock().await;
        let fresh = known.report.as_ref().filter(|(at, shown)| at.elapsed() < shown.ttl());
        if let Some((_, shown)) = fresh {
            return Ok(Arc::clone(shown));
        }
        let long = known.uptimes.as_ref().filter(|(at, _)| at.elapsed() < UPTIMES_TTL);
        let long = long.map(|(_, long)| Arc::clone(long));
        let (shown, long) = self.make(app, synthetic, long).await?;
        known.report = Some((Instant::now(), Arc::clone(&shown)));
        if let Some(long) = long {
            known.uptimes = Some((Instant::now(), long));
        }
        Ok(shown)
    }

    /// A report, and uptimes if there were none to make it with.
    async fn make(
        &self,
        app: &Arc<App>,
        synthetic: &Synthetic,
        known: Option<Arc<Long>>,
    ) -> Result<(Arc<Shown>, Option<Arc<Long>>), ApiError> {
        let most = usize::try_from(app.limits().max_status_page_checks).unwrap_or(usize::MAX);
        let all = synthetic.registry.all_checks();
        let checks: Vec<Check> =
            all.into_iter().filter(|check| self.config.shows(check)).take(most).collect();
        let now_ms = app.now_ms();
        let source = Arc::clone(&app.backend()?.source);
        let show_targets = self.config.show_targets;
        let work = move |_: &App, asked: &InTurn| {
            let fresh = match &known {
                Some(_) => None,
                None => Some(Arc::new(uptimes(&checks, &*source, &asked.budget, now_ms)?)),
            };
            let long = fresh.clone().or(known).unwrap_or_default();
            let report = report(&checks, show_targets, &long, &*source, &asked.budget, now_ms)?;
            Ok((Arc::new(Shown { now_ms, report }), fresh))
        };
        app.in_turn(Client::own("status page"), None, work).await
    }
}

/// A page that is not public asks for a token that may read metrics, and so does one that does
/// not exist: who may not read learns no names.
pub(super) async fn answer(app: &Arc<App>, synthetic: &Synthetic, call: &Call) -> Result<Reply, ApiError> {
    let segment = call.segment("name");
    let name = segment.strip_suffix(".json").unwrap_or(segment);
    let page = synthetic.pages.get(name);
    let public = page.as_ref().is_some_and(|page| page.config.public);
    if !public && let Err(refusal) = app.settings.auth.admit(Scope::ReadMetrics, &call.parts.headers) {
        return Ok(refused(app, call, refusal).await);
    }
    let Some(page) = page else {
        return Ok(guarded(Reply::text(StatusCode::NOT_FOUND, "404 page not found\n")));
    };
    let shown = page.shown(app, synthetic).await?;
    let as_json = segment.ends_with(".json") || prefers_json(call.header(header::ACCEPT));
    let reply = if as_json { as_document(&page.config, &shown) } else { as_page(&page.config, &shown) };
    let kept = if public { "public, max-age=15" } else { "private, no-cache" };
    Ok(guarded(reply.header(header::CACHE_CONTROL, kept).header(header::VARY, "Accept")))
}

/// Browsers ask for a name and a password then; the password is the token.
async fn refused(app: &App, call: &Call, refusal: Refusal) -> Reply {
    let status = match refusal {
        Refusal::Unauthorized => {
            app.failures.hold(call.peer()).await;
            StatusCode::UNAUTHORIZED
        }
        Refusal::Forbidden => StatusCode::FORBIDDEN,
    };
    let reply = Reply::text(status, "a token that may read metrics is needed\n");
    guarded(reply.header(header::WWW_AUTHENTICATE, "Basic realm=\"pilothouse\", charset=\"UTF-8\""))
}

/// Whether JSON is named before HTML.
fn prefers_json(accept: &str) -> bool {
    let place = |kind: &str| accept.find(kind).unwrap_or(usize::MAX);
    place("application/json") < place("text/html")
}

fn as_document(config: &StatusPage, shown: &Shown) -> Reply {
    let day_ms = LATENCY_STEP_MS * i64::try_from(latencies(shown)).unwrap_or(0);
    let document = json!({
        "name": config.name,
        "title": config.title(),
        "updated": shown.now_ms as f64 / 1_000.0,
        "state": shown.report.state,
        "latency_start": (shown.now_ms - day_ms) as f64 / 1_000.0,
        "latency_step": LATENCY_STEP_MS / 1_000,
        "checks": shown.report.checks,
    });
    Reply::new(StatusCode::OK, "application/json; charset=utf-8", document.to_string())
}

fn latencies(shown: &Shown) -> usize {
    shown.report.checks.first().map_or(0, |check| check.latency.len())
}

fn as_page(config: &StatusPage, shown: &Shown) -> Reply {
    let text = page::html(config.title(), shown.now_ms, &shown.report);
    Reply::new(StatusCode::OK, "text/html; charset=utf-8", text)
}

/// Nothing is loaded, run, framed or sent; the one style is the page's own.
fn guarded(reply: Reply) -> Reply {
    reply
        .header(header::CONTENT_SECURITY_POLICY, page::policy())
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
        .header(header::REFERRER_POLICY, "no-referrer")
        .header(HeaderName::from_static("cross-origin-opener-policy"), "same-origin")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_sent_when_it_is_asked_for_first() {
        for (accept, expected) in [
            ("application/json", true),
            ("text/html,application/xhtml+xml,*/*;q=0.8", false),
            ("application/json, text/html", true),
            ("text/html, application/json", false),
            ("*/*", false),
            ("", false),
        ] {
            assert_eq!(prefers_json(accept), expected, "{accept}");
        }
    }
}
