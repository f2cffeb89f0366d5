//! Streams that got an entry lately, counted without looking at them all.

use std::collections::BTreeMap;

/// How long a stream counts as active after an entry, as an idle chunk lives in Loki.
pub(crate) const ACTIVE_MINUTES: u32 = 30;

/// Counts streams by the minute of their newest arrival. A stream carries its minute itself and
/// moves from one count to another.
#[derive(Debug, Default)]
pub(crate) struct ActiveCount {
    by_minute: BTreeMap<u32, u64>,
    now: u32,
    total: u64,
}

impl ActiveCount {
    /// Turns the clock to a minute; going back is ignored.
    pub(crate) fn advance(&mut self, minute: u32) {
        self.now = self.now.max(minute);
        while let Some(first) = self.by_minute.first_entry() {
            if first.key() + ACTIVE_MINUTES >= self.now {
                break;
            }
            self.total -= first.remove();
        }
    }

    /// Whether a stream whose newest entry came in that minute is active.
    pub(crate) fn is_active(&self, minute: u32) -> bool {
        minute != 0 && minute + ACTIVE_MINUTES >= self.now
    }

    /// Moves a stream from its minute, 0 if it never had one, to the present one, and returns that.
    #[inline]
    pub(crate) fn touch(&mut self, before: u32) -> u32 {
        if before != self.now {
            self.leave(before);
            *self.by_minute.entry(self.now).or_default() += 1;
            self.total += 1;
        }
        self.now
    }

    /// A stream is gone.
    pub(crate) fn leave(&mut self, minute: u32) {
        if self.is_active(minute)
            && let Some(count) = self.by_minute.get_mut(&minute)
        {
            *count -= 1;
            self.total -= 1;
        }
    }

    pub(crate) fn total(&self) -> u64 {
        self.total
    }
}

/// The minute of a time since 1970, never 0: 0 is a stream that never got an entry.
pub(crate) fn minute_of(t_ms: i64) -> u32 {
    u32::try_from(t_ms / 60_000).unwrap_or(1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_equals_a_scan() {
        let mut rng = 1u64;
        let mut minutes = [0u32; 50];
        let mut active = ActiveCount::default();
        let mut now = 100;
        active.advance(now);
        for _ in 0..20_000 {
            rng = rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let i = (rng >> 33) as usize;
            if i.is_multiple_of(40) {
                now += (i / 40 % 7) as u32 * if i.is_multiple_of(400) { 10 } else { 1 };
                active.advance(now);
            }
            let slot = &mut minutes[i / 7 % 50];
            if i.is_multiple_of(13) {
                active.leave(std::mem::take(slot));
            } else {
                *slot = active.touch(*slot);
            }
            let scan = minutes.iter().filter(|m| **m != 0 && **m + ACTIVE_MINUTES >= now).count();
            assert_eq!(active.total(), scan as u64);
        }
    }
}
