//! Operators between two samples, and between a row and a scalar.

use pilothouse_query::arithmetic::{Arithmetic, Comparison};
use pilothouse_query::histogram::{self as native, CustomBounds, MixedSchemas, ResetHints};

use crate::ast::{BinaryOp, Span};
use crate::notes::{Note, Notes, Operation, SampleKind};
use crate::rows::{Row, Sample, is_absent};

pub(crate) fn arithmetic(op: BinaryOp) -> Option<Arithmetic> {
    Some(match op {
        BinaryOp::Add => Arithmetic::Add,
        BinaryOp::Sub => Arithmetic::Sub,
        BinaryOp::Mul => Arithmetic::Mul,
        BinaryOp::Div => Arithmetic::Div,
        BinaryOp::Mod => Arithmetic::Mod,
        BinaryOp::Pow => Arithmetic::Pow,
        BinaryOp::Atan2 => Arithmetic::Atan2,
        _ => return None,
    })
}

pub(crate) fn comparison(op: BinaryOp) -> Option<Comparison> {
    Some(match op {
        BinaryOp::Eq => Comparison::Eq,
        BinaryOp::Ne => Comparison::Ne,
        BinaryOp::Gt => Comparison::Gt,
        BinaryOp::Lt => Comparison::Lt,
        BinaryOp::Ge => Comparison::Ge,
        BinaryOp::Le => Comparison::Le,
        _ => return None,
    })
}

/// 1 or 0 for a condition.
pub(crate) fn truth(holds: bool) -> f64 {
    if holds { 1.0 } else { 0.0 }
}

/// An operator between two scalars; comparisons give 1 or 0.
pub(crate) fn scalars(op: BinaryOp, left: f64, right: f64) -> f64 {
    match (arithmetic(op), comparison(op)) {
        (Some(arithmetic), _) => arithmetic.apply(left, right),
        (_, Some(comparison)) => truth(comparison.holds(left, right)),
        _ => f64::NAN,
    }
}

/// What an operator made of two samples. A comparison keeps the left one, or not.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) sample: Sample,
    pub(crate) keep: bool,
}

fn kind_of(sample: &Sample) -> SampleKind {
    match sample {
        Sample::Float(_) => SampleKind::Float,
        Sample::Histogram(_) => SampleKind::Histogram,
    }
}

/// An operator between two samples; `None`, with a remark, if it makes no sense of them.
pub(crate) fn samples(
    op: BinaryOp,
    left: &Sample,
    right: &Sample,
    span: Span,
    notes: &mut Notes,
) -> Option<Outcome> {
    let kept = |sample| Some(Outcome { sample, keep: true });
    let outcome = match (left, right) {
        (Sample::Float(l), Sample::Float(r)) => match (arithmetic(op), comparison(op)) {
            (Some(arithmetic), _) => kept(Sample::Float(arithmetic.apply(*l, *r))),
            (_, Some(comparison)) => Some(Outcome { sample: left.clone(), keep: comparison.holds(*l, *r) }),
            _ => None,
        },
        (Sample::Float(factor), Sample::Histogram(h)) if op == BinaryOp::Mul => kept(scaled(h, *factor)),
        (Sample::Histogram(h), Sample::Float(number)) => match op {
            BinaryOp::Mul => kept(scaled(h, *number)),
            BinaryOp::Div => kept(changed(h, |h| {
                native::divide(h, *number);
                native::compact(h);
            })),
            BinaryOp::TrimUpper => kept(changed(h, |h| native::trim_above(h, *number))),
            BinaryOp::TrimLower => kept(changed(h, |h| native::trim_below(h, *number))),
            _ => None,
        },
        (Sample::Histogram(l), Sample::Histogram(r)) => match op {
            BinaryOp::Add | BinaryOp::Sub => return joined(op, l, r, span, notes),
            BinaryOp::Eq => Some(Outcome { sample: left.clone(), keep: native::equal(l, r) }),
            BinaryOp::Ne => Some(Outcome { sample: left.clone(), keep: !native::equal(l, r) }),
            _ => None,
        },
        _ => None,
    };
    if outcome.is_none() {
        notes.add(Note::incompatible(kind_of(left), op, kind_of(right)), span);
    }
    outcome
}

type Shared = std::sync::Arc<pilothouse_model::Histogram>;

fn changed(h: &Shared, change: impl FnOnce(&mut pilothouse_model::Histogram)) -> Sample {
    let mut copy = (**h).clone();
    change(&mut copy);
    Sample::histogram(copy)
}

fn scaled(h: &Shared, factor: f64) -> Sample {
    changed(h, |h| {
        native::scale(h, factor);
        native::compact(h);
    })
}

/// The sum or the difference of two histograms. Counter resets that contradict each other leave
/// no result, as in Prometheus.
fn joined(op: BinaryOp, left: &Shared, right: &Shared, span: Span, notes: &mut Notes) -> Option<Outcome> {
    let mut result = (**left).clone();
    let (outcome, operation) = if op == BinaryOp::Add {
        (native::add(&mut result, right), Operation::Addition)
    } else {
        (native::subtract(&mut result, right), Operation::Subtraction)
    };
    let Ok(joined) = outcome.map_err(|MixedSchemas| notes.add(Note::IncompatibleLayout(op.as_str()), span))
    else {
        return None;
    };
    if joined.hints == ResetHints::Colliding {
        notes.add(Note::ResetCollision(operation), span);
        return None;
    }
    if joined.bounds == CustomBounds::Intersected {
        notes.add(Note::BoundsReconciled(operation), span);
    }
    if op == BinaryOp::Sub {
        result.reset_hint = pilothouse_model::ResetHint::Gauge;
    }
    native::compact(&mut result);
    Some(Outcome { sample: Sample::histogram(result), keep: true })
}

/// An operator between each value of a row and a scalar.
pub(crate) fn with_scalar(
    row: &mut Row,
    scalar: &[f64],
    op: BinaryOp,
    row_left: bool,
    return_bool: bool,
    span: Span,
    notes: &mut Notes,
) {
    if row.has_histograms() || matches!(op, BinaryOp::TrimLower | BinaryOp::TrimUpper) {
        with_scalar_slowly(row, scalar, op, row_left, return_bool, span, notes);
    } else if let Some(arithmetic) = arithmetic(op) {
        for (cell, scalar) in row.floats.iter_mut().zip(scalar).filter(|(cell, _)| !is_absent(**cell)) {
            *cell =
                if row_left { arithmetic.apply(*cell, *scalar) } else { arithmetic.apply(*scalar, *cell) };
        }
    } else if let Some(comparison) = comparison(op) {
        for (cell, scalar) in row.floats.iter_mut().zip(scalar).filter(|(cell, _)| !is_absent(**cell)) {
            let holds =
                if row_left { comparison.holds(*cell, *scalar) } else { comparison.holds(*scalar, *cell) };
            if return_bool {
                *cell = truth(holds);
            } else if !holds {
                *cell = crate::rows::absent();
            }
        }
    }
    row.drop_name |= return_bool || arithmetic(op).is_some();
}

fn with_scalar_slowly(
    row: &mut Row,
    scalar: &[f64],
    op: BinaryOp,
    row_left: bool,
    return_bool: bool,
    span: Span,
    notes: &mut Notes,
) {
    for (step, number) in scalar.iter().enumerate() {
        let Some(own) = row.sample(step) else { continue };
        let number = Sample::Float(*number);
        let (left, right) = if row_left { (&own, &number) } else { (&number, &own) };
        let sample = match samples(op, left, right, span, notes) {
            None => None,
            Some(outcome) if return_bool => Some(Sample::Float(truth(outcome.keep))),
            Some(outcome) if !outcome.keep => None,
            // A comparison keeps the vector's value, on whichever side it stands.
            Some(_) if comparison(op).is_some() => Some(own),
            Some(outcome) => Some(outcome.sample),
        };
        match sample {
            Some(sample) => row.set(step, sample),
            None => row.clear(step),
        }
    }
}
