//! `pilothouse export` and `pilothouse import`: carrying what a server keeps to another one or into
//! a file, and back.
//!
//! Both are the same work with the two sides changed: `metrics` and `logs` read piece by piece,
//! the oldest first, and write each piece before they ask for the next, so that the memory taken
//! does not grow with what is carried. `peer` calls either side, `ledger` keeps how far it came.

mod ledger;
mod logs;
mod metrics;
mod openmetrics;
mod parquet;
mod peer;
mod pusher;
mod tsdb;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use pilothouse_model::Clock as _;
use pilothouse_model::ports::SystemClock;

use super::client::{CommandError, Server, run as run_client};
use super::progress::{Loudness, Meter};
use super::query::root_of;
use super::when::{Bounds, Range};
use ledger::Ledger;
use peer::Peer;

const METRICS_HELP: &str = "\
OpenMetrics and Parquet have no native histograms and no stale markers: they go by remote write alone. A file
that is left unfinished is gone on with when the same command is run again.

Examples:
  pilothouse export metrics --openmetrics all.txt
  pilothouse export metrics --since 30d --parquet metrics.parquet
  pilothouse export metrics --match '{job=\"shop\"}' --since 30d --remote-write http://mimir:9009/api/v1/push \\
    --header 'X-Scope-OrgID: shop' --state shop.state";

const LOGS_HELP: &str = "\
Lines come as the query makes them, with their labels and structured metadata; labels that the query itself
makes are left out.

Examples:
  pilothouse export logs --query '{app=\"shop\"}' --since 7d --jsonl shop.jsonl
  pilothouse export logs --query '{app=\"shop\"}' --since 7d --parquet logs.parquet
  pilothouse export logs --query '{app=~\".+\"}' --loki http://loki:3100 --state shop.state";

const PROMETHEUS_HELP: &str = "\
Anything that answers remote read will do: of Mimir the address ends with /prometheus.

Examples:
  pilothouse import prometheus --url http://prometheus:9090
  pilothouse import prometheus --url http://prometheus:9090 --match '{job=\"node\"}' --since 15d --state node.state";

const LOKI_HELP: &str = "\
Examples:
  pilothouse import loki --url http://loki:3100 --query '{namespace=~\".+\"}' --since 30d --state loki.state";

const TSDB_HELP: &str = "\
DIR is the data directory of a Prometheus, or one of its blocks, or a directory of such blocks, such as a snapshot.
What is in no block yet, usually some hours, is read from its log. What cannot be read is named and left out, and
the command ends with 1 after the rest.

Examples:
  pilothouse import tsdb /var/lib/prometheus/metrics2
  pilothouse import tsdb snapshots/20261120T101500Z-4f2 --match '{job=\"node\"}' --since 15d --state node.state";

const FILE_HELP: &str = "\
Examples:
  pilothouse import openmetrics all.txt";

/// All series that there are.
const ALL_SERIES: &str = r#"{__name__=~".+"}"#;

#[derive(Debug, Subcommand)]
pub(crate) enum Export {
    /// Samples of series, read by remote read
    #[command(after_help = METRICS_HELP)]
    Metrics {
        /// Which series
        #[arg(long = "match", value_name = "SELECTOR", default_value = ALL_SERIES)]
        selector: String,
        #[command(flatten)]
        to: MetricsTarget,
        #[command(flatten)]
        carriage: Carriage,
    },
    /// Log lines
    #[command(after_help = LOGS_HELP)]
    Logs {
        /// Which lines, in LogQL
        #[arg(long, value_name = "LOGQL")]
        query: String,
        #[command(flatten)]
        to: LogsTarget,
        #[command(flatten)]
        carriage: Carriage,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Import {
    /// Samples of a running Prometheus, read by remote read
    #[command(after_help = PROMETHEUS_HELP)]
    Prometheus {
        /// Its address; /api/v1/read is put behind it
        #[arg(id = "from_url", long = "url", value_name = "URL")]
        url: String,
        /// Which series
        #[arg(long = "match", value_name = "SELECTOR", default_value = ALL_SERIES)]
        selector: String,
        #[command(flatten)]
        carriage: Carriage,
    },
    /// Lines of a running Loki
    #[command(after_help = LOKI_HELP)]
    Loki {
        /// Its address; /loki/api/v1/query_range is put behind it
        #[arg(id = "from_url", long = "url", value_name = "URL")]
        url: String,
        /// Which lines, in LogQL
        #[arg(long, value_name = "LOGQL")]
        query: String,
        #[command(flatten)]
        carriage: Carriage,
    },
    /// Blocks and log of a Prometheus, from the disk
    #[command(after_help = TSDB_HELP)]
    Tsdb {
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// Which series
        #[arg(long = "match", value_name = "SELECTOR", default_value = ALL_SERIES)]
        selector: String,
        #[command(flatten)]
        carriage: Carriage,
    },
    /// A file of OpenMetrics text
    #[command(after_help = FILE_HELP, name = "openmetrics")]
    OpenMetrics {
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        carriage: Carriage,
    },
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct MetricsTarget {
    /// Write a file of OpenMetrics text
    #[arg(long, value_name = "FILE")]
    openmetrics: Option<PathBuf>,
    /// Write files of Parquet into this directory
    #[arg(long, value_name = "DIR")]
    parquet: Option<PathBuf>,
    /// Push to this address by remote write
    #[arg(long, value_name = "URL")]
    remote_write: Option<String>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct LogsTarget {
    /// Write a file with a JSON object a line
    #[arg(long, value_name = "FILE")]
    jsonl: Option<PathBuf>,
    /// Write files of Parquet into this directory
    #[arg(long, value_name = "DIR")]
    parquet: Option<PathBuf>,
    /// Push to the Loki at this address; /loki/api/v1/push is put behind it
    #[arg(long, value_name = "URL")]
    loki: Option<String>,
}

/// What all of them may be told. Without a start everything up to the end is carried.
#[derive(Debug, Args)]
pub(crate) struct Carriage {
    #[command(flatten)]
    range: Range,
    /// A header for the other server, as often as needed; file: and a path stands for what the file holds
    #[arg(long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// Keep in this file how far it came; run again with it, the command goes on from there. Unsaid, a file
    /// that is written or read has one beside it
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Go on where a batch is refused, and tell at the end how many were
    #[arg(long)]
    skip_refused: bool,
    /// The data source with this id instead of the default one
    #[arg(long, value_name = "ID")]
    data_source: Option<String>,
    #[command(flatten)]
    loudness: Loudness,
    #[command(flatten)]
    server: Server,
}

impl Carriage {
    /// The server this binary belongs to.
    fn here(&self) -> Result<Peer, CommandError> {
        Peer::here(&self.server, &root_of(self.data_source.as_deref()))
    }

    /// The other one.
    fn there(&self, url: &str) -> Result<Peer, CommandError> {
        Peer::there(&self.server, url, &self.headers)
    }

    /// Opens the state, which may know how far an earlier run came. `what` tells one move from
    /// another; `file` is the file that is written or read.
    fn ledger(&self, what: &str, file: Option<&Path>) -> Result<Ledger, CommandError> {
        let beside = |file: &Path| {
            let mut name = file.as_os_str().to_owned();
            name.push(".state");
            PathBuf::from(name)
        };
        let path = self.state.clone().or_else(|| file.map(beside));
        let range = format!("{:?}", self.range);
        let what =
            format!("{what} of {}{}, {range}", self.server.url(), root_of(self.data_source.as_deref()));
        let end_ms = SystemClock.now_ms();
        let bounds = || match self.range.bounds()? {
            Some(bounds) => Ok(bounds),
            None => {
                let end = self.range.end.as_deref();
                let end_ms = end.map_or(Ok(end_ms), |text| super::when::time_ms(text, end_ms))?;
                Ok(Bounds { start_ms: 0, end_ms })
            }
        };
        Ledger::open(path, what, Meter::new(&self.loudness), bounds)
    }
}

pub(crate) fn export(what: &Export) -> ExitCode {
    run_client(async {
        match what {
            Export::Metrics { selector, to, carriage } => metrics::export(selector, to, carriage).await,
            Export::Logs { query, to, carriage } => logs::export(query, to, carriage).await,
        }
    })
}

pub(crate) fn import(what: &Import) -> ExitCode {
    run_client(async {
        match what {
            Import::Prometheus { url, selector, carriage } => metrics::import(url, selector, carriage).await,
            Import::Loki { url, query, carriage } => logs::import(url, query, carriage).await,
            Import::Tsdb { directory, selector, carriage } => {
                tsdb::import(directory, selector, carriage).await
            }
            Import::OpenMetrics { file, carriage } => openmetrics::import(file, carriage).await,
        }
    })
}

/// Tells how it ended: the state is of no more use after the end, and of use after a failure.
fn settle(done: Result<Counts, CommandError>, ledger: Ledger, noun: &str) -> Result<(), CommandError> {
    match done {
        Ok(counts) => {
            let items = ledger.finish()?;
            super::print(&format!("carried {items} {noun}\n"));
            if counts.left_out > 0 {
                eprintln!("left out for want of a form: {} native histograms", counts.left_out);
            }
            if counts.refused > 0 {
                eprintln!("refused at least in part: {} batches; the first: {}", counts.refused, counts.why);
            }
            Ok(())
        }
        Err(e) => {
            ledger.keep()?;
            Err(e)
        }
    }
}

/// What did not get over.
#[derive(Debug, Default)]
struct Counts {
    /// Samples that the form has no place for.
    left_out: u64,
    /// Batches of which something was refused.
    refused: u64,
    /// Why the first of them was.
    why: String,
}

impl Counts {
    /// Takes note of how a push ended. A refusal is an error unless refusals are to be passed over;
    /// what was good in the same batch is usually stored all the same.
    fn pushed(
        &mut self,
        peer: &Peer,
        answer: &pilothouse_net::Response,
        skip_refused: bool,
    ) -> Result<(), CommandError> {
        if answer.status.is_success() {
            return Ok(());
        }
        let refused = peer.refused(answer);
        if !(skip_refused && matches!(answer.status.as_u16(), 400 | 413 | 422)) {
            return Err(refused);
        }
        if self.refused == 0 {
            self.why = refused.to_string();
        }
        self.refused += 1;
        Ok(())
    }
}
