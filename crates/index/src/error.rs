use pilothouse_model::BudgetError;

/// Why the index could not answer or take something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error(transparent)]
    Budget(#[from] BudgetError),
    /// The bytes on disk are not what was written.
    #[error("malformed index: {0}")]
    Malformed(&'static str),
    #[error("a series with {0} labels is more than the index takes")]
    TooManyLabels(usize),
    #[error("series came out of order")]
    Unordered,
    #[error("index: {0}")]
    Database(Box<redb::Error>),
}

impl From<pilothouse_model::bytes::Malformed> for Error {
    fn from(malformed: pilothouse_model::bytes::Malformed) -> Self {
        Self::Malformed(malformed.0)
    }
}

impl Error {
    pub fn database<E: Into<redb::Error>>(source: E) -> Self {
        Self::Database(Box::new(source.into()))
    }
}
