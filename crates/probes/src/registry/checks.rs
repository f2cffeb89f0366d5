//! Checks of a tenant.

use std::sync::Arc;

use super::error::{Refusal, RefusalKind};
use super::image::{CheckRow, Counters, Image, Row};
use super::{BUILTIN_PROBE, CheckAlert, OWN_TENANT, Registry, later_than};
use crate::validate::{self, Invalid};
use crate::words::{AdHocCheck, Check};

impl Registry {
    /// Stores a new check; id, tenant and times of what was sent are ignored.
    pub fn add_check(&self, tenant: i64, check: Check) -> Result<Check, Refusal> {
        self.change(|image| {
            let now_s = self.now_s();
            let id = image.counters.check + 1;
            let check = self
                .settled(image, Check { id, tenant_id: tenant, created: now_s, modified: now_s, ..check })?;
            let count = image.checks_of(tenant).count() as u64;
            let limit = self.settings.limits.now().max_checks;
            if count >= limit {
                let cause = format!("{count} checks, limit {limit}");
                return Err(Refusal::new(RefusalKind::TooMany, "Failed to add check to database", cause));
            }
            let counters = Row::Counters(Counters { check: id, ..image.counters });
            Ok((vec![counters, Row::Check(id, Some(Arc::new(check.clone())))], check))
        })
    }

    /// Replaces a check that the tenant has. Masks in the settings stand for what is there.
    pub fn update_check(&self, tenant: i64, check: Check) -> Result<Check, Refusal> {
        self.change(|image| {
            let check = self.replacement(image, tenant, check)?;
            Ok((vec![Row::Check(check.id, Some(Arc::new(check.clone())))], check))
        })
    }

    /// All of them or none.
    pub fn update_checks(&self, tenant: i64, checks: Vec<Check>) -> Result<usize, Refusal> {
        self.change(|image| {
            let replaced = checks.into_iter().map(|check| self.replacement(image, tenant, check));
            let replaced = replaced.collect::<Result<Vec<Check>, _>>()?;
            let count = replaced.len();
            Ok((replaced.into_iter().map(|c| Row::Check(c.id, Some(Arc::new(c)))).collect(), count))
        })
    }

    fn replacement(&self, image: &Image, tenant: i64, check: Check) -> Result<Check, Refusal> {
        let before = owned(image, tenant, check.id)?;
        if check.tenant_id != tenant {
            return Err(Refusal::invalid_check(Invalid("invalid tenant ID".to_owned())));
        }
        let modified = later_than(before.check.modified, self.now_s());
        let check = check.with_secrets_of(&before.check);
        self.settled(image, Check { created: before.check.created, modified, ..check })
    }

    /// What is stored of a check, if it holds beside what is there.
    fn settled(&self, image: &Image, mut check: Check) -> Result<Check, Refusal> {
        if check.alert_sensitivity.is_empty() {
            "none".clone_into(&mut check.alert_sensitivity);
        }
        validate::check(&check, self.label_rules()).map_err(Refusal::invalid_check)?;
        probes_exist(image, check.tenant_id, &check.probes)?;
        let same = |row: &CheckRow| {
            row.check.id != check.id && row.check.job == check.job && row.check.target == check.target
        };
        if image.checks_of(check.tenant_id).chain(image.checks_of(OWN_TENANT)).any(same) {
            return Err(Refusal::new(
                RefusalKind::Conflict,
                "Failed to add check to database",
                "target/job combination already exists",
            ));
        }
        Ok(check)
    }

    pub fn delete_check(&self, tenant: i64, id: i64) -> Result<(), Refusal> {
        self.change(|image| {
            owned(image, tenant, id)?;
            Ok((vec![Row::Alerts(id, Vec::new()), Row::Check(id, None)], ()))
        })
    }

    /// With its secrets, unless it is declared by the configuration.
    pub fn check(&self, tenant: i64, id: i64) -> Result<Check, Refusal> {
        seen(&self.read(), tenant, id).map(|row| shown(tenant, row))
    }

    /// By job and target, of which a tenant has each pair once.
    pub fn find_check(&self, tenant: i64, job: &str, target: &str) -> Result<Check, Refusal> {
        let image = self.read();
        let mut seen = image.checks_of(tenant).chain(image.checks_of(OWN_TENANT));
        let found = seen.find(|row| row.check.job == job && row.check.target == target);
        found.map(|row| shown(tenant, row)).ok_or_else(Refusal::no_check)
    }

    /// By id, each with its alerts; secrets are masked. Those that the configuration declares are
    /// among them.
    pub fn checks(&self, tenant: i64) -> Vec<(Check, Vec<CheckAlert>)> {
        let image = self.read();
        let seen = image.checks.values().filter(|row| [tenant, OWN_TENANT].contains(&row.check.tenant_id));
        seen.map(|row| (Check::clone(&row.check).masked(), row.alerts.clone())).collect()
    }

    /// Of all tenants, by id. Secrets are masked: this is for who shows checks.
    pub fn all_checks(&self) -> Vec<Check> {
        self.read().checks.values().map(|row| Check::clone(&row.check).masked()).collect()
    }

    /// A check that runs once, if it holds; it gets its id here and is not kept.
    pub fn admit_adhoc(&self, tenant: i64, id: String, check: AdHocCheck) -> Result<AdHocCheck, Refusal> {
        let check = AdHocCheck { id, tenant_id: tenant, ..check };
        validate::adhoc(&check).map_err(Refusal::invalid_check)?;
        probes_exist(&self.read(), tenant, &check.probes)?;
        Ok(check)
    }
}

/// The check of that id, if this tenant may see it.
pub(super) fn seen(image: &Image, tenant: i64, id: i64) -> Result<&CheckRow, Refusal> {
    let seen = |row: &&CheckRow| [tenant, OWN_TENANT].contains(&row.check.tenant_id);
    image.checks.get(&id).filter(seen).ok_or_else(Refusal::no_check)
}

/// The check of that id, if this tenant may change it.
pub(super) fn owned(image: &Image, tenant: i64, id: i64) -> Result<&CheckRow, Refusal> {
    let row = seen(image, tenant, id)?;
    if row.check.tenant_id == tenant {
        return Ok(row);
    }
    let message = format!("check {id} cannot be changed");
    Err(Refusal::new(RefusalKind::Forbidden, message, "the configuration file declares it"))
}

/// The secrets of a check are for its own tenant.
fn shown(tenant: i64, row: &CheckRow) -> Check {
    let check = Check::clone(&row.check);
    if check.tenant_id == tenant { check } else { check.masked() }
}

fn probes_exist(image: &Image, tenant: i64, probes: &[i64]) -> Result<(), Refusal> {
    let usable = |id: &i64| {
        *id == BUILTIN_PROBE || image.probes.get(id).is_some_and(|row| row.probe.tenant_id == tenant)
    };
    match probes.iter().find(|id| !usable(id)) {
        None => Ok(()),
        Some(id) => Err(Refusal::invalid_check(Invalid(format!("invalid check probes: no probe {id}")))),
    }
}
