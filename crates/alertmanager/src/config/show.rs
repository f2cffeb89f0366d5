//! A configuration as it may be shown: what was written and the defaults of `global`, with
//! `<secret>` for secrets.

use pilothouse_net::REDACTED;
use serde_norway::{Mapping, Value};

use super::global::SHOWN_DEFAULTS;

/// Fields that hold a secret wherever they stand.
const SECRETS: [&str; 31] = [
    "smtp_auth_password",
    "smtp_auth_secret",
    "slack_api_url",
    "slack_app_token",
    "opsgenie_api_key",
    "wechat_api_secret",
    "victorops_api_key",
    "telegram_bot_token",
    "rocketchat_token",
    "rocketchat_token_id",
    "mattermost_webhook_url",
    "auth_password",
    "auth_secret",
    "password",
    "credentials",
    "client_secret",
    "bearer_token",
    "key",
    "app_token",
    "service_key",
    "routing_key",
    "api_key",
    "api_secret",
    "user_key",
    "token",
    "token_id",
    "bot_token",
    "webhook_url",
    "alert_source_token",
    "secret_key",
    "client_certificate_key",
];

/// Fields that are secret only in one list of receivers, or public only in one.
fn is_secret(list: &str, field: &str) -> bool {
    match (list, field) {
        ("victorops_configs", "routing_key") => false,
        ("slack_configs", "api_url") => true,
        (_, field) => SECRETS.contains(&field),
    }
}

/// As YAML.
pub(super) fn shown(mut config: Value) -> String {
    redact(&mut config, "");
    if let Value::Mapping(map) = &mut config {
        complete(map);
    }
    serde_norway::to_string(&config).unwrap_or_default()
}

fn redact(value: &mut Value, list: &str) {
    match value {
        Value::Sequence(items) => items.iter_mut().for_each(|item| redact(item, list)),
        Value::Mapping(map) => {
            for (name, value) in map.iter_mut() {
                let name = name.as_str().unwrap_or_default();
                match value {
                    _ if matches!(name, "proxy_connect_header" | "secrets") => hide_all(value),
                    Value::Null | Value::Mapping(_) | Value::Sequence(_) => {
                        redact(value, if name.ends_with("_configs") { name } else { list });
                    }
                    Value::String(text) if text.is_empty() => {}
                    Value::String(text) if name == "proxy_url" => *text = without_password(text),
                    Value::String(text) if (list, name) == ("webhook_configs", "url") => {
                        *text = without_path(text);
                    }
                    _ if is_secret(list, name) => *value = Value::String(REDACTED.to_owned()),
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

fn hide_all(value: &mut Value) {
    match value {
        Value::Sequence(items) => items.iter_mut().for_each(hide_all),
        Value::Mapping(map) => map.iter_mut().for_each(|(_, value)| hide_all(value)),
        Value::Null => {}
        scalar => *scalar = Value::String(REDACTED.to_owned()),
    }
}

/// An address as Go prints it for others' eyes.
fn without_password(text: &str) -> String {
    match url::Url::parse(text) {
        Ok(mut url) if url.password().is_some() => {
            let _ = url.set_password(Some("xxxxx"));
            url.to_string()
        }
        _ => text.to_owned(),
    }
}

/// The address of a webhook with its host only: all else may be what it is known by. amtool to
/// 0.25 reads it as an address, which `<secret>` alone is not.
fn without_path(text: &str) -> String {
    match url::Url::parse(text) {
        Ok(url) if !text.contains("{{") && url.has_host() => {
            let host = &url[url::Position::BeforeHost..url::Position::AfterPort];
            format!("{}://{host}/{REDACTED}", url.scheme())
        }
        _ => REDACTED.to_owned(),
    }
}

/// Adds the defaults, in Alertmanager's order of fields.
fn complete(map: &mut Mapping) {
    let given = match map.remove("global") {
        Some(Value::Mapping(given)) => given,
        _ => Mapping::new(),
    };
    let mut global = Mapping::new();
    for (name, text) in SHOWN_DEFAULTS {
        let value = if text == "true" { Value::Bool(true) } else { Value::String(text.to_owned()) };
        global.insert(name.into(), value);
        if name == "resolve_timeout" {
            let http = [("follow_redirects", true), ("enable_http2", true)];
            global.insert(
                "http_config".into(),
                http.into_iter().map(|(n, v)| (n.into(), v.into())).collect::<Mapping>().into(),
            );
        }
    }
    global.extend(given);
    let mut all = Mapping::new();
    all.insert("global".into(), global.into());
    for name in ["route", "inhibit_rules", "receivers"] {
        if let Some(value) = map.remove(name) {
            all.insert(name.into(), value);
        }
    }
    if let Some(Value::Mapping(route)) = all.get_mut("route") {
        with_continue(route);
    }
    all.insert(
        "templates".into(),
        map.remove("templates").filter(Value::is_sequence).unwrap_or(Value::Sequence(Vec::new())),
    );
    all.extend(std::mem::take(map));
    *map = all;
}

/// Alertmanager shows `continue` of every route.
fn with_continue(route: &mut Mapping) {
    if !route.contains_key("continue") {
        route.insert("continue".into(), false.into());
    }
    if let Some(Value::Sequence(routes)) = route.get_mut("routes") {
        for route in routes.iter_mut().filter_map(Value::as_mapping_mut) {
            with_continue(route);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_webhook_only_the_host_is_shown() {
        for (url, shown) in [
            ("http://u:p@h:9/s3cret?x=s3cret#s3cret", "http://h:9/<secret>"),
            ("https://[::1]/s3cret", "https://[::1]/<secret>"),
            ("http://h", "http://h/<secret>"),
            ("http://h/{{ .s3cret }}", "<secret>"),
            ("<secret>", "<secret>"),
        ] {
            assert_eq!(without_path(url), shown);
        }
    }
}
