//! `pilothouse logs`: LogQL from the command line, and following logs as they come.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use pilothouse_model::Clock as _;
use pilothouse_model::ports::SystemClock;
use serde_json::Value;

use super::client::{CommandError, Connection, Door, Server, json, run as run_client};
use super::query::{self, Output, grid, root_of};
use super::table::{Format, Table};
use super::when::{self, Bounds, Range};
use super::{print, tail};

const HELP: &str = "\
A query for lines prints lines, the oldest first. A query for numbers is evaluated over the range, or with
--instant at its end. Without --since or --start the range is the last hour.

Examples:
  pilothouse logs '{app=\"shop\"} |= \"error\"' --since 15m
  pilothouse logs '{app=\"shop\"}' --follow
  pilothouse logs 'sum by (app) (rate({env=\"prod\"}[5m]))' --since 6h --output plot
  pilothouse logs '{app=\"shop\"}' --start now-2h --end now-1h --limit 5000 --output csv > shop.csv";

const HOUR_MS: i64 = 3_600_000;

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Logs {
    /// The query, in LogQL
    #[arg(value_name = "LOGQL")]
    query: String,
    #[command(flatten)]
    range: Range,
    /// Lines at most
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u64,
    /// Go on with lines as they come, until interrupted
    #[arg(long, short, conflicts_with_all = ["instant", "end", "output"])]
    follow: bool,
    /// Evaluate a query for numbers at the end of the range alone
    #[arg(long)]
    instant: bool,
    /// Time between two points of a query for numbers
    #[arg(long, value_name = "DURATION")]
    step: Option<String>,
    /// Unsaid: lines as text, numbers as a table or on a terminal as a plot
    #[arg(long, short, value_enum)]
    output: Option<Shape>,
    /// Ask the data source with this id instead of the default one
    #[arg(long, value_name = "ID")]
    data_source: Option<String>,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shape {
    /// The lines alone
    Raw,
    /// Time, labels and line; numbers in columns
    Table,
    /// The server's answer as it came
    Json,
    /// With a line of names; RFC 4180
    Csv,
    /// Numbers drawn with characters
    Plot,
}

pub(crate) fn run(logs: &Logs) -> ExitCode {
    run_client(ask(logs))
}

async fn ask(logs: &Logs) -> Result<(), CommandError> {
    let now_ms = SystemClock.now_ms();
    let bounds = logs.range.bounds()?;
    if logs.follow {
        let since_ms = bounds.map_or(now_ms, |bounds| bounds.start_ms);
        let path = format!("{}/loki/api/v1/tail", root_of(logs.data_source.as_deref()));
        return tail::follow(&logs.server, &path, &logs.query, since_ms).await;
    }
    let bounds = bounds.unwrap_or(Bounds { start_ms: now_ms - HOUR_MS, end_ms: now_ms });
    let body = fetch(logs, &logs.server.connect()?, bounds).await?;
    let answer = json(&body)?;
    let data = answer.get("data").ok_or_else(|| CommandError::Answer("it has no data".to_owned()))?;
    if data.get("resultType").and_then(Value::as_str) != Some("streams") {
        let output = logs.output.map(|shape| match shape {
            Shape::Raw | Shape::Table => Output::Table,
            Shape::Json => Output::Json,
            Shape::Csv => Output::Csv,
            Shape::Plot => Output::Plot,
        });
        return query::show(&body, output, !logs.instant);
    }
    match logs.output.unwrap_or(Shape::Table) {
        Shape::Json => print(&format!("{}\n", String::from_utf8_lossy(&body))),
        Shape::Raw => entries(data).iter().for_each(|entry| print(&format!("{}\n", entry.line))),
        Shape::Csv => print(&csv(&entries(data))),
        Shape::Table => entries(data).iter().for_each(|entry| print(&entry.shown())),
        Shape::Plot => {
            return Err(CommandError::Usage("lines cannot be plotted; ask for numbers".to_owned()));
        }
    }
    Ok(())
}

async fn fetch(logs: &Logs, connection: &Connection, bounds: Bounds) -> Result<bytes::Bytes, CommandError> {
    let root = root_of(logs.data_source.as_deref());
    let (query, limit) = (logs.query.as_str(), logs.limit.to_string());
    if logs.instant {
        let time = when::seconds(bounds.end_ms);
        let params = [("query", query), ("time", &time), ("limit", &limit)];
        return connection.get(Door::Data, &format!("{root}/loki/api/v1/query"), &params).await;
    }
    let [start, end, step] = grid(bounds, logs.step.as_deref())?;
    let params = [("query", query), ("start", &start), ("end", &end), ("limit", &limit), ("step", &step)];
    connection.get(Door::Data, &format!("{root}/loki/api/v1/query_range"), &params).await
}

/// A line with its stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    t_ns: i64,
    labels: String,
    line: String,
}

impl Entry {
    pub(super) fn shown(&self) -> String {
        format!("{} {} {}\n", when::shown(self.t_ns.div_euclid(1_000_000)), self.labels, self.line)
    }
}

/// All entries below `result` or `streams`, the oldest first.
pub(super) fn entries(data: &Value) -> Vec<Entry> {
    let streams = data.get("result").or_else(|| data.get("streams")).and_then(Value::as_array);
    let mut entries = Vec::new();
    for stream in streams.into_iter().flatten() {
        let labels = stream.get("stream").and_then(Value::as_object);
        let pairs: Vec<String> = labels.into_iter().flatten().map(|(n, v)| format!("{n}={v}")).collect();
        let labels = format!("{{{}}}", pairs.join(", "));
        let values = stream.get("values").and_then(Value::as_array);
        for value in values.into_iter().flatten() {
            let text = |i: usize| value.get(i).and_then(Value::as_str);
            let (Some(time), Some(line)) = (text(0).and_then(|t| t.parse().ok()), text(1)) else { continue };
            entries.push(Entry { t_ns: time, labels: labels.clone(), line: line.to_owned() });
        }
    }
    entries.sort_by_key(|entry| entry.t_ns);
    entries
}

fn csv(entries: &[Entry]) -> String {
    let mut table = Table::new(&["time_ns", "labels", "line"]);
    for entry in entries {
        table.push(vec![entry.t_ns.to_string(), entry.labels.clone(), entry.line.clone()]);
    }
    table.render(Format::Csv)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn entries_of_all_streams_come_in_order() {
        let data = json!({"resultType": "streams", "result": [
            {"stream": {"a": "1"}, "values": [["3000000000", "third"], ["1000000000", "first, \"quoted\""]]},
            {"stream": {"a": "2"}, "values": [["2000000000", "second"]]},
        ]});
        let entries = entries(&data);
        let lines: Vec<String> = entries.iter().map(Entry::shown).collect();
        assert_eq!(lines[0], "1970-01-01T00:00:01Z {a=\"1\"} first, \"quoted\"\n");
        assert_eq!(lines[1], "1970-01-01T00:00:02Z {a=\"2\"} second\n");
        assert!(csv(&entries).contains("1000000000,\"{a=\"\"1\"\"}\",\"first, \"\"quoted\"\"\"\r\n"));
    }
}
