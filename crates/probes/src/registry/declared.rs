//! Checks that the configuration declares. They belong to the server's own tenant: every tenant
//! sees them, secrets masked, and none can change them.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use pilothouse_model::limits::Limits;

use super::alerts::{self, CheckAlert};
use super::error::{Refusal, RefusalKind};
use super::image::{CheckRow, Counters, Image, Row};
use super::{BUILTIN_PROBE, OWN_TENANT, Registry, later_than};
use crate::validate::{self, LabelRules};
use crate::words::Check;

/// A check as a configuration says it; id, tenant and times are given here.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DeclaredCheck {
    pub check: Check,
    pub alerts: Vec<CheckAlert>,
}

impl DeclaredCheck {
    /// Whether it holds by itself, whatever is declared beside it.
    pub fn holds(&self, rules: LabelRules) -> Result<(), Refusal> {
        let named = |e: Refusal| of_job(&self.check.job, e);
        let check = whole(self.check.clone(), rules).map_err(named)?;
        alerts::stored(&check, &[], self.alerts.clone(), 0.0).map(drop).map_err(named)
    }
}

/// What a configuration changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Declared {
    pub added: usize,
    pub changed: usize,
    pub removed: usize,
}

impl Registry {
    /// Makes the declared checks exactly these, or changes nothing where one does not hold. Job
    /// and target tell which is which; one that is said as before goes on as it is.
    pub fn declare(&self, declared: Vec<DeclaredCheck>) -> Result<Declared, Refusal> {
        self.change(|image| self.plan(image, declared, &self.settings.limits.now()))
    }

    /// Whether [`Registry::declare`] would refuse these once `limits` are in force.
    pub fn may_declare(&self, declared: &[DeclaredCheck], limits: &Limits) -> Result<(), Refusal> {
        self.plan(&self.read(), declared.to_vec(), limits).map(drop)
    }

    fn plan(
        &self,
        image: &Image,
        declared: Vec<DeclaredCheck>,
        limits: &Limits,
    ) -> Result<(Vec<Row>, Declared), Refusal> {
        let (mut plan, rules) = (Plan::of(image), LabelRules::from(limits));
        for one in declared {
            let job = one.check.job.clone();
            plan.add(one, rules, self.now_s()).map_err(|e| of_job(&job, e))?;
        }
        plan.finish(limits.max_checks)
    }
}

struct Plan<'a> {
    /// Of those that were declared before, the ones not met yet.
    before: BTreeMap<(String, String), &'a CheckRow>,
    met: HashSet<(String, String)>,
    counters: Counters,
    counters_before: Counters,
    rows: Vec<Row>,
    done: Declared,
}

impl<'a> Plan<'a> {
    fn of(image: &'a Image) -> Self {
        let key = |row: &'a CheckRow| ((row.check.job.clone(), row.check.target.clone()), row);
        Self {
            before: image.checks_of(OWN_TENANT).map(key).collect(),
            met: HashSet::new(),
            counters: image.counters,
            counters_before: image.counters,
            rows: Vec::new(),
            done: Declared::default(),
        }
    }

    fn add(&mut self, declared: DeclaredCheck, rules: LabelRules, now_s: f64) -> Result<(), Refusal> {
        let mut check = whole(declared.check, rules)?;
        let key = (check.job.clone(), check.target.clone());
        if self.met.contains(&key) {
            return Err(invalid("target/job combination is declared twice"));
        }
        let before = self.before.remove(&key);
        self.met.insert(key);
        self.settle(&mut check, before, now_s);
        let known = before.map_or(&[][..], |row| &row.alerts);
        let wanted = alerts::stored(&check, known, declared.alerts, now_s)?;
        if !alerts::same(known, &wanted) {
            self.rows.push(Row::Alerts(check.id, wanted));
        }
        Ok(())
    }

    /// Gives a check its id and its times, and stores it if it is new or another.
    fn settle(&mut self, check: &mut Check, before: Option<&CheckRow>, now_s: f64) {
        check.tenant_id = OWN_TENANT;
        match before.map(|row| &row.check) {
            Some(before) => {
                (check.id, check.created, check.modified) = (before.id, before.created, before.modified);
                if *check == **before {
                    return;
                }
                check.modified = later_than(before.modified, now_s);
                self.done.changed += 1;
            }
            None => {
                self.counters.check += 1;
                (check.id, check.created, check.modified) = (self.counters.check, now_s, now_s);
                self.done.added += 1;
            }
        }
        self.rows.push(Row::Check(check.id, Some(Arc::new(check.clone()))));
    }

    /// The rows that change: ids first, what is declared no more last.
    fn finish(mut self, max_checks: u64) -> Result<(Vec<Row>, Declared), Refusal> {
        if self.met.len() as u64 > max_checks {
            let cause = format!("{} checks, limit {max_checks}", self.met.len());
            return Err(Refusal::new(RefusalKind::TooMany, "too many declared checks", cause));
        }
        self.done.removed = self.before.len();
        for row in self.before.values() {
            self.rows.push(Row::Alerts(row.check.id, Vec::new()));
            self.rows.push(Row::Check(row.check.id, None));
        }
        if self.counters != self.counters_before {
            self.rows.insert(0, Row::Counters(self.counters));
        }
        Ok((self.rows, self.done))
    }
}

/// The check with what may be left unsaid, if it holds.
fn whole(mut check: Check, rules: LabelRules) -> Result<Check, Refusal> {
    if check.probes.is_empty() {
        check.probes.push(BUILTIN_PROBE);
    }
    if check.alert_sensitivity.is_empty() {
        "none".clone_into(&mut check.alert_sensitivity);
    }
    validate::check(&check, rules).map_err(Refusal::invalid_check)?;
    if check.probes != [BUILTIN_PROBE] {
        return Err(invalid("declared checks run on the built-in probe, whose id is 1"));
    }
    Ok(check)
}

fn of_job(job: &str, refusal: Refusal) -> Refusal {
    Refusal { cause: format!("job {job:?}: {}", refusal.cause), ..refusal }
}

fn invalid(cause: &str) -> Refusal {
    Refusal::new(RefusalKind::Invalid, "Invalid declared check", cause)
}
