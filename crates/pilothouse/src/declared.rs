//! Data sources that the configuration declares, put in force at the start and at a reload.

use std::sync::{Arc, Weak};

use pilothouse_api::{App, Sources as _};
use pilothouse_control::{Control, DataSource, Error};

use crate::config::Config;
use crate::remotes::may_connect;
use crate::sources::Stores;

const KEY: &str = "data_sources";

#[derive(Debug, Clone)]
pub(crate) struct Declared {
    pub(crate) control: Arc<Control>,
    pub(crate) stores: Arc<Stores>,
    /// Which holds whoever reloads, and so this.
    pub(crate) app: Weak<App>,
}

impl Declared {
    /// Makes the sources those of the configuration. Blocks.
    pub(crate) fn reconcile(&self, config: &Config) -> Result<(), String> {
        self.remove_deleted();
        let changed = self.keep(config)?;
        self.show(&changed);
        Ok(())
    }

    /// Whether those of `next` could be put in force. Blocks.
    pub(crate) fn check(&self, next: &Config) -> Result<(), String> {
        self.remove_deleted();
        let may = self.control.may_declare_sources(&next.data_sources, &next.limits);
        may.map_err(|e| why(&e))?;
        for source in &next.data_sources {
            may_connect(source, &next.limits).map_err(|e| format!("{KEY}: {e}"))?;
        }
        Ok(())
    }

    /// Writes down what is declared, all of it or nothing; gives what has changed. Blocks.
    pub(crate) fn keep(&self, config: &Config) -> Result<Vec<DataSource>, String> {
        self.control.declare_sources(&config.data_sources, &config.limits).map_err(|e| why(&e))
    }

    /// Lets the stores know what has changed.
    pub(crate) fn show(&self, changed: &[DataSource]) {
        for source in changed {
            self.stores.update(source.id);
            // Whoever comes next gets the store that is its now.
            if let Some(app) = self.app.upgrade() {
                app.forget_root(source.id);
            }
            tracing::info!(source = %source.id, name = source.name, "a data source is as the configuration says");
        }
    }

    /// One that was deleted may be declared again, and has the id of before.
    fn remove_deleted(&self) {
        if let Err(e) = self.stores.remove_deleted() {
            tracing::error!("data of deleted data sources stays: {e}");
        }
    }
}

fn why(error: &Error) -> String {
    match error {
        Error::Invalid { help, .. } => format!("{KEY}: {help}"),
        error => format!("{KEY}: {error}"),
    }
}
