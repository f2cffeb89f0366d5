//! A status page as HTML: one document, its style within it, no script.

use std::fmt::Write as _;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use pilothouse_probes::status::{CheckReport, Report, State};
use sha2::{Digest as _, Sha256};

const STYLE: &str = include_str!("style.css");

/// The one style that may be used, by its hash.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = STANDARD.encode(Sha256::digest(STYLE));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
});

pub(super) fn policy() -> &'static str {
    &POLICY
}

/// The page asks for itself again every minute.
pub(super) fn html(title: &str, now_ms: i64, report: &Report) -> String {
    let updated = Timestamp::from_millisecond(now_ms).unwrap_or_default();
    let updated = updated.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="refresh" content="60";
                title { (title) ": " (word(report.state)) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    h1 { (title) }
                    p class={ "whole " (class(report.state)) } { (sentence(report)) }
                    ul { @for check in &report.checks { (card(check)) } }
                    footer class="soft" { "Updated " (updated) ", shown again every minute." }
                }
            }
        }
    };
    page.into_string()
}

fn card(check: &CheckReport) -> Markup {
    let latest = check.latency.iter().rev().find_map(|value| *value);
    html! {
        li class="check" {
            div class="head" {
                h2 { (check.job) }
                span class={ "state " (class(check.state)) } { (word(check.state)) }
            }
            p class="soft" { (check.kind) @if !check.target.is_empty() { " · " (check.target) } (places(check)) }
            dl {
                @for (name, share) in [
                    ("24 h", check.uptime.day), ("7 days", check.uptime.week), ("30 days", check.uptime.month)
                ] {
                    div { dt { (name) } dd { (percent(share)) } }
                }
                div { dt { "latency" } dd { (latest.map_or_else(|| "–".to_owned(), seconds)) } }
            }
            (sparkline(&check.latency))
        }
    }
}

/// From where a check fails, if not from everywhere.
fn places(check: &CheckReport) -> String {
    let failing: Vec<&str> =
        check.places.iter().filter(|place| !place.good).map(|place| place.probe.as_str()).collect();
    if check.state == State::Degraded {
        format!(" · fails from {}", failing.join(", "))
    } else {
        String::new()
    }
}

fn class(state: State) -> &'static str {
    match state {
        State::Up => "up",
        State::Degraded => "degraded",
        State::Down => "down",
        State::Unknown => "unknown",
        State::Paused => "paused",
    }
}

fn word(state: State) -> &'static str {
    match state {
        State::Up => "Up",
        State::Degraded => "Degraded",
        State::Down => "Down",
        State::Unknown => "No data",
        State::Paused => "Paused",
    }
}

fn sentence(report: &Report) -> String {
    let failing = report.checks.iter().filter(|c| matches!(c.state, State::Down | State::Degraded)).count();
    match (report.state, report.checks.len()) {
        (_, 0) => "Nothing is shown here yet".to_owned(),
        (State::Up, _) => "All services are up".to_owned(),
        (State::Down | State::Degraded, all) => format!("{failing} of {all} services have problems"),
        (State::Unknown | State::Paused, _) => "There is no data yet".to_owned(),
    }
}

/// Two digits, never rounded up to a whole that it is not.
fn percent(share: Option<f64>) -> String {
    match share {
        None => "–".to_owned(),
        Some(share) if share >= 1.0 => "100 %".to_owned(),
        Some(share) => format!("{:.2} %", (share * 10_000.0).floor() / 100.0),
    }
}

fn seconds(value: f64) -> String {
    if value < 0.001 {
        format!("{:.2} ms", value * 1e3)
    } else if value < 1.0 {
        format!("{:.0} ms", value * 1e3)
    } else {
        format!("{value:.2} s")
    }
}

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 40.0;
/// Kept free around the line.
const MARGIN: f64 = 3.0;

/// The latencies of a day as lines; where nothing ran there is a gap.
fn sparkline(values: &[Option<f64>]) -> Markup {
    let highest = values.iter().flatten().copied().fold(0.0, f64::max);
    if highest <= 0.0 {
        return html! {};
    }
    let label = format!("Latency of the last 24 hours, at most {}", seconds(highest));
    html! {
        svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } preserveAspectRatio="none" role="img" aria-label=(label) {
            title { (label) }
            path d=(path(values, highest)) fill="none" stroke="currentColor" stroke-width="2"
                stroke-linecap="round" stroke-linejoin="round" vector-effect="non-scaling-stroke" {}
        }
    }
}

fn path(values: &[Option<f64>], highest: f64) -> String {
    let step = (WIDTH - 2.0 * MARGIN) / (values.len().saturating_sub(1).max(1) as f64);
    let (mut path, mut drawn) = (String::new(), false);
    for (at, value) in values.iter().enumerate() {
        let Some(value) = value else {
            drawn = false;
            continue;
        };
        let (x, y) = (MARGIN + at as f64 * step, HEIGHT - MARGIN - value / highest * (HEIGHT - 2.0 * MARGIN));
        // A short line shows a value between two gaps. Writing to a String does not fail.
        let _ = if drawn { write!(path, "L{x:.1} {y:.1}") } else { write!(path, "M{:.1} {y:.1}h2", x - 1.0) };
        drawn = true;
    }
    path
}

#[cfg(test)]
mod tests {
    use pilothouse_probes::status::{Place, Uptimes};

    use super::*;

    fn check(state: State) -> CheckReport {
        CheckReport {
            id: 1,
            job: "<b>front</b>".into(),
            target: String::new(),
            kind: "http",
            state,
            places: vec![
                Place { probe: "here".into(), good: true },
                Place { probe: "there".into(), good: false },
            ],
            uptime: Uptimes { day: Some(0.99999), week: Some(1.0), month: None },
            latency: vec![None, Some(0.5), Some(1.0), None, Some(0.25)],
        }
    }

    #[test]
    fn a_page_is_escaped_and_says_how_things_stand() {
        let report = Report { state: State::Degraded, checks: vec![check(State::Degraded)] };
        let page = html("A & B", 1_700_000_000_000, &report);
        for part in [
            "<title>A &amp; B: Degraded</title>",
            "&lt;b&gt;front&lt;/b&gt;",
            "1 of 1 services have problems",
            "http · fails from there",
            "<dd>99.99 %</dd>",
            "<dd>100 %</dd>",
            "<dd>–</dd>",
            "<dd>250 ms</dd>",
            "2023-11-14 22:13:20 UTC",
        ] {
            assert!(page.contains(part), "{part} in {page}");
        }
        assert!(!page.contains("<script") && !page.contains("style=") && !page.contains("://"), "{page}");
        assert!(policy().contains("default-src 'none'"));
    }

    #[test]
    fn gaps_part_the_line() {
        let drawn = path(&check(State::Up).latency, 1.0);
        assert_eq!(drawn, "M120.5 20.0h2L240.0 3.0M476.0 28.5h2");
        assert!(sparkline(&[None, None]).into_string().is_empty());
    }
}
