//! Expressions that are never run as such: texts, alternatives of texts, and `.*` round them.
//!
//! Loki compares texts instead (`RegexSimplifier`), for lines and for label filters alike, and
//! three things about that can be seen. An alternative that would take every text is left out
//! while there are others (`a|` asks for `a`), `.+` takes line feeds, and a label filter whose
//! expression is put together of several parts (`err.*`, `error|errors`) looks for its texts
//! anywhere in the value, while every other expression has to match the value as a whole.
//!
//! Which expressions are put together depends on how Go reads alternatives: what neighbours begin
//! with is taken out in front of them, and single characters side by side become a class.
//!
//! Absent on purpose: where `.*` or other alternatives stand between a text and alternatives
//! (`a.*(b|c)`, `a(b|c)(d|e)`), Loki looks for the wrong texts. Such expressions are run.

use pilothouse_model::logs::Literal;
use pilothouse_model::matcher::re2::{self, Groups};
use regex_syntax::hir::{Hir, HirKind};

use crate::regex::{Run, dot_run, literal_of};

/// What the expression is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    Lines,
    Labels,
}

/// What an expression comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Plain {
    All,
    /// One of these has to hold.
    Any(Vec<Part>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    NonEmpty,
    Equal(Literal),
    Contains(Literal),
}

impl Plain {
    /// `None` where the expression says more than texts can.
    pub(crate) fn of(pattern: &str, over: Over) -> Option<Self> {
        let expression = re2::parse_line(pattern, Groups::Capture).ok()?;
        plain(&node(&expression.hir)?, over)
    }

    pub(crate) fn holds(&self, text: &str) -> bool {
        match self {
            Self::All => true,
            Self::Any(parts) => parts.iter().any(|part| part.holds(text)),
        }
    }
}

impl Part {
    fn holds(&self, text: &str) -> bool {
        match self {
            Self::NonEmpty => !text.is_empty(),
            Self::Equal(Literal { text: wanted, fold_case: false }) => text == wanted,
            Self::Equal(Literal { text: wanted, fold_case: true }) => text.to_lowercase() == *wanted,
            Self::Contains(Literal { text: wanted, fold_case: false }) => text.contains(wanted.as_str()),
            Self::Contains(Literal { text: wanted, fold_case: true }) => {
                text.to_lowercase().contains(wanted.as_str())
            }
        }
    }

    /// The part as an expression over lines.
    pub(crate) fn expression(&self) -> String {
        match self {
            Self::NonEmpty => "(?s:.)".to_owned(),
            Self::Equal(literal) | Self::Contains(literal) => {
                let escaped = regex_syntax::escape(&literal.text);
                if literal.fold_case { format!("(?i:{escaped})") } else { escaped }
            }
        }
    }
}

/// An expression as Go has it before it is compiled, as far as texts may come of it.
#[derive(Debug)]
enum Node {
    Empty,
    /// `.*`
    AnyRun,
    /// `.+`
    SomeRun,
    Text(Literal),
    Sequence(Vec<Node>),
    Choice(Vec<Node>),
    Captured(Box<Node>),
}

fn node(hir: &Hir) -> Option<Node> {
    match hir.kind() {
        HirKind::Empty => Some(Node::Empty),
        HirKind::Literal(_) | HirKind::Class(_) => Some(Node::Text(literal_of(&[hir])?)),
        HirKind::Repetition(_) => Some(match dot_run(hir)? {
            Run::Any => Node::AnyRun,
            Run::Some => Node::SomeRun,
        }),
        HirKind::Capture(capture) => Some(Node::Captured(Box::new(node(&capture.sub)?))),
        HirKind::Concat(parts) => sequence(parts),
        HirKind::Alternation(parts) => choice(parts.iter().map(node).collect::<Option<_>>()?),
        HirKind::Look(_) => None,
    }
}

/// Characters side by side are one text.
fn sequence(parts: &[Hir]) -> Option<Node> {
    let is_text = |part: &Hir| matches!(part.kind(), HirKind::Literal(_) | HirKind::Class(_));
    let mut nodes = Vec::new();
    for run in parts.chunk_by(|a, b| is_text(a) && is_text(b)) {
        nodes.push(match run {
            [part] => node(part)?,
            texts => Node::Text(literal_of(&texts.iter().collect::<Vec<_>>())?),
        });
    }
    if nodes.len() == 1 { nodes.pop() } else { Some(Node::Sequence(nodes)) }
}

/// Alternatives, with what neighbours begin with taken out in front of them.
fn choice(legs: Vec<Node>) -> Option<Node> {
    if has_class(&legs) {
        return None;
    }
    let mut factored = Vec::new();
    let (mut run, mut prefix) = (Vec::new(), None);
    for leg in legs {
        let common = common_beginning(prefix.as_ref(), leg.beginning());
        if common.is_none() {
            close_run(&mut factored, &mut run, prefix)?;
            prefix = leg.beginning().cloned();
        } else {
            prefix = common;
        }
        run.push(leg);
    }
    close_run(&mut factored, &mut run, prefix)?;
    if has_class(&factored) {
        return None;
    }
    factored.dedup_by(|a, b| matches!((a, b), (Node::Empty, Node::Empty)));
    match factored.len() {
        1 => factored.pop(),
        _ => Some(Node::Choice(factored)),
    }
}

fn close_run(out: &mut Vec<Node>, run: &mut Vec<Node>, prefix: Option<Literal>) -> Option<()> {
    let legs = std::mem::take(run);
    match prefix {
        Some(prefix) if legs.len() > 1 => {
            let endings = legs.into_iter().map(|leg| leg.without_beginning(prefix.text.len())).collect();
            out.push(Node::Sequence(vec![Node::Text(prefix), choice(endings)?]));
        }
        _ => out.extend(legs),
    }
    Some(())
}

/// Whether single characters stand side by side, of which Go makes a class.
fn has_class(legs: &[Node]) -> bool {
    let is_char = |leg: &Node| matches!(leg, Node::Text(text) if text.text.chars().nth(1).is_none());
    legs.windows(2).any(|pair| pair.iter().all(is_char))
}

fn common_beginning(a: Option<&Literal>, b: Option<&Literal>) -> Option<Literal> {
    let (a, b) = (a?, b?);
    let same = a.text.chars().zip(b.text.chars()).take_while(|(a, b)| a == b);
    let text: String = same.map(|(c, _)| c).collect();
    (a.fold_case == b.fold_case && !text.is_empty()).then_some(Literal { text, fold_case: a.fold_case })
}

impl Node {
    /// The text in front.
    fn beginning(&self) -> Option<&Literal> {
        match self {
            Self::Text(text) => Some(text),
            Self::Sequence(parts) => match parts.first() {
                Some(Self::Text(text)) => Some(text),
                _ => None,
            },
            _ => None,
        }
    }

    /// Without the first `bytes` of the text in front.
    fn without_beginning(self, bytes: usize) -> Self {
        match self {
            Self::Text(mut text) => match text.text.split_off(bytes) {
                rest if rest.is_empty() => Self::Empty,
                rest => Self::Text(Literal { text: rest, ..text }),
            },
            Self::Sequence(mut parts) if !parts.is_empty() => {
                match parts.remove(0).without_beginning(bytes) {
                    Self::Empty => {}
                    rest => parts.insert(0, rest),
                }
                if parts.len() == 1 { parts.remove(0) } else { Self::Sequence(parts) }
            }
            other => other,
        }
    }

    fn uncaptured(&self) -> &Self {
        match self {
            Self::Captured(inner) => inner,
            other => other,
        }
    }
}

fn plain(node: &Node, over: Over) -> Option<Plain> {
    Some(match node {
        Node::Empty | Node::AnyRun => Plain::All,
        Node::SomeRun => Plain::Any(vec![Part::NonEmpty]),
        Node::Text(text) => Plain::Any(vec![match over {
            Over::Lines => Part::Contains(text.clone()),
            Over::Labels => Part::Equal(text.clone()),
        }]),
        Node::Captured(inner) => plain(inner, over)?,
        Node::Sequence(parts) => Plain::Any(joined(parts, None)?.into_iter().map(Part::Contains).collect()),
        Node::Choice(legs) => {
            let mut parts = Vec::new();
            for leg in legs {
                if let Plain::Any(more) = plain(leg, over)? {
                    parts.extend(more);
                }
            }
            if parts.is_empty() { Plain::All } else { Plain::Any(parts) }
        }
    })
}

/// The texts of a sequence: one text, perhaps with alternatives behind it, and `.*` around.
/// `base` is what stands in front of the sequence.
fn joined(parts: &[Node], base: Option<&Literal>) -> Option<Vec<Literal>> {
    let said: Vec<&Node> =
        parts.iter().map(Node::uncaptured).filter(|part| !matches!(part, Node::Empty)).collect();
    if said.len() > 3 {
        return None;
    }
    let (mut text, mut own, mut gap, mut endings) = (base.cloned(), false, false, None);
    for part in said {
        match part {
            Node::AnyRun => gap |= text.is_some(),
            _ if gap || endings.is_some() => return None,
            Node::Text(more) if !own => {
                own = true;
                text = Some(append(text.as_ref(), more)?);
            }
            Node::Choice(legs) => endings = Some(with_endings(text.as_ref()?, legs)?),
            _ => return None,
        }
    }
    endings.or(text.map(|text| vec![text]))
}

fn with_endings(base: &Literal, legs: &[Node]) -> Option<Vec<Literal>> {
    let mut texts = Vec::new();
    for leg in legs {
        match leg {
            Node::Empty | Node::AnyRun => texts.push(base.clone()),
            Node::Text(more) => texts.push(append(Some(base), more)?),
            Node::Sequence(parts) => texts.extend(joined(parts, Some(base))?),
            _ => return None,
        }
    }
    Some(texts)
}

fn append(base: Option<&Literal>, more: &Literal) -> Option<Literal> {
    let Some(base) = base else { return Some(more.clone()) };
    let text = format!("{}{}", base.text, more.text);
    (base.fold_case == more.fold_case).then_some(Literal { text, fold_case: base.fold_case })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(pattern: &str, over: Over) -> String {
        let literal = |l: &Literal| format!("{}{}", l.text, if l.fold_case { "/i" } else { "" });
        match Plain::of(pattern, over) {
            None => "-".to_owned(),
            Some(Plain::All) => "all".to_owned(),
            Some(Plain::Any(parts)) => {
                let shown = parts.iter().map(|part| match part {
                    Part::NonEmpty => "+".to_owned(),
                    Part::Equal(text) => format!("={}", literal(text)),
                    Part::Contains(text) => literal(text),
                });
                shown.collect::<Vec<_>>().join(" ")
            }
        }
    }

    #[test]
    fn expressions_come_to_texts() {
        for (pattern, lines, labels) in [
            ("error", "error", "=error"),
            ("(error)", "error", "=error"),
            (".*error.*", "error", "error"),
            ("err.*", "err", "err"),
            ("(.*)(foo).*", "foo", "foo"),
            ("error|warn", "error warn", "=error =warn"),
            ("error|errors", "error errors", "error errors"),
            ("foo|bar|barn", "foo bar barn", "=foo bar barn"),
            ("f|foo|foobar", "f foo foobar", "f foo foobar"),
            ("foo.*|.*ba", "foo ba", "foo ba"),
            ("foo(bar|qux)", "foobar fooqux", "foobar fooqux"),
            ("foo(bar|).*", "foobar foo", "foobar foo"),
            ("(?i)Error", "error/i", "=error/i"),
            ("(?i)f|fatal|e.*", "f/i fatal/i e/i", "f/i fatal/i e/i"),
            ("", "all", "all"),
            (".*", "all", "all"),
            (".*||", "all", "all"),
            ("a|", "a", "=a"),
            ("x|.*", "x", "=x"),
            (".+", "+", "+"),
            ("|.+", "+", "+"),
            ("a|b", "-", "-"),
            ("bar|baz", "-", "-"),
            ("foobar|fooqux|zz", "foobar fooqux zz", "foobar fooqux =zz"),
            ("a.*b", "-", "-"),
            ("a.b", "-", "-"),
            ("a+", "-", "-"),
            (".+foo", "-", "-"),
            ("(?s).*", "-", "-"),
            ("^a", "-", "-"),
            ("(foo)bar", "-", "-"),
            ("(foo|qux)bar", "-", "-"),
            // Texts that Loki would get wrong.
            ("foo.*(bar|qux)", "-", "-"),
            ("foo(bar|qux)(one|two)", "-", "-"),
        ] {
            assert_eq!(show(pattern, Over::Lines), lines, "{pattern}");
            assert_eq!(show(pattern, Over::Labels), labels, "{pattern}");
        }
    }
}
