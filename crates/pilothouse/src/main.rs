//! `pilothouse`: command line, configuration, wiring, signals.
//!
//! Nothing is decided here that a crate below could decide: this one reads what the operator
//! says, opens what it names, joins the parts and takes them apart again in the right order.

mod alerting;
mod audit;
mod banner;
mod cli;
mod config;
mod descriptors;
mod logs;
mod rule_book;
mod rules;
mod rules_command;
mod scrape;
mod serve;
mod sources;
mod store;
mod synthetic;
mod token;

use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::EnvFilter;

use cli::{Cli, Command};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Command::Version => {
            println!("pilothouse {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Command::Rules(command) => rules_command::run(&command),
        Command::Serve(flags) => {
            log_to_stderr();
            match config::load(*flags).map_err(Into::into).and_then(serve::run) {
                Ok(()) => ExitCode::SUCCESS,
                Err(e) => {
                    eprintln!("pilothouse: {e}");
                    ExitCode::FAILURE
                }
            }
        }
    }
}

/// Quiet unless asked: `PILOTHOUSE_LOG=info`, or a list of modules with their levels.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("PILOTHOUSE_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
}
