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
    #[serde(default)]
    compaction: Compaction,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Compaction {
    hints: Vec<String>,
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

    /// Whether it holds all that came in order within its times; then what the log has of them is
    /// the same, or deleted. Others were made of what came late, or of some series only.
    pub fn is_in_order(&self) -> bool {
        !self.compaction.hints.iter().any(|hint| hint.starts_with("from-"))
    }

    /// Samples as counted when the block was written; 0 where that was not told.
    pub fn samples(&self) -> u64 {
        self.stats.num_samples
    }
}
