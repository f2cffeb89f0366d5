//! Rulers over series in memory, with a clock that is moved by hand.

mod alerting;
mod checks;
mod compliance;
mod lifecycle;
mod recording;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use parking_lot::Mutex;
use pilothouse_model::state::MemoryState;
use pilothouse_model::write::WriteBatch;
use pilothouse_model::{Alert, AlertSink, Budget, Clock, Labels, SampleSink as _, SourceError, StateStore};
use pilothouse_promql::{ParseContext, parse_selector};

use crate::expression::{EvaluationOptions, Expression};
use crate::{
    Data, GroupKey, GroupView, Language, MemorySeries, Parts, RuleKind, RuleSource, RuleView, Ruler,
    Settings, Transition, TransitionObserver,
};

/// A Monday, at a full hour.
const START_MS: i64 = 1_700_000_000_000 / 3_600_000 * 3_600_000;
const SECOND: i64 = 1000;
const MINUTE: i64 = 60_000;

#[derive(Debug, Default)]
struct SteppedClock(AtomicI64);

impl Clock for SteppedClock {
    fn now_ms(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// Alerts as they were sent, with the time.
#[derive(Debug, Default)]
struct Sent {
    alerts: Mutex<Vec<(i64, Alert)>>,
    clock: Arc<SteppedClock>,
}

impl AlertSink for Sent {
    fn send(&self, alerts: &[Alert]) -> Result<(), SourceError> {
        let now_ms = self.clock.now_ms();
        self.alerts.lock().extend(alerts.iter().map(|alert| (now_ms, alert.clone())));
        Ok(())
    }
}

/// Changes of state as an observer is told of them: seconds after the start, alert, states.
#[derive(Debug, Default)]
struct Observed(Mutex<Vec<String>>);

impl TransitionObserver for Observed {
    fn changed(&self, _: &GroupKey, rule: &str, transitions: &[Transition]) {
        let line = |t: &Transition| {
            let (after_s, variant) = ((t.at_ms - START_MS) / SECOND, t.labels.value("variant"));
            format!("{after_s} {rule}{variant} {} -> {}", t.from.as_str(), t.to.as_str())
        };
        let mut lines: Vec<String> = transitions.iter().map(line).collect();
        lines.sort();
        self.0.lock().extend(lines);
    }
}

/// A ruler with one source of metrics, `m`.
struct Bench {
    ruler: Arc<Ruler>,
    clock: Arc<SteppedClock>,
    series: Arc<MemorySeries>,
    store: Arc<dyn StateStore>,
    sent: Arc<Sent>,
    observed: Arc<Observed>,
}

fn settings() -> Settings {
    Settings { external_url: Arc::from("http://ph"), workers: 1, ..Settings::default() }
}

impl Bench {
    fn new() -> Self {
        Self::with(settings(), Arc::new(MemorySeries::default()), Arc::new(MemoryState::default()), START_MS)
    }

    fn with(settings: Settings, series: Arc<MemorySeries>, store: Arc<dyn StateStore>, now_ms: i64) -> Self {
        let clock = Arc::new(SteppedClock(AtomicI64::new(now_ms)));
        let sent = Arc::new(Sent { alerts: Mutex::default(), clock: Arc::clone(&clock) });
        let observed = Arc::new(Observed::default());
        let ruler = Arc::new(Ruler::new(Parts {
            settings,
            clock: Arc::clone(&clock) as _,
            store: Arc::clone(&store),
            alerts: Arc::clone(&sent) as _,
            observer: Some(Arc::clone(&observed) as _),
        }));
        let source = RuleSource {
            data: Data::Metrics(Arc::clone(&series) as _),
            sink: Arc::clone(&series) as _,
            written: Arc::clone(&series) as _,
        };
        ruler.add_source("m", source).unwrap();
        Self { ruler, clock, series, store, sent, observed }
    }

    /// The same data and records under a new process that starts at a time.
    fn restarted(&self, now_ms: i64) -> Self {
        Self::with(settings(), Arc::clone(&self.series), Arc::clone(&self.store), now_ms)
    }

    fn set(&self, namespace: &str, text: &str) {
        self.ruler.set_group("m", namespace, text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    }

    /// Moves the clock to a time, second by second, doing what is due at each.
    fn run_to(&self, t_ms: i64) {
        while self.clock.now_ms() < t_ms {
            self.clock.0.fetch_add(SECOND, Relaxed);
            self.ruler.step();
        }
    }

    fn run_for(&self, ms: i64) {
        self.run_to(self.clock.now_ms() + ms);
    }

    /// Writes a sample at a time after the start.
    fn push(&self, selector: &str, after_ms: i64, value: f64) {
        let matchers = parse_selector(selector, &ParseContext::default()).unwrap();
        let labels = Labels::from_pairs(matchers.iter().map(|m| (m.name.as_str(), m.value.as_str())));
        let mut batch = WriteBatch::of_labels();
        batch.push_float(&labels, START_MS + after_ms, value);
        self.series.append(&batch).unwrap();
    }

    /// A sample every 15 seconds, over a range of times after the start, end exclusive.
    fn push_range(&self, selector: &str, from_ms: i64, to_ms: i64, value: f64) {
        for after_ms in (from_ms..to_ms).step_by(15_000) {
            self.push(selector, after_ms, value);
        }
    }

    /// The result of a query now, sorted, as `{labels} value`.
    fn query(&self, text: &str) -> Vec<String> {
        self.query_at(text, self.clock.now_ms())
    }

    fn query_at(&self, text: &str, t_ms: i64) -> Vec<String> {
        let expression = Expression::parse(Language::Promql, text).unwrap();
        let data = Data::Metrics(Arc::clone(&self.series) as _);
        let elements = expression
            .evaluate(&data, t_ms, &EvaluationOptions::default(), &Budget::unlimited())
            .unwrap_or_else(|e| panic!("{text}: {e}"));
        let mut lines: Vec<String> = elements.iter().map(|e| format!("{} {}", e.labels, e.float())).collect();
        lines.sort();
        lines
    }

    fn view(&self, name: &str) -> GroupView {
        let views = self.ruler.views("m");
        views.into_iter().find(|view| view.key.name == name).unwrap_or_else(|| panic!("no group {name}"))
    }

    fn rule(&self, group: &str, index: usize) -> RuleView {
        self.view(group).rules[index].clone()
    }

    /// State of a rule and of its alerts.
    fn states(&self, group: &str, index: usize) -> (&'static str, Vec<String>) {
        match self.rule(group, index).kind {
            RuleKind::Alerting { state, alerts, .. } => {
                let shown = alerts.iter().map(|a| format!("{} {}", a.state.as_str(), a.labels));
                (state.as_str(), shown.collect())
            }
            RuleKind::Recording => ("recording", Vec::new()),
        }
    }

    fn take_sent(&self) -> Vec<(i64, Alert)> {
        std::mem::take(&mut *self.sent.alerts.lock())
    }
}
