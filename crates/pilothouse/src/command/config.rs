//! `pilothouse config`: the configuration checked and shown, without a server.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use pilothouse_rules::{Language, load_files};

use super::print;
use crate::cli::{self, Print};
use crate::config::{self, Config, ConfigError, Fault, Flags, Settings};
use crate::remotes::may_connect;

pub(crate) fn run(command: &cli::Config) -> ExitCode {
    match command {
        cli::Config::Check { file } => check(file),
        cli::Config::Print(what) => show(what),
        cli::Config::Reference => {
            print(&config::markdown());
            ExitCode::SUCCESS
        }
    }
}

fn show(wanted: &Print) -> ExitCode {
    if wanted.what.sample {
        print(&config::sample());
    } else if wanted.what.defaults {
        print(&config::yaml(&Settings::default(), &BTreeMap::new()));
    } else {
        match config::load(&wanted.flags) {
            Ok(config) => print(&config::yaml(&config.settings, &config.origins)),
            Err(e) => return refuse(&e.to_string()),
        }
    }
    ExitCode::SUCCESS
}

fn check(file: &Path) -> ExitCode {
    let flags = Flags { config: Some(file.to_owned()), ..Flags::default() };
    let checked = config::load(&flags).and_then(|config| {
        let faults = faults_of_files(&config);
        if faults.is_empty() { Ok(config) } else { Err(ConfigError(faults)) }
    });
    match checked {
        Ok(config) => {
            config.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
            print(&format!("{} is good\n", file.display()));
            ExitCode::SUCCESS
        }
        Err(e) => refuse(&e.to_string()),
    }
}

/// What is wrong with the files that a configuration names.
fn faults_of_files(config: &Config) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut fault = |key: &str, why: String| {
        let place = config.origins.get(key).cloned().unwrap_or_default();
        faults.push(Fault { place, key: key.to_owned(), why });
    };
    for (key, files, language) in [
        ("rule_files", &config.rules.files, Language::Promql),
        ("log_rule_files", &config.rules.log_files, Language::Logql),
    ] {
        if let Err(errors) = load_files(files, language) {
            errors.iter().for_each(|error| fault(key, error.to_string()));
        }
    }
    if let Some(file) = &config.alerting.config_file
        && let Err(e) = pilothouse_alertmanager::Config::load_file(file)
    {
        fault("alertmanager_config_file", format!("{}: {e}", file.display()));
    }
    for source in &config.data_sources {
        if let Err(e) = may_connect(source, &config.limits) {
            fault("data_sources", e.to_string());
        }
    }
    faults
}

fn refuse(why: &str) -> ExitCode {
    eprintln!("{why}");
    ExitCode::FAILURE
}
