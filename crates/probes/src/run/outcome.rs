//! What one run measured and said.

use std::fmt::Display;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pilothouse_model::NoMemory;
use pilothouse_model::limits::{CHECK_GAUGES, CHECK_LINES};

/// One measured value.
#[derive(Debug, Clone, PartialEq)]
pub struct Gauge {
    pub name: &'static str,
    pub help: &'static str,
    pub labels: Vec<(&'static str, String)>,
    pub value: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Info,
    Warn,
    Error,
}

/// One thing that a run said.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    pub t_ns: i64,
    pub level: Level,
    pub message: String,
    pub fields: Vec<(&'static str, String)>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Good,
    Failed,
    /// This server had no room for what the target answered. Nothing is known of the target, and least
    /// of all that it is down.
    LeftOut,
}

impl Verdict {
    fn of(probed: &Result<bool, NoMemory>) -> Self {
        match probed {
            Ok(true) => Self::Good,
            Ok(false) => Self::Failed,
            Err(_) => Self::LeftOut,
        }
    }
}

/// A finished run.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub verdict: Verdict,
    /// As the kind of check measures it; unsaid, the time on the clock.
    pub duration: Duration,
    pub gauges: Vec<Gauge>,
    pub lines: Vec<Line>,
}

impl Outcome {
    pub fn success(&self) -> bool {
        self.verdict == Verdict::Good
    }
}

/// Takes down what a prober sees on its way. A run that fails early has left what it knew.
#[derive(Debug, Default)]
pub struct Recorder {
    gauges: Vec<Gauge>,
    lines: Vec<Line>,
    duration: Option<Duration>,
    /// Values and lines beyond the bounds.
    dropped: usize,
}

impl Recorder {
    /// Sets a gauge; one of the same name and labels is replaced.
    pub fn gauge(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        value: f64,
    ) {
        let same = |gauge: &&mut Gauge| {
            gauge.name == name
                && gauge.labels.len() == labels.len()
                && gauge.labels.iter().zip(labels).all(|(a, b)| a.0 == b.0 && a.1 == b.1)
        };
        if let Some(gauge) = self.gauges.iter_mut().find(same) {
            gauge.value = value;
        } else if self.gauges.len() < CHECK_GAUGES {
            let labels = labels.iter().map(|(n, v)| (*n, (*v).to_owned())).collect();
            self.gauges.push(Gauge { name, help, labels, value });
        } else {
            self.dropped += 1;
        }
    }

    pub fn say(&mut self, level: Level, message: impl Into<String>, fields: &[(&'static str, &dyn Display)]) {
        if self.lines.len() < CHECK_LINES {
            let fields = fields.iter().map(|(n, v)| (*n, v.to_string())).collect();
            self.lines.push(Line { t_ns: now_ns(), level, message: message.into(), fields });
        } else {
            self.dropped += 1;
        }
    }

    pub fn info(&mut self, message: &str, fields: &[(&'static str, &dyn Display)]) {
        self.say(Level::Info, message, fields);
    }

    pub fn error(&mut self, message: &str, fields: &[(&'static str, &dyn Display)]) {
        self.say(Level::Error, message, fields);
    }

    /// Takes over what another has heard, and none of its values.
    pub fn hear(&mut self, other: Self) {
        let room = CHECK_LINES.saturating_sub(self.lines.len());
        self.dropped += other.dropped + other.lines.len().saturating_sub(room);
        self.lines.extend(other.lines.into_iter().take(room));
    }

    /// The duration of the run where it is not the time on the clock.
    pub fn took(&mut self, duration: Duration) {
        self.duration = Some(duration);
    }

    /// The run is over, with what its prober gave; `walltime` is the time on the clock.
    pub fn finish(mut self, probed: Result<bool, NoMemory>, walltime: Duration) -> Outcome {
        if self.dropped > 0 {
            let message = "values and lines beyond the limits were left out".to_owned();
            let fields = vec![("count", self.dropped.to_string())];
            self.lines.push(Line { t_ns: now_ns(), level: Level::Warn, message, fields });
        }
        Outcome {
            verdict: Verdict::of(&probed),
            duration: self.duration.unwrap_or(walltime),
            gauges: self.gauges,
            lines: self.lines,
        }
    }
}

/// Nanoseconds since 1970.
pub(super) fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
