//! Aggregations that look at all values of a group at once: `topk` and its kin, `quantile`,
//! `count_values`.

use std::cmp::Ordering;

use hashbrown::HashMap;
use pilothouse_model::sample::format_float_plain;
use pilothouse_model::{Labels, LabelsBuilder};
use pilothouse_query::arithmetic::quantile;
use pilothouse_query::histogram::HistogramText;
use xxhash_rust::xxh64::xxh64;

use crate::aggregate::{Parameter, grouped};
use crate::ast::{AggregateOp, Span};
use crate::error::execution;
use crate::evaluator::{Evaluated, Evaluator, Grid};
use crate::label_functions::MadeLabels;
use crate::notes::{Note, Notes};
use crate::plan::AggregatePlan;
use crate::rows::{Row, Sample, is_absent};

impl Evaluator<'_> {
    pub(crate) fn quantiles(&self, plan: &AggregatePlan, grid: Grid) -> Evaluated<Vec<Row>> {
        let parameter = self.parameter(plan, grid)?;
        let rows = self.rows(&plan.inner, grid)?;
        let mut notes = Notes::default();
        note_invalid_quantiles(&parameter, plan, &mut notes);
        if rows.iter().any(Row::has_histograms) {
            notes.add(Note::IgnoredInAggregation("quantile"), plan.inner.span);
        }
        self.note(notes);
        let mut pace = self.pace();
        let (labels, members) = grouped(plan, &rows, &mut pace)?;
        let mut values = Vec::new();
        let mut out = Vec::with_capacity(labels.len());
        for (labels, members) in labels.into_iter().zip(members) {
            pace.step()?;
            let mut row = Row::empty(labels, grid.len());
            for (step, q) in parameter.values.iter().enumerate() {
                let floats = members.iter().map(|i| rows[*i].floats[step]);
                values.clear();
                values.extend(floats.filter(|cell| !is_absent(*cell)));
                if !values.is_empty() {
                    row.floats[step] = quantile(*q, &mut values);
                }
            }
            row.drop_name = members.iter().any(|i| rows[*i].drop_name);
            out.push(row);
        }
        out.retain(Row::any);
        Ok(out)
    }

    pub(crate) fn count_values(&self, plan: &AggregatePlan, grid: Grid) -> Evaluated<Vec<Row>> {
        let label = plan.value_label.as_deref().unwrap_or("");
        let rows = self.rows(&plan.inner, grid)?;
        let mut counted: HashMap<Labels, usize> = HashMap::new();
        let mut out: Vec<Row> = Vec::new();
        let mut made = MadeLabels::new(self);
        for row in &rows {
            let mut builder = LabelsBuilder::from(&row.labels);
            for step in 0..grid.len() {
                let text = match row.sample(step) {
                    None => continue,
                    Some(Sample::Float(value)) => format_float_plain(value),
                    Some(Sample::Histogram(h)) => HistogramText(&h).to_string(),
                };
                builder.set(label, &text);
                let labels = plan.grouping.project(&builder.build());
                let at = *counted.entry(labels.clone()).or_insert(out.len());
                if at == out.len() {
                    made.add(&labels)?;
                    out.push(Row::empty(labels, grid.len()));
                }
                let cell = &mut out[at].floats[step];
                *cell = if is_absent(*cell) { 1.0 } else { *cell + 1.0 };
            }
            self.budget.check("expression evaluation")?;
        }
        made.settle()?;
        self.hold(&out)?;
        Ok(out)
    }

    /// `topk`, `bottomk`, `limitk`, `limit_ratio`: some of the input, as it is.
    pub(crate) fn choose(&self, span: Span, plan: &AggregatePlan, grid: Grid) -> Evaluated<Vec<Row>> {
        let parameter = self.parameter(plan, grid)?;
        let rows = self.rows(&plan.inner, grid)?;
        let mut notes = Notes::default();
        if !check_parameter(&parameter, plan, &mut notes)? {
            return Ok(Vec::new());
        }
        let (_, members) = grouped(plan, &rows, &mut self.pace())?;
        let mut chosen: Vec<Option<Row>> = vec![None; rows.len()];
        let mut order = Vec::new();
        for members in &members {
            for (step, k) in parameter.values.iter().enumerate() {
                self.budget.check("expression evaluation")?;
                for at in choose_at(plan.op, *k, members, &rows, step, span, &mut notes) {
                    let Some(sample) = rows[at].sample(step) else { continue };
                    let row = chosen[at].get_or_insert_with(|| {
                        order.push(at);
                        let empty = Row::empty(rows[at].labels.clone(), grid.len());
                        Row { drop_name: rows[at].drop_name, ..empty }
                    });
                    row.set(step, sample);
                }
            }
        }
        self.note(notes);
        Ok(order.into_iter().filter_map(|at| chosen[at].take()).collect())
    }
}

fn note_invalid_quantiles(parameter: &Parameter, plan: &AggregatePlan, notes: &mut Notes) {
    let Some(param) = &plan.param else { return };
    let mut invalid = |q: f64| notes.add(Note::InvalidQuantile { bits: q.to_bits() }, param.span);
    if parameter.any_nan() {
        invalid(f64::NAN);
    }
    if parameter.max() > 1.0 {
        invalid(parameter.max());
    }
    if parameter.min() < 0.0 {
        invalid(parameter.min());
    }
}

/// Checks a parameter over all steps; `false` if nothing can be chosen at any.
fn check_parameter(parameter: &Parameter, plan: &AggregatePlan, notes: &mut Notes) -> Evaluated<bool> {
    let (min, max) = (parameter.min(), parameter.max());
    if plan.op == AggregateOp::LimitRatio {
        if min == 0.0 && max == 0.0 {
            return Ok(false);
        }
        if parameter.any_nan() {
            return execution("Ratio value is NaN");
        }
        let span = plan.param.as_ref().map_or(plan.inner.span, |param| param.span);
        for (value, cap) in [(max, 1.0), (min, -1.0)] {
            if value * cap > 1.0 {
                let note = Note::InvalidRatio { bits: value.to_bits(), capped_bits: f64::to_bits(cap) };
                notes.add(note, span);
            }
        }
        return Ok(true);
    }
    if max < 1.0 {
        return Ok(false);
    }
    if parameter.any_nan() {
        return execution("Parameter value is NaN");
    }
    for (value, out, how) in [(min, min <= i64::MIN as f64, "under"), (max, max >= i64::MAX as f64, "over")] {
        if out {
            let value = pilothouse_model::sample::format_float(value);
            return execution(format!("Scalar value {value} {how}flows int64"));
        }
    }
    Ok(true)
}

/// Which members of a group are chosen at a step, in the order of the answer.
fn choose_at(
    op: AggregateOp,
    parameter: f64,
    members: &[usize],
    rows: &[Row],
    step: usize,
    span: Span,
    notes: &mut Notes,
) -> Vec<usize> {
    let present = members.iter().copied().filter(|at| rows[*at].is_present(step));
    match op {
        AggregateOp::LimitRatio => {
            let ratio = parameter.clamp(-1.0, 1.0);
            present.filter(|at| in_ratio(&rows[*at].labels, ratio)).collect()
        }
        AggregateOp::LimitK => present.take(at_most(parameter, members.len())).collect(),
        _ => {
            let (mut floats, mut histograms): (Vec<usize>, Vec<usize>) =
                present.partition(|at| !is_absent(rows[*at].floats[step]));
            let k = at_most(parameter, members.len());
            if k > 0 && histograms.pop().is_some() {
                notes.add(Note::IgnoredInAggregation(op.as_str()), span);
            }
            let largest = op == AggregateOp::TopK;
            let by_value =
                |a: &usize, b: &usize| extreme_first(rows[*a].floats[step], rows[*b].floats[step], largest);
            if k < floats.len() && k > 0 {
                floats.select_nth_unstable_by(k - 1, |a, b| by_value(a, b).then(a.cmp(b)));
            }
            floats.truncate(k);
            floats.sort_by(by_value);
            floats
        }
    }
}

fn at_most(k: f64, members: usize) -> usize {
    if k < 1.0 { 0 } else { (k as usize).min(members) }
}

/// The order of `topk` (largest first) or `bottomk`, NaN at the end.
pub(crate) fn extreme_first(a: f64, b: f64, largest: bool) -> Ordering {
    let ascending = a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()));
    if largest && !a.is_nan() && !b.is_nan() { ascending.reverse() } else { ascending }
}

/// Whether a series falls into a share of all, by a hash of its labels that is the same as in
/// Prometheus. A negative share takes its members from the other end.
fn in_ratio(labels: &Labels, ratio: f64) -> bool {
    let offset = prometheus_hash(labels) as f64 / u64::MAX as f64;
    if ratio >= 0.0 { offset < ratio } else { offset >= 1.0 + ratio }
}

/// The hash that Prometheus makes of a label set: xxHash64 over names and values, each behind
/// its length.
fn prometheus_hash(labels: &Labels) -> u64 {
    let mut bytes = Vec::with_capacity(256);
    for text in labels.iter().flat_map(|(name, value)| [name, value]) {
        let length = text.len();
        if length < 255 {
            bytes.push(length as u8);
        } else {
            bytes.push(255);
            bytes.extend_from_slice(&(length as u32).to_le_bytes()[..3]);
        }
        bytes.extend_from_slice(text.as_bytes());
    }
    xxh64(&bytes, 0)
}
