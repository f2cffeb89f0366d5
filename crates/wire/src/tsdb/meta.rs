//! `meta.json`.

use serde::Deserialize;

use super::TsdbError;

/// What a block says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockMeta {
    /// Also the name of its directory.
    pub ulid: String,
    /// Of the first sample, in milliseconds.
    pub min_time: i64,
    /// Behind the last sample, in milliseconds.
    pub max_time: i64,
    version: u64,
    #[serde(default)]
    stats: Stats,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Stats {
    num_samples: u64,
}

impl BlockMeta {
    /// Fails on what is no such description, and on a version other than 1.
    pub fn parse(text: &[u8]) -> Result<Self, TsdbError> {
        let meta: Self = serde_json::from_slice(text)?;
        match meta.version {
            1 if meta.min_time <= meta.max_time => Ok(meta),
            1 => Err(TsdbError::Numbers),
            other => Err(TsdbError::Version(other)),
        }
    }

    /// Samples as counted when the block was written; 0 where that was not told.
    pub fn samples(&self) -> u64 {
        self.stats.num_samples
    }
}
