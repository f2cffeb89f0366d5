//! Templates over the data of a notification, as text and as HTML.

use std::collections::BTreeMap;

use pilothouse_alertmanager::templates::{AlertData, Data, Templates};
use pilothouse_model::Labels;

use super::as_text;

pub fn run(data: &[u8]) {
    let text = as_text(data);
    let Ok(templates) = Templates::new([("own.tmpl", text)]) else { return };
    let labels = BTreeMap::from([("alertname".to_owned(), "A".to_owned())]);
    let data = Data {
        receiver: "r".to_owned(),
        status: "firing",
        alerts: vec![AlertData {
            resolved: false,
            labels: Labels::from_pairs(&labels),
            annotations: BTreeMap::new(),
            starts_at_ms: 0,
            ends_at_ms: None,
            generator_url: String::new(),
            fingerprint: 0,
        }],
        notification_reason: "first notification",
        group_labels: labels.clone(),
        common_labels: labels,
        common_annotations: BTreeMap::new(),
        route_labels: BTreeMap::new(),
        external_url: "http://x".to_owned(),
    };
    let data = data.to_value();
    let _ = templates.text(text, &data);
    let _ = templates.html(text, &data);
}
