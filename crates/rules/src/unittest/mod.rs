//! Files of tests for rules, as promtool runs them: series are written, groups evaluated step by
//! step, alerts and expressions compared with what the file expects.

mod document;
mod histograms;
mod run;
mod series;
#[cfg(test)]
mod tests;

use std::path::Path;

use crate::stack::on_deep_stack;

/// What running one file gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// What stops nothing: patterns that name no file.
    pub warnings: Vec<String>,
    /// What failed, each as promtool tells it; none where all is well.
    pub failures: Vec<String>,
}

/// Runs the tests of a file. Rule files are named relative to it.
pub fn run_file(path: &Path) -> Report {
    let fail = |text: String| Report { warnings: Vec::new(), failures: vec![text] };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) => return fail(format!("{}: {e}", path.display())),
    };
    let document = match document::read(&text) {
        Ok(document) => document,
        Err(e) => return fail(e),
    };
    let directory = path.parent().unwrap_or(Path::new("."));
    on_deep_stack(|| run::run(&document, directory)).unwrap_or_else(|e| fail(e.to_string()))
}
