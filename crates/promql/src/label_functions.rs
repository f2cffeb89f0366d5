//! Functions that change labels or order and leave the values alone.

use std::cmp::Ordering;

use pilothouse_model::labels::METRIC_NAME;
use pilothouse_model::{Budget, Labels, LabelsBuilder};

use crate::choose::extreme_first;
use crate::evaluator::{Evaluated, Evaluator, Grid};
use crate::matching::merge_equal_labels;
use crate::plan::{LabelJoin, LabelReplace, Plan, PlanKind};
use crate::rows::Row;

/// Labels up to so much are made before the budget is asked.
const ASKED_AT_ONCE_BYTES: u64 = 1 << 20;

/// Books label sets as they are made: a text of the query may be in every one of them.
pub(crate) struct MadeLabels<'e> {
    evaluator: &'e Evaluator<'e>,
    owed_bytes: u64,
}

impl<'e> MadeLabels<'e> {
    pub(crate) fn new(evaluator: &'e Evaluator<'e>) -> Self {
        Self { evaluator, owed_bytes: 0 }
    }

    pub(crate) fn add(&mut self, labels: &Labels) -> Evaluated<()> {
        self.owed_bytes += labels.as_encoded().len() as u64;
        if self.owed_bytes < ASKED_AT_ONCE_BYTES { Ok(()) } else { self.settle() }
    }

    pub(crate) fn settle(&mut self) -> Evaluated<()> {
        self.evaluator.hold_bytes(std::mem::take(&mut self.owed_bytes))
    }
}

fn set_label(row: &mut Row, name: &str, value: &str) {
    let mut builder = LabelsBuilder::from(&row.labels);
    builder.set(name, value);
    row.labels = builder.build();
    // A name that was set on purpose stays.
    row.drop_name &= name != METRIC_NAME;
}

impl Evaluator<'_> {
    pub(crate) fn replace_label(&self, replace: &LabelReplace, grid: Grid) -> Evaluated<Vec<Row>> {
        let mut rows = self.rows(&replace.inner, grid)?;
        let (mut pace, mut made) = (self.pace(), MadeLabels::new(self));
        for row in &mut rows {
            pace.step()?;
            let value = row.labels.value(&replace.source);
            let Some(replaced) = replace.regex.expand(value, &replace.replacement) else { continue };
            set_label(row, &replace.target, &replaced);
            made.add(&row.labels)?;
        }
        made.settle()?;
        merge_equal_labels(rows, self.budget)
    }

    pub(crate) fn join_labels(&self, join: &LabelJoin, grid: Grid) -> Evaluated<Vec<Row>> {
        let mut rows = self.rows(&join.inner, grid)?;
        let (mut pace, mut made) = (self.pace(), MadeLabels::new(self));
        for row in &mut rows {
            pace.step()?;
            let values: Vec<&str> = join.sources.iter().map(|source| row.labels.value(source)).collect();
            let joined = values.join(&join.separator);
            set_label(row, &join.target, &joined);
            made.add(&row.labels)?;
        }
        made.settle()?;
        merge_equal_labels(rows, self.budget)
    }

    /// Sorts an instant vector; over a range there is no order to keep.
    pub(crate) fn sort(&self, plan: &Plan, grid: Grid) -> Evaluated<Vec<Row>> {
        self.note_useless_sort(plan.span, grid);
        match &plan.kind {
            PlanKind::Sort { descending, inner } => {
                let mut rows = self.rows(inner, grid)?;
                rows.iter_mut().for_each(Row::drop_histograms);
                rows.retain(Row::any);
                if grid.len() == 1 {
                    let order = |a: &Row, b: &Row| extreme_first(a.floats[0], b.floats[0], *descending);
                    sort_in_steps(&mut rows, order, self.budget)?;
                }
                Ok(rows)
            }
            PlanKind::SortByLabel { labels, descending, inner } => {
                let mut rows = self.rows(inner, grid)?;
                if grid.len() == 1 {
                    let order = |a: &Row, b: &Row| {
                        let order = by_labels(a, b, labels);
                        if *descending { order.reverse() } else { order }
                    };
                    sort_in_steps(&mut rows, order, self.budget)?;
                }
                Ok(rows)
            }
            _ => Ok(Vec::new()),
        }
    }
}

/// A stable sort that can be ended: parts first, then ever larger ones, which are little more
/// than merged, since the sort finds what is in order already.
fn sort_in_steps(rows: &mut [Row], order: impl Fn(&Row, &Row) -> Ordering, budget: &Budget) -> Evaluated<()> {
    const FIRST: usize = 4096;
    let mut length = FIRST;
    loop {
        for part in rows.chunks_mut(length) {
            budget.check("sorting")?;
            part.sort_by(&order);
        }
        if length >= rows.len() {
            return Ok(());
        }
        length *= 4;
    }
}

fn by_labels(a: &Row, b: &Row, names: &[String]) -> Ordering {
    for name in names {
        let (a, b) = (a.labels.value(name), b.labels.value(name));
        if a != b {
            return if natural_less(a, b) { Ordering::Less } else { Ordering::Greater };
        }
    }
    a.labels.cmp(&b.labels)
}

/// Whether a text comes first if runs of digits count as numbers (`a2` before `a10`).
fn natural_less(a: &str, b: &str) -> bool {
    let (mut a_rest, mut b_rest) = (a, b);
    loop {
        let (Some(x), Some(y)) = (next_run(&mut a_rest), next_run(&mut b_rest)) else {
            return a_rest.is_empty() && !a.is_empty();
        };
        let order = match (x.parse::<i64>(), y.parse::<i64>()) {
            (Ok(x), Ok(y)) => x.cmp(&y),
            _ => x.cmp(y),
        };
        match order {
            Ordering::Equal if a_rest.is_empty() => return true,
            Ordering::Equal if b_rest.is_empty() => return false,
            Ordering::Equal => {}
            other => return other.is_lt(),
        }
    }
}

/// Takes the longest beginning that is all digits or all others.
fn next_run<'a>(rest: &mut &'a str) -> Option<&'a str> {
    let digits = rest.chars().next()?.is_ascii_digit();
    let end = rest.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(rest.len());
    let (run, after) = rest.split_at(end);
    *rest = after;
    Some(run)
}

#[cfg(test)]
mod tests {
    use pilothouse_model::Labels;

    use super::*;

    #[test]
    fn sorting_in_steps_is_sorting() {
        let row = |i: usize| {
            Row::of_floats(Labels::from_pairs([("i", &*i.to_string())]), vec![(i * 7919 % 997) as f64])
        };
        for count in [0, 1, 4096, 4097, 20_000] {
            let mut rows: Vec<Row> = (0..count).map(row).collect();
            let order = |a: &Row, b: &Row| a.floats[0].total_cmp(&b.floats[0]);
            sort_in_steps(&mut rows, order, &Budget::unlimited()).unwrap_or_default();
            let mut plain: Vec<Row> = (0..count).map(row).collect();
            plain.sort_by(order);
            assert!(rows.iter().zip(&plain).all(|(a, b)| a.labels == b.labels), "{count}");
        }
    }

    #[test]
    fn digits_count_as_numbers() {
        for (a, b) in [("a2", "a10"), ("4m5", "4m1000"), ("a", "b"), ("9", "10"), ("a", "a1"), ("1", "a")] {
            assert!(natural_less(a, b) && !natural_less(b, a), "{a} {b}");
        }
    }
}
