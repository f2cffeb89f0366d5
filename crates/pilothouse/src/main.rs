//! `pilothouse`: command line, configuration, wiring, signals.
//!
//! Nothing is decided here that a crate below could decide: this one reads what the operator
//! says, opens what it names, joins the parts and takes them apart again in the right order.

mod alerting;
mod allocator;
mod audit;
mod backup;
mod banner;
mod bucket;
mod cli;
mod command;
mod config;
mod declared;
mod descriptors;
mod limits;
mod logs;
mod machine;
mod relief;
mod reload;
mod remotes;
mod room;
mod rule_book;
mod rules;
mod scrape;
mod serve;
mod serving;
mod sources;
mod store;
mod stored;
mod synthetic;
mod token;
mod transitions;
mod watch;
mod workers;

use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::EnvFilter;

use cli::{Cli, Command};

fn main() -> ExitCode {
    allocator::tune();
    match Cli::parse().command {
        Command::Serve(flags) => serve(*flags),
        Command::Config(what) => command::config::run(&what),
        Command::Query(what) => command::query::run(&what),
        Command::Logs(what) => command::logs::run(&what),
        Command::Token(what) => command::token::run(&what),
        Command::Checks(what) => command::checks::run(&what),
        Command::Ready(what) => command::ready::run(&what),
        Command::Rules(what) => command::rules::run(&what),
        Command::Backup(said) => command::backup::back_up(&said),
        Command::CheckData(said) => command::check_data::run(&said),
        Command::Restore(said) => command::backup::restore(&said),
        Command::Export(what) => command::moving::export(&what),
        Command::Import(what) => command::moving::import(&what),
        Command::Completions { shell } => command::completions(shell),
        Command::Version => {
            command::print(&format!("pilothouse {}\n", env!("CARGO_PKG_VERSION")));
            ExitCode::SUCCESS
        }
    }
}

fn serve(flags: config::Flags) -> ExitCode {
    log_to_stderr();
    match config::load(&flags).map_err(Into::into).and_then(serve::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("pilothouse: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Quiet unless asked: `PILOTHOUSE_LOG=info`, or a list of modules with their levels.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("PILOTHOUSE_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
}
