//! Compiled expressions, with shorter ways for those that are no more than a few texts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use regex_automata::meta;
use regex_syntax::hir::{Hir, Look};

use super::cache;
use super::re2::{self, Groups};
use super::shape::{self, Gap, Shape};
use super::syntax_error::{SyntaxError, SyntaxErrorKind};
use crate::limits::Limits;

/// How large one compiled expression may get; 0 until it is set.
static MAX_COMPILED_BYTES: AtomicU64 = AtomicU64::new(0);

/// Sets [`Limits::max_regex_bytes`] for the whole process; holds for what is compiled later. It is
/// no argument of [`Pattern::new`], since expressions are compiled wherever a selector is read.
pub fn set_max_compiled_bytes(bytes: u64) {
    MAX_COMPILED_BYTES.store(bytes, Relaxed);
}

/// Where in a text an expression has to match, and whether its `.` stands for line feeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Anchoring {
    /// The whole text, and `.` is any character: matchers of labels, relabelling, PromQL.
    Whole,
    /// The whole text, and `.` is no line feed: Loki's `label_replace`.
    WholeLine,
    /// Any part of the text, and `.` is no line feed, as Go has it by default: filters and parsers
    /// of lines, templates, what answers to probes are held against.
    Part,
}

/// An expression in RE2 syntax that is asked whether it matches.
///
/// Where an expression means one of a few texts, with or without anything around them, no
/// automaton is built.
#[derive(Debug, Clone)]
pub struct Pattern(Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    shape: Shape,
    regex: Option<meta::Regex>,
}

impl Inner {
    /// What it takes in memory, but for small change.
    pub(super) fn bytes(&self) -> usize {
        self.regex.as_ref().map_or(0, meta::Regex::memory_usage) + self.shape.bytes()
    }
}

impl Pattern {
    /// Reads and compiles an expression; recent ones are shared within the process.
    pub fn new(text: &str, anchoring: Anchoring) -> Result<Self, SyntaxError> {
        if let Some(known) = cache::get(text, anchoring) {
            return Ok(Self(known));
        }
        let inner = Arc::new(compile(text, anchoring)?);
        cache::put(text, anchoring, &inner);
        Ok(Self(inner))
    }

    pub fn is_match(&self, text: &str) -> bool {
        match (&self.0.shape, &self.0.regex) {
            (Shape::Other { prefix }, Some(regex)) => text.starts_with(prefix) && regex.is_match(text),
            (shape, _) => shape.is_match(text),
        }
    }

    /// The texts that match, sorted, where these are all; an index looks them up one by one.
    pub fn set_matches(&self) -> Option<&[String]> {
        match &self.0.shape {
            Shape::Texts { before: Gap::Nothing, after: Gap::Nothing, texts } => Some(texts),
            _ => None,
        }
    }

    /// What every text that matches begins with; empty where nothing is known.
    pub fn prefix(&self) -> &str {
        match &self.0.shape {
            Shape::Other { prefix } => prefix,
            Shape::Texts { before: Gap::Nothing, texts, .. } => common_prefix(texts),
            _ => "",
        }
    }

    /// What the compiled expression takes in memory, but for small change.
    pub fn bytes(&self) -> usize {
        self.0.bytes()
    }
}

fn compile(text: &str, anchoring: Anchoring) -> Result<Inner, SyntaxError> {
    let hir = read(text, anchoring, Groups::Ignore)?.hir;
    let shape = shape::of(&hir, anchoring);
    let regex = match shape {
        Shape::Other { .. } => Some(build(hir, anchoring, text)?),
        _ => None,
    };
    Ok(Inner { shape, regex })
}

/// What is wrong with an expression, told as programs do that put `^(?:` and `)$` around it before
/// they read it: the message shows that. `None` of one that is right.
pub fn fault_when_anchored(text: &str) -> Option<SyntaxError> {
    compile(&format!("^(?:{text})$"), Anchoring::Part).err()
}

pub(super) fn read(text: &str, anchoring: Anchoring, groups: Groups) -> Result<re2::Expression, SyntaxError> {
    match anchoring {
        Anchoring::Whole => re2::parse(text, groups),
        Anchoring::WholeLine | Anchoring::Part => re2::parse_line(text, groups),
    }
}

/// Compiles an expression within [`Limits::max_regex_bytes`]; `text` is what it was read from.
pub(super) fn build(hir: Hir, anchoring: Anchoring, text: &str) -> Result<meta::Regex, SyntaxError> {
    let hir = match anchoring {
        Anchoring::Whole | Anchoring::WholeLine => {
            Hir::concat(vec![Hir::look(Look::Start), hir, Hir::look(Look::End)])
        }
        Anchoring::Part => hir,
    };
    let limit = match MAX_COMPILED_BYTES.load(Relaxed) {
        0 => Limits::default().max_regex_bytes,
        set => set,
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let config = meta::Config::new().nfa_size_limit(Some(limit)).hybrid_cache_capacity(2 << 20);
    meta::Builder::new()
        .configure(config)
        .build_from_hir(&hir)
        .map_err(|_| SyntaxError::new(SyntaxErrorKind::TooLarge, text))
}

fn common_prefix(sorted: &[String]) -> &str {
    let (Some(first), Some(last)) = (sorted.first(), sorted.last()) else { return "" };
    let same = first.char_indices().zip(last.chars()).find(|((_, a), b)| a != b);
    let end = same.map_or(first.len().min(last.len()), |((at, _), _)| at);
    first.get(..end).unwrap_or("")
}
