//! Series and streams that got something lately, counted without looking at them all.

const RING: usize = 64;

/// Counts series or streams by the minute of their newest arrival. Each carries its minute itself
/// and moves from one counter to another; counters fall out of the ring when they are too old.
#[derive(Debug)]
pub struct ActiveCount {
    ring: [u32; RING],
    /// How many minutes after an arrival one counts as active.
    window: u32,
    now: u32,
    total: u64,
}

impl ActiveCount {
    /// None yet, at a minute; `window` is how many minutes after an arrival one is active, at most
    /// an hour.
    pub fn new(now: u32, window: u32) -> Self {
        Self { ring: [0; RING], window: window.min(RING as u32 - 4), now, total: 0 }
    }

    /// Turns the clock to a minute; going back is ignored.
    pub fn advance(&mut self, minute: u32) {
        if minute <= self.now {
            return;
        }
        let steps = (minute - self.now).min(RING as u32);
        for step in 1..=steps {
            let leaving = (minute - steps + step).wrapping_sub(self.window + 1);
            self.drop_minute(leaving);
        }
        self.now = minute;
    }

    fn drop_minute(&mut self, minute: u32) {
        let slot = &mut self.ring[minute as usize % RING];
        self.total -= u64::from(*slot);
        *slot = 0;
    }

    pub fn now(&self) -> u32 {
        self.now
    }

    /// Whether one whose newest arrival was in that minute is active.
    #[inline]
    pub fn is_active(&self, minute: u32) -> bool {
        minute != 0 && minute + self.window >= self.now
    }

    /// Moves one from its minute, 0 if it never had any, to the present one and returns that.
    #[inline]
    pub fn touch(&mut self, before: u32) -> u32 {
        if before != self.now {
            self.leave(before);
            self.enter(self.now);
        }
        self.now
    }

    /// Counts one whose newest arrival was in an earlier minute; for recovery.
    pub fn enter(&mut self, minute: u32) {
        if self.is_active(minute) {
            self.ring[minute as usize % RING] += 1;
            self.total += 1;
        }
    }

    /// One is gone.
    pub fn leave(&mut self, minute: u32) {
        if self.is_active(minute) {
            self.ring[minute as usize % RING] -= 1;
            self.total -= 1;
        }
    }

    pub fn total(&self) -> u64 {
        self.total
    }
}

/// The minute of a time since 1970, never 0: 0 is one that never got anything.
pub fn minute_of(t_ms: i64) -> u32 {
    u32::try_from(t_ms / 60_000).unwrap_or(1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: u32 = 30;

    #[test]
    fn a_series_is_active_for_twenty_minutes() {
        let mut active = ActiveCount::new(1000, 20);
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
        let mut active = ActiveCount::new(100, WINDOW);
        let mut now = 100;
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
            let scan = minutes.iter().filter(|m| **m != 0 && **m + WINDOW >= now).count();
            assert_eq!(active.total(), scan as u64);
        }
    }
}
