//! Who asks, and may he: the root token, a token of the control plane, or nobody.
//!
//! There is one order of headers, one comparison, and one place where a scope is asked for; the
//! routes only name theirs.

use pilothouse_model::limits;
use pilothouse_model::limits::FAILED_LOGINS_AT_ONCE;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, header};
use parking_lot::Mutex;
use pilothouse_control::{Actor, Control, Grant};
use tokio::sync::Semaphore;

use crate::routes::Scope;

/// How requests are admitted. Tokens never print.
#[derive(Clone)]
pub enum Auth {
    /// Nothing is checked.
    Off,
    /// Every route but the open ones needs the root token, or a token with the route's scope.
    Required { root: String, control: Arc<Control> },
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Off => "Off",
            Self::Required { .. } => "Required",
        })
    }
}

/// Who sends a request.
#[derive(Debug, Clone)]
pub(crate) enum Caller {
    /// Anybody, while nothing is checked, and whoever uses an open route.
    Anyone,
    Root,
    Token(Arc<Grant>),
}

/// Why a request is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No token, or none that is known.
    Unauthorized,
    /// A known token that may not do this.
    Forbidden,
}

impl Caller {
    pub(crate) fn may(&self, scope: Scope) -> bool {
        match self {
            Self::Anyone | Self::Root => true,
            Self::Token(grant) => scope == Scope::Open || grant.scopes().intersects(scope.granted_by()),
        }
    }

    pub(crate) fn grant(&self) -> Option<&Grant> {
        match self {
            Self::Token(grant) => Some(grant),
            Self::Anyone | Self::Root => None,
        }
    }

    /// As the audit trail names him. Tokens change nothing that it tells of.
    pub(crate) fn actor(&self, peer: Option<Peer>) -> Actor {
        let address = peer.map(|p| p.0.ip());
        match self {
            Self::Root => Actor::root(address),
            Self::Anyone | Self::Token(_) => Actor::anyone(address),
        }
    }
}

impl Auth {
    /// Who asks, if he may.
    pub(crate) fn admit(&self, scope: Scope, headers: &HeaderMap) -> Result<Caller, Refusal> {
        let caller = self.caller(scope, headers)?;
        if caller.may(scope) { Ok(caller) } else { Err(Refusal::Forbidden) }
    }

    pub(crate) fn permits(&self, scope: Scope, headers: &HeaderMap) -> bool {
        self.admit(scope, headers).is_ok()
    }

    /// Whether a token may register tenants of Synthetic Monitoring: the root token, or any while
    /// nothing is checked.
    pub(crate) fn is_publisher(&self, token: &str) -> bool {
        match self {
            Self::Off => true,
            Self::Required { root, .. } => same(token.as_bytes(), root.as_bytes()),
        }
    }

    fn caller(&self, scope: Scope, headers: &HeaderMap) -> Result<Caller, Refusal> {
        let Self::Required { root, control } = self else { return Ok(Caller::Anyone) };
        let is_root = |secret: &str| same(secret.as_bytes(), root.as_bytes());
        match scope {
            Scope::Open | Scope::Synthetic => return Ok(Caller::Anyone),
            Scope::Management => {
                let secret = text(headers, MANAGEMENT_KEY).ok_or(Refusal::Unauthorized)?;
                return if is_root(&secret) { Ok(Caller::Root) } else { Err(Refusal::Unauthorized) };
            }
            _ => {}
        }
        let secret = presented(headers, is_root).ok_or(Refusal::Unauthorized)?;
        if is_root(&secret) {
            return Ok(Caller::Root);
        }
        control.grant(&secret).map(Caller::Token).ok_or(Refusal::Unauthorized)
    }
}

/// The key of the management API. On the data plane it carries the root token and no other.
const MANAGEMENT_KEY: &str = "x-auth-token";

/// The token of a request: the first of these headers that is there and not empty decides, even
/// when it makes no sense. A tenant's name in `X-Scope-OrgID` beside a token does no harm.
fn presented(headers: &HeaderMap, is_root: impl Fn(&str) -> bool) -> Option<String> {
    let is_there = |name: &str| headers.get(name).is_some_and(|v| !v.is_empty());
    if is_there("x-token") {
        return text(headers, "x-token");
    }
    if is_there(header::AUTHORIZATION.as_str()) {
        return from_authorization(&text(headers, header::AUTHORIZATION.as_str())?);
    }
    let key = text(headers, MANAGEMENT_KEY).filter(|key| is_root(key));
    key.or_else(|| text(headers, "x-scope-orgid"))
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|v| v.to_str().ok()).filter(|v| !v.is_empty()).map(str::to_owned)
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

// ---- who guesses ----

/// The other end of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Failed attempts by address. Beyond a burst their refusals are held back, so that guessing
/// takes long; what has a valid token is never held back, whatever comes from beside it.
#[derive(Debug)]
pub(crate) struct Failures {
    recent: Mutex<HashMap<IpAddr, Burst>>,
    /// Refusals that may wait at once; beyond, they are told at once, so that waiting costs an
    /// attacker's memory rather than ours.
    waiting: Semaphore,
}

#[derive(Debug, Clone, Copy)]
struct Burst {
    since: Instant,
    count: u32,
}

const BURST_WINDOW: Duration = Duration::from_secs(60);
const PENALTY: Duration = Duration::from_secs(1);

impl Default for Failures {
    fn default() -> Self {
        Self { recent: Mutex::default(), waiting: Semaphore::new(limits::FAILED_LOGINS_WAITING) }
    }
}

impl Failures {
    /// Notes an attempt that failed; returns when it may be answered.
    pub(crate) async fn hold(&self, peer: Option<Peer>) {
        let Some(Peer(address)) = peer else { return };
        if self.is_burst(network_of(address.ip()), Instant::now())
            && let Ok(_place) = self.waiting.try_acquire()
        {
            tokio::time::sleep(PENALTY).await;
        }
    }

    fn is_burst(&self, address: IpAddr, now: Instant) -> bool {
        let mut recent = self.recent.lock();
        if recent.len() >= limits::FAILED_LOGIN_ADDRESSES && !recent.contains_key(&address) {
            recent.retain(|_, burst| now.duration_since(burst.since) < BURST_WINDOW);
            if recent.len() >= limits::FAILED_LOGIN_ADDRESSES {
                return true;
            }
        }
        let burst = recent.entry(address).or_insert(Burst { since: now, count: 0 });
        if now.duration_since(burst.since) >= BURST_WINDOW {
            *burst = Burst { since: now, count: 0 };
        }
        burst.count = burst.count.saturating_add(1);
        burst.count > FAILED_LOGINS_AT_ONCE
    }
}

/// What one guesser has for himself: an address, or a /64 of IPv6.
fn network_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use pilothouse_control::{NewToken, Options, ProjectId, Region, Scopes};

    use super::*;

    const ROOT: &str = "s3cret:x";

    fn auth() -> (Auth, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let control = Control::open(&directory.path().join("control.redb"), Options::default()).unwrap();
        (Auth::Required { root: ROOT.to_owned(), control: Arc::new(control) }, directory)
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(
                name.to_ascii_lowercase().parse::<header::HeaderName>().unwrap(),
                value.parse().unwrap(),
            );
        }
        headers
    }

    #[test]
    fn each_form_of_the_token_is_taken_and_the_first_present_decides() {
        let (auth, _directory) = auth();
        let permits = |pairs: &[(&'static str, &str)]| auth.permits(Scope::ReadMetrics, &headers(pairs));
        for good in [
            ("X-Token", ROOT),
            ("Authorization", "Bearer s3cret:x"),
            ("authorization", "bEARER  s3cret:x"),
            ("Authorization", "Basic dXNlcjpzM2NyZXQ6eA=="),
            ("Authorization", "Basic OnMzY3JldDp4"),
            ("X-Scope-OrgID", ROOT),
            ("X-Auth-Token", ROOT),
        ] {
            assert!(permits(&[good]), "{good:?}");
        }
        for bad in ["wrong", "s3cret:y", "s3cret:xx"] {
            assert!(!permits(&[("x-token", bad)]), "{bad}");
        }
        assert!(!permits(&[]));
        assert!(!permits(&[("authorization", "Basic !!!")]));
        assert!(permits(&[("authorization", "Bearer s3cret:x"), ("x-scope-orgid", "tenant")]));
        assert!(permits(&[("x-auth-token", "other"), ("x-scope-orgid", ROOT)]));
        assert!(!permits(&[("x-token", "wrong"), ("authorization", "Bearer s3cret:x")]));
        assert!(permits(&[("x-token", ""), ("authorization", "Bearer s3cret:x")]));
        assert!(auth.permits(Scope::Open, &HeaderMap::new()));
        assert!(Auth::Off.permits(Scope::Root, &HeaderMap::new()));
    }

    #[test]
    fn the_management_key_has_a_header_of_its_own() {
        let (auth, _directory) = auth();
        for (name, permitted) in [("X-Auth-Token", true), ("X-Token", false), ("X-Scope-OrgID", false)] {
            assert_eq!(auth.permits(Scope::Management, &headers(&[(name, ROOT)])), permitted, "{name}");
        }
    }

    #[test]
    fn a_token_may_what_its_scopes_say_until_it_is_deleted() {
        let (auth, _directory) = auth();
        let Auth::Required { control, .. } = &auth else { unreachable!() };
        let new = NewToken {
            project: ProjectId::DEFAULT,
            region: Region::FrPar,
            name: "t".to_owned(),
            scopes: Scopes::from_iter([pilothouse_control::Scope::ReadLogs]),
        };
        let (token, secret) = control.create_token(&Actor::server(), new).unwrap();
        let admit = |scope| auth.admit(scope, &headers(&[("x-token", secret.reveal())])).map(|_| ());
        assert_eq!(admit(Scope::ReadLogs), Ok(()));
        assert_eq!(admit(Scope::ReadRules), Ok(()));
        assert_eq!(admit(Scope::ReadMetrics), Err(Refusal::Forbidden));
        assert_eq!(admit(Scope::Root), Err(Refusal::Forbidden));
        let as_key = auth.admit(Scope::Management, &headers(&[("x-auth-token", secret.reveal())]));
        assert_eq!(as_key.map(|_| ()), Err(Refusal::Unauthorized));
        control.delete_token(&Actor::server(), Region::FrPar, token.id).unwrap();
        assert_eq!(admit(Scope::ReadLogs), Err(Refusal::Unauthorized));
    }

    #[test]
    fn only_a_burst_of_failures_is_held_back() {
        let failures = Failures::default();
        let (a, b): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let start = Instant::now();
        assert!((0..FAILED_LOGINS_AT_ONCE).all(|_| !failures.is_burst(a, start)));
        assert!(failures.is_burst(a, start) && !failures.is_burst(b, start));
        assert!(!failures.is_burst(a, start + BURST_WINDOW));
        let v6 = |text: &str| network_of(text.parse().unwrap());
        assert_eq!(v6("2001:db8::1"), v6("2001:db8::ffff:1"));
        assert_eq!(v6("::ffff:10.0.0.1"), a);
    }
}
