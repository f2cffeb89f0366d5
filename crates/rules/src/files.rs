//! Rule files and directories of the configuration.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::expression::Language;
use crate::format::{RuleGroup, check_group, read_file};
use crate::stack::on_deep_stack;

/// The groups of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleFile {
    pub path: String,
    pub groups: Vec<RuleGroup>,
}

/// What is wrong with a file, all of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {}", problems.join("\n"))]
pub struct FileError {
    pub path: String,
    pub problems: Vec<String>,
}

const EXTENSIONS: [&str; 3] = ["yml", "yaml", "json"];

/// Loads files by path, directories by their files that end in `.yml`, `.yaml` or `.json`, and
/// patterns with `*` and `?` in their last part. Either all are good, or what is wrong is told.
pub fn load_files(patterns: &[PathBuf], language: Language) -> Result<Vec<RuleFile>, Vec<FileError>> {
    let (mut files, mut errors) = (Vec::new(), Vec::new());
    let mut paths = Vec::new();
    for pattern in patterns {
        match paths_of(pattern) {
            Ok(found) => paths.extend(found),
            Err(e) => errors.push(file_error(pattern, vec![e.to_string()])),
        }
    }
    paths.sort();
    paths.dedup();
    for path in paths {
        match load_file(&path, language) {
            Ok(file) => files.push(file),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(files) } else { Err(errors) }
}

fn file_error(path: &Path, problems: Vec<String>) -> FileError {
    FileError { path: path.display().to_string(), problems }
}

/// Loads and checks one file.
pub(crate) fn load_file(path: &Path, language: Language) -> Result<RuleFile, FileError> {
    let text = std::fs::read_to_string(path).map_err(|e| file_error(path, vec![e.to_string()]))?;
    let groups = check_file(&text, language).map_err(|problems| file_error(path, problems))?;
    Ok(RuleFile { path: path.display().to_string(), groups })
}

/// What a look at one rule file found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    pub rules: usize,
    /// Names and labels of rules that occur more than once, each once.
    pub duplicates: Vec<(String, BTreeMap<String, String>)>,
}

/// Checks the text of a rule file; the error is all that is wrong with it.
pub fn check_rules(text: &str, language: Language) -> Result<Checked, Vec<String>> {
    let groups = check_file(text, language)?;
    let mut seen: BTreeMap<(String, BTreeMap<String, String>), usize> = BTreeMap::new();
    for (group, rule) in groups.iter().flat_map(|group| group.rules.iter().map(move |rule| (group, rule))) {
        let mut labels = group.labels.clone();
        labels.extend(rule.labels.clone());
        *seen.entry((rule.name().to_owned(), labels)).or_default() += 1;
    }
    let duplicates = seen.into_iter().filter(|(_, count)| *count > 1).map(|(rule, _)| rule).collect();
    Ok(Checked { rules: groups.iter().map(|group| group.rules.len()).sum(), duplicates })
}

/// The groups of a file's text, or all that is wrong with it.
pub(crate) fn check_file(text: &str, language: Language) -> Result<Vec<RuleGroup>, Vec<String>> {
    on_deep_stack(|| check_groups(text, language)).unwrap_or_else(|e| Err(vec![e.to_string()]))
}

fn check_groups(text: &str, language: Language) -> Result<Vec<RuleGroup>, Vec<String>> {
    let read = read_file(text).map_err(|e| vec![e])?;
    let mut problems = Vec::new();
    let mut names = std::collections::HashSet::new();
    for group in &read {
        let name = &group.group.name;
        if name.is_empty() && language == Language::Promql {
            problems.push("0:0: Groupname must not be empty".to_owned());
        }
        if !names.insert(name.clone()) {
            problems.push(format!("0:0: groupname: {name:?} is repeated in the same file"));
        }
        problems.extend(check_group(group, language, 1).iter().map(ToString::to_string));
    }
    if problems.is_empty() { Ok(read.into_iter().map(|g| g.group).collect()) } else { Err(problems) }
}

/// The files that a path or pattern names, which may be none for a pattern or a directory.
pub(crate) fn paths_of(pattern: &Path) -> std::io::Result<Vec<PathBuf>> {
    if pattern.is_dir() {
        let is_rules = |path: &PathBuf| {
            path.extension().and_then(|e| e.to_str()).is_some_and(|e| EXTENSIONS.contains(&e))
        };
        return Ok(entries(pattern)?.into_iter().filter(is_rules).collect());
    }
    let Some(last) = pattern.file_name().and_then(|name| name.to_str()) else {
        return Ok(vec![pattern.to_owned()]);
    };
    if !last.contains(['*', '?']) || pattern.exists() {
        return Ok(vec![pattern.to_owned()]);
    }
    let parent = match pattern.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if !parent.exists() {
        return Ok(Vec::new());
    }
    let fits = |path: &PathBuf| path.file_name().and_then(|n| n.to_str()).is_some_and(|n| matches(last, n));
    Ok(entries(parent)?.into_iter().filter(fits).collect())
}

fn entries(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Whether a name fits a pattern of `*` (any text) and `?` (one character).
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                retry = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || Some(c) == name.get(n) => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((star, at)) = retry else { return false };
                retry = Some((star, at + 1));
                p = star + 1;
                n = at + 1;
            }
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|c| *c == '*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_and_directories_name_files() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["a.yml", "b.yaml", "c.txt", "ab.yml"] {
            std::fs::write(directory.path().join(name), "groups: []\n").unwrap();
        }
        let names = |pattern: &str| -> Vec<String> {
            paths_of(&directory.path().join(pattern))
                .unwrap()
                .iter()
                .filter_map(|p| Some(p.file_name()?.to_str()?.to_owned()))
                .collect()
        };
        assert_eq!(names(""), ["a.yml", "ab.yml", "b.yaml"]);
        assert_eq!(names("a*.yml"), ["a.yml", "ab.yml"]);
        assert_eq!(names("?.y*ml"), ["a.yml", "b.yaml"]);
        assert_eq!(names("none*"), Vec::<String>::new());
        assert_eq!(names("gone.yml"), ["gone.yml"]);
    }
}
