//! The log against what processes, disks and power cuts do.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;
use pilothouse_model::limits::WAL_RECORD_BYTES;
use proptest::prelude::*;

use super::*;
use crate::wal::segment::HEADER_BYTES;

type Records = Vec<(Position, Vec<u8>)>;

fn small() -> Options {
    Options { segment_bytes: 300, ..Options::default() }
}

fn collect(
    recovery: &mut Recovery,
    from: Position,
    on_damage: OnDamage,
) -> Result<(Records, Replayed), WalError> {
    let mut records = Vec::new();
    let replayed = recovery.replay(from, on_damage, |position, payload| {
        records.push((position, payload.to_vec()));
        Ok::<_, WalError>(())
    })?;
    Ok((records, replayed))
}

fn replay(directory: &Path, from: Position) -> Result<(Records, Replayed), WalError> {
    collect(&mut Wal::open(directory, small())?, from, OnDamage::Stop)
}

/// Appends payloads, each durable before the next, so that each is a group of its own.
fn append_each(wal: &Wal, payloads: impl IntoIterator<Item = Vec<u8>>) -> Records {
    let mut records = Vec::new();
    for payload in payloads {
        let position = wal.append(&payload).unwrap();
        wal.wait(position).unwrap();
        records.push((position, payload));
    }
    records
}

fn started(directory: &Path, options: Options) -> Wal {
    Wal::open(directory, options).unwrap().start(Position(0)).unwrap()
}

fn segments(directory: &Path) -> Vec<PathBuf> {
    segment::list(directory).unwrap().into_iter().map(|s| s.path).collect()
}

fn copy_of(directory: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for path in segments(directory) {
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    copy
}

/// Waits for what another thread does.
fn eventually(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "it never came");
        std::thread::sleep(Duration::from_millis(1));
    }
}

// ---- what was appended ----

#[test]
fn records_come_back_over_segments_and_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = Records::new();
    for life in 0..4u8 {
        let wal = started(dir.path(), small());
        expected.extend(append_each(&wal, (0..20).map(|i| vec![life; i * 5])));
        assert_eq!(wal.synced(), wal.next());
    }
    assert!(segments(dir.path()).len() > 8);
    let (records, replayed) = replay(dir.path(), Position(0)).unwrap();
    assert_eq!(records, expected);
    assert_eq!((replayed.cut_bytes, replayed.damages), (0, 0));
    for from in [7, 33, 79] {
        assert_eq!(replay(dir.path(), expected[from].0).unwrap().0, expected[from..]);
    }
}

#[test]
fn records_buffered_when_the_log_is_dropped_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let sync = SyncMode::Interval(Duration::from_secs(3600));
    let wal = started(dir.path(), Options { sync, ..small() });
    let position = wal.append(b"last").unwrap();
    drop(wal);
    assert_eq!(replay(dir.path(), Position(0)).unwrap().0, [(position, b"last".to_vec())]);
}

#[test]
fn large_and_empty_records_pass_and_oversized_ones_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let wal = started(dir.path(), Options { buffer_bytes: 1000, ..small() });
    let expected = append_each(&wal, [vec![], vec![1; 3 << 20], vec![], vec![2; 999]]);
    assert!(matches!(
        wal.append(&vec![0; WAL_RECORD_BYTES + 1]),
        Err(WalError::TooLarge { bytes }) if bytes == WAL_RECORD_BYTES + 1
    ));
    drop(wal);
    assert_eq!(replay(dir.path(), Position(0)).unwrap().0, expected);
}

#[test]
fn a_caller_ahead_of_the_log_gets_new_positions() {
    let dir = tempfile::tempdir().unwrap();
    let first = append_each(&started(dir.path(), small()), [b"one".to_vec()]);
    let mut recovery = Wal::open(dir.path(), small()).unwrap();
    let (_, replayed) = collect(&mut recovery, Position(0), OnDamage::Stop).unwrap();
    let wal = recovery.start(Position(replayed.end.0 + 5000)).unwrap();
    let second = append_each(&wal, [b"two".to_vec()]);
    assert!(second[0].0.0 >= replayed.end.0 + 5000);
    drop(wal);
    assert_eq!(replay(dir.path(), Position(0)).unwrap().0, [first, second.clone()].concat());
    assert_eq!(replay(dir.path(), second[0].0).unwrap().0, second);
}

#[test]
fn trimming_removes_whole_segments_and_never_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    let wal = started(dir.path(), small());
    let records = append_each(&wal, (0..60).map(|i| vec![i; 50]));
    let before = segments(dir.path()).len();
    assert_eq!(wal.trim(Position(0)).unwrap(), 0);
    let removed = wal.trim(records[30].0).unwrap();
    assert!(removed > 0);
    assert_eq!(segments(dir.path()).len(), before - removed);
    assert_eq!(wal.stats().segments as usize, before - removed);
    assert!(wal.stats().first <= records[30].0);
    assert_eq!(replay(copy_of(dir.path()).path(), records[30].0).map(|r| r.0.len()).ok(), Some(30));
    wal.trim(Position(u64::MAX)).unwrap();
    assert_eq!(segments(dir.path()).len(), 1);
    let again = append_each(&wal, [b"more".to_vec()]);
    drop(wal);
    assert_eq!(replay(dir.path(), again[0].0).unwrap().0, again);
}

// ---- torn ends ----

/// Cuts the newest segment at every length: whole records stay, nothing else is seen, and the
/// log goes on from there.
#[test]
fn a_log_cut_at_any_byte_keeps_every_whole_record() {
    let dir = tempfile::tempdir().unwrap();
    let wal = started(dir.path(), Options::default());
    let expected = append_each(&wal, (0..12u8).map(|i| vec![i; usize::from(i)]));
    drop(wal);
    let whole = fs::read(&segments(dir.path())[0]).unwrap();
    for length in 0..=whole.len() {
        let copy = copy_of(dir.path());
        fs::write(&segments(copy.path())[0], &whole[..length]).unwrap();
        let mut recovery = Wal::open(copy.path(), small()).unwrap();
        let (records, replayed) = collect(&mut recovery, Position(0), OnDamage::Stop).unwrap();
        let fits = |(position, payload): &&(Position, Vec<u8>)| {
            position.0 as usize + record::size(payload.len()) + HEADER_BYTES <= length
        };
        let mut kept: Records = expected.iter().take_while(fits).cloned().collect();
        assert_eq!(records, kept, "cut at {length}");
        let wal = recovery.start(Position(0)).unwrap();
        assert!(wal.next() >= replayed.end);
        kept.extend(append_each(&wal, [b"after".to_vec()]));
        drop(wal);
        assert_eq!(replay(copy.path(), Position(0)).unwrap().0, kept, "cut at {length}, then appended");
    }
}

/// What was written after the last sync may be there in part: any hole in it cuts the log there,
/// and what had been synced stays.
#[test]
fn holes_in_what_was_not_synced_are_a_torn_end() {
    let dir = tempfile::tempdir().unwrap();
    let sync = SyncMode::Interval(Duration::from_secs(3600));
    let wal = started(dir.path(), Options { sync, ..Options::default() });
    let mut expected = append_each(&wal, (0..3u8).map(|i| vec![i; 30]));
    wal.sync().unwrap();
    let synced = wal.synced();
    expected.extend(append_each(&wal, (3..9u8).map(|i| vec![i; 30])));
    let path = segments(dir.path())[0].clone();
    let whole = fs::read(&path).unwrap();
    let copy = tempfile::tempdir().unwrap();
    let target = copy.path().join(path.file_name().unwrap());
    for at in HEADER_BYTES + synced.0 as usize..whole.len() {
        let mut holed = whole.clone();
        holed[at] ^= 0x40;
        fs::write(&target, &holed).unwrap();
        let (records, replayed) = replay(copy.path(), Position(0)).unwrap();
        assert!(records.len() >= 3 && expected.starts_with(&records), "hole at {at}");
        assert!(replayed.cut_bytes > 0);
    }
    drop(wal);
}

#[test]
fn a_segment_begun_and_torn_in_its_header_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let expected = append_each(&started(dir.path(), Options::default()), [b"one".to_vec()]);
    let end = replay(dir.path(), Position(0)).unwrap().1.end;
    for stump in [&b""[..], &[0; 10], &[0; 400]] {
        fs::write(segment::path_of(dir.path(), end), stump).unwrap();
        let (records, replayed) = replay(dir.path(), Position(0)).unwrap();
        assert_eq!((&records, replayed.end), (&expected, end));
        let copy = copy_of(dir.path());
        drop(started(copy.path(), small()));
        assert_eq!(segments(copy.path()).len(), 1);
        assert_eq!(replay(copy.path(), Position(0)).unwrap().0, expected);
    }
}

/// What tells damage from a torn end lies behind both; closing the log must not lose it.
#[test]
fn damage_stays_damage_when_the_torn_end_behind_it_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let wal = started(dir.path(), Options::default());
    let expected = append_each(&wal, (0..6u8).map(|i| vec![i; 40]));
    drop(wal);
    let path = segments(dir.path())[0].clone();
    let mut bytes = fs::read(&path).unwrap();
    bytes[HEADER_BYTES + expected[3].0.0 as usize] ^= 1;
    let torn = bytes.len() - 30;
    fs::write(&path, &bytes[..torn]).unwrap();
    fs::write(segment::path_of(dir.path(), Position(4000)), b"a torn header").unwrap();
    let kept = [&expected[..3], &expected[4..5]].concat();
    for life in 0..3 {
        let mut recovery = Wal::open(dir.path(), small()).unwrap();
        let (records, replayed) = collect(&mut recovery, Position(0), OnDamage::Skip).unwrap();
        assert_eq!((&records, replayed.damages), (&kept, 2), "life {life}");
        drop(recovery.start(Position(0)).unwrap());
    }
}

// ---- damage ----

/// Flips each byte of what was synced in turn: stopping says where, skipping loses little.
#[test]
fn damage_to_what_was_synced_is_told_and_can_be_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let wal = started(dir.path(), Options { segment_bytes: 500, ..Options::default() });
    let expected = append_each(&wal, (0..24u8).map(|i| vec![i; 40]));
    drop(wal);
    let paths = segments(dir.path());
    assert!(paths.len() >= 3);
    for path in &paths[..2] {
        let whole = fs::read(path).unwrap();
        for at in 0..whole.len() {
            let copy = copy_of(dir.path());
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            fs::write(copy.path().join(path.file_name().unwrap()), damaged).unwrap();
            let stopped = replay(copy.path(), Position(0));
            assert!(matches!(stopped, Err(WalError::Damaged { .. })), "flip at {at}: {stopped:?}");
            let mut recovery = Wal::open(copy.path(), small()).unwrap();
            let (records, replayed) = collect(&mut recovery, Position(0), OnDamage::Skip).unwrap();
            assert!(records.len() >= expected.len() - 1, "flip at {at} lost {records:?}");
            assert!(records.iter().all(|r| expected.contains(r)));
            assert_eq!(replayed.damages, 1);
        }
    }
}

#[test]
fn damage_in_the_newest_segment_is_told_from_its_torn_end() {
    let dir = tempfile::tempdir().unwrap();
    let wal = started(dir.path(), Options::default());
    let expected = append_each(&wal, (0..6u8).map(|i| vec![i; 40]));
    drop(wal);
    let path = segments(dir.path())[0].clone();
    let mut bytes = fs::read(&path).unwrap();
    bytes[HEADER_BYTES + expected[2].0.0 as usize + 20] ^= 1;
    let torn = bytes.len() - 7;
    fs::write(&path, &bytes[..torn]).unwrap();
    let error = replay(dir.path(), Position(0)).unwrap_err();
    assert!(matches!(&error, WalError::Damaged { damage, .. } if damage.from == expected[2].0), "{error}");
    assert_eq!(fs::read(&path).unwrap().len(), torn, "nothing is changed when replay stops");
    let mut recovery = Wal::open(dir.path(), small()).unwrap();
    let (records, replayed) = collect(&mut recovery, Position(0), OnDamage::Skip).unwrap();
    assert_eq!(records, [&expected[..2], &expected[3..5]].concat());
    assert_eq!((replayed.damages, replayed.damage[0].from), (1, expected[2].0));
    assert!(replayed.cut_bytes > 0);
}

/// Records of one group have no marks between them, and the next may end beyond what is looked
/// at first.
#[test]
fn one_damaged_record_in_a_group_of_large_ones_costs_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let (fate, wal) = faulty(dir.path(), Options::default());
    let held = fate.held.lock();
    wal.append(b"taken at once").unwrap();
    eventually(|| wal.stats().buffered_bytes == 0);
    let positions: Vec<Position> = (0..6u8).map(|i| wal.append(&[i; 50_000]).unwrap()).collect();
    drop(held);
    wal.wait(positions[5]).unwrap();
    append_each(&wal, [b"what comes after says that all was synced".to_vec()]);
    drop(wal);
    let path = segments(dir.path())[0].clone();
    let whole = fs::read(&path).unwrap();
    // In the payload, and in the length so that it leads too far, and nowhere.
    for (offset, bit) in [(30_000, 1), (6, 1), (7, 0x40)] {
        let mut bytes = whole.clone();
        bytes[HEADER_BYTES + positions[2].0 as usize + offset] ^= bit;
        fs::write(&path, &bytes).unwrap();
        let mut recovery = Wal::open(dir.path(), small()).unwrap();
        let (records, replayed) = collect(&mut recovery, Position(0), OnDamage::Skip).unwrap();
        assert_eq!((replayed.damages, replayed.cut_bytes), (1, 0));
        // Without its length a record hides those behind it up to the next mark.
        let kept = if offset == 30_000 { 7 } else { 4 };
        assert_eq!(records.len(), kept, "{offset}");
    }
}

#[test]
fn missing_segments_are_damage() {
    let dir = tempfile::tempdir().unwrap();
    let records = append_each(&started(dir.path(), small()), (0..40).map(|i| vec![i; 50]));
    let paths = segments(dir.path());
    fs::remove_file(&paths[0]).unwrap();
    assert!(replay(dir.path(), Position(0)).is_ok(), "from zero on, whatever is there is read");
    assert!(matches!(replay(dir.path(), records[1].0), Err(WalError::Damaged { .. })));
    fs::remove_file(&paths[2]).unwrap();
    assert!(matches!(replay(dir.path(), Position(0)), Err(WalError::Damaged { .. })));
    assert_eq!(replay(dir.path(), records[30].0).unwrap().0, records[30..]);
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    append_each(&started(dir.path(), Options::default()), [b"one".to_vec()]);
    let path = segments(dir.path())[0].clone();
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 9;
    let checksum = crc32c::crc32c(&bytes[..28]);
    bytes[28..32].copy_from_slice(&checksum.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    assert!(matches!(replay(dir.path(), Position(0)), Err(WalError::Newer { found: 9, known: 1, .. })));
}

// ---- failing disks ----

/// What a disk shall do, and what it has been asked.
#[derive(Debug, Default)]
struct Fate {
    /// Bytes that may still be written; a write beyond is cut off there.
    room: AtomicU64,
    writes_fail: AtomicBool,
    syncs_fail: AtomicBool,
    syncs: AtomicU64,
    held: Mutex<()>,
    no_files: AtomicBool,
}

#[derive(Debug, Clone)]
struct Faulty(Arc<Fate>);

#[derive(Debug)]
struct FaultyFile {
    fate: Arc<Fate>,
    file: Box<dyn SegmentFile>,
}

impl SegmentFiles for Faulty {
    fn create(&mut self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        if self.0.no_files.load(Relaxed) {
            return Err(rustix::io::Errno::MFILE.into());
        }
        let file = DiskFiles.create(path)?;
        Ok(Box::new(FaultyFile { fate: self.0.clone(), file }))
    }
}

impl SegmentFile for FaultyFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let room = self.fate.room.load(Relaxed) as usize;
        if self.fate.writes_fail.load(Relaxed) {
            self.file.append(&bytes[..bytes.len() / 2])?;
            return Err(io::Error::from(io::ErrorKind::BrokenPipe));
        }
        if bytes.len() > room {
            self.file.append(&bytes[..room])?;
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        self.fate.room.fetch_sub(bytes.len() as u64, Relaxed);
        self.file.append(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        drop(self.fate.held.lock());
        self.fate.syncs.fetch_add(1, Relaxed);
        if self.fate.syncs_fail.load(Relaxed) { Err(io::Error::other("sync lost")) } else { self.file.sync() }
    }

    fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        self.file.truncate(bytes)
    }
}

fn faulty(directory: &Path, options: Options) -> (Arc<Fate>, Wal) {
    let fate = Arc::new(Fate { room: AtomicU64::new(u64::MAX / 2), ..Fate::default() });
    let recovery = Wal::open_with(directory, options, Box::new(Faulty(fate.clone()))).unwrap();
    (fate, recovery.start(Position(0)).unwrap())
}

#[test]
fn a_failed_sync_ends_the_log_for_all() {
    let dir = tempfile::tempdir().unwrap();
    let (fate, wal) = faulty(dir.path(), Options::default());
    let kept = append_each(&wal, [b"kept".to_vec()]);
    fate.syncs_fail.store(true, Relaxed);
    let held = fate.held.lock();
    let positions: Vec<Position> = (0..3u8).map(|i| wal.append(&[i]).unwrap()).collect();
    drop(held);
    for position in positions {
        assert!(matches!(wal.wait(position), Err(WalError::Failed(_))));
        let waker = Waker::noop();
        let mut future = wal.durable(position);
        let polled = std::pin::Pin::new(&mut future).poll(&mut Context::from_waker(waker));
        assert!(matches!(polled, Poll::Ready(Err(WalError::Failed(_)))));
    }
    fate.syncs_fail.store(false, Relaxed);
    assert!(matches!(wal.append(b"refused"), Err(WalError::Failed(_))));
    assert!(matches!(wal.sync(), Err(WalError::Failed(_))));
    assert!(wal.wait(kept[0].0).is_ok(), "what was durable before stays so");
    assert!(matches!(wal.fault(), Some(WalError::Failed(_))));
    drop(wal);
    assert!(replay(dir.path(), Position(0)).unwrap().0.starts_with(&kept));
}

#[test]
fn a_failed_write_ends_the_log_and_leaves_whole_records() {
    let dir = tempfile::tempdir().unwrap();
    let (fate, wal) = faulty(dir.path(), Options::default());
    let kept = append_each(&wal, [vec![1; 100]]);
    fate.writes_fail.store(true, Relaxed);
    let lost = wal.append(&[2; 100]).unwrap();
    assert!(matches!(wal.wait(lost), Err(WalError::Failed(_))));
    drop(wal);
    let (records, replayed) = replay(dir.path(), Position(0)).unwrap();
    assert_eq!((records, replayed.cut_bytes), (kept, 0));
}

#[test]
fn a_full_disk_refuses_and_comes_back_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let (fate, wal) = faulty(dir.path(), small());
    let mut expected = append_each(&wal, [vec![1; 100]]);
    fate.room.store(50, Relaxed);
    let waiting = wal.append(&[2; 100]).unwrap();
    assert!(matches!(wal.wait(waiting), Err(WalError::NoSpace(_))));
    assert!(matches!(wal.append(b"refused"), Err(WalError::NoSpace(_))));
    assert!(wal.fault().is_some_and(|f| f.is_transient()));
    let (records, replayed) = replay(copy_of(dir.path()).path(), Position(0)).unwrap();
    assert_eq!((&records, replayed.cut_bytes), (&expected, 0), "the file ends with a whole record");
    fate.room.store(u64::MAX / 2, Relaxed);
    eventually(|| wal.fault().is_none());
    wal.wait(waiting).unwrap();
    expected.push((waiting, vec![2; 100]));
    expected.extend(append_each(&wal, (3..9).map(|i| vec![i; 100])));
    drop(wal);
    assert_eq!(replay(dir.path(), Position(0)).unwrap().0, expected);
}

#[test]
fn a_segment_that_cannot_be_begun_for_want_of_descriptors_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let (fate, wal) = faulty(dir.path(), small());
    let mut expected = append_each(&wal, [vec![1; 400]]);
    fate.no_files.store(true, Relaxed);
    let waiting = wal.append(&[2; 100]).unwrap();
    assert!(matches!(wal.wait(waiting), Err(WalError::Short(_))));
    assert!(wal.append(b"refused").unwrap_err().is_transient());
    fate.no_files.store(false, Relaxed);
    eventually(|| wal.fault().is_none());
    wal.wait(waiting).unwrap();
    expected.push((waiting, vec![2; 100]));
    expected.extend(append_each(&wal, [vec![3; 100]]));
    drop(wal);
    assert_eq!(replay(dir.path(), Position(0)).unwrap().0, expected);
}

#[test]
fn a_full_buffer_pushes_back() {
    let dir = tempfile::tempdir().unwrap();
    let options =
        Options { buffer_bytes: 1000, append_timeout: Duration::from_millis(20), ..Options::default() };
    let (fate, wal) = faulty(dir.path(), options);
    let held = fate.held.lock();
    let mut accepted = 1;
    wal.append(&[0; 100]).unwrap();
    eventually(|| wal.stats().buffered_bytes == 0);
    let refused = loop {
        match wal.try_append(&[0; 100]) {
            Ok(_) => accepted += 1,
            Err(e) => break e,
        }
        assert!(accepted < 100, "the buffer has no end");
    };
    assert!(matches!(refused, WalError::Full));
    assert!(wal.stats().buffered_bytes <= 1000);
    assert!(matches!(wal.append(&[0; 100]), Err(WalError::Full)));
    drop(held);
    let position = std::thread::scope(|scope| {
        scope
            .spawn(|| {
                loop {
                    if let Ok(position) = wal.append(&[0; 100]) {
                        return position;
                    }
                }
            })
            .join()
    })
    .unwrap();
    wal.wait(position).unwrap();
    drop(wal);
    assert_eq!(replay(dir.path(), Position(0)).unwrap().0.len(), accepted + 1);
}

// ---- waiting ----

#[derive(Debug, Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn futures_wake_when_their_record_is_synced_and_share_that_sync() {
    let dir = tempfile::tempdir().unwrap();
    let (fate, wal) = faulty(dir.path(), Options::default());
    append_each(&wal, [vec![0]]);
    let held = fate.held.lock();
    let before = fate.syncs.load(Relaxed);
    let flag = Arc::new(Flag::default());
    let waker = Waker::from(flag.clone());
    let mut futures: Vec<Durable> = (0..50u8).map(|i| wal.durable(wal.append(&[i]).unwrap())).collect();
    for future in &mut futures {
        assert!(std::pin::Pin::new(future).poll(&mut Context::from_waker(&waker)).is_pending());
    }
    drop(futures.pop());
    drop(held);
    wal.sync().unwrap();
    assert!(fate.syncs.load(Relaxed) - before <= 2, "fifty records in at most two groups");
    eventually(|| flag.0.load(Relaxed));
    for mut future in futures {
        assert!(matches!(
            std::pin::Pin::new(&mut future).poll(&mut Context::from_waker(&waker)),
            Poll::Ready(Ok(()))
        ));
    }
    let sent: Box<dyn Future<Output = Result<(), WalError>> + Send + 'static> =
        Box::new(wal.durable(Position(0)));
    drop(wal);
    drop(sent);
}

#[test]
fn in_interval_mode_a_written_record_is_durable_and_synced_later() {
    let dir = tempfile::tempdir().unwrap();
    let sync = SyncMode::Interval(Duration::from_millis(30));
    let (fate, wal) = faulty(dir.path(), Options { sync, ..Options::default() });
    let held = fate.held.lock();
    let records = append_each(&wal, [vec![1; 10]]);
    assert!(wal.synced() <= records[0].0);
    drop(held);
    eventually(|| wal.synced() == wal.next());
    assert_eq!(wal.stats().syncs.count(), 1);
}

// ---- a model ----

#[derive(Debug, Clone)]
enum Step {
    Append(usize),
    Trim(usize),
    Sync,
    Restart {
        skip: u64,
    },
    /// Cut off so many bytes that were never synced, as a power cut may.
    PowerCut(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0usize..120).prop_map(Step::Append),
        2 => (0usize..100).prop_map(Step::Trim),
        1 => Just(Step::Sync),
        1 => (0u64..50).prop_map(|skip| Step::Restart { skip }),
        1 => (0usize..200).prop_map(Step::PowerCut),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_log_is_a_map_by_position(steps in proptest::collection::vec(step(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let sync = SyncMode::Interval(Duration::from_secs(3600));
        let options = Options { sync, segment_bytes: 400, ..Options::default() };
        let mut model: BTreeMap<Position, Vec<u8>> = BTreeMap::new();
        let mut trimmed = Position(0);
        let mut wal = started(dir.path(), options);
        for (i, step) in steps.into_iter().enumerate() {
            match step {
                Step::Append(len) => {
                    let payload = vec![i as u8; len];
                    let position = wal.append(&payload).unwrap();
                    assert!(model.last_key_value().is_none_or(|(last, _)| *last < position));
                    wal.wait(position).unwrap();
                    model.insert(position, payload);
                }
                Step::Trim(percent) => {
                    let at = model.len() * percent / 100;
                    if let Some(position) = model.keys().nth(at).copied() {
                        wal.trim(position).unwrap();
                        trimmed = trimmed.max(position);
                    }
                }
                Step::Sync => wal.sync().unwrap(),
                Step::Restart { skip } => {
                    let next = wal.next();
                    drop(wal);
                    let mut recovery = Wal::open(dir.path(), options).unwrap();
                    let (records, replayed) = collect(&mut recovery, trimmed, OnDamage::Stop).unwrap();
                    assert_eq!(records, model.range(trimmed..).map(|(p, b)| (*p, b.clone())).collect::<Vec<_>>());
                    assert!(replayed.end <= next);
                    wal = recovery.start(Position(next.0 + skip)).unwrap();
                }
                Step::PowerCut(bytes) => {
                    let (synced, next) = (wal.synced(), wal.next());
                    let image = copy_of(dir.path());
                    drop(wal);
                    for path in segments(dir.path()) {
                        fs::remove_file(path).unwrap();
                    }
                    for path in segments(image.path()) {
                        fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
                    }
                    let keep = next.0.saturating_sub(bytes as u64).max(synced.0);
                    if let Some(newest) = segment::list(dir.path()).unwrap().last() {
                        let keep = keep.saturating_sub(newest.first.0) + HEADER_BYTES as u64;
                        let file = fs::OpenOptions::new().write(true).open(&newest.path).unwrap();
                        file.set_len(keep.min(newest.bytes)).unwrap();
                    }
                    model.retain(|position, payload| position.0 + record::size(payload.len()) as u64 <= keep);
                    let mut recovery = Wal::open(dir.path(), options).unwrap();
                    let (records, _) = collect(&mut recovery, trimmed.min(synced), OnDamage::Stop).unwrap();
                    let expected: Records = model.range(trimmed.min(synced)..).map(|(p, b)| (*p, b.clone())).collect();
                    assert_eq!(records, expected);
                    wal = recovery.start(trimmed).unwrap();
                }
            }
        }
    }

    #[test]
    fn any_bytes_in_a_segment_are_read_without_a_panic(
        bytes in proptest::collection::vec(0u8.., 0..300),
        with_header: bool,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let header = segment::Header { first: Position(0), previous_end: Position(0) }.encode();
        let content = if with_header { [&header[..], &bytes].concat() } else { bytes };
        fs::write(segment::path_of(dir.path(), Position(0)), &content).unwrap();
        fs::write(segment::path_of(dir.path(), Position(1000)), &content).unwrap();
        let mut recovery = Wal::open(dir.path(), small()).unwrap();
        let read = collect(&mut recovery, Position(0), OnDamage::Skip);
        if let Ok((records, _)) = read {
            prop_assert!(records.is_empty());
            recovery.start(Position(0)).unwrap();
        }
    }
}
