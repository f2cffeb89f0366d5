//! `pilothouse query`: PromQL from the command line.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use pilothouse_model::Clock as _;
use pilothouse_model::ports::SystemClock;

use super::client::{CommandError, Door, Server, json, run as run_client};
use super::table::Format;
use super::when::{self, Bounds, Range};
use super::{print, series};

/// Steps of a range where none is said.
const STEPS: i64 = 200;

pub(super) const HELP: &str = "\
Without --since or --start the query is evaluated at one time.

Examples:
  pilothouse query up
  pilothouse query 'sum by (job) (rate(http_requests_total[5m]))' --since 6h
  pilothouse query up --start now-2d --end now-1d --step 5m --output csv > up.csv";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Query {
    /// The query, in PromQL
    #[arg(value_name = "PROMQL")]
    query: String,
    /// Evaluate at this time instead of now
    #[arg(long, value_name = "TIME", conflicts_with_all = ["since", "start"])]
    time: Option<String>,
    #[command(flatten)]
    range: Range,
    /// Time between two points of a range; unsaid, a 200th of it, at least a second
    #[arg(long, value_name = "DURATION")]
    step: Option<String>,
    /// Unsaid: a plot of a range on a terminal, else a table
    #[arg(long, short, value_enum)]
    output: Option<Output>,
    /// Ask the data source with this id instead of the default one
    #[arg(long, value_name = "ID")]
    data_source: Option<String>,
    #[command(flatten)]
    server: Server,
}

/// How numbers over time are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Columns for people
    Table,
    /// The server's answer as it came
    Json,
    /// A column for each label; RFC 4180
    Csv,
    /// Drawn with characters
    Plot,
}

pub(crate) fn run(query: &Query) -> ExitCode {
    run_client(ask(query))
}

async fn ask(query: &Query) -> Result<(), CommandError> {
    let connection = query.server.connect()?;
    let root = root_of(query.data_source.as_deref());
    let bounds = query.range.bounds()?;
    let body = match bounds {
        Some(bounds) => {
            let [start, end, step] = grid(bounds, query.step.as_deref())?;
            let params = [("query", query.query.as_str()), ("start", &start), ("end", &end), ("step", &step)];
            connection.get(Door::Data, &format!("{root}/prometheus/api/v1/query_range"), &params).await?
        }
        None => {
            let now_ms = SystemClock.now_ms();
            let at_ms = query.time.as_deref().map_or(Ok(now_ms), |text| when::time_ms(text, now_ms))?;
            let params = [("query", query.query.as_str()), ("time", &when::seconds(at_ms))];
            connection.get(Door::Data, &format!("{root}/prometheus/api/v1/query"), &params).await?
        }
    };
    show(&body, query.output, bounds.is_some())
}

/// The path below which a data source answers.
pub(super) fn root_of(data_source: Option<&str>) -> String {
    data_source.map(|id| format!("/ds/{id}")).unwrap_or_default()
}

/// Start, end and step as the APIs read them.
pub(super) fn grid(bounds: Bounds, step: Option<&str>) -> Result<[String; 3], CommandError> {
    let step_ms = match step {
        Some(text) => when::duration_ms(text)?,
        None => ((bounds.end_ms - bounds.start_ms) / STEPS).max(1_000),
    };
    Ok([when::seconds(bounds.start_ms), when::seconds(bounds.end_ms), when::seconds(step_ms)])
}

/// Shows vectors and matrices; warnings go to standard error.
pub(super) fn show(body: &[u8], output: Option<Output>, is_range: bool) -> Result<(), CommandError> {
    let usual = if is_range && std::io::stdout().is_terminal() { Output::Plot } else { Output::Table };
    let output = output.unwrap_or(usual);
    if output == Output::Json {
        print(&String::from_utf8_lossy(body));
        print("\n");
        return Ok(());
    }
    let answer = json(body)?;
    for kind in ["warnings", "infos"] {
        for text in answer.get(kind).and_then(|list| list.as_array()).into_iter().flatten() {
            eprintln!("{}", text.as_str().unwrap_or_default());
        }
    }
    let data = answer.get("data").ok_or_else(|| CommandError::Answer("it has no data".to_owned()))?;
    let series = series::read(data)?;
    print(&match output {
        Output::Plot => series::plot(&series),
        Output::Csv => series::table(&series, Format::Csv),
        Output::Table | Output::Json => series::table(&series, Format::Table),
    });
    Ok(())
}
