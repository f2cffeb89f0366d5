//! Requests that a browser sends for somebody else's page.
//!
//! Where no token is asked for, any page that a person on this machine opens could have the browser
//! change the configuration, delete data or read secrets. Pages of others may ask and push, as they may
//! of Prometheus and Loki; the rest is not for them. Where tokens are asked for a page has none: nothing
//! here goes by cookies. Programs that are no browsers name no origin.

use http::{HeaderMap, Method, Uri, header};

use crate::alertmanager;
use crate::routes::{Endpoint, Route, Scope};

/// Whether the request comes from a page of another origin than this server's, by the browser's word.
pub(crate) fn is_foreign(headers: &HeaderMap, uri: &Uri) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let Some(origin) = text(header::ORIGIN.as_str()) else { return false };
    if let Some(site) = text("sec-fetch-site") {
        return matches!(site, "cross-site" | "same-site");
    }
    let host = text(header::HOST.as_str()).or_else(|| uri.authority().map(|a| a.as_str()));
    origin.split_once("://").map(|(_, authority)| authority) != host
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
        let cases: [(&[(&'static str, &str)], bool); 12] = [
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
        ];
        for (pairs, expected) in cases {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, value.parse().unwrap());
            }
            let uri = "http://u:1/x".parse().unwrap();
            assert_eq!(is_foreign(&headers, &uri), expected, "{pairs:?}");
        }
    }
}
