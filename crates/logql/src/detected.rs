//! Which fields a selection of entries has, and which values a field has: what a person picks
//! from when exploring.
//!
//! As Loki's query frontend tells it: the newest entries that pass the query, up to a number of
//! lines, are read once more as JSON, else as logfmt, and their structured metadata counts beside
//! what is found. The query's own parsed labels count as well.

use std::collections::{BTreeMap, BTreeSet};

use bumpalo::Bump;
use hashbrown::HashSet;
use pilothouse_model::limits::LOG_FIELD_DEPTH;
use pilothouse_model::{Budget, EntrySource, Labels};
use pilothouse_query::units::{format_bytes, parse_bytes, parse_go_duration};
use rustc_hash::FxBuildHasher;
use xxhash_rust::xxh3::xxh3_64;

use crate::entry::{ERROR, ERROR_DETAILS, PRESERVE_ERROR};
use crate::json::push_sanitised;
use crate::json_scan::{Kind, Scan, unescape};
use crate::result::{LabelPairs, LogqlValue, StreamEntry};
use crate::syntax::{LogExpr, Stage};
use crate::{Direction, LogPipeline, LogqlError, RangeQuery, logs};

/// Entries that are looked at, `[start, end)`, and how many answers there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldQuery {
    pub start_ns: i64,
    pub end_ns: i64,
    /// Newest entries that are looked at.
    pub line_limit: usize,
    /// Fields, or values of a field, that are answered; those met first stay.
    pub limit: usize,
}

/// What kind of value a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldType {
    Int,
    Float,
    Boolean,
    Duration,
    Bytes,
    String,
}

impl FieldType {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Int => "int",
            Self::Float => "float",
            Self::Boolean => "boolean",
            Self::Duration => "duration",
            Self::Bytes => "bytes",
            Self::String => "string",
        }
    }

    /// The first kind whose reader takes the value, as Go reads them.
    pub fn of(value: &str) -> Self {
        const BOOLEANS: [&str; 12] =
            ["1", "t", "T", "true", "TRUE", "True", "0", "f", "F", "false", "FALSE", "False"];
        if value.parse::<i64>().is_ok() {
            Self::Int
        } else if pilothouse_query::go_number::parse_float(value).is_ok() {
            Self::Float
        } else if BOOLEANS.contains(&value) {
            Self::Boolean
        } else if parse_go_duration(value).is_ok() {
            Self::Duration
        } else if parse_bytes(value).is_ok() {
            Self::Bytes
        } else {
            Self::String
        }
    }
}

/// A field as `/loki/api/v1/detected_fields` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetectedField {
    /// As it is called behind the parser: with `_extracted` where a stream label has the name.
    pub label: String,
    /// Of the value met last.
    pub field_type: FieldType,
    /// Distinct values among the lines that were looked at.
    pub cardinality: u64,
    /// `json`, `logfmt` or both; none (`null` in the answer) for metadata alone.
    pub parsers: Vec<&'static str>,
    /// The keys from the outermost in, where the field came out of JSON; else empty, and then left
    /// out of the answer.
    pub json_path: Vec<String>,
}

/// The fields of the entries that pass a log query, sorted by label.
pub fn detected_fields(
    source: &dyn EntrySource,
    log: &LogExpr,
    query: &FieldQuery,
    budget: &Budget,
) -> Result<Vec<DetectedField>, LogqlError> {
    let mut fields = Fields { found: BTreeMap::new(), limit: query.limit };
    each_entry(source, log, query, budget, |entry| {
        for (name, value) in entry.metadata {
            fields.take(name, value, None);
        }
        for (name, value) in &entry.parsed {
            fields.take(name, value, entry.parser);
        }
        if entry.parser == Some("json") {
            fields.find_paths(&entry);
        }
        true
    })?;
    Ok(fields.found.into_iter().map(|(label, field)| field.finish(label)).collect())
}

/// The values of one field, sorted. Sizes in parsed labels are written anew so that they can
/// stand in a query, as Loki writes them (`2KB` becomes `2.0kB`).
pub fn detected_field_values(
    source: &dyn EntrySource,
    log: &LogExpr,
    name: &str,
    query: &FieldQuery,
    budget: &Budget,
) -> Result<Vec<String>, LogqlError> {
    let mut values = BTreeSet::new();
    each_entry(source, log, query, budget, |entry| {
        let of_name = |pairs: &LabelPairs| pairs.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
        values.extend(of_name(entry.metadata));
        values.extend(of_name(&entry.parsed).map(|value| size_text(&value).unwrap_or(value)));
        values.len() < query.limit
    })?;
    Ok(values.into_iter().collect())
}

/// One entry with the labels that its line gives.
struct Parsed<'e> {
    stream: &'e Labels,
    line: &'e str,
    metadata: &'e LabelPairs,
    parsed: LabelPairs,
    /// Which reader took the line.
    parser: Option<&'static str>,
}

/// Calls back for each of the newest entries that pass, stream by stream, until it answers
/// `false`.
fn each_entry(
    source: &dyn EntrySource,
    log: &LogExpr,
    query: &FieldQuery,
    budget: &Budget,
    mut each: impl FnMut(Parsed<'_>) -> bool,
) -> Result<(), LogqlError> {
    let range = RangeQuery {
        start_ns: query.start_ns,
        end_ns: query.end_ns,
        step_ns: 1,
        limit: query.line_limit,
        direction: Direction::Backward,
        interval_ns: 0,
        categorize: true,
        max_series: 0,
    };
    let LogqlValue::Streams(streams) = logs::run(source, log, &range, budget)?.value else { return Ok(()) };
    let mut readers = Readers::new()?;
    for stream in &streams {
        let labels = Labels::from_pairs(stream.labels.iter().map(|(n, v)| (n, v)));
        for entry in &stream.entries {
            budget.check("detected fields")?;
            if !each(readers.read(&labels, entry)) {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The two parsers that lines are tried with.
struct Readers {
    json: LogPipeline,
    logfmt: LogPipeline,
}

impl Readers {
    fn new() -> Result<Self, LogqlError> {
        let alone = |stage| LogPipeline::new(&LogExpr { matchers: Vec::new(), stages: vec![stage] });
        Ok(Self {
            json: alone(Stage::Json)?,
            logfmt: alone(Stage::Logfmt { strict: false, keep_empty: false })?,
        })
    }

    fn read<'e>(&mut self, stream: &'e Labels, entry: &'e StreamEntry) -> Parsed<'e> {
        // Labels that the query parsed are no stream labels, even where they cover one.
        let is_parsed = |name: &str| entry.parsed.iter().any(|(n, _)| n == name);
        let base = stream.filter(|name| !is_parsed(name));
        let none = Labels::empty();
        let run = |pipeline: &mut LogPipeline| pipeline.process(&base, entry.t_ns, &entry.line, &none);
        let has_error = |pairs: &LabelPairs| pairs.iter().any(|(name, _)| name == ERROR);
        let json = run(&mut self.json).filter(|p| !has_error(&p.parsed)).map(|p| ("json", p.parsed));
        let read = json.or_else(|| {
            let logfmt = run(&mut self.logfmt).filter(|p| !has_error(&p.parsed));
            logfmt.map(|p| ("logfmt", p.parsed))
        });
        let (parser, mut parsed) = read.map_or((None, Vec::new()), |(name, parsed)| (Some(name), parsed));
        let of_query = entry.parsed.iter().filter(|(name, _)| !is_error(name));
        parsed.retain(|(name, _)| !is_error(name));
        for (name, value) in of_query {
            if !parsed.iter().any(|(n, v)| n == name && v == value) {
                parsed.push((name.clone(), value.clone()));
            }
        }
        Parsed { stream, line: &entry.line, metadata: &entry.metadata, parsed, parser }
    }
}

fn is_error(name: &str) -> bool {
    matches!(name, ERROR | ERROR_DETAILS | PRESERVE_ERROR)
}

struct Fields {
    found: BTreeMap<String, Field>,
    limit: usize,
}

struct Field {
    field_type: FieldType,
    /// Hashes of values; there are no more of them than entries.
    values: HashSet<u64, FxBuildHasher>,
    parsers: Vec<&'static str>,
    json_path: Vec<String>,
}

impl Field {
    fn finish(self, label: String) -> DetectedField {
        DetectedField {
            label,
            field_type: self.field_type,
            cardinality: self.values.len() as u64,
            parsers: self.parsers,
            json_path: self.json_path,
        }
    }
}

impl Fields {
    fn take(&mut self, name: &str, value: &str, parser: Option<&'static str>) {
        if !self.found.contains_key(name) {
            if self.found.len() >= self.limit {
                return;
            }
            let field = Field {
                field_type: FieldType::String,
                values: HashSet::default(),
                parsers: Vec::new(),
                json_path: Vec::new(),
            };
            self.found.insert(name.to_owned(), field);
        }
        let Some(field) = self.found.get_mut(name) else { return };
        field.field_type = FieldType::of(value);
        field.values.insert(xxh3_64(value.as_bytes()));
        if let Some(parser) = parser.filter(|p| !field.parsers.contains(p)) {
            field.parsers.push(parser);
        }
    }

    /// Looks up where in the line the fields stand that have no path yet.
    fn find_paths(&mut self, entry: &Parsed<'_>) {
        let lacks_path = |field: &Field| field.json_path.is_empty();
        let mut wanting =
            entry.parsed.iter().filter(|(name, _)| self.found.get(name).is_some_and(lacks_path));
        if wanting.next().is_none() {
            return;
        }
        let found = &mut self.found;
        each_path(entry.line, &mut |label, path| {
            let taken = entry.stream.get(label).is_some();
            let label = if taken { format!("{label}_extracted") } else { label.to_owned() };
            if let Some(field) = found.get_mut(&label).filter(|field| lacks_path(field)) {
                field.json_path = path.to_vec();
            }
        });
    }
}

/// Calls back for each key of a JSON line that a label is made of, with that label's name and
/// the keys from the outermost in.
fn each_path(line: &str, each: &mut impl FnMut(&str, &[String])) {
    let scan = Scan { text: line };
    let arena = Bump::new();
    let mut path: Vec<String> = Vec::new();
    let mut labels: Vec<String> = vec![String::new()];
    let Ok(mut at) = scan.enter(0) else { return };
    loop {
        let behind = match scan.key(at) {
            Ok(Ok(key)) => {
                let plain = if key.escaped { unescape(key.raw, &arena).unwrap_or("") } else { key.raw };
                let mut label = labels.last().cloned().unwrap_or_default();
                if !plain.trim().is_empty() && !label.is_empty() {
                    label.push('_');
                }
                push_sanitised(&mut label, plain);
                let Ok((kind, start, end)) = scan.value(key.value_at) else { return };
                path.push(plain.to_owned());
                if kind == Kind::Object && path.len() < LOG_FIELD_DEPTH {
                    labels.push(label);
                    at = start + 1;
                    continue;
                }
                if matches!(kind, Kind::Text(_) | Kind::Number | Kind::Bool) {
                    each(&label, &path);
                }
                path.pop();
                let Ok(behind) = scan.value_end(kind, start, end) else { return };
                behind
            }
            Ok(Err(behind)) => {
                labels.pop();
                if path.pop().is_none() {
                    return;
                }
                behind
            }
            Err(_) => return,
        };
        // Behind a value: the next key, or the end of one object after the other.
        let mut behind = behind;
        at = loop {
            match scan.after_value(behind) {
                Ok(Ok(next)) => break next,
                Ok(Err(end)) => {
                    labels.pop();
                    if path.pop().is_none() {
                        return;
                    }
                    behind = end;
                }
                Err(_) => return,
            }
        };
    }
}

/// A size as `go-humanize` prints it without the blank; nothing for what is no size with a unit.
fn size_text(value: &str) -> Option<String> {
    let bytes = parse_bytes(value).ok()?;
    value.ends_with(|c: char| c.is_ascii_alphabetic()).then(|| format_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MemoryEntries, parse_log};

    fn entries() -> MemoryEntries {
        let entries = MemoryEntries::default();
        let shop = Labels::from_pairs([("app", "shop"), ("env", "dev")]);
        let none = Labels::empty();
        let level = |l: &str| Labels::from_pairs([("detected_level", l)]);
        for (i, (line, metadata)) in [
            (
                r#"level=info status=200 took=1.5s size=2KB ok=true app=inner ratio=0.5 odd= word"#,
                level("info"),
            ),
            (r#"level=warn status=404 took=20ms size=512B ok=false ratio=1"#, level("warn")),
        ]
        .iter()
        .enumerate()
        {
            entries.add(&shop, i as i64 + 1, line, metadata);
        }
        let gate = Labels::from_pairs([("app", "gate"), ("req_ip", "x")]);
        for (i, line) in [
            r#"{"req":{"ip":"10.0.0.1","n":[1],"deep":{"a-b":7}},"took ms":12,"none":null}"#,
            r#"{"req":{"ip":"10.0.0.2"},"took ms":13,"a":{},"b":{"c":{"d":"e"}},"z":true}"#,
            "not json but words",
        ]
        .iter()
        .enumerate()
        {
            entries.add(&gate, i as i64 + 1, line, &none);
        }
        entries
    }

    const ALL: FieldQuery = FieldQuery { start_ns: 0, end_ns: 100, line_limit: 100, limit: 1_000 };

    fn fields(query: &str, field_query: &FieldQuery) -> Vec<String> {
        let log = parse_log(query).unwrap();
        let found = detected_fields(&entries(), &log, field_query, &Budget::unlimited()).unwrap();
        let text = |f: DetectedField| {
            let parsers = f.parsers.join("+");
            format!(
                "{} {} {} {parsers} {}",
                f.label,
                f.field_type.as_str(),
                f.cardinality,
                f.json_path.join("/")
            )
        };
        found.into_iter().map(|f| text(f).trim_end().to_owned()).collect()
    }

    #[test]
    fn fields_of_logfmt_lines_and_metadata() {
        let expected = [
            "app_extracted string 1 logfmt",
            "detected_level string 2",
            "level string 2 logfmt",
            "ok boolean 2 logfmt",
            "ratio float 2 logfmt",
            "size bytes 2 logfmt",
            "status int 2 logfmt",
            "took duration 2 logfmt",
        ];
        assert_eq!(fields(r#"{app="shop"}"#, &ALL), expected);
        // A query that parses by itself finds the same.
        assert_eq!(fields(r#"{app="shop"} | logfmt"#, &ALL), expected);
        assert_eq!(fields(r#"{app="shop"} |= "404""#, &ALL).len(), 7);
    }

    #[test]
    fn fields_of_json_lines_tell_their_path() {
        assert_eq!(
            fields(r#"{app="gate"}"#, &ALL),
            [
                "b_c_d string 1 json b/c/d",
                "req_deep_a_b int 1 json req/deep/a-b",
                "req_ip_extracted string 2 json req/ip",
                "took_ms int 2 json took ms",
                "z boolean 1 json z",
            ]
        );
    }

    #[test]
    fn what_is_parsed_by_the_query_counts_too() {
        let found = fields(r#"{app="shop"} | label_format app="new" | pattern "level=<first> <_>""#, &ALL);
        assert!(found.contains(&"first string 2 logfmt".to_owned()), "{found:?}");
        // The label that the query made is none of the stream any more.
        assert!(found.contains(&"app string 2 logfmt".to_owned()), "{found:?}");
    }

    #[test]
    fn limits_hold() {
        assert_eq!(fields(r#"{app="shop"}"#, &FieldQuery { limit: 3, ..ALL }).len(), 3);
        let newest = FieldQuery { line_limit: 1, ..ALL };
        assert!(fields(r#"{app="shop"}"#, &newest).contains(&"status int 1 logfmt".to_owned()));
        assert_eq!(fields(r#"{app="nope"}"#, &ALL), Vec::<String>::new());
    }

    #[test]
    fn values_are_those_of_metadata_and_lines() {
        for (query, name, values) in [
            (r#"{app="shop"}"#, "status", &["200", "404"][..]),
            (r#"{app="shop"}"#, "size", &["2.0kB", "512B"]),
            (r#"{app="shop"}"#, "detected_level", &["info", "warn"]),
            (r#"{app="shop"}"#, "took", &["1.5s", "20ms"]),
            (r#"{app="gate"}"#, "req_ip_extracted", &["10.0.0.1", "10.0.0.2"]),
            (r#"{app="gate"}"#, "nosuch", &[]),
        ] {
            let log = parse_log(query).unwrap();
            let found = detected_field_values(&entries(), &log, name, &ALL, &Budget::unlimited());
            assert_eq!(found.unwrap(), values, "{query} {name}");
        }
    }

    #[test]
    fn kinds_are_tried_in_order() {
        for (value, kind) in [
            ("7", FieldType::Int),
            ("1", FieldType::Int),
            ("-0.5", FieldType::Float),
            ("NaN", FieldType::Float),
            ("t", FieldType::Boolean),
            ("False", FieldType::Boolean),
            ("1h30m", FieldType::Duration),
            ("5 MB", FieldType::Bytes),
            ("1,000", FieldType::Bytes),
            ("yes", FieldType::String),
            ("", FieldType::String),
        ] {
            assert_eq!(FieldType::of(value), kind, "{value}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_line_makes_paths_panic(line in r#"([{}\[\]":,\\ ]|a|é|1|true|null){0,30}"#) {
            each_path(&line, &mut |_, path| assert!(!path.is_empty()));
        }
    }
}
