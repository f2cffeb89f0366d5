//! A group: targets that share labels.

use pilothouse_model::Labels;
use pilothouse_model::labels::quote;
use serde_json::Value;

use super::DiscoveryError;
use crate::config::sections::GroupSection;
use crate::relabel::NameScheme;

pub(crate) const ADDRESS: &str = "__address__";

/// Targets that share labels. A target's own labels win.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Each with at least `__address__`.
    pub targets: Vec<Labels>,
    pub labels: Labels,
}

impl Group {
    /// From what is written in a configuration or a file.
    pub(crate) fn of(section: &GroupSection) -> Result<Self, String> {
        if let Some(name) = section.labels.keys().find(|name| !NameScheme::Utf8.is_label_name(name)) {
            return Err(format!("{} is not a valid label name", quote(name)));
        }
        let address = |target: &String| Labels::from_pairs([(ADDRESS, target.as_str())]);
        let targets = section.targets.iter().map(address).collect();
        Ok(Self { targets, labels: Labels::from_pairs(&section.labels) })
    }

    /// From JSON, each group with one more label.
    pub(super) fn list_from_json(text: &[u8], also: (&str, &str)) -> Result<Vec<Self>, DiscoveryError> {
        let malformed = |e: String| DiscoveryError::Malformed(e);
        let list: Vec<Value> = serde_json::from_slice(text).map_err(|e| malformed(e.to_string()))?;
        let read = |value: Value| {
            if value.is_null() {
                return Err(malformed("nil target group item found".to_owned()));
            }
            let section: GroupSection =
                serde_json::from_value(value).map_err(|e| malformed(e.to_string()))?;
            Self::with(&section, also)
        };
        list.into_iter().map(read).collect()
    }

    pub(super) fn list_from_yaml(text: &str, also: (&str, &str)) -> Result<Vec<Self>, DiscoveryError> {
        if text.trim().is_empty() {
            return Ok(Vec::new());
        }
        let list: Vec<GroupSection> =
            serde_norway::from_str(text).map_err(|e| DiscoveryError::Malformed(e.to_string()))?;
        list.iter().map(|section| Self::with(section, also)).collect()
    }

    fn with(section: &GroupSection, also: (&str, &str)) -> Result<Self, DiscoveryError> {
        let mut group = Self::of(section).map_err(DiscoveryError::Malformed)?;
        group.labels = group.labels.with(also.0, also.1);
        Ok(group)
    }

    /// About.
    pub(super) fn held_bytes(&self) -> u64 {
        let labels = self.targets.iter().chain([&self.labels]);
        labels.map(|labels| (size_of_val(labels) + labels.as_encoded().len()) as u64).sum()
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = &str> {
        self.targets.iter().map(|target| target.value(ADDRESS))
    }
}

/// An address is a host and perhaps a port; whoever writes a URL is told so.
pub(crate) fn check_address(address: &str) -> Result<(), String> {
    if address.contains('/') { Err(format!("{} is not a valid hostname", quote(address))) } else { Ok(()) }
}
