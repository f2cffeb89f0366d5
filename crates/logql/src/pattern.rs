//! Patterns of literals and gaps: `<ip> - <_> "<method> <_>"`, for the `pattern` parser and for
//! the line filters `|>` and `!>`, which read them differently.

use memchr::memmem::Finder;

#[derive(Debug)]
enum Node {
    Literal(Box<Finder<'static>>),
    /// A gap; the index of its name among the captures, or none for `<_>`.
    Gap(Option<usize>),
}

#[derive(Debug)]
pub(crate) struct Pattern {
    nodes: Vec<Node>,
    names: Vec<String>,
}

impl Pattern {
    /// A pattern that captures: at least one named gap, no name twice, no two gaps side by side.
    pub(crate) fn parser(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("syntax error: unexpected $end, expecting IDENTIFIER or LITERAL".to_owned());
        }
        let pattern = Self::parse(text)?;
        if pattern.names.is_empty() {
            return Err("at least one capture is required".to_owned());
        }
        for (i, name) in pattern.names.iter().enumerate() {
            if pattern.names[..i].contains(name) {
                return Err(format!("duplicate capture name ({name}): invalid expression"));
            }
        }
        Ok(pattern)
    }

    /// A pattern that only tests: no named gap, no two gaps side by side; may be empty.
    pub(crate) fn filter(text: &str) -> Result<Self, String> {
        let pattern = Self::parse(text)?;
        match pattern.names.first() {
            Some(name) => Err(format!("named captures are not allowed: found '<{name}>'")),
            None => Ok(pattern),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (mut nodes, mut names) = (Vec::new(), Vec::new());
        let (mut literal, mut last_gap) = (String::new(), None::<&str>);
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let Some(name) = gap(rest) else {
                literal.push(c);
                rest = &rest[c.len_utf8()..];
                continue;
            };
            if !literal.is_empty() {
                nodes.push(Node::Literal(Box::new(Finder::new(&literal).into_owned())));
                literal.clear();
                last_gap = None;
            }
            if let Some(before) = last_gap {
                return Err(format!("found consecutive capture '<{before}><{name}>': invalid expression"));
            }
            last_gap = Some(name);
            nodes.push(Node::Gap((name != "_").then_some(names.len())));
            if name != "_" {
                names.push(name.to_owned());
            }
            rest = &rest[name.len() + 2..];
        }
        if !literal.is_empty() {
            nodes.push(Node::Literal(Box::new(Finder::new(&literal).into_owned())));
        }
        Ok(Self { nodes, names })
    }

    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// The texts that a line must hold.
    pub(crate) fn literals(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Literal(finder) => std::str::from_utf8(finder.needle()).ok(),
            Node::Gap(_) => None,
        })
    }

    /// Hands over the captures of a line in order, with the index of their name. A leading
    /// literal must start the line; a gap whose literal is not found takes the rest, and the
    /// captures behind it are not made. `false` from `capture` ends it.
    pub(crate) fn captures<'a>(&self, line: &'a str, mut capture: impl FnMut(usize, &'a str) -> bool) {
        let mut rest = line;
        let mut nodes = self.nodes.as_slice();
        if line.is_empty() {
            return;
        }
        if let [Node::Literal(first), tail @ ..] = nodes {
            match rest.as_bytes().strip_prefix(first.needle()) {
                Some(_) => rest = &rest[first.needle().len()..],
                None => return,
            }
            nodes = tail;
        }
        while let [Node::Gap(name), tail @ ..] = nodes {
            let found = match tail.first() {
                Some(Node::Literal(literal)) => {
                    literal.find(rest.as_bytes()).map(|at| (at, at + literal.needle().len()))
                }
                _ => None,
            };
            let (value, next) = match found {
                Some((at, after)) => (&rest[..at], Some(&rest[after..])),
                None => (rest, None),
            };
            if name.is_some_and(|name| !capture(name, value)) {
                return;
            }
            let Some(next) = next else { return };
            rest = next;
            nodes = tail.get(1..).unwrap_or(&[]);
        }
    }

    /// Whether a line fits a filter: the first literal anywhere, each gap at least one byte, and
    /// the end of the pattern at the end of the line.
    pub(crate) fn fits(&self, line: &str) -> bool {
        if line.is_empty() || self.nodes.is_empty() {
            return line.is_empty() && self.nodes.is_empty();
        }
        let mut at = 0;
        for (i, node) in self.nodes.iter().enumerate() {
            let Node::Literal(literal) = node else { continue };
            match literal.find(&line.as_bytes()[at..]) {
                None => return false,
                Some(0) if i != 0 => return false,
                Some(found) => at += found + literal.needle().len(),
            }
        }
        let ends_in_gap = matches!(self.nodes.last(), Some(Node::Gap(_)));
        ends_in_gap == (at != line.len())
    }
}

/// The name of a gap that starts here: `<name>`.
fn gap(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('<')?;
    let name = &inner[..inner.find('>')?];
    pilothouse_model::labels::is_legacy_label_name(name).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captures_run_to_the_next_literal() {
        for (pattern, line, expected) in [
            ("<a> <_> <b>", "1 2 3 4", "a=1 b=3 4"),
            ("<a>: <b>", "x", "a=x"),
            ("[<a>] <b>", "[1] two", "a=1 b=two"),
            ("[<a>] <b>", " [1] two", ""),
            ("<a>,<b>", ",", "a= b="),
            ("<_>x<a>", "1x2x3", "a=2x3"),
        ] {
            let parsed = Pattern::parser(pattern).unwrap_or_else(|e| panic!("{pattern}: {e}"));
            let mut got = Vec::new();
            parsed.captures(line, |name, value| {
                got.push(format!("{}={value}", parsed.names()[name]));
                true
            });
            assert_eq!(got.join(" "), expected, "{pattern} on {line}");
        }
        for bad in ["", "no gap", "<_>", "<a><b>", "<a> <a>"] {
            assert!(Pattern::parser(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn filters_need_gaps_and_the_end() {
        for (pattern, line, fits) in [
            ("foo <_>", "a foo bar", true),
            ("<_> bar", "foo bar baz", false),
            ("<_> baz", "foo bar baz", true),
            ("<_> bar <_>", " bar ", false),
            ("<_>bar<_>", " bar ", true),
            ("", "", true),
            ("", "x", false),
            ("<_>", "", false),
            ("foo", "foo", true),
            ("foo", "foox", false),
        ] {
            let parsed = Pattern::filter(pattern).unwrap_or_else(|e| panic!("{pattern}: {e}"));
            assert_eq!(parsed.fits(line), fits, "{pattern:?} on {line:?}");
        }
        assert!(Pattern::filter("<a>").is_err());
        assert!(Pattern::filter("<_><_>").is_err());
    }
}
