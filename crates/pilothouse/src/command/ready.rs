//! `pilothouse ready`: whether a server is ready, for images that hold no curl.

use std::process::ExitCode;

use clap::Args;

use super::client::{Door, Server, run as run_client};
use super::print;

const HELP: &str = "\
Examples:
  pilothouse ready
  pilothouse ready --server https://metrics.example.org";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Ready {
    #[command(flatten)]
    server: Server,
}

pub(crate) fn run(ready: &Ready) -> ExitCode {
    run_client(async {
        ready.server.connect()?.get(Door::Data, "/ready", &[]).await?;
        print("ready\n");
        Ok(())
    })
}
