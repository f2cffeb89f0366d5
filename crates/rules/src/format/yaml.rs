//! YAML as a tree whose nodes know where they stand, which messages about rules and about the
//! server's own configuration must tell.
//!
//! Built from the parser's events, so that neither depth nor aliases can use up the stack or
//! the memory.

use std::collections::HashMap;

use pilothouse_model::limits::{YAML_DEPTH, YAML_NODES};
use pilothouse_model::yaml::{Aliases, aliases};
use saphyr_parser::{Event, Parser, ScalarStyle};

/// Line and column, both from 1; both 0 where nothing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

#[derive(Debug, Clone)]
pub struct Node {
    pub at: Position,
    pub content: Content,
}

#[derive(Debug, Clone)]
pub enum Content {
    /// `plain`: without quotes, so that it may mean a number, nothing, and so on.
    Scalar {
        text: String,
        plain: bool,
    },
    Sequence(Vec<Node>),
    Mapping(Vec<(Node, Node)>),
}

impl Node {
    /// Nothing at all, as an absent value, `null` or `~`.
    pub fn is_null(&self) -> bool {
        matches!(&self.content, Content::Scalar { text, plain: true }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    pub(crate) fn size(&self) -> usize {
        1 + match &self.content {
            Content::Scalar { .. } => 0,
            Content::Sequence(items) => items.iter().map(Node::size).sum(),
            Content::Mapping(pairs) => pairs.iter().map(|(k, v)| k.size() + v.size()).sum(),
        }
    }
}

/// A collection that has begun and not ended.
struct Open {
    anchor: usize,
    at: Position,
    is_mapping: bool,
    items: Vec<Node>,
}

/// The first document of a text; `None` if there is nothing in it.
pub fn parse(text: &str) -> Result<Option<Node>, String> {
    // What is broken is told below, by the same parser, before any alias behind it is met.
    if aliases(text.as_bytes()) == Aliases::TooMany {
        return Err("yaml: document contains excessive aliasing".to_owned());
    }
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|e| {
            let line = e.marker().line();
            format!("yaml: line {line}: {}", e.info())
        })?;
        let at = Position { line: span.start.line(), column: span.start.col() + 1 };
        match event {
            Event::DocumentEnd => break,
            Event::Alias(anchor) => builder.alias(anchor, at)?,
            Event::Scalar(text, style, anchor, _) => {
                let at = builder.place_of_scalar(style, at);
                let content =
                    Content::Scalar { text: text.into_owned(), plain: matches!(style, ScalarStyle::Plain) };
                builder.add(anchor, Node { at, content })?;
            }
            Event::SequenceStart(anchor, _) => builder.open(anchor, at, false)?,
            Event::MappingStart(anchor, _) => builder.open(anchor, at, true)?,
            Event::SequenceEnd | Event::MappingEnd => builder.close()?,
            _ => {}
        }
    }
    Ok(builder.root)
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    root: Option<Node>,
}

impl Builder {
    fn open(&mut self, anchor: usize, at: Position, is_mapping: bool) -> Result<(), String> {
        if self.open.len() >= YAML_DEPTH {
            return Err(format!("yaml: line {}: exceeded max depth of {YAML_DEPTH}", at.line));
        }
        self.open.push(Open { anchor, at, is_mapping, items: Vec::new() });
        Ok(())
    }

    /// A block scalar is said to stand where its mark stands, which the parser does not tell: it
    /// follows the key that was read last.
    fn place_of_scalar(&self, style: ScalarStyle, at: Position) -> Position {
        let Some(open) = self.open.last() else { return at };
        match (style, open.items.last()) {
            (ScalarStyle::Literal | ScalarStyle::Folded, Some(key))
                if open.is_mapping && open.items.len() % 2 == 1 =>
            {
                let length = match &key.content {
                    Content::Scalar { text, .. } => text.chars().count(),
                    _ => 0,
                };
                Position { line: key.at.line, column: key.at.column + length + 2 }
            }
            _ => at,
        }
    }

    fn alias(&mut self, anchor: usize, at: Position) -> Result<(), String> {
        let node = self.anchors.get(&anchor).cloned();
        let node = node.ok_or_else(|| format!("yaml: line {}: unknown anchor referenced", at.line))?;
        self.nodes += node.size();
        self.add(0, node)
    }

    fn close(&mut self) -> Result<(), String> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let content = if open.is_mapping {
            let mut pairs = Vec::with_capacity(open.items.len() / 2);
            let mut items = open.items.into_iter();
            while let (Some(key), Some(value)) = (items.next(), items.next()) {
                pairs.push((key, value));
            }
            Content::Mapping(pairs)
        } else {
            Content::Sequence(open.items)
        };
        self.add(open.anchor, Node { at: open.at, content })
    }

    fn add(&mut self, anchor: usize, node: Node) -> Result<(), String> {
        self.nodes += 1;
        if self.nodes > YAML_NODES {
            return Err("yaml: document contains excessive aliasing".to_owned());
        }
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            Some(open) => open.items.push(node),
            None => self.root = Some(node),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_know_their_places() {
        let text = "a: 1\nb:\n  - x: |-\n      one\n      two\n    y: 'q'\n";
        let Ok(Some(root)) = parse(text) else { panic!("no tree") };
        let Content::Mapping(pairs) = root.content else { panic!("no mapping") };
        let Content::Sequence(items) = &pairs[1].1.content else { panic!("no sequence") };
        let Content::Mapping(inner) = &items[0].content else { panic!("no mapping") };
        let places: Vec<(usize, usize)> = [&pairs[0].1, &items[0], &inner[0].1, &inner[1].1]
            .iter()
            .map(|node| (node.at.line, node.at.column))
            .collect();
        assert_eq!(places, [(1, 4), (3, 5), (3, 8), (6, 8)]);
        assert!(matches!(&inner[0].1.content, Content::Scalar { text, .. } if text == "one\ntwo"));
    }

    #[test]
    fn what_would_take_too_much_is_refused() {
        assert!(parse(&"[".repeat(100_000)).is_err());
        let mut bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for (name, of) in ["b", "c", "d", "e", "f", "g", "h"].iter().zip(["a", "b", "c", "d", "e", "f", "g"])
        {
            bomb.push_str(&format!("{name}: &{name} [{}]\n", vec![format!("*{of}"); 10].join(",")));
        }
        assert!(parse(&bomb).is_err());
        assert!(matches!(parse(""), Ok(None)));
        assert!(parse("a: [").is_err());
    }

    #[test]
    fn a_slip_in_a_long_file_is_told_with_its_line() {
        let rules = "- expr: a\n  for: 5m\n".repeat(9_000);
        for slip in ["x: ]", "\tx: y", "x: y: z"] {
            let text =
                format!("a: &a [b]\nc: *a\nrules:\n{slip}\n{rules}{}", "- [*a, &b c, *b]\n".repeat(50));
            let Err(why) = parse(&text) else { panic!("{slip} is taken") };
            assert!(why.starts_with("yaml: line ") && !why.contains("aliasing"), "{slip}: {why}");
        }
    }
}
