//! Aggregations over series: `sum by`, `topk` and the like, column by column and step by step.

use pilothouse_query::vectors::{Grouping as Groupings, Groups};

use crate::columns::{ABSENT, Column, is_absent, with_values};
use crate::reduce::Mean;
use crate::syntax::{VectorAggregation, VectorOp};

/// What a group has gathered at one step.
#[derive(Clone, Copy)]
struct Group {
    count: f64,
    value: f64,
    mean: Mean,
    /// Welford's running mean.
    centre: f64,
}

const EMPTY: Group = Group { count: 0.0, value: 0.0, mean: Mean::EMPTY, centre: 0.0 };

impl Group {
    fn add(&mut self, op: VectorOp, value: f64) {
        self.count += 1.0;
        let first = self.count == 1.0;
        match op {
            VectorOp::Sum => self.value += value,
            VectorOp::Avg => self.mean = self.mean.with(value),
            VectorOp::Max if first || self.value < value || self.value.is_nan() => self.value = value,
            VectorOp::Min if first || self.value > value || self.value.is_nan() => self.value = value,
            VectorOp::Stddev | VectorOp::Stdvar => {
                let delta = value - self.centre;
                self.centre += delta / self.count;
                self.value += delta * (value - self.centre);
            }
            _ => {}
        }
    }

    fn result(&self, op: VectorOp) -> f64 {
        if self.count == 0.0 {
            return ABSENT;
        }
        match op {
            VectorOp::Avg => self.mean.value,
            VectorOp::Count => self.count,
            VectorOp::Stdvar => self.value / self.count,
            VectorOp::Stddev => (self.value / self.count).sqrt(),
            _ => self.value,
        }
    }
}

pub(crate) fn aggregate(aggregation: &VectorAggregation, columns: Vec<Column>, steps: usize) -> Vec<Column> {
    let grouping = Groupings::new(aggregation.grouping.labels.clone(), aggregation.grouping.without);
    let mut groups = Groups::new(grouping);
    // Averages are sums over counts for Loki, joined, which loses labels without a value.
    let joined = aggregation.grouping.without || aggregation.op == VectorOp::Avg;
    let group_of: Vec<usize> = columns
        .iter()
        .map(|column| match joined {
            true => groups.number(&with_values(&column.labels)),
            false => groups.number(&column.labels),
        })
        .collect();
    match aggregation.op {
        VectorOp::Topk | VectorOp::Bottomk | VectorOp::ApproxTopk => {
            let largest = aggregation.op != VectorOp::Bottomk;
            select(columns, &group_of, groups.len(), aggregation.parameter, largest, steps)
        }
        VectorOp::Sort => sorted(columns, false),
        VectorOp::SortDesc => sorted(columns, true),
        op => {
            let mut sums = vec![vec![EMPTY; steps]; groups.len()];
            for (column, group) in columns.iter().zip(&group_of) {
                for (sum, value) in sums[*group].iter_mut().zip(&column.values) {
                    if !is_absent(*value) {
                        sum.add(op, *value);
                    }
                }
            }
            let values = sums.into_iter().map(|steps| steps.iter().map(|group| group.result(op)).collect());
            groups
                .into_labels()
                .into_iter()
                .zip(values)
                .map(|(labels, values)| Column { labels, values })
                .collect()
        }
    }
}

/// Keeps, at each step, the `k` largest or smallest values of each group; NaN comes last.
fn select(
    mut columns: Vec<Column>,
    group_of: &[usize],
    groups: usize,
    k: usize,
    largest: bool,
    steps: usize,
) -> Vec<Column> {
    let mut members: Vec<Vec<(f64, usize)>> = vec![Vec::new(); groups];
    for step in 0..steps {
        members.iter_mut().for_each(Vec::clear);
        for (i, column) in columns.iter().enumerate() {
            let value = column.values[step];
            if !is_absent(value) {
                members[group_of[i]].push((value, i));
            }
        }
        for group in &mut members {
            group.sort_by(|a, b| order(a.0, b.0, largest));
            for (_, i) in group.iter().skip(k) {
                columns[*i].values[step] = ABSENT;
            }
        }
    }
    columns.retain(|column| !column.is_empty());
    columns
}

fn order(a: f64, b: f64, descending: bool) -> std::cmp::Ordering {
    let plain = if descending { b.partial_cmp(&a) } else { a.partial_cmp(&b) };
    plain.unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

/// By the value at the first step: only instant queries show an order.
fn sorted(mut columns: Vec<Column>, descending: bool) -> Vec<Column> {
    let key = |column: &Column| column.values.first().copied().unwrap_or(ABSENT);
    columns.sort_by(|a, b| order(key(a), key(b), descending));
    columns
}
