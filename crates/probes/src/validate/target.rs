//! Targets by kind of check.

use std::net::IpAddr;

use pilothouse_model::limits;

use super::{Held, Invalid, hold};
use crate::words::CheckKind;

pub(super) fn holds(kind: CheckKind, target: &str) -> Held {
    hold(target.len() <= limits::CHECK_TARGET_BYTES, "invalid target value")?;
    match kind {
        CheckKind::Http => http_url(target),
        CheckKind::Tcp | CheckKind::Grpc => host_and_port(target),
        CheckKind::Ping => hold(is_host(target), "invalid ping hostname"),
        CheckKind::Traceroute => hold(is_host(target), "invalid traceroute hostname"),
        CheckKind::Dns => hold(is_dns_name(target), "invalid DNS name"),
        // Its addresses are in the entries.
        CheckKind::MultiHttp | CheckKind::Scripted | CheckKind::Browser => Ok(()),
    }
}

/// An address, or a name of at least two labels whose last is not a number.
pub(super) fn is_host(text: &str) -> bool {
    if text.parse::<IpAddr>().is_ok() {
        return true;
    }
    let labels: Vec<&str> = text.split('.').collect();
    let number = |label: &str| label.bytes().all(|b| b.is_ascii_digit());
    text.len() <= 255
        && labels.len() >= 2
        && labels.iter().all(|label| is_label(label))
        && !labels.last().is_some_and(|label| number(label))
}

/// As RFC 1123 spells a part of a host's name.
fn is_label(label: &str) -> bool {
    let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = label.as_bytes();
    bytes.len() <= 63
        && ends(bytes.first())
        && ends(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
}

/// Any characters are allowed in a name that is asked for; a single label wants its dot.
fn is_dns_name(text: &str) -> bool {
    let fits = |label: &str| (1..=63).contains(&label.len());
    match text.strip_suffix('.').unwrap_or(text) {
        "localhost" => true,
        name => text.contains('.') && name.split('.').all(fits),
    }
}

fn host_and_port(target: &str) -> Held {
    let (host, port) = split_port(target).ok_or_else(|| Invalid::because("invalid check target"))?;
    hold(is_host(host), "invalid hostname")?;
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    hold(digits && port.parse::<u16>().is_ok_and(|port| port > 0), "invalid port")
}

/// `host:port`, where a host with colons stands in brackets.
fn split_port(target: &str) -> Option<(&str, &str)> {
    if let Some(rest) = target.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return rest.strip_prefix(':').map(|port| (host, port));
    }
    let (host, port) = target.rsplit_once(':')?;
    (!host.contains([':', '[', ']']) && !port.contains(']')).then_some((host, port))
}

/// An address of HTTP without credentials, as the real API takes it apart.
pub(super) fn http_url(target: &str) -> Held {
    hold(target.trim() == target && !target.contains(char::is_control), "invalid HTTP URL")?;
    let (scheme, rest) = target.split_once("://").ok_or_else(|| Invalid::because("invalid HTTP URL"))?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
    let host = match authority.rsplit_once('@') {
        None => authority,
        Some((user, _)) if user.contains(':') => {
            return Err(Invalid::because("HTTP URL contains username and password"));
        }
        Some(("", host)) => host,
        Some(_) => return Err(Invalid::because("HTTP URL contains username")),
    };
    let known = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    hold(known && !host.contains(char::is_whitespace) && escapes_hold(rest), "invalid HTTP URL")?;
    hold(!host.is_empty(), "invalid hostname")?;
    let has_port = split_port(host).is_some();
    // A port that is there but empty, or a second colon outside brackets, is no address.
    if has_port { host_and_port(host) } else { bare_host(host) }
}

fn bare_host(host: &str) -> Held {
    let inner = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    hold(is_host(inner), "invalid hostname")
}

/// Each `%` of a path is followed by two hexadecimal digits.
fn escapes_hold(rest: &str) -> bool {
    let path = rest.split(['?', '#']).next().unwrap_or("");
    path.split('%')
        .skip(1)
        .all(|after| after.len() >= 2 && after.bytes().take(2).all(|b| b.is_ascii_hexdigit()))
}
