//! Settings of an HTTP check.

use pilothouse_model::matcher::{Anchoring, Pattern};

use super::{Held, hold};
use crate::words::{HeaderMatch, HttpSettings};

pub(super) fn settings(http: &HttpSettings) -> Held {
    hold(http.headers.iter().all(|h| is_header_line(h)), "invalid HTTP headers")?;
    hold(http.proxy_url.is_empty() || is_http(&http.proxy_url), "invalid proxy URL")?;
    let without_proxy = http.proxy_url.is_empty() && !http.proxy_connect_headers.is_empty();
    hold(!without_proxy, "invalid proxy settings")?;
    let connect = http.proxy_connect_headers.iter().all(|h| is_header_line(h));
    hold(connect, "invalid HTTP proxy connect headers")?;
    let of = |matches: &[HeaderMatch]| matches.iter().all(|m| is_regexp(&m.regexp));
    let all = |regexps: &[String]| regexps.iter().all(|r| is_regexp(r));
    hold(all(&http.fail_if_body_matches_regexp), "invalid HTTP fail if body matches regexp")?;
    hold(all(&http.fail_if_body_not_matches_regexp), "invalid HTTP fail if body not matches regexp")?;
    hold(of(&http.fail_if_header_matches_regexp), "invalid HTTP fail if header matches regexp")?;
    hold(of(&http.fail_if_header_not_matches_regexp), "invalid HTTP fail if header not matches regexp")
}

fn is_http(url: &str) -> bool {
    url.split_once("://").is_some_and(|(scheme, rest)| {
        ["http", "https"].iter().any(|s| scheme.eq_ignore_ascii_case(s)) && !rest.contains(' ')
    })
}

fn is_header_line(line: &str) -> bool {
    line.split_once(':').is_some_and(|(name, value)| is_header_name(name) && is_header_value(value.trim()))
}

/// A token of RFC 9110.
pub(super) fn is_header_name(name: &str) -> bool {
    let mark = |b: u8| b"!#$%&'*+-.^_`|~".contains(&b);
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || mark(b))
}

pub(super) fn is_header_value(value: &str) -> bool {
    value.bytes().all(|b| b == b'\t' || (b >= b' ' && b != 0x7f))
}

pub(super) fn is_regexp(text: &str) -> bool {
    Pattern::new(text, Anchoring::Part).is_ok()
}
