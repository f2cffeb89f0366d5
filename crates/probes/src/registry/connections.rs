//! What is open right now and never stored: connections of private probes, and checks that are
//! offered to them once.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use pilothouse_model::limits::PROBE_OFFERS;
use tokio::sync::{broadcast, watch};

use super::Registry;
use crate::words::AdHocCheck;

#[derive(Debug)]
pub(super) struct Connections {
    /// By probe, the number of its newest connection.
    newest: Mutex<HashMap<i64, watch::Sender<u64>>>,
    offers: broadcast::Sender<AdHocCheck>,
}

impl Default for Connections {
    fn default() -> Self {
        Self { newest: Mutex::default(), offers: broadcast::Sender::new(PROBE_OFFERS) }
    }
}

/// An open connection of a probe.
#[derive(Debug)]
pub struct Connection {
    connections: Arc<Connections>,
    probe: i64,
    number: u64,
    replaced: watch::Receiver<u64>,
}

impl Connection {
    /// Tells when another connection of the same probe has come.
    pub fn replaced(&self) -> watch::Receiver<u64> {
        self.replaced.clone()
    }

    /// Whether no other has come since.
    pub fn is_last(&self) -> bool {
        let newest = self.connections.newest.lock();
        newest.get(&self.probe).is_none_or(|sender| *sender.borrow() == self.number)
    }
}

impl Registry {
    /// The newest connection of a probe; the one before learns that it is replaced.
    pub fn connect_probe(&self, probe: i64) -> Connection {
        let mut newest = self.connections.newest.lock();
        let sender = newest.entry(probe).or_insert_with(|| watch::Sender::new(0));
        sender.send_modify(|number| *number += 1);
        let replaced = sender.subscribe();
        let number = *sender.borrow();
        Connection { connections: Arc::clone(&self.connections), probe, number, replaced }
    }

    /// Offers a check that runs once to the probes that are connected.
    pub fn offer_adhoc(&self, check: &AdHocCheck) {
        // Nobody may be there to take it.
        let _ = self.connections.offers.send(check.clone());
    }

    pub fn adhoc_offers(&self) -> broadcast::Receiver<AdHocCheck> {
        self.connections.offers.subscribe()
    }
}
