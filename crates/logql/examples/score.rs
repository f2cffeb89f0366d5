//! Replays the query cases of the conformance kit against a list in memory, without HTTP.
//!
//! `cargo run -p pilothouse-logql --example score -- <cases folder> [theme or id part …]`
//!
//! The kit's data set comes from its runner, which is asked for it through Python. What adds
//! labels on ingest (service names, levels) is done here in the plainest way.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use pilothouse_logql::{
    Direction, LogqlError, LogqlValue, MemoryEntries, RangeQuery, parse, pretty, query_instant, query_range,
};
use pilothouse_model::{Budget, Labels, LabelsBuilder, SampleValue};
use serde_json::{Value, json};

const BASE_NS: i64 = 1_700_000_400_000_000_000 / 3_600_000_000_000 * 3_600_000_000_000;
const DUMP: &str = "import sys,json; sys.path.insert(0,sys.argv[1]); import logqltest as t; json.dump([[l,[[o,x,m or {}] for o,x,m in es]] for _,ss in t.dataset() for l,es in ss], sys.stdout)";

type Pairs = BTreeMap<String, String>;
/// Offset from the base in nanoseconds, line, metadata.
type Row = (i64, String, Pairs);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let folder = args.next().ok_or("usage: score <cases folder> [filter …]")?;
    let filters: Vec<String> = args.collect();
    let source = MemoryEntries::default();
    load(&source, Path::new(&folder))?;
    let mut files: Vec<_> = std::fs::read_dir(&folder)?.filter_map(|f| Some(f.ok()?.path())).collect();
    files.sort();
    let (mut passed, mut failed) = (0, 0);
    for file in files {
        for line in std::fs::read_to_string(&file)?.lines().filter(|l| !l.trim().is_empty()) {
            let case: Value = serde_json::from_str(line)?;
            let id = case["id"].as_str().unwrap_or("");
            if !filters.is_empty() && !filters.iter().any(|f| id.contains(f.as_str())) {
                continue;
            }
            match run(&source, &case) {
                None => {}
                Some(Ok(())) => passed += 1,
                Some(Err(why)) => {
                    failed += 1;
                    let query = param(&case, "query").unwrap_or_default();
                    let why: String = why.chars().take(900).collect();
                    println!("FAIL {id}\n  {query}\n  {why}");
                }
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    Ok(())
}

fn load(source: &MemoryEntries, folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let kit = folder.parent().unwrap_or(folder);
    let out = Command::new("python3").args(["-B", "-c", DUMP]).arg(kit).output()?;
    let streams: Vec<(Pairs, Vec<Row>)> = serde_json::from_slice(&out.stdout)?;
    for (labels, entries) in streams {
        let labels = with_service_name(labels);
        for (offset, line, metadata) in entries {
            let metadata = with_level(&labels, &line, metadata);
            source.add(&labels, BASE_NS + offset, &line, &metadata);
        }
    }
    Ok(())
}

fn with_service_name(mut labels: Pairs) -> Labels {
    let names =
        ["service", "app", "application", "app_name", "name", "container", "component", "workload", "job"];
    if !labels.contains_key("service_name") {
        let found = names.iter().find_map(|n| labels.get(*n).cloned());
        labels.insert("service_name".to_owned(), found.unwrap_or_else(|| "unknown_service".to_owned()));
    }
    Labels::from_pairs(labels)
}

fn known_level(word: &str) -> Option<&'static str> {
    Some(match word.to_lowercase().as_str() {
        "trace" | "trc" => "trace",
        "debug" | "dbg" => "debug",
        "info" | "inf" | "information" => "info",
        "warn" | "wrn" | "warning" => "warn",
        "error" | "err" => "error",
        "critical" => "critical",
        "fatal" => "fatal",
        _ => return None,
    })
}

fn with_level(labels: &Labels, line: &str, metadata: Pairs) -> Labels {
    let mut builder = LabelsBuilder::default();
    for (name, value) in &metadata {
        let name: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
        builder.set(&name, value);
    }
    let given = ["level", "severity"]
        .iter()
        .find_map(|n| labels.get(n).map(str::to_owned).or(metadata.get(*n).cloned()));
    let level = match (metadata.get("detected_level"), given) {
        (Some(word), _) => known_level(word).map_or(word.clone(), str::to_owned),
        (None, Some(word)) => known_level(&word).map_or(word, str::to_owned),
        (None, None) => level_of_line(line),
    };
    builder.set("detected_level", &level);
    builder.build()
}

fn level_of_line(line: &str) -> String {
    let names = ["level", "log.level", "severity", "severitytext", "lvl", "severity_text"];
    let trimmed = line.trim();
    if trimmed.starts_with('{') && trimmed.ends_with('}') {
        let exact = [
            "level",
            "LEVEL",
            "Level",
            "log.level",
            "severity",
            "SEVERITY",
            "Severity",
            "SeverityText",
            "LVL",
            "lvl",
            "Lvl",
        ];
        let json: Value = serde_json::from_str(trimmed).unwrap_or(Value::Null);
        let direct = exact.iter().find_map(|n| json[n].as_str());
        let nested =
            json.as_object().and_then(|o| o.values().find_map(|v| exact.iter().find_map(|n| v[n].as_str())));
        let first = exact
            .iter()
            .find(|n| json.get(**n).is_some_and(Value::is_string))
            .and_then(|n| json[*n].as_str());
        if let Some(level) = first.or(direct).or(nested).and_then(known_level) {
            return level.to_owned();
        }
    } else if line.contains('=') {
        for name in names {
            for word in line.split_whitespace() {
                if let Some((key, value)) = word.split_once('=')
                    && key.to_lowercase() == name
                    && let Some(level) = known_level(value.trim_matches('"'))
                {
                    return level.to_owned();
                }
            }
        }
    }
    let lower = line.to_lowercase();
    let words = ["trace", "debug", "fatal", "critical", "error", "err", "warning", "warn", "info"];
    let bounded = |at: usize, word: &str| {
        let before = lower[..at].chars().next_back().is_none_or(|c| " \t\n[({\"'=|".contains(c));
        let after = lower[at + word.len()..].chars().next().is_none_or(|c| " \t\n[({\"'=|])}:,!".contains(c));
        before && after
    };
    let first = words
        .iter()
        .filter_map(|word| {
            lower.match_indices(word).find(|(at, _)| bounded(*at, word)).map(|(at, _)| (at, *word))
        })
        .min();
    first.and_then(|(_, word)| known_level(word)).unwrap_or("unknown").to_owned()
}

fn param(case: &Value, name: &str) -> Option<String> {
    match &case["params"] {
        Value::Object(map) => map.get(name)?.as_str().map(str::to_owned),
        Value::Array(list) => {
            list.iter().find(|p| p[0] == name).and_then(|p| p[1].as_str()).map(str::to_owned)
        }
        _ => None,
    }
}

/// A time of the kit: `${B+300}` and its kin, or plain numbers.
fn time(text: &str) -> Option<i64> {
    let seconds = |text: &str| if text.is_empty() { Some(0.0) } else { text.parse::<f64>().ok() };
    if let Some(inner) = text.strip_prefix("${").and_then(|t| t.strip_suffix('}')) {
        return Some(BASE_NS + (seconds(&inner[1..])? * 1e9).round() as i64);
    }
    None
}

fn duration_ns(text: &str) -> Option<i64> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Some((seconds * 1e9) as i64);
    }
    pilothouse_model::time::parse_duration_ms(text).ok().map(|ms| ms * 1_000_000)
}

/// Runs a case if it is a query over the read-only data, or a text to format.
fn run(source: &MemoryEntries, case: &Value) -> Option<Result<(), String>> {
    let path = case["path"].as_str()?;
    let judged = ["body", "error_contains"].iter().any(|k| case["expect"].get(*k).is_some());
    if !judged || case.get("body").is_some() || param(case, "time").is_some_and(|t| time(&t).is_none()) {
        return None;
    }
    if case.get("setup").is_some() || case.get("kind").is_some() || case["theme"] == "rules" {
        return None;
    }
    let text = param(case, "query").unwrap_or_default();
    let expect = &case["expect"];
    if path.ends_with("/format_query") {
        return Some(check_format(&text, expect));
    }
    let range = path.ends_with("/query_range");
    if !(range || path.ends_with("/query")) || param(case, "since").is_some() {
        return None;
    }
    let at = |name: &str| param(case, name).and_then(|t| time(&t));
    let limit = match param(case, "limit") {
        Some(limit) => limit.parse().ok()?,
        None => 100,
    };
    let (start, end) = match range {
        true => (at("start")?, at("end")?),
        false => (at("time").unwrap_or(0), 0),
    };
    let step = match param(case, "step") {
        Some(step) => duration_ns(&step)?,
        None => ((end - start) / 250 / 1_000_000_000).max(1) * 1_000_000_000,
    };
    let direction = match param(case, "direction").unwrap_or_default().to_lowercase().as_str() {
        "forward" => Direction::Forward,
        "backward" | "" => Direction::Backward,
        _ => return None,
    };
    if limit == 0
        || step <= 0
        || start > end && range
        || (end - start) / step > 11_000
        || end - start > 2_600_000_000_000_000
    {
        return None;
    }
    let categorize = case["headers"]["X-Loki-Response-Encoding-Flags"] == "categorize-labels";
    let interval_ns = match param(case, "interval") {
        Some(text) => duration_ns(&text)?,
        None => 0,
    };
    let query = RangeQuery {
        start_ns: start,
        end_ns: end,
        step_ns: step,
        limit,
        direction,
        interval_ns,
        categorize,
        max_series: 500,
    };
    let budget = Budget::unlimited();
    let answer = parse(&text).and_then(|expr| match range {
        true => query_range(source, &expr, &query, &budget),
        false => query_instant(source, &expr, start, 500, &budget),
    });
    Some(compare(answer.map(|r| r.value), expect, categorize))
}

fn check_format(text: &str, expect: &Value) -> Result<(), String> {
    let squeeze = |s: &str| s.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    match parse(text) {
        Ok(expr) => {
            let got = pretty(&expr);
            let wanted = expect["body"]["data"].as_str().unwrap_or("");
            if squeeze(&got) == squeeze(wanted) { Ok(()) } else { Err(format!("got {got}\n  want {wanted}")) }
        }
        Err(error) => contains_all(&error, expect),
    }
}

fn contains_all(error: &LogqlError, expect: &Value) -> Result<(), String> {
    let text = error.to_string();
    if expect["status"].as_i64() == Some(200) {
        return Err(format!("error: {text}"));
    }
    let wanted: Vec<&str> = match &expect["error_contains"] {
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        other => other.as_str().into_iter().collect(),
    };
    match wanted.iter().find(|w| !text.contains(**w) && **w != "invalid-query") {
        Some(missing) => Err(format!("error {text:?} lacks {missing:?}")),
        None => Ok(()),
    }
}

fn compare(answer: Result<LogqlValue, LogqlError>, expect: &Value, categorize: bool) -> Result<(), String> {
    let value = match answer {
        Err(error) => return contains_all(&error, expect),
        Ok(_) if expect["status"].as_i64() != Some(200) => return Err(format!("no error; wanted {expect}")),
        Ok(value) => value,
    };
    let got = shown(&value, categorize);
    let want = &expect["body"];
    if want["resultType"] != got["resultType"] {
        return Err(format!("type {}, want {}", got["resultType"], want["resultType"]));
    }
    match want["resultType"].as_str() {
        Some("scalar") => same_number(&got["result"][1], &want["result"][1]),
        Some("streams") => keyed(&got, want, "stream", same_entries),
        Some("vector") => keyed(&got, want, "metric", |a, b| same_point(&a["value"], &b["value"])),
        _ => keyed(&got, want, "metric", |a, b| {
            let list = |v: &Value| v["values"].as_array().cloned().unwrap_or_default();
            let (a, b) = (list(a), list(b));
            if a.len() != b.len() {
                return Err(format!("{} points, want {}: {a:?} want {b:?}", a.len(), b.len()));
            }
            a.iter().zip(&b).try_for_each(|(a, b)| same_point(a, b))
        }),
    }
}

fn offset(t_ms: i64) -> f64 {
    (t_ms - BASE_NS / 1_000_000) as f64 / 1000.0
}

fn shown(value: &LogqlValue, categorize: bool) -> Value {
    let number = |value: &SampleValue| match value {
        SampleValue::Float(f) => pilothouse_model::sample::format_float(*f),
        SampleValue::Histogram(_) => String::new(),
    };
    let map = |pairs: &[(String, String)]| {
        Value::Object(pairs.iter().map(|(n, v)| (n.clone(), detail(n, v))).collect())
    };
    let labels =
        |labels: &Labels| Value::Object(labels.iter().map(|(n, v)| (n.to_owned(), json!(v))).collect());
    match value {
        LogqlValue::Scalar { value, .. } => {
            json!({"resultType": "scalar", "result": [0, pilothouse_model::sample::format_float(*value)]})
        }
        LogqlValue::Vector(samples) => {
            let list: Vec<Value> = samples
                .iter()
                .map(|s| json!({"metric": labels(&s.labels), "value": [offset(s.t_ms), number(&s.value)]}))
                .collect();
            json!({"resultType": "vector", "result": list})
        }
        LogqlValue::Matrix(series) => {
            let list: Vec<Value> = series
                .iter()
                .map(|s| {
                    let points: Vec<Value> = s
                        .floats
                        .iter()
                        .map(|(t, v)| json!([offset(*t), number(&SampleValue::Float(*v))]))
                        .collect();
                    json!({"metric": labels(&s.labels), "values": points})
                })
                .collect();
            json!({"resultType": "matrix", "result": list})
        }
        LogqlValue::Streams(streams) => {
            let mut list: Vec<Value> = Vec::new();
            for stream in streams {
                let key = map(&stream.labels);
                let values: Vec<Value> = stream
                    .entries
                    .iter()
                    .map(|e| {
                        let mut value = vec![json!(e.t_ns - BASE_NS), json!(e.line)];
                        if categorize {
                            let mut extra = serde_json::Map::new();
                            for (name, pairs) in [("structuredMetadata", &e.metadata), ("parsed", &e.parsed)]
                            {
                                if !pairs.is_empty() {
                                    extra.insert(name.to_owned(), map(pairs));
                                }
                            }
                            value.push(Value::Object(extra));
                        }
                        Value::Array(value)
                    })
                    .collect();
                // Streams that differ only in the wording of an error are one to the kit.
                match list.iter_mut().find(|s| s["stream"] == key) {
                    Some(known) => {
                        if let Some(all) = known["values"].as_array_mut() {
                            all.extend(values);
                        }
                    }
                    None => list.push(json!({"stream": key, "values": values})),
                }
            }
            json!({"resultType": "streams", "result": list})
        }
    }
}

fn detail(name: &str, value: &str) -> Value {
    if name == "__error_details__" && !value.is_empty() { json!("*") } else { json!(value) }
}

fn same_number(a: &Value, b: &Value) -> Result<(), String> {
    let parse = |v: &Value| v.as_str().and_then(|s| s.replace("Inf", "inf").parse::<f64>().ok());
    match (parse(a), parse(b)) {
        (Some(x), Some(y)) if x.is_nan() && y.is_nan() || x == y => Ok(()),
        (Some(x), Some(y)) if (x - y).abs() <= 1e-6 * y.abs().max(1.0) => Ok(()),
        _ => Err(format!("{a}, want {b}")),
    }
}

fn same_point(a: &Value, b: &Value) -> Result<(), String> {
    let time = |v: &Value| v[0].as_f64().unwrap_or(f64::NAN);
    if (time(a) - time(b)).abs() > 0.0015 {
        return Err(format!("at {}, want {}", a[0], b[0]));
    }
    same_number(&a[1], &b[1]).map_err(|e| format!("at {}: {e}", b[0]))
}

fn same_entries(a: &Value, b: &Value) -> Result<(), String> {
    let rows = |v: &Value| {
        let mut rows = v["values"].as_array().cloned().unwrap_or_default();
        // Streams joined because of their errors' wording are in no order of their own.
        let joined = v["stream"].get("__error_details__").is_some();
        let descending = rows.first().map(|r| r[0].as_i64()) > rows.last().map(|r| r[0].as_i64());
        rows.sort_by_key(|r| (r[0].as_i64().unwrap_or(0), r.to_string()));
        (descending && !joined, rows)
    };
    let (a, b) = (rows(a), rows(b));
    if a == b { Ok(()) } else { Err(format!("entries {:?}\n  want {:?}", a.1, b.1)) }
}

fn keyed(
    got: &Value,
    want: &Value,
    key: &str,
    same: impl Fn(&Value, &Value) -> Result<(), String>,
) -> Result<(), String> {
    let index = |v: &Value| -> BTreeMap<String, Value> {
        v["result"].as_array().into_iter().flatten().map(|x| (sorted_text(&x[key]), x.clone())).collect()
    };
    let (got, want) = (index(got), index(want));
    let missing: Vec<&String> = want.keys().filter(|k| !got.contains_key(*k)).collect();
    let extra: Vec<&String> = got.keys().filter(|k| !want.contains_key(*k)).collect();
    if !missing.is_empty() || !extra.is_empty() {
        return Err(format!(
            "missing {} {:?}\n  extra {} {:?}",
            missing.len(),
            missing.iter().take(2).collect::<Vec<_>>(),
            extra.len(),
            extra.iter().take(2).collect::<Vec<_>>()
        ));
    }
    want.iter().try_for_each(|(k, w)| same(&got[k], w).map_err(|e| format!("{k}: {e}")))
}

fn sorted_text(labels: &Value) -> String {
    let pairs: BTreeMap<String, String> = labels
        .as_object()
        .into_iter()
        .flatten()
        .map(|(n, v)| (n.clone(), v.as_str().unwrap_or("").to_owned()))
        .collect();
    format!("{pairs:?}")
}
