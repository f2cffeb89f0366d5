//! Tenants: what they may change of themselves, and their end.

use super::error::{Refusal, RefusalKind};
use super::image::Row;
use super::{Registry, later_than};
use crate::words::{Remote, Tenant};

/// Members that are not said stay as they are.
#[derive(Debug, Clone, Default)]
pub struct TenantUpdate {
    pub metrics_remote: Option<Remote>,
    pub events_remote: Option<Remote>,
    pub status: Option<StatusUpdate>,
}

#[derive(Debug, Clone, Default)]
pub struct StatusUpdate {
    pub code: i32,
    pub reason: String,
}

impl Registry {
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
                    return Err(Refusal::new(
                        RefusalKind::Invalid,
                        "invalid tenant",
                        "invalid tenant status",
                    ));
                }
                tenant.status = status.code;
                tenant.reason = status.reason;
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
            rows.push(Row::Tenant(id, None));
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

fn no_tenant() -> Refusal {
    Refusal::new(RefusalKind::NotFound, "tenant not found", "")
}
