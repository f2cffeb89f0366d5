//! What a query cost, as Prometheus' `stats` shows it.

use std::fmt::Write as _;
use std::time::Duration;

use pilothouse_model::Budget;

#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Timings {
    pub(crate) preparation: Duration,
    pub(crate) queue: Duration,
    pub(crate) evaluation: Duration,
}

impl Timings {
    /// A JSON object. The samples per step, which Prometheus gives behind a switch of its
    /// own, are left out.
    pub(crate) fn to_json(self, budget: &Budget) -> String {
        let seconds = |d: Duration| d.as_secs_f64();
        let total = self.preparation + self.queue + self.evaluation;
        let mut out = String::new();
        // Writing to a String does not fail.
        let _ = write!(
            out,
            "{{\"timings\":{{\"evalTotalTime\":{},\"resultSortTime\":0,\"queryPreparationTime\":{},\
             \"innerEvalTime\":{},\"execQueueTime\":{},\"execTotalTime\":{}}},\"samples\":{{\
             \"totalQueryableSamples\":{},\"peakSamples\":{},\"seriesSelected\":{},\"memoryPeakBytes\":{}}}}}",
            seconds(self.evaluation),
            seconds(self.preparation),
            seconds(self.evaluation),
            seconds(self.queue),
            seconds(total),
            budget.samples(),
            budget.samples(),
            budget.series(),
            budget.memory_peak_bytes(),
        );
        out
    }
}
