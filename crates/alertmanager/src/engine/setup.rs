//! A configuration made ready: the tree, and receivers that can send.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::{Config, ConfigError};
use crate::receivers::Integration;
use crate::route::Tree;
use crate::templates::Templates;

/// A configuration in force.
#[derive(Debug, Clone)]
pub struct Setup {
    pub config: Config,
    pub templates: Arc<Templates>,
    pub(crate) tree: Tree,
    pub(crate) receivers: BTreeMap<String, Vec<Arc<Integration>>>,
    /// What the default receiver has beside its own.
    contacts: Vec<Arc<Integration>>,
    /// Where people reach this Alertmanager, without a trailing slash.
    pub external_url: Arc<str>,
}

impl Setup {
    /// Makes the clients of all receivers; a TLS file that cannot be read is an error.
    pub fn new(
        config: Config,
        templates: Templates,
        external_url: &str,
        concurrency: usize,
    ) -> Result<Self, ConfigError> {
        let mut receivers = BTreeMap::new();
        for receiver in &config.receivers {
            receivers.insert(receiver.name.clone(), receiver.integrations(concurrency)?);
        }
        Ok(Self {
            tree: Tree::new(&config.route),
            receivers,
            contacts: Vec::new(),
            config,
            templates: Arc::new(templates),
            external_url: Arc::from(external_url.trim_end_matches('/')),
        })
    }

    /// The same with other contact points.
    pub(crate) fn with_contacts(mut self, contacts: Vec<Arc<Integration>>) -> Self {
        self.contacts = contacts;
        self
    }

    /// The same with integrations of one's own, by receiver.
    #[cfg(test)]
    pub(crate) fn with_integrations(mut self, name: &str, integrations: Vec<Arc<Integration>>) -> Self {
        self.receivers.insert(name.to_owned(), integrations);
        self
    }

    pub(crate) fn integrations_of(&self, receiver: &str) -> impl Iterator<Item = &Arc<Integration>> {
        let contacts = if receiver == self.config.route.receiver { self.contacts.as_slice() } else { &[] };
        self.receivers.get(receiver).map_or(&[][..], Vec::as_slice).iter().chain(contacts)
    }

    /// Whether a time lies in any of the named intervals, and in which.
    pub(crate) fn intervals_at(&self, names: &[String], now_ms: i64) -> Vec<String> {
        let holds = |name: &&String| {
            self.config.intervals.get(*name).is_some_and(|all| all.iter().any(|i| i.contains(now_ms)))
        };
        names.iter().filter(holds).cloned().collect()
    }
}
