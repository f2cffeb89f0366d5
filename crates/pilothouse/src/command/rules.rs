//! `pilothouse rules`: checking rule files and running their tests, with promtool's words.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use pilothouse_rules::unittest::run_file;
use pilothouse_rules::{Checked, Language, check_rules};

use crate::cli::Rules;

/// What promtool ends with when a check or a test fails.
const FAILED: u8 = 1;

pub(crate) fn run(command: &Rules) -> ExitCode {
    let all_good = match command {
        Rules::Check { logql, files } => {
            let language = if *logql { Language::Logql } else { Language::Promql };
            all(files, |file| check(file, language))
        }
        Rules::Test { files } => all(files, test),
    };
    if all_good { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}

/// Does all of them, whatever comes of each.
fn all(files: &[PathBuf], each: impl Fn(&Path) -> bool) -> bool {
    files.iter().filter(|file| !each(file)).count() == 0
}

fn check(file: &Path, language: Language) -> bool {
    println!("Checking {}", file.display());
    let checked = match std::fs::read_to_string(file) {
        Ok(text) => check_rules(&text, language),
        Err(e) => Err(vec![e.to_string()]),
    };
    let good = match checked {
        Ok(checked) if checked.duplicates.is_empty() => {
            println!("  SUCCESS: {} rules found", checked.rules);
            true
        }
        Ok(checked) => {
            eprintln!("  FAILED:\n{}: lint error {}", file.display(), duplicates(&checked));
            // As promtool: told, and no failure unless asked for.
            true
        }
        Err(problems) => {
            eprintln!("  FAILED:");
            for problem in problems {
                eprintln!("{}: {problem}", file.display());
            }
            false
        }
    };
    println!();
    good
}

fn duplicates(checked: &Checked) -> String {
    let mut out = format!("{} duplicate rule(s) found.\n", checked.duplicates.len());
    for (name, labels) in &checked.duplicates {
        out.push_str(&format!("Metric: {name}\nLabel(s):\n"));
        for (label, value) in labels {
            out.push_str(&format!("\t{label}: {value}\n"));
        }
    }
    out + "Might cause inconsistency while recording expressions"
}

fn test(file: &Path) -> bool {
    println!("Unit Testing:  {}", file.display());
    let report = run_file(file);
    for warning in &report.warnings {
        eprintln!("  WARNING: {warning}");
    }
    if report.failures.is_empty() {
        println!("  SUCCESS");
    } else {
        eprintln!("  FAILED:");
        for failure in &report.failures {
            eprintln!("{failure}\n");
        }
    }
    println!();
    report.failures.is_empty()
}
