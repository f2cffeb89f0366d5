//! Relabelling: `relabel_configs` and `metric_relabel_configs` of Prometheus.
//!
//! Rules run in order over a set of labels; one that says to drop ends the run. Texts of what is
//! refused are Prometheus' own.

mod rule;
#[cfg(test)]
mod tests;

use md5::{Digest, Md5};
use pilothouse_model::LabelsBuilder;

pub use rule::{Action, NameScheme, Rule, RuleError, RuleSpec};

/// Applies rules in order; `false` where one says to drop.
pub fn apply(rules: &[Rule], labels: &mut LabelsBuilder) -> bool {
    rules.iter().all(|rule| rule.apply(labels))
}

impl Rule {
    fn apply(&self, labels: &mut LabelsBuilder) -> bool {
        let spec = self.spec();
        let value = self.source_value(labels);
        let set = |labels: &mut LabelsBuilder, value: &str| {
            labels.set(&spec.target_label, value);
        };
        match spec.action {
            Action::Keep => return self.is_match(&value),
            Action::Drop => return !self.is_match(&value),
            Action::KeepEqual => return labels.get(&spec.target_label).unwrap_or("") == value,
            Action::DropEqual => return labels.get(&spec.target_label).unwrap_or("") != value,
            Action::Replace => self.replace(labels, &value),
            Action::Lowercase => set(labels, &lowercase(&value)),
            Action::Uppercase => set(labels, &uppercase(&value)),
            Action::HashMod => set(labels, &hash_mod(&value, spec.modulus).to_string()),
            Action::LabelMap => self.map(labels),
            Action::LabelDrop => {
                labels.retain(|name| !self.is_match(name));
            }
            Action::LabelKeep => {
                labels.retain(|name| self.is_match(name));
            }
        }
        true
    }

    /// The source labels' values with the separator between them; absent ones are empty.
    fn source_value(&self, labels: &LabelsBuilder) -> String {
        let spec = self.spec();
        let mut joined = String::new();
        for (i, name) in spec.source_labels.iter().flatten().enumerate() {
            if i > 0 {
                joined.push_str(&spec.separator);
            }
            joined.push_str(labels.get(name).unwrap_or(""));
        }
        joined
    }

    fn replace(&self, labels: &mut LabelsBuilder, value: &str) {
        let spec = self.spec();
        let Some(target) = self.expand(value, &spec.target_label) else { return };
        if !spec.names.is_label_name(&target) {
            return;
        }
        // The same text matched a line above.
        let replacement = self.expand(value, &spec.replacement).unwrap_or_default();
        labels.set(&target, &replacement);
    }

    /// Each label whose name matches is copied to the name that the replacement makes of it. What
    /// is written by the rule itself is not looked at.
    fn map(&self, labels: &mut LabelsBuilder) {
        let copies: Vec<(String, String)> = labels
            .iter()
            .filter_map(|(name, value)| {
                let to = self.expand(name, &self.spec().replacement)?;
                (!to.is_empty()).then(|| (to, value.to_owned()))
            })
            .collect();
        for (name, value) in copies {
            labels.set(&name, &value);
        }
    }
}

/// The last eight bytes of the MD5 hash, as every version of Prometheus takes them.
fn hash_mod(value: &str, modulus: u64) -> u64 {
    let hash = Md5::digest(value.as_bytes());
    let last = hash.iter().skip(8).fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    last.checked_rem(modulus).unwrap_or(0)
}

/// Letter by letter, as Go does it: a letter that would become several stays one.
fn lowercase(text: &str) -> String {
    text.chars().map(|c| c.to_lowercase().next().unwrap_or(c)).collect()
}

fn uppercase(text: &str) -> String {
    let upper = |c: char| {
        let mut letters = c.to_uppercase();
        match (letters.next(), letters.next()) {
            (Some(one), None) => one,
            _ => c,
        }
    };
    text.chars().map(upper).collect()
}
