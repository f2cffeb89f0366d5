//! `file_sd_configs`: groups in JSON or YAML files, looked at every few seconds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::{DiscoveryError, Group, interval};
use crate::config;
use crate::config::sections::FileSection;

/// How often files are looked at; one that changed shows by its time or length.
const LOOK_EVERY: Duration = Duration::from_secs(5);
const FILE_PATH: &str = "__meta_filepath";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Absolute, the last part perhaps with one `*`.
    patterns: Vec<String>,
    /// How often files are read though they seem unchanged.
    refresh_interval: config::Duration,
}

impl Settings {
    pub(super) fn new(section: &FileSection, directory: &Path) -> Result<Self, String> {
        if section.files.is_empty() {
            return Err("file service discovery config must contain at least one path name".to_owned());
        }
        if let Some(bad) = section.files.iter().find(|file| !is_pattern(file)) {
            return Err(format!("path name {bad:?} is not valid for file discovery"));
        }
        let absolute = |file: &String| directory.join(file).display().to_string();
        let patterns = section.files.iter().map(absolute).collect();
        Ok(Self { patterns, refresh_interval: section.refresh_interval })
    }
}

/// Ends in `.json`, `.yml` or `.yaml`; at most one `*`, in the last part.
fn is_pattern(file: &str) -> bool {
    let is_known = [".json", ".yml", ".yaml", ".JSON", ".YML", ".YAML"].iter().any(|end| file.ends_with(end));
    let after_star = file.split_once('*').map_or("", |(_, after)| after);
    is_known && !after_star.contains(['*', '/'])
}

/// What tells a file that changed from one that did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
}

#[derive(Debug, Clone)]
struct Known {
    stamp: Stamp,
    groups: Vec<Group>,
}

#[derive(Debug)]
pub(super) struct Files {
    settings: Settings,
    max_bytes: u64,
    known: BTreeMap<PathBuf, Known>,
    read_at: Option<Instant>,
}

impl Files {
    pub(super) fn new(settings: &Settings, max_bytes: u64) -> Self {
        Self { settings: settings.clone(), max_bytes, known: BTreeMap::new(), read_at: None }
    }

    pub(super) fn interval(&self) -> Duration {
        interval(self.settings.refresh_interval).min(LOOK_EVERY)
    }

    pub(super) async fn refresh(&mut self) -> Result<Option<Vec<Group>>, DiscoveryError> {
        let refresh = interval(self.settings.refresh_interval);
        let all = self.read_at.is_none_or(|at| at.elapsed() >= refresh);
        let known = if all { BTreeMap::new() } else { self.known.clone() };
        let (settings, max_bytes) = (self.settings.clone(), self.max_bytes);
        let old = self.known.clone();
        let look = move || look(&settings.patterns, known, &old, max_bytes);
        let (found, changed) = tokio::task::spawn_blocking(look).await??;
        if all {
            self.read_at = Some(Instant::now());
        }
        self.known = found;
        let groups = || self.known.values().flat_map(|file| file.groups.clone()).collect();
        Ok((all || changed).then(groups))
    }
}

/// The files that are there now. Of those that are as they were in `known` what was read stays; of
/// those that cannot be read, what `old` says.
fn look(
    patterns: &[String],
    mut known: BTreeMap<PathBuf, Known>,
    old: &BTreeMap<PathBuf, Known>,
    max_bytes: u64,
) -> Result<(BTreeMap<PathBuf, Known>, bool), DiscoveryError> {
    let mut found = BTreeMap::new();
    let mut changed = false;
    for pattern in patterns {
        for path in glob::glob(pattern)?.filter_map(Result::ok) {
            let stamp = stamp(&path);
            if let Some(file) = known.remove(&path).filter(|file| Some(file.stamp) == stamp) {
                found.insert(path, file);
                continue;
            }
            changed = true;
            let groups = read(&path, max_bytes).unwrap_or_else(|e| {
                tracing::warn!("targets of {} stay as they are: {e}", path.display());
                old.get(&path).map(|file| file.groups.clone()).unwrap_or_default()
            });
            let stamp = stamp.unwrap_or(Stamp { modified: None, bytes: 0 });
            found.insert(path, Known { stamp, groups });
        }
    }
    // What is left was there and is no more.
    Ok((found, changed || !known.is_empty()))
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    Some(Stamp { modified: metadata.modified().ok(), bytes: metadata.len() })
}

fn read(path: &Path, max_bytes: u64) -> Result<Vec<Group>, DiscoveryError> {
    let shown = path.display().to_string();
    let fault = |cause| DiscoveryError::File { path: shown.clone(), cause };
    if std::fs::metadata(path).map_err(fault)?.len() > max_bytes {
        return Err(DiscoveryError::TooLong { limit: max_bytes });
    }
    let text = std::fs::read_to_string(path).map_err(fault)?;
    let also = (FILE_PATH, shown.as_str());
    if shown.to_ascii_lowercase().ends_with(".json") {
        Group::list_from_json(text.as_bytes(), also)
    } else {
        Group::list_from_yaml(&text, also)
    }
}
