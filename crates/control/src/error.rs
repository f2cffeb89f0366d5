//! What can go wrong. What callers are told is made at the edge from the fields here.

use std::path::{Path, PathBuf};

use crate::row::Unread;

/// The kinds of objects, as errors name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    Token,
    DataSource,
    ContactPoint,
    GrafanaUser,
    Plan,
}

impl Resource {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::DataSource => "data_source",
            Self::ContactPoint => "contact_point",
            Self::GrafanaUser => "grafana_user",
            Self::Plan => "plan",
        }
    }
}

/// What is wrong with an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Required,
    Format,
    Constraint,
    Unknown,
}

impl Fault {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::Format => "format",
            Self::Constraint => "constraint",
            Self::Unknown => "unknown",
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("argument {argument}: {help}")]
    Invalid { argument: &'static str, fault: Fault, help: String },
    #[error("{} {id} does not exist", resource.as_str())]
    NotFound { resource: Resource, id: String },
    /// The object is needed and may not go.
    #[error("{} {id} is still in use: {help}", resource.as_str())]
    InUse { resource: Resource, id: String, help: &'static str },
    #[error("there are {current} of {quota} of {} already", resource.as_str())]
    Quota { resource: Resource, quota: u64, current: u64 },
    #[error("{} {id} exists already", resource.as_str())]
    Exists { resource: Resource, id: String },
    /// A row that no release has written so. Nothing is changed.
    #[error("{path}: table {table}, row {key}: {why}", path = path.display())]
    Damaged { path: PathBuf, table: &'static str, key: String, why: String },
    /// What another release wrote and this one cannot read. It is no damage: nothing is changed.
    #[error(
        "{path}: {what}: {why}. Another release wrote it; nothing was changed. Start a release that reads it, or \
         restore a backup",
        path = path.display()
    )]
    Unknown { path: PathBuf, what: String, why: String },
    /// The copy is there, and not as it was written.
    #[error("the copy {path} cannot be read: {why}", path = path.display())]
    Copy { path: PathBuf, why: String },
    /// A new file is not made while there is something that the old one could be made from.
    #[error("{path} is gone or empty, and beside it there is still {copy}{why}", path = path.display(), copy = copy.display())]
    Gone { path: PathBuf, copy: PathBuf, why: String },
    #[error(transparent)]
    Disk(#[from] pilothouse_disk::Error),
}

impl Error {
    pub(crate) fn required(argument: &'static str) -> Self {
        Self::Invalid { argument, fault: Fault::Required, help: format!("{argument} is required") }
    }

    pub(crate) fn constraint(argument: &'static str, help: impl Into<String>) -> Self {
        Self::Invalid { argument, fault: Fault::Constraint, help: help.into() }
    }

    pub(crate) fn format(argument: &'static str, help: impl Into<String>) -> Self {
        Self::Invalid { argument, fault: Fault::Format, help: help.into() }
    }

    pub(crate) fn not_found(resource: Resource, id: impl ToString) -> Self {
        Self::NotFound { resource, id: id.to_string() }
    }

    /// Of a row of a file.
    pub(crate) fn unread(path: &Path, table: &'static str, key: &str, unread: Unread) -> Self {
        let (path, key) = (path.to_owned(), key.to_owned());
        match unread {
            Unread::Unknown(why) => Self::Unknown { path, what: format!("table {table}, row {key}"), why },
            Unread::Damaged(why) => Self::Damaged { path, table, key, why },
        }
    }

    /// Whether bytes on the disk are at fault, which no other try will mend.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Disk(e) => e.is_damage(),
            Self::Damaged { .. } | Self::Copy { .. } | Self::Gone { .. } => true,
            _ => false,
        }
    }

    /// Whether another release wrote what this one cannot read.
    pub fn is_unknown(&self) -> bool {
        match self {
            Self::Disk(e) => {
                matches!(e, pilothouse_disk::Error::Newer { .. } | pilothouse_disk::Error::Older { .. })
            }
            Self::Unknown { .. } => true,
            _ => false,
        }
    }

    /// Whether the pages of the file are at fault, not what a row says.
    pub(crate) fn is_in_file(&self) -> bool {
        matches!(self, Self::Disk(e) if e.is_damage())
    }

    /// Whether the fault lies with the storage rather than with the caller.
    pub fn is_storage(&self) -> bool {
        matches!(
            self,
            Self::Disk(_)
                | Self::Damaged { .. }
                | Self::Unknown { .. }
                | Self::Copy { .. }
                | Self::Gone { .. }
        )
    }
}

impl From<Error> for pilothouse_model::SourceError {
    fn from(error: Error) -> Self {
        match &error {
            Error::Disk(cause) if cause.is_no_space() => Self::NotWritable(error.to_string().into()),
            _ => Self::storage(error),
        }
    }
}
