//! What a stream and an entry may be, as Loki's distributor has it.

use pilothouse_model::Labels;
use pilothouse_model::limits::{LOG_LINE_BYTES, Limits};
use pilothouse_model::log_ports::EntryReason;

use crate::tail::metadata_bytes;

/// A label that Loki's own pipeline often adds; it does not count.
const SERVICE_NAME: &str = "service_name";
/// Metadata that is added to every entry.
const DETECTED_LEVEL: &str = "detected_level";

/// Bytes that a line may have.
pub fn line_limit(limits: &Limits) -> u64 {
    if limits.max_line_bytes == 0 { LOG_LINE_BYTES } else { limits.max_line_bytes.min(LOG_LINE_BYTES) }
}

/// Why a stream is refused, if it is.
pub fn labels(labels: &Labels, limits: &Limits) -> Option<EntryReason> {
    let actual = (labels.len() - usize::from(labels.get(SERVICE_NAME).is_some())) as u64;
    if actual > limits.max_labels_per_stream {
        return Some(EntryReason::TooManyLabels { actual, limit: limits.max_labels_per_stream });
    }
    labels.iter().find_map(|(name, value)| {
        if name.len() as u64 > limits.max_label_name_bytes {
            let limit = limits.max_label_name_bytes;
            return Some(EntryReason::LabelNameTooLong { name: name.to_owned(), limit });
        }
        let limit = limits.max_label_value_bytes;
        (value.len() as u64 > limit)
            .then(|| EntryReason::LabelValueTooLong { value: value.to_owned(), limit })
    })
}

/// Why an entry with this structured metadata is refused, if it is.
pub fn metadata(metadata: &Labels, limits: &Limits) -> Option<EntryReason> {
    let (bytes, limit) = (metadata_bytes(metadata) as u64, limits.max_entry_metadata_bytes);
    if limit > 0 && bytes > limit {
        return Some(EntryReason::MetadataTooLarge { bytes, limit });
    }
    // The level that was added on the way in is not what was sent.
    let added = usize::from(metadata.get(DETECTED_LEVEL).is_some());
    let (actual, limit) = ((metadata.len() - added) as u64, limits.max_entry_metadata_pairs);
    (limit > 0 && actual > limit).then_some(EntryReason::TooMuchMetadata { actual, limit })
}
