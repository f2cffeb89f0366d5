//! Regular expressions as Go's `regexp/syntax` reads them, made into the intermediate form of
//! `regex-syntax`.
//!
//! Prometheus, Mimir and Loki take RE2 syntax, which the Rust syntax resembles and is not: `\d`,
//! `\w`, `\s` and `\b` are ASCII there, `{` that begins no repetition is a literal, `&&` and `[`
//! within a class are plain text, `\Q..\E` quotes, `\z` is known and `\Z` is not. Rewriting one
//! text into the other would have to know all of that twice. So expressions are read here, and
//! no text of them is ever given to the other parser. Messages are those of Go, since they
//! reach users.
//!
//! There is no recursion: groups are a stack of frames. Every bound of Go is kept, and some are
//! narrower (see the constants), because the form that is made is walked recursively later on.

use crate::limits;
use regex_syntax::hir::{Capture, Class, ClassUnicode, ClassUnicodeRange, Dot, Hir, Look, Repetition};

use super::re2_classes as classes;
use super::syntax_error::{SyntaxError, SyntaxErrorKind};

type Result<T> = std::result::Result<T, SyntaxError>;

/// Whether groups are to capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Groups {
    Capture,
    /// Where only the match counts; a captured part would stand in the way of faster forms.
    Ignore,
}

/// An expression that was read.
#[derive(Debug, Clone)]
pub struct Expression {
    /// Captures are numbered from 1 in the order of their parentheses, without names.
    pub hir: Hir,
    /// The name of each capture, the whole match as number 0 included. Names may repeat.
    pub names: Vec<Option<String>>,
}

/// Reads an expression. At its begin `.` matches line feeds, as in matchers of labels.
pub(super) fn parse(text: &str, groups: Groups) -> Result<Expression> {
    parse_with(text, groups, true)
}

/// Reads an expression in which `.` does not match line feeds, as Go has it by default and Loki
/// in what looks at lines.
pub fn parse_line(text: &str, groups: Groups) -> Result<Expression> {
    parse_with(text, groups, false)
}

fn parse_with(text: &str, groups: Groups, dot_all: bool) -> Result<Expression> {
    let mut parser = Parser {
        text,
        at: 0,
        flags: Flags { fold_case: false, multi_line: false, dot_all, lazy: false },
        open: vec![Frame::default()],
        groups,
        names: vec![None],
        ranges: 0,
    };
    let mut last_repeat = None;
    while let Some(next) = parser.peek() {
        last_repeat = parser.step(next, last_repeat)?;
    }
    parser.finish()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flags {
    pub(super) fold_case: bool,
    multi_line: bool,
    dot_all: bool,
    lazy: bool,
}

/// One thing that a repetition can apply to.
#[derive(Debug)]
struct Item {
    hir: Hir,
    depth: u32,
    /// The product of the repetition counts around anything within.
    repeats: u32,
}

/// A group that is still open; the outermost is the expression itself.
#[derive(Debug, Default)]
struct Frame {
    /// Flags to go back to behind the group.
    outer: Option<Flags>,
    capture: Option<u32>,
    alternatives: Vec<Item>,
    concat: Vec<Item>,
}

impl Frame {
    /// Ends the alternative that is being read.
    fn end_alternative(&mut self) {
        let items = std::mem::take(&mut self.concat);
        self.alternatives.push(join(items, Hir::concat));
    }

    fn into_item(mut self) -> Item {
        self.end_alternative();
        let inner = join(self.alternatives, Hir::alternation);
        let depth = inner.depth + 1;
        let hir = match self.capture {
            Some(index) => Hir::capture(Capture { index, name: None, sub: Box::new(inner.hir) }),
            None => inner.hir,
        };
        Item { hir, depth, repeats: inner.repeats }
    }
}

fn join(items: Vec<Item>, make: fn(Vec<Hir>) -> Hir) -> Item {
    let depth = items.iter().map(|i| i.depth).max().unwrap_or(0);
    let repeats = items.iter().map(|i| i.repeats).max().unwrap_or(1);
    Item { hir: make(items.into_iter().map(|i| i.hir).collect()), depth, repeats }
}

#[derive(Debug)]
struct Parser<'a> {
    text: &'a str,
    at: usize,
    flags: Flags,
    open: Vec<Frame>,
    groups: Groups,
    names: Vec<Option<String>>,
    ranges: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn take(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    fn take_if(&mut self, text: &str) -> bool {
        let there = self.rest().starts_with(text);
        if there {
            self.at += text.len();
        }
        there
    }

    /// An error about the text from `start` to where reading has come.
    fn error<T>(&self, kind: SyntaxErrorKind, start: usize) -> Result<T> {
        Err(SyntaxError::new(kind, self.text.get(start..self.at).unwrap_or("")))
    }

    fn error_of_all<T>(&self, kind: SyntaxErrorKind) -> Result<T> {
        Err(SyntaxError::new(kind, self.text))
    }

    /// Reads one element. `last_repeat` is where the repetition operator right before it
    /// began; returned is the same for the next one.
    fn step(&mut self, next: char, last_repeat: Option<usize>) -> Result<Option<usize>> {
        let start = self.at;
        match next {
            '*' | '+' | '?' => {
                self.at += 1;
                let min = u32::from(next == '+');
                let max = (next == '?').then_some(1);
                self.repeat(Count { min, max, counted: false }, start, last_repeat)?;
                return Ok(Some(start));
            }
            '{' => {
                if let Some(count) = self.repeat_count()? {
                    self.repeat(count, start, last_repeat)?;
                    return Ok(Some(start));
                }
                self.at += 1;
                self.literal('{')?;
            }
            '(' if self.rest().starts_with("(?") => self.perl_group()?,
            '(' => {
                self.at += 1;
                self.open_group(Some(None))?;
            }
            '|' => {
                self.at += 1;
                self.innermost().end_alternative();
            }
            ')' => {
                self.at += 1;
                self.close_group()?;
            }
            '^' => {
                self.one_char(Hir::look(if self.flags.multi_line { Look::StartLF } else { Look::Start }))?
            }
            '$' => self.one_char(Hir::look(if self.flags.multi_line { Look::EndLF } else { Look::End }))?,
            '.' => {
                let dot = if self.flags.dot_all { Dot::AnyChar } else { Dot::AnyCharExceptLF };
                self.one_char(Hir::dot(dot))?;
            }
            '[' => self.class()?,
            '\\' => self.backslash()?,
            literal => {
                self.at += literal.len_utf8();
                self.literal(literal)?;
            }
        }
        Ok(None)
    }

    fn one_char(&mut self, hir: Hir) -> Result<()> {
        self.at += 1;
        self.push(hir)
    }

    fn innermost(&mut self) -> &mut Frame {
        // The outermost frame is never closed.
        if self.open.is_empty() {
            self.open.push(Frame::default());
        }
        let last = self.open.len() - 1;
        &mut self.open[last]
    }

    fn push(&mut self, hir: Hir) -> Result<()> {
        self.push_item(Item { hir, depth: 0, repeats: 1 })
    }

    fn push_item(&mut self, item: Item) -> Result<()> {
        if item.depth > limits::REGEX_DEPTH {
            return self.error_of_all(SyntaxErrorKind::NestingDepth);
        }
        self.innermost().concat.push(item);
        Ok(())
    }

    fn literal(&mut self, literal: char) -> Result<()> {
        if self.flags.fold_case {
            return self
                .push_class(classes::folded(ClassUnicode::new([ClassUnicodeRange::new(literal, literal)])));
        }
        self.push(Hir::literal(literal.encode_utf8(&mut [0; 4]).as_bytes()))
    }

    fn push_class(&mut self, class: ClassUnicode) -> Result<()> {
        self.ranges += class.ranges().len();
        if self.ranges > limits::REGEX_RANGES {
            return self.error_of_all(SyntaxErrorKind::TooLarge);
        }
        self.push(Hir::class(Class::Unicode(class)))
    }

    fn open_group(&mut self, capture: Option<Option<String>>) -> Result<()> {
        if self.open.len() > limits::REGEX_DEPTH as usize {
            return self.error_of_all(SyntaxErrorKind::NestingDepth);
        }
        let mut frame = Frame { outer: Some(self.flags), ..Frame::default() };
        if let Some(name) = capture
            && self.groups == Groups::Capture
        {
            frame.capture = Some(self.names.len() as u32);
            self.names.push(name);
        }
        self.open.push(frame);
        Ok(())
    }

    fn close_group(&mut self) -> Result<()> {
        if self.open.len() < 2 {
            return self.error_of_all(SyntaxErrorKind::UnexpectedParen);
        }
        let Some(frame) = self.open.pop() else {
            return self.error_of_all(SyntaxErrorKind::UnexpectedParen);
        };
        self.flags = frame.outer.unwrap_or(self.flags);
        self.push_item(frame.into_item())
    }

    fn finish(mut self) -> Result<Expression> {
        match (self.open.pop(), self.open.is_empty()) {
            (Some(frame), true) => Ok(Expression { hir: frame.into_item().hir, names: self.names }),
            _ => self.error_of_all(SyntaxErrorKind::MissingParen),
        }
    }

    /// Reads from `(?` on: a named group, one that does not capture, or a change of flags.
    fn perl_group(&mut self) -> Result<()> {
        let start = self.at;
        let rest = self.rest();
        // Go asks for one character behind the bracket before it takes it for a name.
        let named =
            [("(?P<", 4), ("(?<", 3)].into_iter().find(|(p, n)| rest.starts_with(p) && rest.len() > *n);
        if let Some((_, name_at)) = named {
            let Some(end) = rest.find('>') else {
                self.at = self.text.len();
                return self.error(SyntaxErrorKind::InvalidNamedCapture, start);
            };
            self.at += end + 1;
            let name = rest.get(name_at..end).unwrap_or("");
            if name.is_empty() || !name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric()) {
                return self.error(SyntaxErrorKind::InvalidNamedCapture, start);
            }
            return self.open_group(Some(Some(name.to_owned())));
        }
        self.at += 2;
        self.flag_group(start)
    }

    fn flag_group(&mut self, start: usize) -> Result<()> {
        let mut flags = self.flags;
        let (mut on, mut flag_seen) = (true, false);
        while let Some(next) = self.take() {
            match next {
                'i' => flags.fold_case = on,
                'm' => flags.multi_line = on,
                's' => flags.dot_all = on,
                'U' => flags.lazy = on,
                '-' if on => {
                    (on, flag_seen) = (false, false);
                    continue;
                }
                ':' | ')' if on || flag_seen => {
                    if next == ':' {
                        self.open_group(None)?;
                    }
                    self.flags = flags;
                    return Ok(());
                }
                _ => break,
            }
            flag_seen = true;
        }
        self.error(SyntaxErrorKind::InvalidPerlOp, start)
    }

    /// Reads `{n}`, `{n,}` or `{n,m}`; `None`, with nothing read, if it is something else.
    fn repeat_count(&mut self) -> Result<Option<Count>> {
        let start = self.at;
        let Some((count, length)) = Count::read(self.rest()) else { return Ok(None) };
        self.at += length;
        if count.min > limits::REGEX_REPEAT
            || count.max.is_some_and(|m| m > limits::REGEX_REPEAT || m < count.min)
        {
            return self.error(SyntaxErrorKind::InvalidRepeatSize, start);
        }
        Ok(Some(count))
    }

    /// Applies a repetition, whose operator began at `start`, to what was read last.
    fn repeat(&mut self, count: Count, start: usize, last_repeat: Option<usize>) -> Result<()> {
        let lazy = self.take_if("?") != self.flags.lazy;
        if let Some(last) = last_repeat {
            return self.error(SyntaxErrorKind::InvalidRepeatOp, last);
        }
        let Some(item) = self.innermost().concat.pop() else {
            return self.error(SyntaxErrorKind::MissingRepeatArgument, start);
        };
        let repeats = count.repeats(item.repeats);
        if count.is_several() && repeats > limits::REGEX_REPEAT {
            return self.error(SyntaxErrorKind::InvalidRepeatSize, start);
        }
        let repetition =
            Repetition { min: count.min, max: count.max, greedy: !lazy, sub: Box::new(item.hir) };
        self.push_item(Item { hir: Hir::repetition(repetition), depth: item.depth + 1, repeats })
    }

    fn backslash(&mut self) -> Result<()> {
        let start = self.at;
        let look = match self.rest().as_bytes().get(1) {
            Some(b'A') => Some(Look::Start),
            Some(b'z') => Some(Look::End),
            Some(b'b') => Some(Look::WordAscii),
            Some(b'B') => Some(Look::WordAsciiNegate),
            Some(b'C') => {
                self.at += 2;
                return self.error(SyntaxErrorKind::InvalidEscape, start);
            }
            Some(b'Q') => return self.quoted(),
            _ => None,
        };
        if let Some(look) = look {
            self.at += 2;
            return self.push(Hir::look(look));
        }
        if let Some(class) = self.class_escape()? {
            return self.push_class(class);
        }
        match self.escape()? {
            Some(literal) => self.literal(literal),
            // A surrogate, which no text holds.
            None => self.push(Hir::fail()),
        }
    }

    fn quoted(&mut self) -> Result<()> {
        self.at += 2;
        let rest = self.rest();
        let (quoted, length) = match rest.find("\\E") {
            Some(end) => (&rest[..end], end + 2),
            None => (rest, rest.len()),
        };
        self.at += length;
        quoted.chars().try_for_each(|c| self.literal(c))
    }

    /// A class that is written with a backslash, if one stands here.
    fn class_escape(&mut self) -> Result<Option<ClassUnicode>> {
        let start = self.at;
        let Some(letter) = self.rest().strip_prefix('\\').and_then(|r| r.chars().next()) else {
            return Ok(None);
        };
        let found = classes::perl(letter, self.flags.fold_case);
        if let Some(class) = found {
            self.at += 2;
            return Ok(Some(class));
        }
        if letter != 'p' && letter != 'P' {
            return Ok(None);
        }
        self.at += 2;
        let name = match self.take() {
            Some('{') => {
                let rest = self.rest();
                let Some(end) = rest.find('}') else {
                    self.at = self.text.len();
                    return self.error(SyntaxErrorKind::InvalidCharRange, start);
                };
                self.at += end + 1;
                &rest[..end]
            }
            Some(_) => self.text.get(start + 2..self.at).unwrap_or(""),
            None => "",
        };
        match classes::unicode(name, letter == 'P', self.flags.fold_case) {
            Some(class) => Ok(Some(class)),
            None => self.error(SyntaxErrorKind::InvalidCharRange, start),
        }
    }

    /// One escaped character; `None` if the number it is written with is that of no character.
    fn escape(&mut self) -> Result<Option<char>> {
        let code = self.escape_code()?;
        Ok(char::from_u32(code))
    }

    fn escape_code(&mut self) -> Result<u32> {
        let start = self.at;
        self.at += 1;
        let Some(letter) = self.take() else {
            return Err(SyntaxError::new(SyntaxErrorKind::TrailingBackslash, ""));
        };
        let next_is_octal = self.peek().is_some_and(|c| c.is_digit(8));
        Ok(match letter {
            'a' => 0x07,
            'f' => 0x0c,
            'n' => 0x0a,
            'r' => 0x0d,
            't' => 0x09,
            'v' => 0x0b,
            'x' => return self.hex_code(start),
            // A single digit would refer back to a group, which is not supported.
            '1'..='7' if !next_is_octal => return self.error(SyntaxErrorKind::InvalidEscape, start),
            '0'..='7' => {
                let mut code = letter.to_digit(8).unwrap_or(0);
                for _ in 0..2 {
                    let Some(digit) = self.peek().and_then(|c| c.to_digit(8)) else { break };
                    code = code * 8 + digit;
                    self.at += 1;
                }
                code
            }
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => u32::from(c),
            _ => return self.error(SyntaxErrorKind::InvalidEscape, start),
        })
    }

    /// `\xHH` or `\x{H..}`, read up to the `x`.
    fn hex_code(&mut self, start: usize) -> Result<u32> {
        if self.take_if("{") {
            let (mut code, mut digits) = (0u32, 0);
            while let Some(next) = self.take() {
                match next.to_digit(16) {
                    Some(digit) => code = code * 16 + digit,
                    None if next == '}' && digits > 0 => return Ok(code),
                    None => break,
                }
                if code > u32::from(char::MAX) {
                    break;
                }
                digits += 1;
            }
            return self.error(SyntaxErrorKind::InvalidEscape, start);
        }
        let digits = (self.take(), self.take());
        match (digits.0.and_then(|c| c.to_digit(16)), digits.1.and_then(|c| c.to_digit(16))) {
            (Some(high), Some(low)) => Ok(high * 16 + low),
            _ => self.error(SyntaxErrorKind::InvalidEscape, start),
        }
    }

    fn class(&mut self) -> Result<()> {
        let start = self.at;
        self.at += 1;
        let negated = self.take_if("^");
        let mut class = ClassUnicode::empty();
        let mut first = true;
        // A bracket right at the begin is a member.
        while first || !self.rest().starts_with(']') {
            first = false;
            if let Some(named) = self.posix_class()? {
                class.union(&named);
            } else if let Some(named) = self.class_escape()? {
                class.union(&named);
            } else {
                let range = self.class_range(start)?;
                if let Some(range) = range {
                    class.push(range);
                }
            }
        }
        self.at += 1;
        if self.flags.fold_case {
            class = classes::folded(class);
        }
        if negated {
            class.negate();
        }
        self.push_class(class)
    }

    /// `[:name:]`, if one stands here.
    fn posix_class(&mut self) -> Result<Option<ClassUnicode>> {
        let start = self.at;
        let Some(length) = self.rest().strip_prefix("[:").and_then(|r| r.find(":]")) else {
            return Ok(None);
        };
        self.at += length + 4;
        let name = self.text.get(start + 2..self.at - 2).unwrap_or("");
        match classes::posix(name, self.flags.fold_case) {
            Some(class) => Ok(Some(class)),
            None => self.error(SyntaxErrorKind::InvalidCharRange, start),
        }
    }

    /// A single member or a range of a class that began at `class_start`.
    fn class_range(&mut self, class_start: usize) -> Result<Option<ClassUnicodeRange>> {
        let start = self.at;
        let low = self.class_char(class_start)?;
        let mut high = low;
        // A hyphen before the end of the class is a member of its own.
        let rest = self.rest().as_bytes();
        if rest.first() == Some(&b'-') && rest.get(1).is_some_and(|b| *b != b']') {
            self.at += 1;
            high = self.class_char(class_start)?;
        }
        if high < low {
            return self.error(SyntaxErrorKind::InvalidCharRange, start);
        }
        Ok(classes::range(low, high))
    }

    fn class_char(&mut self, class_start: usize) -> Result<u32> {
        if self.rest().starts_with('\\') {
            return self.escape_code();
        }
        match self.take() {
            Some(c) => Ok(u32::from(c)),
            None => Err(SyntaxError::new(
                SyntaxErrorKind::MissingBracket,
                self.text.get(class_start..).unwrap_or(""),
            )),
        }
    }
}

/// How often something is to be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Count {
    min: u32,
    max: Option<u32>,
    /// Written in braces.
    counted: bool,
}

impl Count {
    /// Reads a count in braces, and how many bytes it takes.
    fn read(text: &str) -> Option<(Self, usize)> {
        let inner = text.strip_prefix('{')?;
        let end = inner.find('}')?;
        let inner = &inner[..end];
        let (min, max) = match inner.split_once(',') {
            None => {
                let n = number(inner)?;
                (n, Some(n))
            }
            Some((min, "")) => (number(min)?, None),
            Some((min, max)) => (number(min)?, Some(number(max)?)),
        };
        Some((Self { min, max, counted: true }, end + 2))
    }

    fn is_several(self) -> bool {
        self.counted && (self.min >= 2 || self.max.is_some_and(|m| m >= 2))
    }

    /// The product of counts with those of what is repeated.
    fn repeats(self, inner: u32) -> u32 {
        match (self.counted, self.max.unwrap_or(self.min)) {
            (false, _) => inner,
            (true, 0) if self.max.is_some() => 1,
            (true, n) => n.max(1).saturating_mul(inner),
        }
    }
}

/// A whole number without leading zeros; one that is too large for any use is the greatest.
fn number(digits: &str) -> Option<u32> {
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let leading_zero = digits.len() > 1 && digits.starts_with('0');
    (plain && !leading_zero).then(|| digits.parse().unwrap_or(u32::MAX))
}
