//! Where the decoders put streams and entries: what is added on the way in is added here, and
//! what is refused is written down.

use pilothouse_model::Labels;
use pilothouse_model::limits::Limits;
use pilothouse_model::log_ports::{EntryReason, EntryRejection};
use pilothouse_model::write::Appended;

use super::LogDecoded;
use super::enrich::{DETECTED_LEVEL, Enricher};
pub(crate) use super::label_text::StreamStart;
use super::level::{Level, Named};
use super::metadata::{Metadata, Sets};
use crate::DecodeError;
use crate::decoded::Quota;

pub(crate) struct Intake<'e> {
    pub(crate) enricher: &'e Enricher,
    /// The metadata of the next entry; empty again after it.
    pub(crate) metadata: Metadata,
    pub(crate) quota: Quota,
    decoded: LogDecoded,
    max_metadata: u64,
    max_metadata_bytes: u64,
    stream: Stream,
    sets: Sets,
    /// For each level the set that holds it alone.
    alone: [Option<Labels>; Level::COUNT],
}

/// The stream at hand.
#[derive(Default)]
struct Stream {
    labels: Labels,
    refused: Option<EntryReason>,
    /// The level that its labels name, and the set that holds it alone.
    level: Option<(String, Labels)>,
    /// Whether the batch has it; one without entries never gets there.
    begun: bool,
}

impl<'e> Intake<'e> {
    pub(crate) fn new(enricher: &'e Enricher, limits: &Limits) -> Self {
        Self {
            enricher,
            metadata: Metadata::default(),
            quota: Quota::new(limits),
            decoded: LogDecoded::default(),
            max_metadata: unlimited(limits.max_entry_metadata_pairs),
            max_metadata_bytes: unlimited(limits.max_entry_metadata_bytes),
            stream: Stream::default(),
            sets: Sets::default(),
            alone: Default::default(),
        }
    }

    /// Room for the lines of a body of so many bytes.
    pub(crate) fn reserve(&mut self, body_bytes: usize) {
        self.decoded.batch.text.reserve(body_bytes);
        self.decoded.batch.entries.reserve(body_bytes / 512);
    }

    pub(crate) fn finish(self) -> LogDecoded {
        self.decoded
    }

    /// Entries from now on are of this stream.
    pub(crate) fn begin_stream(&mut self, start: StreamStart) -> Result<(), DecodeError> {
        self.quota.take_series()?;
        self.decoded.streams += 1;
        let level = self.enricher.level_in(start.labels.iter()).map(|named| {
            let text = named.as_str().to_owned();
            let set = Labels::from_sorted([(DETECTED_LEVEL, named.as_str())]);
            (text, set)
        });
        self.stream = Stream { labels: start.labels, refused: start.refused, level, begun: false };
        Ok(())
    }

    /// An entry of the stream at hand, with the metadata that was put there before.
    pub(crate) fn entry(&mut self, t_ns: i64, line: &str) -> Result<(), DecodeError> {
        self.quota.take_samples(1 + self.metadata.sent_pairs() as usize)?;
        // OTLP says the attributes of a resource once for all of its records.
        self.quota.take_bytes(self.metadata.sent_bytes() as usize)?;
        if let Some(reason) = self.refusal() {
            self.refuse(reason);
            return Ok(());
        }
        let set = self.metadata_set(line);
        self.metadata.clear();
        let batch = &mut self.decoded.batch;
        if !self.stream.begun {
            batch.begin_stream(self.stream.labels.clone());
            self.stream.begun = true;
        }
        if batch.push(t_ns, line, set) {
            return Ok(());
        }
        Err(DecodeError::TooMany { what: "bytes of lines", limit: u64::from(u32::MAX) })
    }

    /// Refuses an entry of the stream at hand.
    pub(crate) fn refuse(&mut self, reason: EntryReason) {
        self.metadata.clear();
        self.decoded.rejected += 1;
        if self.decoded.rejections.len() < Appended::MAX_REJECTIONS {
            self.decoded.rejections.push(EntryRejection { reason, labels: self.stream.labels.clone() });
        }
    }

    fn refusal(&self) -> Option<EntryReason> {
        if let Some(reason) = &self.stream.refused {
            return Some(reason.clone());
        }
        let (bytes, pairs) = (self.metadata.sent_bytes(), self.metadata.sent_pairs());
        if bytes > self.max_metadata_bytes {
            return Some(EntryReason::MetadataTooLarge { bytes, limit: self.max_metadata_bytes });
        }
        (pairs > self.max_metadata)
            .then_some(EntryReason::TooMuchMetadata { actual: pairs, limit: self.max_metadata })
    }

    /// The metadata of an entry with its level.
    fn metadata_set(&mut self, line: &str) -> Labels {
        self.metadata.seal();
        if !self.enricher.detects_levels() {
            return self.sets.of(self.metadata.iter());
        }
        if self.metadata.is_empty() {
            return match &self.stream.level {
                Some((_, set)) => set.clone(),
                None => self.level_alone(self.enricher.line_level(line)),
            };
        }
        let given = self.metadata.iter().find(|(name, _)| *name == DETECTED_LEVEL);
        match (given, &self.stream.level) {
            (None, Some((word, _))) => self.metadata.set(DETECTED_LEVEL, word),
            (given, _) => {
                let of_entry = || self.enricher.entry_level(self.metadata.iter(), line);
                match given.map_or_else(of_entry, |(_, word)| Named::of(word)) {
                    Named::Level(level) => self.metadata.set(DETECTED_LEVEL, level.as_str()),
                    Named::Word(word) => {
                        let word = word.to_owned();
                        self.metadata.set(DETECTED_LEVEL, &word);
                    }
                }
            }
        }
        self.metadata.seal();
        self.sets.of(self.metadata.iter())
    }

    fn level_alone(&mut self, level: Level) -> Labels {
        let set = &mut self.alone[level as usize];
        set.get_or_insert_with(|| Labels::from_sorted([(DETECTED_LEVEL, level.as_str())])).clone()
    }
}

/// A limit of 0 is none.
fn unlimited(limit: u64) -> u64 {
    if limit == 0 { u64::MAX } else { limit }
}
