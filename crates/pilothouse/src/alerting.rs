//! The Alertmanager inside: its settings, its start and end, and its history as log lines.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pilothouse_alertmanager::history::Event;
use pilothouse_alertmanager::{Alertmanager, Contact, Mail, Options, Secret};
use pilothouse_control::Control;
use pilothouse_logql::{Direction, LogqlError, LogqlValue, RangeQuery, parse, query_range};
use pilothouse_logs::Store;
use pilothouse_model::limits::LiveLimits;
use pilothouse_model::ports::SystemClock;
use pilothouse_model::time::DAY_MS;
use pilothouse_model::{Budget, Clock as _, EntrySink, Labels, LogBatch, Memory, SourceError};

use crate::config::{Config, Settings};
use crate::reload::{Apply, Part};
use crate::serve::ServeError;
use crate::transitions::Transitions;

/// How often new events become lines, and contact points are looked at.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);
const MS_NS: i64 = 1_000_000;

/// What the configuration says of alerting.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct AlertingConfig {
    /// In force as long as none is stored through the API.
    pub(crate) config_file: Option<PathBuf>,
    /// Told every minute that notifications flow.
    pub(crate) heartbeat_url: Option<Secret>,
    /// How contact points get mail, unless that is left to Alertmanager's configuration.
    pub(crate) mail: Option<Mail>,
}

impl AlertingConfig {
    pub(crate) fn mail(settings: &Settings) -> Option<Mail> {
        Some(Mail {
            smarthost: settings.smtp_smarthost.clone()?,
            from: settings.smtp_from.clone(),
            hello: settings.smtp_hello.clone(),
            username: settings.smtp_auth_username.clone(),
            password: settings.smtp_auth_password.clone().unwrap_or_default(),
            require_tls: settings.smtp_require_tls,
        })
    }
}

/// Reads what was kept and starts. `base` is where people reach the server.
pub(crate) async fn start(
    config: &Config,
    limits: &LiveLimits,
    base: &str,
    control: &Arc<Control>,
    memory: &Arc<Memory>,
) -> Result<Alertmanager, ServeError> {
    let options = Options {
        limits: limits.clone(),
        memory: Arc::clone(memory),
        external_url: format!("{base}/alertmanager"),
        config_file: config.alerting.config_file.clone(),
        heartbeat_url: config.alerting.heartbeat_url.clone(),
        mail: config.alerting.mail.clone(),
    };
    let contacts = contacts(control);
    let (store, runtime) = (Arc::clone(control) as _, tokio::runtime::Handle::current());
    let started = tokio::task::spawn_blocking(move || {
        Alertmanager::spawn(options, store, Arc::new(SystemClock), runtime)
    });
    let alertmanager = started.await.map_err(|e| ServeError::Start(std::io::Error::other(e)))??;
    alertmanager.set_contacts(contacts);
    Ok(alertmanager)
}

/// Who gets mail: each address once, though several projects may name it.
fn contacts(control: &Control) -> Vec<Contact> {
    let mut by_email: BTreeMap<String, bool> = BTreeMap::new();
    for point in control.mail_receivers() {
        *by_email.entry(point.email).or_default() |= point.send_resolved;
    }
    by_email.into_iter().map(|(email, send_resolved)| Contact { email, send_resolved }).collect()
}

/// Follows contact points as they come and go, until the task is aborted.
pub(crate) async fn follow_contacts(alertmanager: Alertmanager, control: Arc<Control>) {
    let mut ticks = tokio::time::interval(FOLLOW_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (alertmanager, control) = (alertmanager.clone(), Arc::clone(&control));
        // It may have to wait for a configuration that is being stored.
        let _ = tokio::task::spawn_blocking(move || alertmanager.set_contacts(contacts(&control))).await;
    }
}

/// The configuration file at a reload.
#[derive(Debug)]
pub(crate) struct ConfigFile(pub(crate) Alertmanager);

impl Part for ConfigFile {
    fn prepare(&self, next: &Config) -> Result<Apply, String> {
        let alertmanager = self.0.clone();
        let read = alertmanager.read_file(next.alerting.config_file.clone()).map_err(|e| e.to_string())?;
        Ok(Box::new(move || alertmanager.obey_file(read)))
    }
}

/// Ends it: what is under way is waited for a little, and written down.
pub(crate) async fn drain(alertmanager: Alertmanager) {
    let _ = tokio::task::spawn_blocking(move || alertmanager.drain()).await;
}

/// Adds what rulers saw to the history, and writes its events as lines of the server's own logs,
/// until the task is aborted.
pub(crate) async fn follow(
    alertmanager: Alertmanager,
    transitions: Arc<Transitions>,
    store: Store,
    lines: Arc<dyn EntrySink>,
) {
    let mut next = recall(&alertmanager, store).await;
    let mut ticks = tokio::time::interval(FOLLOW_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (alertmanager, transitions) = (alertmanager.clone(), Arc::clone(&transitions));
        let lines = Arc::clone(&lines);
        let written = tokio::task::spawn_blocking(move || {
            let events = new_events(&alertmanager, &transitions, next);
            let after = events.last().map_or(next, |last| last.number + 1);
            (after, if events.is_empty() { Ok(()) } else { append(&*lines, &events) })
        });
        let Ok((after, written)) = written.await else { continue };
        next = after;
        if let Err(e) = written {
            tracing::error!("events of alerts without log lines: {e}");
        }
    }
}

/// Adds what rulers saw to the history, and gives its events from a number on.
fn new_events(alertmanager: &Alertmanager, transitions: &Transitions, next: u64) -> Vec<Event> {
    let mut engine = alertmanager.engine();
    engine.note(transitions.take());
    engine.history().since(next).cloned().collect()
}

/// Brings back the history that was written as lines; gives the number of the first event that is
/// no line yet.
async fn recall(alertmanager: &Alertmanager, store: Store) -> u64 {
    let most = alertmanager.engine().history().most();
    match tokio::task::spawn_blocking(move || past(&store, most)).await {
        Ok(Ok(past)) => alertmanager.engine().recall(past),
        Ok(Err(e)) => {
            tracing::warn!("the history of alerts begins anew: {e}");
            0
        }
        Err(_) => 0,
    }
}

/// The newest events that were written as lines, of the last month.
fn past(store: &Store, most: usize) -> Result<Vec<Event>, LogqlError> {
    let now_ns = SystemClock.now_ms().saturating_mul(MS_NS);
    let query = RangeQuery {
        start_ns: now_ns.saturating_sub(31 * DAY_MS * MS_NS),
        end_ns: now_ns,
        step_ns: 1,
        limit: most,
        direction: Direction::Backward,
        interval_ns: 0,
        categorize: false,
        max_series: 0,
    };
    let expr = parse("{kind=\"alerts\", service_name=\"pilothouse\"}")?;
    let found = query_range(store, &expr, &query, &Budget::unlimited())?;
    let LogqlValue::Streams(streams) = found.value else { return Ok(Vec::new()) };
    let entries = streams.iter().flat_map(|stream| &stream.entries);
    Ok(entries.filter_map(|entry| Event::from_json(&entry.line, entry.t_ns.div_euclid(MS_NS))).collect())
}

fn append(lines: &dyn EntrySink, events: &[Event]) -> Result<(), SourceError> {
    let mut batch = LogBatch::default();
    batch.begin_stream(Labels::from_pairs([("kind", "alerts"), ("service_name", "pilothouse")]));
    for event in events {
        // The number keeps apart and in order what happens in one millisecond.
        let t_ns = event.t_ms.saturating_mul(MS_NS) + (event.number % MS_NS.unsigned_abs()) as i64;
        batch.push(t_ns, &event.to_json(), Labels::default());
    }
    lines.append(&batch).map(|_| ())
}
