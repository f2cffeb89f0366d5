//! What a query cost, as Prometheus' `stats` shows it.

use std::fmt::Write as _;
use std::time::Duration;

use pilothouse_promql::QueryStats;

use crate::json::{push_list, push_seconds};

/// A JSON object. Samples by step are there only where they were counted.
pub(crate) fn stats_json(stats: &QueryStats, queued: Duration) -> String {
    let seconds = |d: Duration| d.as_secs_f64();
    let evaluated = stats.preparation + stats.evaluation + stats.sorting;
    let mut out = String::new();
    // Writing to a String does not fail.
    let _ = write!(
        out,
        "{{\"timings\":{{\"evalTotalTime\":{},\"resultSortTime\":{},\"queryPreparationTime\":{},\
         \"innerEvalTime\":{},\"execQueueTime\":{},\"execTotalTime\":{}}},\"samples\":{{",
        seconds(evaluated),
        seconds(stats.sorting),
        seconds(stats.preparation),
        seconds(stats.evaluation),
        seconds(queued),
        seconds(evaluated + queued),
    );
    if let Some(steps) = &stats.samples_per_step {
        out.push_str("\"totalQueryableSamplesPerStep\":");
        push_list(&mut out, steps, |out, (t_ms, samples)| {
            out.push('[');
            push_seconds(out, *t_ms);
            let _ = write!(out, ",{samples}]");
        });
        out.push(',');
    }
    let _ = write!(
        out,
        "\"totalQueryableSamples\":{},\"peakSamples\":{}}}}}",
        stats.total_queryable_samples, stats.peak_samples
    );
    out
}
