//! Lines of text into a batch.

use std::collections::HashMap;

use pilothouse_model::labels::METRIC_NAME;
use pilothouse_model::limits::Limits;
use pilothouse_model::write::{BatchExemplar, FloatSample, MetadataEntry, MetricType, Reason};

use super::{TextFormat, openmetrics_float};
use crate::decoded::{Quota, Sample};
use crate::{DecodeError, Decoded};

/// Reads a whole text as Prometheus reads what it scrapes; the first line that cannot be read is the
/// error. Samples without a time get `default_t_ms`.
pub fn parse(
    format: TextFormat,
    text: &[u8],
    default_t_ms: i64,
    limits: &Limits,
) -> Result<Decoded, DecodeError> {
    let (decoded, fault) = parse_prefix(format, text, default_t_ms, limits);
    fault.map_or(Ok(decoded), Err)
}

/// Reads up to the first line that cannot be read. Gives what stood before it, and why it ends
/// there.
pub fn parse_prefix(
    format: TextFormat,
    text: &[u8],
    default_t_ms: i64,
    limits: &Limits,
) -> (Decoded, Option<DecodeError>) {
    let parser = Parser::new(format, default_t_ms, limits, Reading::Scrape);
    parser.run(text, |_, line, why| Err(DecodeError::Text { line, why }))
}

/// Reads what can be read: each line that cannot be becomes a refusal that names it. Fails only
/// on a text with more in it than a request may hold. Takes times before 1970 and line ends of
/// Windows, and times of OpenMetrics to the nearest millisecond: what was exported comes back as it was.
pub fn import(
    format: TextFormat,
    text: &[u8],
    default_t_ms: i64,
    limits: &Limits,
) -> Result<Decoded, DecodeError> {
    let parser = Parser::new(format, default_t_ms, limits, Reading::Import);
    let (decoded, fault) = parser.run(text, |decoded, line, why| {
        decoded.refuse(Reason::Undecodable { why: format!("line {line}: {why}") }, String::new);
        Ok(())
    });
    fault.map_or(Ok(decoded), Err)
}

type Pair = (Vec<u8>, Vec<u8>);

/// How exact a reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// As Prometheus.
    Scrape,
    Import,
}

/// Why a line is no good, or why the whole text is not.
enum Fault {
    Line(String),
    Request(DecodeError),
}

impl From<String> for Fault {
    fn from(why: String) -> Self {
        Self::Line(why)
    }
}

impl From<DecodeError> for Fault {
    fn from(cause: DecodeError) -> Self {
        Self::Request(cause)
    }
}

struct Parser {
    format: TextFormat,
    reading: Reading,
    default_t_ms: i64,
    decoded: Decoded,
    quota: Quota,
    /// Place of each family in the batch's metadata.
    families: HashMap<Vec<u8>, usize>,
    /// The type that the last `# TYPE` line said.
    metric_type: MetricType,
    pairs: Vec<Pair>,
    ended: bool,
}

impl Parser {
    fn new(format: TextFormat, default_t_ms: i64, limits: &Limits, reading: Reading) -> Self {
        Self {
            format,
            reading,
            default_t_ms,
            decoded: Decoded::new(),
            quota: Quota::new(limits),
            families: HashMap::new(),
            metric_type: MetricType::Unknown,
            pairs: Vec::new(),
            ended: false,
        }
    }

    fn run(
        mut self,
        text: &[u8],
        bad_line: impl FnMut(&mut Decoded, usize, String) -> Result<(), DecodeError>,
    ) -> (Decoded, Option<DecodeError>) {
        let fault = self.lines(text, bad_line).err();
        (self.decoded, fault)
    }

    fn lines(
        &mut self,
        text: &[u8],
        mut bad_line: impl FnMut(&mut Decoded, usize, String) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        let mut lines = 0;
        let whole = text.strip_suffix(b"\n").unwrap_or(text);
        for (i, line) in whole.split(|b| *b == b'\n').enumerate().filter(|_| !text.is_empty()) {
            lines = i + 1;
            match self.line(line) {
                Ok(()) => {}
                Err(Fault::Line(why)) => bad_line(&mut self.decoded, lines, why)?,
                Err(Fault::Request(cause)) => return Err(cause),
            }
        }
        if self.format == TextFormat::OpenMetrics && !self.ended {
            bad_line(&mut self.decoded, lines, "data does not end with # EOF".to_owned())?;
        }
        Ok(())
    }

    fn line(&mut self, line: &[u8]) -> Result<(), Fault> {
        let is_strict = self.format == TextFormat::OpenMetrics;
        let may_have_two_ends = !is_strict && self.reading == Reading::Import;
        let line = line.strip_suffix(b"\r").filter(|_| may_have_two_ends).unwrap_or(line);
        let mut rest = Line { rest: line, is_strict };
        rest.blanks();
        match rest.rest.first() {
            _ if self.ended => Err("unexpected data after # EOF".to_owned().into()),
            None if is_strict => Err("a line is empty".to_owned().into()),
            None => Ok(()),
            Some(b'#') => {
                rest.rest = &rest.rest[1..];
                self.comment(rest)
            }
            Some(_) => self.sample(rest),
        }
    }

    /// In the older format, whatever is no metadata is a remark; the newer one has no remarks.
    fn comment(&mut self, mut rest: Line<'_>) -> Result<(), Fault> {
        let is_strict = rest.is_strict;
        if is_strict && rest.rest == b" EOF" {
            self.ended = true;
            return Ok(());
        }
        let Some(words) = rest.blank() else {
            return if is_strict { Err(rest.no_start()) } else { Ok(()) };
        };
        let word_end = words.iter().position(|b| is_blank(*b)).unwrap_or(words.len());
        let (word, after) = words.split_at(word_end);
        if !(matches!(word, b"HELP" | b"TYPE") || is_strict && word == b"UNIT") {
            return if is_strict { Err(rest.no_start()) } else { Ok(()) };
        }
        // The older format takes the bare word for a remark.
        if after.is_empty() && !is_strict {
            return Ok(());
        }
        rest.rest = after;
        rest.rest = rest.blank().unwrap_or_default();
        let family = match rest.rest.first() {
            Some(b'"') => rest.quoted()?,
            _ => rest.name(true).to_vec(),
        };
        if family.is_empty() {
            return Err(format!("expected metric name after {}", lossy(word)).into());
        }
        if is_strict && !rest.rest.starts_with(b" ") {
            return Err(format!("expected text in {}", lossy(word)).into());
        }
        let text = rest.rest.get(1..).unwrap_or(&[]);
        self.metadata(word, family, text)
    }

    fn metadata(&mut self, word: &[u8], family: Vec<u8>, text: &[u8]) -> Result<(), Fault> {
        let fact = Fact::read(word, &family, text, self.format)?;
        let at = match self.families.get(&family) {
            Some(at) => *at,
            None => {
                self.quota.take_series()?;
                let at = self.decoded.batch.metadata.len();
                self.decoded.batch.metadata.push(MetadataEntry {
                    family: lossy(&family),
                    metric_type: MetricType::Unknown,
                    help: String::new(),
                    unit: String::new(),
                });
                self.families.insert(family, at);
                at
            }
        };
        let Some(entry) = self.decoded.batch.metadata.get_mut(at) else { return Ok(()) };
        match fact {
            Fact::Type(metric_type) => {
                entry.metric_type = metric_type;
                self.metric_type = metric_type;
            }
            Fact::Help(help) => entry.help = help,
            Fact::Unit(unit) => entry.unit = unit,
        }
        Ok(())
    }

    fn sample(&mut self, mut rest: Line<'_>) -> Result<(), Fault> {
        let mut pairs = std::mem::take(&mut self.pairs);
        let parsed = self.read_sample(&mut rest, &mut pairs);
        let stored = parsed.and_then(|(sample, exemplar)| self.push(&mut pairs, sample, exemplar));
        pairs.clear();
        self.pairs = pairs;
        stored
    }

    fn read_sample(
        &mut self,
        rest: &mut Line<'_>,
        pairs: &mut Vec<Pair>,
    ) -> Result<(FloatSample, Option<BatchExemplar>), Fault> {
        let name = rest.name(true);
        let mut named = !name.is_empty();
        if named {
            pairs.push((METRIC_NAME.as_bytes().to_vec(), name.to_vec()));
            rest.blanks();
        }
        if rest.eat(b'{') {
            rest.labels(pairs, Some(&mut named))?;
        } else if !named {
            return Err(format!("expected a metric name, got {}", rest.shown()).into());
        }
        if !named {
            return Err("metric name not set".to_owned().into());
        }
        let value = float(rest.word("expected value after metric")?)?;
        let mut t_ms = self.default_t_ms;
        rest.blanks();
        if !rest.rest.is_empty() && !without_blanks(rest.rest).starts_with(b"#") {
            t_ms = self.time(rest.word("expected timestamp or new record")?)?;
            rest.blanks();
        }
        let exemplar = match rest.rest.strip_prefix(b" # {") {
            Some(exemplar) if rest.is_strict => {
                rest.rest = exemplar;
                Some(self.read_exemplar(rest, t_ms)?)
            }
            _ => None,
        };
        if !rest.rest.is_empty() {
            return Err(format!("expected end of line, got {}", rest.shown()).into());
        }
        Ok((FloatSample { t_ms, value }, exemplar))
    }

    /// What follows the opening brace of an exemplar.
    fn read_exemplar(&self, rest: &mut Line<'_>, sample_t_ms: i64) -> Result<BatchExemplar, Fault> {
        let mut pairs = Vec::new();
        rest.labels(&mut pairs, None)?;
        let value = float(rest.word("expected value after exemplar labels")?)?;
        let mut t_ms = sample_t_ms;
        if !rest.rest.is_empty() {
            t_ms = self.time(rest.word("expected exemplar timestamp")?)?;
        }
        let labels = pairs.iter().map(|(n, v)| (lossy(n), lossy(v))).collect();
        Ok(BatchExemplar { t_ms, value, labels })
    }

    fn time(&self, text: &[u8]) -> Result<i64, Fault> {
        let invalid = || Fault::Line(format!("invalid timestamp {:?}", lossy(text)));
        let is_scraped = self.reading == Reading::Scrape;
        match self.format {
            TextFormat::Prometheus if is_scraped && !text.iter().all(u8::is_ascii_digit) => Err(invalid()),
            TextFormat::Prometheus => {
                std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or_else(invalid)
            }
            TextFormat::OpenMetrics => {
                // Prometheus cuts off, also where a time like 1.001 has no exact binary form.
                let t_ms = float(text)? * 1000.0;
                let t_ms = if is_scraped { t_ms.trunc() } else { t_ms.round() };
                // i64::MAX as a float is one above it.
                if t_ms >= i64::MIN as f64 && t_ms < i64::MAX as f64 {
                    Ok(t_ms as i64)
                } else {
                    Err(invalid())
                }
            }
        }
    }

    fn push(
        &mut self,
        pairs: &mut [Pair],
        sample: FloatSample,
        exemplar: Option<BatchExemplar>,
    ) -> Result<(), Fault> {
        self.normalise(pairs);
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        let pairs = pairs.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
        let exemplars = exemplar.into_iter().collect();
        self.decoded.push_sample(&mut self.quota, pairs, Sample::Float(sample), exemplars)?;
        Ok(())
    }

    /// `le` and `quantile` are numbers that are written in many ways but are one label value.
    fn normalise(&self, pairs: &mut [Pair]) {
        let label: &[u8] = match self.metric_type {
            MetricType::Histogram => b"le",
            MetricType::Summary => b"quantile",
            _ => return,
        };
        for (name, value) in pairs {
            if name == label
                && let Ok(number) = float(value)
            {
                *value = openmetrics_float(number).into_bytes();
            }
        }
    }
}

/// What one line says of a family.
enum Fact {
    Type(MetricType),
    Help(String),
    Unit(String),
}

impl Fact {
    fn read(word: &[u8], family: &[u8], text: &[u8], format: TextFormat) -> Result<Self, String> {
        match word {
            b"TYPE" => metric_type(text, format).map(Self::Type),
            b"HELP" => {
                let text = unescape(text, format == TextFormat::OpenMetrics);
                let help = String::from_utf8(text).map_err(|_| "help text is not valid UTF-8")?;
                Ok(Self::Help(help))
            }
            _ => {
                let (unit, family) = (lossy(text), lossy(family));
                if !unit.is_empty() && !family.ends_with(&format!("_{unit}")) {
                    return Err(format!("unit {unit:?} not a suffix of metric {family:?}"));
                }
                Ok(Self::Unit(unit))
            }
        }
    }
}

/// What is left of a line.
#[derive(Debug, Clone, Copy)]
struct Line<'a> {
    rest: &'a [u8],
    /// Whether there is exactly one space where there may be one, and none elsewhere.
    is_strict: bool,
}

impl<'a> Line<'a> {
    /// Passes over what may stand between any two parts of the older format.
    fn blanks(&mut self) {
        if !self.is_strict {
            self.rest = without_blanks(self.rest);
        }
    }

    /// What follows the blanks that must come now.
    fn blank(&self) -> Option<&'a [u8]> {
        if self.is_strict {
            return self.rest.strip_prefix(b" ");
        }
        let after = without_blanks(self.rest);
        (after.len() < self.rest.len()).then_some(after)
    }

    fn no_start(&self) -> Fault {
        format!("expected HELP, TYPE, UNIT or EOF, got {}", self.shown()).into()
    }

    fn eat(&mut self, byte: u8) -> bool {
        match self.rest.strip_prefix(&[byte]) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// An unquoted name, empty if there is none; colons are for metric names.
    fn name(&mut self, colons: bool) -> &'a [u8] {
        let belongs = |i: usize, b: u8| {
            b.is_ascii_alphabetic() || b == b'_' || (colons && b == b':') || (i > 0 && b.is_ascii_digit())
        };
        let end = self.rest.iter().enumerate().position(|(i, b)| !belongs(i, *b)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        name
    }

    /// A text in double quotes, unescaped.
    fn quoted(&mut self) -> Result<Vec<u8>, String> {
        let body = self
            .rest
            .strip_prefix(b"\"")
            .ok_or_else(|| format!("expected a quoted text, got {}", self.shown()))?;
        let mut escaped = false;
        let end = body.iter().position(|b| {
            let closes = *b == b'"' && !escaped;
            escaped = *b == b'\\' && !escaped;
            closes
        });
        let end = end.ok_or_else(|| format!("a quoted text does not end: {}", self.shown()))?;
        let (text, rest) = body.split_at(end);
        self.rest = &rest[1..];
        Ok(unescape(text, true))
    }

    /// Labels up to and with the closing brace. A quoted text alone is the metric name, where
    /// there may be one and none was given yet.
    fn labels(&mut self, pairs: &mut Vec<Pair>, mut named: Option<&mut bool>) -> Result<(), String> {
        loop {
            self.blanks();
            if self.eat(b'}') {
                return Ok(());
            }
            let is_quoted = self.rest.starts_with(b"\"");
            let name = if is_quoted { self.quoted()? } else { self.name(false).to_vec() };
            if name.is_empty() && !is_quoted {
                return Err(format!("expected label name, got {}", self.shown()));
            }
            self.blanks();
            if self.eat(b'=') {
                self.blanks();
                let value =
                    self.quoted().map_err(|_| format!("expected label value, got {}", self.shown()))?;
                if std::str::from_utf8(&value).is_err() {
                    return Err(format!("invalid UTF-8 label value: {:?}", lossy(&value)));
                }
                pairs.push((name, value));
            } else {
                match named.as_deref_mut() {
                    _ if !matches!(self.rest.first(), Some(b',' | b'}')) => {
                        return Err(format!("expected equal, got {}", self.shown()));
                    }
                    Some(named) if is_quoted && !*named => *named = true,
                    Some(_) if is_quoted => return Err("metric name already set".to_owned()),
                    _ => return Err(format!("expected equal, got {}", self.shown())),
                }
                pairs.push((METRIC_NAME.as_bytes().to_vec(), name));
            }
            self.blanks();
            // The older format has done without the comma ever since.
            if !self.eat(b',') && !self.rest.starts_with(b"}") && (self.is_strict || self.rest.is_empty()) {
                return Err(format!("expected comma or brace close, got {}", self.shown()));
            }
        }
    }

    /// The next word, up to a blank or the end.
    fn word(&mut self, expected: &str) -> Result<&'a [u8], String> {
        self.blanks();
        let strict = self.is_strict;
        let after = if strict { self.rest.strip_prefix(b" ").unwrap_or_default() } else { self.rest };
        let ends = |b: &u8| *b == b' ' || !strict && is_blank(*b);
        let (word, rest) = after.split_at(after.iter().position(ends).unwrap_or(after.len()));
        if word.is_empty() {
            return Err(format!("{expected}, got {}", self.shown()));
        }
        self.rest = rest;
        Ok(word)
    }

    /// The head of what is left, for a message.
    fn shown(&self) -> String {
        if self.rest.is_empty() {
            return "the end of the line".to_owned();
        }
        format!("{:?}", lossy(&self.rest[..self.rest.len().min(40)]))
    }
}

fn is_blank(b: u8) -> bool {
    b == b' ' || b == b'\t'
}

fn without_blanks(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|b| !is_blank(*b)).unwrap_or(text.len());
    text.get(start..).unwrap_or_default()
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `\\` and `\n`, and `\"` where quotes are escaped; a backslash before anything else stays.
fn unescape(text: &[u8], quotes: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied();
    while let Some(b) = bytes.next() {
        if b != b'\\' {
            out.push(b);
            continue;
        }
        match bytes.next() {
            Some(b'\\') => out.push(b'\\'),
            Some(b'n') => out.push(b'\n'),
            Some(b'"') if quotes => out.push(b'"'),
            other => {
                out.push(b'\\');
                out.extend(other);
            }
        }
    }
    out
}

/// A number as Go reads it, without its newer forms; every NaN is the same one.
fn float(text: &[u8]) -> Result<f64, String> {
    let invalid = || format!("invalid number {:?}", lossy(text));
    let text = std::str::from_utf8(text).map_err(|_| invalid())?;
    let value: f64 = text.parse().map_err(|_| invalid())?;
    // Go refuses what is too large to be a number and was not written as infinity.
    if value.is_infinite() && text.bytes().any(|b| b.is_ascii_digit()) {
        return Err(invalid());
    }
    Ok(if value.is_nan() { f64::from_bits(NORMAL_NAN) } else { value })
}

/// The NaN that Prometheus stores for a NaN in a text.
const NORMAL_NAN: u64 = 0x7ff8_0000_0000_0001;

/// The older format has fewer types, and another word for one of them.
fn metric_type(text: &[u8], format: TextFormat) -> Result<MetricType, String> {
    let text = lossy(text);
    let found = match (format, text.as_str()) {
        (TextFormat::Prometheus, "untyped") => Some(MetricType::Unknown),
        (TextFormat::Prometheus, "unknown" | "info" | "stateset" | "gaugehistogram") => None,
        _ => MetricType::ALL.into_iter().find(|t| t.as_str() == text),
    };
    found.ok_or_else(|| format!("invalid metric type {text:?}"))
}
