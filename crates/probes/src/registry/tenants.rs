//! Tenants: what they may change of themselves, and their end.

use pilothouse_model::limits::TENANT_SETTINGS_BYTES;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::error::{Refusal, RefusalKind};
use super::image::Row;
use super::{Registry, later_than};
use crate::words::{LabelMode, Remote, Tenant};

/// Members that are not said stay as they are.
#[derive(Debug, Clone, Default)]
pub struct TenantUpdate {
    pub metrics_remote: Option<Remote>,
    pub events_remote: Option<Remote>,
    pub status: Option<StatusUpdate>,
    /// A [`LabelMode`].
    pub label_mode: Option<i32>,
    pub cost_attribution_labels: Option<Vec<String>>,
}

#[derive(Debug, Clone, Default)]
pub struct StatusUpdate {
    pub code: i32,
    pub reason: String,
}

/// What the web app keeps for a tenant. Nothing here acts on it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TenantSettings {
    pub remote_validation_disabled: bool,
    /// Where its dashboards turn from good to bad.
    pub thresholds: Map<String, Value>,
}

impl TenantSettings {
    /// As text; 0 where nothing was said.
    pub(super) fn text_bytes(&self) -> usize {
        if self.thresholds.is_empty() { 0 } else { super::rows::document(self).len() }
    }
}

impl Registry {
    pub fn tenant_settings(&self, id: i64) -> TenantSettings {
        self.read().tenants.get(&id).map(|row| row.settings.clone()).unwrap_or_default()
    }

    pub fn set_tenant_settings(&self, id: i64, settings: TenantSettings) -> Result<(), Refusal> {
        let bytes = super::rows::document(&settings).len();
        if bytes > TENANT_SETTINGS_BYTES {
            let cause = format!("{bytes} bytes, limit {TENANT_SETTINGS_BYTES}");
            return Err(Refusal::new(RefusalKind::Invalid, "invalid tenant settings", cause));
        }
        self.change(|image| {
            image.tenants.get(&id).ok_or_else(no_tenant)?;
            Ok((vec![Row::Settings(id, Some(settings))], ()))
        })
    }

    /// How labels of users stand on the series of a tenant.
    pub fn label_mode(&self, tenant: i64) -> LabelMode {
        let mode = self.read().tenants.get(&tenant).map_or(0, |row| row.tenant.label_mode);
        LabelMode::try_from(mode).unwrap_or(LabelMode::Prefixed)
    }

    pub fn update_tenant(&self, id: i64, update: TenantUpdate) -> Result<Tenant, Refusal> {
        self.change(|image| {
            let before = &image.tenants.get(&id).ok_or_else(no_tenant)?.tenant;
            let mut tenant = before.clone();
            if let Some(remote) = update.metrics_remote {
                tenant.metrics_remote = Some(kept_password(remote, before.metrics_remote.as_ref()));
            }
            if let Some(remote) = update.events_remote {
                tenant.events_remote = Some(kept_password(remote, before.events_remote.as_ref()));
            }
            if let Some(status) = update.status {
                if !(0..=1).contains(&status.code) {
                    return Err(invalid("invalid tenant status"));
                }
                tenant.status = status.code;
                tenant.reason = status.reason;
            }
            if let Some(mode) = update.label_mode {
                LabelMode::try_from(mode).map_err(|_| invalid("invalid tenant label mode"))?;
                tenant.label_mode = mode;
            }
            if let Some(labels) = update.cost_attribution_labels {
                if labels.len() > self.label_rules().max_labels {
                    return Err(invalid("too many cost attribution labels"));
                }
                tenant.cost_attribution_labels = labels;
            }
            tenant.modified = later_than(before.modified, self.now_s());
            Ok((vec![Row::Tenant(id, Some(tenant.clone()))], tenant))
        })
    }

    /// Only a tenant without checks and private probes can go; its tokens go with it.
    pub fn delete_tenant(&self, id: i64) -> Result<(), Refusal> {
        self.change(|image| {
            image.tenants.get(&id).ok_or_else(no_tenant)?;
            let probes = image.probes.values().any(|row| row.probe.tenant_id == id);
            if probes || image.checks_of(id).next().is_some() {
                let cause = "the tenant has checks or probes";
                return Err(Refusal::new(RefusalKind::Conflict, "cannot delete tenant", cause));
            }
            let tokens = image.tokens.iter().filter(|(_, tenant)| **tenant == id);
            let mut rows: Vec<Row> = tokens.map(|(hash, _)| Row::Token(*hash, None)).collect();
            rows.extend([Row::Settings(id, None), Row::Instances(id, None), Row::Tenant(id, None)]);
            Ok((rows, ()))
        })
    }
}

/// The mask in place of a password means the one that is there.
fn kept_password(mut remote: Remote, before: Option<&Remote>) -> Remote {
    if remote.password == Remote::MASK {
        remote.password = before.map(|b| b.password.clone()).unwrap_or_default();
    }
    remote
}

fn invalid(cause: &str) -> Refusal {
    Refusal::new(RefusalKind::Invalid, "invalid tenant", cause)
}

fn no_tenant() -> Refusal {
    Refusal::new(RefusalKind::NotFound, "tenant not found", "")
}
