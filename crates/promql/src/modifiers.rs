//! What stands behind an operator (`bool`, `on`, `group_left`, `fill`) and behind an operand
//! (`[5m]`, `offset`, `@`, `anchored`).

use crate::ast::{
    At, BinaryOp, Cardinality, Duration, Extended, Kind, Matching, MatrixSelector, Node, Span, TimeShift,
};
use crate::reader::{Note, Operand, Read, Reader};
use crate::tokens::{Keyword, Word};

impl Reader<'_> {
    // ── what stands behind an operator ──────────────────────────────────────────────────

    pub(crate) fn modifiers(&mut self, op: BinaryOp) -> Read<Note> {
        let return_bool = self.accept(&Word::Keyword(Keyword::Bool)).is_some();
        let mut matching = Matching::default();
        if let Word::Keyword(keyword @ (Keyword::On | Keyword::Ignoring)) = *self.word() {
            self.advance();
            matching.on = keyword == Keyword::On;
            matching.labels = self.grouping_labels()?;
            if let Word::Keyword(side @ (Keyword::GroupLeft | Keyword::GroupRight)) = *self.word() {
                self.advance();
                matching.card = match side {
                    Keyword::GroupLeft => Cardinality::ManyToOne,
                    _ => Cardinality::OneToMany,
                };
                if *self.word() == Word::LeftParen {
                    matching.include = self.grouping_labels()?;
                }
            }
        }
        self.fill(&mut matching)?;
        Ok(Note::Binary { op, return_bool, matching })
    }

    fn fill(&mut self, matching: &mut Matching) -> Read<()> {
        match *self.word() {
            Word::Keyword(Keyword::Fill) => {
                self.advance();
                let value = self.fill_value()?;
                (matching.fill_left, matching.fill_right) = (Some(value), Some(value));
            }
            Word::Keyword(Keyword::FillLeft) => {
                self.advance();
                matching.fill_left = Some(self.fill_value()?);
                if self.accept(&Word::Keyword(Keyword::FillRight)).is_some() {
                    matching.fill_right = Some(self.fill_value()?);
                }
            }
            Word::Keyword(Keyword::FillRight) => {
                self.advance();
                matching.fill_right = Some(self.fill_value()?);
                if self.accept(&Word::Keyword(Keyword::FillLeft)).is_some() {
                    matching.fill_left = Some(self.fill_value()?);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn fill_value(&mut self) -> Read<f64> {
        self.expect(&Word::LeftParen, "", "")?;
        let value = self.signed_number()?;
        self.expect(&Word::RightParen, "", "")?;
        value.ok_or_else(|| self.unexpected("", ""))
    }

    /// A number or duration with at most one sign; `None` if there is none.
    fn signed_number(&mut self) -> Read<Option<f64>> {
        let sign = match *self.word() {
            Word::Operator(op @ (BinaryOp::Add | BinaryOp::Sub)) => {
                self.advance();
                if op == BinaryOp::Sub { -1.0 } else { 1.0 }
            }
            _ => 1.0,
        };
        if !matches!(self.word(), Word::Number | Word::Duration) {
            return Ok(None);
        }
        match self.number()?.kind {
            Kind::Number(literal) => Ok(Some(sign * literal.value)),
            _ => Ok(None),
        }
    }

    // ── what stands behind an operand ───────────────────────────────────────────────────

    pub(crate) fn postfixes(&mut self, operand: Operand) -> Read<()> {
        loop {
            match *self.word() {
                Word::LeftBracket => self.brackets(operand)?,
                Word::Keyword(Keyword::Offset) => self.offset(operand)?,
                Word::At => self.at_modifier(operand)?,
                Word::Keyword(Keyword::Anchored) => self.extended(Extended::Anchored, operand)?,
                Word::Keyword(Keyword::Smoothed) => self.extended(Extended::Smoothed, operand)?,
                _ => return Ok(()),
            }
        }
    }

    fn brackets(&mut self, operand: Operand) -> Read<()> {
        const EITHER: &str = "subquery or range";
        let depth = self.depth();
        self.deeper()?;
        let open = self.advance();
        let range = self.positive_duration("subquery or range selector")?;
        match self.word() {
            Word::Colon => {
                self.advance();
                let step = match self.word() {
                    Word::RightBracket => None,
                    _ => Some(self.positive_duration("subquery selector")?),
                };
                let close = self.expect(&Word::RightBracket, "subquery selector", "\"]\"")?;
                let time = TimeShift::default();
                let span = operand.start.to(close.span);
                self.notes.insert(operand.note, Note::Subquery { range, step, time, span });
                self.skeleton.insert_str(operand.skeleton, "call(");
                self.skeleton.push(')');
            }
            Word::RightBracket => {
                let close = self.advance();
                self.back_to_depth(depth);
                return self.range_selector(operand, open.span.to(close.span), range);
            }
            _ => return Err(self.unexpected(EITHER, "\":\" or \"]\"")),
        }
        // A subquery is one more level around its operand, and stays so.
        Ok(())
    }

    fn range_selector(&mut self, operand: Operand, brackets: Span, range: Duration) -> Read<()> {
        let complaint = match self.notes.get_mut(operand.note) {
            Some(Note::Operand(node)) => match &mut node.kind {
                Kind::Vector(selector) if selector.time.offset.is_some() => {
                    "no offset modifiers allowed before range"
                }
                Kind::Vector(selector) if selector.time.at.is_some() => "no @ modifiers allowed before range",
                Kind::Vector(selector) => {
                    let selector = selector.clone();
                    let kind = Kind::Matrix(MatrixSelector { selector, range });
                    *node = Node { span: operand.start.to(brackets), kind };
                    return Ok(());
                }
                _ => "ranges only allowed for vector selectors",
            },
            _ => "ranges only allowed for vector selectors",
        };
        Err(self.error(brackets, complaint))
    }

    fn offset(&mut self, operand: Operand) -> Read<()> {
        self.advance();
        let duration = self.offset_duration()?;
        let end = duration.span.end;
        let span = operand.start;
        let already = match self.time_shift(operand, end) {
            Some(time) if time.offset.is_some() => true,
            Some(time) => {
                time.offset = Some(duration);
                false
            }
            None => return Err(self.error(span, not_a_selector("offset"))),
        };
        if already {
            return Err(self.error(span, "offset may not be set multiple times"));
        }
        Ok(())
    }

    fn at_modifier(&mut self, operand: Operand) -> Read<()> {
        let start = operand.start;
        self.advance();
        let at = self.at_time(start)?;
        let end = self.tokens[self.at - 1].span.end;
        let already = match self.time_shift(operand, end) {
            Some(time) if time.at.is_some() => true,
            Some(time) => {
                time.at = Some(at);
                false
            }
            None => return Err(self.error(start, not_a_selector("@"))),
        };
        if already {
            return Err(self.error(start, "@ <timestamp> may not be set multiple times"));
        }
        Ok(())
    }

    fn at_time(&mut self, start: Span) -> Read<At> {
        const EXPECTED: &str = "timestamp";
        if let Word::Keyword(keyword @ (Keyword::Start | Keyword::End)) = *self.word() {
            self.advance();
            self.expect(&Word::LeftParen, "@", EXPECTED)?;
            self.expect(&Word::RightParen, "@", EXPECTED)?;
            return Ok(if keyword == Keyword::Start { At::Start } else { At::End });
        }
        let Some(seconds) = self.signed_number()? else { return Err(self.unexpected("@", EXPECTED)) };
        if !seconds.is_finite() || seconds.abs() >= i64::MAX as f64 {
            let text = match seconds {
                s if s.is_nan() => "NaN".to_owned(),
                s if s.is_infinite() => if s > 0.0 { "+Inf" } else { "-Inf" }.to_owned(),
                s => format!("{s:.6}"),
            };
            return Err(self.error(start, format!("timestamp out of bounds for @ modifier: {text}")));
        }
        Ok(At::Time { t_ms: (seconds * 1000.0).round() as i64 })
    }

    fn extended(&mut self, how: Extended, operand: Operand) -> Read<()> {
        self.advance();
        let name = how.as_str();
        let complaint = match self.notes.get_mut(operand.note) {
            Some(Note::Operand(Node { kind: Kind::Vector(selector), .. }))
            | Some(Note::Operand(Node { kind: Kind::Matrix(MatrixSelector { selector, .. }), .. })) => {
                if selector.extended.is_none_or(|before| before == how) {
                    selector.extended = Some(how);
                    return Ok(());
                }
                "anchored and smoothed modifiers cannot be used together".to_owned()
            }
            Some(Note::Subquery { .. }) => format!("{name} modifier is not supported for subqueries"),
            _ => format!("{name} modifier not implemented"),
        };
        Err(self.error(operand.start, complaint))
    }

    /// The place for `offset` and `@`, with the operand stretched to `end`.
    fn time_shift(&mut self, operand: Operand, new_end: u32) -> Option<&mut TimeShift> {
        match self.notes.get_mut(operand.note)? {
            Note::Operand(Node { kind: Kind::Vector(selector), span })
            | Note::Operand(Node { kind: Kind::Matrix(MatrixSelector { selector, .. }), span }) => {
                span.end = new_end;
                Some(&mut selector.time)
            }
            Note::Subquery { time, span, .. } => {
                span.end = new_end;
                Some(time)
            }
            _ => None,
        }
    }
}

fn not_a_selector(modifier: &str) -> String {
    let what = "an instant vector selector or range vector selector or a subquery";
    format!("{modifier} modifier must be preceded by {what}")
}
