//! The command line. What a flag may hold is asked in `config`, where the file is known too.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "pilothouse", about = "Metrics in one binary: remote write in, PromQL out", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Take samples in and answer queries.
    Serve(Box<Serve>),
    /// Check rule files, and run their tests.
    #[command(subcommand)]
    Rules(Rules),
    /// Print the version.
    Version,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Rules {
    /// Check rule files as `promtool check rules` does.
    Check {
        /// The rules are over logs, in LogQL
        #[arg(long)]
        logql: bool,
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
    },
    /// Run files of tests as `promtool test rules` does.
    Test {
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
    },
}

/// Every flag is also a key of the configuration file and a variable of the environment; a
/// flag wins over a variable, a variable over the file, the file over the default.
#[derive(Debug, Default, Args)]
pub(crate) struct Serve {
    /// Configuration in YAML; its keys are the flags with underscores
    #[arg(long, value_name = "FILE", env = "PILOTHOUSE_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Where data is kept [default: ./pilothouse-data]
    #[arg(long, value_name = "DIR", env = "PILOTHOUSE_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Address to serve on [default: 127.0.0.1:9009]
    #[arg(long, value_name = "ADDR", env = "PILOTHOUSE_LISTEN")]
    pub(crate) listen: Option<String>,
    /// How long samples are kept; 0 keeps them for ever [default: 31d]
    #[arg(long, value_name = "DURATION", env = "PILOTHOUSE_RETENTION")]
    pub(crate) retention: Option<String>,
    /// Active series beyond which new ones are refused; 0 for no limit [default: 250000]
    #[arg(long, value_name = "N", env = "PILOTHOUSE_MAX_ACTIVE_SERIES")]
    pub(crate) max_active_series: Option<u64>,
    /// Active log streams beyond which new ones are refused; 0 for no limit [default: 5000]
    #[arg(long, value_name = "N", env = "PILOTHOUSE_MAX_LOG_STREAMS")]
    pub(crate) max_log_streams: Option<u64>,
    /// off or required; unsaid, off on a loopback address, and no start on any other
    #[arg(long, value_name = "off|required", env = "PILOTHOUSE_AUTH")]
    pub(crate) auth: Option<String>,
    /// The token that may do everything; made and kept in the data directory when it is needed
    #[arg(long, value_name = "TOKEN", env = "PILOTHOUSE_ROOT_TOKEN", hide_env_values = true)]
    pub(crate) root_token: Option<String>,
    /// Where clients reach this server, without a trailing slash
    #[arg(long, value_name = "URL", env = "PILOTHOUSE_EXTERNAL_URL")]
    pub(crate) external_url: Option<String>,
    /// Any limit by name, as often as needed; in the environment separated by commas
    #[arg(long = "limit", value_name = "NAME=VALUE", env = "PILOTHOUSE_LIMIT", value_delimiter = ',')]
    pub(crate) limits: Vec<String>,
}
