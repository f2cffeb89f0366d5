//! What is due next: a heap of times that workers take from.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use pilothouse_model::{Clock, Labels};

use crate::group::Group;

/// How long a worker sleeps at most, so that a clock that was set is noticed.
const MAX_SLEEP: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) enum Task {
    /// Evaluate a group; the slot before this one, if there was one.
    Evaluate { group: Arc<Group>, last_slot_ms: Option<i64> },
    /// End the series of a group that was removed, at the time it was removed.
    End { group: Arc<Group>, series: Vec<Labels>, at_ms: i64 },
}

/// Why a wait ended.
pub(crate) enum Wake {
    /// A task, and when it was due.
    Due(i64, Task),
    Nothing,
}

struct Due {
    at_ms: i64,
    /// Keeps the order of what is due at one time.
    number: u64,
    task: Task,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The earliest is the greatest, as the heap wants it.
impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at_ms, other.number).cmp(&(self.at_ms, self.number))
    }
}

#[derive(Default)]
struct Queue {
    heap: BinaryHeap<Due>,
    next_number: u64,
    is_closed: bool,
}

#[derive(Default)]
pub(crate) struct Schedule {
    queue: Mutex<Queue>,
    changed: Condvar,
}

impl std::fmt::Debug for Schedule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Schedule").field("tasks", &self.queue.lock().heap.len()).finish()
    }
}

impl Schedule {
    pub(crate) fn add(&self, at_ms: i64, task: Task) {
        let mut queue = self.queue.lock();
        let number = queue.next_number;
        queue.next_number += 1;
        queue.heap.push(Due { at_ms, number, task });
        drop(queue);
        self.changed.notify_one();
    }

    /// The next task that is due at a time, without waiting.
    pub(crate) fn take_due(&self, now_ms: i64) -> Option<(i64, Task)> {
        let mut queue = self.queue.lock();
        let is_due = queue.heap.peek().is_some_and(|due| due.at_ms <= now_ms);
        let due = is_due.then(|| queue.heap.pop()).flatten()?;
        Some((due.at_ms, due.task))
    }

    /// Waits for a task to be due, at most for a second; `None` once the schedule is closed.
    pub(crate) fn wait_due(&self, clock: &dyn Clock) -> Option<Wake> {
        let mut queue = self.queue.lock();
        let mut has_slept = false;
        loop {
            if queue.is_closed {
                return None;
            }
            let now_ms = clock.now_ms();
            let sleep = match queue.heap.peek() {
                Some(due) if due.at_ms <= now_ms => {
                    let due = queue.heap.pop()?;
                    return Some(Wake::Due(due.at_ms, due.task));
                }
                Some(due) => Duration::from_millis(u64::try_from(due.at_ms - now_ms).unwrap_or(0)),
                None => MAX_SLEEP,
            };
            if has_slept {
                return Some(Wake::Nothing);
            }
            has_slept = self.changed.wait_for(&mut queue, sleep.min(MAX_SLEEP)).timed_out();
        }
    }

    /// Gives every evaluation the time that `time_of` says, which sees its present one.
    pub(crate) fn renew(&self, time_of: impl Fn(i64, &Group) -> i64) {
        let mut queue = self.queue.lock();
        let waiting = std::mem::take(&mut queue.heap).into_iter().map(|mut due| {
            if let Task::Evaluate { group, last_slot_ms } = &mut due.task {
                let at_ms = time_of(due.at_ms, group);
                if at_ms != due.at_ms {
                    // The slot before lies in a future that is no more.
                    (due.at_ms, *last_slot_ms) = (at_ms, None);
                }
            }
            due
        });
        queue.heap = waiting.collect();
        drop(queue);
        self.changed.notify_all();
    }

    /// Wakes all who wait and lets nobody have anything any more.
    pub(crate) fn close(&self) {
        self.queue.lock().is_closed = true;
        self.changed.notify_all();
    }
}
