use serde_json::{Value, json};

use crate::validate::{self, LabelRules};
use crate::words::{Check, read_json};

const RULES: LabelRules = LabelRules { max_labels: 5, max_bytes: 32 };

/// A check that holds, with some members replaced.
fn check_with(changes: Value) -> Check {
    let mut document = json!({
        "target": "http://127.0.0.1/", "job": "j", "frequency": 60_000, "timeout": 3_000,
        "probes": [1], "labels": null, "settings": {"http": {}},
    });
    for (name, value) in changes.as_object().unwrap() {
        document[name] = value.clone();
    }
    read_json(document.to_string().as_bytes()).unwrap()
}

fn check(changes: Value, expected: &str) {
    let got = validate::check(&check_with(changes.clone()), RULES);
    assert_eq!(got.map_or_else(|e| e.0, |()| "ok".to_owned()), expected, "{changes}");
}

#[test]
fn general_rules() {
    check(json!({}), "ok");
    check(json!({"probes": []}), "invalid check probes");
    check(json!({"target": ""}), "invalid check target");
    check(json!({"job": "__internal__"}), "invalid check job");
    check(json!({"frequency": 999}), "invalid check frequency");
    check(json!({"frequency": 3_600_001}), "invalid check frequency");
    check(json!({"frequency": 2_000, "timeout": 2_001}), "invalid check timeout");
    check(json!({"frequency": 120_000, "timeout": 60_001}), "invalid check timeout");
    check(json!({"settings": {}}), "invalid check settings");
    check(json!({"settings": {"http": {}, "ping": {}}}), "invalid check settings");
    check(json!({"settings": {"http": {}, "ping": null}}), "ok");
    check(
        json!({"settings": {"browser": {"script": "eA=="}}}),
        "browser checks are not supported by this server",
    );
}

#[test]
fn labels() {
    let label = |name: &str, value: &str| json!({"labels": [{"name": name, "value": value}]});
    check(label("9_a", "é"), "ok");
    check(label("a-b", "x"), "invalid label name");
    check(label("", "x"), "invalid label name");
    check(label("a", ""), "invalid label value");
    check(label("a", &"é".repeat(17)), "invalid label value");
    check(label("a", &"é".repeat(16)), "ok");
    let twice = json!({"labels": [{"name": "a", "value": "1"}, {"name": "a", "value": "2"}]});
    check(twice, "label name a: duplicate label name");
    let six: Vec<Value> = (0..6).map(|i| json!({"name": format!("l{i}"), "value": "v"})).collect();
    check(json!({"labels": six}), "too many labels: 6, limit 5");
}

#[test]
fn targets() {
    let of = |kind: &str, target: &str| json!({"target": target, "settings": {kind: {}}});
    for (kind, target, expected) in [
        ("http", "https://[::1]:8443/a?b=c", "ok"),
        ("http", "HTTP://a.b", "ok"),
        ("http", "http://a.b/%zz", "invalid HTTP URL"),
        ("http", "ftp://127.0.0.1/x", "invalid HTTP URL"),
        ("http", " http://127.0.0.1/", "invalid HTTP URL"),
        ("http", "not a url", "invalid HTTP URL"),
        ("http", "http://", "invalid hostname"),
        ("http", "http://localhost/", "invalid hostname"),
        ("http", "http://u@a.b/", "HTTP URL contains username"),
        ("http", "http://u:p@a.b/", "HTTP URL contains username and password"),
        ("http", "http://a.b:0/", "invalid port"),
        ("tcp", "127.0.0.1:80", "ok"),
        ("tcp", "[::1]:80", "ok"),
        ("tcp", "::1:80", "invalid check target"),
        ("tcp", "127.0.0.1", "invalid check target"),
        ("tcp", "127.0.0.1:65536", "invalid port"),
        ("tcp", "127.0.0.1:http", "invalid port"),
        ("tcp", ":80", "invalid hostname"),
        ("ping", "256.256.256.256", "invalid ping hostname"),
        ("ping", "a..b", "invalid ping hostname"),
        ("ping", "-x.example.org", "invalid ping hostname"),
        ("ping", "x.example.org", "ok"),
    ] {
        check(of(kind, target), expected);
    }
    let dns = |target: &str| json!({"target": target, "settings": {"dns": {"server": "127.0.0.1"}}});
    check(dns("org."), "ok");
    check(dns("org"), "invalid DNS name");
    check(dns("localhost"), "ok");
    check(dns("_srv.exämple.org"), "ok");
    check(dns("a..b"), "invalid DNS name");
}

#[test]
fn settings() {
    let http = |settings: Value| json!({"settings": {"http": settings}});
    check(http(json!({"headers": ["no colon"]})), "invalid HTTP headers");
    check(http(json!({"headers": ["A b: c"]})), "invalid HTTP headers");
    check(http(json!({"headers": ["X-A: c"]})), "ok");
    check(http(json!({"proxyURL": "socks5://x"})), "invalid proxy URL");
    check(http(json!({"proxyConnectHeaders": ["a: b"]})), "invalid proxy settings");
    let regexp = http(json!({"failIfBodyMatchesRegexp": ["("]}));
    check(regexp, "invalid HTTP fail if body matches regexp");
    let header = http(json!({"failIfHeaderNotMatchesRegexp": [{"header": "a", "regexp": "("}]}));
    check(header, "invalid HTTP fail if header not matches regexp");
    let ping = |settings: Value| json!({"target": "127.0.0.1", "settings": {"ping": settings}});
    check(ping(json!({"payloadSize": 65_500})), "invalid ping payload size");
    check(ping(json!({"packetCount": 11})), "invalid ping packet count");
}

#[test]
fn several_requests() {
    let entries = |entries: Value| json!({"target": "x", "settings": {"multihttp": {"entries": entries}}});
    let one = |entry: Value| entries(json!([entry]));
    let request = json!({"url": "http://a.b/", "method": "GET"});
    check(entries(json!([])), "invalid multi-http targets");
    check(one(json!({})), "invalid multi-http targets");
    check(one(json!({"request": request})), "ok");
    check(one(json!({"request": {"url": "${base}/x"}})), "ok");
    let body = json!({"url": "http://a.b/", "body": {"payload": "eA=="}});
    check(one(json!({"request": body})), "invalid HTTP request body content type");
    for (assertion, expected) in [
        (json!({"type": 0}), "invalid multi-http assertion, missing value"),
        (
            json!({"type": 0, "value": "v", "expression": "e"}),
            "invalid multi-http assertion, expression not allowed",
        ),
        (json!({"type": 0, "value": "v", "expression": "e", "subject": 1}), "ok"),
        (json!({"type": 1, "value": "v", "expression": "$.a", "subject": 2}), "invalid multi-http assertion"),
        (json!({"type": 2, "expression": "$.a"}), "ok"),
        (json!({"type": 3, "expression": "a", "condition": 1}), "invalid multi-http assertion"),
        (json!({"type": 9}), "invalid multi-http assertion"),
    ] {
        check(one(json!({"request": request, "checks": [assertion]})), expected);
    }
    let deep = json!({"type": 2, "expression": format!("$[?{}@{}]", "(".repeat(20), ")".repeat(20))});
    check(one(json!({"request": request, "checks": [deep]})), "invalid multi-http assertion");
    for expression in [":not(".repeat(20), "p ".repeat(600)] {
        let deep = json!({"type": 2, "name": "n", "expression": expression});
        check(one(json!({"request": request, "variables": [deep]})), "invalid multi-http variable");
    }
    let variable = json!({"type": 0, "name": "n", "expression": "e"});
    let twice = one(json!({"request": request, "variables": [variable, variable]}));
    check(twice, "multi-http variable names must be unique");
}
