//! Appending: the buffer that callers fill, and the thread that empties it.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use pilothouse_model::durations::Durations;
use pilothouse_model::limits::WAL_RECORD_BYTES;

use super::record;
use super::segment::{self, HEADER_BYTES, Header, Segment, SegmentFile, SegmentFiles};
use super::{Options, Position, Stats, SyncMode, WalError};
use crate::error::{is_no_space, is_shortage};
use crate::files;

/// How often a write is tried again while the disk is full or a resource runs short.
const RETRY: Duration = Duration::from_millis(250);
/// An emptied buffer keeps at most this, unless it was well used.
const SPARE_BYTES: usize = 1 << 20;
/// Why a closed log takes nothing.
const CLOSED: &str = "it was closed";

/// What callers and the writer share.
pub(super) struct Shared {
    pub(super) options: Options,
    state: Mutex<State>,
    /// The writer waits here for work.
    work: Condvar,
    /// Blocked callers wait here for room, durability or a fault.
    progress: Condvar,
    /// Everything before this is synced.
    pub(super) synced: AtomicU64,
    /// Everything before this is as durable as the mode says.
    durable: AtomicU64,
    appended_records: AtomicU64,
    appended_bytes: AtomicU64,
    groups: AtomicU64,
    syncs: Durations,
}

struct State {
    /// Entries not yet taken by the writer, the first of them at `start`.
    buffer: Vec<u8>,
    start: Position,
    /// Everything before this shall be synced soon.
    sync_target: u64,
    fault: Option<WalError>,
    stopping: bool,
    waiting: HashMap<u64, (Position, Waker)>,
    next_ticket: u64,
    /// All segments on disk, the one being written last.
    segments: VecDeque<Segment>,
}

impl State {
    fn next(&self) -> Position {
        Position(self.start.0 + self.buffer.len() as u64)
    }
}

impl Shared {
    /// `start` is the first position to give away; all before it is on the disk and synced.
    pub(super) fn new(options: Options, segments: Vec<Segment>, start: Position) -> Self {
        Self {
            options,
            state: Mutex::new(State {
                buffer: Vec::new(),
                start,
                sync_target: 0,
                fault: None,
                stopping: false,
                waiting: HashMap::new(),
                next_ticket: 0,
                segments: segments.into(),
            }),
            work: Condvar::new(),
            progress: Condvar::new(),
            synced: AtomicU64::new(start.0),
            durable: AtomicU64::new(start.0),
            appended_records: AtomicU64::new(0),
            appended_bytes: AtomicU64::new(0),
            groups: AtomicU64::new(0),
            syncs: Durations::default(),
        }
    }

    // ---- appending ----

    /// Waits for room until `deadline`; without one a full buffer fails at once.
    pub(super) fn append(&self, payload: &[u8], deadline: Option<Instant>) -> Result<Position, WalError> {
        if payload.len() > WAL_RECORD_BYTES {
            return Err(WalError::TooLarge { bytes: payload.len() });
        }
        let mut state = self.state_with_room(record::size(payload.len()), deadline)?;
        if state.buffer.is_empty() {
            // Each group starts with a mark: what is synced now can no longer be a torn end.
            let (at, synced) = (state.start, Position(self.synced.load(Acquire)));
            record::push_mark(&mut state.buffer, at, synced);
        }
        let position = state.next();
        record::push_record(&mut state.buffer, position, payload);
        drop(state);
        self.work.notify_one();
        self.appended_records.fetch_add(1, Relaxed);
        self.appended_bytes.fetch_add(payload.len() as u64, Relaxed);
        Ok(position)
    }

    fn state_with_room(
        &self,
        bytes: usize,
        deadline: Option<Instant>,
    ) -> Result<MutexGuard<'_, State>, WalError> {
        let mut state = self.state.lock();
        loop {
            if let Some(fault) = &state.fault {
                return Err(fault.clone());
            }
            // A record larger than the whole buffer goes into an empty one.
            if state.buffer.is_empty() || state.buffer.len() + bytes <= self.options.buffer_bytes {
                return Ok(state);
            }
            let Some(deadline) = deadline else { return Err(WalError::Full) };
            if self.progress.wait_until(&mut state, deadline).timed_out() {
                return Err(WalError::Full);
            }
        }
    }

    pub(super) fn next(&self) -> Position {
        self.state.lock().next()
    }

    // ---- waiting ----

    fn is_durable(&self, position: Position) -> bool {
        self.durable.load(Acquire) > position.0
    }

    pub(super) fn poll_durable(
        &self,
        position: Position,
        ticket: &mut Option<u64>,
        waker: &Waker,
    ) -> Poll<Result<(), WalError>> {
        if self.is_durable(position) {
            return Poll::Ready(Ok(()));
        }
        let mut state = self.state.lock();
        if self.is_durable(position) {
            return Poll::Ready(Ok(()));
        }
        if let Some(fault) = &state.fault {
            return Poll::Ready(Err(fault.clone()));
        }
        let ticket = *ticket.get_or_insert_with(|| {
            state.next_ticket += 1;
            state.next_ticket
        });
        state.waiting.insert(ticket, (position, waker.clone()));
        Poll::Pending
    }

    pub(super) fn forget(&self, ticket: u64) {
        self.state.lock().waiting.remove(&ticket);
    }

    pub(super) fn wait_durable(&self, position: Position) -> Result<(), WalError> {
        self.wait_until(|| self.is_durable(position))
    }

    pub(super) fn sync_all(&self) -> Result<(), WalError> {
        let target = {
            let mut state = self.state.lock();
            let target = state.next().0;
            state.sync_target = state.sync_target.max(target);
            target
        };
        self.work.notify_one();
        self.wait_until(|| self.synced.load(Acquire) >= target)
    }

    fn wait_until(&self, reached: impl Fn() -> bool) -> Result<(), WalError> {
        if reached() {
            return Ok(());
        }
        let mut state = self.state.lock();
        loop {
            if reached() {
                return Ok(());
            }
            if let Some(fault) = &state.fault {
                return Err(fault.clone());
            }
            self.progress.wait(&mut state);
        }
    }

    // ---- what the writer tells ----

    /// Lets go all whose wait has ended: the records before `durable`, and everybody if there
    /// is a fault.
    fn release(&self) {
        let mut ended = Vec::new();
        {
            let mut state = self.state.lock();
            let faulty = state.fault.is_some();
            let durable = self.durable.load(Acquire);
            state.waiting.retain(|_, (position, waker)| {
                let ends = faulty || position.0 < durable;
                if ends {
                    ended.push(waker.clone());
                }
                !ends
            });
            self.progress.notify_all();
        }
        ended.into_iter().for_each(Waker::wake);
    }

    fn set_fault(&self, fault: Option<WalError>) {
        self.state.lock().fault = fault;
        self.release();
    }

    pub(super) fn fault(&self) -> Option<WalError> {
        self.state.lock().fault.clone()
    }

    pub(super) fn stop(&self) {
        self.state.lock().stopping = true;
        self.work.notify_one();
    }

    // ---- segments ----

    pub(super) fn trim(&self, before: Position) -> Result<usize, WalError> {
        let mut removed = 0;
        while let Some(path) = self.oldest_before(before) {
            files::remove(&path)?;
            let mut state = self.state.lock();
            if state.segments.front().is_some_and(|s| s.path == path) {
                state.segments.pop_front();
                removed += 1;
            }
        }
        Ok(removed)
    }

    pub(super) fn clear(&self) -> Result<(), WalError> {
        self.sync_all()?;
        let segments = {
            let mut state = self.state.lock();
            state.fault = Some(WalError::Failed(Arc::from(CLOSED)));
            std::mem::take(&mut state.segments)
        };
        for segment in &segments {
            files::remove(&segment.path)?;
        }
        match segments.front().and_then(|segment| segment.path.parent()) {
            Some(directory) => Ok(files::sync_directory(directory)?),
            None => Ok(()),
        }
    }

    /// The oldest segment, if it is not the one being written and ends before a position.
    pub(super) fn oldest_before(&self, before: Position) -> Option<PathBuf> {
        let state = self.state.lock();
        let oldest = state.segments.front()?;
        (state.segments.len() > 1 && oldest.end() <= before).then(|| oldest.path.clone())
    }

    pub(super) fn stats(&self) -> Stats {
        let state = self.state.lock();
        Stats {
            first: state.segments.front().map_or(state.start, |s| s.first),
            next: state.next(),
            segments: state.segments.len() as u64,
            bytes: state.segments.iter().map(|s| s.bytes).sum(),
            buffered_bytes: state.buffer.len() as u64,
            appended_records: self.appended_records.load(Relaxed),
            appended_bytes: self.appended_bytes.load(Relaxed),
            groups: self.groups.load(Relaxed),
            syncs: self.syncs.counts(),
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Some entries on their way to the disk, the first of them at `start`.
struct Group {
    bytes: Vec<u8>,
    start: Position,
}

enum Job {
    Write(Group),
    Sync,
    Stop,
}

enum Failure {
    /// Nothing of the group is in the file; it may be tried again.
    Passing(WalError),
    Final(String),
}

/// The thread that writes.
pub(super) struct Writer {
    shared: Arc<Shared>,
    files: Box<dyn SegmentFiles>,
    directory: PathBuf,
    /// The segment being written, once there is one, with its length.
    open: Option<(Box<dyn SegmentFile>, u64)>,
    /// Everything before this is written.
    written: Position,
    /// When the oldest write that is not synced was made.
    unsynced_since: Option<Instant>,
    spare: Vec<u8>,
}

impl Writer {
    /// `written` is where the newest segment ends; the first position to write may lie behind.
    pub(super) fn new(
        shared: Arc<Shared>,
        files: Box<dyn SegmentFiles>,
        directory: PathBuf,
        written: Position,
    ) -> Self {
        Self { shared, files, directory, open: None, written, unsynced_since: None, spare: Vec::new() }
    }

    pub(super) fn run(mut self) {
        // However this thread ends, nobody may wait for it any longer.
        let _closing = Closing(self.shared.clone());
        let ended = loop {
            let done = match self.next_job() {
                Job::Write(group) => self.write_group(group),
                Job::Sync => self.sync(),
                Job::Stop => break if self.unsynced_since.is_some() { self.sync() } else { Ok(()) },
            };
            if done.is_err() {
                break done;
            }
        };
        if let Err(reason) = ended {
            self.shared.set_fault(Some(WalError::Failed(Arc::from(reason))));
        }
    }

    fn next_job(&mut self) -> Job {
        let shared = self.shared.clone();
        let mut state = shared.state.lock();
        loop {
            if !state.buffer.is_empty() {
                return Job::Write(self.take_group(&mut state));
            }
            if state.stopping {
                return Job::Stop;
            }
            let due = self.sync_due();
            if self.unsynced_since.is_some() && state.sync_target > shared.synced.load(Relaxed)
                || due.is_some_and(|at| at <= Instant::now())
            {
                return Job::Sync;
            }
            match due {
                Some(at) => drop(shared.work.wait_until(&mut state, at)),
                None => shared.work.wait(&mut state),
            }
        }
    }

    fn take_group(&mut self, state: &mut State) -> Group {
        let mut spare = std::mem::take(&mut self.spare);
        spare.clear();
        let bytes = std::mem::replace(&mut state.buffer, spare);
        let start = state.start;
        state.start = Position(start.0 + bytes.len() as u64);
        // Room for those who wait for it, while this group is being written.
        self.shared.progress.notify_all();
        Group { bytes, start }
    }

    /// When what is written must be synced; `None` if nothing is waiting for that.
    fn sync_due(&self) -> Option<Instant> {
        let since = self.unsynced_since?;
        match self.shared.options.sync {
            SyncMode::Ack => Some(since),
            SyncMode::Interval(interval) => Some(since + interval),
        }
    }

    fn write_group(&mut self, group: Group) -> Result<(), String> {
        loop {
            match self.try_write(&group) {
                Ok(()) => break,
                Err(Failure::Passing(e)) => self.wait_until_it_passes(e)?,
                Err(Failure::Final(reason)) => return Err(reason),
            }
        }
        self.written = Position(group.start.0 + group.bytes.len() as u64);
        self.unsynced_since.get_or_insert_with(Instant::now);
        self.shared.groups.fetch_add(1, Relaxed);
        self.keep_spare(group.bytes);
        if matches!(self.shared.options.sync, SyncMode::Interval(_)) {
            self.shared.durable.store(self.written.0, Release);
        }
        let wanted = self.shared.state.lock().sync_target > self.shared.synced.load(Relaxed);
        if wanted || self.sync_due().is_some_and(|at| at <= Instant::now()) {
            self.sync()?;
        }
        self.clear_passing();
        Ok(())
    }

    fn clear_passing(&self) {
        let mut state = self.shared.state.lock();
        if state.fault.as_ref().is_some_and(WalError::is_transient) {
            state.fault = None;
        }
        drop(state);
        self.shared.release();
    }

    /// Tells everybody, and sleeps a little; an error when the log is being closed.
    fn wait_until_it_passes(&self, error: WalError) -> Result<(), String> {
        self.shared.set_fault(Some(error.clone()));
        let mut state = self.shared.state.lock();
        let until = Instant::now() + RETRY;
        while !state.stopping && !self.shared.work.wait_until(&mut state, until).timed_out() {}
        if state.stopping { Err(format!("closed while it could not write: {error}")) } else { Ok(()) }
    }

    fn keep_spare(&mut self, mut bytes: Vec<u8>) {
        if bytes.capacity() > SPARE_BYTES && bytes.len() < bytes.capacity() / 4 {
            bytes = Vec::new();
        }
        self.spare = bytes;
    }

    fn try_write(&mut self, group: &Group) -> Result<(), Failure> {
        if self.open.as_ref().is_none_or(|(_, bytes)| *bytes >= self.shared.options.segment_bytes) {
            self.begin_segment(group.start)?;
        }
        let Some((file, bytes)) = &mut self.open else {
            return Err(Failure::Final("no segment is open".to_owned()));
        };
        if let Err(e) = file.append(&group.bytes) {
            // Whatever part got there, the file must end with a whole group again.
            file.truncate(*bytes).map_err(|e| Failure::Final(format!("cannot truncate a segment: {e}")))?;
            return Err(failure("write", e));
        }
        *bytes += group.bytes.len() as u64;
        if let Some(last) = self.shared.state.lock().segments.back_mut() {
            last.bytes = *bytes;
        }
        Ok(())
    }

    /// Begins the segment whose first entry will be at `first`, after the one before it is synced.
    fn begin_segment(&mut self, first: Position) -> Result<(), Failure> {
        if self.unsynced_since.is_some() {
            self.sync().map_err(Failure::Final)?;
        }
        let path = segment::path_of(&self.directory, first);
        let header = Header { first, previous_end: self.written }.encode();
        let created = self.files.create(&path).and_then(|mut file| {
            file.append(&header)?;
            Ok(file)
        });
        let file = created.map_err(|e| {
            // A stump without entries would be taken for a torn end, but why leave it.
            let _ = files::remove(&path);
            failure("create", e)
        })?;
        let bytes = HEADER_BYTES as u64;
        self.open = Some((file, bytes));
        self.shared.state.lock().segments.push_back(Segment { first, path, bytes });
        Ok(())
    }

    fn sync(&mut self) -> Result<(), String> {
        let started = Instant::now();
        if let Some((file, _)) = &mut self.open {
            file.sync().map_err(|e| format!("cannot sync a segment: {e}"))?;
        }
        self.shared.syncs.add(started.elapsed());
        self.unsynced_since = None;
        self.shared.synced.store(self.written.0, Release);
        self.shared.durable.store(self.written.0, Release);
        self.shared.release();
        Ok(())
    }
}

fn failure(action: &str, error: io::Error) -> Failure {
    if is_no_space(&error) {
        Failure::Passing(WalError::NoSpace(Arc::from(error.to_string())))
    } else if is_shortage(&error) {
        Failure::Passing(WalError::Short(Arc::from(error.to_string())))
    } else {
        Failure::Final(format!("cannot {action} a segment: {error}"))
    }
}

/// Marks the log as closed when the writer ends, if no other fault is said.
struct Closing(Arc<Shared>);

impl Drop for Closing {
    fn drop(&mut self) {
        let fault = self.0.state.lock().fault.clone();
        if !matches!(fault, Some(WalError::Failed(_))) {
            self.0.set_fault(Some(WalError::Failed(Arc::from(CLOSED))));
        }
    }
}
