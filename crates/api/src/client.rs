//! Who asks a query, as far as fairness goes.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::net::IpAddr;
use std::sync::LazyLock;

use http::{HeaderMap, header};

use crate::auth::{Caller, Peer};

/// Which program asks, for the metrics. A list that does not grow with what clients call
/// themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Grafana,
    Prometheus,
    /// Command lines.
    Tool,
    Browser,
    /// Pages of this server.
    Own,
    Other,
}

impl Kind {
    pub(crate) const ALL: [Self; 6] =
        [Self::Grafana, Self::Prometheus, Self::Tool, Self::Browser, Self::Own, Self::Other];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Grafana => "grafana",
            Self::Prometheus => "prometheus",
            Self::Tool => "tool",
            Self::Browser => "browser",
            Self::Own => "own",
            Self::Other => "other",
        }
    }

    /// By the first word of what it calls itself.
    fn of(product: &str) -> Self {
        match product {
            "grafana" => Self::Grafana,
            "prometheus" => Self::Prometheus,
            "curl" | "wget" | "promtool" | "loki-logcli" | "logcli" | "mimirtool" | "pilothouse" => {
                Self::Tool
            }
            "mozilla" => Self::Browser,
            _ => Self::Other,
        }
    }
}

/// A client of a caller. The caller is who holds the token, or who sits at the address; its
/// clients are its programs, and dashboards where they tell their names. What a client says of
/// itself decides only among the queries of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) caller: u64,
    pub(crate) id: u64,
    pub(crate) kind: Kind,
}

/// Numbers that nobody outside can aim at.
static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::new);

impl Client {
    /// `source` is the root that is asked.
    pub(crate) fn of(caller: &Caller, peer: Option<Peer>, source: &str, headers: &HeaderMap) -> Self {
        let token = caller.grant().map(|grant| grant.token().to_string());
        let address = match token {
            Some(_) => None,
            None => peer.map(|peer| peer.0.ip()),
        };
        let text = |name| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("");
        let product = product(text(header::USER_AGENT.as_str()));
        let told = [source, &product, text("x-dashboard-uid"), text("x-loki-actor-path")];
        Self::new(&token, address, &told, Kind::of(&product))
    }

    /// A page or a worker of the server itself.
    pub(crate) fn own(name: &str) -> Self {
        Self::new(&Some(String::new()), None, &[name], Kind::Own)
    }

    fn new(token: &Option<String>, address: Option<IpAddr>, told: &[&str], kind: Kind) -> Self {
        let caller = hash(&(token, address));
        Self { caller, id: hash(&(caller, told)), kind }
    }
}

fn hash(of: &impl Hash) -> u64 {
    SEED.hash_one(of)
}

/// `grafana` of `Grafana/11.2.0 (linux)`.
fn product(agent: &str) -> String {
    let end = agent.find(['/', ' ', '(']).unwrap_or(agent.len());
    agent.get(..end).unwrap_or("").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(address: &str, source: &str, headers: &[(&'static str, &str)]) -> Client {
        let mut map = HeaderMap::new();
        headers.iter().for_each(|(name, value)| drop(map.insert(*name, value.parse().unwrap())));
        Client::of(&Caller::Anyone, Some(Peer(address.parse().unwrap())), source, &map)
    }

    #[test]
    fn callers_are_told_apart_by_address_and_clients_by_what_they_say() {
        let grafana = client("10.0.0.1:1", "", &[("user-agent", "Grafana/11.2.0")]);
        assert_eq!(grafana, client("10.0.0.1:2", "", &[("user-agent", "Grafana/10.0.0 (x)")]));
        assert_eq!(grafana.kind, Kind::Grafana);
        let others = [
            client("10.0.0.1:1", "", &[("user-agent", "curl/8")]),
            client("10.0.0.1:1", "ds", &[("user-agent", "Grafana/11.2.0")]),
            client("10.0.0.1:1", "", &[("user-agent", "Grafana/11.2.0"), ("x-dashboard-uid", "a")]),
        ];
        for other in others {
            assert_eq!(other.caller, grafana.caller);
            assert_ne!(other.id, grafana.id);
        }
        let elsewhere = client("10.0.0.2:1", "", &[("user-agent", "Grafana/11.2.0")]);
        assert_ne!((elsewhere.caller, elsewhere.id), (grafana.caller, grafana.id));
        assert_eq!(client("10.0.0.1:1", "", &[]).kind, Kind::Other);
    }
}
