//! A `Content-Type` as Go's package mime reads it, whose words Loki hands on.

/// The type and its subtype, without parameters, which are checked.
pub(super) fn essence(value: &str) -> Result<&str, &'static str> {
    let (base, parameters) = match value.find(';') {
        Some(at) => value.split_at(at),
        None => (value, ""),
    };
    let base = base.trim();
    let (main, rest) = token(base);
    if main.is_empty() {
        return Err("mime: no media type");
    }
    if !rest.is_empty() {
        let subtype = rest.strip_prefix('/').ok_or("mime: expected slash after first token")?;
        match token(subtype) {
            ("", _) => return Err("mime: expected token after slash"),
            (_, "") => {}
            _ => return Err("mime: unexpected content after media subtype"),
        }
    }
    check_parameters(parameters)?;
    Ok(base)
}

/// A run of letters that may stand without quotes, and what follows it.
fn token(text: &str) -> (&str, &str) {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    text.split_at(text.bytes().position(|b| !allowed(b)).unwrap_or(text.len()))
}

/// `; name=value` any number of times; a semicolon alone may end the list.
fn check_parameters(mut text: &str) -> Result<(), &'static str> {
    let mut names: Vec<String> = Vec::new();
    loop {
        text = text.trim_start();
        if text.is_empty() || text.trim_end() == ";" {
            return Ok(());
        }
        let (name, rest) = parameter(text).ok_or("mime: invalid media parameter")?;
        let name = name.to_ascii_lowercase();
        if names.contains(&name) {
            return Err("mime: duplicate parameter name");
        }
        names.push(name);
        text = rest;
    }
}

fn parameter(text: &str) -> Option<(&str, &str)> {
    let (name, rest) = token(text.strip_prefix(';')?.trim_start());
    let value = rest.trim_start().strip_prefix('=')?.trim_start();
    let rest = match value.strip_prefix('"') {
        Some(quoted) => behind_quote(quoted)?,
        None => Some(token(value)).filter(|(value, _)| !value.is_empty())?.1,
    };
    (!name.is_empty()).then_some((name, rest))
}

fn behind_quote(text: &str) -> Option<&str> {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return text.get(at + 1..),
            b'\r' | b'\n' => return None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_read_as_go_reads_them() {
        for (value, read) in [
            ("application/json", Ok("application/json")),
            (" Application/JSON ; charset=utf-8", Ok("Application/JSON")),
            ("text", Ok("text")),
            ("a/b;", Ok("a/b")),
            ("a/b; x=\"y; \\\" z\"; q=1", Ok("a/b")),
            ("", Err("mime: no media type")),
            (";", Err("mime: no media type")),
            ("/json", Err("mime: no media type")),
            ("a b/c", Err("mime: expected slash after first token")),
            ("a/", Err("mime: expected token after slash")),
            ("a/b/c", Err("mime: unexpected content after media subtype")),
            ("a/b; charset", Err("mime: invalid media parameter")),
            ("a/b; =x", Err("mime: invalid media parameter")),
            ("a/b; x=", Err("mime: invalid media parameter")),
            ("a/b; x=\"y", Err("mime: invalid media parameter")),
            ("a/b; x=1; X=2", Err("mime: duplicate parameter name")),
        ] {
            assert_eq!(essence(value), read, "{value}");
        }
    }
}
