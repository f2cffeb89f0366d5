use std::path::PathBuf;

use pilothouse_disk::sectors::is_bad_in_part;
use pilothouse_model::SourceError;

/// What can go wrong with the store as a whole. Refused samples are not errors: they are told
/// in [`pilothouse_model::write::Appended`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error(transparent)]
    Disk(#[from] pilothouse_disk::Error),
    #[error("write-ahead log: {0}")]
    Wal(#[from] pilothouse_disk::WalError),
    #[error("cannot read {}: {what}", path.display())]
    Corrupt { path: PathBuf, what: String },
    /// Work in the background was given up because the store is being closed.
    #[error("the store is being closed")]
    Closed,
    #[error("samples cannot be decoded: {0}")]
    Codec(#[from] crate::codec::CodecError),
    #[error("label index: {0}")]
    Index(#[from] pilothouse_index::Error),
    #[error("cannot start the thread {name}: {source}")]
    Thread { name: &'static str, source: std::io::Error },
    #[error(transparent)]
    Budget(#[from] pilothouse_model::BudgetError),
    #[error("{0}")]
    Source(#[from] SourceError),
}

impl Error {
    pub(crate) fn corrupt(path: impl Into<PathBuf>, what: impl Into<String>) -> Self {
        Self::Corrupt { path: path.into(), what: what.into() }
    }

    /// Whether bytes on the disk are at fault.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            Self::Disk(e) => e.is_damage(),
            Self::Corrupt { .. } | Self::Codec(_) => true,
            Self::Index(pilothouse_index::Error::Malformed(_)) => true,
            _ => false,
        }
    }

    /// Whether the disk did not give what was asked for.
    pub(crate) fn is_unreadable(&self) -> bool {
        match self {
            Self::Disk(e) => e.is_unreadable(),
            Self::Index(pilothouse_index::Error::Database(e)) => {
                matches!(&**e, redb::Error::Io(e) if pilothouse_disk::is_unreadable(e))
            }
            _ => false,
        }
    }

    /// Whether a file does not say what was written to it: its bytes are wrong, or the disk gives some of them, but
    /// not all. Where it gives none it may come back.
    pub(crate) fn is_lost(&self, path: &std::path::Path) -> bool {
        self.is_damage() || self.is_unreadable() && is_bad_in_part(path)
    }

    /// Whether a database refuses everything until it is opened anew.
    pub(crate) fn is_latched(&self) -> bool {
        match self {
            Self::Disk(e) => e.is_latched(),
            Self::Index(pilothouse_index::Error::Database(e)) => pilothouse_disk::is_latched(e),
            _ => false,
        }
    }

    pub(crate) fn thread(name: &'static str, source: std::io::Error) -> Self {
        Self::Thread { name, source }
    }

    /// Names the file that could not be decoded.
    pub(crate) fn in_file(self, path: &std::path::Path) -> Self {
        match self {
            Self::Codec(e) => Self::corrupt(path, e.to_string()),
            Self::Index(e @ pilothouse_index::Error::Malformed(_)) => Self::corrupt(path, e.to_string()),
            other => other,
        }
    }

    /// Names the file of a redb failure.
    pub(crate) fn redb<E: Into<redb::Error>>(path: &std::path::Path) -> impl FnOnce(E) -> Self + use<E> {
        let named = pilothouse_disk::Error::database(path);
        move |e| Self::Disk(named(e))
    }
}

impl From<Error> for SourceError {
    fn from(error: Error) -> Self {
        match error {
            Error::Source(e) => e,
            Error::Budget(e) | Error::Index(pilothouse_index::Error::Budget(e)) => SourceError::Budget(e),
            e => SourceError::storage(e),
        }
    }
}
