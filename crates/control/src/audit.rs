//! The audit trail: one entry for each change, written in the transaction of the change.

use std::fmt;
use std::net::IpAddr;

use prost::Message;

use crate::error::Resource;
use crate::ids::ProjectId;
use crate::region::Region;
use crate::row::Row;

/// Who changes something, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    name: &'static str,
    address: Option<IpAddr>,
}

impl Actor {
    /// The bearer of the root token.
    pub fn root(address: Option<IpAddr>) -> Self {
        Self { name: "root", address }
    }

    /// Whoever comes while nothing is checked.
    pub fn anyone(address: Option<IpAddr>) -> Self {
        Self { name: "anyone", address }
    }

    /// The bearer of an access token of Synthetic Monitoring.
    pub fn tenant(address: Option<IpAddr>) -> Self {
        Self { name: "synthetic-monitoring tenant", address }
    }

    /// The server itself.
    pub fn server() -> Self {
        Self { name: "server", address: None }
    }
}

/// What was done, before it has a number and a time.
#[derive(Debug, Clone)]
pub struct Event {
    action: &'static str,
    resource: String,
    id: String,
    project: Option<ProjectId>,
    region: Option<Region>,
    details: Vec<(String, String)>,
}

impl Event {
    pub(crate) fn new(action: &'static str, resource: Resource, id: impl fmt::Display) -> Self {
        Self::named(action, resource.as_str(), id)
    }

    /// A change of something that is kept elsewhere: a rule group, the Alertmanager's
    /// configuration.
    pub fn named(action: &'static str, resource: &str, id: impl fmt::Display) -> Self {
        Self {
            action,
            resource: resource.to_owned(),
            id: id.to_string(),
            project: None,
            region: None,
            details: Vec::new(),
        }
    }

    pub fn of(mut self, project: ProjectId, region: Option<Region>) -> Self {
        self.project = Some(project);
        self.region = region;
        self
    }

    pub fn with(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.details.push((name.to_owned(), value.to_string()));
        self
    }

    pub(crate) fn entry(self, number: u64, at_ms: i64, by: &Actor) -> AuditEntry {
        AuditEntry {
            number,
            at_ms,
            actor: by.name.to_owned(),
            address: by.address.map(|a| a.to_string()),
            action: self.action.to_owned(),
            resource: self.resource,
            id: self.id,
            project: self.project,
            region: self.region,
            details: self.details,
        }
    }
}

/// One change: who, what, when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// Grows by at least one from entry to entry.
    pub number: u64,
    pub at_ms: i64,
    /// `root`, `anyone` (while nothing is checked) or `server`.
    pub actor: String,
    pub address: Option<String>,
    /// `create`, `update`, `delete`, …
    pub action: String,
    pub resource: String,
    pub id: String,
    pub project: Option<ProjectId>,
    pub region: Option<Region>,
    /// What was said, as names and values; no secrets.
    pub details: Vec<(String, String)>,
}

// ---- on the disk ----

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AuditMessage {
    #[prost(uint64, tag = "1")]
    number: u64,
    #[prost(int64, tag = "2")]
    at_ms: i64,
    #[prost(string, tag = "3")]
    actor: String,
    #[prost(string, optional, tag = "4")]
    address: Option<String>,
    #[prost(string, tag = "5")]
    action: String,
    #[prost(string, tag = "6")]
    resource: String,
    #[prost(string, tag = "7")]
    id: String,
    #[prost(bytes = "vec", optional, tag = "8")]
    project: Option<Vec<u8>>,
    #[prost(string, optional, tag = "9")]
    region: Option<String>,
    /// Names and values in turn.
    #[prost(string, repeated, tag = "10")]
    details: Vec<String>,
}

/// The table's keys are numbers; as text they stand in errors and in the copy.
impl Row for AuditEntry {
    const TABLE: &'static str = "audit";
    type Key = u64;
    type Message = AuditMessage;

    fn key(&self) -> u64 {
        self.number
    }

    fn to_message(&self) -> AuditMessage {
        AuditMessage {
            number: self.number,
            at_ms: self.at_ms,
            actor: self.actor.clone(),
            address: self.address.clone(),
            action: self.action.clone(),
            resource: self.resource.clone(),
            id: self.id.clone(),
            project: self.project.map(ProjectId::to_bytes),
            region: self.region.map(|r| r.to_string()),
            details: self.details.iter().flat_map(|(n, v)| [n.clone(), v.clone()]).collect(),
        }
    }

    fn from_message(m: AuditMessage) -> Option<Self> {
        let pairs = m.details.chunks_exact(2);
        let details = pairs.filter_map(|p| Some((p.first()?.clone(), p.get(1)?.clone()))).collect();
        Some(Self {
            number: m.number,
            at_ms: m.at_ms,
            actor: m.actor,
            address: m.address,
            action: m.action,
            resource: m.resource,
            id: m.id,
            project: m.project.and_then(|p| ProjectId::from_bytes(&p)),
            region: m.region.and_then(|r| r.parse().ok()),
            details,
        })
    }
}
