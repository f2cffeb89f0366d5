//! What the two readers hand to the translation: one data point at a time, whatever it was
//! written in. Times are nanoseconds since 1970.

/// A metric without its points.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct MetricHead {
    pub(super) name: String,
    pub(super) description: String,
    pub(super) unit: String,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Gauge,
    Sum { temporality: i32, monotonic: bool },
    Histogram { temporality: i32 },
    Exponential { temporality: i32 },
    Summary,
    Unset,
}

/// The one temporality that has a meaning in Prometheus' data model.
const CUMULATIVE: i32 = 2;

impl Kind {
    pub(super) fn is_cumulative(self) -> bool {
        match self {
            Self::Gauge | Self::Summary => true,
            Self::Sum { temporality, .. }
            | Self::Histogram { temporality }
            | Self::Exponential { temporality } => temporality == CUMULATIVE,
            Self::Unset => false,
        }
    }
}

/// An attribute with its value as text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Attribute {
    pub(super) key: String,
    pub(super) value: String,
}

/// What every point has.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct PointHead {
    pub(super) attributes: Vec<Attribute>,
    pub(super) t_ns: u64,
    pub(super) flags: u32,
    pub(super) exemplars: Vec<Exemplar>,
}

impl PointHead {
    /// The point says that there is no value any more; it becomes a stale marker.
    pub(super) fn is_stale(&self) -> bool {
        self.flags & 1 == 1
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Point {
    Number { head: PointHead, value: f64 },
    Histogram { head: PointHead, count: u64, sum: Option<f64>, counts: Vec<u64>, bounds: Vec<f64> },
    Exponential { head: PointHead, histogram: Exponential },
    Summary { head: PointHead, count: u64, sum: f64, quantiles: Vec<(f64, f64)> },
}

impl Point {
    pub(super) fn head(&self) -> &PointHead {
        match self {
            Self::Number { head, .. }
            | Self::Histogram { head, .. }
            | Self::Exponential { head, .. }
            | Self::Summary { head, .. } => head,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Exponential {
    pub(super) count: u64,
    pub(super) sum: f64,
    pub(super) scale: i32,
    pub(super) zero_count: u64,
    pub(super) positive: Buckets,
    pub(super) negative: Buckets,
}

/// Counts of neighbouring buckets from the index `offset` on.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Buckets {
    pub(super) offset: i32,
    pub(super) counts: Vec<u64>,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Exemplar {
    pub(super) t_ns: u64,
    /// `None` when neither form of value was there.
    pub(super) value: Option<f64>,
    pub(super) trace_id: Vec<u8>,
    pub(super) span_id: Vec<u8>,
    pub(super) attributes: Vec<Attribute>,
}

/// The value of an attribute before it becomes text.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) enum Value {
    #[default]
    Empty,
    Text(String),
    Bool(bool),
    Int(i64),
    Double(f64),
    Bytes(Vec<u8>),
    List(Vec<Value>),
    Map(Vec<(String, Value)>),
}

impl Value {
    /// As the OpenTelemetry collector's `AsString`: scalars plainly, bytes in base64, lists and
    /// maps as JSON with sorted keys.
    pub(super) fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Empty => String::new(),
            Self::Bytes(bytes) => base64(&bytes),
            Self::Double(value) => json_float(value),
            Self::Bool(_) | Self::Int(_) | Self::List(_) | Self::Map(_) => {
                let mut out = String::new();
                self.push_json(&mut out);
                out
            }
        }
    }

    fn push_json(self, out: &mut String) {
        match self {
            Self::Empty => out.push_str("null"),
            Self::Text(text) => push_json_text(out, &text),
            Self::Bool(value) => out.push_str(if value { "true" } else { "false" }),
            Self::Int(value) => out.push_str(&value.to_string()),
            Self::Double(value) => out.push_str(&json_float(value)),
            Self::Bytes(bytes) => push_json_text(out, &base64(&bytes)),
            Self::List(values) => {
                out.push('[');
                for (i, value) in values.into_iter().enumerate() {
                    out.push_str(if i > 0 { "," } else { "" });
                    value.push_json(out);
                }
                out.push(']');
            }
            Self::Map(mut pairs) => {
                pairs.sort_by(|a, b| a.0.cmp(&b.0));
                out.push('{');
                for (i, (key, value)) in pairs.into_iter().enumerate() {
                    out.push_str(if i > 0 { "," } else { "" });
                    push_json_text(out, &key);
                    out.push(':');
                    value.push_json(out);
                }
                out.push('}');
            }
        }
    }
}

/// A float as Go's JSON writes it: as Prometheus' values, but with the shortest exponent.
fn json_float(value: f64) -> String {
    if !value.is_finite() {
        return format!("json: unsupported value: {}", pilothouse_model::sample::format_float(value));
    }
    let text = pilothouse_model::sample::format_float(value);
    match text.split_once("e-0") {
        Some((mantissa, digit)) => format!("{mantissa}e-{digit}"),
        None => text,
    }
}

/// A JSON string, with what would be markup in HTML escaped too, as Go does.
fn push_json_text(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '<' | '>' | '&' | '\u{0}'..='\u{1f}' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", c as u32));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let mut group = [0u8; 3];
        group[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        for i in 0..4 {
            let letter = BASE64[(bits >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    out
}

/// Standard or URL-safe base64, padded or not; `None` for anything else.
pub(super) fn from_base64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 2);
    let (mut bits, mut count) = (0u32, 0u32);
    for b in text.trim_end_matches('=').bytes() {
        let b = match b {
            b'-' => b'+',
            b'_' => b'/',
            b => b,
        };
        bits = bits << 6 | BASE64.iter().position(|l| *l == b)? as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    (count < 6).then_some(out)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

pub(super) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let digit = |b: u8| char::from(b).to_digit(16);
    pairs.iter().map(|[high, low]| Some((digit(*high)? << 4 | digit(*low)?) as u8)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_text_as_in_the_collector() {
        let map = Value::Map(vec![
            ("b".to_owned(), Value::List(vec![Value::Int(1), Value::Empty, Value::Bool(true)])),
            ("a".to_owned(), Value::Text("<\"x\">".to_owned())),
        ]);
        for (value, text) in [
            (Value::Empty, ""),
            (Value::Text("a b".to_owned()), "a b"),
            (Value::Bool(false), "false"),
            (Value::Int(-7), "-7"),
            (Value::Double(1.0), "1"),
            (Value::Double(1e-9), "1e-9"),
            (Value::Double(1.5e21), "1.5e+21"),
            (Value::Bytes(b"hello".to_vec()), "aGVsbG8="),
            (map, r#"{"a":"\u003c\"x\"\u003e","b":[1,null,true]}"#),
        ] {
            assert_eq!(value.into_text(), text);
        }
    }

    proptest::proptest! {
        #[test]
        fn bytes_as_text_go_back(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..40)) {
            proptest::prop_assert_eq!(from_base64(&base64(&bytes)), Some(bytes.clone()));
            proptest::prop_assert_eq!(from_hex(&hex(&bytes)), Some(bytes));
        }
    }
}
