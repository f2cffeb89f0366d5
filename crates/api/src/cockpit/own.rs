//! What the management API has no place for: the audit trail, and who uses what.

use std::collections::HashMap;

use pilothouse_control::{AuditEntry, SourceFilter, SourceId};
use serde_json::{Map, Value, json};

use super::error::Refusal;
use super::input::Input;
use super::shapes::{listed, time};
use super::{Answer, Context};
use crate::roots::SourceFigures;

/// Newest first.
pub(super) fn audit(context: &Context<'_>, input: &Input) -> Result<Answer, Refusal> {
    Ok(listed("entries", context.control().audit_page(input.page()?)?, entry))
}

/// One change, as the path and the lines of the internal data source show it.
fn entry(entry: &AuditEntry) -> Value {
    let details: Map<String, Value> =
        entry.details.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    json!({
        "number": entry.number,
        "time": time(entry.at_ms),
        "actor": entry.actor,
        "address": entry.address,
        "action": entry.action,
        "resource": entry.resource,
        "resource_id": entry.id,
        "project_id": entry.project.map(|p| p.to_string()),
        "region": entry.region.map(|r| r.as_str()),
        "details": details,
    })
}

/// One change as a line of JSON.
pub fn audit_line(change: &AuditEntry) -> String {
    entry(change).to_string()
}

/// What each token was used for: who sends the most.
pub(super) fn token_use(context: &Context<'_>, input: &Input) -> Result<Answer, Refusal> {
    let mut uses = context.control().token_uses();
    uses.sort_by_key(|(_, used)| {
        let stored = used.stored;
        std::cmp::Reverse((stored.samples.saturating_add(stored.entries), used.requests))
    });
    let listing = input.page()?.of(uses);
    Ok(listed("tokens", listing, |(token, used)| {
        json!({
            "id": token.id.to_string(),
            "name": token.name,
            "project_id": token.project.to_string(),
            "region": token.region.as_str(),
            "requests": used.requests,
            "samples": used.stored.samples,
            "entries": used.stored.entries,
            "bytes": used.stored.bytes,
            "series_created": used.stored.series,
            "streams_created": used.stored.streams,
            "last_used_at": if used.last_used_ms == 0 { Value::Null } else { time(used.last_used_ms) },
        })
    }))
}

/// Of the region's sources: what is active and what they take. Sources that are closed show none.
pub(super) fn source_use(context: &Context<'_>, input: &Input) -> Result<Answer, Refusal> {
    let figures: HashMap<SourceId, SourceFigures> =
        context.app.sources().map(|s| s.figures().into_iter().collect()).unwrap_or_default();
    let filter = SourceFilter {
        project: input.project_filter()?,
        internal: true,
        page: input.page()?,
        ..SourceFilter::default()
    };
    Ok(listed("data_sources", context.control().sources(&filter), |source| {
        let figures = figures.get(&source.id);
        // How much another system needs for it is not known; something may lie here still.
        let disk_bytes = figures.map(|f| f.disk_bytes).filter(|n| *n > 0 || source.remote.is_none());
        json!({
            "id": source.id.to_string(),
            "name": source.name,
            "type": source.kind.as_str(),
            "project_id": source.project.to_string(),
            "open": figures.is_some(),
            "active_series": figures.map(|f| f.active_series),
            "active_streams": figures.map(|f| f.active_streams),
            "backend": if source.remote.is_some() { "remote" } else { "local" },
            "disk_bytes": disk_bytes,
        })
    }))
}
