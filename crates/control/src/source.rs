//! Data sources: partitions of the data, each with a root of its own.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use prost::Message;

use crate::audit::{Actor, Event};
use crate::change::Draft;
use crate::control::{Control, checked_name};
use crate::error::{Error, Resource};
use crate::ids::{ProjectId, SourceId};
use crate::list::{Listable, Listed, Order, Page, SortKey};
use crate::region::Region;
use crate::row::{Row, Stamp, StampMessage};

/// What a source holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SourceKind {
    Metrics,
    Logs,
    /// Kept as a record: there is no store of traces.
    Traces,
    /// A record too, known to version 1beta1 alone.
    Alerts,
}

impl SourceKind {
    const ALL: [Self; 4] = [Self::Metrics, Self::Logs, Self::Traces, Self::Alerts];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Logs => "logs",
            Self::Traces => "traces",
            Self::Alerts => "alerts",
        }
    }
}

/// Who made a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The server: the stores behind the shared root.
    Scaleway,
    External,
    /// A user.
    Custom,
}

impl Origin {
    const ALL: [Self; 3] = [Self::Scaleway, Self::External, Self::Custom];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scaleway => "scaleway",
            Self::External => "external",
            Self::Custom => "custom",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not among the known ones")]
pub struct UnknownWord;

impl FromStr for SourceKind {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL.into_iter().find(|k| k.as_str() == text).ok_or(UnknownWord)
    }
}

impl FromStr for Origin {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL.into_iter().find(|o| o.as_str() == text).ok_or(UnknownWord)
    }
}

/// Limits of one source, below those of the server. `None`: no own one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SourceLimits {
    pub max_active_series: Option<u64>,
    pub max_log_streams: Option<u64>,
}

/// Settings of another system that keeps a source's data: JSON as it was said, passwords included,
/// which is why it never prints. What it means is not decided here.
#[derive(Clone, PartialEq, Eq)]
pub struct RemoteSettings(Arc<str>);

impl RemoteSettings {
    pub fn new(json: impl Into<Arc<str>>) -> Self {
        Self(json.into())
    }

    /// For the one place that reads it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RemoteSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RemoteSettings")
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataSource {
    pub id: SourceId,
    pub project: ProjectId,
    pub region: Region,
    pub name: String,
    pub kind: SourceKind,
    pub origin: Origin,
    pub stamp: Stamp,
    pub synchronized: bool,
    /// 1 to 1825, where the source has its own; else the server's retention holds.
    pub own_retention_days: Option<u32>,
    pub limits: SourceLimits,
    /// The server's own source for its audit trail; in no list that does not ask for it.
    pub internal: bool,
    /// Where another system keeps the data.
    pub remote: Option<RemoteSettings>,
    /// Whether the configuration says all of this, so that no caller changes it.
    pub declared: bool,
}

impl DataSource {
    pub const RETENTION_DAYS: std::ops::RangeInclusive<u32> = 1..=1825;

    /// A user's, in the project of whoever names none, without anything of its own.
    pub(crate) fn new(id: SourceId, kind: SourceKind, name: String, stamp: Stamp) -> Self {
        Self {
            id,
            project: ProjectId::DEFAULT,
            region: Region::default(),
            name,
            kind,
            origin: Origin::Custom,
            stamp,
            synchronized: false,
            own_retention_days: None,
            limits: SourceLimits::default(),
            internal: false,
            remote: None,
            declared: false,
        }
    }

    fn changed(mut self, change: SourceChange) -> Result<Self, Error> {
        check_retention(change.retention_days)?;
        if let Some(name) = change.name {
            self.name = checked_name("name", &name)?;
        }
        self.own_retention_days = change.retention_days.or(self.own_retention_days);
        let limits = &mut self.limits;
        limits.max_active_series = change.max_active_series.unwrap_or(limits.max_active_series);
        limits.max_log_streams = change.max_log_streams.unwrap_or(limits.max_log_streams);
        if let Some(remote) = change.remote {
            check_remote(&self, remote.is_some())?;
            self.remote = remote;
        }
        Ok(self)
    }

    /// The directory of its data, below that of its kind.
    pub fn directory(&self) -> String {
        match self.origin {
            Origin::Scaleway if !self.internal => "default".to_owned(),
            _ => self.id.to_string(),
        }
    }
}

impl Listable for DataSource {
    fn number(&self) -> u64 {
        self.stamp.number
    }

    fn sorted_by(&self, key: SortKey) -> &str {
        match key {
            SortKey::Name => &self.name,
            SortKey::Type => self.kind.as_str(),
            _ => "",
        }
    }
}

#[derive(Debug, Clone)]
pub struct NewSource {
    pub project: ProjectId,
    pub region: Region,
    pub name: String,
    pub kind: SourceKind,
    pub retention_days: Option<u32>,
    pub limits: SourceLimits,
    /// See [`DataSource::remote`]; who hands them over has checked them.
    pub remote: Option<RemoteSettings>,
}

/// Only what is said changes.
#[derive(Debug, Clone, Default)]
pub struct SourceChange {
    pub name: Option<String>,
    pub retention_days: Option<u32>,
    /// `Some(None)` takes the own limit away.
    pub max_active_series: Option<Option<u64>>,
    pub max_log_streams: Option<Option<u64>>,
    /// `Some(None)` brings the source back to this server.
    pub remote: Option<Option<RemoteSettings>>,
}

#[derive(Debug, Clone, Default)]
pub struct SourceFilter {
    pub region: Region,
    pub project: Option<ProjectId>,
    pub origin: Option<Origin>,
    /// Any of these; all but [`SourceKind::Alerts`] where empty.
    pub kinds: Vec<SourceKind>,
    pub internal: bool,
    pub order: Order,
    pub page: Page,
}

/// A source that is gone and whose data is not yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    pub source: SourceId,
    pub kind: SourceKind,
    pub directory: String,
}

pub(crate) fn check_retention(days: Option<u32>) -> Result<(), Error> {
    match days {
        Some(days) if !DataSource::RETENTION_DAYS.contains(&days) => {
            Err(Error::constraint("retention_days", "1 to 1825 days"))
        }
        _ => Ok(()),
    }
}

/// Only series and entries can be elsewhere, and the server's own lines never are.
pub(crate) fn check_remote(source: &DataSource, is_remote: bool) -> Result<(), Error> {
    let may_be = matches!(source.kind, SourceKind::Metrics | SourceKind::Logs) && !source.internal;
    if is_remote && !may_be {
        return Err(Error::constraint("remote", "only data sources of metrics and logs can be remote"));
    }
    Ok(())
}

// ---- what may be done ----

impl Control {
    pub fn create_source(&self, by: &Actor, new: NewSource) -> Result<DataSource, Error> {
        let name = checked_name("name", &new.name)?;
        check_retention(new.retention_days)?;
        self.change(by, |draft| {
            let (count, quota) = (draft.image().sources.len(), draft.limits().max_data_sources);
            draft.check_quota(Resource::DataSource, count, quota)?;
            draft.touch_project(new.project);
            let source = DataSource {
                project: new.project,
                region: new.region,
                own_retention_days: new.retention_days,
                limits: new.limits,
                remote: new.remote,
                ..DataSource::new(SourceId::random(), new.kind, name, draft.stamp())
            };
            check_remote(&source, source.remote.is_some())?;
            draft.put(source.clone());
            let event = event("create", &source);
            Ok((source, event))
        })
    }

    /// Whatever its region.
    pub fn source(&self, id: SourceId) -> Option<DataSource> {
        self.image().get::<DataSource>(&id).map(|s| (**s).clone())
    }

    /// Settings of the system that keeps a source's data, where that is not this server.
    pub fn remote_of(&self, id: SourceId) -> Option<RemoteSettings> {
        self.image().get::<DataSource>(&id)?.remote.clone()
    }

    pub fn source_in(&self, region: Region, id: SourceId) -> Result<DataSource, Error> {
        let found = self.source(id).filter(|s| s.region == region);
        found.ok_or_else(|| Error::not_found(Resource::DataSource, id))
    }

    /// The source of a kind behind the shared root.
    pub fn default_source(&self, kind: SourceKind) -> Option<DataSource> {
        let image = self.image();
        image.sources.values().find(|s| is_default(s) && s.kind == kind).map(|s| (**s).clone())
    }

    /// The server's own logs.
    pub fn internal_source(&self) -> Option<DataSource> {
        self.image().sources.values().find(|s| s.internal).map(|s| (**s).clone())
    }

    pub fn sources(&self, filter: &SourceFilter) -> Listed<DataSource> {
        let image = self.image();
        let kept = image.sources.values().filter(|s| {
            s.region == filter.region
                && (filter.internal || !s.internal)
                && filter.project.is_none_or(|p| p == s.project)
                && filter.origin.is_none_or(|o| o == s.origin)
                && match filter.kinds.as_slice() {
                    [] => s.kind != SourceKind::Alerts,
                    kinds => kinds.contains(&s.kind),
                }
        });
        Listed::of(kept, filter.order, filter.page, DataSource::clone)
    }

    /// All sources, internal ones too, whatever their region.
    pub fn all_sources(&self) -> Vec<DataSource> {
        self.image().sources.values().map(|s| (**s).clone()).collect()
    }

    /// Changes a source as `make` says of what it is now; nobody else changes it between the two.
    pub fn update_source<E: From<Error>>(
        &self,
        by: &Actor,
        region: Region,
        id: SourceId,
        make: impl FnOnce(&DataSource) -> Result<SourceChange, E>,
    ) -> Result<DataSource, E> {
        self.change_all(by, |draft| {
            let source = found(draft, region, id)?;
            check_free(&source)?;
            let change = make(&source)?;
            let mut source = source.changed(change)?;
            source.stamp.updated_ms = draft.now_ms();
            draft.put(source.clone());
            draft.tell(event("update", &source));
            Ok(source)
        })
    }

    /// Deletes a source. Its data is unreachable when this returns, and is removed by whoever
    /// keeps the stores: see [`Control::removals`].
    pub fn delete_source(&self, by: &Actor, region: Region, id: SourceId) -> Result<(), Error> {
        self.change(by, |draft| {
            let source = found(draft, region, id)?;
            if source.origin == Origin::Scaleway {
                let help = "the default data sources stay";
                return Err(Error::InUse { resource: Resource::DataSource, id: id.to_string(), help });
            }
            check_free(&source)?;
            draft.remove::<DataSource>(&id);
            let directory = source.directory();
            draft.put(Removal { source: id, kind: source.kind, directory });
            Ok(((), event("delete", &source)))
        })
    }

    /// Directories that may go. They survive a restart, so that no data is left behind.
    pub fn removals(&self) -> Vec<Removal> {
        self.image().removals.values().map(|r| (**r).clone()).collect()
    }

    /// The data of a removed source is gone.
    pub fn removed(&self, id: SourceId) -> Result<(), Error> {
        self.change(&Actor::server(), |draft| {
            draft.remove::<Removal>(&id);
            Ok(((), Event::new("remove_data", Resource::DataSource, id)))
        })
    }

    /// Marks the sources of a project, and the default ones, as known to Grafana.
    pub fn synchronize_sources(&self, by: &Actor, project: ProjectId) -> Result<(), Error> {
        self.change(by, |draft| {
            let image = draft.image().clone();
            for source in image.sources.values().filter(|s| s.project == project || is_default(s)) {
                if !source.synchronized {
                    draft.put(DataSource { synchronized: true, ..(**source).clone() });
                }
            }
            Ok(((), Event::named("synchronize", "data_source", "all").of(project, None)))
        })
    }

    /// Makes what every server has: the default sources and the internal one.
    pub(crate) fn create_default_sources(&self) -> Result<(), Error> {
        let wanted = [
            (SourceKind::Metrics, default_name(SourceKind::Metrics), false),
            (SourceKind::Logs, default_name(SourceKind::Logs), false),
            (SourceKind::Logs, "pilothouse", true),
        ];
        for (kind, name, internal) in wanted {
            let image = self.image();
            let is_it =
                |s: &DataSource| s.origin == Origin::Scaleway && s.kind == kind && s.internal == internal;
            if image.sources.values().any(|s| is_it(s)) {
                continue;
            }
            self.change(&Actor::server(), |draft| {
                draft.touch_project(ProjectId::DEFAULT);
                let source = DataSource {
                    origin: Origin::Scaleway,
                    internal,
                    ..DataSource::new(SourceId::random(), kind, name.to_owned(), draft.stamp())
                };
                let event = event("create", &source);
                draft.put(source);
                Ok(((), event))
            })?;
        }
        Ok(())
    }
}

pub(crate) fn is_default(source: &DataSource) -> bool {
    source.origin == Origin::Scaleway && !source.internal
}

/// Of the source behind the shared root.
pub(crate) fn default_name(kind: SourceKind) -> &'static str {
    if kind == SourceKind::Logs { "Logs" } else { "Metrics" }
}

/// What a configuration declares is changed there.
fn check_free(source: &DataSource) -> Result<(), Error> {
    let help = "the configuration declares it";
    match source.declared {
        true => Err(Error::InUse { resource: Resource::DataSource, id: source.id.to_string(), help }),
        false => Ok(()),
    }
}

fn found(draft: &Draft<'_>, region: Region, id: SourceId) -> Result<DataSource, Error> {
    let found = draft.image().get::<DataSource>(&id).filter(|s| s.region == region);
    found.map(|s| (**s).clone()).ok_or_else(|| Error::not_found(Resource::DataSource, id))
}

pub(crate) fn event(action: &'static str, source: &DataSource) -> Event {
    let event = Event::new(action, Resource::DataSource, source.id)
        .of(source.project, Some(source.region))
        .with("name", &source.name)
        .with("type", source.kind.as_str())
        .with("backend", if source.remote.is_some() { "remote" } else { "local" });
    match source.own_retention_days {
        Some(days) => event.with("retention_days", days),
        None => event,
    }
}

// ---- on the disk ----

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SourceMessage {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    project: Vec<u8>,
    #[prost(string, tag = "3")]
    region: String,
    #[prost(string, tag = "4")]
    name: String,
    #[prost(string, tag = "5")]
    kind: String,
    #[prost(string, tag = "6")]
    origin: String,
    #[prost(message, required, tag = "7")]
    stamp: StampMessage,
    #[prost(bool, tag = "8")]
    synchronized: bool,
    #[prost(uint32, optional, tag = "9")]
    retention_days: Option<u32>,
    #[prost(uint64, optional, tag = "10")]
    max_active_series: Option<u64>,
    #[prost(uint64, optional, tag = "11")]
    max_log_streams: Option<u64>,
    #[prost(bool, tag = "12")]
    internal: bool,
    #[prost(message, optional, tag = "13")]
    remote: Option<RemoteMessage>,
    #[prost(bool, tag = "14")]
    declared: bool,
}

/// The settings have a version of their own, since their form is not decided here.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RemoteMessage {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(string, tag = "2")]
    settings: String,
}

const REMOTE_VERSION: u32 = 1;

impl RemoteMessage {
    fn settings(self) -> Option<RemoteSettings> {
        (self.version == REMOTE_VERSION).then(|| RemoteSettings::new(self.settings))
    }
}

impl Row for DataSource {
    const TABLE: &'static str = "data_sources";
    type Key = SourceId;
    type Message = SourceMessage;

    fn key(&self) -> SourceId {
        self.id
    }

    fn to_message(&self) -> SourceMessage {
        SourceMessage {
            id: self.id.to_bytes(),
            project: self.project.to_bytes(),
            region: self.region.to_string(),
            name: self.name.clone(),
            kind: self.kind.as_str().to_owned(),
            origin: self.origin.as_str().to_owned(),
            stamp: self.stamp.into(),
            synchronized: self.synchronized,
            retention_days: self.own_retention_days,
            max_active_series: self.limits.max_active_series,
            max_log_streams: self.limits.max_log_streams,
            internal: self.internal,
            remote: self.remote.as_ref().map(|settings| RemoteMessage {
                version: REMOTE_VERSION,
                settings: settings.expose().to_owned(),
            }),
            declared: self.declared,
        }
    }

    fn from_message(m: SourceMessage) -> Option<Self> {
        Some(Self {
            id: SourceId::from_bytes(&m.id)?,
            project: ProjectId::from_bytes(&m.project)?,
            region: m.region.parse().ok()?,
            name: m.name,
            kind: m.kind.parse().ok()?,
            origin: m.origin.parse().ok()?,
            stamp: m.stamp.into(),
            synchronized: m.synchronized,
            own_retention_days: m.retention_days,
            limits: SourceLimits {
                max_active_series: m.max_active_series,
                max_log_streams: m.max_log_streams,
            },
            internal: m.internal,
            remote: match m.remote {
                Some(remote) => Some(remote.settings()?),
                None => None,
            },
            declared: m.declared,
        })
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct RemovalMessage {
    #[prost(bytes = "vec", tag = "1")]
    source: Vec<u8>,
    #[prost(string, tag = "2")]
    kind: String,
    #[prost(string, tag = "3")]
    directory: String,
}

impl Row for Removal {
    const TABLE: &'static str = "removals";
    type Key = SourceId;
    type Message = RemovalMessage;

    fn key(&self) -> SourceId {
        self.source
    }

    fn to_message(&self) -> RemovalMessage {
        let kind = self.kind.as_str().to_owned();
        RemovalMessage { source: self.source.to_bytes(), kind, directory: self.directory.clone() }
    }

    fn from_message(m: RemovalMessage) -> Option<Self> {
        let (source, kind) = (SourceId::from_bytes(&m.source)?, m.kind.parse().ok()?);
        Some(Self { source, kind, directory: m.directory })
    }
}
