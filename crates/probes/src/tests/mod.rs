//! Rules and forms as tables.

use pilothouse_model::limits::{Limits, LiveLimits};

mod accounting;
mod crowded;
mod dialogue;
mod forbidden;
mod forms;
mod hanging;
mod registry;
mod rules;
mod running;

/// Room for so many checks, and for two of everything else.
fn few(max_checks: u64) -> LiveLimits {
    Limits { max_checks, max_synthetic_tenants: 2, max_private_probes: 2, ..Limits::default() }.into()
}
