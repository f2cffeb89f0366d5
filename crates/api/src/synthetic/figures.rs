//! What checks and private probes say about themselves on `/metrics`.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::App;
use crate::telemetry::Family;

/// No families before checks run.
pub(crate) fn families(app: &App) -> Vec<Family> {
    let Some(synthetic) = app.synthetic() else { return Vec::new() };
    let (stats, results) = (synthetic.schedule.stats(), synthetic.schedule.published());
    let number = |of: &AtomicU64| of.load(Relaxed) as f64;
    let (online, private) = synthetic.registry.private_probes();
    vec![
        Family::gauge("pilothouse_synthetic_checks", "Checks that the built-in probe runs.")
            .value(number(&stats.checks)),
        Family::gauge("pilothouse_synthetic_runs_under_way", "Runs of checks that are not over yet.")
            .value(number(&stats.running)),
        Family::counter("pilothouse_synthetic_runs_total", "Runs of checks, by how they ended.")
            .labelled(&[("result", "failed")], number(&stats.failed_runs))
            .labelled(&[("result", "good")], number(&stats.good_runs))
            .labelled(&[("result", "left_out")], number(&stats.left_out_runs)),
        Family::counter(
            "pilothouse_synthetic_runs_skipped_total",
            "Runs that were due while the run before was not over, and did not happen.",
        )
        .value(number(&stats.skipped)),
        Family::histogram(
            "pilothouse_synthetic_run_lateness_seconds",
            "How long after its time a run began.",
        )
        .distribution(&[], stats.lateness.counts().into()),
        Family::counter("pilothouse_synthetic_results_total", "Results of runs, by what became of them.")
            .labelled(&[("result", "dropped")], number(&results.dropped))
            .labelled(&[("result", "refused")], number(&results.failed))
            .labelled(&[("result", "stored")], number(&results.published)),
        Family::gauge(
            "pilothouse_synthetic_private_probes",
            "Private probes, by whether they are connected.",
        )
        .labelled(&[("state", "offline")], (private - online) as f64)
        .labelled(&[("state", "online")], online as f64),
    ]
}
