//! Answers of both query APIs: vectors, matrices and scalars, read and shown.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::client::CommandError;
use super::plot::{self, Line};
use super::table::{Format, Table};
use super::when;

/// A series of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Series {
    labels: Map<String, Value>,
    /// Milliseconds since 1970, and the value as the server wrote it.
    samples: Vec<(i64, String)>,
}

/// The series of an answer's `data`; a scalar or a text is a series without labels.
pub(crate) fn read(data: &Value) -> Result<Vec<Series>, CommandError> {
    let odd = || CommandError::Answer("it is no answer to a query".to_owned());
    let kind = data.get("resultType").and_then(Value::as_str).ok_or_else(odd)?;
    let result = data.get("result").ok_or_else(odd)?;
    match kind {
        "vector" | "matrix" => {
            result.as_array().ok_or_else(odd)?.iter().map(|item| one(item).ok_or_else(odd)).collect()
        }
        "scalar" | "string" => {
            Ok(vec![Series { labels: Map::new(), samples: vec![sample(result).ok_or_else(odd)?] }])
        }
        _ => Err(odd()),
    }
}

fn one(item: &Value) -> Option<Series> {
    let labels = item.get("metric")?.as_object()?.clone();
    let mut samples = Vec::new();
    for key in ["value", "histogram"] {
        samples.extend(item.get(key).and_then(sample));
    }
    for key in ["values", "histograms"] {
        let all = item.get(key).and_then(Value::as_array);
        samples.extend(all.into_iter().flatten().filter_map(sample));
    }
    samples.sort_by_key(|(t_ms, _)| *t_ms);
    Some(Series { labels, samples })
}

/// A native histogram is told by its count and its sum.
fn sample(pair: &Value) -> Option<(i64, String)> {
    let [time, value] = pair.as_array()?.as_slice() else { return None };
    let text = match value {
        Value::Object(histogram) => {
            let part = |name: &str| histogram.get(name).and_then(Value::as_str).unwrap_or("?").to_owned();
            format!("histogram count={} sum={}", part("count"), part("sum"))
        }
        value => value.as_str()?.to_owned(),
    };
    Some(((time.as_f64()? * 1_000.0).round() as i64, text))
}

impl Series {
    /// As PromQL writes it: `up{job="x"}`.
    fn name(&self) -> String {
        let name = self.labels.get("__name__").and_then(Value::as_str).unwrap_or("");
        let labels = self.labels.iter().filter(|(label, _)| *label != "__name__");
        let pairs: Vec<String> = labels.map(|(label, value)| format!("{label}={value}")).collect();
        if pairs.is_empty() && !name.is_empty() {
            name.to_owned()
        } else {
            format!("{name}{{{}}}", pairs.join(", "))
        }
    }
}

/// Rows of all samples: for people with the series as one text, for programs with a column for
/// each label.
pub(crate) fn table(series: &[Series], format: Format) -> String {
    let mut labels: BTreeSet<&str> = BTreeSet::new();
    if format == Format::Csv {
        labels.extend(series.iter().flat_map(|one| one.labels.keys().map(String::as_str)));
    }
    let mut names: Vec<&str> =
        if format == Format::Csv { labels.iter().copied().collect() } else { vec!["SERIES"] };
    names.extend(if format == Format::Csv { ["time", "value"] } else { ["TIME", "VALUE"] });
    let mut table = Table::new(&names);
    for one in series {
        let text = |label: &&str| one.labels.get(*label).and_then(Value::as_str).unwrap_or("").to_owned();
        let identity: Vec<String> =
            if format == Format::Csv { labels.iter().map(text).collect() } else { vec![one.name()] };
        for (t_ms, value) in &one.samples {
            let mut row = identity.clone();
            row.extend([when::shown(*t_ms), value.clone()]);
            table.push(row);
        }
    }
    table.render(format)
}

/// A plot as wide as the terminal.
pub(crate) fn plot(series: &[Series]) -> String {
    let points = |one: &Series| {
        let pairs = one.samples.iter().filter_map(|(t_ms, value)| Some((*t_ms, value.parse().ok()?)));
        pairs.collect::<Vec<(i64, f64)>>()
    };
    let lines: Vec<Line> = series.iter().map(|one| Line { name: one.name(), points: points(one) }).collect();
    plot::draw(&lines, width(), when::shown)
}

/// Shells set the variable; elsewhere a usual width is taken.
fn width() -> usize {
    const USUAL: usize = 100;
    std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok()).unwrap_or(USUAL)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_are_read_and_shown() {
        let matrix = json!({"resultType": "matrix", "result": [
            {"metric": {"__name__": "up", "job": "a"}, "values": [[1.5, "1"], [2, "0"]]},
            {"metric": {}, "histograms": [[3, {"count": "4", "sum": "2.5"}]]},
        ]});
        let series = read(&matrix).unwrap();
        let expected = [
            r#"SERIES       TIME                    VALUE"#,
            r#"up{job="a"}  1970-01-01T00:00:01.5Z  1"#,
            r#"up{job="a"}  1970-01-01T00:00:02Z    0"#,
            r#"{}           1970-01-01T00:00:03Z    histogram count=4 sum=2.5"#,
        ];
        assert_eq!(table(&series, Format::Table).lines().collect::<Vec<_>>(), expected);
        assert!(
            table(&series, Format::Csv)
                .starts_with("__name__,job,time,value\r\nup,a,1970-01-01T00:00:01.5Z,1\r\n")
        );
        let scalar = read(&json!({"resultType": "scalar", "result": [1, "2"]})).unwrap();
        assert!(table(&scalar, Format::Table).ends_with("{}      1970-01-01T00:00:01Z  2\n"));
        assert!(read(&json!({"resultType": "streams", "result": []})).is_err());
        assert!(plot(&series).contains("* up{job=\"a\"}"));
    }
}
