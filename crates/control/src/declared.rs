//! Data sources that a configuration declares. What it says of one holds whole: what is left out has its
//! default, and no caller changes or deletes it. One that is declared no more stays with its data
//! and belongs to the callers again, since a line that went from a file is no order to delete data;
//! a default source is then as it was at the first start.

use std::collections::BTreeSet;

use pilothouse_model::limits::Limits;

use crate::audit::Actor;
use crate::change::Draft;
use crate::control::{Control, checked_name};
use crate::error::{Error, Resource};
use crate::ids::SourceId;
use crate::image::Image;
use crate::row::Stamp;
use crate::source::{
    DataSource, Origin, RemoteSettings, Removal, SourceKind, SourceLimits, check_remote, check_retention,
    default_name, event, is_default,
};

/// A source as a configuration says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredSource {
    /// `None` is the default source of the kind.
    pub id: Option<SourceId>,
    /// Empty for a default source: it keeps the name that it has from the start.
    pub name: String,
    /// Metrics or logs.
    pub kind: SourceKind,
    pub retention_days: Option<u32>,
    pub limits: SourceLimits,
    pub remote: Option<RemoteSettings>,
}

impl Control {
    /// Makes the declared sources exactly these, all of them or none; gives those that have changed. One
    /// that is said as before is not touched. `limits` are those that will be in force.
    pub fn declare_sources(
        &self,
        declared: &[DeclaredSource],
        limits: &Limits,
    ) -> Result<Vec<DataSource>, Error> {
        self.change_all(&Actor::server(), |draft| {
            let planned = plan(draft.image(), declared, limits.max_data_sources)?;
            Ok(planned.into_iter().map(|planned| planned.settle(draft)).collect())
        })
    }

    /// Whether [`Control::declare_sources`] would refuse these.
    pub fn may_declare_sources(&self, declared: &[DeclaredSource], limits: &Limits) -> Result<(), Error> {
        plan(&self.image(), declared, limits.max_data_sources).map(drop)
    }
}

/// A source as it shall be.
struct Planned {
    source: DataSource,
    is_new: bool,
}

impl Planned {
    fn settle(self, draft: &mut Draft<'_>) -> DataSource {
        let Self { mut source, is_new } = self;
        draft.touch_project(source.project);
        if is_new {
            source.stamp = draft.stamp();
        }
        source.stamp.updated_ms = draft.now_ms();
        draft.put(source.clone());
        let event = event(if is_new { "create" } else { "update" }, &source);
        draft.tell(event.with("declared", source.declared));
        source
    }
}

fn plan(image: &Image, declared: &[DeclaredSource], quota: u64) -> Result<Vec<Planned>, Error> {
    let (mut met, mut planned) = (BTreeSet::new(), Vec::new());
    for one in declared {
        let (before, source) = (one.before(image), one.over(image)?);
        if !met.insert(source.id) {
            return Err(one.refuse("is declared twice"));
        }
        if before != Some(&source) {
            planned.push(Planned { is_new: before.is_none(), source });
        }
    }
    let current = image.sources.len() as u64;
    let added = planned.iter().filter(|planned| planned.is_new).count() as u64;
    if added > 0 && current + added > quota {
        return Err(Error::Quota { resource: Resource::DataSource, quota, current });
    }
    let released = image.sources.values().filter(|source| source.declared && !met.contains(&source.id));
    planned.extend(released.map(|source| Planned { source: released_of(source), is_new: false }));
    Ok(planned)
}

fn released_of(source: &DataSource) -> DataSource {
    let mut source = DataSource { declared: false, ..source.clone() };
    if is_default(&source) {
        source.name = default_name(source.kind).to_owned();
        source.own_retention_days = None;
        source.limits = SourceLimits::default();
        source.remote = None;
    }
    source
}

impl DeclaredSource {
    fn refuse(&self, why: &str) -> Error {
        let kind = self.kind.as_str();
        let name = if self.name.is_empty() { "the default one" } else { &self.name };
        Error::constraint("data_sources", format!("{name} of {kind}: {why}"))
    }

    fn before<'a>(&self, image: &'a Image) -> Option<&'a DataSource> {
        match self.id {
            Some(id) => image.get::<DataSource>(&id).map(|source| &**source),
            None => {
                let is_it = |source: &&DataSource| is_default(source) && source.kind == self.kind;
                image.sources.values().map(|source| &**source).find(is_it)
            }
        }
    }

    /// The source with all that is declared of it.
    fn over(&self, image: &Image) -> Result<DataSource, Error> {
        let before = self.before(image);
        if !matches!(self.kind, SourceKind::Metrics | SourceKind::Logs) {
            return Err(self.refuse("a configuration declares sources of metrics and logs alone"));
        }
        check_retention(self.retention_days)?;
        let source = match (before, self.id) {
            (Some(before), Some(_)) if before.origin == Origin::Scaleway => {
                return Err(self.refuse("its id is that of a source that is always there"));
            }
            (Some(before), _) if before.kind != self.kind => {
                return Err(self.refuse(&format!("its id is that of a source of {}", before.kind.as_str())));
            }
            (Some(before), _) => before.clone(),
            // Whoever removes it goes by the id.
            (None, Some(id)) if image.get::<Removal>(&id).is_some() => {
                return Err(self.refuse("the data of one that was deleted is not removed yet"));
            }
            (None, Some(id)) => self.fresh(id),
            (None, None) => return Err(self.refuse("there is no default source")),
        };
        let name = match self.id {
            None if self.name.is_empty() => default_name(self.kind).to_owned(),
            _ => checked_name("data_sources.name", &self.name)?,
        };
        let source = DataSource {
            name,
            own_retention_days: self.retention_days,
            limits: self.limits,
            remote: self.remote.clone(),
            declared: true,
            ..source
        };
        check_remote(&source, source.remote.is_some())?;
        Ok(source)
    }

    /// One that nobody has seen; its stamp is given when it is made.
    fn fresh(&self, id: SourceId) -> DataSource {
        DataSource::new(id, self.kind, String::new(), Stamp::default())
    }
}
