//! Text to tokens, with the rules of Loki's lexer: Go's scanner underneath, words in any case,
//! functions only in front of a parenthesis or a grouping.

use pilothouse_model::labels::unquote;
use pilothouse_query::units::parse_bytes;

use super::ast::{RangeOp, VectorOp};
use super::duration::{parse_query_duration, parse_range};
use super::token::{Placed, Token, Word};
use crate::LogqlError;

pub(crate) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    line: u32,
    /// Characters read of the current line.
    column: u32,
    /// A number without its digits was read, as Go's scanner does: it is a token all the same, and
    /// the last one.
    unfinished: Option<LogqlError>,
}

impl<'a> Lexer<'a> {
    /// The tokens, and what ended them before the text did. They end in [`Token::End`] at any
    /// rate, so that what is wrong in front of the broken one is told first.
    pub(crate) fn all(text: &'a str) -> (Vec<Placed>, Option<LogqlError>) {
        let mut lexer = Self { text, at: 0, line: 1, column: 0, unfinished: None };
        let mut tokens = Vec::new();
        loop {
            match lexer.next() {
                Ok(token) => {
                    let end = token.token == Token::End;
                    tokens.push(token);
                    if end {
                        return (tokens, None);
                    }
                    if let Some(broken) = lexer.unfinished.take() {
                        tokens.push(lexer.end());
                        return (tokens, Some(broken));
                    }
                }
                Err(broken) => {
                    tokens.push(lexer.end());
                    return (tokens, Some(broken));
                }
            }
        }
    }

    fn end(&self) -> Placed {
        Placed { token: Token::End, line: self.line, column: self.column }
    }

    fn peek(&self) -> Option<char> {
        self.text.get(self.at..)?.chars().next()
    }

    fn peek_second(&self) -> Option<char> {
        self.text.get(self.at..)?.chars().nth(1)
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        if c == '\n' {
            self.line += 1;
            self.column = 0;
        } else {
            self.column += 1;
        }
        Some(c)
    }

    fn bump_while(&mut self, mut keep: impl FnMut(char) -> bool) {
        while self.peek().is_some_and(&mut keep) {
            self.bump();
        }
    }

    fn error(&self, message: impl Into<String>, line: u32, column: u32) -> LogqlError {
        LogqlError::Parse { message: message.into(), line, column }
    }

    fn next(&mut self) -> Result<Placed, LogqlError> {
        self.skip_blank()?;
        let (line, column, start) = (self.line, self.column + 1, self.at);
        let whole = |token| Placed { token, line, column };
        let Some(c) = self.peek() else {
            return Ok(whole(Token::End));
        };
        if c.is_ascii_digit() || (c == '.' && self.peek_second().is_some_and(|d| d.is_ascii_digit())) {
            return self.number(start, line, column);
        }
        if c == '_' || c.is_alphabetic() {
            self.bump_while(|c| c == '_' || c.is_alphabetic() || c.is_numeric());
            return Ok(whole(self.word(start)));
        }
        match c {
            '"' | '`' => Ok(whole(Token::Text(self.quoted(c, line, column)?))),
            // Go's scanner takes 'x' for a character, which no rule wants.
            '\'' => {
                let inner = self.literal(c, line, column)?;
                if unquote(inner, '\'').is_none_or(|text| text.chars().count() != 1) {
                    return Err(self.error("invalid char literal", line, column));
                }
                Ok(whole(Token::Identifier(self.text[start..self.at].to_owned())))
            }
            '\0' => Err(self.error("invalid character NUL", line, column)),
            '[' => self.range(column),
            '-' => self.minus(start, line, column),
            _ => Ok(self.sign(line, column)),
        }
    }

    fn skip_blank(&mut self) -> Result<(), LogqlError> {
        loop {
            self.bump_while(|c| matches!(c, ' ' | '\t' | '\n' | '\r'));
            match (self.peek(), self.peek_second()) {
                (Some('#'), _) | (Some('/'), Some('/')) => self.bump_while(|c| c != '\n'),
                (Some('/'), Some('*')) => {
                    let (line, column) = (self.line, self.column + 1);
                    let Some(end) = self.text[self.at + 2..].find("*/") else {
                        return Err(self.error("comment not terminated", line, column));
                    };
                    let to = self.at + end + 4;
                    while self.at < to {
                        self.bump();
                    }
                }
                _ => return Ok(()),
            }
        }
    }

    fn number(&mut self, start: usize, line: u32, column: u32) -> Result<Placed, LogqlError> {
        self.bump_while(|c| c.is_ascii_digit() || c == '_');
        if self.peek() == Some('.') {
            self.bump();
            self.bump_while(|c| c.is_ascii_digit() || c == '_');
        }
        let digits = &self.text[start..self.at];
        if digits == "0" && matches!(self.peek(), Some('x' | 'X' | 'o' | 'O')) {
            let is_hexadecimal = matches!(self.bump(), Some('x' | 'X'));
            let before = self.at;
            let digit =
                |c: char| if is_hexadecimal { c.is_ascii_hexdigit() || c == '.' } else { c.is_ascii_digit() };
            self.bump_while(|c| digit(c) || c == '_');
            if is_hexadecimal && matches!(self.peek(), Some('p' | 'P')) {
                self.bump();
                if matches!(self.peek(), Some('+' | '-')) {
                    self.bump();
                }
                self.bump_while(|c| c.is_ascii_digit() || c == '_');
            }
            if before == self.at {
                let kind = if is_hexadecimal { "hexadecimal" } else { "octal" };
                self.unfinished = Some(self.error(format!("{kind} literal has no digits"), line, column));
            }
        } else if matches!(self.peek(), Some('e' | 'E')) {
            self.bump();
            if matches!(self.peek(), Some('+' | '-')) {
                self.bump();
            }
            let before = self.at;
            self.bump_while(|c| c.is_ascii_digit() || c == '_');
            if before == self.at {
                self.unfinished = Some(self.error("exponent has no digits", line, column));
            }
        }
        if self.unfinished.is_some() {
            let token = Token::Number(self.text[start..self.at].to_owned());
            return Ok(Placed { token, line, column });
        }
        let placed = |token| Placed { token, line: 0, column };
        if let Some(ns) = self.suffixed(start, is_duration_char, parse_query_duration) {
            return Ok(placed(Token::DurationNs(ns)));
        }
        if let Some(bytes) = self.suffixed(start, |c| "BikKMGTP".contains(c), |text| parse_bytes(text).ok()) {
            return Ok(placed(Token::Bytes(bytes)));
        }
        Ok(Placed { token: Token::Number(self.text[start..self.at].to_owned()), line, column })
    }

    /// Reads on over unit letters and further digits, and stays where it was if that makes no
    /// sense as a whole.
    fn suffixed<T>(
        &mut self,
        start: usize,
        unit: impl Fn(char) -> bool,
        read: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let rest = &self.text[self.at..];
        let end = rest.find(|c: char| !(c.is_numeric() || c == '.' || unit(c))).unwrap_or(rest.len());
        if end == 0 {
            return None;
        }
        let value = read(&self.text[start..self.at + end])?;
        let to = self.at + end;
        while self.at < to {
            self.bump();
        }
        Some(value)
    }

    fn minus(&mut self, start: usize, line: u32, column: u32) -> Result<Placed, LogqlError> {
        for flag in ["--strict", "--keep-empty"] {
            let rest = &self.text[self.at..];
            let end = rest.find(|c: char| !(c.is_alphabetic() || c == '-')).unwrap_or(rest.len());
            if &rest[..end] == flag {
                for _ in 0..flag.len() {
                    self.bump();
                }
                return Ok(Placed { token: Token::Flag(flag), line: 0, column });
            }
        }
        self.bump();
        if let Some(ns) = self.suffixed(start, is_duration_char, parse_query_duration) {
            return Ok(Placed { token: Token::DurationNs(ns), line: 0, column });
        }
        Ok(Placed { token: Token::Word(Word::Sub), line, column })
    }

    fn range(&mut self, column: u32) -> Result<Placed, LogqlError> {
        self.bump();
        let start = self.at;
        self.bump_while(|c| c != ']');
        let inner = &self.text[start..self.at];
        if self.bump().is_none() {
            return Err(self.error("missing closing ']' in duration", 0, column));
        }
        let ns = parse_range(inner).map_err(|message| self.error(message, 0, column))?;
        Ok(Placed { token: Token::Range(ns), line: 0, column })
    }

    fn sign(&mut self, line: u32, column: u32) -> Placed {
        let first = self.bump().unwrap_or(' ');
        if let Some(second) = self.peek() {
            let pair: String = [first, second].iter().collect();
            if let Some(word) = Word::find(&pair) {
                self.bump();
                return Placed { token: Token::Word(word), line: 0, column };
            }
        }
        let single = first.to_string();
        let token = Word::find(&single).map_or(Token::Identifier(single), Token::Word);
        Placed { token, line, column }
    }

    fn word(&self, start: usize) -> Token {
        let text = &self.text[start..self.at];
        let lower = text.to_lowercase();
        let function = RangeOp::ALL
            .iter()
            .find(|op| op.as_str() == lower)
            .map(|op| Token::Range1(*op))
            .or_else(|| VectorOp::ALL.iter().find(|op| op.as_str() == lower).map(|op| Token::Vector1(*op)))
            .or_else(|| Word::find_function(&lower).map(Token::Word));
        if let Some(token) = function {
            return if self.calls() { token } else { Token::Identifier(text.to_owned()) };
        }
        Word::find(&lower).map_or_else(|| Token::Identifier(text.to_owned()), Token::Word)
    }

    /// Whether a parenthesis follows, or a grouping with one: what makes a word a function.
    fn calls(&self) -> bool {
        let rest = self.text[self.at..].trim_start();
        if rest.starts_with('(') {
            return true;
        }
        ["by", "without"].iter().any(|word| {
            rest.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word))
                && rest[word.len()..].trim_start().starts_with('(')
        })
    }

    fn quoted(&mut self, quote: char, line: u32, column: u32) -> Result<String, LogqlError> {
        let inner = self.literal(quote, line, column)?;
        if quote == '`' {
            // Go drops carriage returns from raw strings.
            return Ok(inner.to_owned());
        }
        let text = unquote(inner, '"').ok_or_else(|| self.error("invalid char escape", line, column))?;
        Ok(text.into_owned())
    }

    /// What stands between quotes, as it is written.
    fn literal(&mut self, quote: char, line: u32, column: u32) -> Result<&'a str, LogqlError> {
        self.bump();
        let start = self.at;
        loop {
            match self.bump() {
                None => return Err(self.error("literal not terminated", line, column)),
                Some('\n') if quote != '`' => {
                    return Err(self.error("literal not terminated", line, column));
                }
                Some('\0') => return Err(self.error("invalid character NUL", line, column)),
                Some('\\') if quote != '`' => {
                    self.bump();
                }
                Some(c) if c == quote => return Ok(&self.text[start..self.at - 1]),
                Some(_) => {}
            }
        }
    }
}

fn is_duration_char(c: char) -> bool {
    matches!(c, 'n' | 'u' | '\u{b5}' | 'm' | 's' | 'h' | 'd' | 'w' | 'y')
}
