//! What is known of metric families: type, help, unit.

use std::collections::BTreeMap;

use pilothouse_model::limits::METADATA_PER_FAMILY;
use pilothouse_model::write::MetadataEntry;

/// The newest descriptions of each family, bounded in families and in text.
#[derive(Debug, Default)]
pub(crate) struct Metadata {
    families: BTreeMap<String, Vec<MetadataEntry>>,
    /// Entries that came since they were last saved.
    unsaved: bool,
}

impl Metadata {
    /// Takes an entry. Answers whether anything is new about it; beyond the limits it is dropped.
    pub(crate) fn insert(&mut self, entry: &MetadataEntry, max_families: u64, max_text: u64) -> bool {
        let entry = cut(entry, max_text as usize);
        if let Some(known) = self.families.get_mut(&entry.family) {
            if known.contains(&entry) {
                return false;
            }
            if known.len() >= METADATA_PER_FAMILY {
                known.remove(0);
            }
            known.push(entry);
        } else {
            if self.families.len() as u64 >= max_families || entry.family.is_empty() {
                return false;
            }
            self.families.insert(entry.family.clone(), vec![entry]);
        }
        self.unsaved = true;
        true
    }

    pub(crate) fn list(&self, family: Option<&str>) -> Vec<MetadataEntry> {
        match family {
            Some(name) => self.families.get(name).cloned().unwrap_or_default(),
            None => self.families.values().flatten().cloned().collect(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.families.len()
    }

    /// All families if something changed since the last time this was asked.
    pub(crate) fn take_unsaved(&mut self) -> Option<Vec<MetadataEntry>> {
        std::mem::take(&mut self.unsaved).then(|| self.list(None))
    }

    pub(crate) fn set_unsaved(&mut self) {
        self.unsaved = true;
    }
}

fn cut(entry: &MetadataEntry, max: usize) -> MetadataEntry {
    let cut = |text: &str| {
        let end = (0..=max.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        text[..end].to_owned()
    };
    MetadataEntry {
        family: cut(&entry.family),
        metric_type: entry.metric_type,
        help: cut(&entry.help),
        unit: cut(&entry.unit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pilothouse_model::write::MetricType;

    #[test]
    fn families_and_texts_are_bounded() {
        let entry = |family: &str, help: &str| MetadataEntry {
            family: family.into(),
            metric_type: MetricType::Counter,
            help: help.into(),
            unit: String::new(),
        };
        let mut metadata = Metadata::default();
        assert!(metadata.insert(&entry("a", "héllo"), 2, 2));
        assert!(!metadata.insert(&entry("a", "hé"), 2, 2));
        assert_eq!(metadata.list(Some("a"))[0].help, "h");
        assert!(metadata.insert(&entry("b", ""), 2, 2));
        assert!(!metadata.insert(&entry("c", ""), 2, 2));
        for i in 0..20 {
            metadata.insert(&entry("a", &i.to_string()), 2, 9);
        }
        assert_eq!((metadata.list(Some("a")).len(), metadata.len()), (METADATA_PER_FAMILY, 2));
        assert!(metadata.take_unsaved().is_some() && metadata.take_unsaved().is_none());
    }
}
