//! The part of the grammar between a selector and its window: stages, label filters, unwrap.

use pilothouse_model::MatchOp;

use super::ast::*;
use super::parser::{Expect, Parsed, Parser, new_matcher};
use super::token::{Token, Word};
use crate::LogqlError;
use crate::parsers::RegexpParser;
use crate::pattern::Pattern;

/// A pipeline as it is being read, with what may follow or interrupt it under an aggregation.
#[derive(Default)]
struct Piped {
    log: LogExpr,
    unwrap: Option<Unwrap>,
    window: Option<(i64, i64)>,
}

impl Parser {
    /// A selector and its stages, outside a window: no unwrap.
    pub(crate) fn log_query(&mut self) -> Parsed<LogExpr> {
        let matchers = self.selector()?;
        let mut log = LogExpr { matchers, stages: Vec::new() };
        while let Some(stage) = self.stage(&mut log.stages, false)? {
            // A log query has no unwrap; the call above has refused it.
            debug_assert!(matches!(stage, Next::Stage));
        }
        Ok(log)
    }

    /// A selector with its window. The window may stand behind the selector, behind the
    /// pipeline, or behind parentheses round either; parentheses round all of it may nest.
    pub(crate) fn log_range(&mut self) -> Parsed<LogRange> {
        self.deeper(|p| {
            if p.take(Word::OpenParen) {
                return p.wrapped_range();
            }
            let piped = p.piped()?;
            let expected: &[_] =
                if piped.unwrap.is_some() { &[Expect::Range, Expect::Word(Word::Pipe)] } else { &[] };
            p.ranged(piped, expected)
        })
    }

    /// The same behind an opening parenthesis.
    fn wrapped_range(&mut self) -> Parsed<LogRange> {
        if self.peek_word() == Some(Word::OpenParen) {
            let range = self.log_range()?;
            self.need(Word::CloseParen)?;
            return Ok(range);
        }
        let mut piped = self.piped()?;
        if piped.window.is_some() {
            self.need(Word::CloseParen)?;
            return self.ranged(piped, &[]);
        }
        if !self.take(Word::CloseParen) {
            let behind_unwrap = [Expect::Range, Expect::Word(Word::CloseParen), Expect::Word(Word::Pipe)];
            let expected: &[_] = if piped.unwrap.is_some() { &behind_unwrap } else { &[] };
            return Err(self.unexpected(expected));
        }
        let is_bare = piped.unwrap.is_none() && piped.log.stages.is_empty();
        piped.window = self.window()?;
        if piped.window.is_some() && is_bare && self.take(Word::Pipe) {
            self.need(Word::Unwrap)?;
            piped.unwrap = Some(self.unwrap()?);
        }
        self.ranged(piped, &[Expect::Range])
    }

    fn ranged(&self, piped: Piped, expected: &[Expect]) -> Parsed<LogRange> {
        let Some((interval_ns, offset_ns)) = piped.window else {
            return Err(self.unexpected(expected));
        };
        Ok(LogRange { log: piped.log, interval_ns, offset_ns, unwrap: piped.unwrap })
    }

    fn piped(&mut self) -> Parsed<Piped> {
        if self.peek_word() != Some(Word::OpenBrace) {
            return Err(self.unexpected(&[Expect::Word(Word::OpenBrace), Expect::Word(Word::OpenParen)]));
        }
        let mut piped = Piped::default();
        piped.log.matchers = self.selector()?;
        piped.window = self.window()?;
        self.pipeline(&mut piped)?;
        if piped.window.is_none() {
            piped.window = self.window()?;
        }
        Ok(piped)
    }

    fn window(&mut self) -> Parsed<Option<(i64, i64)>> {
        let Token::Range(interval_ns) = *self.peek() else {
            return Ok(None);
        };
        self.bump();
        let mut offset_ns = 0;
        if self.take(Word::Offset) {
            offset_ns = match self.peek() {
                Token::DurationNs(ns) => *ns,
                _ => return Err(self.unexpected(&[Expect::Duration])),
            };
            self.bump();
        }
        Ok(Some((interval_ns, offset_ns)))
    }

    fn pipeline(&mut self, piped: &mut Piped) -> Parsed<()> {
        while let Some(next) = self.stage(&mut piped.log.stages, true)? {
            if let Next::Unwrap(unwrap) = next {
                piped.unwrap = Some(unwrap);
                break;
            }
        }
        Ok(())
    }

    /// One stage more, if there is one.
    fn stage(&mut self, stages: &mut Vec<Stage>, may_unwrap: bool) -> Parsed<Option<Next>> {
        if self.line_op().is_some() {
            let mut filters = Vec::new();
            while let Some(op) = self.line_op() {
                self.bump();
                self.line_filter(op, &mut filters)?;
            }
            stages.push(Stage::Lines(filters));
            return Ok(Some(Next::Stage));
        }
        if !self.take(Word::Pipe) {
            return Ok(None);
        }
        if may_unwrap && self.take(Word::Unwrap) {
            return Ok(Some(Next::Unwrap(self.unwrap()?)));
        }
        stages.push(self.piped_stage()?);
        Ok(Some(Next::Stage))
    }

    fn piped_stage(&mut self) -> Parsed<Stage> {
        let word = match self.peek() {
            Token::Identifier(_) | Token::Word(Word::OpenParen) => {
                return Ok(Stage::Filter(self.label_filter(None)?));
            }
            Token::Word(word) => *word,
            _ => return Err(self.unexpected(&[])),
        };
        if !matches!(
            word,
            Word::Json
                | Word::Logfmt
                | Word::Regexp
                | Word::Pattern
                | Word::Unpack
                | Word::LineFormat
                | Word::LabelFormat
                | Word::Decolorize
                | Word::Drop
                | Word::Keep
        ) {
            return Err(self.unexpected(&[]));
        }
        self.bump();
        Ok(match word {
            Word::Json => match self.extractions()? {
                fields if fields.is_empty() => Stage::Json,
                fields => Stage::JsonFields(fields),
            },
            Word::Logfmt => self.logfmt()?,
            Word::Regexp => {
                Stage::Regexp(self.compiling("regexp", |text| RegexpParser::new(text).map(drop))?)
            }
            Word::Pattern => {
                Stage::Pattern(self.compiling("pattern", |text| Pattern::parser(text).map(drop))?)
            }
            Word::Unpack => Stage::Unpack,
            Word::LineFormat => Stage::LineFormat(self.text(&[])?),
            Word::LabelFormat => Stage::LabelFormat(self.label_formats()?),
            Word::Drop => Stage::Drop(self.label_choices()?),
            Word::Keep => Stage::Keep(self.label_choices()?),
            _ => Stage::Decolorize,
        })
    }

    /// The text of a parser, which is refused as soon as it is read.
    fn compiling(&mut self, kind: &str, compile: impl Fn(&str) -> Result<(), String>) -> Parsed<String> {
        let text = self.text(&[])?;
        compile(&text).map_err(|e| LogqlError::semantic(format!("invalid {kind} parser: {e}")))?;
        Ok(text)
    }

    fn line_op(&self) -> Option<LineOp> {
        Some(match self.peek_word()? {
            Word::PipeExact => LineOp::Contains,
            Word::PipeMatch => LineOp::Regex,
            Word::PipePattern => LineOp::Pattern,
            Word::NotEqual => LineOp::NotContains,
            Word::NotRegex => LineOp::NotRegex,
            Word::NotPattern => LineOp::NotPattern,
            _ => return None,
        })
    }

    /// The needles behind a line operator. Alternatives of a negation are filters of their own.
    fn line_filter(&mut self, op: LineOp, filters: &mut Vec<LineFilter>) -> Parsed<()> {
        let mut needles = vec![self.needle(true)?];
        while self.take(Word::Or) {
            needles.push(self.needle(true)?);
        }
        if op.negated() {
            filters.extend(needles.into_iter().map(|n| LineFilter { op, needles: vec![n] }));
        } else {
            filters.push(LineFilter { op, needles });
        }
        Ok(())
    }

    fn needle(&mut self, may_be_ip: bool) -> Parsed<Needle> {
        if may_be_ip && self.take(Word::Ip) {
            self.need(Word::OpenParen)?;
            let text = self.text(&[])?;
            self.need(Word::CloseParen)?;
            return Ok(Needle { text, ip: true });
        }
        Ok(Needle { text: self.text(&[Expect::Word(Word::Ip)])?, ip: false })
    }

    fn logfmt(&mut self) -> Parsed<Stage> {
        let (mut strict, mut keep_empty) = (false, false);
        while let Token::Flag(flag) = *self.peek() {
            self.bump();
            strict |= flag == "--strict";
            keep_empty |= flag == "--keep-empty";
        }
        let fields = self.extractions()?;
        Ok(if fields.is_empty() {
            Stage::Logfmt { strict, keep_empty }
        } else {
            Stage::LogfmtFields { fields, strict, keep_empty }
        })
    }

    fn extractions(&mut self) -> Parsed<Vec<Extraction>> {
        let mut fields = Vec::new();
        if !matches!(self.peek(), Token::Identifier(_)) {
            return Ok(fields);
        }
        loop {
            let label = self.identifier(&[])?;
            let expression = if self.take(Word::Equal) { self.text(&[])? } else { label.clone() };
            fields.push(Extraction { label, expression });
            if !self.take(Word::Comma) {
                return Ok(fields);
            }
        }
    }

    fn label_formats(&mut self) -> Parsed<Vec<LabelFormat>> {
        let mut formats = Vec::new();
        loop {
            let label = self.identifier(&[])?;
            self.need(Word::Equal)?;
            let value = match self.peek() {
                Token::Identifier(_) => FormatValue::Rename(self.identifier(&[])?),
                _ => FormatValue::Template(self.text(&[Expect::Identifier])?),
            };
            formats.push(LabelFormat { label, value });
            if !self.take(Word::Comma) {
                return Ok(formats);
            }
        }
    }

    fn label_choices(&mut self) -> Parsed<Vec<LabelChoice>> {
        let mut choices = Vec::new();
        loop {
            let name = self.identifier(&[])?;
            choices.push(match self.match_op() {
                // The next line filter may begin with the same sign: a text decides.
                Some(op) => {
                    self.bump();
                    LabelChoice::Matching(new_matcher(op, name, self.text(&[])?)?)
                }
                None => LabelChoice::Name(name),
            });
            if !self.take(Word::Comma) {
                return Ok(choices);
            }
        }
    }

    /// What stands behind `| unwrap`, filters on the label included.
    fn unwrap(&mut self) -> Parsed<Unwrap> {
        let conversion = match self.peek_word() {
            Some(Word::BytesConversion) => Conversion::Bytes,
            Some(Word::DurationConversion) => Conversion::Duration,
            Some(Word::SecondsConversion) => Conversion::DurationSeconds,
            _ => Conversion::Number,
        };
        let label = if conversion == Conversion::Number {
            self.identifier(&[
                Expect::Word(Word::BytesConversion),
                Expect::Word(Word::DurationConversion),
                Expect::Word(Word::SecondsConversion),
            ])?
        } else {
            self.bump();
            self.need(Word::OpenParen)?;
            let label = self.identifier(&[])?;
            self.need(Word::CloseParen)?;
            label
        };
        let mut filters = Vec::new();
        while self.take(Word::Pipe) {
            filters.push(self.label_filter(None)?);
        }
        Ok(Unwrap { label, conversion, filters })
    }

    /// `pending` is the precedence of the operator on the left, if it has one: `or` 1, `and` 2.
    /// A comma and plain juxtaposition have none, and then everything that follows belongs to
    /// their right side; this is what Loki's grammar comes to.
    fn label_filter(&mut self, pending: Option<u8>) -> Parsed<LabelFilter> {
        self.deeper(|p| {
            let mut left = p.single_filter()?;
            loop {
                let binds_less = |precedence| pending.is_some_and(|left| left >= precedence);
                let (join, next): (fn(_, _) -> _, _) = match p.peek() {
                    Token::Word(Word::Or) if binds_less(1) => return Ok(left),
                    Token::Word(Word::And) if binds_less(2) => return Ok(left),
                    Token::Word(Word::Or) => (LabelFilter::Or as fn(_, _) -> _, Some(1)),
                    Token::Word(Word::And) => (LabelFilter::And as fn(_, _) -> _, Some(2)),
                    Token::Word(Word::Comma | Word::OpenParen) | Token::Identifier(_) => {
                        (LabelFilter::And as fn(_, _) -> _, None)
                    }
                    _ => return Ok(left),
                };
                if matches!(p.peek(), Token::Word(Word::Or | Word::And | Word::Comma)) {
                    p.bump();
                }
                let right = p.label_filter(next)?;
                left = join(Box::new(left), Box::new(right));
            }
        })
    }

    fn single_filter(&mut self) -> Parsed<LabelFilter> {
        if self.take(Word::OpenParen) {
            let inner = self.label_filter(None)?;
            self.need_unnamed(Word::CloseParen)?;
            return Ok(inner);
        }
        let label = self.identifier(&[Expect::Word(Word::OpenParen)])?;
        let compare = match self.peek_word() {
            Some(Word::Equal | Word::DoubleEqual) => Some(Compare::Equal),
            Some(Word::NotEqual) => Some(Compare::NotEqual),
            Some(Word::Greater) => Some(Compare::Greater),
            Some(Word::GreaterEqual) => Some(Compare::GreaterEqual),
            Some(Word::Less) => Some(Compare::Less),
            Some(Word::LessEqual) => Some(Compare::LessEqual),
            _ => None,
        };
        let op = self.match_op();
        if compare.is_none() && op.is_none() {
            return Err(self.unexpected(&[]));
        }
        self.bump();
        match (self.peek().clone(), op, compare) {
            (Token::Text(value), Some(op), _) => {
                self.bump();
                Ok(LabelFilter::Text(new_matcher(op, label, value)?))
            }
            (Token::Word(Word::Ip), Some(op @ (MatchOp::Equal | MatchOp::NotEqual)), _) => {
                let pattern = self.needle(true)?.text;
                Ok(LabelFilter::Ip { label, negated: op == MatchOp::NotEqual, pattern })
            }
            (Token::DurationNs(value_ns), _, Some(compare)) => {
                self.bump();
                Ok(LabelFilter::Duration { label, compare, value_ns })
            }
            (Token::Bytes(value), _, Some(compare)) => {
                self.bump();
                Ok(LabelFilter::Bytes { label, compare, value })
            }
            (Token::Number(_) | Token::Word(Word::Add | Word::Sub), _, Some(compare)) => {
                Ok(LabelFilter::Number { label, compare, value: self.literal()? })
            }
            (_, Some(_), None) => Err(self.unexpected(&[Expect::Text])),
            _ => Err(self.unexpected(&[])),
        }
    }
}

enum Next {
    Stage,
    Unwrap(Unwrap),
}
