//! Where values come from: the file, over it the environment, over it the flags.
//!
//! All that is wrong is collected and told together, each with its place, its key, and what
//! would do instead.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};

use pilothouse_model::limits::{LimitInfo, Limits};
use pilothouse_rules::format::yaml::{self, Content, Node};

use super::references::{self, Lookup};
use super::settings::{KEYS, Settings, variable_of};
use super::values::read_limit;

/// The mapping whose keys are limits.
pub(super) const LIMITS: &str = "limits.";
/// Limits that have a flag of their own, because everybody asks for them. Their keys and variables
/// are known without `limits` too, as those of every other flag are.
pub(crate) const FLAGGED_LIMITS: [&str; 2] = ["max_active_series", "max_log_streams"];

/// A key as the list has it.
fn canonical(key: &str) -> String {
    if FLAGGED_LIMITS.contains(&key) { format!("{LIMITS}{key}") } else { key.to_owned() }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// `pilothouse.yaml:12`, `--retention`, `PILOTHOUSE_RETENTION`.
    pub(crate) place: String,
    pub(crate) key: String,
    pub(crate) why: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            return write!(f, "{}: {}", self.place, self.why);
        }
        write!(f, "{}: {}: {}", self.place, self.key, self.why)
    }
}

/// Settings as they are put together, with where each came from.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    pub(crate) settings: Settings,
    /// Where relative paths start.
    pub(crate) directory: PathBuf,
    /// The place of what was last said of a key; none for a default.
    pub(crate) origins: BTreeMap<String, String>,
    pub(crate) faults: Vec<Fault>,
}

impl Layers {
    /// `shown` is how the file is called in messages.
    pub(crate) fn add_file(&mut self, shown: &str, text: &str, lookup: &Lookup<'_>) {
        let root = match yaml::parse(text) {
            Ok(Some(root)) => root,
            Ok(None) => return,
            Err(why) => return self.fault(shown.to_owned(), "", why),
        };
        if root.is_null() {
            return;
        }
        self.add_mapping(shown, "", &root, lookup);
    }

    /// The pairs of a mapping, whose keys follow `prefix`.
    fn add_mapping(&mut self, shown: &str, prefix: &str, node: &Node, lookup: &Lookup<'_>) {
        let Content::Mapping(pairs) = &node.content else {
            let why = "a mapping of keys to values is wanted".to_owned();
            return self.fault(at(shown, node), prefix.trim_end_matches('.'), why);
        };
        let mut seen = HashSet::new();
        for (key, value) in pairs {
            let Content::Scalar { text: name, .. } = &key.content else {
                self.fault(at(shown, key), "", "a key must be a text".to_owned());
                continue;
            };
            let name = canonical(&format!("{prefix}{name}"));
            if !seen.insert(name.clone()) {
                self.fault(at(shown, key), &name, "is said twice".to_owned());
            } else if is_mapping_of_keys(&name) {
                if !value.is_null() {
                    self.add_mapping(shown, &format!("{name}."), value, lookup);
                }
            } else {
                self.add_value(shown, &name, key, value, lookup);
            }
        }
    }

    fn add_value(&mut self, shown: &str, name: &str, key: &Node, value: &Node, lookup: &Lookup<'_>) {
        // A key without a value is one that is not said.
        if value.is_null() && is_known(name) {
            return;
        }
        let value = match references::expand(value, lookup) {
            Ok(value) => value,
            Err(wrong) => return self.fault(format!("{shown}:{}", wrong.line), name, wrong.why),
        };
        let set = match limit_of(name) {
            Some(info) => Some(self.set_limit_node(info, &value)),
            None => self.settings.set_node(name, &value).map(|set| set.map_err(|w| (w.line, w.why))),
        };
        match set {
            Some(Ok(())) => {
                self.origins.insert(name.to_owned(), at(shown, key));
            }
            Some(Err((line, why))) => self.fault(format!("{shown}:{line}"), name, why),
            None => self.fault(at(shown, key), name, unknown(name)),
        }
    }

    fn set_limit_node(&mut self, info: &LimitInfo, node: &Node) -> Result<(), (usize, String)> {
        let Content::Scalar { text, .. } = &node.content else {
            return Err((node.at.line, "a single number is wanted".to_owned()));
        };
        let value = read_limit(text, info.unit).map_err(|why| (node.at.line, why))?;
        self.settings.limits.set(info.name, value);
        Ok(())
    }

    /// Every key has a variable. Others that begin alike are left alone: container platforms set
    /// such for services of the same name.
    pub(crate) fn add_environment(&mut self, lookup: &Lookup<'_>) {
        let limits = Limits::LIST.iter().map(|info| format!("{LIMITS}{}", info.name));
        let flagged = FLAGGED_LIMITS.map(str::to_owned);
        for key in KEYS.iter().map(|key| key.name.to_owned()).chain(limits).chain(flagged) {
            let variable = variable_of(&key);
            if let Some(text) = lookup(&variable) {
                self.add_text(&canonical(&key), &text, &variable);
            }
        }
    }

    /// A flag or a variable: one text for one key, which is known.
    pub(crate) fn add_text(&mut self, key: &str, text: &str, place: &str) {
        let set = match limit_of(key) {
            Some(info) => read_limit(text, info.unit).map(|value| {
                self.settings.limits.set(info.name, value);
            }),
            None => self.settings.set_text(key, text).unwrap_or_else(|| Err(unknown(key))),
        };
        match set {
            Ok(()) => {
                self.origins.insert(key.to_owned(), place.to_owned());
            }
            Err(why) => self.fault(place.to_owned(), key, why),
        }
    }

    /// `--limit NAME=VALUE`.
    pub(crate) fn add_limit(&mut self, text: &str) {
        match text.split_once('=') {
            Some((name, value)) => {
                self.add_text(&format!("{LIMITS}{}", name.trim()), value.trim(), "--limit")
            }
            None => self.fault("--limit".to_owned(), "", format!("{text:?} is not NAME=VALUE")),
        }
    }

    pub(crate) fn fault(&mut self, place: String, key: &str, why: String) {
        self.faults.push(Fault { place, key: key.to_owned(), why });
    }

    /// As [`Layers::fault`], at the place where the key was said.
    pub(crate) fn refuse(&mut self, key: &str, why: impl ToString) {
        self.fault(self.place_of(key), key, why.to_string());
    }

    /// Where a key was said, or the key itself where it was not.
    pub(crate) fn place_of(&self, key: &str) -> String {
        self.origins.get(key).cloned().unwrap_or_else(|| "defaults".to_owned())
    }
}

fn at(shown: &str, node: &Node) -> String {
    format!("{shown}:{}", node.at.line)
}

fn limit_of(key: &str) -> Option<&'static LimitInfo> {
    let name = key.strip_prefix(LIMITS)?;
    Limits::LIST.iter().find(|info| info.name == name)
}

fn is_known(key: &str) -> bool {
    limit_of(key).is_some() || KEYS.iter().any(|known| known.name == key)
}

/// Whether the file nests further keys below this one.
fn is_mapping_of_keys(name: &str) -> bool {
    let below = format!("{name}.");
    below == LIMITS || KEYS.iter().any(|key| key.name.starts_with(&below))
}

/// What to say of a key that is not known, with one that may have been meant.
fn unknown(key: &str) -> String {
    let limits = Limits::LIST.iter().map(|info| format!("{LIMITS}{}", info.name));
    let known = KEYS.iter().map(|key| key.name.to_owned()).chain(limits);
    // Its last part counts too, so that a limit that stands outside `limits` is found there.
    let last = |name: &str| name.rsplit('.').next().unwrap_or(name).to_owned();
    let distance = |name: &str| {
        let whole = strsim::osa_distance(name, key);
        whole.min(strsim::osa_distance(&last(name), &last(key)) + usize::from(whole > 0))
    };
    let nearest = known.map(|name| (distance(&name), name)).min();
    match nearest {
        Some((d, name)) if d <= 1 + key.len() / 5 => format!("is not a key; {name} is"),
        _ => "is not a key; `pilothouse config reference` lists them".to_owned(),
    }
}

/// What to tell of a variable of the environment that is nearly one of a key, and so not obeyed.
pub(super) fn misspelt(variable: &str) -> Option<String> {
    const NEARLY: usize = 2;
    if !variable.starts_with("PILOTHOUSE_") {
        return None;
    }
    let limits = Limits::LIST.iter().map(|info| variable_of(&format!("{LIMITS}{}", info.name)));
    let flagged = FLAGGED_LIMITS.into_iter().map(variable_of);
    let known = KEYS.iter().map(|key| variable_of(key.name)).chain(limits).chain(flagged);
    let nearest = known.map(|name| (strsim::osa_distance(&name, variable), name)).min()?;
    let is_told = (1..=NEARLY).contains(&nearest.0);
    is_told.then(|| format!("the environment has {variable}, which is no key; {} is", nearest.1))
}

/// The text of a file, which must be readable.
pub(crate) fn read_file(path: &Path) -> Result<String, Fault> {
    std::fs::read_to_string(path).map_err(|e| Fault {
        place: path.display().to_string(),
        key: String::new(),
        why: format!("cannot read the configuration file: {e}"),
    })
}
