//! What was stored, by data source, project of the caller, and hour.
//!
//! Counted in memory and written down about once a minute, so that a push costs no transaction;
//! a crash may lose that minute. Hours older than two days are folded into their day.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use prost::Message;

use crate::control::Control;
use crate::error::Error;
use crate::grant::Grant;
use crate::ids::{ProjectId, SourceId};
use crate::row::{Key, Row};
use crate::source::{DataSource, SourceKind};
use crate::token::TokenUseRow;

const HOUR_MS: i64 = 3_600_000;
const HOURS_OF_DAY: u32 = 24;
/// Hours are kept apart for this long.
const FINE_HOURS: u32 = 48;
/// After this nobody asks any more: no retention of usage is promised beyond a quarter.
const KEPT_HOURS: u32 = 93 * 24;

/// What requests brought and was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amounts {
    pub samples: u64,
    pub entries: u64,
    /// Of request bodies after decompression for samples, of lines and metadata for entries.
    pub bytes: u64,
    /// Series and streams that were not known before.
    pub series: u64,
    pub streams: u64,
}

impl Amounts {
    fn add(&mut self, other: Self) {
        self.samples = self.samples.saturating_add(other.samples);
        self.entries = self.entries.saturating_add(other.entries);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.series = self.series.saturating_add(other.series);
        self.streams = self.streams.saturating_add(other.streams);
    }
}

/// Whose use of what, since when.
#[derive(Debug, Clone, Copy)]
pub struct UsageQuery {
    /// Uses by callers of this project, and of its data sources by anybody; `None` for all.
    pub project: Option<ProjectId>,
    pub source: Option<SourceId>,
    pub kind: SourceKind,
    /// To the hour, or to the day where it is long ago.
    pub since_ms: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct UsageKey {
    source: SourceId,
    project: ProjectId,
    hour: u32,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct UsageRow {
    key: UsageKey,
    kind: SourceKind,
    amounts: Amounts,
}

#[derive(Debug, Default)]
pub(crate) struct UsageBook {
    rows: BTreeMap<UsageKey, (SourceKind, Amounts)>,
    changed: BTreeSet<UsageKey>,
}

impl UsageBook {
    pub(crate) fn of(rows: impl Iterator<Item = UsageRow>) -> Self {
        let rows = rows.map(|row| (row.key, (row.kind, row.amounts)));
        Self { rows: rows.collect(), changed: BTreeSet::new() }
    }

    fn add(&mut self, key: UsageKey, kind: SourceKind, amounts: Amounts) {
        let (_, sum) = self.rows.entry(key).or_insert((kind, Amounts::default()));
        sum.add(amounts);
        self.changed.insert(key);
    }

    /// Folds hours into days and forgets what is too old.
    fn fold(&mut self, now: u32) {
        let fine_since = now.saturating_sub(FINE_HOURS) / HOURS_OF_DAY * HOURS_OF_DAY;
        let oldest = now.saturating_sub(KEPT_HOURS);
        let coarse = |hour: u32| hour < fine_since && !hour.is_multiple_of(HOURS_OF_DAY);
        let moved: Vec<UsageKey> =
            self.rows.keys().filter(|k| coarse(k.hour) || k.hour < oldest).copied().collect();
        for key in moved {
            let Some((kind, amounts)) = self.rows.remove(&key) else { continue };
            self.changed.insert(key);
            if key.hour >= oldest {
                let day = UsageKey { hour: key.hour / HOURS_OF_DAY * HOURS_OF_DAY, ..key };
                self.add(day, kind, amounts);
            }
        }
    }
}

fn hour_of(t_ms: i64) -> u32 {
    u32::try_from(t_ms.max(0) / HOUR_MS).unwrap_or(u32::MAX)
}

/// What a row takes in memory with its place in its table: names and the like have bounds.
const ROW_BYTES: usize = 1 << 10;

impl Control {
    /// Memory held by all records and by the book of use, about.
    pub fn held_bytes(&self) -> u64 {
        let book = self.usage();
        let entry_bytes = size_of::<(UsageKey, SourceKind, Amounts)>();
        let used = book.rows.len() * entry_bytes + book.changed.len() * size_of::<UsageKey>();
        drop(book);
        (self.image().row_count() * ROW_BYTES + used) as u64
    }

    /// Counts what a caller stored. `grant` is the token it came with, if it came with one; else
    /// it counts for the source's own project.
    pub fn count_use(&self, source: &DataSource, grant: Option<&Grant>, amounts: Amounts) {
        if let Some(grant) = grant {
            grant.stored(amounts);
        }
        let project = grant.map_or(source.project, Grant::project);
        let key = UsageKey { source: source.id, project, hour: hour_of(self.now_ms()) };
        self.usage().add(key, source.kind, amounts);
    }

    pub fn usage_of(&self, query: &UsageQuery) -> Amounts {
        let image = self.image();
        let (now, since) = (hour_of(self.now_ms()), hour_of(query.since_ms));
        let is_asked = |key: &UsageKey| {
            query.source.is_none_or(|s| s == key.source)
                && query.project.is_none_or(|project| {
                    key.project == project
                        || image.get::<DataSource>(&key.source).is_some_and(|s| s.project == project)
                })
        };
        let mut sum = Amounts::default();
        let book = self.usage();
        let rows =
            book.rows.iter().filter(|(k, (kind, _))| *kind == query.kind && k.hour <= now && is_asked(k));
        for (_, (_, amounts)) in rows.filter(|(k, _)| k.hour >= since) {
            sum.add(*amounts);
        }
        sum
    }

    /// Sums may be gone from the file: all of them are written down the next time.
    pub(crate) fn save_all_use(&self) {
        let mut book = self.usage();
        let UsageBook { rows, changed } = &mut *book;
        changed.extend(rows.keys().copied());
        drop(book);
        self.image().grants.values().flatten().for_each(|grant| grant.mark_unsaved());
    }

    /// Writes down what was counted since the last time, and brings the copy of the file up to date. To be
    /// called about once a minute, and before the end.
    pub fn save_usage(&self) -> Result<(), Error> {
        let rows: Vec<(UsageKey, Option<UsageRow>)> = {
            let mut book = self.usage();
            book.fold(hour_of(self.now_ms()));
            let changed = std::mem::take(&mut book.changed);
            let row = |key: UsageKey| {
                let found = book.rows.get(&key);
                (key, found.map(|(kind, amounts)| UsageRow { key, kind: *kind, amounts: *amounts }))
            };
            changed.into_iter().map(row).collect()
        };
        let mut used = Vec::new();
        let saved = self.quietly(|draft| {
            for (key, row) in &rows {
                match row {
                    Some(row) => draft.keep(row),
                    None => draft.forget::<UsageRow>(key),
                }
            }
            for grant in draft.image().clone().grants.values().flatten() {
                let total = grant.total_use();
                if grant.take_unsaved() {
                    draft.keep(&TokenUseRow { token: grant.token(), total });
                    used.push(Arc::clone(grant));
                }
            }
        });
        if saved.is_err() {
            self.usage().changed.extend(rows.iter().map(|(key, _)| *key));
            used.iter().for_each(|grant| grant.mark_unsaved());
        }
        self.renew_copy();
        saved
    }
}

// ---- on the disk ----

#[derive(Clone, PartialEq, Message)]
pub(crate) struct UsageMessage {
    #[prost(bytes = "vec", tag = "1")]
    source: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    project: Vec<u8>,
    #[prost(uint32, tag = "3")]
    hour: u32,
    #[prost(string, tag = "4")]
    kind: String,
    #[prost(uint64, tag = "5")]
    samples: u64,
    #[prost(uint64, tag = "6")]
    entries: u64,
    #[prost(uint64, tag = "7")]
    bytes: u64,
    #[prost(uint64, tag = "8")]
    series: u64,
    #[prost(uint64, tag = "9")]
    streams: u64,
}

impl Key for UsageKey {
    fn text(&self) -> String {
        format!("{}/{}/{:010}", self.source, self.project, self.hour)
    }
}

impl Row for UsageRow {
    const TABLE: &'static str = "usage";
    type Key = UsageKey;
    type Message = UsageMessage;

    fn key(&self) -> UsageKey {
        self.key
    }

    fn to_message(&self) -> UsageMessage {
        let UsageKey { source, project, hour } = self.key;
        let Amounts { samples, entries, bytes, series, streams } = self.amounts;
        let kind = self.kind.as_str().to_owned();
        UsageMessage {
            source: source.to_bytes(),
            project: project.to_bytes(),
            hour,
            kind,
            samples,
            entries,
            bytes,
            series,
            streams,
        }
    }

    fn from_message(m: UsageMessage) -> Option<Self> {
        let (source, project) = (SourceId::from_bytes(&m.source)?, ProjectId::from_bytes(&m.project)?);
        let UsageMessage { samples, entries, bytes, series, streams, .. } = m;
        let amounts = Amounts { samples, entries, bytes, series, streams };
        Some(Self { key: UsageKey { source, project, hour: m.hour }, kind: m.kind.parse().ok()?, amounts })
    }
}
