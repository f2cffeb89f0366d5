use prost::Message as _;
use serde_json::{Value, json};

use crate::words::{Check, CheckKind, Remote, read_json};

/// Reads JSON, sends it through protobuf, and shows it as JSON again.
fn round(document: Value) -> Value {
    let check: Check = read_json(document.to_string().as_bytes()).unwrap();
    let again = Check::decode(check.encode_to_vec().as_slice()).unwrap();
    assert_eq!(again, check);
    serde_json::to_value(&again).unwrap()
}

#[test]
fn a_check_keeps_every_field_through_both_forms() {
    let document = json!({
        "id": 7, "tenantId": 1, "frequency": 60_000, "offset": 5, "timeout": 3_000, "enabled": true,
        "labels": [{"name": "env", "value": "prod"}],
        "settings": {"http": {
            "ipVersion": "V4", "method": "POST", "noFollowRedirects": false, "failIfSSL": true,
            "failIfNotSSL": false, "headers": ["A: b"], "proxyURL": "http://p:1", "compression": "gzip",
            "oauth2Config": {"clientId": "i", "clientSecret": "s", "tokenURL": "t"},
            "tlsConfig": {"caCert": "eA=="}, "validStatusCodes": [200, 404],
        }},
        "probes": [1, 2], "target": "http://a.b/", "job": "j", "basicMetricsOnly": true,
        "alertSensitivity": "none", "channels": {"k6": {"id": "v1", "manifest": ""}},
        "created": 1_700_000_000.25, "modified": 1_700_000_000.123_456_7,
    });
    assert_eq!(round(document.clone()), document);
}

#[test]
fn zero_values_are_spelled_out_and_texts_ignore_case() {
    let shown = round(json!({"settings": {"http": {"method": "post", "ipVersion": null}}}));
    assert_eq!(shown["settings"]["http"]["method"], "POST");
    assert_eq!(shown["settings"]["http"]["ipVersion"], "Any");
    assert_eq!(shown["labels"], json!([]));
    assert_eq!(shown["channels"], Value::Null);
    let dns = round(json!({"settings": {"dns": {"server": "1.1.1.1", "validRCode": ["NXDOMAIN"]}}}));
    let dns = &dns["settings"]["dns"];
    assert_eq!((&dns["protocol"], &dns["recordType"]), (&json!("TCP"), &json!("ANY")));
    assert_eq!(dns["validRCodes"], json!(["NXDOMAIN"]));
    let body = round(json!({"settings": {"http": {"body": ["a", "b"]}}}));
    assert_eq!(body["settings"]["http"]["body"], "ab");
}

#[test]
fn what_does_not_read_is_an_error() {
    for bad in [
        r#"{"target": 7}"#,
        r#"{"target": "#,
        r#"{"settings":{"http":{"method":"FETCH"}}}"#,
        r#"{"labels":7}"#,
    ] {
        assert!(read_json::<Check>(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn a_version_is_the_nanoseconds_of_the_change() {
    // The product of two doubles, rounded as in the real program.
    let check = Check { modified: 1_700_000_000.25, ..Check::default() };
    assert_eq!(check.config_version(), "1700000000249999872");
    let two = round(json!({"settings": {"tcp": {}, "ping": {}}}));
    assert_eq!(read_json::<Check>(two.to_string().as_bytes()).unwrap().kind(), None);
    let one: Check = read_json(br#"{"settings":{"multihttp":{}}}"#).unwrap();
    assert_eq!(one.kind().map(CheckKind::name), Some("multihttp"));
}

#[test]
fn a_password_shows_nowhere() {
    let remote = Remote { password: "hunter2".to_owned(), ..Remote::default() };
    assert!(!format!("{remote:?}").contains("hunter2"));
    assert_eq!(remote.masked().password, Remote::MASK);
}
