//! Who may use a route: today the root token or nobody.

use http::{HeaderMap, header};

use crate::routes::Scope;

/// How requests are admitted. The token never prints.
#[derive(Clone)]
pub enum Auth {
    /// Nothing is checked.
    Off,
    /// Every route but the open ones needs this token.
    RootToken(String),
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Off => "Off",
            Self::RootToken(_) => "RootToken(…)",
        })
    }
}

impl Auth {
    pub(crate) fn permits(&self, scope: Scope, headers: &HeaderMap) -> bool {
        match self {
            Self::Off => true,
            Self::RootToken(token) => {
                scope == Scope::Open
                    || presented(headers).is_some_and(|t| same(t.as_bytes(), token.as_bytes()))
            }
        }
    }
}

/// The token of a request: the first of these headers that is there and not empty decides. A
/// tenant's name in `X-Scope-OrgID` beside a token therefore does no harm.
fn presented(headers: &HeaderMap) -> Option<String> {
    let plain = |name: &str| {
        headers.get(name).and_then(|v| v.to_str().ok()).filter(|v| !v.is_empty()).map(str::to_owned)
    };
    if let Some(token) = plain("x-token") {
        return Some(token);
    }
    if let Some(value) = plain(header::AUTHORIZATION.as_str()) {
        return from_authorization(&value);
    }
    plain("x-auth-token").or_else(|| plain("x-scope-orgid"))
}

/// `Bearer TOKEN`, or the password of `Basic`, which is what follows the first colon.
fn from_authorization(value: &str) -> Option<String> {
    let (scheme, rest) = value.trim().split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(decode_base64(rest)?).ok()?;
    decoded.split_once(':').map(|(_, password)| password.to_owned())
}

/// Standard base64, padded or not.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let (mut out, mut bits, mut held) = (Vec::with_capacity(text.len()), 0u32, 0u32);
    for byte in text.trim_end_matches('=').bytes() {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(six)) & 0xffff;
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    Some(out)
}

/// Compares in a time that depends on the length alone.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0u8, |differ, (x, y)| differ | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_of_the_token_is_taken_and_the_first_present_decides() {
        let auth = Auth::RootToken("s3cret:x".to_owned());
        let permits = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, value.parse().unwrap());
            }
            auth.permits(Scope::ReadMetrics, &headers)
        };
        for good in [
            ("X-Token", "s3cret:x"),
            ("Authorization", "Bearer s3cret:x"),
            ("authorization", "bEARER  s3cret:x"),
            ("Authorization", "Basic dXNlcjpzM2NyZXQ6eA=="),
            ("Authorization", "Basic OnMzY3JldDp4"),
            ("X-Scope-OrgID", "s3cret:x"),
            ("X-Auth-Token", "s3cret:x"),
        ] {
            let lower: &'static str = good.0.to_ascii_lowercase().leak();
            assert!(permits(&[(lower, good.1)]), "{good:?}");
        }
        for bad in ["wrong", "s3cret:y", "s3cret:xx"] {
            assert!(!permits(&[("x-token", bad)]), "{bad}");
        }
        assert!(!permits(&[]));
        assert!(!permits(&[("authorization", "Basic !!!")]));
        assert!(permits(&[("authorization", "Bearer s3cret:x"), ("x-scope-orgid", "tenant")]));
        assert!(!permits(&[("x-token", "wrong"), ("authorization", "Bearer s3cret:x")]));
        assert!(auth.permits(Scope::Open, &HeaderMap::new()));
        assert!(Auth::Off.permits(Scope::Root, &HeaderMap::new()));
    }
}
