//! Start times of counters, which newer chunks may hold behind each sample. Nothing here stores
//! them, so they are only stepped over.

use super::bits::{BitReader, ChunkError};

/// Which samples of a chunk have one: bit 7 says whether the first does, the others from which
/// sample on each has its difference; 0 stands for none.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct StartTimes(pub(super) u8);

impl StartTimes {
    /// Steps over that of sample `i`, which the reader stands behind.
    #[inline]
    pub(super) fn skip(self, i: u16, from: &mut BitReader<'_>) -> Result<(), ChunkError> {
        let differs_from = u16::from(self.0 & 0x7f);
        if i == 0 && self.0 & 0x80 != 0 {
            from.varint()?;
        } else if i > 0 && differs_from > 0 && i >= differs_from {
            from.varbit()?;
        }
        Ok(())
    }
}
