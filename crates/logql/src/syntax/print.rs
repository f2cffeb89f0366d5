//! The tree as text, in Loki's canonical form.

use std::fmt::{self, Display, Formatter};

use pilothouse_model::labels::quote;
use pilothouse_model::sample::{format_float_general, format_float_plain};
use pilothouse_model::time::format_duration_ms;
use pilothouse_model::{MatchOp, Matcher};
use pilothouse_query::units::{format_bytes, format_go_duration};

use super::ast::*;
use crate::simplify::{Over, Plain};

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log(log) => log.fmt(f),
            Self::Metric(metric) => metric.fmt(f),
        }
    }
}

pub(super) fn selector(matchers: &[Matcher]) -> String {
    let parts: Vec<String> = matchers.iter().map(Matcher::to_string).collect();
    format!("{{{}}}", parts.join(", "))
}

impl Display for LogExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&selector(&self.matchers))?;
        for stage in &self.stages {
            write!(f, " {stage}")?;
        }
        Ok(())
    }
}

impl Display for Stage {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lines(filters) => write_joined(f, filters, " "),
            Self::Json => f.write_str("| json"),
            Self::Logfmt { strict, keep_empty } => write!(f, "| logfmt{}", flags(*strict, *keep_empty)),
            Self::Regexp(text) => write!(f, "| regexp {}", quote(text)),
            Self::Pattern(text) => write!(f, "| pattern {}", quote(text)),
            Self::Unpack => f.write_str("| unpack"),
            Self::JsonFields(fields) => {
                f.write_str("| json ")?;
                write_joined(f, fields, ",")
            }
            Self::LogfmtFields { fields, strict, keep_empty } => {
                write!(f, "| logfmt{} ", flags(*strict, *keep_empty))?;
                write_joined(f, fields, ",")
            }
            Self::Filter(filter) => write!(f, "| {filter}"),
            Self::LineFormat(template) => write!(f, "| line_format {}", quote(template)),
            Self::LabelFormat(formats) => {
                f.write_str("| label_format ")?;
                write_joined(f, formats, ",")
            }
            Self::Decolorize => f.write_str("| decolorize"),
            Self::Drop(choices) => {
                f.write_str("| drop ")?;
                write_joined(f, choices, ",")
            }
            Self::Keep(choices) => {
                f.write_str("| keep ")?;
                write_joined(f, choices, ",")
            }
        }
    }
}

fn write_joined<T: Display>(f: &mut Formatter<'_>, items: &[T], between: &str) -> fmt::Result {
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            f.write_str(between)?;
        }
        item.fmt(f)?;
    }
    Ok(())
}

fn flags(strict: bool, keep_empty: bool) -> &'static str {
    match (strict, keep_empty) {
        (false, false) => "",
        (true, false) => " --strict",
        (false, true) => " --keep-empty",
        (true, true) => " --strict --keep-empty",
    }
}

impl Display for LineFilter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.op.as_str())?;
        for (i, needle) in self.needles.iter().enumerate() {
            if i > 0 {
                f.write_str(" or ")?;
            }
            match needle.ip {
                true => write!(f, "ip({})", quote(&needle.text))?,
                false => f.write_str(&quote(&needle.text))?,
            }
        }
        Ok(())
    }
}

impl Display for Extraction {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.label, quote(&self.expression))
    }
}

impl Display for LabelFormat {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.value {
            FormatValue::Rename(from) => write!(f, "{}={from}", self.label),
            FormatValue::Template(template) => write!(f, "{}={}", self.label, quote(template)),
        }
    }
}

impl Display for LabelChoice {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Matching(matcher) => matcher.fmt(f),
        }
    }
}

impl Display for LabelFilter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(matcher) => write_matcher(f, matcher),
            Self::Number { label, compare, value } => {
                write!(f, "{label}{}{}", compare.as_str(), format_float_plain(*value))
            }
            Self::Duration { label, compare, value_ns } => {
                write!(f, "{label}{}{}", compare.as_str(), format_go_duration(*value_ns))
            }
            Self::Bytes { label, compare, value } => {
                write!(f, "{label}{}{}", compare.as_str(), format_bytes(*value))
            }
            Self::Ip { label, negated, pattern } => {
                write!(f, "{label}{}ip({})", if *negated { "!=" } else { "=" }, quote(pattern))
            }
            Self::And(left, right) => write!(f, "( {left} , {right} )"),
            Self::Or(left, right) => write!(f, "( {left} or {right} )"),
        }
    }
}

/// A regex that Loki cannot turn into plain comparisons is printed in raw quotes.
fn write_matcher(f: &mut Formatter<'_>, matcher: &Matcher) -> fmt::Result {
    let is_run = || Plain::of(&matcher.value, Over::Labels).is_none();
    if matcher.op == MatchOp::Regex && !matcher.value.contains('`') && is_run() {
        return write!(f, "{}{}`{}`", matcher.name, matcher.op, matcher.value);
    }
    matcher.fmt(f)
}

impl Display for Grouping {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let word = if self.without { "without" } else { "by" };
        write!(f, " {word} ({})", self.labels.join(","))
    }
}

impl Unwrap {
    /// `| unwrap …` without its filters.
    pub(super) fn head(&self) -> String {
        match self.conversion {
            Conversion::Number => format!("| unwrap {}", self.label),
            Conversion::Bytes => format!("| unwrap bytes({})", self.label),
            Conversion::Duration => format!("| unwrap duration({})", self.label),
            Conversion::DurationSeconds => format!("| unwrap duration_seconds({})", self.label),
        }
    }
}

impl Display for LogRange {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.log.fmt(f)?;
        if let Some(unwrap) = &self.unwrap {
            write!(f, " {}", unwrap.head())?;
            for filter in &unwrap.filters {
                write!(f, " | {filter}")?;
            }
        }
        write!(f, "[{}]", format_duration_ms(self.interval_ns / 1_000_000))?;
        if self.offset_ns != 0 {
            write!(f, " offset {}", format_go_duration(self.offset_ns))?;
        }
        Ok(())
    }
}

impl Display for MetricExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range(aggregation) => {
                write!(f, "{}(", aggregation.op.as_str())?;
                if let Some(parameter) = aggregation.parameter {
                    write!(f, "{},", format_float_plain(parameter))?;
                }
                write!(f, "{})", aggregation.range)?;
                aggregation.grouping.as_ref().map_or(Ok(()), |grouping| grouping.fmt(f))
            }
            Self::Aggregate(aggregation) => {
                f.write_str(aggregation.op.as_str())?;
                if !aggregation.grouping.is_single() {
                    aggregation.grouping.fmt(f)?;
                }
                f.write_str("(")?;
                if aggregation.op.takes_parameter() {
                    write!(f, "{},", aggregation.parameter)?;
                }
                write!(f, "{})", aggregation.inner)
            }
            Self::Binary(binary) => {
                let op = binary.op.as_str();
                write!(f, "({} {op}{} {})", binary.left, modifiers(&binary.matching, ","), binary.right)
            }
            Self::Replace(inner, r) => write!(
                f,
                "label_replace({inner},{},{},{},{})",
                quote(&r.target),
                quote(&r.replacement),
                quote(&r.source),
                quote(&r.regex)
            ),
            // A negative zero would read back as a duration.
            Self::Literal(value) if *value == 0.0 => f.write_str("0"),
            Self::Literal(value) => f.write_str(&format_float_general(*value)),
            Self::Vector(value) => write!(f, "vector({})", fixed(*value)),
            Self::Invalid(why) => f.write_str(why),
        }
    }
}

/// Go's `%f`.
fn fixed(value: f64) -> String {
    if value.is_finite() { format!("{value:.6}") } else { format_float_plain(value) }
}

/// ` bool on (a,b) group_left (c)`, as far as it applies.
pub(super) fn modifiers(matching: &VectorMatching, between: &str) -> String {
    let mut out = String::new();
    if matching.return_bool {
        out.push_str(" bool");
    }
    if matching.on || matching.listed {
        let word = if matching.on { "on" } else { "ignoring" };
        out.push_str(&format!(" {word} ({}) ", matching.labels.join(between)));
        out.push_str(match matching.cardinality {
            Cardinality::OneToOne => "",
            Cardinality::ManyToOne => "group_left",
            Cardinality::OneToMany => "group_right",
        });
        if !matching.include.is_empty() {
            out.push_str(&format!(" ({})", matching.include.join(between)));
        }
    }
    out
}
