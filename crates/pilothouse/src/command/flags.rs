//! The flags of `serve`, one for every key of the configuration.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, value_parser};

use crate::config::{Flags, KEYS, Settings};

const CONFIG: &str = "config";
const LIMIT: &str = "limit";
/// Limits that have a flag of their own, because everybody asks for them.
const SHORT: [(&str, &str, &str); 2] = [
    (
        "limits.max_active_series",
        "max-active-series",
        "Active series beyond which new ones are refused; 0 for no limit [default: 250000]",
    ),
    (
        "limits.max_log_streams",
        "max-log-streams",
        "Active log streams beyond which new ones are refused; 0 for no limit [default: 5000]",
    ),
];
/// Longer defaults are left to the reference page.
const MAX_SHOWN_DEFAULT: usize = 40;

impl Args for Flags {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new(CONFIG)
            .long(CONFIG)
            .value_name("FILE")
            .env("PILOTHOUSE_CONFIG")
            .value_parser(value_parser!(PathBuf))
            .help("Configuration in YAML; its keys are these flags with underscores");
        let command = KEYS.iter().zip(helps()).fold(command.arg(config), |command, (key, help)| {
            let arg = Arg::new(key.name).long(key.flag()).value_name("VALUE").help(help);
            command.arg(arg.help_heading(key.group).allow_negative_numbers(true))
        });
        let command = SHORT.iter().fold(command, |command, (key, flag, help)| {
            let arg = Arg::new(*key).long(*flag).value_name("N").help(*help);
            command.arg(arg.help_heading("Limits"))
        });
        let limit = Arg::new(LIMIT)
            .long(LIMIT)
            .value_name("NAME=VALUE")
            .action(ArgAction::Append)
            .help("Any limit by name, as often as needed");
        command.arg(limit.help_heading("Limits"))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// The help of each key, with its default.
fn helps() -> impl Iterator<Item = String> {
    let defaults = Settings::default();
    KEYS.iter().map(move |key| {
        let default = defaults.show(key.name).unwrap_or_default();
        let help = key.help.trim_end_matches('.');
        match default.trim_matches('"') {
            "" | "[]" | "{}" => help.to_owned(),
            long if long.len() > MAX_SHOWN_DEFAULT => help.to_owned(),
            shown => format!("{help} [default: {shown}]"),
        }
    })
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let ids = KEYS.iter().map(|key| key.name).chain(SHORT.map(|(key, ..)| key));
        let said = |key: &str| matches.get_one::<String>(key).map(|text| (key.to_owned(), text.clone()));
        Ok(Self {
            config: matches.get_one::<PathBuf>(CONFIG).cloned(),
            values: ids.filter_map(said).collect(),
            limits: matches.get_many::<String>(LIMIT).unwrap_or_default().cloned().collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
