//! What is scraped, in Prometheus' words.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use pilothouse_model::write::MetadataEntry;
use pilothouse_model::{Annotations, Labels, Matcher};
use pilothouse_scrape::TargetView;

use crate::App;
use crate::answer::{success, success_object};
use crate::error::ApiError;
use crate::json::{push_list, push_object, push_string};
use crate::metrics::language;
use crate::reply::Reply;
use crate::service::Call;
use crate::telemetry::Family;

/// `state` (active, dropped or any) and `scrapePool` narrow the answer. Counts of dropped targets
/// are those of all jobs.
pub(crate) fn targets(app: &App, call: &Call) -> Result<Reply, ApiError> {
    let state = call.params.text("state").to_ascii_lowercase();
    let shows = |which: &str| matches!(state.as_str(), "" | "any") || state == which;
    let pool = call.params.text("scrapePool");
    let is_wanted = |name: &str| pool.is_empty() || name == pool;
    let mut active = Vec::new();
    let (mut dropped, mut counts) = (Vec::new(), None);
    if let Some(scraper) = app.scraper() {
        if shows("active") {
            active = scraper.active();
            active.retain(|target| is_wanted(&target.pool));
        }
        if shows("dropped") {
            let all = scraper.dropped();
            counts = Some(all.iter().map(|of| (of.pool.clone(), of.count)).collect());
            let kept = all.into_iter().filter(|of| is_wanted(&of.pool));
            dropped.extend(
                kept.flat_map(|of| of.discovered.into_iter().map(move |labels| (of.pool.clone(), labels))),
            );
        }
    }
    let host = host_of(&app.address(&call.parts.headers));
    let counts: BTreeMap<String, usize> = counts.unwrap_or_default();
    let show = || {
        success_object(|object| {
            object.list("activeTargets", &active, |out, target| push_target(out, target, &host));
            object.list("droppedTargets", &dropped, |out, (pool, labels)| {
                push_object(out, |object| {
                    object.labels("discoveredLabels", labels);
                    object.text("scrapePool", pool);
                });
            });
            object.object("droppedTargetCounts", |object| {
                counts.iter().for_each(|(pool, count)| object.count(pool, *count));
            });
        })
    };
    app.listing((active.len() + dropped.len()) * TARGET_BYTES, show)
}

/// What a target, or a family of one, takes in an answer.
const TARGET_BYTES: usize = 2 << 10;
const FAMILY_BYTES: usize = 512;

fn push_target(out: &mut String, target: &TargetView, host: &str) {
    let health = match (&target.last_error, target.last_scrape_ms) {
        (_, None) => "unknown",
        (None, Some(_)) => "up",
        (Some(_), Some(_)) => "down",
    };
    push_object(out, |object| {
        object.labels("discoveredLabels", &target.discovered);
        object.labels("labels", &target.labels);
        object.text("scrapePool", &target.pool);
        object.text("scrapeUrl", &target.url);
        object.text("globalUrl", &global_url(&target.url, host));
        object.text("lastError", target.last_error.as_deref().unwrap_or(""));
        object.time("lastScrape", target.last_scrape_ms);
        object.text("health", health);
        object.text("scrapeInterval", &target.interval);
        object.text("scrapeTimeout", &target.timeout);
        object.float("lastScrapeDuration", target.last_duration_s);
    });
}

/// The host of an address with a scheme.
fn host_of(address: &str) -> String {
    let host = address.split_once("://").map_or(address, |(_, rest)| rest);
    let host = host.split('/').next().unwrap_or("");
    split_port(host).0.to_owned()
}

/// Host and port; the brackets of an IPv6 address belong to the host.
fn split_port(host: &str) -> (&str, &str) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port),
        _ => (host, ""),
    }
}

/// The address of a target as others reach it: what is local here is where this server is.
fn global_url(url: &str, host: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (name, port) = split_port(authority);
    if !matches!(name, "localhost" | "127.0.0.1" | "[::1]") {
        return url.to_owned();
    }
    let port = if port.is_empty() { String::new() } else { format!(":{port}") };
    format!("{scheme}://{host}{port}{path}")
}

pub(crate) fn scrape_pools(app: &App) -> Reply {
    let pools = app.scraper().map(pilothouse_scrape::Scraper::pools).unwrap_or_default();
    success_object(|object| object.list("scrapePools", pools, |out, pool| push_string(out, &pool)))
}

/// What targets say of their families: `match_target`, `metric` and `limit` narrow it. The family
/// is named only where it was not asked for. The limit is asked between targets.
pub(crate) fn metadata(app: &App, call: &Call) -> Result<Reply, ApiError> {
    let limit = call.params.number("limit").map_err(|_| ApiError::bad_data("limit must be a number"))?;
    let limit = limit.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
    let matchers = match call.params.text("match_target") {
        "" => Vec::new(),
        text => {
            language::selector(text, &app.limits()).map_err(|e| ApiError::parameter("match_target", e))?
        }
    };
    let metric = call.params.text("metric");
    let matches = |labels: &Labels| matchers.iter().all(|m: &Matcher| m.matches(labels.value(&m.name)));
    let mut found: Vec<(Labels, std::sync::Arc<MetadataEntry>)> = Vec::new();
    for (labels, families) in app.scraper().map(pilothouse_scrape::Scraper::metadata).unwrap_or_default() {
        if found.len() >= limit {
            break;
        }
        if matches(&labels) {
            let wanted = families.into_iter().filter(|entry| metric.is_empty() || entry.family == metric);
            found.extend(wanted.map(|entry| (labels.clone(), entry)));
        }
    }
    let show = || {
        success(&Annotations::default(), |out| {
            push_list(out, &found, |out, (labels, entry)| push_entry(out, labels, entry, metric.is_empty()));
        })
    };
    app.listing(found.len() * FAMILY_BYTES, show)
}

fn push_entry(out: &mut String, labels: &Labels, entry: &MetadataEntry, named: bool) {
    push_object(out, |object| {
        object.labels("target", labels);
        if named {
            object.text("metric", &entry.family);
        }
        object.texts([("type", entry.metric_type.as_str()), ("help", &entry.help), ("unit", &entry.unit)]);
    });
}

/// How scraping goes, for the own metrics.
pub(crate) fn families(app: &App) -> Vec<Family> {
    let Some(scraper) = app.scraper() else { return Vec::new() };
    let stats = scraper.stats();
    let (active, down) = scraper.counts();
    let counter =
        |name, help, count: &AtomicU64| Family::counter(name, help).value(count.load(Relaxed) as f64);
    vec![
        Family::gauge("pilothouse_scrape_targets", "Targets that are scraped.").value(active as f64),
        Family::gauge("pilothouse_scrape_targets_down", "Targets whose last scrape failed.")
            .value(down as f64),
        counter("pilothouse_scrapes_total", "Scrapes, failed ones included.", &stats.scrapes),
        counter("pilothouse_scrape_failures_total", "Scrapes that failed.", &stats.failed_scrapes),
        counter(
            "pilothouse_scrapes_left_out_total",
            "Scrapes whose body found no room in memory; of their targets nothing is said.",
            &stats.left_out,
        ),
        counter("pilothouse_scrape_samples_total", "Samples that targets exposed.", &stats.samples),
        counter(
            "pilothouse_scrape_duplicate_samples_total",
            "Samples of one series and time in one scrape; the first is kept.",
            &stats.duplicate_samples,
        ),
        counter(
            "pilothouse_scrape_refused_samples_total",
            "Scraped samples that the store refused.",
            &stats.refused_samples,
        ),
        counter(
            "pilothouse_scrape_append_failures_total",
            "Scrapes that could not be stored.",
            &stats.failed_appends,
        ),
        counter(
            "pilothouse_scrape_bad_targets_total",
            "Discovered targets that could not be made targets.",
            &stats.bad_targets,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_local_here_is_where_this_server_is_for_others() {
        assert_eq!(host_of("http://example.org:9009"), "example.org");
        assert_eq!(host_of("http://[::1]:9009/x"), "[::1]");
        for (url, expected) in [
            ("http://localhost:9100/metrics", "http://h:9100/metrics"),
            ("http://127.0.0.1/m?x=1", "http://h/m?x=1"),
            ("http://[::1]:1", "http://h:1"),
            ("http://10.0.0.1:9100/metrics", "http://10.0.0.1:9100/metrics"),
        ] {
            assert_eq!(global_url(url, "h"), expected);
        }
    }
}
