//! Data sources that the configuration declares, put in force at the start and at a reload.

use std::sync::Arc;

use pilothouse_api::{App, Sources as _};
use pilothouse_control::{Control, DataSource, DeclaredSource, Error};

use crate::config::Config;
use crate::reload::{Apply, Part};
use crate::remotes::may_connect;
use crate::sources::Stores;

const KEY: &str = "data_sources";

#[derive(Debug, Clone)]
pub(crate) struct Declared {
    pub(crate) control: Arc<Control>,
    pub(crate) stores: Arc<Stores>,
    pub(crate) app: Arc<App>,
}

impl Declared {
    /// Makes the sources those of the configuration. Blocks.
    pub(crate) fn reconcile(&self, declared: &[DeclaredSource]) -> Result<(), String> {
        // One that was deleted may be declared again, and has the id of before.
        if let Err(e) = self.stores.remove_deleted() {
            tracing::error!("data of deleted data sources stays: {e}");
        }
        let changed = |source: &DataSource| {
            self.stores.update(source);
            // Whoever comes next gets the store that is its now.
            self.app.forget_root(source.id);
            tracing::info!(source = %source.id, name = source.name, "a data source is as the configuration says");
        };
        self.control.declare_sources(declared, changed).map_err(|e| why(&e))
    }
}

fn why(error: &Error) -> String {
    match error {
        Error::Invalid { help, .. } => format!("{KEY}: {help}"),
        error => format!("{KEY}: {error}"),
    }
}

impl Part for Declared {
    fn prepare(&self, next: &Config) -> Result<Apply, String> {
        let declared = next.data_sources.clone();
        let may = self.control.may_declare_sources(&declared, &next.limits);
        may.map_err(|e| why(&e))?;
        for source in &declared {
            may_connect(source, &next.limits).map_err(|e| format!("{KEY}: {e}"))?;
        }
        let this = self.clone();
        Ok(Box::new(move || {
            if let Err(e) = this.reconcile(&declared) {
                tracing::error!("not every data source is as the configuration says: {e}");
            }
        }))
    }
}
