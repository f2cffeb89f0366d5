//! One entry on its way through a pipeline: its line, and its labels in three layers.

use bumpalo::Bump;
use bumpalo::collections::Vec as BumpVec;
use pilothouse_model::Labels;
use pilothouse_model::limits::LOG_ENTRY_BYTES;

use crate::names::{Names, Sym};

pub(crate) const ERROR: &str = "__error__";
pub(crate) const ERROR_DETAILS: &str = "__error_details__";
pub(crate) const PRESERVE_ERROR: &str = "__preserve_error__";

/// The names that every plan interns first, in this order.
pub(crate) const WELL_KNOWN: [&str; 3] = [ERROR, ERROR_DETAILS, PRESERVE_ERROR];
pub(crate) const ERROR_SYM: Sym = 0;
pub(crate) const ERROR_DETAILS_SYM: Sym = 1;
pub(crate) const PRESERVE_ERROR_SYM: Sym = 2;

pub(crate) const JSON_ERROR: &str = "JSONParserErr";
pub(crate) const LOGFMT_ERROR: &str = "LogfmtParserErr";
pub(crate) const SAMPLE_ERROR: &str = "SampleExtractionErr";
pub(crate) const FILTER_ERROR: &str = "LabelFilterErr";
pub(crate) const TEMPLATE_ERROR: &str = "TemplateFormatErr";

/// The labels of a stream, looked up by name.
#[derive(Debug)]
pub(crate) struct Base {
    pairs: Vec<(Sym, String)>,
}

impl Base {
    pub(crate) fn new(labels: &Labels, names: &mut Names) -> Self {
        let pairs = labels.iter().map(|(name, value)| (names.sym(name), value.to_owned())).collect();
        Self { pairs }
    }

    #[inline]
    pub(crate) fn has(&self, sym: Sym) -> bool {
        self.pairs.iter().any(|(s, _)| *s == sym)
    }

    fn get(&self, sym: Sym) -> Option<&str> {
        self.pairs.iter().find(|(s, _)| *s == sym).map(|(_, v)| v.as_str())
    }

    /// Metadata as it is seen beside this stream: a pair whose name the stream has as a label is
    /// called `…_extracted`.
    pub(crate) fn beside<'a>(&self, metadata: &'a Labels, names: &mut Names) -> Vec<(Sym, &'a str)> {
        metadata
            .iter()
            .map(|(name, value)| {
                let sym = names.sym(name);
                (if self.has(sym) { names.extracted(sym) } else { sym }, value)
            })
            .collect()
    }
}

/// Which layer a label of a result belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layer {
    Stream,
    Metadata,
    Parsed,
}

pub(crate) struct Entry<'a> {
    pub(crate) t_ns: i64,
    pub(crate) line: &'a str,
    pub(crate) arena: &'a Bump,
    pub(crate) base: &'a Base,
    metadata: &'a [(Sym, &'a str)],
    parsed: BumpVec<'a, (Sym, &'a str)>,
    /// Metadata that a parsed label covers or a stage removed.
    gone_metadata: BumpVec<'a, Sym>,
    deleted: BumpVec<'a, Sym>,
    /// Parsed labels that were removed again: no later parser brings them back.
    once_parsed: BumpVec<'a, Sym>,
    pub(crate) error: Option<&'a str>,
    pub(crate) error_details: Option<&'a str>,
    /// How many of the labels a plan requires have been parsed.
    pub(crate) required_found: u32,
}

impl<'a> Entry<'a> {
    pub(crate) fn new(
        t_ns: i64,
        line: &'a str,
        base: &'a Base,
        metadata: &'a [(Sym, &'a str)],
        arena: &'a Bump,
    ) -> Self {
        let mut entry = Self {
            t_ns,
            line,
            arena,
            base,
            metadata,
            parsed: BumpVec::new_in(arena),
            gone_metadata: BumpVec::new_in(arena),
            deleted: BumpVec::new_in(arena),
            once_parsed: BumpVec::new_in(arena),
            error: None,
            error_details: None,
            required_found: 0,
        };
        for (sym, value) in metadata {
            match *sym {
                ERROR_SYM => entry.error = Some(value),
                ERROR_DETAILS_SYM => entry.error_details = Some(value),
                _ => continue,
            }
            entry.gone_metadata.push(*sym);
        }
        entry
    }

    pub(crate) fn reserve_parsed(&mut self, n: usize) {
        self.parsed.reserve(n);
    }

    #[inline]
    fn in_metadata(&self, sym: Sym) -> Option<&'a str> {
        let (_, value) = self.metadata.iter().find(|(s, _)| *s == sym)?;
        (!self.gone_metadata.contains(&sym)).then_some(*value)
    }

    /// Whether a parsed label of this name must be called `…_extracted`.
    #[inline]
    pub(crate) fn is_taken(&self, sym: Sym) -> bool {
        self.base.has(sym) || (!self.metadata.is_empty() && self.in_metadata(sym).is_some())
    }

    /// Whether some parser has set this label before.
    #[inline]
    pub(crate) fn was_parsed(&self, sym: Sym) -> bool {
        self.parsed.iter().any(|(s, _)| *s == sym)
            || (!self.once_parsed.is_empty() && self.once_parsed.contains(&sym))
    }

    #[inline]
    pub(crate) fn get(&self, sym: Sym) -> Option<&'a str> {
        if !self.metadata.is_empty()
            && let Some(value) = self.in_metadata(sym)
        {
            return Some(value);
        }
        if let Some((_, value)) = self.parsed.iter().find(|(s, _)| *s == sym) {
            return Some(value);
        }
        if !self.deleted.is_empty() && self.deleted.contains(&sym) {
            return None;
        }
        self.base.get(sym)
    }

    /// The value a label filter compares: `__error__` is known to it, a missing label is empty.
    pub(crate) fn filter_value(&self, sym: Sym) -> &'a str {
        if sym == ERROR_SYM {
            return self.error.unwrap_or("");
        }
        self.get(sym).unwrap_or("")
    }

    pub(crate) fn set(&mut self, sym: Sym, value: &'a str) {
        if !self.metadata.is_empty() && self.in_metadata(sym).is_some() {
            self.gone_metadata.push(sym);
        }
        match self.parsed.iter_mut().find(|(s, _)| *s == sym) {
            Some(slot) => slot.1 = value,
            None => self.parsed.push((sym, value)),
        }
    }

    /// Sets a label that is known not to be parsed yet and not to be in the metadata.
    #[inline]
    pub(crate) fn push_parsed(&mut self, sym: Sym, value: &'a str) {
        self.parsed.push((sym, value));
    }

    pub(crate) fn parsed_len(&self) -> usize {
        self.parsed.len()
    }

    /// Takes back the labels pushed since the parsed labels were `len`.
    pub(crate) fn rollback_parsed(&mut self, len: usize) {
        self.parsed.truncate(len);
    }

    pub(crate) fn delete(&mut self, sym: Sym) {
        if self.in_metadata(sym).is_some() {
            self.gone_metadata.push(sym);
        }
        if let Some(at) = self.parsed.iter().position(|(s, _)| *s == sym) {
            self.parsed.remove(at);
            self.once_parsed.push(sym);
        }
        self.deleted.push(sym);
    }

    /// Notes a failed filter or conversion, unless something failed before.
    pub(crate) fn fail_softly(&mut self, error: &'static str, details: &str) {
        if self.error.is_none() {
            self.fail(error, Some(details));
        }
    }

    /// Whether stages may make so much more text of this entry.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        self.arena.allocated_bytes().saturating_add(bytes) <= LOG_ENTRY_BYTES
    }

    pub(crate) fn fail(&mut self, error: &'static str, details: Option<&str>) {
        self.error = Some(error);
        if let Some(details) = details {
            self.error_details = Some(self.arena.alloc_str(details));
        }
    }

    pub(crate) fn is_deleted(&self, sym: Sym) -> bool {
        self.deleted.contains(&sym)
    }

    /// Every label there is, in no order: stream, metadata, parsed, errors.
    pub(crate) fn each_label(&self, mut each: impl FnMut(Layer, Sym, &'a str)) {
        for (sym, value) in &self.base.pairs {
            let covered = self.deleted.contains(sym) || self.parsed.iter().any(|(s, _)| s == sym);
            if !covered {
                each(Layer::Stream, *sym, value);
            }
        }
        for (sym, value) in self.metadata {
            if !self.gone_metadata.contains(sym) {
                each(Layer::Metadata, *sym, value);
            }
        }
        for (sym, value) in &self.parsed {
            // A line may bring labels of these names; what went wrong here goes first.
            let covered = match *sym {
                ERROR_SYM => self.error.is_some(),
                ERROR_DETAILS_SYM => self.error_details.is_some(),
                _ => false,
            };
            if !covered {
                each(Layer::Parsed, *sym, value);
            }
        }
        if let Some(error) = self.error {
            each(Layer::Parsed, ERROR_SYM, error);
        }
        if let Some(details) = self.error_details {
            each(Layer::Parsed, ERROR_DETAILS_SYM, details);
        }
    }
}
