//! A page in memory: checked once, its lists of times decoded once, and kept while there is room.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use pilothouse_model::{Histogram, SampleColumns, SampleValue};

use crate::codec::page::{Entry, TimesRef};
use crate::codec::{CodecError, MAX_BLOCK_SAMPLES, Page, decode_histograms, decode_times, decode_values};
use crate::error::Error;

/// First byte of a block from which on it holds histograms.
const HISTOGRAMS_FROM: u8 = 0x80;

#[derive(Debug)]
pub(crate) struct LoadedPage {
    page: Page<Box<[u8]>>,
    times: Box<[OnceLock<Box<[i64]>>]>,
}

impl LoadedPage {
    pub(crate) fn open(bytes: &[u8]) -> Result<Self, CodecError> {
        let page = Page::open(Box::<[u8]>::from(bytes))?;
        let times = (0..page.own_list_count()).map(|_| OnceLock::new()).collect();
        Ok(Self { page, times })
    }

    /// The times of one block. A list that is not the page's own is asked for by its number.
    fn times_of<'a>(&'a self, entry: &Entry, shared: SharedLists<'_>) -> Result<BlockTimes<'a>, Error> {
        let span = entry.start as usize..(entry.start as usize).saturating_add(entry.count as usize);
        let number = match entry.times() {
            TimesRef::Own(number) => number,
            TimesRef::Shared(number) => return BlockTimes::new(List::Shared(shared(number)?), span),
        };
        let list = self.times.get(number as usize).ok_or(CodecError::Corrupt("list number"))?;
        let times = match list.get() {
            Some(times) => times,
            None => {
                let mut times = Vec::new();
                decode_times(self.page.own_times(number), MAX_BLOCK_SAMPLES, &mut times)?;
                list.get_or_init(|| times.into())
            }
        };
        BlockTimes::new(List::Own(times), span)
    }

    /// Appends the samples of one block that lie in the range.
    pub(crate) fn read_block(
        &self,
        entry: &Entry,
        (start_ms, end_ms): (i64, i64),
        shared: SharedLists<'_>,
        out: &mut SampleColumns,
    ) -> Result<(), Error> {
        let times = self.times_of(entry, shared)?;
        let times = times.as_slice();
        let from = times.partition_point(|t| *t < start_ms);
        let to = times.partition_point(|t| *t <= end_ms);
        if from >= to {
            return Ok(());
        }
        let block = self.page.block(entry);
        if is_histograms(block) {
            let mut rows = Vec::new();
            decode_histograms(block, times.len(), &mut rows)?;
            let rows = times.iter().copied().zip(rows);
            out.histograms.extend(rows.take(to).skip(from));
            return Ok(());
        }
        let begin = out.values.len();
        let decoded = decode_values(block, times.len(), &mut out.values);
        if decoded.is_err() || out.values.len() != begin + times.len() {
            out.values.truncate(begin);
            return Err(decoded.err().unwrap_or(CodecError::Truncated).into());
        }
        out.values.truncate(begin + to);
        out.values.drain(begin..begin + from);
        out.times_ms.extend_from_slice(&times[from..to]);
        Ok(())
    }

    /// Whether a series has samples in a range. Only for pages whose lists of times are their own.
    pub(crate) fn has_samples_of(&self, series: u32, (start_ms, end_ms): (i64, i64)) -> Result<bool, Error> {
        for entry in self.find(series) {
            let times = self.times_of(entry, &no_lists)?;
            let times = times.as_slice();
            if times.get(times.partition_point(|t| *t < start_ms)).is_some_and(|t| *t <= end_ms) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        self.page.entries()
    }

    /// The blocks of one series in order.
    pub(crate) fn find(&self, series: u32) -> &[Entry] {
        self.page.find(series)
    }

    /// The newest sample of one block in a range, if it is not older than `newest`.
    pub(crate) fn latest(
        &self,
        entry: &Entry,
        (start_ms, end_ms): (i64, i64),
        shared: SharedLists<'_>,
        newest: &mut Option<(i64, SampleValue)>,
    ) -> Result<(), Error> {
        let times = self.times_of(entry, shared)?;
        let times = times.as_slice();
        let Some(at) = times.partition_point(|t| *t <= end_ms).checked_sub(1) else { return Ok(()) };
        let t = times[at];
        // Of two equal times the one read later wins, as everywhere.
        if t >= start_ms && newest.as_ref().is_none_or(|n| n.0 <= t) {
            *newest = Some((t, self.value_at(entry, times.len(), at)?));
        }
        Ok(())
    }

    fn value_at(&self, entry: &Entry, n: usize, at: usize) -> Result<SampleValue, CodecError> {
        thread_local! {
            static VALUES: std::cell::RefCell<Vec<f64>> = const { std::cell::RefCell::new(Vec::new()) };
        }
        let block = self.page.block(entry);
        if is_histograms(block) {
            let mut rows: Vec<Arc<Histogram>> = Vec::new();
            decode_histograms(block, n, &mut rows)?;
            return rows.get(at).cloned().map(SampleValue::Histogram).ok_or(CodecError::Truncated);
        }
        VALUES.with_borrow_mut(|values| {
            values.clear();
            decode_values(block, n, values)?;
            values.get(at).copied().map(SampleValue::Float).ok_or(CodecError::Truncated)
        })
    }
}

/// Gives a list of times that is kept outside of pages.
pub(crate) type SharedLists<'a> = &'a dyn Fn(u32) -> Result<Arc<TimesList>, Error>;

/// Where there are none.
pub(crate) fn no_lists(_: u32) -> Result<Arc<TimesList>, Error> {
    Err(CodecError::Corrupt("list number").into())
}

/// A decoded list of times.
#[derive(Debug)]
pub(crate) struct TimesList(pub(crate) Box<[i64]>);

enum List<'a> {
    Own(&'a [i64]),
    Shared(Arc<TimesList>),
}

struct BlockTimes<'a> {
    list: List<'a>,
    span: Range<usize>,
}

impl<'a> BlockTimes<'a> {
    fn new(list: List<'a>, span: Range<usize>) -> Result<Self, Error> {
        let times = Self { list, span };
        if times.as_slice().len() == times.span.len() { Ok(times) } else { Err(CodecError::Truncated.into()) }
    }

    fn as_slice(&self) -> &[i64] {
        let whole = match &self.list {
            List::Own(times) => times,
            List::Shared(list) => &*list.0,
        };
        whole.get(self.span.clone()).unwrap_or(&[])
    }
}

fn is_histograms(block: &[u8]) -> bool {
    block.first().is_some_and(|b| *b >= HISTOGRAMS_FROM)
}

/// Which page: the file, and its key there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PageKey {
    pub(crate) file: u64,
    pub(crate) key: (u32, u32),
}

/// What may be cached.
pub(crate) trait Weighed {
    fn bytes(&self) -> usize;
}

impl Weighed for LoadedPage {
    /// Counts the lists of times as if all were decoded.
    fn bytes(&self) -> usize {
        self.page.heap_bytes() + self.times.len() * 1_100 + size_of::<Self>()
    }
}

impl Weighed for TimesList {
    fn bytes(&self) -> usize {
        size_of_val(&*self.0) + size_of::<Self>()
    }
}

const SHARDS: usize = 16;

/// Things of a file kept for queries, up to a number of bytes; one that was asked for since the
/// hand came by gets a second chance.
#[derive(Debug)]
pub(crate) struct Cache<V> {
    shards: Box<[Mutex<Shard<V>>]>,
    shard_bytes: usize,
    hasher: foldhash::fast::FixedState,
    hits: AtomicU64,
    misses: AtomicU64,
}

#[derive(Debug)]
struct Shard<V> {
    kept: HashMap<PageKey, Kept<V>, foldhash::fast::FixedState>,
    order: VecDeque<PageKey>,
    bytes: usize,
}

#[derive(Debug)]
struct Kept<V> {
    value: Arc<V>,
    asked: AtomicBool,
}

impl<V: Weighed> Cache<V> {
    pub(crate) fn new(bytes: u64) -> Self {
        let shard = || Shard { kept: HashMap::default(), order: VecDeque::new(), bytes: 0 };
        Self {
            shards: (0..SHARDS).map(|_| Mutex::new(shard())).collect(),
            shard_bytes: bytes as usize / SHARDS,
            hasher: foldhash::fast::FixedState::default(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    pub(crate) fn get_or<E>(&self, key: PageKey, load: impl FnOnce() -> Result<V, E>) -> Result<Arc<V>, E> {
        let found = self.shard(key).lock().kept.get(&key).map(|kept| {
            kept.asked.store(true, Relaxed);
            kept.value.clone()
        });
        if let Some(value) = found {
            self.hits.fetch_add(1, Relaxed);
            return Ok(value);
        }
        self.misses.fetch_add(1, Relaxed);
        let value = Arc::new(load()?);
        self.insert(key, &value);
        Ok(value)
    }

    fn insert(&self, key: PageKey, value: &Arc<V>) {
        let bytes = value.bytes();
        if bytes > self.shard_bytes / 2 {
            return;
        }
        let mut shard = self.shard(key).lock();
        let kept = Kept { value: value.clone(), asked: AtomicBool::new(false) };
        if shard.kept.insert(key, kept).is_some() {
            return;
        }
        shard.order.push_back(key);
        shard.bytes += bytes;
        while shard.bytes > self.shard_bytes {
            let Some(oldest) = shard.order.pop_front() else { break };
            let spared = shard.kept.get(&oldest).is_some_and(|k| k.asked.swap(false, Relaxed));
            if spared {
                shard.order.push_back(oldest);
            } else if let Some(gone) = shard.kept.remove(&oldest) {
                shard.bytes -= gone.value.bytes();
            }
        }
    }

    pub(crate) fn clear(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.kept = HashMap::default();
            shard.order = VecDeque::new();
            shard.bytes = 0;
        }
    }

    fn shard(&self, key: PageKey) -> &Mutex<Shard<V>> {
        use std::hash::BuildHasher as _;
        &self.shards[self.hasher.hash_one(key) as usize >> 40 & (SHARDS - 1)]
    }

    pub(crate) fn stats(&self) -> CacheStats {
        CacheStats {
            hits: self.hits.load(Relaxed),
            misses: self.misses.load(Relaxed),
            bytes: self.shards.iter().map(|s| s.lock().bytes as u64).sum(),
        }
    }
}

/// How a cache has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheStats {
    pub hits: u64,
    pub misses: u64,
    pub bytes: u64,
}
