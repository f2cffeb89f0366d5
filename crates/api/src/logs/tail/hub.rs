//! Who follows, and what waits for each of them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use parking_lot::{Mutex, RwLock};
use pilothouse_model::limits::{self, Limits, LiveLimits};
use pilothouse_model::log_ports::LogAppended;
use pilothouse_model::memory::Reservation;
use pilothouse_model::{EntrySink, Labels, LogBatch, Matcher, Memory, SourceError};
use tokio::sync::Notify;

use crate::logs::state::Telemetry;

/// All open tails.
#[derive(Debug)]
pub(crate) struct Tails {
    open: RwLock<Vec<Arc<Follower>>>,
    /// Who follows what another system keeps: they count, and nothing is kept for them.
    guests: AtomicUsize,
    pub(crate) limits: LiveLimits,
    stopping: AtomicBool,
    telemetry: Arc<Telemetry>,
    pub(crate) memory: Arc<Memory>,
}

/// An entry as it was stored, waiting for a follower.
#[derive(Debug, Clone)]
pub(crate) struct Arrived {
    pub(crate) labels: Labels,
    pub(crate) t_ns: i64,
    pub(crate) line: String,
    pub(crate) metadata: Labels,
}

impl Arrived {
    fn bytes(&self) -> usize {
        self.line.len() + self.metadata.as_encoded().len() + size_of::<Self>()
    }
}

/// An entry that a follower did not get.
#[derive(Debug, Clone)]
pub(crate) struct Lost {
    pub(crate) labels: Labels,
    pub(crate) t_ns: i64,
}

#[derive(Debug)]
pub(crate) struct Follower {
    matchers: Vec<Matcher>,
    queue: Mutex<Queue>,
    /// Rings when something arrived or the server stops.
    pub(crate) bell: Notify,
}

#[derive(Debug)]
struct Queue {
    arrived: VecDeque<Arrived>,
    bytes: usize,
    held: Reservation,
    lost: Vec<Lost>,
}

/// A place among the followers; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    tails: Arc<Tails>,
    pub(crate) follower: Arc<Follower>,
}

/// The place of who follows what another system keeps; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Guest(Arc<Tails>);

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.guests.fetch_sub(1, Relaxed);
        self.0.telemetry.tails.fetch_sub(1, Relaxed);
    }
}

impl Tails {
    pub(crate) fn new(limits: LiveLimits, telemetry: Arc<Telemetry>, memory: Arc<Memory>) -> Self {
        Self {
            open: RwLock::default(),
            guests: AtomicUsize::new(0),
            limits,
            stopping: AtomicBool::new(false),
            telemetry,
            memory,
        }
    }

    /// From now on what matches is kept for the follower. Refused in Loki's words where too many
    /// follow already.
    pub(crate) fn follow(self: &Arc<Self>, matchers: Vec<Matcher>) -> Result<Place, String> {
        let held = Reservation::nothing(&self.memory);
        let queue = Queue { arrived: VecDeque::new(), bytes: 0, held, lost: Vec::new() };
        let follower = Arc::new(Follower { matchers, queue: Mutex::new(queue), bell: Notify::new() });
        let mut open = self.open.write();
        self.admit(open.len())?;
        open.push(Arc::clone(&follower));
        self.telemetry.tails.fetch_add(1, Relaxed);
        Ok(Place { tails: Arc::clone(self), follower })
    }

    /// A place for who follows what another system keeps.
    pub(crate) fn guest(self: &Arc<Self>) -> Result<Guest, String> {
        let open = self.open.write();
        self.admit(open.len())?;
        self.guests.fetch_add(1, Relaxed);
        self.telemetry.tails.fetch_add(1, Relaxed);
        Ok(Guest(Arc::clone(self)))
    }

    /// Whether there is room beside so many followers. To be asked under the lock.
    fn admit(&self, followers: usize) -> Result<(), String> {
        let (count, limit) = (followers + self.guests.load(Relaxed) + 1, self.limits.now().max_tails);
        if count as u64 > limit {
            return Err(format!(
                "max concurrent tail requests limit exceeded, count > limit ({count} > {limit})"
            ));
        }
        Ok(())
    }

    pub(crate) fn count(&self) -> usize {
        self.open.read().len() + self.guests.load(Relaxed)
    }

    /// Ends every tail; no new one begins to wait.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Relaxed);
        self.open.read().iter().for_each(|follower| follower.bell.notify_one());
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Relaxed)
    }

    /// Hands the entries of a batch, but for those in `skipped` (ascending), to who follows them.
    fn publish(&self, batch: &LogBatch, skipped: &[u32]) {
        let open = self.open.read();
        if open.is_empty() {
            return;
        }
        let limits = self.limits.now();
        for stream in &batch.streams {
            let fits =
                |f: &&Arc<Follower>| f.matchers.iter().all(|m| m.matches(stream.labels.value(&m.name)));
            let followers: Vec<&Arc<Follower>> = open.iter().filter(fits).collect();
            if followers.is_empty() {
                continue;
            }
            let entries = stream.entries.clone().zip(batch.entries_of(stream));
            for (_, entry) in entries.filter(|(place, _)| skipped.binary_search(place).is_err()) {
                let arrived = Arrived {
                    labels: stream.labels.clone(),
                    t_ns: entry.t_ns,
                    line: batch.line_of(entry).to_owned(),
                    metadata: entry.metadata.clone(),
                };
                followers.iter().for_each(|f| self.keep(f, arrived.clone(), &limits));
            }
            followers.iter().for_each(|f| f.bell.notify_one());
        }
    }

    fn keep(&self, follower: &Follower, arrived: Arrived, limits: &Limits) {
        let mut queue = follower.queue.lock();
        let bytes = arrived.bytes();
        let has_room = (queue.arrived.len() as u64) < limits.max_tail_entries.max(1)
            && (queue.bytes + bytes) as u64 <= limits.max_tail_bytes
            && queue.held.try_grow(bytes as u64);
        if has_room {
            queue.bytes += bytes;
            queue.arrived.push_back(arrived);
            return;
        }
        self.telemetry.tail_dropped.add(1);
        if queue.lost.len() < limits::TAIL_TOLD_LOSSES {
            queue.lost.push(Lost { labels: arrived.labels, t_ns: arrived.t_ns });
        }
    }
}

impl Follower {
    /// Up to `max` of what waits, in the order it came.
    pub(crate) fn take(&self, max: usize) -> Vec<Arrived> {
        let mut queue = self.queue.lock();
        let n = queue.arrived.len().min(max);
        let taken: Vec<Arrived> = queue.arrived.drain(..n).collect();
        let bytes = taken.iter().map(Arrived::bytes).sum::<usize>();
        queue.bytes -= bytes;
        queue.held.shrink(bytes as u64);
        taken
    }

    pub(crate) fn take_lost(&self) -> Vec<Lost> {
        std::mem::take(&mut self.queue.lock().lost)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.tails.open.write().retain(|f| !Arc::ptr_eq(f, &self.follower));
        self.tails.telemetry.tails.fetch_sub(1, Relaxed);
    }
}

/// A sink that tells the followers what it stored.
pub(crate) struct Tee {
    pub(crate) tails: Arc<Tails>,
    pub(crate) sink: Arc<dyn EntrySink>,
}

impl EntrySink for Tee {
    fn append(&self, batch: &LogBatch) -> Result<LogAppended, SourceError> {
        self.append_noting(batch, &mut Vec::new())
    }

    fn append_noting(&self, batch: &LogBatch, skipped: &mut Vec<u32>) -> Result<LogAppended, SourceError> {
        let from = skipped.len();
        let appended = self.sink.append_noting(batch, skipped)?;
        self.tails.publish(batch, skipped.get(from..).unwrap_or_default());
        Ok(appended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(app: &str, lines: &[&str]) -> LogBatch {
        let mut batch = LogBatch::default();
        batch.begin_stream(Labels::from_pairs([("app", app)]));
        for (i, line) in lines.iter().enumerate() {
            batch.push(i as i64, line, Labels::empty());
        }
        batch
    }

    fn tails(max_open: u64, max_entries: u64) -> Arc<Tails> {
        let limits = Limits { max_tails: max_open, max_tail_entries: max_entries, ..Limits::default() };
        Arc::new(Tails::new(limits.into(), Arc::default(), Arc::default()))
    }

    fn lines(follower: &Follower) -> Vec<String> {
        follower.take(100).into_iter().map(|a| a.line).collect()
    }

    #[test]
    fn a_follower_gets_what_matches_and_was_stored_anew() {
        let tails = tails(10, 100);
        let place = tails.follow(vec![Matcher::equal("app", "x")]).unwrap();
        tails.publish(&batch("y", &["no"]), &[]);
        tails.publish(&batch("x", &["a", "b", "c"]), &[1]);
        assert_eq!(lines(&place.follower), ["a", "c"]);
        assert!(lines(&place.follower).is_empty());
        drop(place);
        assert_eq!(tails.count(), 0);
    }

    #[test]
    fn a_full_queue_loses_entries_and_says_which() {
        let tails = tails(10, 2);
        let place = tails.follow(vec![Matcher::equal("app", "x")]).unwrap();
        tails.publish(&batch("x", &["a", "b", "c", "d"]), &[]);
        assert_eq!(lines(&place.follower), ["a", "b"]);
        let lost: Vec<i64> = place.follower.take_lost().iter().map(|l| l.t_ns).collect();
        assert_eq!(lost, [2, 3]);
        tails.publish(&batch("x", &["e"]), &[]);
        assert_eq!(lines(&place.follower), ["e"]);
    }

    #[test]
    fn only_so_many_may_follow() {
        let tails = tails(1, 2);
        let first = tails.follow(Vec::new()).unwrap();
        let refused = tails.follow(Vec::new()).unwrap_err();
        assert_eq!(refused, "max concurrent tail requests limit exceeded, count > limit (2 > 1)");
        drop(first);
        let guest = tails.guest().unwrap();
        assert!(tails.follow(Vec::new()).is_err() && tails.guest().is_err());
        drop(guest);
        assert!(tails.follow(Vec::new()).is_ok());
    }
}
