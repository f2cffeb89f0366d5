//! The switches of alerting, and who gets mail: both kept per project and region.

use std::collections::BTreeSet;

use pilothouse_model::limits::MAIL_ADDRESS_BYTES;
use prost::Message;

use crate::audit::{Actor, Event};
use crate::control::Control;
use crate::error::{Error, Resource};
use crate::ids::ProjectId;
use crate::list::{Listable, Listed, Order, Page, SortKey};
use crate::region::Region;
use crate::row::{Row, Stamp, StampMessage};

/// Whether a project's contact points are told, and which of the shipped rules run for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertSettings {
    pub project: ProjectId,
    pub region: Region,
    pub enabled: bool,
    pub managed_alerts: bool,
    /// Ids of the shipped rules that were switched on.
    pub rules: BTreeSet<String>,
}

impl AlertSettings {
    fn new(project: ProjectId, region: Region) -> Self {
        Self { project, region, enabled: false, managed_alerts: false, rules: BTreeSet::new() }
    }
}

/// Somebody who gets mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContactPoint {
    pub project: ProjectId,
    pub region: Region,
    pub email: String,
    pub send_resolved: bool,
    pub stamp: Stamp,
}

/// One `@` with something on both sides, no blanks, a domain of sound labels. Whether anybody
/// reads it only mail can tell.
fn checked_address(text: &str) -> Result<String, Error> {
    let text = text.trim();
    if text.is_empty() {
        return Err(Error::required("email.to"));
    }
    let sound = |text: &str| {
        let (local, domain) = text.rsplit_once('@')?;
        let label = |l: &str| {
            !l.is_empty()
                && l.len() <= 63
                && !l.starts_with('-')
                && !l.ends_with('-')
                && l.chars().all(|c| c.is_alphanumeric() || c == '-')
        };
        let plain = |c: char| !c.is_whitespace() && !c.is_control() && !"@,;<>()[]\\\"".contains(c);
        let local_fits = !local.is_empty()
            && local.len() <= 64
            && local.chars().all(plain)
            && !local.starts_with('.')
            && !local.ends_with('.')
            && !local.contains("..");
        (local_fits && text.len() <= MAIL_ADDRESS_BYTES && domain.split('.').all(label)).then_some(())
    };
    match sound(text) {
        Some(()) => Ok(text.to_owned()),
        None => Err(Error::format("email.to", "an e-mail address")),
    }
}

// ---- what may be done ----

impl Control {
    pub fn alert_settings(&self, project: ProjectId, region: Region) -> AlertSettings {
        let image = self.image();
        let found = image.get::<AlertSettings>(&(project, region));
        found.map_or_else(|| AlertSettings::new(project, region), |s| (**s).clone())
    }

    /// The settings of all projects and regions that ever changed one.
    pub fn all_alert_settings(&self) -> Vec<AlertSettings> {
        self.image().alerting.values().map(|s| (**s).clone()).collect()
    }

    pub fn enable_alert_manager(
        &self,
        by: &Actor,
        project: ProjectId,
        region: Region,
        enabled: bool,
    ) -> Result<AlertSettings, Error> {
        let action = if enabled { "enable" } else { "disable" };
        self.change_settings(by, (project, region), (action, "alert_manager"), |s| s.enabled = enabled)
    }

    pub fn enable_managed_alerts(
        &self,
        by: &Actor,
        project: ProjectId,
        region: Region,
        enabled: bool,
    ) -> Result<AlertSettings, Error> {
        let action = if enabled { "enable" } else { "disable" };
        self.change_settings(by, (project, region), (action, "managed_alerts"), |s| {
            s.managed_alerts = enabled
        })
    }

    /// Switches shipped rules on or off; answers those that were not so before, sorted.
    pub fn enable_rules(
        &self,
        by: &Actor,
        project: ProjectId,
        region: Region,
        rules: &[String],
        enabled: bool,
    ) -> Result<Vec<String>, Error> {
        let before = self.alert_settings(project, region).rules;
        let wanted: BTreeSet<&String> = rules.iter().collect();
        let changed = wanted.into_iter().filter(|id| before.contains(*id) != enabled).cloned();
        let changed: Vec<String> = changed.collect();
        if changed.is_empty() {
            return Ok(changed);
        }
        let action = if enabled { "enable" } else { "disable" };
        self.change_settings(by, (project, region), (action, "alert_rules"), |s| {
            for id in &changed {
                if enabled {
                    s.rules.insert(id.clone())
                } else {
                    s.rules.remove(id)
                };
            }
        })?;
        Ok(changed)
    }

    fn change_settings(
        &self,
        by: &Actor,
        (project, region): (ProjectId, Region),
        (action, what): (&'static str, &str),
        apply: impl FnOnce(&mut AlertSettings),
    ) -> Result<AlertSettings, Error> {
        self.change(by, |draft| {
            draft.touch_project(project);
            let found = draft.image().get::<AlertSettings>(&(project, region));
            let mut settings = found.map_or_else(|| AlertSettings::new(project, region), |s| (**s).clone());
            apply(&mut settings);
            draft.put(settings.clone());
            Ok((settings, Event::named(action, what, project).of(project, Some(region))))
        })
    }

    /// Makes a contact point; one that is there already is changed instead.
    pub fn create_contact_point(
        &self,
        by: &Actor,
        project: ProjectId,
        region: Region,
        email: &str,
        send_resolved: bool,
    ) -> Result<ContactPoint, Error> {
        let email = checked_address(email)?;
        self.change(by, |draft| {
            let (count, quota) = (draft.image().contacts.len(), draft.limits().max_contact_points);
            draft.check_quota(Resource::ContactPoint, count, quota)?;
            draft.touch_project(project);
            let found = draft.image().get::<ContactPoint>(&(project, region, email.clone()));
            let stamp = found.map_or_else(|| draft.stamp(), |c| c.stamp);
            let stamp = Stamp { updated_ms: draft.now_ms(), ..stamp };
            let point = ContactPoint { project, region, email, send_resolved, stamp };
            draft.put(point.clone());
            let event = contact_event("create", &point);
            Ok((point, event))
        })
    }

    /// Says whether it is told of the end of alerts.
    pub fn update_contact_point(
        &self,
        by: &Actor,
        project: ProjectId,
        region: Region,
        email: &str,
        send_resolved: Option<bool>,
    ) -> Result<ContactPoint, Error> {
        let email = checked_address(email)?;
        self.change(by, |draft| {
            let found = draft.image().get::<ContactPoint>(&(project, region, email.clone()));
            let mut point = found
                .map(|c| (**c).clone())
                .ok_or_else(|| Error::not_found(Resource::ContactPoint, &email))?;
            point.send_resolved = send_resolved.unwrap_or(point.send_resolved);
            point.stamp.updated_ms = draft.now_ms();
            draft.put(point.clone());
            let event = contact_event("update", &point);
            Ok((point, event))
        })
    }

    pub fn delete_contact_point(
        &self,
        by: &Actor,
        project: ProjectId,
        region: Region,
        email: &str,
    ) -> Result<(), Error> {
        let email = checked_address(email)?;
        self.change(by, |draft| {
            let key = (project, region, email);
            let found = draft.image().get::<ContactPoint>(&key).cloned();
            let point = found.ok_or_else(|| Error::not_found(Resource::ContactPoint, &key.2))?;
            draft.remove::<ContactPoint>(&key);
            Ok(((), contact_event("delete", &point)))
        })
    }

    /// By age; of one project or of all.
    pub fn contact_points(
        &self,
        project: Option<ProjectId>,
        region: Region,
        page: Page,
    ) -> Listed<ContactPoint> {
        let image = self.image();
        let kept =
            image.contacts.values().filter(|c| c.region == region && project.is_none_or(|p| p == c.project));
        Listed::of(kept, Order::default(), page, ContactPoint::clone)
    }

    /// Who is to get mail: the contact points of projects whose alerting is on.
    pub fn mail_receivers(&self) -> Vec<ContactPoint> {
        let image = self.image();
        let is_on =
            |c: &ContactPoint| image.get::<AlertSettings>(&(c.project, c.region)).is_some_and(|s| s.enabled);
        image.contacts.values().filter(|c| is_on(c)).map(|c| (**c).clone()).collect()
    }
}

impl Listable for ContactPoint {
    fn number(&self) -> u64 {
        self.stamp.number
    }

    fn sorted_by(&self, _: SortKey) -> &str {
        ""
    }
}

fn contact_event(action: &'static str, point: &ContactPoint) -> Event {
    Event::new(action, Resource::ContactPoint, &point.email)
        .of(point.project, Some(point.region))
        .with("send_resolved_notifications", point.send_resolved)
}

// ---- on the disk ----

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AlertSettingsMessage {
    #[prost(bytes = "vec", tag = "1")]
    project: Vec<u8>,
    #[prost(string, tag = "2")]
    region: String,
    #[prost(bool, tag = "3")]
    enabled: bool,
    #[prost(bool, tag = "4")]
    managed_alerts: bool,
    #[prost(string, repeated, tag = "5")]
    rules: Vec<String>,
}

impl Row for AlertSettings {
    const TABLE: &'static str = "alerting";
    type Key = (ProjectId, Region);
    type Message = AlertSettingsMessage;

    fn key(&self) -> Self::Key {
        (self.project, self.region)
    }

    fn to_message(&self) -> AlertSettingsMessage {
        AlertSettingsMessage {
            project: self.project.to_bytes(),
            region: self.region.to_string(),
            enabled: self.enabled,
            managed_alerts: self.managed_alerts,
            rules: self.rules.iter().cloned().collect(),
        }
    }

    fn from_message(m: AlertSettingsMessage) -> Option<Self> {
        Some(Self {
            project: ProjectId::from_bytes(&m.project)?,
            region: m.region.parse().ok()?,
            enabled: m.enabled,
            managed_alerts: m.managed_alerts,
            rules: m.rules.into_iter().collect(),
        })
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ContactMessage {
    #[prost(bytes = "vec", tag = "1")]
    project: Vec<u8>,
    #[prost(string, tag = "2")]
    region: String,
    #[prost(string, tag = "3")]
    email: String,
    #[prost(bool, tag = "4")]
    send_resolved: bool,
    #[prost(message, required, tag = "5")]
    stamp: StampMessage,
}

impl Row for ContactPoint {
    const TABLE: &'static str = "contact_points";
    type Key = (ProjectId, Region, String);
    type Message = ContactMessage;

    fn key(&self) -> Self::Key {
        (self.project, self.region, self.email.clone())
    }

    fn to_message(&self) -> ContactMessage {
        ContactMessage {
            project: self.project.to_bytes(),
            region: self.region.to_string(),
            email: self.email.clone(),
            send_resolved: self.send_resolved,
            stamp: self.stamp.into(),
        }
    }

    fn from_message(m: ContactMessage) -> Option<Self> {
        Some(Self {
            project: ProjectId::from_bytes(&m.project)?,
            region: m.region.parse().ok()?,
            email: m.email,
            send_resolved: m.send_resolved,
            stamp: m.stamp.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_looked_at() {
        for good in ["a@b.c", " ops+x@example.org ", "o'x@ex-ample.co.uk", "a.b@localhost"] {
            assert_eq!(checked_address(good).unwrap(), good.trim());
        }
        for bad in ["", "a", "@b.c", "a@", "a b@c.d", "a@b..c", "a@-b.c", "a@b@c", "a@b.c, d@e.f", ".a@b.c"] {
            assert!(checked_address(bad).is_err(), "{bad}");
        }
    }
}
