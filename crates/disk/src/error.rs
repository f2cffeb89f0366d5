use std::io;
use std::path::{Path, PathBuf};

/// What can go wrong with a file or a database. Failures of the log are [`crate::WalError`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{path} is in use by another process", path = path.display())]
    Locked { path: PathBuf },
    #[error("{path}: {source}", path = path.display())]
    Database { path: PathBuf, source: Box<redb::Error> },
    #[error("{path} is no Pilothouse file: it carries no format version", path = path.display())]
    NoFormat { path: PathBuf },
    #[error("{path} holds {found:?}, not {expected:?}", path = path.display())]
    WrongKind { path: PathBuf, expected: &'static str, found: String },
    #[error(
        "{path} has format version {found} of {kind:?}, written by a newer release; this one reads version {known}",
        path = path.display()
    )]
    Newer { path: PathBuf, kind: &'static str, found: u32, known: u32 },
    #[error("{path} has format version {found} of {kind:?}, which this release no longer reads (it reads version {known})",
        path = path.display())]
    Older { path: PathBuf, kind: &'static str, found: u32, known: u32 },
}

impl Error {
    /// Names what was done to which file; for use with `map_err`.
    pub fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// Names the file of a redb failure; for use with `map_err` around calls into redb.
    pub fn database<E: Into<redb::Error>>(path: &Path) -> impl FnOnce(E) -> Self + use<E> {
        let path = path.to_owned();
        move |source| Self::Database { path, source: Box::new(source.into()) }
    }

    /// Whether the bytes of the file are at fault, which no other try will mend. A file of another
    /// kind or version is not damaged.
    pub fn is_damage(&self) -> bool {
        use io::ErrorKind::{InvalidData, UnexpectedEof};
        match self {
            Self::NoFormat { .. } => true,
            Self::Database { source, .. } => match &**source {
                redb::Error::Io(e) => matches!(e.kind(), InvalidData | UnexpectedEof),
                redb::Error::Corrupted(_)
                | redb::Error::RepairAborted
                | redb::Error::TableTypeMismatch { .. }
                | redb::Error::TableIsMultimap(_)
                | redb::Error::TableDoesNotExist(_)
                | redb::Error::TypeDefinitionChanged { .. } => true,
                _ => false,
            },
            _ => false,
        }
    }

    /// Whether the device does not give the bytes, as with a bad sector.
    pub fn is_unreadable(&self) -> bool {
        match self {
            Self::Io { source, .. } => is_unreadable(source),
            Self::Database { source, .. } => matches!(&**source, redb::Error::Io(e) if is_unreadable(e)),
            _ => false,
        }
    }

    /// Whether a handle of redb's refuses everything from now on, though the file may be well:
    /// one failed access is enough, and opening the file anew may mend it.
    pub fn is_latched(&self) -> bool {
        matches!(self, Self::Database { source, .. } if is_latched(source))
    }

    /// Whether the device or a quota is full, which may pass without a hand.
    pub fn is_no_space(&self) -> bool {
        match self {
            Self::Io { source, .. } => is_no_space(source),
            Self::Database { source, .. } => matches!(&**source, redb::Error::Io(e) if is_no_space(e)),
            _ => false,
        }
    }
}

/// As [`Error::is_latched`], for an error that came another way.
pub fn is_latched(error: &redb::Error) -> bool {
    matches!(error, redb::Error::Io(_) | redb::Error::PreviousIo | redb::Error::DatabaseClosed)
}

/// As [`Error::is_unreadable`], for an error that came another way.
pub fn is_unreadable(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// Whether a file system has no hard links, or no more of them.
pub(crate) fn lacks_links(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let code = error.raw_os_error();
    let without = [Errno::PERM, Errno::OPNOTSUPP, Errno::NOSYS, Errno::MLINK, Errno::XDEV];
    without.iter().any(|e| code == Some(e.raw_os_error()))
}

pub(crate) fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether memory or file descriptors ran short, or a signal came between.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let code = error.raw_os_error();
    let shortages = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::INTR];
    shortages.iter().any(|e| code == Some(e.raw_os_error()))
}

/// For callers whose own errors know no other kind.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Io { source, .. } => source.kind(),
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}
