//! What the store knows of the checks of a page.

use std::collections::{BTreeMap, HashMap};

use pilothouse_model::ports::{LabelNeeds, SelectedSeries, Selection, SeriesSource, SourceError};
use pilothouse_model::sample::is_stale;
use pilothouse_model::{Budget, Matcher, SampleColumns};
use serde::Serialize;

use crate::words::Check;

const DAY_MS: i64 = 86_400_000;
/// A result that is older says nothing about now; rarer checks publish theirs again before.
const LOOKBACK_MS: i64 = 300_000;
/// What one value of the latencies is the mean of.
pub const LATENCY_STEP_MS: i64 = 30 * 60_000;
/// Values of the latencies: a day.
const LATENCIES: usize = (DAY_MS / LATENCY_STEP_MS) as usize;

/// How a check stands, judged over the probes that run it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Up,
    /// It fails from some places.
    Degraded,
    Down,
    /// Nothing was heard of it of late.
    Unknown,
    /// It is switched off.
    Paused,
}

/// The share of good runs, 0 to 1; `None` where there was none.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Uptimes {
    #[serde(rename = "24h")]
    pub day: Option<f64>,
    #[serde(rename = "7d")]
    pub week: Option<f64>,
    #[serde(rename = "30d")]
    pub month: Option<f64>,
}

/// How the newest run from one place went.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Place {
    pub probe: String,
    pub good: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckReport {
    pub id: i64,
    pub job: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub target: String,
    /// The kind of check.
    pub kind: &'static str,
    pub state: State,
    pub places: Vec<Place>,
    pub uptime: Uptimes,
    /// Means of the durations of runs in seconds, the oldest first; `None` where none ran.
    pub latency: Vec<Option<f64>>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub state: State,
    pub checks: Vec<CheckReport>,
}

/// Job and target: what tells the series of one check from those of others.
type Key = (String, String);

/// The checks as they stand, with the week and the month as `long` has them. Blocks.
pub fn report(
    checks: &[Check],
    show_targets: bool,
    long: &HashMap<Key, Uptimes>,
    source: &dyn SeriesSource,
    budget: &Budget,
    now_ms: i64,
) -> Result<Report, SourceError> {
    let mut seen = Seen::default();
    let since_ms = now_ms - DAY_MS;
    each_series("probe_success", checks, since_ms, source, budget, now_ms, |key, probe, columns| {
        seen.success(key, probe, columns, now_ms);
    })?;
    each_series("probe_duration_seconds", checks, since_ms, source, budget, now_ms, |key, _, columns| {
        seen.duration(key, columns, since_ms);
    })?;
    let checks: Vec<CheckReport> =
        checks.iter().map(|check| seen.report(check, show_targets, long)).collect();
    Ok(Report { state: worst(&checks), checks })
}

/// The uptimes of a week and a month; a day's are part of each report. Blocks.
pub fn uptimes(
    checks: &[Check],
    source: &dyn SeriesSource,
    budget: &Budget,
    now_ms: i64,
) -> Result<HashMap<Key, Uptimes>, SourceError> {
    let mut shares: HashMap<Key, [Share; 2]> = HashMap::new();
    let since_ms = now_ms - 30 * DAY_MS;
    each_series("probe_success", checks, since_ms, source, budget, now_ms, |key, _, columns| {
        let [week, month] = shares.entry(key).or_default();
        for (t_ms, value) in values(columns) {
            month.add(value);
            if t_ms > now_ms - 7 * DAY_MS {
                week.add(value);
            }
        }
    })?;
    let uptimes = |[week, month]: [Share; 2]| Uptimes { day: None, week: week.get(), month: month.get() };
    Ok(shares.into_iter().map(|(key, shares)| (key, uptimes(shares))).collect())
}

/// Sum and number of what a mean is made of.
#[derive(Debug, Clone, Copy, Default)]
struct Share {
    sum: f64,
    count: u64,
}

impl Share {
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
    }

    fn get(self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

/// What the series of the last day say.
#[derive(Default)]
struct Seen {
    day: HashMap<Key, Share>,
    /// By probe, when and how the newest run went.
    newest: HashMap<Key, BTreeMap<String, (i64, bool)>>,
    latency: HashMap<Key, Vec<Share>>,
}

impl Seen {
    fn success(&mut self, key: Key, probe: &str, columns: &SampleColumns, now_ms: i64) {
        let day = self.day.entry(key.clone()).or_default();
        values(columns).for_each(|(_, value)| day.add(value));
        // A series that ended says nothing of now; its check may go on as another version.
        let last = columns.times_ms.last().zip(columns.values.last());
        let Some((t_ms, value)) = last.filter(|(t, v)| **t > now_ms - LOOKBACK_MS && !is_stale(**v)) else {
            return;
        };
        let newest = self.newest.entry(key).or_default().entry(probe.to_owned());
        let newest = newest.or_insert((i64::MIN, false));
        *newest = (*newest).max((*t_ms, *value > 0.0));
    }

    fn duration(&mut self, key: Key, columns: &SampleColumns, since_ms: i64) {
        let steps = self.latency.entry(key).or_insert_with(|| vec![Share::default(); LATENCIES]);
        for (t_ms, value) in values(columns) {
            let at = usize::try_from((t_ms - since_ms - 1).max(0) / LATENCY_STEP_MS).unwrap_or(usize::MAX);
            if let Some(step) = steps.get_mut(at) {
                step.add(value);
            }
        }
    }

    fn report(&self, check: &Check, show_targets: bool, long: &HashMap<Key, Uptimes>) -> CheckReport {
        let key = (check.job.clone(), check.target.clone());
        let newest = self.newest.get(&key);
        let places: Vec<Place> = newest
            .into_iter()
            .flatten()
            .map(|(probe, (_, good))| Place { probe: probe.clone(), good: *good })
            .collect();
        let day = self.day.get(&key).and_then(|day| day.get());
        let long = long.get(&key).copied().unwrap_or_default();
        // What had no run when those were counted has run within the last day alone.
        let uptime = Uptimes { day, week: long.week.or(day), month: long.month.or(day) };
        let latency = self
            .latency
            .get(&key)
            .map_or_else(|| vec![None; LATENCIES], |steps| steps.iter().map(|step| step.get()).collect());
        CheckReport {
            id: check.id,
            job: check.job.clone(),
            target: if show_targets { check.target.clone() } else { String::new() },
            kind: check.kind().map_or("", |kind| kind.name()),
            state: state_of(check, &places),
            places,
            uptime,
            latency,
        }
    }
}

fn state_of(check: &Check, places: &[Place]) -> State {
    let good = places.iter().filter(|place| place.good).count();
    match (check.enabled, places.len()) {
        (false, _) => State::Paused,
        (true, 0) => State::Unknown,
        (true, all) if good == all => State::Up,
        _ if good == 0 => State::Down,
        _ => State::Degraded,
    }
}

/// Of a page: the worst that is known; what is switched off does not count.
fn worst(checks: &[CheckReport]) -> State {
    let has = |state: State| checks.iter().any(|check| check.state == state);
    let by_weight = [State::Down, State::Degraded, State::Up, State::Unknown];
    by_weight.into_iter().find(|state| has(*state)).unwrap_or(State::Unknown)
}

/// Samples that are values; what ended a series is none.
fn values(columns: &SampleColumns) -> impl Iterator<Item = (i64, f64)> + '_ {
    let samples = columns.times_ms.iter().copied().zip(columns.values.iter().copied());
    samples.filter(|(_, value)| !value.is_nan())
}

/// Gives the samples of every series of a family that belongs to one of the checks, with its
/// probe, one series after the other.
fn each_series(
    family: &str,
    checks: &[Check],
    since_ms: i64,
    source: &dyn SeriesSource,
    budget: &Budget,
    now_ms: i64,
    mut visit: impl FnMut(Key, &str, &SampleColumns),
) -> Result<(), SourceError> {
    let mut columns = SampleColumns::default();
    for (job, targets) in by_job(checks) {
        let matchers = vec![Matcher::equal("__name__", family), Matcher::equal("job", job)];
        let selection =
            Selection { matchers, start_ms: since_ms + 1, end_ms: now_ms, needs: LabelNeeds::All };
        for SelectedSeries { labels, samples } in source.select(&selection, budget)? {
            let target = labels.value("instance");
            if !targets.contains(&target) {
                continue;
            }
            budget.check("status page")?;
            samples.read(since_ms + 1, now_ms, &mut columns)?;
            visit((job.to_owned(), target.to_owned()), labels.value("probe"), &columns);
        }
    }
    Ok(())
}

fn by_job(checks: &[Check]) -> BTreeMap<&str, Vec<&str>> {
    let mut jobs: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for check in checks {
        jobs.entry(&check.job).or_default().push(&check.target);
    }
    jobs
}
