//! Operators between two vectors: which rows belong together, and what their pairs make.

use hashbrown::HashMap;
use pilothouse_model::labels::METRIC_NAME;
use pilothouse_model::{Budget, Labels};
use pilothouse_query::vectors::{Grouping, Groups};
use rayon::prelude::*;

use crate::ast::{BinaryOp, Cardinality, Matching, Span};
use crate::elements::{self, arithmetic, comparison, truth};
use crate::error::{EvalError, execution};
use crate::evaluator::{Evaluated, Evaluator, Grid, Pace};
use crate::notes::Notes;
use crate::plan::BinaryPlan;
use crate::rows::{Row, Sample, absent, is_absent, is_schema_label};

impl Evaluator<'_> {
    pub(crate) fn match_vectors(&self, span: Span, plan: &BinaryPlan, grid: Grid) -> Evaluated<Vec<Row>> {
        let default = Matching::default();
        let matching = plan.matching.as_ref().unwrap_or(&default);
        let lhs = self.rows(&plan.lhs, grid)?;
        let rhs = self.rows(&plan.rhs, grid)?;
        let mut groups = Groups::new(Grouping::new(matching.labels.clone(), !matching.on));
        let mut pace = self.pace();
        let lhs = Side::new(lhs, &mut groups, &mut pace)?;
        let rhs = Side::new(rhs, &mut groups, &mut pace)?;
        let rows = match plan.op {
            BinaryOp::And => lhs.keep_where(&rhs, groups.len(), grid.len(), true, &mut pace)?,
            BinaryOp::Unless => lhs.keep_where(&rhs, groups.len(), grid.len(), false, &mut pace)?,
            BinaryOp::Or => {
                let extra = rhs.keep_where(&lhs, groups.len(), grid.len(), false, &mut pace)?;
                let mut rows = lhs.rows;
                rows.extend(extra);
                rows
            }
            op => {
                let mut notes = Notes::default();
                let (return_bool, steps) = (plan.return_bool, grid.len());
                let pairing = Pairing { op, return_bool, matching, span, steps, budget: self.budget };
                let rows = pairing.run(lhs, rhs, groups.len(), &mut notes);
                self.note(notes);
                rows?
            }
        };
        self.hold(&rows)?;
        merge_over_steps(rows, grid, self.budget)
    }
}

/// In a range query rows of the same labels become one, as Prometheus collects them step by step.
pub(crate) fn merge_over_steps(rows: Vec<Row>, grid: Grid, budget: &Budget) -> Result<Vec<Row>, EvalError> {
    if grid.len() > 1 { merge_equal_labels(rows, budget) } else { Ok(rows) }
}

/// Makes one row of those with equal labels; an error if they have values at the same step.
pub(crate) fn merge_equal_labels(rows: Vec<Row>, budget: &Budget) -> Result<Vec<Row>, EvalError> {
    let mut pace = Pace::new(budget);
    let mut index: HashMap<Labels, usize> = HashMap::with_capacity(rows.len());
    let mut merged: Vec<Row> = Vec::with_capacity(rows.len());
    for row in rows {
        pace.step()?;
        match index.get(&row.labels) {
            None => {
                index.insert(row.labels.clone(), merged.len());
                merged.push(row);
            }
            Some(&at) => absorb(&mut merged[at], row)?,
        }
    }
    Ok(merged)
}

fn absorb(into: &mut Row, row: Row) -> Result<(), EvalError> {
    for step in 0..row.floats.len() {
        if let Some(sample) = row.sample(step) {
            if into.is_present(step) {
                return execution("vector cannot contain metrics with the same labelset");
            }
            into.set(step, sample);
        }
    }
    Ok(())
}

/// One side of an operator with the group of each row.
struct Side {
    rows: Vec<Row>,
    groups: Vec<usize>,
}

impl Side {
    fn new(rows: Vec<Row>, groups: &mut Groups, pace: &mut Pace<'_>) -> Evaluated<Self> {
        let mut numbers = Vec::with_capacity(rows.len());
        for row in &rows {
            pace.step()?;
            numbers.push(groups.number(&row.labels));
        }
        Ok(Self { rows, groups: numbers })
    }

    /// At which steps each group has a value.
    fn presence(
        &self,
        groups: usize,
        steps: usize,
        pace: &mut Pace<'_>,
    ) -> Evaluated<Vec<Option<Vec<bool>>>> {
        let mut presence = vec![None; groups];
        for (row, group) in self.rows.iter().zip(&self.groups) {
            pace.step()?;
            let present = presence[*group].get_or_insert_with(|| vec![false; steps]);
            for (step, present) in present.iter_mut().enumerate() {
                *present |= row.is_present(step);
            }
        }
        Ok(presence)
    }

    /// The rows where the other side has a value in the same group, or where it has none.
    fn keep_where(
        mut self,
        other: &Self,
        groups: usize,
        steps: usize,
        present: bool,
        pace: &mut Pace<'_>,
    ) -> Evaluated<Vec<Row>> {
        let presence = other.presence(groups, steps, pace)?;
        for (row, group) in self.rows.iter_mut().zip(&self.groups) {
            pace.step()?;
            for step in 0..steps {
                let there = presence[*group].as_ref().is_some_and(|p| p[step]);
                if there != present {
                    row.clear(step);
                }
            }
        }
        self.rows.retain(Row::any);
        Ok(self.rows)
    }

    fn by_group(&self, groups: usize) -> Vec<Vec<usize>> {
        let mut members = vec![Vec::new(); groups];
        for (row, group) in self.groups.iter().enumerate() {
            members[*group].push(row);
        }
        members
    }
}

/// The labels by which a set is matched.
fn match_labels(labels: &Labels, matching: &Matching) -> Labels {
    let named = |name: &str| matching.labels.iter().any(|label| label == name);
    if matching.on { labels.filter(named) } else { labels.filter(|name| name != METRIC_NAME && !named(name)) }
}

/// How many groups of a match one task takes.
const GROUPS_PER_TASK: usize = 128;

struct Pairing<'p> {
    op: BinaryOp,
    return_bool: bool,
    matching: &'p Matching,
    span: Span,
    steps: usize,
    budget: &'p Budget,
}

/// What one pair of rows made, and at which steps an operation took place, whatever it kept.
struct Pair {
    row: Row,
    evaluated: Vec<bool>,
}

/// One operand of a pair: a row, or a number that fills in for a missing one.
#[derive(Clone, Copy)]
enum Operand<'r> {
    Row(&'r Row),
    Fill(f64),
}

impl Operand<'_> {
    fn sample(&self, step: usize) -> Option<Sample> {
        match self {
            Self::Row(row) => row.sample(step),
            Self::Fill(value) => Some(Sample::Float(*value)),
        }
    }

    fn float(&self, step: usize) -> f64 {
        match self {
            Self::Row(row) => row.floats[step],
            Self::Fill(value) => *value,
        }
    }

    fn has_histograms(&self) -> bool {
        matches!(self, Self::Row(row) if row.has_histograms())
    }
}

impl Pairing<'_> {
    fn run(&self, lhs: Side, rhs: Side, groups: usize, notes: &mut Notes) -> Result<Vec<Row>, EvalError> {
        // The right side is the one that must be unique; `group_right` swaps the roles.
        let swapped = self.matching.card == Cardinality::OneToMany;
        let (many, one) = if swapped { (rhs, lhs) } else { (lhs, rhs) };
        let (many_of, one_of) = (many.by_group(groups), one.by_group(groups));
        self.check_unique(&many, &one, &one_of)?;
        let groups: Vec<(Vec<usize>, Vec<usize>)> = many_of.into_iter().zip(one_of).collect();
        let parts: Vec<(Vec<Row>, Notes)> = groups
            .par_chunks(GROUPS_PER_TASK)
            .map(|groups| {
                let (mut rows, mut notes) = (Vec::new(), Notes::default());
                for (many_members, one_members) in groups {
                    let manys: Vec<&Row> = many_members.iter().map(|i| &many.rows[*i]).collect();
                    let ones: Vec<&Row> = one_members.iter().map(|i| &one.rows[*i]).collect();
                    self.group(&manys, &ones, &mut rows, &mut notes)?;
                }
                rows.retain(Row::any);
                Ok((rows, notes))
            })
            .collect::<Result<_, EvalError>>()?;
        let mut rows = Vec::with_capacity(parts.iter().map(|(rows, _)| rows.len()).sum());
        for (part, part_notes) in parts {
            rows.extend(part);
            notes.merge(part_notes);
        }
        Ok(rows)
    }

    fn group(
        &self,
        manys: &[&Row],
        ones: &[&Row],
        out: &mut Vec<Row>,
        notes: &mut Notes,
    ) -> Result<(), EvalError> {
        let mut pairs = Vec::with_capacity(manys.len());
        let mut pace = Pace::new(self.budget);
        for many in manys {
            pace.step()?;
            for one in ones {
                let pair = self.pair(
                    Operand::Row(many),
                    Operand::Row(one),
                    &many.labels,
                    &one.labels,
                    |_| true,
                    notes,
                );
                // Each of the many may get a long label of the one.
                if !self.matching.include.is_empty() {
                    self.budget.reserve_bytes(pair.row.labels.as_encoded().len() as u64)?;
                }
                pairs.push(pair);
            }
            // As in Prometheus the value for the right fills in for the unique side.
            if let Some(fill) = self.matching.fill_right {
                let labels = match_labels(&many.labels, self.matching);
                let missing = |step: usize| !ones.iter().any(|one| one.is_present(step));
                pairs.push(self.pair(
                    Operand::Row(many),
                    Operand::Fill(fill),
                    &many.labels,
                    &labels,
                    missing,
                    notes,
                ));
            }
        }
        self.check_matches(&pairs)?;
        if let Some(fill) = self.matching.fill_left {
            let matched: Vec<bool> =
                (0..self.steps).map(|step| pairs.iter().any(|p| p.evaluated[step])).collect();
            for one in ones {
                let labels = match_labels(&one.labels, self.matching);
                let missing = |step: usize| !matched[step];
                pairs.push(self.pair(
                    Operand::Fill(fill),
                    Operand::Row(one),
                    &labels,
                    &one.labels,
                    missing,
                    notes,
                ));
            }
        }
        out.extend(pairs.into_iter().map(|pair| pair.row));
        Ok(())
    }

    fn pair(
        &self,
        many: Operand<'_>,
        one: Operand<'_>,
        many_labels: &Labels,
        one_labels: &Labels,
        at: impl Fn(usize) -> bool,
        notes: &mut Notes,
    ) -> Pair {
        let swapped = self.matching.card == Cardinality::OneToMany;
        let (left, right) = if swapped { (one, many) } else { (many, one) };
        let mut pair = Pair {
            row: Row::empty(self.result_labels(many_labels, one_labels), self.steps),
            evaluated: vec![false; self.steps],
        };
        pair.row.drop_name = self.return_bool;
        let plain = !left.has_histograms() && !right.has_histograms();
        match (arithmetic(self.op), comparison(self.op)) {
            (Some(op), _) if plain => {
                self.floats(&mut pair, left, right, at, |l, r| op.apply(l, r));
            }
            (_, Some(op)) if plain => {
                let bool = self.return_bool;
                self.floats(&mut pair, left, right, at, |l, r| match op.holds(l, r) {
                    holds if bool => truth(holds),
                    true => l,
                    false => absent(),
                });
            }
            _ => self.samples(&mut pair, left, right, at, notes),
        }
        pair
    }

    fn floats(
        &self,
        pair: &mut Pair,
        left: Operand<'_>,
        right: Operand<'_>,
        at: impl Fn(usize) -> bool,
        apply: impl Fn(f64, f64) -> f64,
    ) {
        for step in 0..self.steps {
            let (l, r) = (left.float(step), right.float(step));
            if !is_absent(l) && !is_absent(r) && at(step) {
                pair.row.floats[step] = apply(l, r);
                pair.evaluated[step] = true;
            }
        }
    }

    fn samples(
        &self,
        pair: &mut Pair,
        left: Operand<'_>,
        right: Operand<'_>,
        at: impl Fn(usize) -> bool,
        notes: &mut Notes,
    ) {
        for step in (0..self.steps).filter(|step| at(*step)) {
            let (Some(l), Some(r)) = (left.sample(step), right.sample(step)) else { continue };
            let Some(outcome) = elements::samples(self.op, &l, &r, self.span, notes) else { continue };
            pair.evaluated[step] = true;
            if self.return_bool {
                pair.row.set(step, Sample::Float(truth(outcome.keep)));
            } else if outcome.keep {
                pair.row.set(step, outcome.sample);
            }
        }
    }

    /// Those of the "many" side, cut to what is matched on where both sides are unique, with the
    /// labels that `group_left` or `group_right` name taken from the other.
    fn result_labels(&self, many: &Labels, one: &Labels) -> Labels {
        let matching = self.matching;
        let named = |name: &str| matching.labels.iter().any(|label| label == name);
        let new_meaning = arithmetic(self.op).is_some();
        let kept = many.filter(|name| {
            let schema = new_meaning && is_schema_label(name);
            let unmatched = matching.card == Cardinality::OneToOne && named(name) != matching.on;
            !schema && !unmatched
        });
        if matching.include.is_empty() {
            return kept;
        }
        let included = |name: &str| matching.include.iter().any(|label| label == name);
        let mut pairs: Vec<(&str, &str)> = kept.iter().filter(|(name, _)| !included(name)).collect();
        pairs.extend(one.iter().filter(|(name, _)| included(name)));
        pairs.sort_unstable();
        Labels::from_sorted(pairs)
    }

    /// The side that must be unique may have one value a group and step, if it meets the other.
    fn check_unique(&self, many: &Side, one: &Side, one_of: &[Vec<usize>]) -> Result<(), EvalError> {
        if one_of.iter().all(|members| members.len() < 2) {
            return Ok(());
        }
        let fills = self.matching.fill_left.is_some() || self.matching.fill_right.is_some();
        for step in 0..self.steps {
            if !fills && !many.rows.iter().any(|row| row.is_present(step)) {
                continue;
            }
            for members in one_of.iter().filter(|members| members.len() > 1) {
                let mut present = members.iter().map(|i| &one.rows[*i]).filter(|row| row.is_present(step));
                if let (Some(first), Some(second)) = (present.next(), present.next()) {
                    return self.duplicates(&first.labels, &second.labels);
                }
            }
        }
        Ok(())
    }

    fn duplicates(&self, first: &Labels, second: &Labels) -> Result<(), EvalError> {
        let side = if self.matching.card == Cardinality::OneToMany { "left" } else { "right" };
        let group = match_labels(first, self.matching);
        let (mut first, mut second) = (first.to_string(), second.to_string());
        if first > second {
            std::mem::swap(&mut first, &mut second);
        }
        execution(format!(
            "found duplicate series for the match group {group} on the {side} hand-side of the operation: \
             [{first}, {second}];many-to-many matching not allowed: matching labels must be unique on one side"
        ))
    }

    /// Each match must give a result of its own: one a group and step between unique sides, one
    /// a label set where one side may have many.
    fn check_matches(&self, pairs: &[Pair]) -> Result<(), EvalError> {
        if pairs.len() < 2 {
            return Ok(());
        }
        if self.matching.card == Cardinality::OneToOne {
            let twice = |step: usize| pairs.iter().filter(|p| p.evaluated[step]).nth(1).is_some();
            if (0..self.steps).any(twice) {
                return execution(
                    "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
                );
            }
            return Ok(());
        }
        let mut seen: HashMap<&Labels, Vec<bool>> = HashMap::with_capacity(pairs.len());
        for pair in pairs {
            let before = seen.entry(&pair.row.labels).or_insert_with(|| vec![false; self.steps]);
            for (before, now) in before.iter_mut().zip(&pair.evaluated) {
                if *before && *now {
                    return execution(
                        "multiple matches for labels: grouping labels must ensure unique matches",
                    );
                }
                *before |= *now;
            }
        }
        Ok(())
    }
}
