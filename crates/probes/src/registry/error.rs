//! Why a request is refused, in the two texts that answers carry.

use pilothouse_model::SourceError;

use crate::validate::Invalid;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// What was sent makes no sense.
    Invalid,
    /// Seen by the caller, but not theirs to change.
    Forbidden,
    NotFound,
    /// It is there already, or in use.
    Conflict,
    /// A limit of the tenant or of the server.
    TooMany,
    /// The store failed; nothing changed.
    Storage,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}: {cause}")]
pub struct Refusal {
    pub kind: RefusalKind,
    /// For people.
    pub message: String,
    /// The rule; may be empty.
    pub cause: String,
}

impl Refusal {
    pub(super) fn new(kind: RefusalKind, message: impl Into<String>, cause: impl Into<String>) -> Self {
        Self { kind, message: message.into(), cause: cause.into() }
    }

    pub(super) fn invalid_check(invalid: Invalid) -> Self {
        Self::new(RefusalKind::Invalid, "Invalid incoming check", invalid.0)
    }

    pub(super) fn no_check() -> Self {
        Self::new(RefusalKind::NotFound, "check not found", "")
    }

    pub(super) fn no_probe(id: i64) -> Self {
        Self::new(RefusalKind::NotFound, format!("probe {id} not found"), "")
    }
}

impl From<SourceError> for Refusal {
    fn from(e: SourceError) -> Self {
        Self::new(RefusalKind::Storage, "cannot store the change", e.to_string())
    }
}
