//! All rows in memory, and the tables that they are stored in.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use pilothouse_model::{StateChange, StateStore};
use prost::Message as _;
use serde::{Deserialize, Serialize};

use super::alerts::CheckAlert;
use super::error::{Refusal, RefusalKind};
use super::tenants::TenantSettings;
use super::{BUILTIN_PROBE, OWN_TENANT, RegistrySettings, rows};
use crate::words::{Check, Probe, Tenant, TenantStatus};

const TENANTS: &str = "synthetic_tenants";
const INSTANCES: &str = "synthetic_instances";
const SETTINGS: &str = "synthetic_settings";
const TOKENS: &str = "synthetic_tokens";
const CHECKS: &str = "synthetic_checks";
const ALERTS: &str = "synthetic_alerts";
const PROBES: &str = "synthetic_probes";
const PROBE_TOKENS: &str = "synthetic_probe_tokens";
const COUNTERS: &str = "synthetic_counters";

pub(super) type Hash = [u8; 32];

/// Numbers of the metrics and the logs instance that a registration named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Instances {
    pub(super) metrics: i64,
    pub(super) logs: i64,
}

#[derive(Debug, Clone, Default)]
pub(super) struct TenantRow {
    pub(super) tenant: Tenant,
    pub(super) instances: Instances,
    pub(super) settings: TenantSettings,
}

#[derive(Debug, Clone, Default)]
pub(super) struct CheckRow {
    /// Shared with who runs it: a version never changes.
    pub(super) check: Arc<Check>,
    pub(super) alerts: Vec<CheckAlert>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct ProbeRow {
    pub(super) probe: Probe,
    pub(super) token: Option<Hash>,
}

/// The ids given last; they are never given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counters {
    pub(super) tenant: i64,
    pub(super) check: i64,
    pub(super) probe: i64,
}

impl Default for Counters {
    fn default() -> Self {
        Self { tenant: OWN_TENANT, check: 0, probe: BUILTIN_PROBE }
    }
}

#[derive(Debug, Default)]
pub(super) struct Image {
    pub(super) tenants: BTreeMap<i64, TenantRow>,
    /// By the hash of the token, its tenant.
    pub(super) tokens: HashMap<Hash, i64>,
    pub(super) checks: BTreeMap<i64, CheckRow>,
    pub(super) probes: BTreeMap<i64, ProbeRow>,
    pub(super) counters: Counters,
    /// Of all checks and of the settings of tenants, as they are stored.
    stored_bytes: usize,
}

/// What a row takes in memory besides its texts; and texts that have a small bound.
const ROW_BYTES: usize = 1 << 10;
/// What a check takes, in times of its message.
const DECODED: usize = 2;

/// One row that changes; `None` removes it.
#[derive(Debug)]
pub(super) enum Row {
    Tenant(i64, Option<Tenant>),
    /// Removed with their tenant, as are its settings.
    Instances(i64, Option<Instances>),
    Settings(i64, Option<TenantSettings>),
    Token(Hash, Option<i64>),
    Check(i64, Option<Arc<Check>>),
    Alerts(i64, Vec<CheckAlert>),
    Probe(i64, Option<Probe>),
    ProbeToken(i64, Option<Hash>),
    Counters(Counters),
}

impl Row {
    pub(super) fn to_change(&self) -> StateChange {
        let (table, key, value) = match self {
            Self::Tenant(id, tenant) => (TENANTS, id.to_string(), tenant.as_ref().map(rows::message)),
            Self::Instances(id, instances) => {
                (INSTANCES, id.to_string(), instances.as_ref().map(rows::document))
            }
            Self::Settings(id, settings) => (SETTINGS, id.to_string(), settings.as_ref().map(rows::document)),
            Self::Token(hash, tenant) => (TOKENS, hex(hash), tenant.as_ref().map(rows::document)),
            Self::Check(id, check) => (CHECKS, id.to_string(), check.as_deref().map(rows::message)),
            Self::Alerts(id, alerts) => {
                let value = (!alerts.is_empty()).then(|| rows::document(alerts));
                (ALERTS, id.to_string(), value)
            }
            Self::Probe(id, probe) => (PROBES, id.to_string(), probe.as_ref().map(rows::message)),
            Self::ProbeToken(id, hash) => (PROBE_TOKENS, id.to_string(), hash.as_ref().map(rows::document)),
            Self::Counters(counters) => (COUNTERS, "ids".to_owned(), Some(rows::document(counters))),
        };
        StateChange { table, key, value }
    }
}

impl Image {
    pub(super) fn load(
        state: &dyn StateStore,
        settings: &RegistrySettings,
        now_s: f64,
    ) -> Result<Self, Refusal> {
        let mut image = Self::default();
        for table in [TENANTS, INSTANCES, SETTINGS, TOKENS, CHECKS, ALERTS, PROBES, PROBE_TOKENS, COUNTERS] {
            for (key, value) in state.load(table)? {
                let row = read_row(table, &key, &value).map_err(|why| unreadable(table, &key, &why))?;
                image.apply(row);
            }
        }
        // Whoever was connected is not any more.
        for row in image.probes.values_mut().filter(|row| row.probe.online) {
            row.probe.online = false;
            row.probe.online_change = now_s;
        }
        let builtin = Probe {
            id: BUILTIN_PROBE,
            tenant_id: OWN_TENANT,
            public: true,
            online: true,
            online_change: now_s,
            ..settings.builtin.clone()
        };
        image.probes.insert(BUILTIN_PROBE, ProbeRow { probe: builtin, token: None });
        Ok(image)
    }

    /// About.
    pub(super) fn held_bytes(&self) -> u64 {
        let rows = self.tenants.len() + self.tokens.len() + self.checks.len() + self.probes.len();
        (rows * ROW_BYTES + self.stored_bytes * DECODED) as u64
    }

    pub(super) fn apply(&mut self, row: Row) {
        self.count(&row);
        match row {
            Row::Tenant(id, Some(tenant)) => self.tenants.entry(id).or_default().tenant = tenant,
            Row::Tenant(id, None) => drop(self.tenants.remove(&id)),
            Row::Instances(id, instances) => {
                if let Some(row) = self.tenants.get_mut(&id) {
                    row.instances = instances.unwrap_or_default();
                }
            }
            Row::Settings(id, settings) => {
                if let Some(row) = self.tenants.get_mut(&id) {
                    row.settings = settings.unwrap_or_default();
                }
            }
            Row::Token(hash, Some(tenant)) => drop(self.tokens.insert(hash, tenant)),
            Row::Token(hash, None) => drop(self.tokens.remove(&hash)),
            Row::Check(id, Some(check)) => self.checks.entry(id).or_default().check = check,
            Row::Check(id, None) => drop(self.checks.remove(&id)),
            Row::Alerts(id, alerts) => {
                if let Some(row) = self.checks.get_mut(&id) {
                    row.alerts = alerts;
                }
            }
            Row::Probe(id, Some(probe)) => self.probes.entry(id).or_default().probe = probe,
            Row::Probe(id, None) => drop(self.probes.remove(&id)),
            Row::ProbeToken(id, token) => {
                if let Some(row) = self.probes.get_mut(&id) {
                    row.token = token;
                }
            }
            Row::Counters(counters) => self.counters = counters,
        }
    }

    /// Counts what comes with a row, and no more what it replaces.
    fn count(&mut self, row: &Row) {
        let (before, now) = match row {
            Row::Check(id, check) => {
                let before = self.checks.get(id).map_or(0, |row| row.check.encoded_len());
                (before, check.as_ref().map_or(0, |check| check.encoded_len()))
            }
            Row::Settings(id, settings) => {
                let Some(row) = self.tenants.get(id) else { return };
                (row.settings.text_bytes(), settings.as_ref().map_or(0, TenantSettings::text_bytes))
            }
            Row::Tenant(id, None) => (self.tenants.get(id).map_or(0, |row| row.settings.text_bytes()), 0),
            _ => return,
        };
        self.stored_bytes = self.stored_bytes + now - before;
    }

    pub(super) fn is_active(&self, tenant: i64) -> bool {
        let active = |row: &TenantRow| row.tenant.status == TenantStatus::Active as i32;
        tenant == OWN_TENANT || self.tenants.get(&tenant).is_some_and(active)
    }

    pub(super) fn checks_of(&self, tenant: i64) -> impl Iterator<Item = &CheckRow> {
        self.checks.values().filter(move |row| row.check.tenant_id == tenant)
    }
}

fn read_row(table: &str, key: &str, value: &[u8]) -> Result<Row, String> {
    let id = || key.parse::<i64>().map_err(|e| e.to_string());
    Ok(match table {
        TENANTS => Row::Tenant(id()?, Some(rows::read_message(value)?)),
        INSTANCES => Row::Instances(id()?, Some(rows::read_document(value)?)),
        SETTINGS => Row::Settings(id()?, Some(rows::read_document(value)?)),
        TOKENS => Row::Token(unhex(key).ok_or("not a hash")?, Some(rows::read_document(value)?)),
        CHECKS => Row::Check(id()?, Some(Arc::new(rows::read_message(value)?))),
        ALERTS => Row::Alerts(id()?, rows::read_document(value)?),
        PROBES => Row::Probe(id()?, Some(rows::read_message(value)?)),
        PROBE_TOKENS => Row::ProbeToken(id()?, Some(rows::read_document(value)?)),
        COUNTERS => Row::Counters(rows::read_document(value)?),
        other => return Err(format!("no table {other}")),
    })
}

fn unreadable(table: &str, key: &str, why: &str) -> Refusal {
    Refusal::new(RefusalKind::Storage, format!("row {key} of {table} does not read"), why)
}

fn hex(hash: &Hash) -> String {
    hash.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Option<Hash> {
    let mut hash = [0; 32];
    for (i, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * i..2 * i + 2)?, 16).ok()?;
    }
    (text.len() == 64).then_some(hash)
}
