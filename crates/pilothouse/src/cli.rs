//! The command line. What a flag may hold is asked in `config`, where the file is known too.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::command::backup::{BackUp, Restore};
use crate::command::check_data::CheckData;
use crate::command::{checks, logs, moving, query, ready, token};
use crate::config::Flags;

const ABOUT: &str = "Metrics, logs, rules, alerts and synthetic checks in one binary";

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  refused or failed: what was asked for does not hold, the server said no, or it was not reached
  2  the command line cannot be read";

#[derive(Debug, Parser)]
#[command(name = "pilothouse", about = ABOUT, version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Take metrics and logs in, answer queries, evaluate rules, send alerts, run checks
    #[command(after_help = SERVE_HELP)]
    Serve(Box<Flags>),
    /// Check and show the configuration
    #[command(subcommand)]
    Config(Config),
    /// Ask for metrics, in PromQL
    Query(query::Query),
    /// Ask for logs in LogQL, or follow them
    Logs(logs::Logs),
    /// Make, show and delete tokens
    Token(token::Token),
    /// Show, add and delete synthetic checks
    Checks(checks::Checks),
    /// Tell whether a server is ready
    Ready(ready::Ready),
    /// Check rule files, and run their tests
    #[command(subcommand)]
    Rules(Rules),
    /// Copy all data of a server, running or not, into a directory
    Backup(BackUp),
    /// Look the data of a stopped server over, and cut out what is damaged
    CheckData(CheckData),
    /// Put a backup into an empty data directory, comparing checksums
    Restore(Restore),
    /// Carry metrics or logs out, to a file or another server
    #[command(subcommand)]
    Export(moving::Export),
    /// Carry metrics or logs in, from a file or another server
    #[command(subcommand)]
    Import(moving::Import),
    /// Print what makes a shell complete this command line
    #[command(after_help = COMPLETIONS_HELP)]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the version
    #[command(after_help = "Examples:\n  pilothouse version")]
    Version,
}

const SERVE_HELP: &str = "\
Every flag is also a key of the configuration file and a variable of the environment: --rule-files is
rule_files and PILOTHOUSE_RULE_FILES. A flag wins over the environment, the environment over the file.
`pilothouse config reference` explains all keys and limits.

Examples:
  pilothouse serve
  pilothouse serve --config /etc/pilothouse/pilothouse.yaml
  pilothouse serve --listen 0.0.0.0:9009 --auth required --retention 90d
  PILOTHOUSE_LIMITS_MAX_BODY_BYTES=32MiB pilothouse serve --limit max_query_samples=10000000";

const COMPLETIONS_HELP: &str = "\
Examples:
  pilothouse completions bash > /etc/bash_completion.d/pilothouse
  pilothouse completions zsh > ~/.zfunc/_pilothouse";

#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Read a configuration file, and the files that it names, and tell what is wrong
    #[command(after_help = CHECK_HELP)]
    Check {
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Print a configuration as YAML
    #[command(after_help = PRINT_HELP)]
    Print(Box<Print>),
    /// Print the reference of all keys and limits, in Markdown
    #[command(after_help = "Examples:\n  pilothouse config reference > configuration.md")]
    Reference,
}

const CHECK_HELP: &str = "\
All that is wrong is told, a line each, with the place, the key, and what would do. Nothing is started.

Examples:
  pilothouse config check /etc/pilothouse/pilothouse.yaml";

const PRINT_HELP: &str = "\
Examples:
  pilothouse config print --sample > pilothouse.yaml
  pilothouse config print --effective --config pilothouse.yaml --retention 7d";

#[derive(Debug, Args)]
pub(crate) struct Print {
    #[command(flatten)]
    pub(crate) what: What,
    #[command(flatten)]
    pub(crate) flags: Flags,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct What {
    /// What is in force where nothing is said
    #[arg(long)]
    pub(crate) defaults: bool,
    /// What would be in force with these flags, this environment and this file, and where each value comes from
    #[arg(long)]
    pub(crate) effective: bool,
    /// A file with every key, commented out and explained
    #[arg(long)]
    pub(crate) sample: bool,
}

const RULES_CHECK_HELP: &str = "\
Examples:
  pilothouse rules check /etc/pilothouse/rules/*.yaml
  pilothouse rules check --logql log-rules.yaml";

#[derive(Debug, Subcommand)]
pub(crate) enum Rules {
    /// Check rule files as `promtool check rules` does
    #[command(after_help = RULES_CHECK_HELP)]
    Check {
        /// The rules are over logs, in LogQL
        #[arg(long)]
        logql: bool,
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
    },
    /// Run files of tests as `promtool test rules` does
    #[command(after_help = "Examples:\n  pilothouse rules test tests/*.yaml")]
    Test {
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
    },
}

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory as _};

    use super::Cli;

    /// Commands that do something, by their full names.
    fn leaves(command: &Command, name: &str, found: &mut Vec<(String, String)>) {
        let mut below = command.get_subcommands().peekable();
        if below.peek().is_none() {
            found.push((name.to_owned(), command.clone().render_help().to_string()));
        }
        for one in below {
            leaves(one, &format!("{name} {}", one.get_name()), found);
        }
    }

    #[test]
    fn every_command_shows_examples_and_is_in_the_documentation() {
        let (mut found, page) = (Vec::new(), include_str!("../../../docs/commands.md"));
        leaves(&Cli::command(), "pilothouse", &mut found);
        for (name, help) in found {
            let examples = help.split_once("Examples:\n").map(|(_, examples)| examples).unwrap_or_default();
            assert!(examples.contains(&format!("  {name}")), "{name}: {help}");
            let short = name.trim_start_matches("pilothouse ");
            assert!(page.contains(&format!("| `{short}` |")), "docs/commands.md: {short}");
        }
    }
}
