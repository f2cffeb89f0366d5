//! The protobuf form (`opentelemetry.proto.metrics.v1`), walked by hand.

use pilothouse_model::limits::Limits;

use super::MESSAGE;
use super::translate::Translation;
use super::value_protobuf::{fixed64, read_pair};
use super::words::{Attribute, Buckets, Exemplar, Exponential, Kind, MetricHead, Point, PointHead};
use crate::decoded::Fault;
use crate::proto::{Cursor, ProtoError};
use crate::{DecodeError, Decoded};

pub(super) fn decode(body: &[u8], limits: &Limits) -> Result<Decoded, DecodeError> {
    let mut translation = Translation::new(limits);
    let mut request = Cursor::new(body);
    walk_request(&mut request, &mut translation).map_err(|fault| fault.at(MESSAGE, request.at))?;
    Ok(translation.finish())
}

fn walk_request(request: &mut Cursor<'_>, to: &mut Translation) -> Result<(), Fault> {
    while let Some(key) = request.key()? {
        match (key >> 3, key & 7) {
            (1, 2) => walk_resource_metrics(request.message()?, to)?,
            _ => request.skip_unknown(key, 1..=1)?,
        }
    }
    Ok(())
}

/// The resource may stand behind its metrics, so a first walk looks for it.
fn walk_resource_metrics(message: Cursor<'_>, to: &mut Translation) -> Result<(), Fault> {
    let mut first = message;
    let mut attributes = Vec::new();
    while let Some(key) = first.key()? {
        match (key >> 3, key & 7) {
            (1, 2) => attributes = read_resource(first.message()?, to)?,
            _ => first.skip(key)?,
        }
    }
    to.begin_resource(attributes);
    let mut second = message;
    while let Some(key) = second.key()? {
        match (key >> 3, key & 7) {
            (2, 2) => walk_scope_metrics(second.message()?, to)?,
            _ => second.skip(key)?,
        }
    }
    Ok(to.end_resource()?)
}

fn read_resource(mut resource: Cursor<'_>, to: &mut Translation) -> Result<Vec<Attribute>, Fault> {
    let mut attributes = Vec::new();
    while let Some(key) = resource.key()? {
        match (key >> 3, key & 7) {
            (1, 2) => attributes.push(read_attribute(resource.message()?, to)?),
            _ => resource.skip(key)?,
        }
    }
    Ok(attributes)
}

fn walk_scope_metrics(mut scope: Cursor<'_>, to: &mut Translation) -> Result<(), Fault> {
    while let Some(key) = scope.key()? {
        match (key >> 3, key & 7) {
            (2, 2) => walk_metric(scope.message()?, to)?,
            _ => scope.skip(key)?,
        }
    }
    Ok(())
}

fn walk_metric(mut metric: Cursor<'_>, to: &mut Translation) -> Result<(), Fault> {
    let mut head = MetricHead {
        name: String::new(),
        description: String::new(),
        unit: String::new(),
        kind: Kind::Unset,
    };
    let mut data = None;
    while let Some(key) = metric.key()? {
        match (key >> 3, key & 7) {
            (1, 2) => head.name = metric.text()?,
            (2, 2) => head.description = metric.text()?,
            (3, 2) => head.unit = metric.text()?,
            (number @ (5 | 7 | 9 | 10 | 11), 2) => {
                let message = metric.message()?;
                head.kind = read_kind(number, message)?;
                data = Some(message);
            }
            _ => metric.skip_unknown(key, 1..=11)?,
        }
    }
    to.begin_metric(&head)?;
    let Some(mut data) = data else { return Ok(()) };
    while let Some(key) = data.key()? {
        match (key >> 3, key & 7) {
            (1, 2) => {
                let point = read_point(head.kind, data.message()?, to)?;
                to.point(point)?;
            }
            _ => data.skip(key)?,
        }
    }
    Ok(())
}

/// The kind by the field that the data stands in; temporality is field 2 and may come last.
fn read_kind(number: u32, mut data: Cursor<'_>) -> Result<Kind, ProtoError> {
    let (mut temporality, mut monotonic) = (0, false);
    while let Some(key) = data.key()? {
        match (key >> 3, key & 7) {
            (2, 0) => temporality = data.int32()?,
            (3, 0) => monotonic = data.varint()? != 0,
            _ => data.skip(key)?,
        }
    }
    Ok(match number {
        5 => Kind::Gauge,
        7 => Kind::Sum { temporality, monotonic },
        9 => Kind::Histogram { temporality },
        10 => Kind::Exponential { temporality },
        _ => Kind::Summary,
    })
}

fn read_point(kind: Kind, message: Cursor<'_>, to: &mut Translation) -> Result<Point, Fault> {
    match kind {
        Kind::Histogram { .. } => read_histogram(message, to),
        Kind::Exponential { .. } => read_exponential(message, to),
        Kind::Summary => read_summary(message, to),
        Kind::Gauge | Kind::Sum { .. } | Kind::Unset => read_number(message, to),
    }
}

fn read_number(mut point: Cursor<'_>, to: &mut Translation) -> Result<Point, Fault> {
    let (mut head, mut value) = (PointHead::default(), 0.0);
    while let Some(key) = point.key()? {
        match (key >> 3, key & 7) {
            (3, 1) => head.t_ns = fixed64(&mut point)?,
            (4, 1) => value = point.double()?,
            (6, 1) => value = fixed64(&mut point)? as i64 as f64,
            (5, 2) => head.exemplars.push(read_exemplar(point.message()?, to)?),
            (7, 2) => head.attributes.push(read_attribute(point.message()?, to)?),
            (8, 0) => head.flags = point.varint()? as u32,
            _ => point.skip_unknown(key, 2..=8)?,
        }
    }
    Ok(Point::Number { head, value })
}

fn read_histogram(mut point: Cursor<'_>, to: &mut Translation) -> Result<Point, Fault> {
    let (mut head, mut count, mut sum) = (PointHead::default(), 0, None);
    let (mut counts, mut bounds) = (Vec::new(), Vec::new());
    while let Some(key) = point.key()? {
        match (key >> 3, key & 7) {
            (3, 1) => head.t_ns = fixed64(&mut point)?,
            (4, 1) => count = fixed64(&mut point)?,
            (5, 1) => sum = Some(point.double()?),
            (6, wire) => each(&mut point, wire, 1, &mut counts, fixed64)?,
            (7, wire) => each(&mut point, wire, 1, &mut bounds, Cursor::double)?,
            (8, 2) => head.exemplars.push(read_exemplar(point.message()?, to)?),
            (9, 2) => head.attributes.push(read_attribute(point.message()?, to)?),
            (10, 0) => head.flags = point.varint()? as u32,
            _ => point.skip_unknown(key, 2..=10)?,
        }
    }
    Ok(Point::Histogram { head, count, sum, counts, bounds })
}

fn read_exponential(mut point: Cursor<'_>, to: &mut Translation) -> Result<Point, Fault> {
    let (mut head, mut histogram) = (PointHead::default(), Exponential::default());
    while let Some(key) = point.key()? {
        match (key >> 3, key & 7) {
            (1, 2) => head.attributes.push(read_attribute(point.message()?, to)?),
            (3, 1) => head.t_ns = fixed64(&mut point)?,
            (4, 1) => histogram.count = fixed64(&mut point)?,
            (5, 1) => histogram.sum = point.double()?,
            (6, 0) => histogram.scale = point.sint32()?,
            (7, 1) => histogram.zero_count = fixed64(&mut point)?,
            (8, 2) => histogram.positive = read_buckets(point.message()?, to)?,
            (9, 2) => histogram.negative = read_buckets(point.message()?, to)?,
            (10, 0) => head.flags = point.varint()? as u32,
            (11, 2) => head.exemplars.push(read_exemplar(point.message()?, to)?),
            _ => point.skip_unknown(key, 1..=11)?,
        }
    }
    Ok(Point::Exponential { head, histogram })
}

fn read_buckets(mut message: Cursor<'_>, to: &mut Translation) -> Result<Buckets, Fault> {
    let mut buckets = Buckets::default();
    while let Some(key) = message.key()? {
        match (key >> 3, key & 7) {
            (1, 0) => buckets.offset = message.sint32()?,
            (2, wire) => each(&mut message, wire, 0, &mut buckets.counts, Cursor::varint)?,
            _ => message.skip_unknown(key, 1..=2)?,
        }
    }
    to.quota.take_samples(buckets.counts.len())?;
    Ok(buckets)
}

fn read_summary(mut point: Cursor<'_>, to: &mut Translation) -> Result<Point, Fault> {
    let (mut head, mut count, mut sum) = (PointHead::default(), 0, 0.0);
    let mut quantiles = Vec::new();
    while let Some(key) = point.key()? {
        match (key >> 3, key & 7) {
            (3, 1) => head.t_ns = fixed64(&mut point)?,
            (4, 1) => count = fixed64(&mut point)?,
            (5, 1) => sum = point.double()?,
            (6, 2) => quantiles.push(read_quantile(point.message()?)?),
            (7, 2) => head.attributes.push(read_attribute(point.message()?, to)?),
            (8, 0) => head.flags = point.varint()? as u32,
            _ => point.skip_unknown(key, 2..=8)?,
        }
    }
    Ok(Point::Summary { head, count, sum, quantiles })
}

fn read_quantile(mut message: Cursor<'_>) -> Result<(f64, f64), ProtoError> {
    let (mut quantile, mut value) = (0.0, 0.0);
    while let Some(key) = message.key()? {
        match (key >> 3, key & 7) {
            (1, 1) => quantile = message.double()?,
            (2, 1) => value = message.double()?,
            _ => message.skip_unknown(key, 1..=2)?,
        }
    }
    Ok((quantile, value))
}

fn read_exemplar(mut message: Cursor<'_>, to: &mut Translation) -> Result<Exemplar, Fault> {
    to.quota.take_samples(1)?;
    let mut exemplar = Exemplar::default();
    while let Some(key) = message.key()? {
        match (key >> 3, key & 7) {
            (2, 1) => exemplar.t_ns = fixed64(&mut message)?,
            (3, 1) => exemplar.value = Some(message.double()?),
            (6, 1) => exemplar.value = Some(fixed64(&mut message)? as i64 as f64),
            (4, 2) => exemplar.span_id = message.bytes()?.to_vec(),
            (5, 2) => exemplar.trace_id = message.bytes()?.to_vec(),
            (7, 2) => exemplar.attributes.push(read_attribute(message.message()?, to)?),
            _ => message.skip_unknown(key, 2..=7)?,
        }
    }
    Ok(exemplar)
}

fn read_attribute(message: Cursor<'_>, to: &mut Translation) -> Result<Attribute, Fault> {
    let (key, value) = read_pair(message, &mut to.quota, 0)?;
    Ok(Attribute { key, value: value.into_text() })
}

/// Reads a repeated number, packed or one by one; `single` is the wire type of one.
fn each<'a, T>(
    cursor: &mut Cursor<'a>,
    wire: u32,
    single: u32,
    to: &mut Vec<T>,
    read: impl Fn(&mut Cursor<'a>) -> Result<T, ProtoError>,
) -> Result<(), ProtoError> {
    if wire == single {
        to.push(read(cursor)?);
        return Ok(());
    }
    if wire != 2 {
        return Err(ProtoError::WireType);
    }
    let mut packed = cursor.message()?;
    while !packed.is_at_end() {
        to.push(read(&mut packed)?);
    }
    Ok(())
}
