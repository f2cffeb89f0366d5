//! The pass over the tokens: what each word of a query says.
//!
//! promql-parser is given a plain text in which every operand is a `v`, every function,
//! aggregation and subquery a call of one catch-all function, and every modifier is gone; it settles how the
//! parts nest. The parts themselves, with their positions, are the notes made here, in source
//! order. So the newest syntax (durations as expressions, `anchored`, fill modifiers, trims)
//! needs no support from the parser, and error texts can be Prometheus' own.

use pilothouse_model::{MatchOp, Matcher};

use crate::ast::{
    AggregateOp, BinaryOp, Duration, Kind, Matching, Node, NumberLiteral, Span, TimeShift, VectorSelector,
};
use crate::error::ParseError;
use crate::functions::{self, Function};
use crate::literals::{duration_seconds, number, unquote};
use crate::tokens::{Keyword, Token, Word, lex};

/// The name of the catch-all function in the text for promql-parser.
pub(crate) const CALL: &str = "call";

/// One part of a query. In source order they are what a walk over the parser's tree meets:
/// the note of a call, a parenthesis, a sign or a subquery before its inside, that of a binary
/// operator between its sides.
#[derive(Debug)]
pub(crate) enum Note {
    Operand(Node),
    Paren(Span),
    Call { function: &'static Function, span: Span },
    Aggregate { op: AggregateOp, grouping: Vec<String>, without: bool, span: Span },
    Binary { op: BinaryOp, return_bool: bool, matching: Matching },
    Unary { minus: bool, span: Span },
    Subquery { range: Duration, step: Option<Duration>, time: TimeShift, span: Span },
}

/// Where an operand begins: its first note, its place in the skeleton and in the query. What
/// stands behind it changes that note.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operand {
    pub(crate) note: usize,
    pub(crate) skeleton: usize,
    pub(crate) start: Span,
}

/// A query in two halves: the text for promql-parser, and the notes.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) skeleton: String,
    pub(crate) notes: Vec<Note>,
}

pub(crate) type Read<T> = Result<T, ParseError>;

/// Reads a query whose nesting, counted as in the finished tree, is at most `max_depth`.
pub(crate) fn read(query: &str, max_depth: usize) -> Read<Reading> {
    let mut reader = Reader::new(query, max_depth);
    if *reader.word() == Word::End {
        return Err(ParseError::new(query, Span::default(), "no expression found in input"));
    }
    reader.expression()?;
    if *reader.word() != Word::End {
        return Err(reader.unexpected("", ""));
    }
    Ok(Reading { skeleton: reader.skeleton, notes: reader.notes })
}

/// Reads a series selector as `match[]` has it: a name, matchers, or both, and nothing else.
pub(crate) fn read_selector(query: &str) -> Read<VectorSelector> {
    let mut reader = Reader::new(query, 1);
    let node = match reader.word() {
        Word::LeftBrace => reader.selector(None)?,
        word if names_a_metric(word) => {
            let name = reader.advance();
            reader.selector(Some(name))?
        }
        _ => return Err(reader.unexpected("", "")),
    };
    match node.kind {
        Kind::Vector(selector) if *reader.word() == Word::End => Ok(selector),
        _ => Err(reader.unexpected("", "")),
    }
}

pub(crate) fn names_a_metric(word: &Word) -> bool {
    match word {
        Word::Identifier | Word::MetricIdentifier | Word::Aggregator(_) => true,
        Word::Operator(BinaryOp::And | BinaryOp::Or | BinaryOp::Unless) => true,
        Word::Keyword(keyword) => keyword.is_metric_name(),
        _ => false,
    }
}

pub(crate) struct Reader<'q> {
    pub(crate) query: &'q str,
    pub(crate) tokens: Vec<Token>,
    pub(crate) at: usize,
    pub(crate) skeleton: String,
    pub(crate) notes: Vec<Note>,
    depth: usize,
    max_depth: usize,
}

impl<'q> Reader<'q> {
    fn new(query: &'q str, max_depth: usize) -> Self {
        let tokens = lex(query);
        Self { query, tokens, at: 0, skeleton: String::new(), notes: Vec::new(), depth: 0, max_depth }
    }

    // ── tokens ──────────────────────────────────────────────────────────────────────────

    pub(crate) fn token(&self) -> &Token {
        static END: Token = Token { word: Word::End, span: Span { start: 0, end: 0 } };
        self.tokens.get(self.at).or_else(|| self.tokens.last()).unwrap_or(&END)
    }

    pub(crate) fn word(&self) -> &Word {
        &self.token().word
    }

    fn word_after(&self) -> &Word {
        self.tokens.get(self.at + 1).map_or(&Word::End, |token| &token.word)
    }

    pub(crate) fn span(&self) -> Span {
        self.token().span
    }

    pub(crate) fn text_of(&self, token: &Token) -> &'q str {
        token.text(self.query)
    }

    /// Takes the token; the last one stays.
    pub(crate) fn advance(&mut self) -> Token {
        let token = self.token().clone();
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
        token
    }

    pub(crate) fn accept(&mut self, word: &Word) -> Option<Token> {
        (self.word() == word).then(|| self.advance())
    }

    pub(crate) fn expect(&mut self, word: &Word, context: &str, expected: &str) -> Read<Token> {
        match self.accept(word) {
            Some(token) => Ok(token),
            None => Err(self.unexpected(context, expected)),
        }
    }

    /// What Prometheus says of a token in the wrong place.
    pub(crate) fn unexpected(&self, context: &str, expected: &str) -> ParseError {
        let token = self.token();
        if let Word::Error(message) = &token.word {
            return self.error(token.span, message.clone());
        }
        let mut message = format!("unexpected {}", token.describe(self.query));
        if !context.is_empty() {
            message += &format!(" in {context}");
        }
        if !expected.is_empty() {
            message += &format!(", expected {expected}");
        }
        self.error(token.span, message)
    }

    pub(crate) fn error(&self, span: Span, message: impl Into<String>) -> ParseError {
        ParseError::new(self.query, span, message)
    }

    pub(crate) fn deeper(&mut self) -> Read<()> {
        self.depth += 1;
        if self.depth > self.max_depth {
            let message = format!("expression nests deeper than {} levels", self.max_depth);
            return Err(self.error(self.span(), message));
        }
        Ok(())
    }

    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    pub(crate) fn back_to_depth(&mut self, depth: usize) {
        self.depth = depth;
    }

    // ── expressions ─────────────────────────────────────────────────────────────────────

    /// Operands and the operators between them. A chain may lean wholly to one side, so each
    /// operator counts as a level.
    fn expression(&mut self) -> Read<()> {
        let depth = self.depth;
        self.deeper()?;
        self.operand()?;
        while let Word::Operator(op) = *self.word() {
            self.deeper()?;
            self.advance();
            self.skeleton.push_str(match op {
                BinaryOp::TrimUpper | BinaryOp::TrimLower => " < ",
                _ => " ",
            });
            if !matches!(op, BinaryOp::TrimUpper | BinaryOp::TrimLower) {
                self.skeleton.push_str(op.as_str());
                self.skeleton.push(' ');
            }
            let note = self.modifiers(op)?;
            self.notes.push(note);
            self.operand()?;
        }
        self.back_to_depth(depth);
        Ok(())
    }

    fn operand(&mut self) -> Read<()> {
        while let Word::Operator(op @ (BinaryOp::Add | BinaryOp::Sub)) = *self.word() {
            self.deeper()?;
            let span = self.advance().span;
            self.notes.push(Note::Unary { minus: op == BinaryOp::Sub, span });
            self.skeleton.push_str("- ");
        }
        let operand = Operand { note: self.notes.len(), skeleton: self.skeleton.len(), start: self.span() };
        self.primary()?;
        self.postfixes(operand)
    }

    fn primary(&mut self) -> Read<()> {
        let followed_by_paren = *self.word_after() == Word::LeftParen;
        match self.word().clone() {
            Word::Number | Word::Duration => {
                let node = self.number()?;
                self.push_operand(node);
            }
            Word::Text => {
                let token = self.advance();
                let text = unquote(self.text_of(&token));
                self.push_operand(Node { span: token.span, kind: Kind::String(text) });
            }
            Word::LeftParen => self.paren()?,
            Word::LeftBrace => {
                let node = self.selector(None)?;
                self.push_operand(node);
            }
            Word::Aggregator(op) if self.aggregates() => self.aggregate(op)?,
            Word::Identifier if followed_by_paren => self.call()?,
            Word::Keyword(keyword) if keyword.is_function() && followed_by_paren => self.call()?,
            word if names_a_metric(&word) => {
                let name = self.advance();
                let node = self.selector(Some(name))?;
                self.push_operand(node);
            }
            _ => return Err(self.unexpected("", "")),
        }
        Ok(())
    }

    fn push_operand(&mut self, node: Node) {
        self.skeleton.push('v');
        self.notes.push(Note::Operand(node));
    }

    pub(crate) fn number(&mut self) -> Read<Node> {
        let token = self.advance();
        let text = self.text_of(&token);
        let is_duration = token.word == Word::Duration;
        let value = if is_duration { duration_seconds(text) } else { number(text) };
        let value = value.map_err(|message| self.error(token.span, message))?;
        Ok(Node { span: token.span, kind: Kind::Number(NumberLiteral { value, is_duration }) })
    }

    fn paren(&mut self) -> Read<()> {
        let open = self.advance();
        let note = self.notes.len();
        self.notes.push(Note::Paren(open.span));
        self.skeleton.push('(');
        self.expression()?;
        self.skeleton.push(')');
        let close = self.expect(&Word::RightParen, "", "")?;
        self.notes[note] = Note::Paren(open.span.to(close.span));
        Ok(())
    }

    /// Whether an aggregator's name stands for the aggregation and not for a metric.
    fn aggregates(&self) -> bool {
        matches!(self.word_after(), Word::LeftParen | Word::Keyword(Keyword::By | Keyword::Without))
    }

    fn aggregate(&mut self, op: AggregateOp) -> Read<()> {
        let name = self.advance();
        let note = self.notes.len();
        self.notes.push(Note::Paren(name.span));
        let mut grouping = self.aggregate_modifier()?;
        let (count, mut end) = self.arguments("aggregation")?;
        if grouping.is_none() {
            grouping = self.aggregate_modifier()?;
            if grouping.is_some() {
                end = self.tokens[self.at - 1].span;
            }
        }
        let span = name.span.to(end);
        let wanted = 1 + usize::from(op.has_param());
        if count == 0 {
            return Err(self.error(span, "no arguments for aggregate expression provided"));
        }
        if count != wanted {
            let what = "wrong number of arguments for aggregate expression provided";
            return Err(self.error(span, format!("{what}, expected {wanted}, got {count}")));
        }
        let (without, grouping) = grouping.unwrap_or_default();
        self.notes[note] = Note::Aggregate { op, grouping, without, span };
        Ok(())
    }

    fn aggregate_modifier(&mut self) -> Read<Option<(bool, Vec<String>)>> {
        let without = match self.word() {
            Word::Keyword(Keyword::By) => false,
            Word::Keyword(Keyword::Without) => true,
            _ => return Ok(None),
        };
        self.advance();
        Ok(Some((without, self.grouping_labels()?)))
    }

    fn call(&mut self) -> Read<()> {
        let name = self.advance();
        let note = self.notes.len();
        self.notes.push(Note::Paren(name.span));
        let (_, end) = self.arguments("")?;
        let text = self.text_of(&name);
        let function = functions::find(text)
            .or_else(|| functions::find(&text.to_ascii_lowercase()).filter(|_| name.word != Word::Identifier))
            .ok_or_else(|| self.error(name.span, format!("unknown function with name {text:?}")))?;
        self.notes[note] = Note::Call { function, span: name.span.to(end) };
        Ok(())
    }

    /// Arguments in parentheses: their number, and the closing parenthesis.
    fn arguments(&mut self, context: &str) -> Read<(usize, Span)> {
        let depth = self.depth;
        self.deeper()?;
        self.expect(&Word::LeftParen, context, "")?;
        self.skeleton.push_str(CALL);
        self.skeleton.push('(');
        let mut count = 0;
        if *self.word() != Word::RightParen {
            self.expression()?;
            count += 1;
        }
        while let Some(comma) = (count > 0).then(|| self.accept(&Word::Comma)).flatten() {
            if *self.word() == Word::RightParen {
                return Err(self.error(comma.span, "trailing commas not allowed in function call args"));
            }
            self.skeleton.push(',');
            self.expression()?;
            count += 1;
        }
        let close = self.expect(&Word::RightParen, "", "")?;
        self.skeleton.push(')');
        self.back_to_depth(depth);
        Ok((count, close.span))
    }

    // ── selectors ───────────────────────────────────────────────────────────────────────

    fn selector(&mut self, name: Option<Token>) -> Read<Node> {
        let mut span = name.as_ref().map_or(self.span(), |token| token.span);
        let name = name.map(|token| self.text_of(&token).to_owned());
        let mut matchers = Vec::new();
        if *self.word() == Word::LeftBrace {
            self.advance();
            span = span.to(self.matchers(&mut matchers)?);
        }
        if let Some(name) = &name {
            matchers.push(Matcher::equal(pilothouse_model::labels::METRIC_NAME, name.clone()));
        }
        let selector = VectorSelector { name, matchers, time: TimeShift::default(), extended: None };
        Ok(Node { span, kind: Kind::Vector(selector) })
    }

    /// Matchers up to the closing brace, whose place it returns.
    fn matchers(&mut self, out: &mut Vec<Matcher>) -> Read<Span> {
        const CONTEXT: &str = "label matching";
        loop {
            if let Some(close) = self.accept(&Word::RightBrace) {
                return Ok(close.span);
            }
            out.push(self.matcher()?);
            if self.accept(&Word::Comma).is_none() && *self.word() != Word::RightBrace {
                return Err(self.unexpected(CONTEXT, "\",\" or \"}\""));
            }
        }
    }

    fn matcher(&mut self) -> Read<Matcher> {
        const CONTEXT: &str = "label matching";
        let quoted = *self.word() == Word::Text;
        if !quoted && *self.word() != Word::Identifier {
            return Err(self.unexpected(CONTEXT, "identifier or \"}\""));
        }
        let name_token = self.advance();
        let text = self.text_of(&name_token);
        let name = if quoted { unquote(text) } else { text.to_owned() };
        let op = match self.word() {
            Word::Equal => MatchOp::Equal,
            Word::Operator(BinaryOp::Ne) => MatchOp::NotEqual,
            Word::EqualRegex => MatchOp::Regex,
            Word::NotEqualRegex => MatchOp::NotRegex,
            _ if quoted => {
                return Ok(Matcher::equal(pilothouse_model::labels::METRIC_NAME, name));
            }
            _ => return Err(self.unexpected(CONTEXT, "label matching operator")),
        };
        self.advance();
        let value = self.expect(&Word::Text, CONTEXT, "string")?;
        Matcher::new(op, name, unquote(self.text_of(&value)))
            .map_err(|e| self.error(name_token.span.to(value.span), e.to_string()))
    }

    pub(crate) fn grouping_labels(&mut self) -> Read<Vec<String>> {
        const CONTEXT: &str = "grouping opts";
        self.expect(&Word::LeftParen, CONTEXT, "\"(\"")?;
        let mut labels = Vec::new();
        while self.accept(&Word::RightParen).is_none() {
            labels.push(self.grouping_label()?);
            if self.accept(&Word::Comma).is_none() && *self.word() != Word::RightParen {
                return Err(self.unexpected(CONTEXT, "\",\" or \")\""));
            }
        }
        Ok(labels)
    }

    fn grouping_label(&mut self) -> Read<String> {
        match self.word() {
            Word::Text => {
                let token = self.advance();
                Ok(unquote(self.text_of(&token)))
            }
            Word::Identifier
            | Word::MetricIdentifier
            | Word::Aggregator(_)
            | Word::Keyword(_)
            | Word::Operator(BinaryOp::And | BinaryOp::Or | BinaryOp::Unless | BinaryOp::Atan2) => {
                let token = self.advance();
                Ok(self.text_of(&token).to_owned())
            }
            _ => Err(self.unexpected("grouping opts", "label")),
        }
    }
}
