//! What the binary does besides serving: one file for each command.
//!
//! `client` calls a running server, `table`, `plot` and `series` show what it answers, `progress`
//! how far long work is, `when` reads times.

pub(crate) mod backup;
pub(crate) mod check_data;
pub(crate) mod checks;
mod client;
pub(crate) mod config;
mod flags;
pub(crate) mod logs;
pub(crate) mod moving;
mod plot;
mod progress;
pub(crate) mod query;
pub(crate) mod ready;
pub(crate) mod rules;
mod series;
mod table;
mod tail;
pub(crate) mod token;
mod when;

use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::Cli;

/// Prints the completions of a shell.
pub(crate) fn completions(shell: Shell) -> ExitCode {
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "pilothouse", &mut out);
    print(&String::from_utf8_lossy(&out));
    ExitCode::SUCCESS
}

/// Writes to standard output, which may have been closed by whoever read enough.
pub(crate) fn print(text: &str) {
    use std::io::Write as _;
    let _ = std::io::stdout().write_all(text.as_bytes());
}
