//! `info()`: labels of info metrics joined to the series that they are about.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::{HashMap, HashSet};
use pilothouse_model::labels::METRIC_NAME;
use pilothouse_model::{LabelNeeds, Labels, LabelsBuilder, MatchOp, Matcher};

use crate::error::{EvalError, execution};
use crate::evaluator::{Evaluated, Evaluator, Grid};
use crate::matching::merge_equal_labels;
use crate::plan::{InfoPlan, SelectorPlan};
use crate::rows::{Row, is_absent};
use crate::selectors::Reads;

/// The labels by which an info metric and a series belong together.
const IDENTIFYING: [&str; 2] = ["instance", "job"];

impl Evaluator<'_> {
    pub(crate) fn info(&self, plan: &InfoPlan, grid: Grid) -> Evaluated<Vec<Row>> {
        let rows = self.rows(&plan.inner, grid)?;
        let (names, wanted): (Vec<Matcher>, Vec<Matcher>) =
            plan.matchers.iter().cloned().partition(|m| m.name == METRIC_NAME);
        let names = info_names(names)?;
        // Info series themselves are left as they are.
        let is_info = |row: &Row| names.iter().all(|m| m.matches(row.labels.value(METRIC_NAME)));
        let infos = self.info_rows(plan, &rows, &names, &wanted, is_info, grid)?;
        let mut by_identity: HashMap<[String; 2], Vec<Row>> = HashMap::new();
        for info in infos {
            by_identity.entry(identity(&info.labels)).or_default().push(info);
        }
        let joining = Joining { by_identity, wanted, steps: grid.len() };
        let mut out = Joined::default();
        let mut pace = self.pace();
        for row in &rows {
            pace.step()?;
            if is_info(row) {
                out.rows.push(row.clone());
            } else {
                joining.join(row, &mut out)?;
            }
        }
        merge_equal_labels(out.rows, self.budget)
    }

    /// The info series that may go with the rows, with the times of their samples in place of
    /// their values.
    fn info_rows(
        &self,
        plan: &InfoPlan,
        rows: &[Row],
        names: &[Matcher],
        wanted: &[Matcher],
        is_info: impl Fn(&Row) -> bool,
        grid: Grid,
    ) -> Evaluated<Vec<Row>> {
        let mut matchers = Vec::new();
        for label in IDENTIFYING {
            let values: BTreeSet<&str> =
                rows.iter().filter(|row| !is_info(row)).filter_map(|row| row.labels.get(label)).collect();
            if !values.is_empty() {
                let pattern: Vec<String> = values.into_iter().map(regex_syntax::escape).collect();
                matchers.push(matcher(MatchOp::Regex, label, &pattern.join("|"))?);
            }
        }
        if matchers.is_empty() {
            return Ok(Vec::new());
        }
        matchers.extend(wanted.iter().chain(names).cloned());
        let selector = SelectorPlan {
            matchers,
            needs: LabelNeeds::All,
            offset_ms: plan.offset_ms,
            at_ms: plan.at_ms,
            extended: None,
            fixed_name: None,
            statistics_only: false,
        };
        let span = plan.inner.span;
        let mut infos = self.instant(span, &selector, Reads::InfoTimes, grid)?.collect(self)?;
        infos.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(infos)
    }
}

/// What an info metric's name must match: `target_info` unless said otherwise, and never
/// anything that is only said what it is not.
fn info_names(mut names: Vec<Matcher>) -> Result<Vec<Matcher>, EvalError> {
    if names.is_empty() {
        return Ok(vec![Matcher::equal(METRIC_NAME, "target_info")]);
    }
    if !names.iter().any(|m| matches!(m.op, MatchOp::Equal | MatchOp::Regex)) {
        names.insert(0, matcher(MatchOp::Regex, METRIC_NAME, ".+_info")?);
    }
    Ok(names)
}

fn matcher(op: MatchOp, name: &str, value: &str) -> Result<Matcher, EvalError> {
    Matcher::new(op, name, value).map_err(|e| EvalError::Execution(e.to_string()))
}

/// The values of the identifying labels.
fn identity(labels: &Labels) -> [String; 2] {
    IDENTIFYING.map(|label| labels.value(label).to_owned())
}

struct Joining {
    /// The info series, sorted by labels within one identity.
    by_identity: HashMap<[String; 2], Vec<Row>>,
    wanted: Vec<Matcher>,
    steps: usize,
}

/// Rows made so far. One input row may become several, as its info changes over time.
#[derive(Default)]
struct Joined {
    rows: Vec<Row>,
}

impl Joining {
    fn join(&self, row: &Row, out: &mut Joined) -> Result<(), EvalError> {
        let Some(candidates) = self.by_identity.get(&identity(&row.labels)) else {
            // Nothing is known about it: it stays as it is, unless something was asked for.
            if self.wanted.iter().all(Matcher::matches_empty) {
                out.rows.push(row.clone());
            }
            return Ok(());
        };
        let mut made: HashMap<Labels, usize> = HashMap::new();
        for step in 0..self.steps {
            let Some(sample) = row.sample(step) else { continue };
            let Some(labels) = self.labels_at(row, candidates, step)? else { continue };
            let at = *made.entry(labels.clone()).or_insert_with(|| {
                let empty = Row::empty(labels, self.steps);
                out.rows.push(Row { drop_name: row.drop_name, ..empty });
                out.rows.len() - 1
            });
            out.rows[at].set(step, sample);
        }
        Ok(())
    }

    /// The labels of a row at a step; `None` if it needs an info series that is not there.
    fn labels_at(&self, row: &Row, candidates: &[Row], step: usize) -> Result<Option<Labels>, EvalError> {
        let newest = newest_by_name(candidates, step)?;
        if newest.is_empty() && !self.wanted.iter().all(Matcher::matches_empty) {
            return Ok(None);
        }
        let wanted: HashSet<&str> = self.wanted.iter().map(|m| m.name.as_str()).collect();
        let mut added: BTreeMap<&str, &str> = BTreeMap::new();
        for info in newest.values() {
            for (name, value) in info.labels.iter().filter(|(name, _)| *name != METRIC_NAME) {
                if !wanted.is_empty() && !wanted.contains(name) {
                    continue;
                }
                if added.get(name).is_some_and(|other| *other != value) {
                    return execution(format!("conflicting label: {name}"));
                }
                if row.labels.get(name).is_none() {
                    added.insert(name, value);
                }
            }
        }
        let mut builder = LabelsBuilder::from(&row.labels);
        for (name, value) in added {
            builder.set(name, value);
        }
        Ok(Some(builder.build()))
    }
}

/// The info series with the newest sample, by metric name; two of one name and time conflict.
fn newest_by_name(candidates: &[Row], step: usize) -> Result<BTreeMap<&str, &Row>, EvalError> {
    let mut newest: BTreeMap<&str, &Row> = BTreeMap::new();
    for info in candidates.iter().filter(|info| !is_absent(info.floats[step])) {
        let name = info.labels.value(METRIC_NAME);
        let Some(known) = newest.get(name) else {
            newest.insert(name, info);
            continue;
        };
        let (known_s, s) = (known.floats[step], info.floats[step]);
        if known_s == s {
            let t_ms = (s * 1000.0).round() as i64;
            return execution(format!(
                "found duplicate series for info metric: existing {} @ {t_ms}, new {} @ {t_ms}",
                known.labels, info.labels
            ));
        }
        if s > known_s {
            newest.insert(name, info);
        }
    }
    Ok(newest)
}
