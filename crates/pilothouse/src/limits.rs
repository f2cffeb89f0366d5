//! The limits at a reload: replaced for all who obey them, in one step.

use std::sync::Arc;

use pilothouse_model::limits::LiveLimits;
use pilothouse_model::matcher::pattern::set_max_compiled_bytes;

use crate::config::Config;
use crate::reload::{Apply, Part};
use crate::sources::Stores;

/// Where the limits in force stand.
#[derive(Debug)]
pub(crate) struct InForce {
    pub(crate) limits: LiveLimits,
    pub(crate) stores: Arc<Stores>,
}

impl Part for InForce {
    fn prepare(&self, next: &Config) -> Result<Apply, String> {
        let (limits, stores, next) = (self.limits.clone(), Arc::clone(&self.stores), next.limits.clone());
        Ok(Box::new(move || {
            set_max_compiled_bytes(next.max_regex_bytes);
            stores.obey(&next);
            limits.replace(next);
        }))
    }
}
