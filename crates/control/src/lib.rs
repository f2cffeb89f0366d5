//! The control plane: what Pilothouse knows about its users rather than about their data.
//!
//! Projects, data sources, tokens with their scopes, contact points, plans, Grafana users (as
//! records: there is no Grafana here), the switches of alerting, what was used, and the audit
//! trail of every change, in one redb file. The same file keeps the small records of the workers
//! (rule groups, silences, checks) behind the port [`pilothouse_model::StateStore`].
//!
//! What it promises: a change is on the disk, together with its line in the audit trail, before
//! the call returns; a reader sees all of a change or nothing of it, and waits for no writer; a
//! token works from the return of the call that made it and no longer than the call that deletes
//! it, on open connections too ([`Grant::is_revoked`]). What it does not: know HTTP or JSON, open
//! a store, or keep a secret. Of tokens only a hash is stored; usage figures may lose the last
//! minute in a crash.
//!
//! Reading order: `control` (what there is), `change` (how it is changed), `image` (what is held in
//! memory), then a module per kind of record: `token` with `grant` and `scope`, `source` with
//! `declared`, `alerting`, `grafana`, `plan`, `usage`, `audit`; `state` is the port of the workers;
//! `copy`, `salvage` and `mend` are what is done about a damaged file. The bytes are told in
//! `docs/formats/control.md`.

mod alerting;
mod audit;
mod change;
mod control;
mod copy;
mod declared;
mod error;
mod grafana;
mod grant;
mod ids;
mod image;
mod list;
mod mend;
mod plan;
mod project;
mod region;
mod row;
mod salvage;
mod scope;
mod source;
mod state;
#[cfg(test)]
mod tests;
mod token;
mod usage;

pub use alerting::{AlertSettings, ContactPoint};
pub use audit::{Actor, AuditEntry, Event};
pub use control::{Control, Options, check};
pub use declared::DeclaredSource;
pub use error::{Error, Fault, Resource};
pub use grafana::{GrafanaRole, GrafanaUser};
pub use grant::{Grant, TokenUse};
pub use ids::{ProjectId, SourceId, TokenId};
pub use list::{Listed, Order, Page, SortKey};
pub use plan::Plan;
pub use project::Project;
pub use region::Region;
pub use row::Stamp;
pub use salvage::{Salvaged, incomplete, salvage};
pub use scope::{Scope, Scopes};
pub use source::{
    DataSource, NewSource, Origin, RemoteSettings, SourceChange, SourceFilter, SourceKind, SourceLimits,
};
pub use token::{NewToken, Secret, Token, TokenFilter};
pub use usage::{Amounts, UsageQuery};
