use std::path::{Path, PathBuf};

use pilothouse_model::SourceError;

/// What can go wrong with the store as a whole. Refused entries are not errors: they are told
/// in [`pilothouse_model::log_ports::LogAppended`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error(transparent)]
    Disk(#[from] pilothouse_disk::Error),
    #[error("write-ahead log: {0}")]
    Wal(#[from] pilothouse_disk::WalError),
    #[error("cannot read {}: {what}", path.display())]
    Corrupt { path: PathBuf, what: String },
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{}: {source}", path.display())]
    Tantivy { path: PathBuf, source: Box<tantivy::TantivyError> },
    /// Work in the background was given up because the store is being closed.
    #[error("the store is being closed")]
    Closed,
    #[error("label index: {0}")]
    Index(#[from] pilothouse_index::Error),
    #[error("cannot start the thread {name}: {source}")]
    Thread { name: &'static str, source: std::io::Error },
    #[error(transparent)]
    Budget(#[from] pilothouse_model::BudgetError),
    #[error("{0}")]
    Source(#[from] SourceError),
    /// A deletion request that makes no sense; the text is fit for the client.
    #[error("{0}")]
    BadDeletion(String),
}

impl Error {
    pub(crate) fn corrupt(path: impl Into<PathBuf>, what: impl ToString) -> Self {
        Self::Corrupt { path: path.into(), what: what.to_string() }
    }

    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn tantivy<E: Into<tantivy::TantivyError>>(path: &Path) -> impl FnOnce(E) -> Self + use<E> {
        let path = path.to_owned();
        move |source| Self::Tantivy { path, source: Box::new(source.into()) }
    }

    pub(crate) fn redb<E: Into<redb::Error>>(path: &Path) -> impl FnOnce(E) -> Self + use<E> {
        let named = pilothouse_disk::Error::database(path);
        move |e| Self::Disk(named(e))
    }

    /// Whether bytes on the disk are at fault, which no other try will mend.
    pub(crate) fn is_damage(&self) -> bool {
        use std::io::ErrorKind::{InvalidData, NotFound, UnexpectedEof};
        match self {
            Self::Disk(e) => e.is_damage(),
            Self::Corrupt { .. } => true,
            Self::Io { source, .. } => matches!(source.kind(), InvalidData | NotFound | UnexpectedEof),
            Self::Tantivy { source, .. } => is_tantivy_damage(source),
            _ => false,
        }
    }
}

fn is_tantivy_damage(error: &tantivy::TantivyError) -> bool {
    use tantivy::TantivyError as T;
    use tantivy::directory::error::OpenReadError;
    match error {
        T::DataCorruption(_)
        | T::SchemaError(_)
        | T::IncompatibleIndex(_)
        | T::InternalError(_)
        | T::InvalidArgument(_)
        | T::OpenReadError(OpenReadError::FileDoesNotExist(_) | OpenReadError::IncompatibleIndex(_)) => true,
        T::IoError(e) => is_io_damage(e),
        T::OpenReadError(OpenReadError::IoError { io_error, .. }) => is_io_damage(io_error),
        _ => false,
    }
}

fn is_io_damage(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof)
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
