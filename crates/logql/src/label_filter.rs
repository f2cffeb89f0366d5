//! Filters on labels, of every type.

use pilothouse_model::{MatchOp, Matcher};
use pilothouse_query::units::{format_bytes, parse_bytes, parse_go_duration};

use crate::entry::{ERROR_SYM, Entry, FILTER_ERROR};
use crate::ip::IpFilter;
use crate::names::{Names, Sym};
use crate::syntax::{Compare, LabelFilter};

#[derive(Debug, Clone)]
pub(crate) enum Filter {
    /// Passes everything, as `x=~".*"` does.
    Always,
    Text(Sym, Matcher),
    Number(Sym, Compare, f64),
    Duration(Sym, Compare, i64),
    Bytes(Sym, Compare, u64),
    Ip(Sym, bool, IpFilter),
    And(Box<Filter>, Box<Filter>),
    Or(Box<Filter>, Box<Filter>),
}

impl Filter {
    pub(crate) fn new(filter: &LabelFilter, names: &mut Names) -> Result<Self, String> {
        Ok(match filter {
            LabelFilter::Text(matcher) if matcher.op == MatchOp::Regex && matcher.value == ".*" => {
                Self::Always
            }
            LabelFilter::Text(matcher) => Self::Text(names.sym(&matcher.name), matcher.clone()),
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
                Self::Ip(names.sym(label), *negated, IpFilter::new(pattern)?)
            }
            LabelFilter::And(left, right) => {
                Self::And(Box::new(Self::new(left, names)?), Box::new(Self::new(right, names)?))
            }
            LabelFilter::Or(left, right) => {
                Self::Or(Box::new(Self::new(left, names)?), Box::new(Self::new(right, names)?))
            }
        })
    }

    /// Whether the entry stays. Both sides of a conjunction run, as either may note an error; a
    /// disjunction ends with the first that holds.
    pub(crate) fn keeps(&self, entry: &mut Entry<'_>) -> bool {
        match self {
            Self::Always => true,
            Self::Text(sym, matcher) => matcher.matches(entry.filter_value(*sym)),
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
                entry.get(*sym).is_some_and(|value| ip.finds(value) != *negated)
            }
            Self::And(left, right) => {
                let left = left.keeps(entry);
                right.keeps(entry) && left
            }
            Self::Or(left, right) => left.keeps(entry) || right.keeps(entry),
        }
    }

    /// Whether a filter on one label lets a value pass. `true` also where only the whole entry
    /// can tell.
    pub(crate) fn admits(&self, value: &str) -> bool {
        match self {
            Self::Text(_, matcher) => matcher.matches(value),
            Self::Number(_, compare, wanted) => {
                parse_number(value).map_or(true, |v| compare.holds(v, *wanted))
            }
            Self::Duration(_, compare, wanted) => {
                parse_go_duration(value).map_or(true, |v| compare.holds(v, *wanted))
            }
            Self::Bytes(_, compare, wanted) => parse_bytes(value).map_or(true, |v| compare.holds(v, *wanted)),
            _ => true,
        }
    }

    /// The label a filter looks at, if it is one that [`Filter::admits`] can judge.
    pub(crate) fn single_label(&self) -> Option<Sym> {
        match self {
            Self::Text(sym, _) | Self::Number(sym, ..) | Self::Duration(sym, ..) | Self::Bytes(sym, ..) => {
                (*sym != ERROR_SYM).then_some(*sym)
            }
            _ => None,
        }
    }
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
            if matcher.op != MatchOp::Regex || matcher.value != ".*" {
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
