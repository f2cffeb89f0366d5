//! Access tokens: shown once, kept as a hash.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::RngCore as _;
use sha2::{Digest as _, Sha256};

use super::error::{Refusal, RefusalKind};
use super::image::{Counters, Hash, Image, Instances, Row};
use super::{Registry, later_than};
use crate::words::{Remote, Tenant};

/// Who a request is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    pub tenant: i64,
    token: Hash,
}

/// What a registration gives.
#[derive(Debug)]
pub struct Installed {
    pub access_token: String,
    pub tenant: i64,
}

/// A secret that nobody can guess: 32 bytes as text.
pub(super) fn new_secret() -> String {
    let mut bytes = [0; 32];
    rand::rng().fill_bytes(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(super) fn hash(secret: &str) -> Hash {
    Sha256::digest(secret.as_bytes()).into()
}

impl Registry {
    /// The tenant of a stack, made at the first call, and one more token for it. `remotes` says
    /// where results of a new tenant go, first series then entries.
    pub fn install(
        &self,
        stack: i64,
        metrics: i64,
        logs: i64,
        remotes: impl FnOnce() -> (Remote, Remote),
    ) -> Result<Installed, Refusal> {
        if [stack, metrics, logs].iter().any(|id| *id <= 0) {
            return Err(Refusal::new(
                RefusalKind::Invalid,
                "invalid registration",
                "stackId, metricsInstanceId and logsInstanceId must be above zero",
            ));
        }
        let access_token = new_secret();
        let tenant = self.change(|image| {
            let mut rows = Vec::new();
            let known = image.tenants.values().find(|row| row.tenant.stack_id == stack);
            let id = match known {
                Some(row) => row.tenant.id,
                None => self.new_tenant(image, stack, remotes(), &mut rows)?,
            };
            rows.push(Row::Instances(id, Some(Instances { metrics, logs })));
            rows.push(Row::Token(hash(&access_token), Some(id)));
            Ok((rows, id))
        })?;
        Ok(Installed { access_token, tenant })
    }

    fn new_tenant(
        &self,
        image: &Image,
        stack: i64,
        (metrics, events): (Remote, Remote),
        rows: &mut Vec<Row>,
    ) -> Result<i64, Refusal> {
        let limit = self.settings.limits.now().max_synthetic_tenants;
        if image.tenants.len() as u64 >= limit {
            let cause = format!("{limit} tenants, which is the limit");
            return Err(Refusal::new(RefusalKind::TooMany, "too many tenants", cause));
        }
        let id = image.counters.tenant + 1;
        let now_s = later_than(0.0, self.now_s());
        let tenant = Tenant {
            id,
            org_id: id,
            stack_id: stack,
            metrics_remote: Some(metrics),
            events_remote: Some(events),
            created: now_s,
            modified: now_s,
            ..Tenant::default()
        };
        rows.push(Row::Counters(Counters { tenant: id, ..image.counters }));
        rows.push(Row::Tenant(id, Some(tenant)));
        Ok(id)
    }

    /// The numbers of the instances that the last registration of a tenant named.
    pub fn instances(&self, tenant: i64) -> (i64, i64) {
        let instances = self.read().tenants.get(&tenant).map(|row| row.instances).unwrap_or_default();
        (instances.metrics, instances.logs)
    }

    /// Whose token this is. A lookup by hash, so that its time tells nothing of the secret.
    pub fn authenticate(&self, token: &str) -> Option<Caller> {
        let hash = hash(token);
        self.read().tokens.get(&hash).map(|tenant| Caller { tenant: *tenant, token: hash })
    }

    pub fn create_token(&self, caller: &Caller) -> Result<String, Refusal> {
        let token = new_secret();
        self.change(|_| Ok((vec![Row::Token(hash(&token), Some(caller.tenant))], ())))?;
        Ok(token)
    }

    /// Revokes the token of the request.
    pub fn delete_token(&self, caller: &Caller) -> Result<(), Refusal> {
        self.change(|_| Ok((vec![Row::Token(caller.token, None)], ())))
    }

    /// A new token in place of the request's, in one step.
    pub fn refresh_token(&self, caller: &Caller) -> Result<String, Refusal> {
        let token = new_secret();
        let rows = vec![Row::Token(caller.token, None), Row::Token(hash(&token), Some(caller.tenant))];
        self.change(|_| Ok((rows, ())))?;
        Ok(token)
    }
}
