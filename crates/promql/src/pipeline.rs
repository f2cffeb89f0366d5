//! From a selector to rows: series are read, reduced to the grid and changed row by row, in
//! parallel, and handed on in blocks so that an aggregation never holds all of them.

use pilothouse_model::{SampleColumns, SelectedSeries};
use rayon::prelude::*;

use crate::error::EvalError;
use crate::evaluator::Evaluator;
use crate::notes::Notes;
use crate::rows::Row;

/// Reads one series into a row that is reset to the grid; `false` if nothing came of it.
pub(crate) trait Producer: Sync + Send {
    fn produce(
        &self,
        series: &SelectedSeries,
        scratch: &mut SampleColumns,
        row: &mut Row,
        notes: &mut Notes,
    ) -> Result<bool, EvalError>;
}

/// A change of one row.
pub(crate) type RowChange<'p> = Box<dyn Fn(&mut Row, &mut Notes) + Sync + Send + 'p>;

pub(crate) struct Pipeline<'p> {
    pub(crate) series: Vec<SelectedSeries>,
    pub(crate) producer: Box<dyn Producer + 'p>,
    pub(crate) changes: Vec<RowChange<'p>>,
    pub(crate) steps: usize,
}

/// How many series one task takes at least, so that tasks are worth their scheduling.
const LEAST_CHUNK: usize = 32;
/// Cells that one block of rows may have: what streaming holds at a time.
const BLOCK_CELLS: usize = 1 << 20;

impl Pipeline<'_> {
    /// All rows with a value, in the order of the series.
    pub(crate) fn collect(self, evaluator: &Evaluator<'_>) -> Result<Vec<Row>, EvalError> {
        let mut all = Vec::new();
        self.for_each_block(evaluator, |rows, _| {
            evaluator.hold(rows)?;
            all.extend(rows.iter_mut().map(std::mem::take));
            Ok(())
        })?;
        Ok(all)
    }

    /// Hands on the rows with a value, block by block, in the order of the series.
    pub(crate) fn for_each_block(
        &self,
        evaluator: &Evaluator<'_>,
        mut take: impl FnMut(&mut [Row], &mut Notes) -> Result<(), EvalError>,
    ) -> Result<(), EvalError> {
        let threads = rayon::current_num_threads();
        let most = (BLOCK_CELLS / self.steps.max(1)).clamp(LEAST_CHUNK * threads, 1 << 16);
        let mut notes = Notes::default();
        for block in self.series.chunks(most) {
            evaluator.budget.check("expression evaluation")?;
            let chunk = block.len().div_ceil(threads * 4).max(LEAST_CHUNK);
            if block.len() <= LEAST_CHUNK {
                let mut rows = self.rows_of(evaluator, block, &mut notes)?;
                take(&mut rows, &mut notes)?;
                continue;
            }
            let parts: Vec<(Vec<Row>, Notes)> = block
                .par_chunks(chunk)
                .map(|series| {
                    let mut notes = Notes::default();
                    Ok((self.rows_of(evaluator, series, &mut notes)?, notes))
                })
                .collect::<Result<_, EvalError>>()?;
            for (mut rows, part_notes) in parts {
                notes.merge(part_notes);
                take(&mut rows, &mut notes)?;
            }
        }
        evaluator.note(notes);
        Ok(())
    }

    /// Folds all rows with a value, a part of the series on each thread. The parts come back in
    /// the order of the series.
    pub(crate) fn fold<A: Send>(
        &self,
        evaluator: &Evaluator<'_>,
        new: impl Fn() -> A + Sync,
        add: impl Fn(&mut A, &mut Row, &mut Notes) -> Result<(), EvalError> + Sync,
    ) -> Result<Vec<A>, EvalError> {
        let part = |series: &[SelectedSeries]| {
            let (mut folded, mut notes) = (new(), Notes::default());
            self.each_row(evaluator, series, &mut notes, |row, notes| add(&mut folded, row, notes))?;
            evaluator.note(notes);
            Ok(folded)
        };
        let length = self.series.len().div_ceil(rayon::current_num_threads()).max(LEAST_CHUNK);
        if self.series.len() <= length {
            return Ok(vec![part(&self.series)?]);
        }
        self.series.par_chunks(length).map(part).collect()
    }

    fn rows_of(
        &self,
        evaluator: &Evaluator<'_>,
        series: &[SelectedSeries],
        notes: &mut Notes,
    ) -> Result<Vec<Row>, EvalError> {
        let mut rows = Vec::with_capacity(series.len());
        self.each_row(evaluator, series, notes, |row, _| {
            rows.push(std::mem::take(row));
            Ok(())
        })?;
        Ok(rows)
    }

    /// Makes one row after the other, in the same memory unless it is taken.
    fn each_row(
        &self,
        evaluator: &Evaluator<'_>,
        series: &[SelectedSeries],
        notes: &mut Notes,
        mut take: impl FnMut(&mut Row, &mut Notes) -> Result<(), EvalError>,
    ) -> Result<(), EvalError> {
        let mut scratch = SampleColumns::default();
        let mut row = Row::default();
        for (i, one) in series.iter().enumerate() {
            if i % LEAST_CHUNK == 0 {
                evaluator.budget.check("expression evaluation")?;
            }
            row.reset(&one.labels, self.steps);
            if !self.producer.produce(one, &mut scratch, &mut row, notes)? {
                continue;
            }
            self.changes.iter().for_each(|change| change(&mut row, notes));
            if self.changes.is_empty() || row.any() {
                take(&mut row, notes)?;
            }
        }
        Ok(())
    }
}
