//! Which checks and probes hold, in the order and with the words of the real API: the first rule
//! that fails is the one that is told.

mod http;
mod multihttp;
mod target;

use std::collections::HashSet;

use pilothouse_model::limits::{self, Limits};
use prost::Message;

pub(crate) use multihttp::is_shallow;

use crate::words::{AdHocCheck, Check, CheckKind, CheckSettings, DnsSettings, Label, PingSettings, Probe};

/// One rule that failed; the text is the answer's `err`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub String);

impl Invalid {
    fn because(text: &str) -> Self {
        Self(text.to_owned())
    }
}

type Held = Result<(), Invalid>;

/// `Err` with a text unless a condition holds.
fn hold(condition: bool, text: &str) -> Held {
    if condition { Ok(()) } else { Err(Invalid::because(text)) }
}

/// What a tenant may have of each thing.
#[derive(Debug, Clone, Copy)]
pub struct LabelRules {
    pub max_labels: usize,
    /// Of a name, and of a value.
    pub max_bytes: usize,
}

impl From<&Limits> for LabelRules {
    fn from(limits: &Limits) -> Self {
        let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        Self { max_labels: size(limits.max_check_labels), max_bytes: size(limits.max_check_label_bytes) }
    }
}

/// Reserved for series that are not a user's.
const INTERNAL: &str = "__internal__";
const HOUR_MS: i64 = 3_600_000;

pub fn check(check: &Check, rules: LabelRules) -> Held {
    hold(!check.probes.is_empty(), "invalid check probes")?;
    hold(!check.target.is_empty() && check.target != INTERNAL, "invalid check target")?;
    hold(!check.job.is_empty() && check.job != INTERNAL, "invalid check job")?;
    let kind = check.kind().ok_or_else(|| Invalid::because("invalid check settings"))?;
    refuse_scripts(kind)?;
    frequency(kind, check.frequency)?;
    timeout(kind, check.timeout, check.frequency)?;
    hold(check.offset >= 0, "invalid check offset")?;
    labels(&check.labels, rules)?;
    settings(check.settings.as_ref())?;
    size(check)?;
    target::holds(kind, &check.target)
}

fn size(check: &impl Message) -> Held {
    let (bytes, limit) = (check.encoded_len(), limits::CHECK_BYTES);
    if bytes <= limit {
        return Ok(());
    }
    Err(Invalid(format!("a check may have at most {limit} bytes, and this one has {bytes}")))
}

pub fn adhoc(check: &AdHocCheck) -> Held {
    hold(!check.probes.is_empty(), "invalid check probes")?;
    hold(!check.target.is_empty() && check.target != INTERNAL, "invalid check target")?;
    let kind = check.settings.as_ref().and_then(CheckSettings::kind);
    let kind = kind.ok_or_else(|| Invalid::because("invalid check settings"))?;
    refuse_scripts(kind)?;
    timeout(kind, check.timeout, check.timeout)?;
    settings(check.settings.as_ref())?;
    size(check)?;
    target::holds(kind, &check.target)
}

pub fn probe(probe: &Probe, rules: LabelRules) -> Held {
    hold(!probe.name.is_empty(), "invalid probe name")?;
    hold(probe.labels.len() <= limits::PROBE_LABELS, "too many probe labels")?;
    labels(&probe.labels, rules)?;
    hold((-90.0..=90.0).contains(&probe.latitude), "invalid probe latitude")?;
    hold((-180.0..=180.0).contains(&probe.longitude), "invalid probe longitude")
}

/// They run in a separate program that this server does not carry.
fn refuse_scripts(kind: CheckKind) -> Held {
    match kind {
        CheckKind::Scripted | CheckKind::Browser => {
            Err(Invalid(format!("{} checks are not supported by this server", kind.name())))
        }
        _ => Ok(()),
    }
}

fn frequency(kind: CheckKind, frequency_ms: i64) -> Held {
    let least = match kind {
        CheckKind::Traceroute => 120_000,
        CheckKind::Scripted | CheckKind::MultiHttp | CheckKind::Browser => 60_000,
        _ => 1_000,
    };
    hold((least..=HOUR_MS).contains(&frequency_ms), "invalid check frequency")
}

fn timeout(kind: CheckKind, timeout_ms: i64, frequency_ms: i64) -> Held {
    let (least, most) = match kind {
        CheckKind::Traceroute => (30_000, 30_000),
        CheckKind::Scripted | CheckKind::MultiHttp | CheckKind::Browser => (1_000, 180_000),
        _ => (1_000, 60_000),
    };
    hold((least..=most.min(frequency_ms)).contains(&timeout_ms), "invalid check timeout")
}

fn labels(labels: &[Label], rules: LabelRules) -> Held {
    if labels.len() > rules.max_labels {
        return Err(Invalid(format!("too many labels: {}, limit {}", labels.len(), rules.max_labels)));
    }
    let mut seen = HashSet::new();
    for label in labels {
        if !seen.insert(label.name.as_str()) {
            return Err(Invalid(format!("label name {}: duplicate label name", label.name)));
        }
        let fits = |text: &str| !text.is_empty() && text.len() <= rules.max_bytes;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        hold(fits(&label.name) && label.name.bytes().all(plain), "invalid label name")?;
        hold(fits(&label.value), "invalid label value")?;
    }
    Ok(())
}

fn settings(settings: Option<&CheckSettings>) -> Held {
    let Some(settings) = settings else { return Err(Invalid::because("invalid check settings")) };
    if let Some(ping) = &settings.ping {
        return ping_settings(ping);
    }
    if let Some(dns) = &settings.dns {
        return dns_settings(dns);
    }
    if let Some(http) = &settings.http {
        return http::settings(http);
    }
    if let Some(multihttp) = &settings.multihttp {
        return multihttp::settings(multihttp);
    }
    Ok(())
}

fn ping_settings(ping: &PingSettings) -> Held {
    hold((0..=65_499).contains(&ping.payload_size), "invalid ping payload size")?;
    hold((0..=10).contains(&ping.packet_count), "invalid ping packet count")
}

fn dns_settings(dns: &DnsSettings) -> Held {
    hold(target::is_host(&dns.server), "invalid DNS server")?;
    hold((0..=65_535).contains(&dns.port), "invalid DNS port")
}
