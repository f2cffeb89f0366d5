//! Series that got a sample lately, counted without looking at them all.

/// How long a series counts as active after a sample.
pub(crate) const ACTIVE_MINUTES: u32 = 20;
const RING: usize = 32;

/// Counts series by the minute of their newest arrival. A series carries its minute itself and
/// moves from one counter to another; counters fall out of the ring when they are too old.
#[derive(Debug)]
pub(crate) struct ActiveCount {
    ring: [u32; RING],
    now: u32,
    total: u64,
}

impl ActiveCount {
    pub(crate) fn new(now: u32) -> Self {
        Self { ring: [0; RING], now, total: 0 }
    }

    /// Turns the clock to a minute; going back is ignored.
    pub(crate) fn advance(&mut self, minute: u32) {
        if minute <= self.now {
            return;
        }
        let steps = (minute - self.now).min(RING as u32);
        for step in 1..=steps {
            let leaving = (minute - steps + step).wrapping_sub(ACTIVE_MINUTES + 1);
            self.drop_minute(leaving);
        }
        self.now = minute;
    }

    fn drop_minute(&mut self, minute: u32) {
        let slot = &mut self.ring[minute as usize % RING];
        self.total -= u64::from(*slot);
        *slot = 0;
    }

    pub(crate) fn now(&self) -> u32 {
        self.now
    }

    /// Whether a series whose newest sample came in that minute is active.
    #[inline]
    pub(crate) fn is_active(&self, minute: u32) -> bool {
        minute != 0 && minute + ACTIVE_MINUTES >= self.now
    }

    /// Moves a series from its minute to the present one and returns that.
    #[inline]
    pub(crate) fn touch(&mut self, before: u32) -> u32 {
        if before != self.now {
            self.leave(before);
            self.enter(self.now);
        }
        self.now
    }

    /// Counts a series whose newest sample came in an earlier minute; for recovery.
    pub(crate) fn enter(&mut self, minute: u32) {
        if self.is_active(minute) {
            self.ring[minute as usize % RING] += 1;
            self.total += 1;
        }
    }

    /// A series is gone.
    pub(crate) fn leave(&mut self, minute: u32) {
        if self.is_active(minute) {
            self.ring[minute as usize % RING] -= 1;
            self.total -= 1;
        }
    }

    pub(crate) fn total(&self) -> u64 {
        self.total
    }
}

/// The minute of a time since 1970, never 0: 0 is a series that never got a sample.
pub(crate) fn minute_of(t_ms: i64) -> u32 {
    u32::try_from(t_ms / 60_000).unwrap_or(1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_active_for_twenty_minutes() {
        let mut active = ActiveCount::new(1000);
        let mut a = active.touch(0);
        let mut b = active.touch(0);
        assert_eq!(active.total(), 2);
        active.advance(1010);
        a = active.touch(a);
        active.advance(1020);
        assert_eq!(active.total(), 2);
        active.advance(1021);
        assert_eq!(active.total(), 1);
        b = active.touch(b);
        assert_eq!((active.total(), a, b), (2, 1010, 1021));
        active.advance(5000);
        assert_eq!(active.total(), 0);
        active.touch(a);
        active.touch(b);
        active.advance(4000);
        assert_eq!((active.total(), active.now()), (2, 5000));
    }

    #[test]
    fn the_count_equals_a_scan() {
        let mut rng = 1u64;
        let mut minutes = [0u32; 50];
        let mut active = ActiveCount::new(100);
        let mut now = 100;
        for _ in 0..20_000 {
            rng = rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let i = (rng >> 33) as usize;
            if i.is_multiple_of(40) {
                now += (i / 40 % 7) as u32 * if i.is_multiple_of(400) { 10 } else { 1 };
                active.advance(now);
            }
            let slot = &mut minutes[i / 7 % 50];
            *slot = active.touch(*slot);
            let scan = minutes.iter().filter(|m| **m != 0 && **m + ACTIVE_MINUTES >= now).count();
            assert_eq!(active.total(), scan as u64);
        }
    }
}
