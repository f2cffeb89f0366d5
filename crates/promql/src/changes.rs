//! Functions that change each row by itself.

use rayon::prelude::*;

use crate::evaluator::{Evaluated, Evaluator, Grid};
use crate::notes::Notes;
use crate::pipeline::RowChange;
use crate::plan::{HistogramNumber, Plan, PlanKind};
use crate::rows::{Row, Sample, is_absent};
use crate::scalars;

impl Evaluator<'_> {
    /// The change that a node makes to each row of its inside.
    pub(crate) fn change_of<'p>(
        &self,
        plan: &'p Plan,
        grid: Grid,
    ) -> Evaluated<Option<(&'p Plan, RowChange<'p>)>> {
        let Some(inner) = changed_node(plan) else { return Ok(None) };
        let optional = |bound: &Option<Box<Plan>>| -> Evaluated<Option<Vec<f64>>> {
            bound.as_ref().map(|bound| self.scalar(bound, grid)).transpose()
        };
        let change: RowChange<'p> = match &plan.kind {
            PlanKind::Elementwise { function, .. } => {
                let apply = function.apply;
                Box::new(move |row, _| each_float(row, |_, v| apply(v)))
            }
            PlanKind::Clamp { min, max, .. } => {
                let (min, max) = (optional(min)?, optional(max)?);
                Box::new(move |row, _| clamp(row, min.as_deref(), max.as_deref()))
            }
            PlanKind::Round { to, .. } => {
                let to = optional(to)?;
                Box::new(move |row, _| {
                    each_float(row, |step, v| scalars::round(v, to.as_ref().map_or(1.0, |to| to[step])));
                })
            }
            PlanKind::Date { part, .. } => {
                let part = *part;
                Box::new(move |row, _| each_float(row, |_, v| part.of(v as i64)))
            }
            PlanKind::HistogramNumber { number, .. } => {
                let number = *number;
                Box::new(move |row, _| histogram_number(row, number))
            }
            PlanKind::StepTimes(_) => {
                let steps = grid.steps;
                Box::new(move |row, _| {
                    for step in 0..row.floats.len() {
                        if row.is_present(step) {
                            row.set(step, Sample::Float(steps.time_ms(step) as f64 / 1000.0));
                        }
                    }
                    row.drop_name = true;
                })
            }
            _ => return Ok(None),
        };
        Ok(Some((inner, change)))
    }

    /// Applies a change to rows that are at hand, and drops those that it empties.
    pub(crate) fn change_rows(&self, mut rows: Vec<Row>, change: &RowChange<'_>) -> Evaluated<Vec<Row>> {
        const WORTH_SPLITTING: usize = 1 << 14;
        let cells = rows.iter().map(|row| row.floats.len()).sum::<usize>();
        let mut notes = Notes::default();
        if cells < WORTH_SPLITTING {
            let mut pace = self.pace();
            for row in &mut rows {
                pace.step()?;
                change(row, &mut notes);
            }
        } else {
            let parts: Vec<Notes> = rows
                .par_chunks_mut(64)
                .map(|rows| {
                    let mut notes = Notes::default();
                    self.budget.check("expression evaluation")?;
                    rows.iter_mut().for_each(|row| change(row, &mut notes));
                    Ok(notes)
                })
                .collect::<Evaluated<_>>()?;
            parts.into_iter().for_each(|part| notes.merge(part));
        }
        self.note(notes);
        rows.retain(Row::any);
        Ok(rows)
    }
}

/// The inside of a node that changes row by row.
pub(crate) fn changed_node(plan: &Plan) -> Option<&Plan> {
    match &plan.kind {
        PlanKind::Elementwise { inner, .. }
        | PlanKind::Clamp { inner, .. }
        | PlanKind::Round { inner, .. }
        | PlanKind::Date { inner: Some(inner), .. }
        | PlanKind::HistogramNumber { inner, .. }
        | PlanKind::StepTimes(inner) => Some(inner),
        _ => None,
    }
}

pub(crate) fn negation<'p>() -> RowChange<'p> {
    Box::new(|row, _| {
        for cell in &mut row.floats {
            if !is_absent(*cell) {
                *cell = -*cell;
            }
        }
        for h in row.histograms.iter_mut().flatten() {
            pilothouse_query::histogram::scale(std::sync::Arc::make_mut(h), -1.0);
        }
        row.drop_name = true;
    })
}

/// Applies a function to the floats of a row; histograms fall out.
fn each_float(row: &mut Row, apply: impl Fn(usize, f64) -> f64) {
    row.drop_histograms();
    for (step, cell) in row.floats.iter_mut().enumerate() {
        if !is_absent(*cell) {
            *cell = apply(step, *cell);
        }
    }
    row.drop_name = true;
}

fn clamp(row: &mut Row, min: Option<&[f64]>, max: Option<&[f64]>) {
    row.drop_histograms();
    for step in 0..row.floats.len() {
        let least = min.map_or(f64::NEG_INFINITY, |min| min[step]);
        let most = max.map_or(f64::INFINITY, |max| max[step]);
        let value = row.floats[step];
        if most < least {
            row.clear(step);
        } else if !is_absent(value) {
            row.floats[step] = scalars::max(least, scalars::min(most, value));
        }
    }
    row.drop_name = true;
}

fn histogram_number(row: &mut Row, number: HistogramNumber) {
    use pilothouse_query::histogram::{average, standard_deviation, variance};
    let histograms = std::mem::take(&mut row.histograms);
    row.floats.fill(crate::rows::absent());
    for (cell, h) in row.floats.iter_mut().zip(&histograms) {
        if let Some(h) = h {
            *cell = match number {
                HistogramNumber::Count => h.count,
                HistogramNumber::Sum => h.sum,
                HistogramNumber::Average => average(h),
                HistogramNumber::Stddev => standard_deviation(h),
                HistogramNumber::Stdvar => variance(h),
            };
        }
    }
    row.drop_name = true;
}
