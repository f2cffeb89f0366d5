//! Reaching a target: from a host to an address, from an address to a connection.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};

use super::clock::Watch;
use super::rules::TargetRules;
use crate::run::Recorder;
use crate::words::IpVersion;

/// Why a target was not reached. The text is for the run's lines.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("cannot resolve {host}: {cause}")]
    Resolve { host: String, cause: String },
    #[error("{address} is a target that the configuration forbids")]
    Forbidden { address: IpAddr },
    #[error("source address {0:?} is not an address")]
    Source(String),
    #[error(
        "this machine permits no ICMP sockets ({0}): a group in net.ipv4.ping_group_range or the capability \
         CAP_NET_RAW is needed"
    )]
    NoIcmp(std::io::Error),
    #[error(
        "this machine permits no raw ICMP sockets ({0}), which tracing a route needs: the capability CAP_NET_RAW is"
    )]
    NoRawIcmp(std::io::Error),
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

const LOOKUP_HELP: &str = "Returns the time taken for probe dns lookup in seconds";
const PROTOCOL_HELP: &str = "Specifies whether probe ip protocol is IP4 or IP6";
const HASH_HELP: &str = "Specifies the hash of IP address. It's useful to detect if the IP address changes.";

/// The address of a host, by the system's resolver, judged by the rules. Takes down lookup time,
/// protocol and address; the time comes back too.
pub(super) async fn resolve(
    host: &str,
    version: IpVersion,
    rules: &TargetRules,
    recorder: &mut Recorder,
) -> Result<(IpAddr, Duration), ConnectError> {
    let asked = if version == IpVersion::V4 { "ip4" } else { "ip6" };
    recorder.info("Resolving target address", &[("target", &host), ("ip_protocol", &asked)]);
    let mut watch = Watch::start();
    let found = look_up(host, version).await;
    let took = watch.lap();
    recorder.gauge("probe_dns_lookup_time_seconds", LOOKUP_HELP, &[], took.as_secs_f64());
    let address = match found {
        Ok(address) => address,
        Err(cause) => {
            recorder.gauge("probe_ip_protocol", PROTOCOL_HELP, &[], 0.0);
            recorder.gauge("probe_ip_addr_hash", HASH_HELP, &[], 0.0);
            recorder.error(
                "Resolution with IP protocol failed",
                &[("target", &host), ("ip_protocol", &asked), ("err", &cause)],
            );
            return Err(ConnectError::Resolve { host: host.to_owned(), cause });
        }
    };
    recorder.gauge("probe_ip_protocol", PROTOCOL_HELP, &[], if address.is_ipv4() { 4.0 } else { 6.0 });
    recorder.gauge("probe_ip_addr_hash", HASH_HELP, &[], f64::from(hash_of(address)));
    recorder.info("Resolved target address", &[("target", &host), ("ip", &address)]);
    if rules.allow(address) { Ok((address, took)) } else { Err(ConnectError::Forbidden { address }) }
}

async fn look_up(host: &str, version: IpVersion) -> Result<IpAddr, String> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let addresses: Vec<IpAddr> = match bare.parse() {
        Ok(address) => vec![address],
        Err(_) => {
            let found = tokio::net::lookup_host((bare, 0)).await.map_err(|e| e.to_string())?;
            found.map(|address| address.ip()).collect()
        }
    };
    let of = |want_v4: bool| addresses.iter().copied().find(|a| a.is_ipv4() == want_v4);
    let chosen = match version {
        IpVersion::V4 => of(true),
        IpVersion::V6 => of(false),
        IpVersion::Any => of(false).or_else(|| of(true)),
    };
    chosen.ok_or_else(|| format!("unable to find ip; no {} address", version.text()))
}

/// FNV-1a over the bytes of the address.
fn hash_of(address: IpAddr) -> u32 {
    let step = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    let start = 0x811c_9dc5;
    match address {
        // As Go keeps an IPv4 address: within sixteen bytes.
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets().iter().fold(start, step),
        IpAddr::V6(v6) => v6.octets().iter().fold(start, step),
    }
}

/// A connection to an address, from a source address where one is given.
pub(super) async fn dial(address: SocketAddr, source: &str) -> Result<TcpStream, ConnectError> {
    let stream = if source.is_empty() {
        TcpStream::connect(address).await?
    } else {
        let source: IpAddr = source.parse().map_err(|_| ConnectError::Source(source.to_owned()))?;
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.bind(SocketAddr::new(source, 0))?;
        socket.connect(address).await?
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// `host:port` in two, brackets taken off.
pub(super) fn split_target(target: &str) -> Option<(&str, u16)> {
    let (host, port) = target.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    Some((host, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn literal_addresses_follow_the_version_and_the_rules() {
        let rules = TargetRules::default();
        for (host, version, expected) in [
            ("127.0.0.1", IpVersion::Any, "127.0.0.1"),
            ("127.0.0.1", IpVersion::V4, "127.0.0.1"),
            ("[::1]", IpVersion::Any, "::1"),
            ("::1", IpVersion::V4, "cannot resolve ::1: unable to find ip; no V4 address"),
            ("169.254.169.254", IpVersion::V4, "169.254.169.254 is a target that the configuration forbids"),
        ] {
            let resolved = resolve(host, version, &rules, &mut Recorder::default()).await;
            let shown = resolved.map_or_else(|e| e.to_string(), |(address, _)| address.to_string());
            assert_eq!(shown, expected);
        }
    }

    #[test]
    fn targets_are_split() {
        assert_eq!(split_target("[::1]:80"), Some(("::1", 80)));
        assert_eq!(split_target("a.b:1"), Some(("a.b", 1)));
        assert_eq!(split_target("a.b"), None);
    }
}
