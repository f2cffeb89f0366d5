//! A query as tokens with byte positions, by the rules of Prometheus' lexer.
//!
//! A text that cannot be read ends in an [`Word::Error`] token: whether that or something
//! before it is the first thing wrong is for the reader to say.

use pilothouse_model::labels::quote;

use crate::ast::{AggregateOp, BinaryOp, Span};

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Word {
    End,
    Error(String),
    Identifier,
    /// An identifier with a colon: a metric name, never a function or a label.
    MetricIdentifier,
    Number,
    Duration,
    Text,
    LeftParen,
    RightParen,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    Comma,
    Colon,
    /// `=`, inside braces or as a mistake outside.
    Equal,
    EqualRegex,
    NotEqualRegex,
    At,
    Operator(BinaryOp),
    Aggregator(AggregateOp),
    Keyword(Keyword),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keyword {
    Offset,
    Smoothed,
    Anchored,
    By,
    Without,
    On,
    Ignoring,
    GroupLeft,
    GroupRight,
    Fill,
    FillLeft,
    FillRight,
    Bool,
    // From here on they can be functions, too.
    Start,
    End,
    Step,
    Range,
    MaxOf,
    MinOf,
}

impl Keyword {
    pub(crate) fn is_function(self) -> bool {
        use Keyword::*;
        matches!(self, Start | End | Step | Range | MaxOf | MinOf)
    }

    pub(crate) fn is_metric_name(self) -> bool {
        use Keyword::*;
        !matches!(self, On | Ignoring | GroupLeft | GroupRight | Bool)
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Token {
    pub(crate) word: Word,
    pub(crate) span: Span,
}

impl Token {
    pub(crate) fn text<'q>(&self, query: &'q str) -> &'q str {
        query.get(self.span.start as usize..self.span.end as usize).unwrap_or("")
    }

    /// The token as Prometheus names one it did not expect.
    pub(crate) fn describe(&self, query: &str) -> String {
        let text = self.text(query);
        match &self.word {
            Word::End => "end of input".to_owned(),
            Word::Error(message) => format!("error {message}"),
            Word::Identifier => format!("identifier {}", quote(text)),
            Word::MetricIdentifier => format!("metric identifier {}", quote(text)),
            Word::Number => format!("number {}", quote_short(text)),
            Word::Duration => format!("duration {}", quote_short(text)),
            Word::Text => format!("string {}", quote_short(text)),
            Word::Keyword(keyword) if keyword.is_function() => quote_short(text),
            Word::Keyword(_) => format!("<{text}>"),
            Word::Operator(_) | Word::At | Word::EqualRegex | Word::NotEqualRegex => {
                format!("<op:{text}>")
            }
            Word::Aggregator(_) => format!("<aggr:{text}>"),
            _ => quote_short(text),
        }
    }
}

fn quote_short(text: &str) -> String {
    match text.char_indices().nth(10) {
        Some((cut, _)) if text.len() > 10 => format!("{}...", quote(&text[..cut])),
        _ => quote(text),
    }
}

/// Reads all tokens; the last is always [`Word::End`] or [`Word::Error`].
pub(crate) fn lex(query: &str) -> Vec<Token> {
    let mut lexer = Lexer { query, position: 0, start: 0, tokens: Vec::new(), parens: 0, bracket: None };
    if let Err(message) = lexer.run() {
        let span = Span::new(lexer.start, query.len());
        lexer.tokens.push(Token { word: Word::Error(message), span });
    }
    lexer.tokens
}

struct Lexer<'q> {
    query: &'q str,
    position: usize,
    start: usize,
    tokens: Vec<Token>,
    parens: u32,
    bracket: Option<Bracket>,
}

/// What was seen since `[`.
#[derive(Default)]
struct Bracket {
    colon: bool,
    duration: bool,
}

type Lexed = Result<(), String>;

impl<'q> Lexer<'q> {
    fn peek(&self) -> Option<char> {
        self.query[self.position..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.position += c.len_utf8();
        Some(c)
    }

    fn accept(&mut self, wanted: impl Fn(char) -> bool) -> bool {
        let accepted = self.peek().is_some_and(wanted);
        if accepted {
            self.next();
        }
        accepted
    }

    fn accept_all(&mut self, wanted: impl Fn(char) -> bool) {
        while self.accept(&wanted) {}
    }

    fn text(&self) -> &'q str {
        &self.query[self.start..self.position]
    }

    fn emit(&mut self, word: Word) -> Lexed {
        self.tokens.push(Token { word, span: Span::new(self.start, self.position) });
        self.start = self.position;
        Ok(())
    }

    fn run(&mut self) -> Lexed {
        loop {
            self.accept_all(is_space);
            self.start = self.position;
            if self.peek() == Some('#') {
                self.accept_all(|c| c != '\n' && c != '\r');
                continue;
            }
            let Some(c) = self.next() else { return self.end() };
            match (c, &self.bracket) {
                (_, Some(_)) => self.in_brackets(c)?,
                ('{', None) => {
                    self.emit(Word::LeftBrace)?;
                    self.braces()?;
                }
                (_, None) => self.outside(c)?,
            }
        }
    }

    fn end(&mut self) -> Lexed {
        if self.bracket.is_some() {
            return Err(if self.after_duration() {
                "unclosed left bracket".to_owned()
            } else {
                "unexpected end of input in duration expression".to_owned()
            });
        }
        if self.parens != 0 {
            return Err("unclosed left parenthesis".to_owned());
        }
        self.emit(Word::End)
    }

    /// Prometheus leaves its duration state once a number was read, which shows in the texts.
    fn after_duration(&self) -> bool {
        matches!(self.tokens.last(), Some(Token { word: Word::Number | Word::Duration, .. }))
    }

    fn outside(&mut self, c: char) -> Lexed {
        match c {
            ',' => self.emit(Word::Comma),
            '(' => self.open_paren(),
            ')' => self.close_paren(),
            '[' => {
                self.bracket = Some(Bracket::default());
                self.emit(Word::LeftBracket)
            }
            ']' => Err(format!("unexpected right bracket {c:?}")),
            '@' => self.emit(Word::At),
            '"' | '\'' => self.quoted(c),
            '`' => self.raw(),
            '=' | '!' | '<' | '>' => self.comparison(c),
            '*' | '/' | '%' | '+' | '-' | '^' => self.arithmetic(c),
            '.' if self.peek().is_some_and(|d| d.is_ascii_digit()) => self.number_or_duration(),
            c if c.is_ascii_digit() => self.number_or_duration(),
            c if is_alpha(c) || c == ':' => self.word(),
            c => Err(format!("unexpected character: {c:?}")),
        }
    }

    fn open_paren(&mut self) -> Lexed {
        self.parens += 1;
        self.emit(Word::LeftParen)
    }

    fn close_paren(&mut self) -> Lexed {
        let Some(left) = self.parens.checked_sub(1) else {
            return Err("unexpected right parenthesis ')'".to_owned());
        };
        self.parens = left;
        self.emit(Word::RightParen)
    }

    fn arithmetic(&mut self, c: char) -> Lexed {
        self.emit(Word::Operator(match c {
            '*' => BinaryOp::Mul,
            '/' => BinaryOp::Div,
            '%' => BinaryOp::Mod,
            '+' => BinaryOp::Add,
            '-' => BinaryOp::Sub,
            _ => BinaryOp::Pow,
        }))
    }

    fn comparison(&mut self, c: char) -> Lexed {
        let next = self.peek();
        let op = match (c, next) {
            ('=', Some('=')) => BinaryOp::Eq,
            ('!', Some('=')) => BinaryOp::Ne,
            ('<', Some('=')) => BinaryOp::Le,
            ('<', Some('/')) => BinaryOp::TrimUpper,
            ('>', Some('=')) => BinaryOp::Ge,
            ('>', Some('/')) => BinaryOp::TrimLower,
            ('<', _) => return self.emit(Word::Operator(BinaryOp::Lt)),
            ('>', _) => return self.emit(Word::Operator(BinaryOp::Gt)),
            ('=', Some('~')) => return Err("unexpected character after '=': '~'".to_owned()),
            ('=', _) => return self.emit(Word::Equal),
            (_, next) => return Err(format!("unexpected character after '!': {}", show(next))),
        };
        self.next();
        self.emit(Word::Operator(op))
    }

    fn in_brackets(&mut self, c: char) -> Lexed {
        match c {
            ']' => {
                self.bracket = None;
                self.emit(Word::RightBracket)
            }
            ':' => self.colon(),
            '(' => self.open_paren(),
            ')' => self.close_paren(),
            ',' => self.emit(Word::Comma),
            '*' | '/' | '%' | '+' | '-' | '^' => self.arithmetic(c),
            '.' if self.peek().is_some_and(|d| d.is_ascii_digit()) => self.bracket_number(),
            c if c.is_ascii_digit() => self.bracket_number(),
            c if is_alpha(c) => self.duration_keyword(c),
            '[' => Err("unexpected left bracket '['".to_owned()),
            c => Err(format!("unexpected character in duration expression: {c:?}")),
        }
    }

    fn colon(&mut self) -> Lexed {
        let bracket = self.bracket.get_or_insert_default();
        if bracket.colon {
            return Err("unexpected colon ':'".to_owned());
        }
        if !bracket.duration {
            return Err("unexpected colon before duration in duration expression".to_owned());
        }
        bracket.colon = true;
        self.emit(Word::Colon)
    }

    fn bracket_number(&mut self) -> Lexed {
        self.bracket.get_or_insert_default().duration = true;
        self.number_or_duration()
    }

    fn duration_keyword(&mut self, first: char) -> Lexed {
        let after_duration = self.after_duration();
        self.accept_all(is_alpha);
        let keyword = match self.text().to_ascii_lowercase().as_str() {
            "step" => Keyword::Step,
            "range" => Keyword::Range,
            "max_of" => Keyword::MaxOf,
            "min_of" => Keyword::MinOf,
            _ if after_duration => return Err(format!("unexpected character: {first:?}, expected ':'")),
            _ => return Err(format!("unexpected character in duration expression: {first:?}")),
        };
        self.bracket.get_or_insert_default().duration = true;
        self.emit(Word::Keyword(keyword))
    }

    /// Inside braces there are no keywords.
    fn braces(&mut self) -> Lexed {
        loop {
            self.accept_all(is_space);
            self.start = self.position;
            let Some(c) = self.next() else {
                return Err("unexpected end of input inside braces".to_owned());
            };
            match c {
                '#' => self.accept_all(|c| c != '\n' && c != '\r'),
                '}' => return self.emit(Word::RightBrace),
                ',' => self.emit(Word::Comma)?,
                '"' | '\'' => self.quoted(c)?,
                '`' => self.raw()?,
                '=' if self.accept(|c| c == '~') => self.emit(Word::EqualRegex)?,
                '=' => self.emit(Word::Equal)?,
                '!' if self.accept(|c| c == '~') => self.emit(Word::NotEqualRegex)?,
                '!' if self.accept(|c| c == '=') => self.emit(Word::Operator(BinaryOp::Ne))?,
                '!' => {
                    let next = show(self.peek());
                    return Err(format!("unexpected character after '!' inside braces: {next}"));
                }
                '{' => return Err("unexpected left brace '{'".to_owned()),
                c if is_alpha(c) => {
                    self.accept_all(is_alphanumeric);
                    self.emit(Word::Identifier)?;
                }
                c => return Err(format!("unexpected character inside braces: {c:?}")),
            }
        }
    }

    fn raw(&mut self) -> Lexed {
        self.accept_all(|c| c != '`');
        match self.next() {
            Some(_) => self.emit(Word::Text),
            None => Err("unterminated raw string".to_owned()),
        }
    }

    fn quoted(&mut self, quote: char) -> Lexed {
        loop {
            match self.next() {
                Some('\\') => self.escape(quote)?,
                Some('\n') | None => return Err("unterminated quoted string".to_owned()),
                Some(c) if c == quote => return self.emit(Word::Text),
                Some(_) => {}
            }
        }
    }

    fn escape(&mut self, quote: char) -> Lexed {
        let (digits, base, max) = match self.next() {
            Some('a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\') => return Ok(()),
            Some(c) if c == quote => return Ok(()),
            Some('0'..='7') => {
                self.position -= 1;
                (3, 8, 255)
            }
            Some('x') => (2, 16, 255),
            Some('u') => (4, 16, 0x10_ffff),
            Some('U') => (8, 16, 0x10_ffff),
            None => return Err("escape sequence not terminated".to_owned()),
            Some(c) => return Err(format!("unknown escape sequence {}", code_point(c))),
        };
        let mut value = 0u32;
        for _ in 0..digits {
            let c = self.next().ok_or("escape sequence not terminated")?;
            let digit = c
                .to_digit(base)
                .ok_or_else(|| format!("illegal character {} in escape sequence", code_point(c)))?;
            value = value.wrapping_mul(base).wrapping_add(digit);
        }
        if value > max || (0xd800..0xe000).contains(&value) {
            return Err("escape sequence is an invalid Unicode code point".to_owned());
        }
        Ok(())
    }

    fn number_or_duration(&mut self) -> Lexed {
        self.position = self.start;
        if self.scan_number() {
            return self.emit(Word::Number);
        }
        if self.scan_duration_rest() {
            return self.emit(Word::Duration);
        }
        Err(format!("bad number or duration syntax: {}", quote(self.text())))
    }

    /// Scans what looks like a number; that it is one is checked when it is read.
    fn scan_number(&mut self) -> bool {
        let hex = self.accept(|c| c == '0') && self.accept(|c| matches!(c, 'x' | 'X'));
        if hex {
            self.accept(|c| c == '_');
        }
        let digit = move |c: char| if hex { c.is_ascii_hexdigit() } else { c.is_ascii_digit() };
        let (mut dot, mut exponent) = (false, false);
        self.accept(|c| c == '.');
        self.accept(digit);
        while let Some(c) = self.peek() {
            if c == '.' {
                self.next();
                if dot || self.accept(|c| matches!(c, '_' | '.')) || hex {
                    return false;
                }
                dot = true;
            } else if matches!(c, 'e' | 'E') && !hex {
                self.next();
                if exponent {
                    return false;
                }
                exponent = true;
                self.accept(|c| matches!(c, '+' | '-'));
                if self.accept(|c| matches!(c, '.' | '_' | 'e' | 'E')) || self.peek().is_none() {
                    return false;
                }
            } else if c == '_' {
                self.next();
                if self.accept(|c| matches!(c, '.' | '_' | 'e' | 'E')) || self.peek().is_none() {
                    return false;
                }
            } else if digit(c) {
                self.accept_all(digit);
            } else {
                break;
            }
        }
        !self.text().is_empty() && !self.peek().is_some_and(is_alphanumeric)
    }

    /// After the first number of a duration: its unit, then more numbers and units.
    fn scan_duration_rest(&mut self) -> bool {
        if !self.accept(|c| "smhdwy".contains(c)) {
            return false;
        }
        self.accept(|c| c == 's');
        while self.accept(|c| c.is_ascii_digit()) {
            self.accept_all(|c| c.is_ascii_digit());
            if !self.accept(|c| "smhdw".contains(c)) {
                return false;
            }
            self.accept(|c| c == 's');
        }
        !self.peek().is_some_and(is_alphanumeric)
    }

    fn word(&mut self) -> Lexed {
        self.accept_all(|c| is_alphanumeric(c) || c == ':');
        let text = self.text();
        let word = match keyword(&text.to_ascii_lowercase()) {
            Some(Word::Keyword(Keyword::Fill | Keyword::FillLeft | Keyword::FillRight))
                if !self.query[self.position..].trim_start_matches(is_space).starts_with('(') =>
            {
                Word::Identifier
            }
            Some(word) => word,
            None if text.contains(':') => Word::MetricIdentifier,
            None => Word::Identifier,
        };
        self.emit(word)
    }
}

fn keyword(lower: &str) -> Option<Word> {
    use Keyword::*;
    if let Some(op) = AggregateOp::ALL.into_iter().find(|op| op.as_str() == lower) {
        return Some(Word::Aggregator(op));
    }
    Some(Word::Keyword(match lower {
        "and" => return Some(Word::Operator(BinaryOp::And)),
        "or" => return Some(Word::Operator(BinaryOp::Or)),
        "unless" => return Some(Word::Operator(BinaryOp::Unless)),
        "atan2" => return Some(Word::Operator(BinaryOp::Atan2)),
        "inf" | "nan" => return Some(Word::Number),
        "offset" => Offset,
        "smoothed" => Smoothed,
        "anchored" => Anchored,
        "by" => By,
        "without" => Without,
        "on" => On,
        "ignoring" => Ignoring,
        "group_left" => GroupLeft,
        "group_right" => GroupRight,
        "fill" => Fill,
        "fill_left" => FillLeft,
        "fill_right" => FillRight,
        "bool" => Bool,
        "start" => Start,
        "end" => End,
        "step" => Step,
        "range" => Range,
        "max_of" => MaxOf,
        "min_of" => MinOf,
        _ => return None,
    }))
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

fn is_alpha(c: char) -> bool {
    c == '_' || c.is_ascii_alphabetic()
}

fn is_alphanumeric(c: char) -> bool {
    is_alpha(c) || c.is_ascii_digit()
}

fn show(c: Option<char>) -> String {
    c.map_or_else(|| "'\u{fffd}'".to_owned(), |c| format!("{c:?}"))
}

fn code_point(c: char) -> String {
    format!("U+{:04X} {c:?}", c as u32)
}
