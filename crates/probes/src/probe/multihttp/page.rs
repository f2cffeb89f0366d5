//! A page as a tree of elements.
//!
//! Some pages cost far more than their length: each attribute of a tag is compared with all before it,
//! each opening tag looks at all that are open, and formatting that was not closed is made again in
//! every paragraph that follows. So a page is read in small pieces, what each has made is counted and
//! booked, and between two pieces the reader may stop: at a bound, or as the time of the run ends.

use std::cell::Cell;
use std::time::Instant;

use html5ever::TokenizerResult;
use html5ever::tendril::StrTendril;
use html5ever::tokenizer::{
    BufferQueue, StartTag, TagToken, Token, TokenSink, TokenSinkResult, Tokenizer, TokenizerOpts,
};
use html5ever::tree_builder::{TreeBuilder, TreeBuilderOpts, TreeSink};
use pilothouse_model::NoMemory;
use pilothouse_model::limits::{CHECK_PAGE_NODES, CHECK_TAG_ATTRIBUTES};
use pilothouse_model::memory::Reservation;
use scraper::{ElementRef, Html, HtmlTreeSink, Node, Selector};

/// How much of a page is read before the reader looks up.
const PIECE_BYTES: usize = 1 << 10;
/// An element or a text in the list of all, which has room to grow and was copied as it grew.
const NODE_BYTES: u64 = 448;
/// An attribute in the list of its element, and its name.
const ATTRIBUTE_BYTES: u64 = 160;
/// A text takes its place in the page, and room to grow where pieces of it come together.
const TEXT_COPIES: u64 = 3;
/// How much is made before it is booked.
const STEP_BYTES: u64 = 64 << 10;
/// Nodes of a page without a tag.
const OWN_NODES: usize = 16;

/// What a page holds while it is looked into; given back when dropped.
pub(super) struct Booked<'h> {
    held: &'h mut Reservation,
    bytes: u64,
}

impl<'h> Booked<'h> {
    pub(super) fn new(held: &'h mut Reservation) -> Self {
        Self { held, bytes: 0 }
    }

    fn grow(&mut self, bytes: u64) -> Result<(), NoMemory> {
        self.held.grow(bytes)?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Booked<'_> {
    fn drop(&mut self) {
        self.held.shrink(self.bytes);
    }
}

/// The tree of a page; `None` where it passes a bound, or the time is over.
pub(super) fn read(text: &str, booked: &mut Booked<'_>, deadline: Instant) -> Result<Option<Html>, NoMemory> {
    booked.grow(text.len() as u64 * TEXT_COPIES)?;
    let tags = text.bytes().filter(|byte| *byte == b'<').count();
    let counting = Counting::new(tags.saturating_mul(CHECK_PAGE_NODES) + OWN_NODES);
    let tokenizer = Tokenizer::new(counting, TokenizerOpts::default());
    let counting = &tokenizer.sink;
    let (queue, mut tag, mut rest) = (BufferQueue::default(), OpenTag::default(), text);
    while !rest.is_empty() {
        if Instant::now() >= deadline {
            return Ok(None);
        }
        let (piece, following) = rest.split_at(piece_bytes(rest));
        let tokens = counting.tokens.get();
        queue.push_back(StrTendril::from_slice(piece));
        while let TokenizerResult::Script(_) = tokenizer.feed(&queue) {}
        tag.take(piece, counting.tokens.get() > tokens);
        if counting.is_over.get() || tag.attributes > CHECK_TAG_ATTRIBUTES {
            return Ok(None);
        }
        booked.grow(counting.made(STEP_BYTES))?;
        rest = following;
    }
    tokenizer.end();
    booked.grow(counting.made(0))?;
    Ok(Some(tokenizer.sink.builder.sink.finish()))
}

/// Each `<` begins a piece, so that a tag that is not closed yet begins with one.
fn piece_bytes(rest: &str) -> usize {
    let end = rest.char_indices().skip(1).find(|(at, c)| *c == '<' || *at >= PIECE_BYTES);
    end.map_or(rest.len(), |(at, _)| at)
}

/// The first element that a selector finds in time.
pub(super) fn first<'t>(
    document: &'t Html,
    selector: &Selector,
    deadline: Instant,
) -> Option<ElementRef<'t>> {
    let elements = document.tree.nodes().filter_map(ElementRef::wrap);
    let mut in_time = elements.take_while(|_| Instant::now() < deadline);
    // What was taken out of the tree is in the list still.
    in_time.find(|element| element.parent().is_some() && selector.matches(element))
}

type Builder = TreeBuilder<<HtmlTreeSink as TreeSink>::Handle, HtmlTreeSink>;

/// Passes tokens on, and counts what they make.
struct Counting {
    builder: Builder,
    tokens: Cell<u64>,
    nodes: Cell<usize>,
    most_nodes: usize,
    /// Not booked yet.
    bytes: Cell<u64>,
    is_over: Cell<bool>,
}

impl Counting {
    fn new(most_nodes: usize) -> Self {
        let sink = HtmlTreeSink::new(Html::new_document());
        Self {
            builder: TreeBuilder::new(sink, TreeBuilderOpts::default()),
            tokens: Cell::new(0),
            nodes: Cell::new(0),
            most_nodes,
            bytes: Cell::new(0),
            is_over: Cell::new(false),
        }
    }

    /// What was made since it was asked last, if that is more than so much.
    fn made(&self, step_bytes: u64) -> u64 {
        if self.bytes.get() > step_bytes { self.bytes.take() } else { 0 }
    }

    /// Counts the nodes that a token has made, which may be many.
    fn count(&self, attributes: usize) {
        let page = self.builder.sink.0.borrow();
        let nodes = page.tree.values();
        let made = nodes.len() - self.nodes.replace(nodes.len());
        // Where a tag makes no element, its attributes may go to one that is there.
        let loose = if made == 0 { attributes } else { 0 };
        let attributes = |node: &Node| node.as_element().map_or(0, |element| element.attrs.len());
        let attributes = loose + page.tree.values().rev().take(made).map(attributes).sum::<usize>();
        let bytes = made as u64 * NODE_BYTES + attributes as u64 * ATTRIBUTE_BYTES;
        self.bytes.set(self.bytes.get() + bytes);
        if self.nodes.get() > self.most_nodes {
            self.is_over.set(true);
        }
    }
}

impl TokenSink for Counting {
    type Handle = <Builder as TokenSink>::Handle;

    fn process_token(&self, token: Token, line: u64) -> TokenSinkResult<Self::Handle> {
        // Errors come within tags as well.
        if !matches!(token, Token::ParseError(_)) {
            self.tokens.set(self.tokens.get() + 1);
        }
        let attributes = match &token {
            TagToken(tag) if tag.kind == StartTag => tag.attrs.len(),
            _ => 0,
        };
        if attributes > CHECK_TAG_ATTRIBUTES {
            self.is_over.set(true);
        }
        if self.is_over.get() {
            return TokenSinkResult::Continue;
        }
        let processed = self.builder.process_token(token, line);
        self.count(attributes);
        processed
    }

    fn end(&self) {
        self.builder.end();
    }

    fn adjusted_current_node_present_but_not_in_html_namespace(&self) -> bool {
        self.builder.adjusted_current_node_present_but_not_in_html_namespace()
    }
}

/// Counts the attributes of a tag that has not ended yet. As long as pieces make no token, they belong to
/// a tag, to a comment or the like: text is a token as it comes, a script's too.
#[derive(Debug, Default)]
struct OpenTag {
    place: Place,
    attributes: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In no tag.
    #[default]
    Outside,
    /// In what begins like a tag and is none, until a token ends it.
    Other,
    Opening,
    Name,
    Gap,
    Attribute,
    AfterAttribute,
    BeforeValue,
    Value,
    Quoted(u8),
}

impl OpenTag {
    /// `made_token` tells whether something ended within the piece: then what follows it counts anew.
    fn take(&mut self, piece: &str, made_token: bool) {
        if made_token || self.place == Place::Outside {
            self.place = if piece.starts_with('<') { Place::Opening } else { Place::Outside };
        }
        let skipped = usize::from(self.place == Place::Opening && piece.starts_with('<'));
        for byte in piece.bytes().skip(skipped) {
            let before = self.place;
            self.place = before.after(byte);
            self.attributes += usize::from(self.place == Place::Attribute && before != Place::Attribute);
            if self.place == Place::Outside {
                break;
            }
        }
        // The tokenizer has told of the tags that end.
        if made_token || matches!(self.place, Place::Outside | Place::Other) {
            self.attributes = 0;
        }
    }
}

impl Place {
    /// As the tokenizer of HTML goes on, as far as attributes are concerned.
    fn after(self, byte: u8) -> Self {
        let is_space = matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0c);
        match (self, byte) {
            (Self::Outside | Self::Other, _) => self,
            (Self::Quoted(quote), _) => {
                if byte == quote {
                    Self::Gap
                } else {
                    self
                }
            }
            (Self::Opening, b'/') => Self::Opening,
            (Self::Opening, b'a'..=b'z' | b'A'..=b'Z') => Self::Name,
            (Self::Opening, _) => Self::Other,
            (_, b'>') => Self::Outside,
            (Self::BeforeValue, b'"' | b'\'') => Self::Quoted(byte),
            (Self::BeforeValue, _) => {
                if is_space {
                    self
                } else {
                    Self::Value
                }
            }
            (Self::Attribute | Self::AfterAttribute, b'=') => Self::BeforeValue,
            (Self::Attribute, _) if is_space => Self::AfterAttribute,
            (Self::AfterAttribute, _) if is_space => self,
            (Self::Name | Self::Gap | Self::Attribute | Self::AfterAttribute, b'/') => Self::Gap,
            (Self::Name | Self::Gap | Self::Value, _) if is_space => Self::Gap,
            (Self::Name | Self::Value, _) => self,
            (Self::Gap | Self::Attribute | Self::AfterAttribute, _) => Self::Attribute,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pilothouse_model::memory::Part;

    use super::super::inspected::Inspected;
    use super::*;

    fn in_a_minute() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    /// Reads with an account, which has to be empty afterwards; the bytes that it held are given too.
    fn read_all(text: &str, deadline: Instant) -> (Option<Html>, u64) {
        let (mut inspected, memory) = Inspected::of(text.to_owned());
        let (text, held) = inspected.text().unwrap();
        let mut booked = Booked::new(held);
        let read = read(text, &mut booked, deadline).unwrap();
        let bytes = memory.held_bytes(Part::Requests);
        drop(booked);
        assert_eq!(memory.held_bytes(Part::Requests), 0);
        (read, bytes)
    }

    fn attributes(n: usize) -> String {
        (0..n).map(|i| format!(" a{i}")).collect()
    }

    #[test]
    fn a_page_in_pieces_is_the_page_as_a_whole() {
        let long = "é ".repeat(PIECE_BYTES);
        for page in [
            String::new(),
            "\u{feff}<!doctype html><title>a &amp; b</title><p class=x>c<b>d</p><p>e".to_owned(),
            format!("<pre>\n\n{long}</pre><textarea>\n{long}</textarea>{long}"),
            format!("<p title=\"{long}<b>{long}\" lang='{long}'>x</p>"),
            format!("<!-- {long}<b {long} --><!{long}><?{long}>"),
            format!("<script>if (a<b && c</d) {{ '{long}' }}</script><style>a<b{long}</style>"),
            format!("<svg><![CDATA[{long}]]><path d='{}'/></svg>", "M 0 1 ".repeat(5_000)),
            "<table><tr><p>x<td>y<table>z</table></table>&notanentity &lt &#65; a<<b c".to_owned(),
            format!("<p>{}\r\n{long}\r\n<", "a & b ".repeat(1_000)),
            format!("<p {}>x</p>", attributes(CHECK_TAG_ATTRIBUTES)),
            "<p>".repeat(5_000),
            "<a href=x>".repeat(1_000),
        ] {
            let (read, _) = read_all(&page, in_a_minute());
            assert!(read.is_some_and(|read| read == Html::parse_document(&page)), "{page:.60}");
        }
    }

    #[test]
    fn a_page_that_costs_more_than_its_length_is_not_read() {
        let values = (0..9_000).map(|i| format!(" a{i}='<b>'")).collect::<String>();
        let unclosed = (0..2_000).map(|i| format!("<b a{i}>")).collect::<String>();
        for page in [
            format!("<p {}>x</p>", attributes(CHECK_TAG_ATTRIBUTES + 1)),
            // Never closed, and begun in odd places.
            format!("<p {}", attributes(9_000)),
            format!("<<p {}", attributes(9_000)),
            format!("<script>a</script {}", attributes(9_000)),
            format!("<p {}", attributes(9_000).replace(' ', "/")),
            format!("<p{values}"),
            format!("<p>{unclosed}</p>{}", "<p>x</p>".repeat(1_000)),
        ] {
            assert!(read_all(&page, in_a_minute()).0.is_none(), "{page:.60}");
        }
    }

    #[test]
    fn what_a_page_makes_is_booked() {
        let nodes = read_all(&"<p>x</p>".repeat(10_000), in_a_minute()).1;
        assert!(nodes >= 20_000 * NODE_BYTES, "{nodes}");
        let attributes = read_all(&"<p a b c d>".repeat(10_000), in_a_minute()).1;
        assert!(attributes >= 10_000 * (NODE_BYTES + 4 * ATTRIBUTE_BYTES), "{attributes}");
        let root = read_all(&"<html a b c d>".repeat(10_000), in_a_minute()).1;
        assert!(root >= 40_000 * ATTRIBUTE_BYTES, "{root}");
    }

    #[test]
    fn reading_and_looking_end_with_the_run() {
        assert!(read_all("<p>x", Instant::now()).0.is_none());
        let document = Html::parse_document("<p>x");
        let selector = Selector::parse("p").unwrap();
        assert!(first(&document, &selector, in_a_minute()).is_some());
        assert!(first(&document, &selector, Instant::now()).is_none());
        // Each tag looks at all that are open: this would take minutes.
        let (deep, started) = ("<div>".repeat(1 << 20), Instant::now());
        assert!(read_all(&deep, started + Duration::from_millis(50)).0.is_none());
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}
