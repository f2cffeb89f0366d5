//! Subqueries: an instant query on a grid of its own, whose values stand for samples.

use pilothouse_model::SampleColumns;
use pilothouse_query::steps::Steps;
use rayon::prelude::*;

use crate::error::execution;
use crate::evaluator::{Counting, Evaluated, Evaluator, Grid};
use crate::notes::Notes;
use crate::plan::{RangePlan, RangeSource, SubqueryPlan};
use crate::rows::{Row, Sample};

impl Evaluator<'_> {
    /// The rows of a subquery with the grid they stand on, for windows of `range_ms` that end at
    /// the steps of `grid`.
    pub(crate) fn subquery(
        &self,
        subquery: &SubqueryPlan,
        range_ms: i64,
        grid: Grid,
    ) -> Evaluated<(Vec<Row>, Steps)> {
        let (first_end, last_end) = match subquery.at_ms {
            Some(at_ms) => (at_ms, at_ms),
            None => (grid.steps.start_ms, grid.steps.last_ms()),
        };
        let step_ms = subquery.step_ms.unwrap_or(self.default_subquery_step_ms).max(1);
        let before = first_end.saturating_sub(subquery.offset_ms).saturating_sub(range_ms);
        let mut start_ms = step_ms * (before / step_ms);
        if start_ms <= before {
            start_ms += step_ms;
        }
        let steps = Steps::range(start_ms, last_end.saturating_sub(subquery.offset_ms), step_ms);
        if steps.is_empty() {
            return Ok((Vec::new(), steps));
        }
        // Before anything of that length is made.
        self.hold_bytes(steps.count.saturating_mul(8) as u64)?;
        let rows = self.rows(&subquery.inner, Grid { steps, counting: Counting::No })?;
        Ok((rows, steps))
    }

    pub(crate) fn range_over_subquery(&self, range: &RangePlan, grid: Grid) -> Evaluated<Vec<Row>> {
        let RangeSource::Subquery(subquery) = &range.source else {
            return execution("unexpected range vector");
        };
        let (rows, inner_steps) = self.subquery(subquery, range.range_ms, grid)?;
        let spec = self.range_spec(range, None, (subquery.offset_ms, subquery.at_ms), grid)?;
        let windowed: Vec<(Option<Row>, Notes)> = rows
            .into_par_iter()
            .with_min_len(16)
            .map(|inner| {
                self.budget.check("expression evaluation")?;
                let mut notes = Notes::default();
                let columns = columns_of(&inner, inner_steps);
                let mut row = Row::empty(inner.labels.clone(), grid.len());
                row.drop_name = inner.drop_name;
                let any = spec.fill(&inner.labels, &columns, &mut row, &mut notes)?;
                Ok((any.then_some(row), notes))
            })
            .collect::<Evaluated<_>>()?;
        let mut rows = Vec::with_capacity(windowed.len());
        for (row, notes) in windowed {
            self.note(notes);
            rows.extend(row);
        }
        self.hold(&rows)?;
        Ok(rows)
    }
}

/// The values of a row as samples at the times of its grid. What a histogram says of resets is
/// about samples that a subquery may have skipped or repeated, so it is forgotten.
fn columns_of(row: &Row, steps: Steps) -> SampleColumns {
    use pilothouse_model::ResetHint::{NotReset, Reset, Unknown};
    let mut columns = SampleColumns::default();
    for (step, t_ms) in steps.iter().enumerate() {
        match row.sample(step) {
            Some(Sample::Float(value)) => columns.push_float(t_ms, value),
            Some(Sample::Histogram(mut h)) => {
                if matches!(h.reset_hint, Reset | NotReset) {
                    std::sync::Arc::make_mut(&mut h).reset_hint = Unknown;
                }
                columns.histograms.push((t_ms, h));
            }
            None => {}
        }
    }
    columns
}
