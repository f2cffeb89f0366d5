//! One block, read series by series.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use pilothouse_model::limits::TSDB_TOMBSTONES_BYTES;
use pilothouse_model::{Labels, Matcher, SampleColumns};
use pilothouse_wire::tsdb::{BlockMeta, ChunkPlace, Index, IndexedSeries, Segment, Tombstones, TsdbError};

use super::super::super::when::{self, Bounds};
use super::damage::Damage;

/// A block that stands at one of its series.
#[derive(Debug)]
pub(super) struct OpenBlock {
    directory: PathBuf,
    meta: BlockMeta,
    index: Index<File>,
    /// The one read last: chunks lie in the order of the series.
    segment: Option<(u32, Segment<File>)>,
    tombstones: Tombstones,
    /// Where it stands; `None` behind the last series.
    at: Option<(Labels, IndexedSeries)>,
    /// How often it was begun: what is damaged is told by the first walk.
    walks: u64,
}

impl OpenBlock {
    pub(super) fn open(directory: PathBuf, meta: BlockMeta, damage: &mut Damage) -> Result<Self, TsdbError> {
        let path = directory.join("index");
        let index = Index::open(File::open(&path)?, File::open(&path)?)?;
        // Deleted samples come back rather than that all others stay behind.
        let path = directory.join("tombstones");
        let tombstones = tombstones(&path).unwrap_or_else(|e| {
            damage.tell(&path, "what was deleted is carried too", &e);
            Tombstones::default()
        });
        Ok(Self { directory, meta, index, segment: None, tombstones, at: None, walks: 0 })
    }

    pub(super) fn meta(&self) -> &BlockMeta {
        &self.meta
    }

    pub(super) fn labels(&self) -> Option<&Labels> {
        self.at.as_ref().map(|(labels, _)| labels)
    }

    /// Goes to the first series of a window.
    pub(super) fn begin(&mut self, window: Bounds, matchers: &[Matcher], damage: &mut Damage) {
        self.walks += 1;
        self.index.rewind();
        self.advance(window, matchers, damage);
    }

    /// Goes to the next series that is asked for and has chunks in the window.
    pub(super) fn advance(&mut self, window: Bounds, matchers: &[Matcher], damage: &mut Damage) {
        self.at = loop {
            match self.next(window, matchers) {
                Ok(found) => break found,
                Err(e) => {
                    if self.walks == 1 {
                        let rest = if e.is_io() {
                            "its further series are left out"
                        } else {
                            "a series is left out"
                        };
                        damage.tell(&self.directory.join("index"), rest, &e);
                    }
                    // The disk may say the same of the next place.
                    if e.is_io() {
                        break None;
                    }
                }
            }
        };
    }

    fn next(
        &mut self,
        window: Bounds,
        matchers: &[Matcher],
    ) -> Result<Option<(Labels, IndexedSeries)>, TsdbError> {
        while let Some(series) = self.index.next_series()? {
            if !series.chunks.iter().any(|chunk| overlaps(chunk, window)) {
                continue;
            }
            let labels = self.index.labels(&series)?;
            if matchers.iter().all(|matcher| matcher.matches(labels.value(matcher.name.as_str()))) {
                return Ok(Some((labels, series)));
            }
        }
        Ok(None)
    }

    /// Appends the samples of the series that it stands at. Some may lie outside of the window.
    pub(super) fn read(&mut self, window: Bounds, out: &mut SampleColumns, damage: &mut Damage) {
        let Some((labels, series)) = &self.at else { return };
        let mut samples = SampleColumns::default();
        for chunk in series.chunks.iter().filter(|chunk| overlaps(chunk, window)) {
            let before = (samples.times_ms.len(), samples.histograms.len());
            let Err(e) = read_chunk(&self.directory, &mut self.segment, chunk, &mut samples) else {
                continue;
            };
            samples.times_ms.truncate(before.0);
            samples.values.truncate(before.0);
            samples.histograms.truncate(before.1);
            // A chunk that reaches over midnight is met again.
            if chunk.min_t_ms >= window.start_ms || self.walks == 1 {
                let times = (when::shown(chunk.min_t_ms), when::shown(chunk.max_t_ms));
                let place = format!("left out at {}: {labels} from {} to {}", chunk.offset, times.0, times.1);
                damage.tell(&segment_path(&self.directory, chunk.segment), &place, &e);
            }
        }
        let deleted = self.tombstones.of(series.id);
        let is_kept = |t: i64| !deleted.iter().any(|(from, to)| (*from..=*to).contains(&t));
        for (t, value) in samples.times_ms.iter().zip(&samples.values).filter(|(t, _)| is_kept(**t)) {
            out.push_float(*t, *value);
        }
        out.histograms.extend(samples.histograms.into_iter().filter(|(t, _)| is_kept(*t)));
    }
}

fn overlaps(chunk: &ChunkPlace, window: Bounds) -> bool {
    chunk.min_t_ms <= window.end_ms && chunk.max_t_ms >= window.start_ms
}

fn segment_path(directory: &Path, segment: u32) -> PathBuf {
    directory.join("chunks").join(format!("{:06}", u64::from(segment) + 1))
}

fn read_chunk(
    directory: &Path,
    open: &mut Option<(u32, Segment<File>)>,
    place: &ChunkPlace,
    out: &mut SampleColumns,
) -> Result<(), TsdbError> {
    let segment = match open {
        Some((number, segment)) if *number == place.segment => segment,
        other => {
            let segment = Segment::open(File::open(segment_path(directory, place.segment))?)?;
            &mut other.insert((place.segment, segment)).1
        }
    };
    segment.chunk(place.offset)?.decode(out)
}

fn tombstones(path: &Path) -> Result<Tombstones, TsdbError> {
    let bytes = match fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Tombstones::default()),
        metadata => metadata?.len(),
    };
    if bytes > TSDB_TOMBSTONES_BYTES {
        return Err(TsdbError::TooLarge { bytes, limit: TSDB_TOMBSTONES_BYTES });
    }
    Tombstones::parse(&fs::read(path)?)
}
