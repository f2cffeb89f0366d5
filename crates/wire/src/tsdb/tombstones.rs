//! `tombstones`: what was deleted of a block and not yet written anew without it.

use std::collections::HashMap;

use super::TsdbError;
use crate::proto::Cursor;

const MAGIC: u32 = 0x0130_ba30;
const VERSION: u8 = 1;

/// Deleted times by series.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tombstones(HashMap<u64, Vec<(i64, i64)>>);

impl Tombstones {
    /// Reads the whole file.
    pub fn parse(bytes: &[u8]) -> Result<Self, TsdbError> {
        let (rest, checksum) = bytes.split_last_chunk::<4>().ok_or(TsdbError::Truncated)?;
        let ([a, b, c, d, version], stones) = rest.split_first_chunk::<5>().ok_or(TsdbError::Truncated)?;
        if u32::from_be_bytes([*a, *b, *c, *d]) != MAGIC {
            return Err(TsdbError::Kind("tombstones"));
        }
        if *version != VERSION {
            return Err(TsdbError::Version(u64::from(*version)));
        }
        // The checksum is of the entries alone.
        if crc32c::crc32c(stones) != u32::from_be_bytes(*checksum) {
            return Err(TsdbError::Checksum);
        }
        let mut found: HashMap<u64, Vec<(i64, i64)>> = HashMap::new();
        let mut cursor = Cursor::new(stones);
        while cursor.at < stones.len() {
            let series = cursor.varint()?;
            found.entry(series).or_default().push((cursor.sint64()?, cursor.sint64()?));
        }
        Ok(Self(found))
    }

    /// Times of a series, in milliseconds with both ends, that are deleted.
    pub fn of(&self, series: u64) -> &[(i64, i64)] {
        self.0.get(&series).map_or(&[], Vec::as_slice)
    }
}
