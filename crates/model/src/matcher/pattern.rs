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

/// Where in a text an expression has to match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Anchoring {
    /// The whole text, as matchers of labels do.
    Whole,
    /// Any part of it, as line filters do.
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

    /// Whether every text matches.
    pub fn matches_all(&self) -> bool {
        matches!(self.0.shape, Shape::Any(Gap::Anything))
    }
}

fn compile(text: &str, anchoring: Anchoring) -> Result<Inner, SyntaxError> {
    let hir = re2::parse(text, Groups::Ignore)?.hir;
    let shape = shape::of(&hir, anchoring);
    let regex = match shape {
        Shape::Other { .. } => Some(build(&anchored(hir, anchoring), text)?),
        _ => None,
    };
    Ok(Inner { shape, regex })
}

fn anchored(hir: Hir, anchoring: Anchoring) -> Hir {
    match anchoring {
        Anchoring::Whole => Hir::concat(vec![Hir::look(Look::Start), hir, Hir::look(Look::End)]),
        Anchoring::Part => hir,
    }
}

/// Compiles an expression within [`Limits::max_regex_bytes`]; `text` is what it was read from.
pub fn build(hir: &Hir, text: &str) -> Result<meta::Regex, SyntaxError> {
    let limit = match MAX_COMPILED_BYTES.load(Relaxed) {
        0 => Limits::default().max_regex_bytes,
        set => set,
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let config = meta::Config::new().nfa_size_limit(Some(limit)).hybrid_cache_capacity(2 << 20);
    meta::Builder::new()
        .configure(config)
        .build_from_hir(hir)
        .map_err(|_| SyntaxError::new(SyntaxErrorKind::TooLarge, text))
}

fn common_prefix(sorted: &[String]) -> &str {
    let (Some(first), Some(last)) = (sorted.first(), sorted.last()) else { return "" };
    let same = first.char_indices().zip(last.chars()).find(|((_, a), b)| a != b);
    let end = same.map_or(first.len().min(last.len()), |((at, _), _)| at);
    first.get(..end).unwrap_or("")
}

/// An expression in RE2 syntax that matches whole texts and is asked for what its groups
/// captured, as `label_replace` does.
#[derive(Debug, Clone)]
pub struct CapturingPattern {
    regex: meta::Regex,
    names: Vec<Option<String>>,
}

impl CapturingPattern {
    pub fn new(text: &str, anchoring: Anchoring) -> Result<Self, SyntaxError> {
        let expression = re2::parse(text, Groups::Capture)?;
        let regex = build(&anchored(expression.hir, anchoring), text)?;
        Ok(Self { regex, names: expression.names })
    }

    /// The name of each group, the whole match as number 0 included; names may repeat.
    pub fn names(&self) -> &[Option<String>] {
        &self.names
    }

    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// What each group captured of the first match, the whole match as number 0 included;
    /// `None` if the expression does not match.
    pub fn captures<'t>(&self, text: &'t str) -> Option<Vec<Option<&'t str>>> {
        let mut found = self.regex.create_captures();
        self.regex.captures(text, &mut found);
        let part = |i| found.get_group(i).and_then(|span| text.get(span.start..span.end));
        found.is_match().then(|| (0..self.names.len()).map(part).collect())
    }

    /// `template` with `$1`, `${1}`, `$name` and `${name}` replaced by what the groups captured
    /// of `text`, as Go's `Regexp.Expand`; `None` if the expression does not match.
    pub fn expand(&self, text: &str, template: &str) -> Option<String> {
        let captures = self.captures(text)?;
        let mut out = String::with_capacity(template.len() + text.len());
        expand_template(template, &self.names, &captures, &mut out);
        Some(out)
    }
}

/// Appends `template` with its variables replaced by captures, as Go's `Regexp.Expand`. `names`
/// and `captures` count the whole match as number 0.
pub fn expand_template(
    template: &str,
    names: &[Option<String>],
    captures: &[Option<&str>],
    out: &mut String,
) {
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        rest = match variable(after) {
            _ if after.starts_with('$') => {
                out.push('$');
                &after[1..]
            }
            Some((name, length)) => {
                out.push_str(value_of(name, names, captures));
                after.get(length..).unwrap_or("")
            }
            None => {
                out.push('$');
                after
            }
        };
    }
    out.push_str(rest);
}

/// What a group captured, by number or by name; of several with one name the first that
/// captured anything.
fn value_of<'t>(name: &str, names: &[Option<String>], captures: &[Option<&'t str>]) -> &'t str {
    let numeric = name.bytes().all(|b| b.is_ascii_digit()) && (name == "0" || !name.starts_with('0'));
    if numeric {
        return name.parse().ok().and_then(|i: usize| *captures.get(i)?).unwrap_or("");
    }
    let of_name = names.iter().zip(captures).filter(|(n, _)| n.as_deref() == Some(name));
    of_name.into_iter().find_map(|(_, captured)| *captured).unwrap_or("")
}

/// The variable at the begin of a text, and how many bytes it takes.
fn variable(text: &str) -> Option<(&str, usize)> {
    let (inner, braced) = match text.strip_prefix('{') {
        Some(inner) => (inner, true),
        None => (text, false),
    };
    let end = inner.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(inner.len());
    let closed = !braced || inner[end..].starts_with('}');
    (end > 0 && closed).then(|| (&inner[..end], end + 2 * usize::from(braced)))
}
