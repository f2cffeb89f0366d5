//! Matchers with anchored regexes, as Prometheus' `labels.Matcher`.
//!
//! [`re2`] reads expressions, [`pattern`] compiles them and finds shorter ways for the simple
//! ones. What is read as text elsewhere (line filters, `label_replace`, templates, probes) uses
//! [`Pattern`] and [`CapturingPattern`] directly.

mod cache;
mod capturing;
pub mod pattern;
pub mod re2;
mod re2_classes;
mod shape;
mod syntax_error;
#[cfg(test)]
mod tests;

use std::fmt;

pub use capturing::CapturingPattern;
pub use pattern::{Anchoring, Pattern, fault_when_anchored};
pub use syntax_error::{SyntaxError as RegexError, SyntaxErrorKind as RegexErrorKind};

use crate::labels::{is_legacy_label_name, quote};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MatchOp {
    Equal,
    NotEqual,
    Regex,
    NotRegex,
}

impl fmt::Display for MatchOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Regex => "=~",
            Self::NotRegex => "!~",
        })
    }
}

/// A condition on one label. A label that is not there is the empty text.
#[derive(Clone)]
pub struct Matcher {
    pub name: String,
    pub op: MatchOp,
    pub value: String,
    pattern: Option<Pattern>,
}

impl Matcher {
    /// An expression has to match the whole value, line feeds included.
    pub fn new(op: MatchOp, name: impl Into<String>, value: impl Into<String>) -> Result<Self, RegexError> {
        let value = value.into();
        let pattern = match op {
            MatchOp::Regex | MatchOp::NotRegex => Some(Pattern::new(&value, Anchoring::Whole)?),
            MatchOp::Equal | MatchOp::NotEqual => None,
        };
        Ok(Self { name: name.into(), op, value, pattern })
    }

    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), op: MatchOp::Equal, value: value.into(), pattern: None }
    }

    #[inline]
    pub fn matches(&self, value: &str) -> bool {
        match self.op {
            MatchOp::Equal => self.value == value,
            MatchOp::NotEqual => self.value != value,
            MatchOp::Regex => self.pattern.as_ref().is_some_and(|p| p.is_match(value)),
            MatchOp::NotRegex => self.pattern.as_ref().is_some_and(|p| !p.is_match(value)),
        }
    }

    pub fn matches_empty(&self) -> bool {
        self.matches("")
    }

    /// Whether the matcher excludes what its value or expression names.
    pub fn is_negative(&self) -> bool {
        matches!(self.op, MatchOp::NotEqual | MatchOp::NotRegex)
    }

    /// The values that the expression stands for, sorted, where these are all. A negative matcher
    /// excludes them. `None` of matchers without an expression.
    pub fn set_matches(&self) -> Option<&[String]> {
        self.pattern.as_ref()?.set_matches()
    }

    /// What every value begins with that the expression stands for; empty where nothing is known.
    pub fn prefix(&self) -> &str {
        self.pattern.as_ref().map_or("", Pattern::prefix)
    }

    /// The expression, of a matcher that has one.
    pub fn pattern(&self) -> Option<&Pattern> {
        self.pattern.as_ref()
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.op, &self.value) == (&other.name, other.op, &other.value)
    }
}

impl Eq for Matcher {}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_legacy_label_name(&self.name) {
            f.write_str(&self.name)?
        } else {
            f.write_str(&quote(&self.name))?
        }
        write!(f, "{}{}", self.op, quote(&self.value))
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
