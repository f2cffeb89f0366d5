//! The series of a log, and what is read of them and not pushed yet.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use pilothouse_model::limits::{TSDB_LOG_BATCH_SAMPLES, TSDB_LOG_SERIES_BYTES};
use pilothouse_model::write::BatchExemplar;
use pilothouse_model::{Labels, Matcher, SampleColumns};
use pilothouse_wire::tsdb::{HeadChunk, LogEntry, TsdbError};

use super::super::super::when::Bounds;
use super::super::CommandError;
use super::super::metrics::keep_within;
use super::super::pusher::Pusher;
use super::damage::Damage;

/// What a series takes besides its labels, with two places where it is looked up.
const SERIES_BYTES: usize = 120;
/// What a native histogram counts for.
const HISTOGRAM_SAMPLES: usize = 30;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    Chunks,
    InOrder,
    OutOfOrder,
}

/// What is known of the series of a log.
#[derive(Debug)]
pub(super) struct Head {
    matchers: Vec<Matcher>,
    /// What came in order before this time is in blocks.
    valid_from_ms: i64,
    /// Which series a number means; `None` for one that is not asked for. A series may have had
    /// several numbers.
    ids: HashMap<u64, Option<usize>>,
    by_labels: HashMap<Labels, usize>,
    series: Vec<Series>,
    series_bytes: usize,
    batch: Batch,
    /// Until a chunk is met that is damaged.
    trusts_chunks: bool,
    /// Samples of series that the log does not name.
    unnamed: u64,
    /// Series for which there was no room.
    left_out: u64,
}

#[derive(Debug)]
struct Series {
    labels: Labels,
    /// Both ends are inclusive.
    deleted: Vec<(i64, i64)>,
    /// Of what came in order. A log also holds what its Prometheus then refused as older.
    last_ms: i64,
}

/// Samples by series, in the order in which the series were met.
#[derive(Debug, Default)]
struct Batch {
    places: HashMap<usize, usize>,
    series: Vec<(usize, SampleColumns, Vec<BatchExemplar>)>,
    weight: usize,
}

impl Head {
    pub(super) fn new(matchers: Vec<Matcher>, valid_from_ms: i64) -> Self {
        Self {
            matchers,
            valid_from_ms,
            ids: HashMap::new(),
            by_labels: HashMap::new(),
            series: Vec::new(),
            series_bytes: 0,
            batch: Batch::default(),
            trusts_chunks: true,
            unnamed: 0,
            left_out: 0,
        }
    }

    /// Takes note of a series, or of what was deleted of one.
    pub(super) fn learn(&mut self, entry: LogEntry) {
        match entry {
            LogEntry::Series { id, labels } => self.name(id, labels),
            // A series that has gone to a block is read from there as well.
            LogEntry::Deleted { from_ms: i64::MIN, to_ms: i64::MAX, .. } => {}
            LogEntry::Deleted { id, from_ms, to_ms } => {
                let place = self.ids.get(&id).copied().flatten();
                if let Some(series) = place.and_then(|place| self.series.get_mut(place)) {
                    series.deleted.push((from_ms, to_ms));
                }
            }
            _ => {}
        }
    }

    fn name(&mut self, id: u64, labels: Labels) {
        if let Some(place) = self.by_labels.get(&labels) {
            self.ids.insert(id, Some(*place));
            return;
        }
        if !self.matchers.iter().all(|matcher| matcher.matches(labels.value(matcher.name.as_str()))) {
            self.ids.insert(id, None);
            return;
        }
        let bytes = labels.as_encoded().len() + SERIES_BYTES;
        if self.series_bytes + bytes > TSDB_LOG_SERIES_BYTES {
            self.left_out += u64::from(self.ids.insert(id, None).is_none());
            return;
        }
        self.series_bytes += bytes;
        let place = self.series.len();
        self.ids.insert(id, Some(place));
        self.by_labels.insert(labels.clone(), place);
        self.series.push(Series { labels, deleted: Vec::new(), last_ms: i64::MIN });
    }

    /// Takes what is asked for and there; what an earlier run pushed is only taken note of.
    pub(super) fn take(&mut self, entry: LogEntry, origin: Origin, window: Bounds, is_done: bool) {
        match entry {
            LogEntry::Series { id, labels } => self.name(id, labels),
            LogEntry::Deleted { .. } => {}
            LogEntry::Float { id, t_ms, value } => {
                if let Some((_, samples, _)) = self.room(id, t_ms, origin, window, is_done, 1) {
                    samples.push_float(t_ms, value);
                }
            }
            LogEntry::Histogram { id, t_ms, histogram } => {
                let room = self.room(id, t_ms, origin, window, is_done, HISTOGRAM_SAMPLES);
                if let Some((_, samples, _)) = room {
                    samples.histograms.push((t_ms, Arc::new(histogram)));
                }
            }
            LogEntry::Exemplar { id, exemplar } => {
                let Some(place) = self.ids.get(&id).copied().flatten() else { return };
                let is_kept =
                    exemplar.t_ms >= self.valid_from_ms && self.is_kept(place, exemplar.t_ms, window);
                if is_kept && !is_done {
                    self.batch.room(place, 1).2.push(exemplar);
                }
            }
        }
    }

    /// Where a sample goes; `None` where it is not to be carried.
    fn room(
        &mut self,
        id: u64,
        t_ms: i64,
        origin: Origin,
        window: Bounds,
        is_done: bool,
        weight: usize,
    ) -> Option<&mut (usize, SampleColumns, Vec<BatchExemplar>)> {
        if origin == Origin::InOrder && t_ms < self.valid_from_ms {
            return None;
        }
        let Some(place) = self.ids.get(&id) else {
            self.unnamed += 1;
            return None;
        };
        let place = (*place)?;
        let series = self.series.get_mut(place)?;
        if origin == Origin::InOrder {
            if t_ms <= series.last_ms {
                return None;
            }
            series.last_ms = t_ms;
        }
        let is_carried = !is_done && self.is_kept(place, t_ms, window);
        is_carried.then(|| self.batch.room(place, weight))
    }

    fn is_kept(&self, place: usize, t_ms: i64, window: Bounds) -> bool {
        let is_deleted =
            |series: &Series| series.deleted.iter().any(|(from, to)| (*from..=*to).contains(&t_ms));
        (window.start_ms..=window.end_ms).contains(&t_ms) && !self.series.get(place).is_none_or(is_deleted)
    }

    /// Takes the samples of a chunk; those behind it in the log are its own.
    pub(super) fn take_chunk(
        &mut self,
        chunk: &HeadChunk<'_>,
        window: Bounds,
        is_done: bool,
    ) -> Result<(), TsdbError> {
        let in_order = !chunk.is_out_of_order;
        if in_order && chunk.max_t_ms < self.valid_from_ms {
            return Ok(());
        }
        // The log names all series that it still has something of; a chunk of another is of a series
        // that has gone.
        let Some(place) = self.ids.get(&chunk.id).copied().flatten() else { return Ok(()) };
        if !is_done {
            let mut samples = SampleColumns::default();
            chunk.chunk.decode(&mut samples)?;
            let from_ms = if in_order { self.valid_from_ms } else { i64::MIN };
            let is_carried = |t: i64| t >= from_ms && self.is_kept(place, t, window);
            let mut kept = SampleColumns::default();
            for (t, value) in samples.times_ms.iter().zip(&samples.values).filter(|(t, _)| is_carried(**t)) {
                kept.push_float(*t, *value);
            }
            kept.histograms.extend(samples.histograms.into_iter().filter(|(t, _)| is_carried(*t)));
            let weight = kept.times_ms.len() + kept.histograms.len() * HISTOGRAM_SAMPLES;
            let room = &mut self.batch.room(place, weight).1;
            room.times_ms.append(&mut kept.times_ms);
            room.values.append(&mut kept.values);
            room.histograms.append(&mut kept.histograms);
        }
        if in_order
            && self.trusts_chunks
            && let Some(series) = self.series.get_mut(place)
        {
            series.last_ms = series.last_ms.max(chunk.max_t_ms);
        }
        Ok(())
    }

    /// A chunk is damaged, and it is not known which series' it was: the log is read whole.
    pub(super) fn distrust_chunks(&mut self) {
        self.trusts_chunks = false;
        self.series.iter_mut().for_each(|series| series.last_ms = i64::MIN);
    }

    pub(super) fn is_full(&self) -> bool {
        self.batch.weight >= TSDB_LOG_BATCH_SAMPLES
    }

    /// Sends what was taken, and gives how many samples that were.
    pub(super) async fn push(&mut self, window: Bounds, pusher: &mut Pusher) -> Result<u64, CommandError> {
        let mut items = 0;
        for (place, mut samples, exemplars) in std::mem::take(&mut self.batch).series {
            let Some(series) = self.series.get(place) else { continue };
            keep_within(&mut samples, window.start_ms, window.end_ms);
            items += pusher.take(&series.labels, &samples).await?;
            pusher.take_exemplars(&series.labels, &exemplars).await?;
        }
        Ok(items)
    }

    /// Tells what could not be taken of all the log.
    pub(super) fn tell(&self, damage: &mut Damage, path: &Path) {
        if self.unnamed > 0 {
            let what = format!("{} samples of series without labels are left out", self.unnamed);
            damage.tell(path, &what, &TsdbError::Reference);
        }
        if self.left_out > 0 {
            let limit = TSDB_LOG_SERIES_BYTES as u64;
            let what = format!("{} series are left out", self.left_out);
            damage.tell(path, &what, &TsdbError::TooLarge { bytes: limit + 1, limit });
        }
    }
}

impl Batch {
    fn room(&mut self, place: usize, weight: usize) -> &mut (usize, SampleColumns, Vec<BatchExemplar>) {
        self.weight += weight;
        let new = self.series.len();
        let at = *self.places.entry(place).or_insert(new);
        if at == new {
            self.series.push((place, SampleColumns::default(), Vec::new()));
        }
        &mut self.series[at]
    }
}
