//! Old days: removed when they are older than retention.

use std::sync::atomic::Ordering::Relaxed;

use pilothouse_model::time::day_of;

use crate::error::Error;
use crate::store::Inner;

impl Inner {
    pub(crate) fn compact_days(&self, _now: bool) -> Result<(), Error> {
        let _compacting = self.compacting.lock();
        let now_ms = self.now_ms();
        let removed = self.days.remove_before(day_of(self.oldest_ms(now_ms)))?;
        self.counters.days_removed.fetch_add(removed as u64, Relaxed);
        Ok(())
    }
}
