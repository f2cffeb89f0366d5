//! What a plan knows beforehand of the labels that parsing is for, so that parsers leave out the
//! rest, stop early, and give up a line as soon as a filter behind them must refuse it.

use crate::entry::{ERROR, Entry};
use crate::label_filter::Filter;
use crate::names::{Names, Sym};

#[derive(Debug, Default)]
pub(crate) struct Hints {
    /// Parsing has no purpose at all.
    pub(crate) nothing: bool,
    /// Only these labels matter; empty: all do.
    required: Vec<Sym>,
    required_names: Vec<String>,
    /// Errors were asked for by name, so that they do not fail a metric query.
    pub(crate) preserve_error: bool,
}

/// Labels that a metric query looks at.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// By stages and unwrap.
    pub(crate) referenced: Vec<String>,
    pub(crate) groups: Vec<String>,
    pub(crate) without: bool,
    /// The result has no labels.
    pub(crate) no_labels: bool,
}

impl Wanted {
    /// Whether parsers may give up a line for what filters say (see [`Checks`]).
    pub(crate) fn allows_checks(&self) -> bool {
        self.no_labels || self.without || self.groups.is_empty()
    }
}

/// What a parser is told of the query it runs in.
#[derive(Clone, Copy)]
pub(crate) struct Parsing<'p> {
    pub(crate) hints: &'p Hints,
    pub(crate) checks: Option<&'p Checks>,
}

impl Parsing<'_> {
    /// Whether the line may go on now that a label has been set.
    #[inline]
    pub(crate) fn goes_on(&self, sym: Sym, entry: &mut Entry<'_>) -> bool {
        self.checks.is_none_or(|checks| checks.pass(sym, entry))
    }
}

impl Hints {
    /// For a metric query, as Loki's `NewParserHint`: a list of labels is possible only where
    /// the result keeps given labels, or none.
    pub(crate) fn new(wanted: &Wanted, names: &mut Names) -> Self {
        let mut all: Vec<String> = Vec::new();
        for name in wanted.referenced.iter().chain(&wanted.groups) {
            // A label may be in the way of a stream label only by the time it is parsed, so both
            // its names are wanted.
            for name in [Some(name.as_str()), name.strip_suffix("_extracted")].into_iter().flatten() {
                if !name.is_empty() && !all.iter().any(|n| n == name) {
                    all.push(name.to_owned());
                }
            }
        }
        let limited = match wanted.no_labels {
            true if all.is_empty() => return Self { nothing: true, ..Self::default() },
            true => true,
            false => !wanted.without && !wanted.groups.is_empty(),
        };
        if !limited {
            return Self::default();
        }
        let preserve_error = all.iter().any(|n| n == ERROR);
        let required = all.iter().map(|n| names.sym(n)).collect();
        Self { nothing: false, required, required_names: all, preserve_error }
    }

    /// The names that matter, where not all do.
    pub(crate) fn names(&self) -> Option<&[String]> {
        (!self.required.is_empty()).then_some(&self.required_names)
    }

    #[inline]
    pub(crate) fn wants(&self, sym: Sym) -> bool {
        self.required.is_empty() || self.required.contains(&sym)
    }

    /// Whether a label is wanted by the name it has where its plain one is taken.
    pub(crate) fn wants_extracted(&self, name: &str) -> bool {
        let matches = |wanted: &String| wanted.strip_suffix("_extracted") == Some(name);
        self.required.is_empty() || self.required_names.iter().any(matches)
    }

    /// Whether some wanted label may lie below a nested key.
    pub(crate) fn wants_below(&self, prefix: &str) -> bool {
        self.required.is_empty() || self.required_names.iter().any(|name| name.starts_with(prefix))
    }

    /// Whether a parser need not run for this entry.
    #[inline]
    pub(crate) fn is_satisfied(&self, entry: &Entry<'_>) -> bool {
        self.nothing || (!self.required.is_empty() && entry.required_found as usize >= self.required.len())
    }

    /// Counts a label that was parsed for the first time.
    #[inline]
    pub(crate) fn found(&self, entry: &mut Entry<'_>, sym: Sym) {
        if !self.required.is_empty() && self.required.contains(&sym) {
            entry.required_found += 1;
        }
    }
}

/// Filters that look at one label, of the whole pipeline wherever they stand: when a parser sets
/// that label to something its filter refuses, the line is lost there and then. As in Loki, what
/// stands between does not matter, nor does a filter in front of the parser that has passed the
/// line for want of the label; of several filters of one label the first is asked.
#[derive(Debug, Default)]
pub(crate) struct Checks(Vec<(Sym, Filter)>);

impl Checks {
    pub(crate) fn add(&mut self, filter: &Filter) {
        if let Some(sym) = filter.single_label()
            && self.of(sym).is_none()
        {
            self.0.push((sym, filter.clone()));
        }
    }

    fn of(&self, sym: Sym) -> Option<&Filter> {
        self.0.iter().find(|(s, _)| *s == sym).map(|(_, filter)| filter)
    }

    #[inline]
    pub(crate) fn pass(&self, sym: Sym, entry: &mut Entry<'_>) -> bool {
        self.0.is_empty() || self.of(sym).is_none_or(|filter| filter.keeps(entry))
    }
}
