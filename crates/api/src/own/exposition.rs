//! `/metrics`: what the server counts about itself, in the format that is asked for.

use std::sync::Arc;

use http::{StatusCode, header};
use pilothouse_control::SourceKind;
use pilothouse_model::memory::Part;
use pilothouse_wire::exposition::Exposition;

use crate::App;
use crate::client::Kind;
use crate::error::ApiError;
use crate::offload;
use crate::queue::Queue;
use crate::reply::Reply;
use crate::roots::SourceFigures;
use crate::service::Call;
use crate::telemetry::{self, Family};

use super::process;

/// The store walks its groups for its figures, so this is work for the pool: the writes' one,
/// that a server busy with queries can still be watched.
pub(crate) async fn own_metrics(app: &Arc<App>, call: &Call) -> Result<Reply, ApiError> {
    let format = Exposition::negotiate(call.header(header::ACCEPT));
    let app = Arc::clone(app);
    let body = offload::write(move || telemetry::expose(&families(&app), format)).await?;
    Ok(Reply::new(StatusCode::OK, format.content_type(), body))
}

/// All families, in the order in which they are shown.
pub(crate) fn families(app: &App) -> Vec<Family> {
    let build = &app.settings.build;
    let mut families = vec![
        Family::gauge("pilothouse_build_info", "The build; always 1.")
            .labelled(&[("revision", build.revision), ("version", build.version)], 1.0),
        Family::gauge("pilothouse_ready", "Whether the data is served.")
            .value(f64::from(u8::from(app.backend.get().is_some()))),
        Family::gauge("pilothouse_queries_running", "Queries being evaluated.")
            .value(app.admission.queries.running() as f64),
    ];
    families.extend(queue_families(&app.admission.queries));
    families.extend(super::reload::families(&app.settings.configuration));
    families.extend(control_families(app));
    families.extend(room_families(app));
    families.extend(app.telemetry.families());
    families.extend(app.logs.families());
    families.extend(crate::rules::families(app));
    families.extend(crate::metrics::targets::families(app));
    if let Some(alertmanager) = app.alertmanager.get() {
        families.extend(crate::alertmanager::families(alertmanager));
    }
    if let Some(backend) = app.backend.get() {
        families.extend(backend.store.families());
    }
    if let Some(logs) = app.logs_backend.get() {
        families.extend(logs.admin.families());
    }
    families.extend(app.sources().map_or_else(|_| Vec::new(), |sources| sources.families()));
    families.extend(crate::synthetic::families(app));
    families.extend(process::families(app.started_ms));
    families
}

/// Who waits for queries, by the kind of client.
fn queue_families(queue: &Queue) -> [Family; 3] {
    let mut waiting = Family::gauge("pilothouse_queries_queued", "Queries that wait their turn.");
    let mut refused =
        Family::counter("pilothouse_queries_refused_total", "Queries refused since too many waited already.");
    let mut waits =
        Family::histogram("pilothouse_query_wait_seconds", "How long queries waited for their turn.");
    let counts = queue.waiting_by_kind();
    for kind in Kind::ALL {
        let (labels, figures) = ([("client", kind.name())], queue.of(kind));
        waiting = waiting.labelled(&labels, counts[kind as usize] as f64);
        refused = refused.labelled(&labels, figures.refused.get() as f64);
        waits = waits.distribution(&labels, figures.waits.counts().into());
    }
    [waiting, refused, waits]
}

/// Room on the disk and in memory, and how often it was short.
fn room_families(app: &App) -> [Family; 9] {
    let (disk, memory) = (&app.settings.disk, &app.settings.memory);
    let found = disk.found();
    let (queries, writes) = memory.refusals();
    let mut parts = Family::gauge("pilothouse_memory_held_bytes", "Memory in use that is accounted for.");
    for part in Part::ALL {
        parts = parts.labelled(&[("part", part.name())], memory.held_bytes(part) as f64);
    }
    [
        Family::gauge("pilothouse_disk_free_bytes", "Free on the file system of the data.")
            .value(found.free_bytes as f64),
        Family::gauge("pilothouse_disk_used_bytes", "What all files of the data take.")
            .value(found.used_bytes as f64),
        Family::gauge("pilothouse_disk_full", "Whether writes are refused for want of room on the disk.")
            .value(f64::from(u8::from(disk.is_full()))),
        Family::counter("pilothouse_disk_fills_total", "How often the disk has become too full for writes.")
            .value(disk.times_full() as f64),
        Family::gauge("pilothouse_memory_limit_bytes", "Memory that the server may take; 0 for no limit.")
            .value(memory.limit_bytes().unwrap_or(0) as f64),
        Family::gauge("pilothouse_memory_used_bytes", "Memory in use, as the limit counts it.")
            .value(memory.used_bytes() as f64),
        parts,
        Family::counter(
            "pilothouse_memory_refused_queries_total",
            "Queries refused or ended for want of memory.",
        )
        .value(queries as f64),
        Family::counter("pilothouse_memory_refused_writes_total", "Writes refused for want of memory.")
            .value(writes as f64),
    ]
}

/// What the control plane holds, and the limits that the server's data is measured by.
fn control_families(app: &App) -> [Family; 8] {
    let (control, limits) = (&app.settings.control, app.limits());
    let sources = control.all_sources();
    let totals = app.sources().map_or_else(|_| SourceFigures::default(), |s| s.totals());
    let mut by_kind = Family::gauge("pilothouse_data_sources", "Data sources, internal ones included.");
    for kind in [SourceKind::Logs, SourceKind::Metrics, SourceKind::Traces] {
        let count = sources.iter().filter(|s| s.kind == kind).count();
        by_kind = by_kind.labelled(&[("type", kind.as_str())], count as f64);
    }
    [
        Family::gauge("pilothouse_active_series", "Active series of all data sources together.")
            .value(totals.active_series as f64),
        Family::gauge("pilothouse_active_series_limit", "Active series that are allowed; 0 for no limit.")
            .value(limits.max_active_series as f64),
        Family::gauge("pilothouse_active_streams", "Active log streams of all data sources together.")
            .value(totals.active_streams as f64),
        Family::gauge(
            "pilothouse_active_streams_limit",
            "Active log streams that are allowed; 0 for no limit.",
        )
        .value(limits.max_log_streams as f64),
        by_kind,
        Family::gauge("pilothouse_data_source_roots_open", "Data sources whose own roots are in use.")
            .value(app.open_roots() as f64),
        Family::gauge("pilothouse_tokens", "Tokens of all projects.").value(control.token_count() as f64),
        Family::counter(
            "pilothouse_control_corruptions_total",
            "Damaged places met in the control plane's file.",
        )
        .value(control.corruptions() as f64),
    ]
}
