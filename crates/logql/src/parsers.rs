//! The `regexp` and `pattern` parsers.

use pilothouse_model::matcher::{Anchoring, CapturingPattern};

use crate::entry::Entry;
use crate::hints::Parsing;
use crate::json::{admit, push_sanitised, store};
use crate::json_scan::without_replacement;
use crate::names::{Names, Sym};
use crate::pattern::Pattern;

/// Takes the named groups of the first match.
#[derive(Debug)]
pub(crate) struct RegexpParser {
    regex: CapturingPattern,
    /// Number of the group, and the label it makes.
    groups: Vec<(usize, String)>,
}

impl RegexpParser {
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        let regex = CapturingPattern::new(text, Anchoring::Part).map_err(|e| e.to_string())?;
        let mut groups: Vec<(usize, String)> = Vec::new();
        for (i, name) in regex.names().iter().enumerate() {
            let Some(name) = name else { continue };
            let mut label = String::new();
            push_sanitised(&mut label, name);
            if groups.iter().any(|(_, known)| *known == label) {
                return Err(format!("duplicate extracted label name '{label}'"));
            }
            groups.push((i, label));
        }
        if groups.is_empty() {
            return Err("at least one named capture must be supplied".to_owned());
        }
        Ok(Self { regex, groups })
    }

    pub(crate) fn symbols(&self, names: &mut Names) -> Vec<Sym> {
        self.groups.iter().map(|(_, label)| names.sym(label)).collect()
    }

    /// `false` if a filter refuses the line by what was found.
    pub(crate) fn run(
        &self,
        symbols: &[Sym],
        entry: &mut Entry<'_>,
        parsing: Parsing<'_>,
        names: &mut Names,
    ) -> bool {
        let line = entry.line;
        let mut captures = Vec::with_capacity(self.regex.names().len());
        if !self.regex.capture(line, &mut captures) {
            return true;
        }
        for ((group, _), sym) in self.groups.iter().zip(symbols) {
            let Some(sym) = admit(entry, *sym, parsing.hints, names) else { continue };
            let value = captures.get(*group).copied().flatten().unwrap_or("");
            if !store(entry, sym, without_replacement(value, entry.arena), parsing) {
                return false;
            }
        }
        true
    }
}

/// Runs a capturing pattern; `false` if a filter refuses the line by what was found.
pub(crate) fn run_pattern(
    pattern: &Pattern,
    symbols: &[Sym],
    entry: &mut Entry<'_>,
    parsing: Parsing<'_>,
    names: &mut Names,
) -> bool {
    if parsing.hints.is_satisfied(entry) {
        return true;
    }
    let mut passes = true;
    pattern.captures(entry.line, |name, value| {
        let Some(sym) = symbols.get(name) else { return true };
        if let Some(sym) = admit(entry, *sym, parsing.hints, names) {
            passes = store(entry, sym, without_replacement(value, entry.arena), parsing);
        }
        passes
    });
    passes
}
