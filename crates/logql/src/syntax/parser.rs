//! Recursive descent over the tokens. What is grammatical but meaningless becomes
//! [`MetricExpr::Invalid`] and is reported when the whole text is known to be grammatical, as a
//! generated parser does.

use pilothouse_model::limits::{LOG_QUERY_BYTES, LOG_QUERY_DEPTH};
use pilothouse_model::matcher::fault_when_anchored;
use pilothouse_model::{MatchOp, Matcher};
use pilothouse_query::go_number::parse_float;

use super::ast::*;
use super::check;
use super::lexer::Lexer;
use super::token::{Placed, Token, Word};
use crate::LogqlError;

pub(crate) type Parsed<T> = Result<T, LogqlError>;

/// Parses a query and checks that it means something: selectors that cannot match everything,
/// aggregations that fit, stages that compile.
pub fn parse(text: &str) -> Result<Expr, LogqlError> {
    let expr = parse_unchecked(text)?;
    check::expression(&expr)?;
    Ok(expr)
}

/// A log query, checked.
pub fn parse_log(text: &str) -> Result<LogExpr, LogqlError> {
    match parse_unchecked(text)? {
        Expr::Log(log) => {
            check::log(&log)?;
            Ok(log)
        }
        Expr::Metric(_) => Err(LogqlError::OnlyLogSelector),
    }
}

/// A bare stream selector. `checked`: it must not match every stream.
pub fn parse_matchers(text: &str, checked: bool) -> Result<Vec<Matcher>, LogqlError> {
    match if checked { parse(text)? } else { parse_unchecked(text)? } {
        Expr::Log(LogExpr { matchers, stages }) if stages.is_empty() => Ok(matchers),
        _ => Err(LogqlError::OnlyMatchers),
    }
}

/// Only the grammar.
pub fn parse_unchecked(text: &str) -> Result<Expr, LogqlError> {
    if text.len() >= LOG_QUERY_BYTES {
        return Err(LogqlError::semantic(format!(
            "input size too long ({} > {LOG_QUERY_BYTES})",
            text.len()
        )));
    }
    let (tokens, broken) = Lexer::all(text);
    let mut parser = Parser { tokens, broken, at: 0, depth: 0 };
    if parser.peek() == &Token::End && text.is_empty() {
        return Err(LogqlError::semantic("syntax error: unexpected $end"));
    }
    let expr = parser.expression(0)?;
    if parser.peek() == &Token::End && parser.broken.is_none() {
        return Ok(expr);
    }
    Err(parser.unexpected(&[]))
}

pub(crate) struct Parser {
    tokens: Vec<Placed>,
    /// Why there are no more tokens, where the text does not end there.
    broken: Option<LogqlError>,
    at: usize,
    depth: u32,
}

/// What messages call a class of tokens.
#[derive(Clone, Copy)]
pub(crate) enum Expect {
    Identifier,
    Text,
    Number,
    Duration,
    Range,
    Word(Word),
}

impl Expect {
    fn order_and_name(self) -> (u8, &'static str) {
        match self {
            Self::Identifier => (2, "IDENTIFIER"),
            Self::Text => (3, "STRING"),
            Self::Number => (4, "NUMBER"),
            Self::Duration => (6, "DURATION"),
            Self::Range => (7, "RANGE"),
            Self::Word(word) => (word.order(), word.name()),
        }
    }
}

impl Parser {
    pub(crate) fn peek(&self) -> &Token {
        self.tokens.get(self.at).map_or(&Token::End, |p| &p.token)
    }

    pub(crate) fn peek_word(&self) -> Option<Word> {
        match self.peek() {
            Token::Word(word) => Some(*word),
            _ => None,
        }
    }

    pub(crate) fn peek_second(&self) -> &Token {
        self.tokens.get(self.at + 1).map_or(&Token::End, |p| &p.token)
    }

    pub(crate) fn bump(&mut self) -> Token {
        let token = self.peek().clone();
        if token != Token::End {
            self.at += 1;
        }
        token
    }

    pub(crate) fn take(&mut self, word: Word) -> bool {
        let found = self.peek_word() == Some(word);
        if found {
            self.at += 1;
        }
        found
    }

    pub(crate) fn need(&mut self, word: Word) -> Parsed<()> {
        if self.take(word) { Ok(()) } else { Err(self.unexpected(&[Expect::Word(word)])) }
    }

    /// The message for the token at hand, or for what kept it from being read.
    ///
    /// `expected` is what Loki's tables can shift in the state where they find the error, at most
    /// four as Bison has it, and nothing where there are more. They complete whatever may be
    /// complete before they look, as a descent does that goes back up; but a metric expression
    /// may always be the left side of an operator, so behind one nothing is named, not even the
    /// parenthesis that is missing.
    pub(crate) fn unexpected(&self, expected: &[Expect]) -> LogqlError {
        if let Some(broken) = self.broken.as_ref().filter(|_| self.is_broken_here()) {
            return broken.clone();
        }
        let mut message = format!("syntax error: unexpected {}", self.peek().name());
        let mut named: Vec<_> = expected.iter().map(|e| e.order_and_name()).collect();
        named.sort_unstable();
        if named.len() <= 4 {
            for (i, (_, name)) in named.iter().enumerate() {
                message.push_str(if i == 0 { ", expecting " } else { " or " });
                message.push_str(name);
            }
        }
        let (line, column) = self.tokens.get(self.at).map_or((0, 0), |p| (p.line, p.column));
        LogqlError::Parse { message, line, column }
    }

    /// Whether the token at hand is what kept the text from being read: its end, or a number
    /// without its digits in front of that.
    fn is_broken_here(&self) -> bool {
        match (self.peek(), self.peek_second()) {
            (Token::End, _) => true,
            (Token::Number(digits), Token::End) => parse_float(digits).is_err(),
            _ => false,
        }
    }

    /// Like [`Self::need`], where so much may stand that nothing is named.
    pub(crate) fn need_unnamed(&mut self, word: Word) -> Parsed<()> {
        if self.take(word) { Ok(()) } else { Err(self.unexpected(&[])) }
    }

    /// Runs one level deeper.
    pub(crate) fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        self.depth += 1;
        if self.depth > LOG_QUERY_DEPTH {
            return Err(LogqlError::semantic(format!(
                "query is nested deeper than {LOG_QUERY_DEPTH} levels"
            )));
        }
        let result = inner(self);
        self.depth -= 1;
        result
    }

    pub(crate) fn identifier(&mut self, also: &[Expect]) -> Parsed<String> {
        match self.peek() {
            Token::Identifier(name) => {
                let name = name.clone();
                self.at += 1;
                Ok(name)
            }
            _ => Err(self.unexpected(&[&[Expect::Identifier], also].concat())),
        }
    }

    pub(crate) fn text(&mut self, also: &[Expect]) -> Parsed<String> {
        match self.peek() {
            Token::Text(text) => {
                let text = text.clone();
                self.at += 1;
                Ok(text)
            }
            _ => Err(self.unexpected(&[&[Expect::Text], also].concat())),
        }
    }

    fn number(&mut self, also: &[Expect]) -> Parsed<String> {
        match self.peek() {
            Token::Number(digits) => {
                let digits = digits.clone();
                self.at += 1;
                Ok(digits)
            }
            _ => Err(self.unexpected(&[&[Expect::Number], also].concat())),
        }
    }

    /// An expression whose operators all bind at least as tight as `min`.
    fn expression(&mut self, min: u8) -> Parsed<Expr> {
        self.deeper(|p| {
            let mut left = p.operand()?;
            while let Some(op) = p.peek_word().and_then(Word::binary) {
                let precedence = op.precedence();
                if precedence < min {
                    break;
                }
                p.at += 1;
                let matching = p.matching()?;
                let next = if op == BinaryOp::Pow { precedence } else { precedence + 1 };
                let right = p.expression(next)?;
                left = Expr::Metric(binary(op, matching, left, right));
            }
            Ok(left)
        })
    }

    fn operand(&mut self) -> Parsed<Expr> {
        match self.peek().clone() {
            Token::Word(Word::OpenBrace) => Ok(Expr::Log(self.log_query()?)),
            Token::Word(Word::OpenParen) => {
                self.at += 1;
                let inner = self.expression(0)?;
                self.need_unnamed(Word::CloseParen)?;
                Ok(inner)
            }
            Token::Number(_) | Token::Word(Word::Add | Word::Sub) => {
                let negative = self.take(Word::Sub);
                if !negative {
                    self.take(Word::Add);
                }
                let digits = self.number(&[])?;
                // What is wrong with it is told when all the rest can be read.
                Ok(Expr::Metric(match parse_float(&digits) {
                    Ok(value) => MetricExpr::Literal(if negative { -value } else { value }),
                    Err(e) => MetricExpr::Invalid(format!(
                        "unable to parse literal as a float: {}",
                        e.of_float(&digits)
                    )),
                }))
            }
            Token::Range1(op) => {
                self.at += 1;
                Ok(Expr::Metric(self.range_aggregation(op)?))
            }
            Token::Vector1(op) => {
                self.at += 1;
                Ok(Expr::Metric(self.vector_aggregation(op)?))
            }
            Token::Word(Word::LabelReplace) => Ok(Expr::Metric(self.label_replace()?)),
            Token::Word(Word::VectorOf) => {
                self.at += 1;
                self.need(Word::OpenParen)?;
                let digits = self.number(&[])?;
                self.need(Word::CloseParen)?;
                Ok(Expr::Metric(match parse_float(&digits) {
                    Ok(value) => MetricExpr::Vector(value),
                    Err(e) => MetricExpr::Invalid(format!(
                        "unable to parse vectorExpr as a float: {}",
                        e.of_float(&digits)
                    )),
                }))
            }
            _ => Err(self.unexpected(&[])),
        }
    }

    /// An expression that must give samples.
    fn metric(&mut self) -> Parsed<MetricExpr> {
        match self.expression(0)? {
            Expr::Metric(metric) => Ok(metric),
            // The grammar wants the range here, or whatever may still follow a selector.
            Expr::Log(_) => Err(self.unexpected(&[])),
        }
    }

    /// A number with an optional sign. Only digits that Go's `ParseFloat` takes.
    pub(crate) fn literal(&mut self) -> Parsed<f64> {
        let negative = match self.peek_word() {
            Some(Word::Sub) => true,
            Some(Word::Add) => false,
            _ => return self.unsigned(),
        };
        self.at += 1;
        let value = self.unsigned()?;
        Ok(if negative { -value } else { value })
    }

    fn unsigned(&mut self) -> Parsed<f64> {
        let digits = self.number(&[])?;
        parse_float(&digits).map_err(|e| {
            LogqlError::semantic(format!("unable to parse literal as a float: {}", e.of_float(&digits)))
        })
    }

    fn range_aggregation(&mut self, op: RangeOp) -> Parsed<MetricExpr> {
        self.need(Word::OpenParen)?;
        let parameter = match self.peek() {
            Token::Number(_) => {
                let digits = self.number(&[])?;
                self.need(Word::Comma)?;
                Some(digits)
            }
            Token::Word(Word::OpenBrace | Word::OpenParen) => None,
            _ => {
                return Err(self.unexpected(&[
                    Expect::Number,
                    Expect::Word(Word::OpenBrace),
                    Expect::Word(Word::OpenParen),
                ]));
            }
        };
        let range = self.log_range()?;
        self.need(Word::CloseParen)?;
        let grouping = self.grouping()?;
        Ok(range_aggregation(op, range, parameter, grouping))
    }

    fn vector_aggregation(&mut self, op: VectorOp) -> Parsed<MetricExpr> {
        let before = self.grouping()?;
        self.need(Word::OpenParen)?;
        let parameter = match (self.peek(), self.peek_second()) {
            (Token::Number(digits), Token::Word(Word::Comma)) => {
                let digits = digits.clone();
                self.at += 2;
                Some(digits)
            }
            _ => None,
        };
        let inner = self.metric()?;
        self.need_unnamed(Word::CloseParen)?;
        let grouping = if before.is_some() { before } else { self.grouping()? };
        Ok(vector_aggregation(op, inner, parameter, grouping))
    }

    fn label_replace(&mut self) -> Parsed<MetricExpr> {
        self.at += 1;
        self.need(Word::OpenParen)?;
        let inner = self.metric()?;
        self.need_unnamed(Word::Comma)?;
        let mut texts = [const { String::new() }; 4];
        for (i, text) in texts.iter_mut().enumerate() {
            if i > 0 {
                self.need(Word::Comma)?;
            }
            *text = self.text(&[])?;
        }
        self.need(Word::CloseParen)?;
        let [target, replacement, source, regex] = texts;
        if let Some(error) = fault_when_anchored(&regex) {
            return Ok(MetricExpr::Invalid(format!("invalid regex in label_replace: {error}")));
        }
        Ok(MetricExpr::Replace(Box::new(inner), Replacement { target, replacement, source, regex }))
    }

    pub(crate) fn grouping(&mut self) -> Parsed<Option<Grouping>> {
        let without = match self.peek_word() {
            Some(Word::By) => false,
            Some(Word::Without) => true,
            _ => return Ok(None),
        };
        self.at += 1;
        self.need(Word::OpenParen)?;
        Ok(Some(Grouping { labels: self.label_list()?, without }))
    }

    /// Names up to the closing parenthesis; the opening one is gone.
    fn label_list(&mut self) -> Parsed<Vec<String>> {
        let mut labels = Vec::new();
        if self.take(Word::CloseParen) {
            return Ok(labels);
        }
        labels.push(self.identifier(&[Expect::Word(Word::CloseParen)])?);
        while !self.take(Word::CloseParen) {
            if !self.take(Word::Comma) {
                return Err(self.unexpected(&[Expect::Word(Word::Comma), Expect::Word(Word::CloseParen)]));
            }
            labels.push(self.identifier(&[])?);
        }
        Ok(labels)
    }

    fn matching(&mut self) -> Parsed<VectorMatching> {
        let mut matching = VectorMatching { return_bool: self.take(Word::Bool), ..Default::default() };
        matching.on = match self.peek_word() {
            Some(Word::On) => true,
            Some(Word::Ignoring) => false,
            _ => return Ok(matching),
        };
        self.at += 1;
        self.need(Word::OpenParen)?;
        matching.labels = self.label_list()?;
        matching.listed = !matching.labels.is_empty();
        matching.cardinality = match self.peek_word() {
            Some(Word::GroupLeft) => Cardinality::ManyToOne,
            Some(Word::GroupRight) => Cardinality::OneToMany,
            _ => return Ok(matching),
        };
        self.at += 1;
        if self.take(Word::OpenParen) {
            matching.include = self.label_list()?;
        }
        Ok(matching)
    }

    pub(crate) fn selector(&mut self) -> Parsed<Vec<Matcher>> {
        self.need(Word::OpenBrace)?;
        let mut matchers = Vec::new();
        if self.take(Word::CloseBrace) {
            return Ok(matchers);
        }
        matchers.push(self.matcher(&[Expect::Word(Word::CloseBrace)])?);
        while !self.take(Word::CloseBrace) {
            if !self.take(Word::Comma) {
                return Err(self.unexpected(&[Expect::Word(Word::CloseBrace), Expect::Word(Word::Comma)]));
            }
            matchers.push(self.matcher(&[])?);
        }
        Ok(matchers)
    }

    pub(crate) fn matcher(&mut self, also: &[Expect]) -> Parsed<Matcher> {
        let name = self.identifier(also)?;
        let Some(op) = self.match_op() else {
            return Err(self.unexpected(&[
                Expect::Word(Word::Equal),
                Expect::Word(Word::Regex),
                Expect::Word(Word::NotRegex),
                Expect::Word(Word::NotEqual),
            ]));
        };
        self.at += 1;
        let value = self.text(&[])?;
        new_matcher(op, name, value)
    }

    pub(crate) fn match_op(&self) -> Option<MatchOp> {
        Some(match self.peek_word()? {
            Word::Equal => MatchOp::Equal,
            Word::NotEqual => MatchOp::NotEqual,
            Word::Regex => MatchOp::Regex,
            Word::NotRegex => MatchOp::NotRegex,
            _ => return None,
        })
    }
}

pub(crate) fn new_matcher(op: MatchOp, name: String, value: String) -> Parsed<Matcher> {
    Matcher::new(op, name, value).map_err(|error| LogqlError::semantic(error.to_string()))
}

fn range_aggregation(
    op: RangeOp,
    range: LogRange,
    parameter: Option<String>,
    grouping: Option<Grouping>,
) -> MetricExpr {
    let name = op.as_str();
    let parameter = match parameter {
        Some(digits) if op != RangeOp::Quantile => {
            return MetricExpr::Invalid(format!("parameter {digits} not supported for operation {name}"));
        }
        Some(digits) => match parse_float(&digits) {
            Ok(value) => Some(value),
            Err(e) => {
                return MetricExpr::Invalid(format!(
                    "invalid parameter for operation {name}: {}",
                    e.of_float(&digits)
                ));
            }
        },
        None if op == RangeOp::Quantile => {
            return MetricExpr::Invalid(format!("parameter required for operation {name}"));
        }
        None => None,
    };
    if let Some(why) = check::range_aggregation(op, range.unwrap.is_some(), grouping.is_some()) {
        return MetricExpr::Invalid(why);
    }
    MetricExpr::Range(Box::new(RangeAggregation { op, range, parameter, grouping }))
}

fn vector_aggregation(
    op: VectorOp,
    inner: MetricExpr,
    parameter: Option<String>,
    grouping: Option<Grouping>,
) -> MetricExpr {
    let name = op.as_str();
    let parameter = match (op.takes_parameter(), parameter) {
        (true, None) => return MetricExpr::Invalid(format!("parameter required for operation {name}")),
        (true, Some(digits)) => match digits.parse::<i64>() {
            Err(_) => return MetricExpr::Invalid(format!("invalid parameter {name}({digits},")),
            Ok(k) if k <= 0 => {
                return MetricExpr::Invalid(format!(
                    "invalid parameter (must be greater than 0) {name}({digits}"
                ));
            }
            Ok(k) => usize::try_from(k).unwrap_or(usize::MAX),
        },
        (false, Some(digits)) => {
            return MetricExpr::Invalid(format!("unsupported parameter for operation {name}({digits},"));
        }
        (false, None) => 0,
    };
    if op == VectorOp::ApproxTopk && grouping.is_some() {
        return MetricExpr::Invalid(format!("grouping not allowed for {name} aggregation"));
    }
    let grouping = grouping.unwrap_or_default();
    MetricExpr::Aggregate(VectorAggregation { op, inner: Box::new(inner), parameter, grouping })
}

fn binary(op: BinaryOp, matching: VectorMatching, left: Expr, right: Expr) -> MetricExpr {
    let (left, right) = match (left, right) {
        (Expr::Log(log), _) => return not_samples("left", op, &log),
        (_, Expr::Log(log)) => return not_samples("right", op, &log),
        (Expr::Metric(left), Expr::Metric(right)) => (left, right),
    };
    if op.is_set() {
        for (side, leg) in [("left", &left), ("right", &right)] {
            if let MetricExpr::Literal(value) = leg {
                return MetricExpr::Invalid(format!(
                    "unexpected literal for {side} leg of logical/set binary operation ({}): {value:.6}",
                    op.as_str()
                ));
            }
        }
    }
    if let (MetricExpr::Literal(l), MetricExpr::Literal(r)) = (&left, &right) {
        return MetricExpr::Literal(op.of(*l, *r));
    }
    MetricExpr::Binary(Binary { op, left: Box::new(left), right: Box::new(right), matching })
}

fn not_samples(side: &str, op: BinaryOp, log: &LogExpr) -> MetricExpr {
    let kind = if log.stages.is_empty() { "*syntax.MatchersExpr" } else { "*syntax.PipelineExpr" };
    MetricExpr::Invalid(format!(
        "unexpected type for {side} leg of binary operation ({}): {kind}",
        op.as_str()
    ))
}
