//! A group at work: its rules in order, at one time, every interval.
//!
//! One worker at a time evaluates a group and owns what only evaluations need ([`Run`]). What
//! others may look at lies in a lock of each rule, which is never held while an expression is
//! evaluated.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pilothouse_model::memory::{Holding, Part};
use pilothouse_model::write::Durable;
use pilothouse_model::{Budget, Labels};
use xxhash_rust::xxh64::xxh64;

use crate::alerting::{Alerting, Remembered, Transition};
use crate::expression::{Element, Expression, ExpressionError};
use crate::format::{Rule, RuleGroup};
use crate::restore;
use crate::rule::{Kind, LiveRule, LoadError, RuleError, RuleState};
use crate::settings::{Settings, Surrounding};
use crate::source::{Data, RuleSource};
use crate::template::{Surroundings, TemplateQuery};
use crate::written::{Given, end_series, write};

/// Where a group comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// Set by the configuration API, and kept in the store of small records.
    Stored,
    /// Read from a file of the configuration, which alone can change it.
    File,
}

/// Which group of all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKey {
    /// The id of the data source.
    pub source: String,
    /// The namespace, or the path of the file.
    pub namespace: String,
    pub name: String,
    pub origin: Origin,
}

impl GroupKey {
    /// As Prometheus' metrics label it.
    pub fn label(&self) -> String {
        format!("{};{}", self.namespace, self.name)
    }
}

/// Counts of one group since it was loaded.
#[derive(Debug, Default)]
pub(crate) struct GroupCounts {
    pub(crate) evaluations: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) iterations: AtomicU64,
    pub(crate) missed: AtomicU64,
    pub(crate) samples: AtomicU64,
}

#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct LastRun {
    pub(crate) at_ms: Option<i64>,
    pub(crate) took: Duration,
}

pub(crate) struct Group {
    pub(crate) key: GroupKey,
    pub(crate) config: RuleGroup,
    pub(crate) interval_ms: i64,
    pub(crate) offset_ms: i64,
    pub(crate) rules: Vec<LiveRule>,
    pub(crate) states: Vec<Mutex<RuleState>>,
    pub(crate) counts: GroupCounts,
    pub(crate) last: Mutex<LastRun>,
    source: RuleSource,
    run: Mutex<Run>,
    /// The memory of all of it.
    held: Mutex<Holding>,
    stopped: AtomicBool,
    /// Of the expression that is being evaluated.
    budget: Mutex<Option<Budget>>,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").field("key", &self.key).finish_non_exhaustive()
    }
}

/// What only evaluations need, and the next configuration of the group.
#[derive(Default)]
struct Run {
    given: Vec<Given>,
    remembered: Vec<Remembered>,
    /// Series of rules that are gone.
    ended: Vec<Labels>,
    evaluations: u64,
    last_slot_ms: Option<i64>,
    must_restore: bool,
}

/// What a rule takes as it is written and read, about.
fn written_bytes(config: &RuleGroup) -> usize {
    const RULE_BYTES: usize = 4 << 10;
    /// What is made of an expression and its templates, in times of their text.
    const READ: usize = 16;
    let texts = |rule: &Rule| {
        let pairs = rule.labels.iter().chain(&rule.annotations);
        rule.expr.len() + pairs.map(|(name, text)| name.len() + text.len()).sum::<usize>()
    };
    config.rules.iter().map(|rule| RULE_BYTES + READ * texts(rule)).sum()
}

/// What an evaluation is done with.
pub(crate) struct Evaluation<'a> {
    pub(crate) around: &'a Surrounding,
    pub(crate) slot_ms: i64,
}

impl Group {
    pub(crate) fn new(
        key: GroupKey,
        config: RuleGroup,
        source: RuleSource,
        around: &Surrounding,
        must_restore: bool,
    ) -> Result<Self, LoadError> {
        let language = source.data.language();
        let live = |rule| LiveRule::new(language, &config, rule, &around.settings.external_url);
        let rules: Vec<LiveRule> = config.rules.iter().map(live).collect::<Result<_, _>>()?;
        let states = rules.iter().map(|_| Mutex::new(RuleState::new(!must_restore))).collect();
        let run = Run {
            given: vec![Given::default(); rules.len()],
            remembered: rules.iter().map(|_| Remembered::default()).collect(),
            must_restore,
            ..Run::default()
        };
        let mut held = around.settings.memory.holding(Part::Rules);
        held.set(written_bytes(&config) as u64);
        Ok(Self {
            held: Mutex::new(held),
            key,
            interval_ms: config.interval_ms.unwrap_or(around.settings.default_interval_ms).max(1),
            offset_ms: config.offset_ms().unwrap_or(around.settings.default_query_offset_ms),
            config,
            rules,
            states,
            counts: GroupCounts::default(),
            last: Mutex::default(),
            source,
            run: Mutex::new(run),
            stopped: AtomicBool::new(false),
            budget: Mutex::default(),
        })
    }

    // ---- when ----

    /// The place of the group inside its interval, so that groups are spread and each keeps its
    /// own: a hash of file and name.
    fn place_ms(&self) -> i64 {
        if self.config.aligned {
            return 0;
        }
        let mut text = Vec::new();
        for part in ["file", &self.key.namespace, "name", &self.key.name] {
            text.extend_from_slice(part.as_bytes());
            text.push(0xff);
        }
        let interval_ns = u64::try_from(self.interval_ms).unwrap_or(1).saturating_mul(1_000_000);
        i64::try_from(xxh64(&text, 0) % interval_ns / 1_000_000).unwrap_or(0)
    }

    /// The first slot after a time.
    pub(crate) fn slot_after(&self, now_ms: i64) -> i64 {
        let place = self.place_ms();
        let since = now_ms.saturating_sub(place);
        (since - since.rem_euclid(self.interval_ms)).saturating_add(place).saturating_add(self.interval_ms)
    }

    // ---- evaluation ----

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Relaxed)
    }

    /// Ends the evaluation that is running, at its next check, and any later one.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Relaxed);
        if let Some(budget) = self.budget.lock().as_ref() {
            budget.cancel();
        }
    }

    /// Evaluates all rules at a slot. Blocks.
    pub(crate) fn evaluate(&self, evaluation: &Evaluation<'_>) {
        let mut run = self.run.lock();
        if self.is_stopped() {
            return;
        }
        let (began, at_ms) = (Instant::now(), evaluation.around.clock.now_ms());
        let (mut durable, mut samples) = (None, 0);
        for index in 0..self.rules.len() {
            if self.is_stopped() {
                break;
            }
            samples += self.evaluate_rule(index, &mut run, evaluation, &mut durable);
        }
        self.end_removed(&mut run, evaluation, &mut durable);
        self.counts.samples.store(samples, Relaxed);
        self.wait_for(durable);
        run.evaluations += 1;
        run.last_slot_ms = Some(evaluation.slot_ms);
        if run.must_restore && run.evaluations >= 2 {
            run.must_restore = false;
            restore::restore(&self.rules, &self.states, self.source.written.as_ref(), evaluation.around);
        }
        self.held.lock().set((written_bytes(&self.config) + self.known_bytes(&run)) as u64);
        *self.last.lock() = LastRun { at_ms: Some(at_ms), took: began.elapsed() };
    }

    /// What is known from one evaluation to the next, about.
    fn known_bytes(&self, run: &Run) -> usize {
        let alerts: usize = self.states.iter().map(|state| state.lock().alerts.held_bytes()).sum();
        let remembered: usize = run.remembered.iter().map(Remembered::held_bytes).sum();
        let given = self.rules.iter().zip(&run.given);
        let given: usize = given.map(|(rule, given)| given.held_bytes(rule.kind.shares_series())).sum();
        alerts + remembered + given
    }

    /// Gives the number of samples written.
    fn evaluate_rule(
        &self,
        index: usize,
        run: &mut Run,
        evaluation: &Evaluation<'_>,
        durable: &mut Option<Durable>,
    ) -> u64 {
        let (Some(rule), Some(state)) = (self.rules.get(index), self.states.get(index)) else { return 0 };
        let (Some(given), Some(remembered)) = (run.given.get_mut(index), run.remembered.get_mut(index))
        else {
            return 0;
        };
        let (began, at_ms) = (Instant::now(), evaluation.around.clock.now_ms());
        let mut work = RuleRun { group: self, rule, state, given, remembered, evaluation };
        let result = catch_unwind(AssertUnwindSafe(|| work.run(durable)))
            .unwrap_or(Err(RuleError::Expression(ExpressionError::Panicked)));
        let took = began.elapsed();
        self.counts.evaluations.fetch_add(1, Relaxed);
        evaluation.around.durations.observe(took);
        let mut state = state.lock();
        state.evaluated_at_ms = Some(at_ms);
        state.took = took;
        match result {
            Ok(samples) => samples,
            Err(_) if self.is_stopped() => 0,
            Err(e) => {
                self.counts.failures.fetch_add(1, Relaxed);
                let (group, name) = (self.key.label(), rule.config.name());
                tracing::warn!(group, rule = name, "evaluating a rule failed: {e}");
                state.failed(&e);
                0
            }
        }
    }

    fn end_removed(&self, run: &mut Run, evaluation: &Evaluation<'_>, durable: &mut Option<Durable>) {
        if run.ended.is_empty() {
            return;
        }
        let t_ms = evaluation.slot_ms.saturating_sub(self.offset_ms);
        match end_series(self.source.sink.as_ref(), &run.ended, t_ms) {
            Ok(written) => {
                run.ended.clear();
                *durable = written.or_else(|| durable.take());
            }
            Err(e) => tracing::warn!(group = self.key.label(), "ending series of former rules failed: {e}"),
        }
    }

    /// The log is one after the other: what was written last is durable last.
    fn wait_for(&self, durable: Option<Durable>) {
        let Some(durable) = durable else { return };
        if let Err(e) = pollster::block_on(durable) {
            tracing::warn!(group = self.key.label(), "what rules wrote is not durable: {e}");
            for state in &self.states {
                let mut state = state.lock();
                if state.evaluated_at_ms.is_some() {
                    state.failed(&RuleError::Write(e.clone().into()));
                }
            }
        }
    }

    fn budget(&self, settings: &Settings) -> Budget {
        let budget = Budget::drawing_first(&settings.memory, settings.ceilings());
        *self.budget.lock() = Some(budget.clone());
        if self.is_stopped() {
            budget.cancel();
        }
        budget
    }

    // ---- replacement ----

    /// Takes over what the group before this one knew: the alerts and series of rules that are the
    /// same by name and labels, the first with the first where there are several.
    pub(crate) fn take_over(&self, before: &Self) {
        before.stop();
        let mut from = before.run.lock();
        let mut run = self.run.lock();
        run.must_restore = from.must_restore;
        *self.last.lock() = *before.last.lock();
        let mut taken = vec![false; before.rules.len()];
        for (i, rule) in self.rules.iter().enumerate() {
            let same = |(j, old): &(usize, &LiveRule)| !taken.get(*j).is_none_or(|t| *t) && old.is_same(rule);
            let Some((j, _)) = before.rules.iter().enumerate().find(same) else { continue };
            taken[j] = true;
            if let (Some(into), Some(given)) = (run.given.get_mut(i), from.given.get_mut(j)) {
                *into = std::mem::take(given);
            }
            if let (Some(into), Some(old)) = (self.states.get(i), before.states.get(j)) {
                into.lock().alerts.take_over(&mut old.lock().alerts);
            }
        }
        let must_restore = run.must_restore;
        for state in &self.states {
            state.lock().alerts.is_restored = !must_restore;
        }
        run.ended = std::mem::take(&mut from.ended);
        run.ended.extend(from.given.drain(..).flat_map(Given::into_series));
    }

    /// Stops for good and gives the series that must be ended, and the last slot.
    pub(crate) fn retire(&self) -> (Vec<Labels>, Option<i64>) {
        self.stop();
        let mut run = self.run.lock();
        let mut series = std::mem::take(&mut run.ended);
        series.extend(run.given.drain(..).flat_map(Given::into_series));
        (series, run.last_slot_ms)
    }

    /// Calls `each` with every series that the rules gave last time.
    pub(crate) fn each_given(&self, mut each: impl FnMut(&Labels)) {
        let run = self.run.lock();
        run.given.iter().flat_map(Given::series).for_each(&mut each);
    }

    pub(crate) fn source(&self) -> &RuleSource {
        &self.source
    }
}

/// One rule in one evaluation.
struct RuleRun<'a> {
    group: &'a Group,
    rule: &'a LiveRule,
    state: &'a Mutex<RuleState>,
    given: &'a mut Given,
    remembered: &'a mut Remembered,
    evaluation: &'a Evaluation<'a>,
}

impl RuleRun<'_> {
    fn run(&mut self, durable: &mut Option<Durable>) -> Result<u64, RuleError> {
        let around = self.evaluation.around;
        let slot_ms = self.evaluation.slot_ms;
        let query_ms = slot_ms.saturating_sub(self.group.offset_ms);
        let budget = self.group.budget(&around.settings);
        let data = &self.group.source.data;
        let result = self.rule.expression.evaluate(data, query_ms, &around.settings.evaluation, &budget)?;
        let limit = self.group.config.limit;
        let outputs = match &self.rule.kind {
            Kind::Recording(recording) => {
                let outputs = recording.outputs(result, limit)?;
                self.state.lock().succeeded();
                outputs
            }
            Kind::Alerting(alerting) => self.alert(alerting, result, &budget)?,
        };
        let written = write(self.group.source.sink.as_ref(), &outputs, query_ms, self.given)?;
        if let Some(last) = written.durable {
            *durable = Some(last);
        }
        match written.refused {
            Some(refused) => Err(refused.into()),
            None => Ok(outputs.len() as u64),
        }
    }

    fn alert(
        &mut self,
        alerting: &Alerting,
        result: Vec<Element>,
        budget: &Budget,
    ) -> Result<Vec<crate::written::Output>, RuleError> {
        if result.is_empty() && !self.state.lock().alerts.has_any() {
            // The usual case: nothing is wrong.
            *self.remembered = Remembered::default();
            self.state.lock().succeeded();
            return Ok(Vec::new());
        }
        let around = self.evaluation.around;
        let slot_ms = self.evaluation.slot_ms;
        let surroundings = Rc::new(self.surroundings(budget));
        let found = alerting.found(result, &surroundings, self.remembered);
        let mut state = self.state.lock();
        let (outputs, transitions) =
            state.alerts.advance(found, slot_ms, alerting, self.group.config.limit)?;
        state.succeeded();
        let due = state.alerts.due(
            slot_ms,
            around.settings.resend_delay_ms,
            self.group.interval_ms,
            &self.rule.generator_url,
            &around.settings.external_labels,
        );
        drop(state);
        self.tell(&transitions);
        if !due.is_empty() {
            around.send(&due);
        }
        Ok(outputs)
    }

    fn tell(&self, transitions: &[Transition]) {
        if let Some(observer) = &self.evaluation.around.observer
            && !transitions.is_empty()
        {
            observer.changed(&self.group.key, self.rule.config.name(), transitions);
        }
    }

    fn surroundings(&self, budget: &Budget) -> Surroundings {
        let around = self.evaluation.around;
        let query = ExpressionQuery {
            data: self.group.source.data.clone(),
            t_ms: self.evaluation.slot_ms,
            options: around.settings.evaluation,
            budget: budget.clone(),
        };
        Surroundings::new(
            self.evaluation.slot_ms,
            Arc::clone(&around.settings.external_url),
            &around.settings.external_labels,
            Box::new(query),
        )
    }
}

/// The function `query` of templates: the rule's own language and data source.
struct ExpressionQuery {
    data: Data,
    t_ms: i64,
    options: crate::expression::EvaluationOptions,
    budget: Budget,
}

impl TemplateQuery for ExpressionQuery {
    fn query(&self, text: &str) -> Result<Vec<Element>, String> {
        let expression = Expression::parse(self.data.language(), text)?;
        expression.evaluate(&self.data, self.t_ms, &self.options, &self.budget).map_err(|e| e.to_string())
    }
}
