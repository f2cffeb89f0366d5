//! Why a client cannot be made, and why a call failed.

use pilothouse_model::NoMemory;

/// A configuration that cannot be obeyed; the text names the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BuildError(pub String);

impl BuildError {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// Why there is no answer. The texts hold neither addresses nor secrets: an address may carry a
/// token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No answer in time.
    #[error("timed out: {0}")]
    Timeout(String),
    /// The address, a header or a credentials file cannot be used; trying again is of no use
    /// until somebody changes it.
    #[error("{0}")]
    Invalid(String),
    /// The other side could not be reached or hung up.
    #[error("{0}")]
    Transport(String),
    /// No access token was given out.
    #[error("oauth2: {0}")]
    Token(String),
    #[error("the answer is longer than {limit_bytes} bytes")]
    TooLong { limit_bytes: u64 },
    /// There is no room for the answer here.
    #[error(transparent)]
    NoMemory(#[from] NoMemory),
}

impl CallError {
    /// Whether the same call may go through later.
    pub fn is_temporary(&self) -> bool {
        !matches!(self, Self::Invalid(_) | Self::TooLong { .. })
    }
}

impl From<reqwest::Error> for CallError {
    fn from(error: reqwest::Error) -> Self {
        let error = error.without_url();
        let text = with_causes(&error);
        if error.is_timeout() {
            Self::Timeout(text)
        } else if error.is_builder() {
            Self::Invalid(text)
        } else {
            Self::Transport(text)
        }
    }
}

/// An error and what caused it, each said once.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let said = next.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = next.source();
    }
    text
}
