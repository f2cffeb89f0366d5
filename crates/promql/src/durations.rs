//! Durations in a query: literals, and expressions over them, `step()` and `range()`.

use crate::ast::{BinaryOp, Duration, DurationKind, DurationOp, NumberLiteral, Span};
use crate::literals::{duration_seconds, number};
use crate::reader::{Read, Reader};
use crate::tokens::{Keyword, Word};

/// Seconds beyond which nanoseconds would not fit Prometheus' duration.
const MAX_SECONDS: f64 = (1u64 << 63) as f64 / 1e9;

const EXPECTED: &str = "number, duration, step(), or range()";

/// How tightly an operator binds; a sign binds as multiplication does.
fn binding(op: DurationOp) -> u8 {
    match op {
        DurationOp::Add | DurationOp::Sub => 1,
        DurationOp::Pow => 3,
        _ => 2,
    }
}

impl Reader<'_> {
    /// A duration in brackets. One that is a plain literal is checked at once.
    pub(crate) fn positive_duration(&mut self, context: &str) -> Read<Duration> {
        let expected = match context {
            "subquery selector" => "number, duration, step(), range(), or \"]\"",
            _ => EXPECTED,
        };
        let duration = self.duration(0, context, expected)?;
        match &duration.kind {
            DurationKind::Literal(literal) if literal.value <= 0.0 => {
                Err(self.error(duration.span, "duration must be greater than 0"))
            }
            _ => Ok(duration),
        }
    }

    /// The duration behind `offset`. Operators bind to it only inside parentheses, so that
    /// `a offset 5m + b` stays a sum of two vectors.
    pub(crate) fn offset_duration(&mut self) -> Read<Duration> {
        let parenthesised = *self.word() == Word::LeftParen;
        let first = self.duration_operand("offset", EXPECTED, true)?;
        if parenthesised { self.duration_tail(first, 0, "offset", EXPECTED) } else { Ok(first) }
    }

    fn duration(&mut self, least: u8, context: &str, expected: &str) -> Read<Duration> {
        let first = self.duration_operand(context, expected, false)?;
        self.duration_tail(first, least, context, expected)
    }

    fn duration_tail(&mut self, first: Duration, least: u8, context: &str, expected: &str) -> Read<Duration> {
        let (mut lhs, depth) = (first, self.depth());
        while let Some(op) = self.duration_operator().filter(|op| binding(*op) > least) {
            self.deeper()?;
            let token = self.advance();
            // Power groups to the right, the others to the left.
            let least = if op == DurationOp::Pow { 2 } else { binding(op) };
            let rhs = self.duration(least, context, expected)?;
            if let (DurationOp::Div | DurationOp::Mod, DurationKind::Literal(zero)) = (op, &rhs.kind)
                && zero.value == 0.0
            {
                let what = if op == DurationOp::Div { "division by zero" } else { "modulo by zero" };
                return Err(self.error(token.span, what));
            }
            let span = lhs.span.to(rhs.span);
            let kind = DurationKind::Binary { op, lhs: Box::new(lhs), rhs: Box::new(rhs) };
            lhs = Duration { span, kind };
        }
        self.back_to_depth(depth);
        Ok(lhs)
    }

    fn duration_operator(&self) -> Option<DurationOp> {
        Some(match self.word() {
            Word::Operator(BinaryOp::Add) => DurationOp::Add,
            Word::Operator(BinaryOp::Sub) => DurationOp::Sub,
            Word::Operator(BinaryOp::Mul) => DurationOp::Mul,
            Word::Operator(BinaryOp::Div) => DurationOp::Div,
            Word::Operator(BinaryOp::Mod) => DurationOp::Mod,
            Word::Operator(BinaryOp::Pow) => DurationOp::Pow,
            _ => return None,
        })
    }

    fn duration_operand(&mut self, context: &str, expected: &str, alone: bool) -> Read<Duration> {
        let depth = self.depth();
        self.deeper()?;
        let duration = match *self.word() {
            Word::Number | Word::Duration => self.duration_literal()?,
            Word::Operator(op @ (BinaryOp::Add | BinaryOp::Sub)) => {
                let sign = self.advance().span;
                let inner = match alone {
                    true => self.duration_operand(context, expected, true)?,
                    false => self.duration(2, context, expected)?,
                };
                self.signed(op == BinaryOp::Sub, sign, inner)?
            }
            Word::LeftParen => {
                let open = self.advance().span;
                let inner = self.duration(0, context, expected)?;
                let close = self.expect(&Word::RightParen, context, expected)?;
                Duration { span: open.to(close.span), kind: DurationKind::Paren(Box::new(inner)) }
            }
            Word::Keyword(keyword @ (Keyword::Step | Keyword::Range)) => {
                let name = self.advance().span;
                self.expect(&Word::LeftParen, context, expected)?;
                let close = self.expect(&Word::RightParen, context, expected)?;
                let kind = if keyword == Keyword::Step { DurationKind::Step } else { DurationKind::Range };
                Duration { span: name.to(close.span), kind }
            }
            Word::Keyword(keyword @ (Keyword::MaxOf | Keyword::MinOf)) => {
                let name = self.advance().span;
                self.expect(&Word::LeftParen, context, expected)?;
                let lhs = Box::new(self.duration(0, context, expected)?);
                self.expect(&Word::Comma, context, expected)?;
                let rhs = Box::new(self.duration(0, context, expected)?);
                let close = self.expect(&Word::RightParen, context, expected)?;
                let op = if keyword == Keyword::MaxOf { DurationOp::MaxOf } else { DurationOp::MinOf };
                Duration { span: name.to(close.span), kind: DurationKind::Binary { op, lhs, rhs } }
            }
            _ => return Err(self.unexpected(context, expected)),
        };
        self.back_to_depth(depth);
        Ok(duration)
    }

    fn duration_literal(&mut self) -> Read<Duration> {
        let token = self.advance();
        let text = self.text_of(&token);
        let is_duration = token.word == Word::Duration;
        let value = if is_duration { duration_seconds(text) } else { number(text) };
        let value = value.map_err(|message| self.error(token.span, message))?;
        self.checked_literal(token.span, NumberLiteral { value, is_duration })
    }

    fn checked_literal(&self, span: Span, literal: NumberLiteral) -> Read<Duration> {
        if literal.value > MAX_SECONDS || literal.value < -MAX_SECONDS {
            return Err(self.error(span, "duration out of range"));
        }
        Ok(Duration { span, kind: DurationKind::Literal(literal) })
    }

    fn signed(&self, minus: bool, sign: Span, inner: Duration) -> Read<Duration> {
        let span = sign.to(inner.span);
        match inner.kind {
            DurationKind::Literal(literal) => {
                let value = if minus { -literal.value } else { literal.value };
                self.checked_literal(span, NumberLiteral { value, ..literal })
            }
            DurationKind::Paren(_) if !minus => Ok(inner),
            _ => Ok(Duration { span, kind: DurationKind::Unary { minus, inner: Box::new(inner) } }),
        }
    }
}

/// What `step()` and `range()` stand for, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GridSpan {
    pub(crate) step_ms: i64,
    pub(crate) range_ms: i64,
}

impl Duration {
    /// The length in milliseconds, checked as Prometheus checks it when a query starts.
    pub(crate) fn resolve_ms(&self, grid: GridSpan, may_be_negative: bool) -> Result<i64, String> {
        if let DurationKind::Literal(literal) = &self.kind {
            return Ok(((literal.value * 1e9).round() / 1e6) as i64);
        }
        let seconds = self.seconds(grid)?;
        let place = || format!("{}:{}", self.span.start, self.span.end);
        if !seconds.is_finite() {
            return Err(format!("{}: duration is NaN or infinite", place()));
        }
        if seconds <= 0.0 && !may_be_negative {
            return Err(format!("{}: duration must be greater than 0", place()));
        }
        if seconds.abs() > MAX_SECONDS {
            return Err(format!("{}: duration is out of range", place()));
        }
        Ok((seconds * 1000.0) as i64)
    }

    fn seconds(&self, grid: GridSpan) -> Result<f64, String> {
        Ok(match &self.kind {
            DurationKind::Literal(literal) => literal.value,
            DurationKind::Step => grid.step_ms as f64 / 1000.0,
            DurationKind::Range => grid.range_ms as f64 / 1000.0,
            DurationKind::Paren(inner) => inner.seconds(grid)?,
            DurationKind::Unary { minus, inner } => {
                let seconds = inner.seconds(grid)?;
                if *minus { -seconds } else { seconds }
            }
            DurationKind::Binary { op, lhs, rhs } => {
                let (l, r) = (lhs.seconds(grid)?, rhs.seconds(grid)?);
                let by_zero = |what| Err(format!("{}:{}: {what} by zero", self.span.start, self.span.end));
                match op {
                    DurationOp::Add => l + r,
                    DurationOp::Sub => l - r,
                    DurationOp::Mul => l * r,
                    DurationOp::Div if r == 0.0 => return by_zero("division"),
                    DurationOp::Mod if r == 0.0 => return by_zero("modulo"),
                    DurationOp::Div => l / r,
                    DurationOp::Mod => l % r,
                    DurationOp::Pow => l.powf(r),
                    // A NaN wins, as in Go.
                    DurationOp::MinOf if l.is_nan() || r.is_nan() => f64::NAN,
                    DurationOp::MaxOf if l.is_nan() || r.is_nan() => f64::NAN,
                    DurationOp::MinOf => l.min(r),
                    DurationOp::MaxOf => l.max(r),
                }
            }
        })
    }
}
