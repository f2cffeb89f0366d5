//! Private probes of a tenant, and the built-in one that everybody sees.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::error::{Refusal, RefusalKind};
use super::image::{Counters, Image, ProbeRow, Row};
use super::tokens::{hash, new_secret};
use super::{BUILTIN_PROBE, Registry, later_than};
use crate::validate;
use crate::words::{Capabilities, Probe};

/// A token is itself base64 text; JSON shows it coded once more, and both spellings are taken.
fn new_probe_token() -> String {
    STANDARD.encode(new_secret())
}

impl Registry {
    /// The probe and its token, which is shown this once.
    pub fn add_probe(&self, tenant: i64, probe: Probe) -> Result<(Probe, String), Refusal> {
        let token = new_probe_token();
        let stored = self.change(|image| {
            let count = image.probes.values().filter(|row| row.probe.tenant_id == tenant).count() as u64;
            let limit = self.settings.limits.now().max_private_probes;
            if count >= limit {
                let cause = format!("{count} probes, limit {limit}");
                return Err(Refusal::new(RefusalKind::TooMany, "too many probes", cause));
            }
            let (id, now_s) = (image.counters.probe + 1, self.now_s());
            let probe = Probe {
                id,
                tenant_id: tenant,
                public: false,
                online: false,
                online_change: now_s,
                created: now_s,
                modified: now_s,
                version: String::new(),
                commit: String::new(),
                buildstamp: String::new(),
                ..probe
            };
            self.probe_holds(&probe)?;
            let rows = vec![
                Row::Counters(Counters { probe: id, ..image.counters }),
                Row::Probe(id, Some(probe.clone())),
                Row::ProbeToken(id, Some(hash(&token))),
            ];
            Ok((rows, probe))
        })?;
        Ok((stored, token))
    }

    /// The probe as it is now, and a new token if one was asked for; the old one is then void.
    pub fn update_probe(
        &self,
        tenant: i64,
        probe: Probe,
        reset_token: bool,
    ) -> Result<(Probe, Option<String>), Refusal> {
        let token = reset_token.then(new_probe_token);
        let stored = self.change(|image| {
            let before = &own_probe(image, tenant, probe.id)?.probe;
            let probe = Probe {
                name: probe.name,
                latitude: probe.latitude,
                longitude: probe.longitude,
                labels: probe.labels,
                region: probe.region,
                deprecated: probe.deprecated,
                capabilities: probe.capabilities,
                modified: later_than(before.modified, self.now_s()),
                ..before.clone()
            };
            self.probe_holds(&probe)?;
            let mut rows = vec![Row::Probe(probe.id, Some(probe.clone()))];
            if let Some(token) = &token {
                rows.push(Row::ProbeToken(probe.id, Some(hash(token))));
            }
            Ok((rows, probe))
        })?;
        Ok((stored, token))
    }

    fn probe_holds(&self, probe: &Probe) -> Result<(), Refusal> {
        validate::probe(probe, self.label_rules())
            .map_err(|e| Refusal::new(RefusalKind::Invalid, "Invalid incoming probe", e.0))
    }

    pub fn delete_probe(&self, tenant: i64, id: i64) -> Result<(), Refusal> {
        self.change(|image| {
            own_probe(image, tenant, id)?;
            if image.checks.values().any(|row| row.check.probes.contains(&id)) {
                let cause = "the probe is used by a check";
                return Err(Refusal::new(RefusalKind::Conflict, "cannot delete probe", cause));
            }
            Ok((vec![Row::ProbeToken(id, None), Row::Probe(id, None)], ()))
        })
    }

    pub fn probe(&self, tenant: i64, id: i64) -> Result<Probe, Refusal> {
        let image = self.read();
        seen_probe(&image, tenant, id).map(|row| row.probe.clone())
    }

    /// The own ones and the built-in one, by id.
    pub fn probes(&self, tenant: i64) -> Vec<Probe> {
        let image = self.read();
        image
            .probes
            .values()
            .map(|row| &row.probe)
            .filter(|p| p.public || p.tenant_id == tenant)
            .cloned()
            .collect()
    }

    /// How many private probes of all tenants are connected, and how many there are.
    pub fn private_probes(&self) -> (usize, usize) {
        let image = self.read();
        let private = || image.probes.values().filter(|row| !row.probe.public);
        (private().filter(|row| row.probe.online).count(), private().count())
    }

    pub fn builtin_probe(&self) -> Probe {
        self.read().probes.get(&BUILTIN_PROBE).map(|row| row.probe.clone()).unwrap_or_default()
    }

    /// Whose token a private probe shows, in either spelling.
    pub fn probe_by_token(&self, token: &str) -> Option<Probe> {
        let decoded = STANDARD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let hashes = [Some(hash(token)), decoded.map(|text| hash(&text))];
        let image = self.read();
        let shown = |row: &&ProbeRow| row.token.is_some_and(|own| hashes.contains(&Some(own)));
        image.probes.values().find(shown).map(|row| row.probe.clone())
    }

    /// Takes over what a private probe says of its build.
    pub fn probe_registered(
        &self,
        id: i64,
        version: &str,
        commit: &str,
        buildstamp: &str,
    ) -> Result<Probe, Refusal> {
        self.change(|image| {
            let before = &image.probes.get(&id).ok_or_else(|| Refusal::no_probe(id))?.probe;
            let probe = Probe {
                version: version.to_owned(),
                commit: commit.to_owned(),
                buildstamp: buildstamp.to_owned(),
                // Without this a probe that has no script runner refuses to start.
                capabilities: Some(Capabilities {
                    disable_scripted_checks: true,
                    disable_browser_checks: true,
                    ..before.capabilities.unwrap_or_default()
                }),
                ..before.clone()
            };
            Ok((vec![Row::Probe(id, Some(probe.clone()))], probe))
        })
    }

    /// Whether a private probe is connected, since now.
    pub fn set_online(&self, id: i64, online: bool) -> Result<(), Refusal> {
        self.change(|image| {
            let before = &image.probes.get(&id).ok_or_else(|| Refusal::no_probe(id))?.probe;
            let probe = Probe { online, online_change: self.now_s(), ..before.clone() };
            Ok((vec![Row::Probe(id, Some(probe))], ()))
        })
    }
}

fn seen_probe(image: &Image, tenant: i64, id: i64) -> Result<&ProbeRow, Refusal> {
    let seen = |row: &&ProbeRow| row.probe.public || row.probe.tenant_id == tenant;
    image.probes.get(&id).filter(seen).ok_or_else(|| Refusal::no_probe(id))
}

/// A probe that the tenant may change.
fn own_probe(image: &Image, tenant: i64, id: i64) -> Result<&ProbeRow, Refusal> {
    let row = seen_probe(image, tenant, id)?;
    if row.probe.tenant_id == tenant {
        return Ok(row);
    }
    Err(Refusal::new(
        RefusalKind::Forbidden,
        format!("probe {id} cannot be changed"),
        "it belongs to the server",
    ))
}
