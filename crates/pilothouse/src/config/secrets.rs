//! Secrets within documents: fields that hold one are known by their names, wherever they stand.

use pilothouse_net::{REDACTED, Secret};
use serde_json::{Map, Value};

use super::values::Setting as _;

const SECRETS: [&str; 7] =
    ["password", "credentials", "client_secret", "bearer_token", "key", "secrets", "proxy_connect_header"];

/// Addresses that may name a user and a password even where they name no scheme; what has one is known by
/// it, wherever it stands.
const ADDRESSES: [&str; 1] = ["proxy_url"];

/// The document with each secret that is `file:` and a path read from there, as for every other key.
pub(super) fn resolved(document: Value) -> Result<Value, String> {
    let read =
        |secret: Value| texts(secret, &|text: String| Ok(Secret::from_text(&text)?.expose().to_owned()));
    change(document, &read, &Ok)
}

/// The document without its secrets, of the same shape, so that what is shown can be read again.
pub(super) fn hidden(document: Value) -> Value {
    let hide = |secret: Value| texts(secret, &|_: String| Ok(REDACTED.to_owned()));
    let hide_user = |address: Value| texts(address, &|text: String| Ok(without_user(&text)));
    change(document, &hide, &hide_user).unwrap_or_default()
}

type Changed = Result<Value, String>;

/// An address whose user and password, if it has any, are hidden.
fn without_user(address: &str) -> String {
    let (scheme, rest) = address.split_once("://").unwrap_or(("", address));
    let authority = rest.find(['/', '?', '#']).map_or(rest, |end| rest.get(..end).unwrap_or(rest));
    let Some((user, _)) = authority.rsplit_once('@') else { return address.to_owned() };
    let shown = rest.get(user.len()..).unwrap_or_default();
    if scheme.is_empty() { format!("{REDACTED}{shown}") } else { format!("{scheme}://{REDACTED}{shown}") }
}

fn change(
    document: Value,
    secret: &impl Fn(Value) -> Changed,
    address: &impl Fn(Value) -> Changed,
) -> Changed {
    match document {
        Value::Array(items) => items.into_iter().map(|item| change(item, secret, address)).collect(),
        Value::Object(members) => {
            let member = |(name, value): (String, Value)| {
                let value = match name.as_str() {
                    name if SECRETS.contains(&name) => secret(value)?,
                    name if ADDRESSES.contains(&name) => address(value)?,
                    _ => change(value, secret, address)?,
                };
                Ok((name, value))
            };
            Ok(Value::Object(members.into_iter().map(member).collect::<Result<Map<_, _>, String>>()?))
        }
        Value::String(text) if text.contains("://") => address(Value::String(text)),
        other => Ok(other),
    }
}

/// All texts of a value; an empty one is none.
fn texts(value: Value, of: &impl Fn(String) -> Result<String, String>) -> Changed {
    match value {
        Value::Array(items) => items.into_iter().map(|item| texts(item, of)).collect(),
        Value::Object(members) => {
            let member = |(name, value): (String, Value)| Ok((name, texts(value, of)?));
            Ok(Value::Object(members.into_iter().map(member).collect::<Result<Map<_, _>, String>>()?))
        }
        Value::String(text) if text.is_empty() => Ok(Value::String(text)),
        Value::String(text) => of(text).map(Value::String),
        // A password may look like a number.
        Value::Number(number) => of(number.to_string()).map(Value::String),
        other => Ok(other),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_read_from_files_and_hidden() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        std::fs::write(&path, "hush\n").unwrap();
        let said = json!({"a": [{"password": format!("file:{}", path.display()), "username": "file:u", "key": ""}],
            "secrets": ["x", 7], "proxy_connect_header": {"X-A": ["y"]}, "urls": ["http://u:p@there/?x", "n@b"]});
        let resolved = resolved(said).unwrap();
        assert_eq!(
            resolved,
            json!({"a": [{"password": "hush", "username": "file:u", "key": ""}],
                "secrets": ["x", "7"], "proxy_connect_header": {"X-A": ["y"]}, "urls": ["http://u:p@there/?x", "n@b"]})
        );
        assert_eq!(
            hidden(resolved),
            json!({"a": [{"password": REDACTED, "username": "file:u", "key": ""}],
                "secrets": [REDACTED, REDACTED], "proxy_connect_header": {"X-A": [REDACTED]},
                "urls": [format!("http://{REDACTED}@there/?x"), "n@b"]})
        );
        assert_eq!(without_user("http://u:p@proxy:3128/x@y"), format!("http://{REDACTED}@proxy:3128/x@y"));
        assert_eq!(without_user("http://proxy:3128/x@y"), "http://proxy:3128/x@y");
        let missing = super::resolved(json!({"password": "file:/no/such/file"})).unwrap_err();
        assert!(missing.contains("/no/such/file"), "{missing}");
    }
}
