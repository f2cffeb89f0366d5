//! Names of addresses, asked of the system's first name server.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::Message;
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::task::JoinSet;

use super::dns;

const RESOLVER: &str = "/etc/resolv.conf";
/// Of all questions together, which go out at once.
const PATIENCE: Duration = Duration::from_secs(2);

/// The names that were found in time.
pub(super) async fn names_of(addresses: BTreeSet<IpAddr>) -> HashMap<IpAddr, String> {
    let mut names = HashMap::new();
    let Some(server) = tokio::fs::read_to_string(RESOLVER).await.ok().and_then(|text| first_server(&text))
    else {
        return names;
    };
    let mut asking = JoinSet::new();
    for address in addresses {
        asking.spawn(async move { (address, name_of(address, server).await) });
    }
    let all = async {
        while let Some(answered) = asking.join_next().await {
            if let Ok((address, Some(name))) = answered {
                names.insert(address, name);
            }
        }
    };
    // Whoever is late has no name; the set ends its questions.
    let _ = tokio::time::timeout(PATIENCE, all).await;
    names
}

fn first_server(text: &str) -> Option<SocketAddr> {
    let servers = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    servers
        .filter_map(|rest| rest.trim().parse::<IpAddr>().ok())
        .next()
        .map(|address| SocketAddr::new(address, 53))
}

async fn name_of(address: IpAddr, server: SocketAddr) -> Option<String> {
    let question = dns::question(&Name::from(address).to_ascii(), RecordType::PTR).ok()?;
    let socket = dns::udp_socket(server, "").await.ok()?;
    let answer = dns::over_udp(&socket, &question.to_vec().ok()?, question.metadata.id).await.ok()?;
    let answer = Message::from_vec(&answer).ok()?;
    answer.answers.iter().find_map(|record| match &record.data {
        RData::PTR(name) => Some(name.to_ascii().trim_end_matches('.').to_owned()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_server_that_reads_is_asked() {
        let server = |text| first_server(text).map(|server| server.to_string());
        let text =
            "# nameserver 9.9.9.9\nsearch x\nnameserver nowhere\n nameserver\t::1 \nnameserver 10.0.0.1\n";
        assert_eq!(server(text).as_deref(), Some("[::1]:53"));
        assert_eq!(server(""), None);
    }
}
