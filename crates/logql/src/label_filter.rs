//! Filters on labels, of every type.

use pilothouse_model::matcher::{Anchoring, CapturingPattern};
use pilothouse_model::{MatchOp, Matcher};
use pilothouse_query::units::{format_bytes, parse_bytes, parse_go_duration};

use crate::entry::{Entry, FILTER_ERROR};
use crate::ip::IpFilter;
use crate::names::{Names, Sym};
use crate::simplify::{Over, Plain};
use crate::syntax::{Compare, LabelFilter};

#[derive(Debug, Clone)]
pub(crate) enum Filter {
    /// Passes everything, as `x=~".*"` and `x=~""` do.
    Always,
    Text(Sym, TextTest),
    Number(Sym, Compare, f64),
    Duration(Sym, Compare, i64),
    Bytes(Sym, Compare, u64),
    /// Without a pattern, nothing passes (see [`Filter::lenient`]).
    Ip(Sym, bool, Option<IpFilter>),
    And(Box<Filter>, Box<Filter>),
    Or(Box<Filter>, Box<Filter>),
}

impl Filter {
    pub(crate) fn new(filter: &LabelFilter, names: &mut Names) -> Result<Self, String> {
        Ok(match filter {
            LabelFilter::Text(matcher) if passes_all(matcher) => Self::Always,
            LabelFilter::Text(matcher) => Self::Text(names.sym(&matcher.name), TextTest::new(matcher)?),
            LabelFilter::Number { label, compare, value } => Self::Number(names.sym(label), *compare, *value),
            LabelFilter::Duration { label, compare, value_ns } => {
                Self::Duration(names.sym(label), *compare, *value_ns)
            }
            // Loki compares with what the filter prints as: 20KiB becomes 20kB on its way.
            LabelFilter::Bytes { label, compare, value } => {
                let printed = parse_bytes(&format_bytes(*value)).unwrap_or(*value);
                Self::Bytes(names.sym(label), *compare, printed)
            }
            LabelFilter::Ip { label, negated, pattern } => {
                Self::Ip(names.sym(label), *negated, Some(IpFilter::new(pattern)?))
            }
            LabelFilter::And(left, right) => {
                Self::And(Box::new(Self::lenient(left, names)?), Box::new(Self::lenient(right, names)?))
            }
            LabelFilter::Or(left, right) => {
                Self::Or(Box::new(Self::lenient(left, names)?), Box::new(Self::lenient(right, names)?))
            }
        })
    }

    /// A side of a larger filter, or one behind `unwrap`. As in Loki, an address that is none is no mistake there.
    pub(crate) fn lenient(filter: &LabelFilter, names: &mut Names) -> Result<Self, String> {
        Ok(match filter {
            LabelFilter::Ip { label, negated, pattern } => {
                Self::Ip(names.sym(label), *negated, IpFilter::new(pattern).ok())
            }
            other => Self::new(other, names)?,
        })
    }

    /// Whether the entry stays. Both sides of a conjunction run, as either may note an error; a
    /// disjunction ends with the first that holds.
    pub(crate) fn keeps(&self, entry: &mut Entry<'_>) -> bool {
        match self {
            Self::Always => true,
            Self::Text(sym, test) => test.holds(entry.filter_value(*sym)),
            Self::Number(sym, compare, wanted) => {
                converted(entry, *sym, parse_number, |value| compare.holds(value, *wanted))
            }
            Self::Duration(sym, compare, wanted) => {
                converted(entry, *sym, parse_go_duration, |value| compare.holds(value, *wanted))
            }
            Self::Bytes(sym, compare, wanted) => {
                converted(entry, *sym, parse_bytes, |value| compare.holds(value, *wanted))
            }
            Self::Ip(sym, negated, ip) => {
                if entry.error.is_some() {
                    return true;
                }
                let (Some(value), Some(ip)) = (entry.get(*sym), ip) else { return false };
                ip.finds(value) != *negated
            }
            Self::And(left, right) => {
                let left = left.keeps(entry);
                right.keeps(entry) && left
            }
            Self::Or(left, right) => left.keeps(entry) || right.keeps(entry),
        }
    }

    /// The label that a filter looks at, if it is one alone.
    pub(crate) fn single_label(&self) -> Option<Sym> {
        match self {
            Self::Text(sym, _)
            | Self::Number(sym, ..)
            | Self::Duration(sym, ..)
            | Self::Bytes(sym, ..)
            | Self::Ip(sym, ..) => Some(*sym),
            Self::Always | Self::And(..) | Self::Or(..) => None,
        }
    }
}

/// A comparison with a text or an expression. Expressions go the way of those for lines and so,
/// unlike those of selectors, need not match a value as a whole (see [`Plain`]); their `.` takes
/// no line feed.
#[derive(Debug, Clone)]
pub(crate) struct TextTest {
    wanted: Wanted,
    negated: bool,
}

#[derive(Debug, Clone)]
enum Wanted {
    Exactly(String),
    Plain(Plain),
    Whole(CapturingPattern),
}

impl TextTest {
    fn new(matcher: &Matcher) -> Result<Self, String> {
        let wanted = match matcher.op {
            MatchOp::Equal | MatchOp::NotEqual => Wanted::Exactly(matcher.value.clone()),
            MatchOp::Regex | MatchOp::NotRegex => match Plain::of(&matcher.value, Over::Labels) {
                Some(plain) => Wanted::Plain(plain),
                None => {
                    let whole = CapturingPattern::new(&matcher.value, Anchoring::WholeLine);
                    Wanted::Whole(whole.map_err(|e| e.to_string())?)
                }
            },
        };
        Ok(Self { wanted, negated: matcher.is_negative() })
    }

    fn holds(&self, value: &str) -> bool {
        let holds = match &self.wanted {
            Wanted::Exactly(text) => text == value,
            Wanted::Plain(plain) => plain.holds(value),
            Wanted::Whole(regex) => regex.is_match(value),
        };
        holds != self.negated
    }
}

/// Whether Loki leaves the filter out.
fn passes_all(matcher: &Matcher) -> bool {
    matcher.op == MatchOp::Regex && Plain::of(&matcher.value, Over::Labels) == Some(Plain::All)
}

/// A missing label loses the line; a value that does not convert keeps it, with an error.
fn converted<T>(
    entry: &mut Entry<'_>,
    sym: Sym,
    convert: impl Fn(&str) -> Result<T, String>,
    holds: impl Fn(T) -> bool,
) -> bool {
    let Some(value) = entry.get(sym) else { return false };
    match convert(value) {
        Ok(value) => holds(value),
        Err(details) => {
            entry.fail_softly(FILTER_ERROR, &details);
            true
        }
    }
}

pub(crate) fn parse_number(text: &str) -> Result<f64, String> {
    pilothouse_query::go_number::parse_float(text).map_err(|e| e.of_float(text))
}

/// The labels a filter mentions.
pub(crate) fn labels_of(filter: &LabelFilter, out: &mut Vec<String>) {
    match filter {
        LabelFilter::Text(matcher) => {
            if !passes_all(matcher) {
                out.push(matcher.name.clone());
            }
        }
        LabelFilter::Number { label, .. }
        | LabelFilter::Duration { label, .. }
        | LabelFilter::Bytes { label, .. }
        | LabelFilter::Ip { label, .. } => out.push(label.clone()),
        LabelFilter::And(left, right) | LabelFilter::Or(left, right) => {
            labels_of(left, out);
            labels_of(right, out);
        }
    }
}
