//! Which series or streams got something lately, so that the limits on active ones hold here too.

use std::collections::HashMap;

use pilothouse_model::ActiveLimit;
use pilothouse_model::active::ActiveCount;
use pilothouse_model::limits::REMOTE_RECENT;

/// Fingerprints of labels with the minute of their newest arrival.
#[derive(Debug)]
pub(crate) struct Recent {
    count: ActiveCount,
    minutes: HashMap<u128, u32>,
}

impl Recent {
    /// None yet, at a minute; `window` is how many minutes after an arrival one is active.
    pub(crate) fn new(now: u32, window: u32) -> Self {
        Self { count: ActiveCount::new(now, window), minutes: HashMap::new() }
    }

    /// Turns the clock, and forgets those that are active no more.
    pub(crate) fn advance(&mut self, minute: u32) {
        if minute <= self.count.now() {
            return;
        }
        self.count.advance(minute);
        let count = &self.count;
        self.minutes.retain(|_, last| count.is_active(*last));
    }

    pub(crate) fn total(&self) -> u64 {
        self.count.total()
    }

    /// About.
    pub(crate) fn held_bytes(&self) -> u64 {
        (self.minutes.capacity() * size_of::<(u128, u32)>()) as u64
    }

    /// Notes an arrival; whether it is the first lately. The error is the limit that forbids one more.
    pub(crate) fn touch(&mut self, key: u128, limit: &ActiveLimit) -> Result<bool, u64> {
        if let Some(minute) = self.minutes.get_mut(&key) {
            *minute = self.count.touch(*minute);
            return Ok(false);
        }
        limit.admit(self.count.total())?;
        if self.minutes.len() < REMOTE_RECENT {
            let minute = self.count.touch(0);
            self.minutes.insert(key, minute);
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_active_counts_until_it_is_quiet_for_long() {
        let (mut recent, limit) = (Recent::new(100, 20), ActiveLimit::alone(2));
        assert_eq!((recent.touch(1, &limit), recent.touch(2, &limit)), (Ok(true), Ok(true)));
        assert_eq!((recent.touch(3, &limit), recent.touch(1, &limit)), (Err(2), Ok(false)));
        recent.advance(110);
        assert_eq!(recent.touch(2, &limit), Ok(false));
        recent.advance(121);
        assert_eq!((recent.total(), recent.minutes.len()), (1, 1));
        assert_eq!((recent.touch(3, &limit), recent.touch(1, &limit)), (Ok(true), Err(2)));
    }
}
