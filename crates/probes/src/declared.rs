//! Checks in a configuration: the fields of the API, and alerts beside them.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::registry::{CheckAlert, DeclaredCheck};
use crate::words::{Check, without_nulls};

/// Reads one check. A field that there is not is refused: who writes a file is told of what
/// would have no effect.
pub fn read(mut document: Value) -> Result<DeclaredCheck, String> {
    let alerts = document.as_object_mut().and_then(|members| members.remove("alerts"));
    let mut check: Check = read_strictly(document)?;
    // What the server gives is not the file's to say.
    (check.id, check.tenant_id, check.created, check.modified) = (0, 0, 0.0, 0.0);
    let alerts: Vec<CheckAlert> = alerts.map_or_else(|| Ok(Vec::new()), read_strictly)?;
    Ok(DeclaredCheck { check, alerts })
}

fn read_strictly<T: DeserializeOwned>(document: Value) -> Result<T, String> {
    let mut unknown = Vec::new();
    let read = serde_ignored::deserialize(without_nulls(document), |path| unknown.push(path.to_string()));
    let read: T = read.map_err(|e: serde_json::Error| e.to_string())?;
    match unknown.as_slice() {
        [] => Ok(read),
        unknown => Err(format!("there is no field {}", unknown.join(", "))),
    }
}

/// As a file says it, secrets masked and what the server gives left out.
pub fn show(declared: &DeclaredCheck) -> Value {
    let mut document = serde_json::to_value(declared.check.clone().masked()).unwrap_or_default();
    if let Some(members) = document.as_object_mut() {
        for given in ["id", "tenantId", "created", "modified", "channels"] {
            members.remove(given);
        }
        if !declared.alerts.is_empty() {
            let alerts = declared.alerts.iter().map(|alert| {
                serde_json::json!({"name": alert.name, "threshold": alert.threshold, "period": alert.period})
            });
            members.insert("alerts".to_owned(), alerts.collect());
        }
    }
    document
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn unknown_fields_are_named_at_any_depth() {
        let check = json!({"job": "j", "target": "http://a.b/", "settings": {"http": {"metod": "GET"}}});
        assert_eq!(read(check), Err("there is no field settings.?.http.?.metod".into()));
        let check = json!({"job": "j", "alerts": [{"name": "n", "treshold": 1}]});
        assert_eq!(read(check), Err("there is no field 0.treshold".into()));
    }

    #[test]
    fn what_is_read_is_shown_without_secrets() {
        let said = json!({
            "job": "j", "target": "http://a.b/", "frequency": 60_000, "timeout": 1_000, "enabled": true,
            "labels": null, "settings": {"http": {"bearerToken": "s3cret", "method": "post"}},
            "alerts": [{"name": "ProbeFailedExecutionsTooHigh", "threshold": 1, "period": "5m"}],
        });
        let declared = read(said).unwrap();
        assert_eq!(declared.alerts[0].period, "5m");
        let shown = show(&declared);
        assert_eq!(shown["settings"]["http"]["method"], "POST");
        assert!(!shown.to_string().contains("s3cret"), "{shown}");
        assert!(read(shown).is_ok());
    }
}
