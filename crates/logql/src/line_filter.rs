//! Filters on lines: one line at a time, or a whole batch of lines at once.

use memchr::memmem::Finder;
use pilothouse_model::logs::{LineDemand, Literal};
use pilothouse_model::matcher::{Anchoring, CapturingPattern};

use crate::ip::IpFilter;
use crate::pattern::Pattern;
use crate::regex::demanded;
use crate::simplify::{Over, Part, Plain};
use crate::syntax::{LineFilter, LineOp, Needle};

#[derive(Debug)]
enum Test {
    /// Takes every line.
    All,
    Contains(Box<Finder<'static>>),
    /// With alternatives of what every match contains.
    Regex(CapturingPattern, Vec<Vec<Literal>>),
    Pattern(Pattern),
    Ip(IpFilter),
}

impl Test {
    fn new(op: LineOp, needle: &Needle) -> Result<Self, String> {
        if needle.ip {
            return match op {
                LineOp::Contains | LineOp::NotContains => Ok(Self::Ip(IpFilter::new(&needle.text)?)),
                _ => Err("ip: invalid operation".to_owned()),
            };
        }
        match op {
            LineOp::Contains | LineOp::NotContains => Ok(Self::contains(&needle.text)),
            LineOp::Pattern | LineOp::NotPattern => Ok(Self::Pattern(Pattern::filter(&needle.text)?)),
            LineOp::Regex | LineOp::NotRegex => Self::expression(&needle.text),
        }
    }

    fn contains(text: &str) -> Self {
        match text {
            "" => Self::All,
            text => Self::Contains(Box::new(Finder::new(text).into_owned())),
        }
    }

    fn expression(pattern: &str) -> Result<Self, String> {
        match Plain::of(pattern, Over::Lines) {
            Some(Plain::All) => Ok(Self::All),
            Some(Plain::Any(parts)) => match parts.as_slice() {
                [Part::Contains(Literal { text, fold_case: false })] => Ok(Self::contains(text)),
                parts => Self::regex(&parts.iter().map(Part::expression).collect::<Vec<_>>().join("|")),
            },
            None => Self::regex(pattern),
        }
    }

    fn regex(pattern: &str) -> Result<Self, String> {
        let regex = CapturingPattern::new(pattern, Anchoring::Part).map_err(|e| e.to_string())?;
        Ok(Self::Regex(regex, demanded(pattern)))
    }

    fn holds(&self, line: &str) -> bool {
        match self {
            Self::All => true,
            Self::Contains(finder) => finder.find(line.as_bytes()).is_some(),
            Self::Regex(regex, _) => regex.is_match(line),
            Self::Pattern(pattern) => pattern.fits(line),
            Self::Ip(ip) => ip.finds(line),
        }
    }

    /// Alternatives of texts that a line has if the test holds.
    fn demands(&self) -> Vec<Vec<Literal>> {
        let exact = |text: &str| Literal { text: text.to_owned(), fold_case: false };
        match self {
            Self::Contains(finder) => {
                vec![std::str::from_utf8(finder.needle()).map(exact).into_iter().collect()]
            }
            Self::Regex(_, demanded) if !demanded.is_empty() => demanded.clone(),
            Self::Pattern(pattern) => vec![pattern.literals().map(exact).collect()],
            Self::All | Self::Regex(..) | Self::Ip(_) => vec![Vec::new()],
        }
    }
}

/// One filter: any of its tests holds, or, if negated, none does.
#[derive(Debug)]
struct Filter {
    tests: Vec<Test>,
    negated: bool,
    guide: Option<Guide>,
}

/// A text without which a line cannot pass, so that a batch can be searched for it as a whole.
#[derive(Debug)]
struct Guide {
    finder: Finder<'static>,
    /// A line that has it passes.
    suffices: bool,
}

impl Guide {
    fn new(demand: &LineDemand, tests: &[Test]) -> Option<Self> {
        let [literals] = demand.alternatives.as_slice() else { return None };
        let exact = literals.iter().filter(|literal| !literal.fold_case && !literal.text.is_empty());
        let longest = exact.max_by_key(|literal| literal.text.len())?;
        Some(Self {
            finder: Finder::new(longest.text.as_str()).into_owned(),
            suffices: matches!(tests, [Test::Contains(_)]),
        })
    }
}

impl Filter {
    fn passes(&self, line: &str) -> bool {
        self.tests.iter().any(|test| test.holds(line)) != self.negated
    }

    /// How dear a test is; the cheap ones run first.
    fn cost(&self) -> u8 {
        self.tests
            .iter()
            .map(|test| match test {
                Test::All | Test::Contains(_) => 0,
                Test::Pattern(_) => 1,
                Test::Ip(_) => 2,
                Test::Regex(..) => 3,
            })
            .max()
            .unwrap_or(0)
    }
}

/// A conjunction of filters, and what it demands of a line for an index to use.
#[derive(Debug, Default)]
pub(crate) struct LineFilters {
    filters: Vec<Filter>,
    demands: Vec<LineDemand>,
}

impl LineFilters {
    pub(crate) fn new<'e>(filters: impl IntoIterator<Item = &'e LineFilter>) -> Result<Self, String> {
        let mut all = Self::default();
        for filter in filters {
            let mut tests: Vec<Test> =
                filter.needles.iter().map(|needle| Test::new(filter.op, needle)).collect::<Result<_, _>>()?;
            let negated = filter.op.negated();
            // As in Loki, what takes every line counts only where nothing else is asked for.
            if tests.iter().any(|test| !matches!(test, Test::All)) {
                tests.retain(|test| !matches!(test, Test::All));
            } else if !negated {
                continue;
            }
            let demand = LineDemand { alternatives: tests.iter().flat_map(Test::demands).collect() };
            let guide = if negated { None } else { Guide::new(&demand, &tests) };
            if !negated && demand.prunes() {
                all.demands.push(demand);
            }
            all.filters.push(Filter { tests, negated, guide });
        }
        // A stable sort keeps the order of writing among equals; the result is the same.
        all.filters.sort_by_key(Filter::cost);
        Ok(all)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.filters.is_empty()
    }

    pub(crate) fn demands(&self) -> &[LineDemand] {
        &self.demands
    }

    pub(crate) fn passes(&self, line: &str) -> bool {
        self.filters.iter().all(|filter| filter.passes(line))
    }

    /// Puts the numbers of the passing lines into `out`, ascending. `bounds` cuts `text` into
    /// lines. Where some text is indispensable, the whole batch is searched for it at once and
    /// only the lines it is found in are looked at.
    pub(crate) fn select(&self, text: &str, bounds: &[u32], out: &mut Vec<u32>) {
        out.clear();
        let lines = bounds.len().saturating_sub(1);
        let line = |i: usize| text.get(bounds[i] as usize..bounds[i + 1] as usize).unwrap_or("");
        let guides = self.filters.iter().enumerate();
        let Some((at, guide)) = guides.clone().find_map(|(i, filter)| Some((i, filter.guide.as_ref()?)))
        else {
            out.extend((0..lines).filter(|i| self.passes(line(*i))).map(|i| i as u32));
            return;
        };
        let finder = &guide.finder;
        let others = |line: &str| guides.clone().all(|(i, f)| (i == at && guide.suffices) || f.passes(line));
        let length = finder.needle().len();
        let (mut from, mut i) = (bounds.first().map_or(0, |b| *b as usize), 0);
        while let Some(found) = text.as_bytes().get(from..).and_then(|rest| finder.find(rest)) {
            let hit = from + found;
            i = line_of(bounds, i, hit);
            if i >= lines {
                return;
            }
            let end = bounds[i + 1] as usize;
            if hit + length > end {
                // The text runs over the border of two lines: no line has it here.
                from = hit + 1;
                continue;
            }
            if others(line(i)) {
                out.push(i as u32);
            }
            from = end;
            i += 1;
        }
    }
}

/// The line that holds a byte, at or after `from`: by doubling steps, then by halving.
fn line_of(bounds: &[u32], from: usize, byte: usize) -> usize {
    let after = |i: usize| bounds.get(i + 1).is_none_or(|end| *end as usize > byte);
    let (mut low, mut step) = (from, 1);
    while !after(low + step - 1) {
        low += step;
        step *= 2;
    }
    let window = &bounds[(low + 1).min(bounds.len())..(low + step + 1).min(bounds.len())];
    low + window.partition_point(|end| *end as usize <= byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filters(specs: &[(LineOp, &[&str])]) -> LineFilters {
        let parsed: Vec<LineFilter> = specs
            .iter()
            .map(|(op, needles)| LineFilter {
                op: *op,
                needles: needles.iter().map(|n| Needle { text: (*n).to_owned(), ip: false }).collect(),
            })
            .collect();
        LineFilters::new(&parsed).unwrap_or_else(|e| panic!("{e}"))
    }

    fn batch(lines: &[String]) -> (String, Vec<u32>) {
        let mut bounds = vec![0];
        let mut text = String::new();
        for line in lines {
            text.push_str(line);
            bounds.push(text.len() as u32);
        }
        (text, bounds)
    }

    #[test]
    fn empty_texts_keep_all_or_nothing() {
        assert!(filters(&[(LineOp::Contains, &[""])]).passes("x"));
        assert!(!filters(&[(LineOp::NotContains, &[""])]).passes("x"));
        assert!(!filters(&[(LineOp::NotContains, &[""])]).passes(""));
        assert!(!filters(&[(LineOp::NotRegex, &[".*"])]).passes("x"));
        assert!(filters(&[(LineOp::Contains, &["a", "b"])]).passes("xb"));
        for (op, needles, passing) in [
            (LineOp::Contains, ["", ""], "a,b,"),
            (LineOp::Contains, ["", "a"], "a"),
            (LineOp::Contains, ["a", ""], "a"),
            (LineOp::Regex, ["a|", ".*"], "a"),
            (LineOp::Regex, ["|.+", ""], "a,b"),
            (LineOp::NotRegex, ["a|", "a"], "b,"),
        ] {
            let filters = filters(&[(op, &needles)]);
            let kept: Vec<&str> = ["a", "b", ""].into_iter().filter(|line| filters.passes(line)).collect();
            assert_eq!(kept.join(","), passing, "{needles:?}");
        }
    }

    #[test]
    fn demands_are_alternatives_of_literals() {
        let both = filters(&[
            (LineOp::Contains, &["a", "b"]),
            (LineOp::Regex, &["x.*y"]),
            (LineOp::NotRegex, &["z"]),
        ]);
        let shown: Vec<String> = both
            .demands()
            .iter()
            .map(|d| {
                let alternatives: Vec<String> = d
                    .alternatives
                    .iter()
                    .map(|a| a.iter().map(|l| l.text.as_str()).collect::<Vec<_>>().join("+"))
                    .collect();
                alternatives.join("|")
            })
            .collect();
        assert_eq!(shown, ["a|b", "x+y"]);
    }

    proptest! {
        #[test]
        fn a_batch_gives_what_its_lines_give(
            lines in prop::collection::vec("[ab\u{e9}]{0,6}", 0..40),
            needle in "[ab]{1,3}",
            other in "[ab]{1,2}",
        ) {
            let (text, bounds) = batch(&lines);
            for set in [
                filters(&[(LineOp::Contains, &[&needle])]),
                filters(&[(LineOp::Contains, &[&needle]), (LineOp::NotContains, &[&other])]),
                filters(&[(LineOp::NotContains, &[&needle])]),
                filters(&[(LineOp::Regex, &[&format!("{needle}.*{other}")])]),
            ] {
                let mut got = Vec::new();
                set.select(&text, &bounds, &mut got);
                let expected: Vec<u32> =
                    (0..lines.len()).filter(|i| set.passes(&lines[*i])).map(|i| i as u32).collect();
                prop_assert_eq!(got, expected);
            }
        }
    }
}
