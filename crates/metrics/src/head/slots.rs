//! The series of a group by slot.

use super::{GROUP_SERIES, HeadSeries};

/// A slot without a series.
const NONE: u16 = u16::MAX;

/// Series side by side. As long as none has gone a series' place is its slot; after that a table
/// says where each is, so that those that are gone leave no hole. Slots are never given twice.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    series: Vec<HeadSeries>,
    places: Option<Box<[u16; GROUP_SERIES]>>,
}

impl Slots {
    #[inline]
    pub(crate) fn get(&self, slot: usize) -> Option<&HeadSeries> {
        match &self.places {
            None => self.series.get(slot),
            // `NONE` is behind every place.
            Some(places) => self.series.get(usize::from(*places.get(slot)?)),
        }
    }

    /// The series of a slot, made if it is not there.
    #[inline]
    pub(crate) fn get_or_new(&mut self, slot: usize) -> &mut HeadSeries {
        let mut place = slot;
        if let Some(places) = &self.places {
            place = usize::from(places[slot]);
        }
        if place >= self.series.len() {
            place = self.grow(slot);
        }
        &mut self.series[place]
    }

    #[cold]
    fn grow(&mut self, slot: usize) -> usize {
        let place = if self.places.is_some() { self.series.len() } else { slot };
        // By half, not to the double: nearly all of a full group is in use.
        if place >= self.series.capacity() {
            let more = (self.series.capacity() / 2).clamp(16, GROUP_SERIES);
            self.series.reserve_exact((place + 1 - self.series.len()).max(more));
        }
        self.series.resize_with(place + 1, HeadSeries::default);
        if let Some(places) = &mut self.places {
            places[slot] = place as u16;
        }
        place
    }

    /// All series with their slots, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &HeadSeries)> + '_ {
        let slots = if self.places.is_some() { GROUP_SERIES } else { self.series.len() };
        (0..slots).filter_map(|slot| Some((slot, self.get(slot)?)))
    }

    /// As [`Slots::iter`], to change them.
    pub(crate) fn for_each(&mut self, mut each: impl FnMut(usize, &mut HeadSeries)) {
        let Self { series, places } = self;
        match places {
            None => series.iter_mut().enumerate().for_each(|(slot, series)| each(slot, series)),
            Some(places) => {
                for (slot, place) in places.iter().enumerate() {
                    if let Some(series) = series.get_mut(usize::from(*place)) {
                        each(slot, series);
                    }
                }
            }
        }
    }

    /// Drops series, and gives their memory back.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(usize) -> bool) {
        let mut kept = Vec::new();
        let mut places = Box::new([NONE; GROUP_SERIES]);
        let mut holes = false;
        self.for_each(|slot, series| {
            if keep(slot) {
                holes |= kept.len() != slot;
                places[slot] = kept.len() as u16;
                kept.push(std::mem::take(series));
            }
        });
        kept.shrink_to_fit();
        self.series = kept;
        self.places = holes.then_some(places);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_keep_their_slots_while_others_go() {
        let mut slots = Slots::default();
        let put = |slots: &mut Slots, slot: usize| slots.get_or_new(slot).minute = slot as u32;
        let held = |slots: &Slots| -> Vec<usize> {
            assert!(slots.iter().all(|(slot, s)| s.minute as usize == slot || s.minute == 0));
            slots.iter().filter(|(_, s)| s.minute != 0).map(|(slot, _)| slot).collect()
        };
        (1..100).for_each(|slot| put(&mut slots, slot));
        // Only the last ones gone: places are slots still.
        slots.retain(|slot| slot < 90);
        assert!(slots.places.is_none() && slots.get(90).is_none());
        slots.retain(|slot| slot % 10 == 5);
        assert_eq!((held(&slots), slots.series.capacity()), (vec![5, 15, 25, 35, 45, 55, 65, 75, 85], 9));
        put(&mut slots, 4095);
        put(&mut slots, 95);
        put(&mut slots, 5);
        assert_eq!(held(&slots), [5, 15, 25, 35, 45, 55, 65, 75, 85, 95, 4095]);
        assert!(slots.get(6).is_none() && slots.get(5000).is_none());
        let mut seen = Vec::new();
        slots.for_each(|slot, _| seen.push(slot));
        assert_eq!(seen, held(&slots));
        slots.retain(|_| false);
        assert!(slots.iter().next().is_none());
        put(&mut slots, 7);
        assert_eq!(held(&slots), [7]);
    }
}
