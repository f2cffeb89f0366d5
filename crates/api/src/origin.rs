//! Requests that a browser sends for somebody else's page.
//!
//! Where no token is asked for, any page that a person on this machine opens could have the browser
//! change the configuration, delete data or read secrets. Pages of others may ask and push, as they may
//! of Prometheus and Loki; the rest is not for them. Where tokens are asked for a page has none: nothing
//! here goes by cookies. Programs that are no browsers name no origin.

use http::{HeaderMap, Method, Uri, header};

use crate::alertmanager;
use crate::routes::{Endpoint, Route, Scope};

/// Origins that count as this server's own, beside the host that a request came to: `https://a.example`.
#[derive(Debug, Clone, Default)]
pub struct Origins(Vec<String>);

impl Origins {
    /// Of addresses, with or without a path.
    pub fn of<'a>(urls: impl IntoIterator<Item = &'a str>) -> Self {
        Self(urls.into_iter().filter_map(origin_of).collect())
    }

    pub(crate) fn contains(&self, origin: &str) -> bool {
        self.0.iter().any(|own| own.eq_ignore_ascii_case(origin))
    }
}

/// As browsers write it: without what follows the host, and without the port that goes without saying.
fn origin_of(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split('/').next().unwrap_or(rest);
    Some(format!("{scheme}://{}", without_usual_port(scheme, authority)))
}

fn without_usual_port<'a>(scheme: &str, authority: &'a str) -> &'a str {
    let usual = if scheme.eq_ignore_ascii_case("https") { ":443" } else { ":80" };
    authority.strip_suffix(usual).unwrap_or(authority)
}

/// What a proxy says that the browser asked for. A page can say nothing in this header without being
/// allowed to first, which it is not.
const FORWARDED_HOST: &str = "x-forwarded-host";

/// Whether the request comes from a page of another origin than this server's, by the browser's word.
pub(crate) fn is_foreign(headers: &HeaderMap, uri: &Uri, own: &Origins) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let Some(origin) = text(header::ORIGIN.as_str()) else { return false };
    if own.contains(origin) {
        return false;
    }
    if let Some(site) = text("sec-fetch-site") {
        return matches!(site, "cross-site" | "same-site");
    }
    let Some((scheme, authority)) = origin.split_once("://") else { return true };
    let is_asked_for = |host: &str| without_usual_port(scheme, host.trim()).eq_ignore_ascii_case(authority);
    let host = text(header::HOST.as_str()).or_else(|| uri.authority().map(|a| a.as_str()));
    let forwarded = text(FORWARDED_HOST).and_then(|hosts| hosts.split(',').next());
    !host.into_iter().chain(forwarded).any(is_asked_for)
}

/// Whether such a page may use a route where no token is asked for.
pub(crate) fn is_open(route: &Route, method: &Method) -> bool {
    match route.scope {
        Scope::Open
        | Scope::ReadMetrics
        | Scope::WriteMetrics
        | Scope::ReadLogs
        | Scope::WriteLogs
        | Scope::ReadRules => true,
        // The configuration is shown with its secrets.
        Scope::Alertmanager => {
            matches!(*method, Method::GET | Method::HEAD)
                && route.endpoint != Endpoint::Alertmanager(alertmanager::Endpoint::Config)
        }
        Scope::MetricsRules | Scope::LogsRules | Scope::Root | Scope::Management | Scope::Synthetic => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_others_are_told_by_what_the_browser_says() {
        let cases: [(&[(&'static str, &str)], bool); 22] = [
            (&[], false),
            (&[("host", "a:1")], false),
            (&[("host", "a:1"), ("origin", "http://a:1")], false),
            (&[("host", "a:1"), ("origin", "http://a:2")], true),
            (&[("host", "a:1"), ("origin", "https://evil.example")], true),
            (&[("host", "a:1"), ("origin", "null")], true),
            (&[("origin", "http://b:1")], true),
            (&[("origin", "http://u:1")], false),
            // A proxy may have changed the host; the browser knows better.
            (&[("host", "a:1"), ("origin", "http://x"), ("sec-fetch-site", "same-origin")], false),
            (&[("host", "a:1"), ("origin", "http://a:1"), ("sec-fetch-site", "cross-site")], true),
            (&[("host", "a:1"), ("origin", "http://a:2"), ("sec-fetch-site", "same-site")], true),
            (&[("sec-fetch-site", "cross-site")], false),
            // One in front that speaks plain HTTP, so that the browser says no more than the origin.
            (&[("host", "a:1"), ("origin", "http://front"), ("x-forwarded-host", "front")], false),
            (&[("host", "a:1"), ("origin", "http://front"), ("x-forwarded-host", "front, a:1")], false),
            (&[("host", "a:1"), ("origin", "http://evil"), ("x-forwarded-host", "front")], true),
            (&[("host", "front:80"), ("origin", "http://front")], false),
            (&[("host", "front:80"), ("origin", "https://front")], true),
            // What the configuration names.
            (&[("host", "a:1"), ("origin", "https://out.example")], false),
            (&[("host", "a:1"), ("origin", "https://out.example"), ("sec-fetch-site", "cross-site")], false),
            (&[("host", "a:1"), ("origin", "http://out.example")], true),
            (&[("host", "a:1"), ("origin", "https://grafana.example:8443")], false),
            (&[("host", "a:1"), ("origin", "https://grafana.example")], true),
        ];
        let own = Origins::of(["https://out.example:443/below", "https://Grafana.example:8443"]);
        for (pairs, expected) in cases {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, value.parse().unwrap());
            }
            let uri = "http://u:1/x".parse().unwrap();
            assert_eq!(is_foreign(&headers, &uri, &own), expected, "{pairs:?}");
        }
    }
}
