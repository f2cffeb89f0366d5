//! Figures under Alertmanager's names, as plain families that anybody can render.

use std::collections::BTreeMap;

/// What a family is, in the words of the exposition format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A family of samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    pub name: &'static str,
    pub help: &'static str,
    pub kind: Kind,
    pub samples: Vec<Sample>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub labels: Vec<(&'static str, String)>,
    pub value: SampleValue,
}

#[derive(Debug, Clone, PartialEq)]
pub enum SampleValue {
    Number(f64),
    /// Upper bounds, a cumulative count for each and one for all, and the sum.
    Histogram {
        bounds: Vec<f64>,
        counts: Vec<u64>,
        sum: f64,
    },
}

impl Family {
    fn new(name: &'static str, help: &'static str, kind: Kind) -> Self {
        Self { name, help, kind, samples: Vec::new() }
    }

    fn add(mut self, labels: &[(&'static str, &str)], value: f64) -> Self {
        let labels = labels.iter().map(|(n, v)| (*n, (*v).to_owned())).collect();
        self.samples.push(Sample { labels, value: SampleValue::Number(value) });
        self
    }
}

/// Why a notification failed, as Alertmanager labels it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FailureReason {
    Other,
    ClientError,
    ServerError,
    ContextCanceled,
    ContextDeadlineExceeded,
    AuthError,
    RateLimited,
}

impl FailureReason {
    const ALL: [Self; 7] = [
        Self::Other,
        Self::ClientError,
        Self::ServerError,
        Self::ContextCanceled,
        Self::ContextDeadlineExceeded,
        Self::AuthError,
        Self::RateLimited,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::ClientError => "clientError",
            Self::ServerError => "serverError",
            Self::ContextCanceled => "contextCanceled",
            Self::ContextDeadlineExceeded => "contextDeadlineExceeded",
            Self::AuthError => "authError",
            Self::RateLimited => "rateLimited",
        }
    }

    /// By the status of an answer.
    pub fn of_status(status: u16) -> Self {
        match status {
            401 | 403 => Self::AuthError,
            429 => Self::RateLimited,
            400..500 => Self::ClientError,
            500..600 => Self::ServerError,
            _ => Self::Other,
        }
    }
}

/// Alertmanager's buckets of latency.
const LATENCY_BOUNDS_S: [f64; 5] = [1.0, 5.0, 10.0, 15.0, 20.0];

#[derive(Debug, Clone, Default)]
struct PerIntegration {
    notifications: u64,
    failed: BTreeMap<FailureReason, u64>,
    requests: u64,
    failed_requests: u64,
    latency_counts: [u64; 6],
    latency_sum_s: f64,
}

/// What is counted while it happens.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    integrations: BTreeMap<&'static str, PerIntegration>,
    pub(crate) suppressed: BTreeMap<&'static str, u64>,
    pub(crate) received_firing: u64,
    pub(crate) received_resolved: u64,
    pub(crate) received_invalid: u64,
    pub(crate) alerts_limited: u64,
    pub(crate) groups_limited: u64,
    pub(crate) sources_limited: u64,
    pub(crate) state_failures: u64,
    pub(crate) config_success: bool,
    pub(crate) config_success_at_ms: i64,
}

/// What is read off the state when somebody asks.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    /// active, suppressed, unprocessed
    pub(crate) alerts: [usize; 3],
    pub(crate) groups: usize,
    /// active, pending, expired
    pub(crate) silences: (usize, usize, usize),
    pub(crate) nflog_entries: usize,
    pub(crate) receivers: usize,
    pub(crate) integrations: usize,
    pub(crate) inhibition_rules: usize,
}

impl Counters {
    fn of(&mut self, integration: &'static str) -> &mut PerIntegration {
        self.integrations.entry(integration).or_default()
    }

    pub(crate) fn notification(&mut self, integration: &'static str) {
        self.of(integration).notifications += 1;
    }

    pub(crate) fn notification_failed(&mut self, integration: &'static str, reason: FailureReason) {
        *self.of(integration).failed.entry(reason).or_default() += 1;
    }

    pub(crate) fn request(&mut self, integration: &'static str, took_ms: u64, failed: bool) {
        let seconds = took_ms as f64 / 1000.0;
        let one = self.of(integration);
        one.requests += 1;
        one.failed_requests += u64::from(failed);
        one.latency_sum_s += seconds;
        let at = LATENCY_BOUNDS_S.iter().position(|b| seconds <= *b).unwrap_or(LATENCY_BOUNDS_S.len());
        if let Some(count) = one.latency_counts.get_mut(at) {
            *count += 1;
        }
    }

    pub(crate) fn suppressed(&mut self, reason: &'static str, alerts: usize) {
        *self.suppressed.entry(reason).or_default() += alerts as u64;
    }

    /// All families, those of integrations that never sent included.
    pub(crate) fn families(&self, kinds: &[&'static str], gauges: &Gauges) -> Vec<Family> {
        let none = PerIntegration::default();
        let rows: Vec<(&'static str, &PerIntegration)> =
            kinds.iter().map(|kind| (*kind, self.integrations.get(kind).unwrap_or(&none))).collect();
        let mut families = vec![self.alerts_received(), alerts(gauges)];
        families.extend(notifications(&rows));
        families.extend([
            latency(&rows),
            self.suppressed_family(),
            silences(gauges),
            Family::new(
                "alertmanager_dispatcher_aggregation_groups",
                "Number of active aggregation groups",
                Kind::Gauge,
            )
            .add(&[], gauges.groups as f64),
            Family::new(
                "alertmanager_dispatcher_aggregation_group_limit_reached_total",
                "Alerts that would have made one group too many.",
                Kind::Counter,
            )
            .add(&[], self.groups_limited as f64),
            Family::new(
                "alertmanager_alerts_limited_total",
                "Alerts refused since too many are held.",
                Kind::Counter,
            )
            .add(&[], self.alerts_limited as f64),
            Family::new(
                "alertmanager_inhibition_sources_limited_total",
                "Sources of inhibition rules that mute nothing, since too many are known.",
                Kind::Counter,
            )
            .add(&[], self.sources_limited as f64),
            Family::new("alertmanager_nflog_entries", "Entries of the notification log.", Kind::Gauge)
                .add(&[], gauges.nflog_entries as f64),
            Family::new("alertmanager_receivers", "Number of configured receivers by state.", Kind::Gauge)
                .add(&[], gauges.receivers as f64),
            Family::new("alertmanager_integrations", "Number of configured integrations.", Kind::Gauge)
                .add(&[], gauges.integrations as f64),
            Family::new(
                "alertmanager_inhibition_rules",
                "Number of configured inhibition rules.",
                Kind::Gauge,
            )
            .add(&[], gauges.inhibition_rules as f64),
            Family::new(
                "alertmanager_config_last_reload_successful",
                "Whether the last configuration reload attempt was successful.",
                Kind::Gauge,
            )
            .add(&[], f64::from(u8::from(self.config_success))),
            Family::new(
                "alertmanager_config_last_reload_success_timestamp_seconds",
                "Timestamp of the last successful configuration reload.",
                Kind::Gauge,
            )
            .add(&[], self.config_success_at_ms as f64 / 1000.0),
            Family::new(
                "alertmanager_state_write_failures_total",
                "Silences and log entries that could not be written down.",
                Kind::Counter,
            )
            .add(&[], self.state_failures as f64),
        ]);
        families
    }

    fn alerts_received(&self) -> Family {
        let family = Family::new(
            "alertmanager_alerts_received_total",
            "The total number of received alerts.",
            Kind::Counter,
        );
        family
            .add(&[("status", "firing"), ("version", "v2")], self.received_firing as f64)
            .add(&[("status", "resolved"), ("version", "v2")], self.received_resolved as f64)
    }

    fn suppressed_family(&self) -> Family {
        let family = Family::new(
            "alertmanager_notifications_suppressed_total",
            "The total number of notifications suppressed for being silenced, inhibited, outside of active time intervals or within muted time intervals.",
            Kind::Counter,
        );
        let reasons = ["silence", "inhibition", "mute_time_interval", "active_time_interval"];
        reasons.into_iter().fold(family, |family, reason| {
            let count = self.suppressed.get(reason).copied().unwrap_or_default();
            family.add(&[("reason", reason)], count as f64)
        })
    }
}

fn alerts(gauges: &Gauges) -> Family {
    let [active, suppressed, unprocessed] = gauges.alerts;
    Family::new("alertmanager_alerts", "How many alerts by state.", Kind::Gauge)
        .add(&[("state", "active")], active as f64)
        .add(&[("state", "suppressed")], suppressed as f64)
        .add(&[("state", "unprocessed")], unprocessed as f64)
}

fn silences(gauges: &Gauges) -> Family {
    let (active, pending, expired) = gauges.silences;
    Family::new("alertmanager_silences", "How many silences by state.", Kind::Gauge)
        .add(&[("state", "active")], active as f64)
        .add(&[("state", "pending")], pending as f64)
        .add(&[("state", "expired")], expired as f64)
}

fn notifications(rows: &[(&'static str, &PerIntegration)]) -> Vec<Family> {
    let counter = |name, help, value: fn(&PerIntegration) -> u64| {
        rows.iter().fold(Family::new(name, help, Kind::Counter), |family, (kind, one)| {
            family.add(&[("integration", kind)], value(one) as f64)
        })
    };
    let failed = Family::new(
        "alertmanager_notifications_failed_total",
        "The total number of failed notifications.",
        Kind::Counter,
    );
    let failed = rows.iter().fold(failed, |family, (kind, one)| {
        FailureReason::ALL.into_iter().fold(family, |family, reason| {
            let count = one.failed.get(&reason).copied().unwrap_or_default();
            family.add(&[("integration", kind), ("reason", reason.name())], count as f64)
        })
    });
    vec![
        counter("alertmanager_notifications_total", "The total number of attempted notifications.", |o| {
            o.notifications
        }),
        failed,
        counter(
            "alertmanager_notification_requests_total",
            "The total number of attempted notification requests.",
            |o| o.requests,
        ),
        counter(
            "alertmanager_notification_requests_failed_total",
            "The total number of failed notification requests.",
            |o| o.failed_requests,
        ),
    ]
}

fn latency(rows: &[(&'static str, &PerIntegration)]) -> Family {
    let mut family = Family::new(
        "alertmanager_notification_latency_seconds",
        "The latency of notifications in seconds.",
        Kind::Histogram,
    );
    for (kind, one) in rows {
        let mut total = 0;
        let counts = one.latency_counts.iter().map(|n| {
            total += n;
            total
        });
        family.samples.push(Sample {
            labels: vec![("integration", (*kind).to_owned())],
            value: SampleValue::Histogram {
                bounds: LATENCY_BOUNDS_S.to_vec(),
                counts: counts.collect(),
                sum: one.latency_sum_s,
            },
        });
    }
    family
}
