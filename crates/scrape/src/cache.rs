//! What a target exposed last: which series its lines mean, and which of them must be ended.

use std::collections::{HashMap, HashSet};

use pilothouse_model::Labels;

/// The series of one target. A scrape is a run from [`SeriesCache::begin`] to
/// [`SeriesCache::succeed`] or [`SeriesCache::fail`].
#[derive(Debug, Default)]
pub(crate) struct SeriesCache {
    /// By the key of the labels as they are exposed.
    entries: HashMap<u128, Entry>,
    /// Of the run at hand.
    round: u32,
    /// Series that an earlier owner of this target left without an end.
    inherited: Vec<Labels>,
    /// Of the labels of all entries.
    label_bytes: u64,
}

#[derive(Debug)]
struct Entry {
    /// The final labels; `None` where metric relabelling drops them.
    labels: Option<Labels>,
    made: u32,
    seen: u32,
    /// Ends by a stale marker when it is exposed no more.
    live: bool,
}

impl Entry {
    fn label_bytes(&self) -> u64 {
        self.labels.as_ref().map_or(0, |labels| labels.as_encoded().len() as u64)
    }
}

/// What is known of a line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Known {
    New,
    Dropped,
    Series { labels: Labels, again: bool },
}

impl SeriesCache {
    pub(crate) fn begin(&mut self) {
        self.round = self.round.wrapping_add(1);
    }

    /// Looks a series up. It counts as seen in this run; `again` if it was already.
    pub(crate) fn look_up(&mut self, key: u128) -> Known {
        let Some(entry) = self.entries.get_mut(&key) else { return Known::New };
        let again = entry.seen == self.round;
        entry.seen = self.round;
        match &entry.labels {
            Some(labels) => Known::Series { labels: labels.clone(), again },
            None => Known::Dropped,
        }
    }

    /// Remembers a series, or that it is dropped.
    pub(crate) fn insert(&mut self, key: u128, labels: Option<Labels>) {
        let entry = Entry { labels, made: self.round, seen: self.round, live: false };
        self.label_bytes += entry.label_bytes();
        if let Some(before) = self.entries.insert(key, entry) {
            self.label_bytes -= before.label_bytes();
        }
    }

    /// Forgets entries; without very many of them their places in memory go too.
    fn forget(&mut self, gone: impl Fn(&Entry) -> bool) {
        let label_bytes = &mut self.label_bytes;
        self.entries.retain(|_, entry| {
            let is_gone = gone(entry);
            *label_bytes -= if is_gone { entry.label_bytes() } else { 0 };
            !is_gone
        });
        if self.entries.capacity() > 4 * self.entries.len() + 64 {
            self.entries.shrink_to(2 * self.entries.len());
        }
    }

    /// What it takes in memory, about.
    pub(crate) fn held_bytes(&self) -> u64 {
        let places = self.entries.capacity() * size_of::<(u128, Entry)>();
        let inherited: usize = self.inherited.iter().map(|labels| labels.as_encoded().len()).sum();
        (places + inherited) as u64 + self.label_bytes
    }

    /// Says that a series of this run ends by a marker once it is exposed no more.
    pub(crate) fn track(&mut self, key: u128) {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.live = true;
        }
    }

    /// Adds series that somebody else wrote before; those that are exposed no more are ended with
    /// the next good scrape.
    pub(crate) fn inherit(&mut self, series: Vec<Labels>) {
        self.inherited.extend(series);
    }

    /// Ends a run whose samples are written. Gives the series that are exposed no more, and
    /// forgets them.
    pub(crate) fn succeed(&mut self) -> Vec<Labels> {
        let round = self.round;
        let gone = |entry: &Entry| entry.seen != round;
        let mut stale: Vec<Labels> = std::mem::take(&mut self.inherited);
        let ended = self.entries.values().filter(|e| e.live && gone(e)).filter_map(|e| e.labels.clone());
        stale.extend(ended);
        self.forget(gone);
        if stale.is_empty() {
            return stale;
        }
        // Several lines may mean one series; it lives while one of them is there.
        let alive: HashSet<u128> =
            self.entries.values().filter_map(|e| e.labels.as_ref()).map(Labels::fingerprint).collect();
        stale.retain(|labels| !alive.contains(&labels.fingerprint()));
        stale
    }

    /// Ends a run of which nothing is written. Gives all series that live, which end thereby.
    pub(crate) fn fail(&mut self) -> Vec<Labels> {
        let round = self.round;
        self.forget(|entry| entry.made == round);
        let mut stale = std::mem::take(&mut self.inherited);
        for entry in self.entries.values_mut().filter(|entry| entry.live) {
            entry.live = false;
            stale.extend(entry.labels.clone());
        }
        stale
    }

    /// The series that live, for who takes over.
    pub(crate) fn into_live(self) -> Vec<Labels> {
        let live = self.entries.into_values().filter(|entry| entry.live).filter_map(|entry| entry.labels);
        self.inherited.into_iter().chain(live).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str) -> Labels {
        Labels::from_pairs([("__name__", name)])
    }

    /// Exposes series in a scrape, each a key and a name; gives what ended.
    fn scrape(cache: &mut SeriesCache, lines: &[(u128, &str)]) -> Vec<Labels> {
        cache.begin();
        for (key, name) in lines {
            if cache.look_up(*key) == Known::New {
                cache.insert(*key, Some(series(name)));
            }
            cache.track(*key);
        }
        let mut stale = cache.succeed();
        stale.sort();
        stale
    }

    #[test]
    fn series_that_are_exposed_no_more_end_once() {
        let mut cache = SeriesCache::default();
        assert!(scrape(&mut cache, &[(1, "a"), (2, "b")]).is_empty());
        assert_eq!(scrape(&mut cache, &[(1, "a")]), [series("b")]);
        assert!(scrape(&mut cache, &[(1, "a")]).is_empty());
        assert_eq!(cache.entries.len(), 1);
        assert!(scrape(&mut cache, &[(1, "a"), (2, "b")]).is_empty());
    }

    #[test]
    fn a_failed_scrape_ends_what_lives_and_what_comes_back_lives_again() {
        let mut cache = SeriesCache::default();
        scrape(&mut cache, &[(1, "a")]);
        cache.begin();
        cache.insert(7, Some(series("new")));
        assert_eq!(cache.fail(), [series("a")]);
        cache.begin();
        assert!(cache.fail().is_empty());
        assert!(scrape(&mut cache, &[(1, "a")]).is_empty());
        assert_eq!(scrape(&mut cache, &[]), [series("a")]);
    }

    #[test]
    fn what_a_target_shows_no_more_takes_no_memory() {
        let names: Vec<String> = (0..1_000).map(|i| format!("series_with_a_name_{i}")).collect();
        let lines = |count: usize| -> Vec<(u128, &str)> {
            (0u128..).zip(&names).map(|(key, name)| (key, name.as_str())).take(count).collect()
        };
        let mut cache = SeriesCache::default();
        scrape(&mut cache, &lines(10));
        let (few_bytes, few_labels) = (cache.held_bytes(), cache.label_bytes);
        scrape(&mut cache, &lines(1_000));
        assert!(cache.held_bytes() > 50 * few_labels, "{}", cache.held_bytes());
        cache.begin();
        cache.insert(7, Some(series("series_with_a_name_7")));
        cache.insert(1_001, Some(series("new")));
        cache.fail();
        scrape(&mut cache, &lines(10));
        assert_eq!(cache.label_bytes, few_labels);
        assert!(cache.held_bytes() < 8 * few_bytes, "{} {few_bytes}", cache.held_bytes());
    }

    #[test]
    fn a_series_of_several_lines_lives_while_one_is_there() {
        let mut cache = SeriesCache::default();
        scrape(&mut cache, &[(1, "a"), (2, "a")]);
        assert!(scrape(&mut cache, &[(2, "a")]).is_empty());
        assert_eq!(scrape(&mut cache, &[]), [series("a")]);
    }

    #[test]
    fn what_was_inherited_ends_unless_it_is_exposed() {
        let mut old = SeriesCache::default();
        scrape(&mut old, &[(1, "a"), (2, "b")]);
        let mut new = SeriesCache::default();
        new.inherit(old.into_live());
        assert_eq!(scrape(&mut new, &[(3, "a")]), [series("b")]);
        assert_eq!(new.into_live(), [series("a")]);
    }

    #[test]
    fn a_line_twice_is_told() {
        let mut cache = SeriesCache::default();
        cache.begin();
        cache.insert(1, Some(series("a")));
        cache.insert(2, None);
        assert_eq!(cache.look_up(1), Known::Series { labels: series("a"), again: true });
        assert_eq!(cache.look_up(2), Known::Dropped);
        cache.succeed();
        cache.begin();
        assert_eq!(cache.look_up(1), Known::Series { labels: series("a"), again: false });
    }
}
