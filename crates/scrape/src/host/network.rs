//! Network devices, protocols and sockets.

use pilothouse_model::write::MetricType;

use super::{Host, Page, Sample, numbers};

const PAGE_BYTES: f64 = 4096.0;
/// In the order of `/proc/net/dev`.
const RECEIVE: [&str; 8] = ["bytes", "packets", "errs", "drop", "fifo", "frame", "compressed", "multicast"];
const TRANSMIT: [&str; 8] = ["bytes", "packets", "errs", "drop", "fifo", "colls", "carrier", "compressed"];

/// The counters of each device, the loopback included.
pub(super) fn devices(host: &Host, page: &mut Page) {
    let Some(text) = host.read("proc/net/dev") else { return };
    let rows: Vec<(&str, Vec<Option<f64>>)> = text
        .lines()
        .skip(2)
        .filter_map(|line| line.rsplit_once(':'))
        .map(|(device, figures)| (device.trim(), numbers(figures).collect()))
        .collect();
    let columns =
        RECEIVE.iter().map(|name| ("receive", name)).chain(TRANSMIT.iter().map(|name| ("transmit", name)));
    for (at, (direction, name)) in columns.enumerate() {
        let samples: Vec<Sample<'_>> = rows
            .iter()
            .filter_map(|(device, figures)| {
                Some((vec![("device", *device)], figures.get(at).copied().flatten()?))
            })
            .collect();
        let help = format!("The column {name} ({direction}) of /proc/net/dev.");
        page.family(&format!("node_network_{direction}_{name}_total"), MetricType::Counter, &help, &samples);
    }
    let nobody: Vec<Sample<'_>> = rows
        .iter()
        .filter_map(|(device, _)| {
            let packets = host.number(&format!("sys/class/net/{device}/statistics/rx_nohandler"))?;
            Some((vec![("device", *device)], packets))
        })
        .collect();
    let help = "Packets that nobody took.";
    page.family("node_network_receive_nohandler_total", MetricType::Counter, help, &nobody);
}

/// State and settings of each device.
pub(super) fn classes(host: &Host, page: &mut Page) {
    let Ok(directory) = std::fs::read_dir(host.path("sys/class/net")) else { return };
    let mut devices: Vec<String> =
        directory.filter_map(Result::ok).filter_map(|entry| entry.file_name().into_string().ok()).collect();
    devices.sort();
    let read = |device: &str, name: &str| {
        host.read(&format!("sys/class/net/{device}/{name}")).map(|text| text.trim().to_owned())
    };
    let number = |device: &str, name: &str| read(device, name).and_then(|text| text.parse::<f64>().ok());
    let mut gauge = |name: &str, help: &str, kind: MetricType, value: &dyn Fn(&str) -> Option<f64>| {
        let samples: Vec<Sample<'_>> =
            devices.iter().filter_map(|d| Some((vec![("device", d.as_str())], value(d)?))).collect();
        page.family(&format!("node_network_{name}"), kind, help, &samples);
    };
    let up = |device: &str| read(device, "operstate").map(|state| f64::from(u8::from(state == "up")));
    gauge("up", "Whether the device works.", MetricType::Gauge, &up);
    gauge("carrier", "Whether a cable is in it.", MetricType::Gauge, &|d| number(d, "carrier"));
    gauge("carrier_changes_total", "Changes of that.", MetricType::Counter, &|d| {
        number(d, "carrier_changes")
    });
    gauge("mtu_bytes", "The longest packet.", MetricType::Gauge, &|d| number(d, "mtu"));
    gauge("transmit_queue_length", "Packets that may wait.", MetricType::Gauge, &|d| {
        number(d, "tx_queue_len")
    });
    // In megabits a second; -1 where it is not known.
    gauge("speed_bytes", "Bytes a second.", MetricType::Gauge, &|d| {
        number(d, "speed").map(|m| m * 1e6 / 8.0)
    });
    let rows: Vec<[String; 5]> = devices
        .iter()
        .map(|d| {
            ["address", "broadcast", "duplex", "ifalias", "operstate"].map(|f| read(d, f).unwrap_or_default())
        })
        .collect();
    let infos: Vec<Sample<'_>> =
        devices.iter().zip(&rows).map(|(device, row)| (info(device, row), 1.0)).collect();
    page.family("node_network_info", MetricType::Gauge, "The device; always 1.", &infos);
}

fn info<'a>(
    device: &'a str,
    [address, broadcast, duplex, alias, state]: &'a [String; 5],
) -> Vec<(&'a str, &'a str)> {
    vec![
        ("address", address),
        ("broadcast", broadcast),
        ("device", device),
        ("duplex", duplex),
        ("ifalias", alias),
        ("operstate", state),
    ]
}

/// Counters of the protocols, those that node_exporter shows.
pub(super) fn netstat(host: &Host, page: &mut Page) {
    let mut fields: Vec<(String, f64)> = Vec::new();
    for path in ["proc/net/netstat", "proc/net/snmp"] {
        let Some(text) = host.read(path) else { continue };
        let lines: Vec<&str> = text.lines().collect();
        for pair in lines.chunks_exact(2) {
            let [names, values] = pair else { continue };
            let (Some((protocol, names)), Some((_, values))) =
                (names.split_once(':'), values.split_once(':'))
            else {
                continue;
            };
            let both = names.split_whitespace().zip(numbers(values));
            fields.extend(both.filter_map(|(name, value)| Some((format!("{protocol}_{name}"), value?))));
        }
    }
    for line in host.read("proc/net/snmp6").unwrap_or_default().lines() {
        let mut words = line.split_whitespace();
        let (Some(name), Some(value)) = (words.next(), words.next().and_then(|w| w.parse().ok())) else {
            continue;
        };
        // `Ip6InReceives`, `UdpLite6InErrors`: the protocol ends with its number.
        if let Some((protocol, field)) = name.split_once('6') {
            fields.push((format!("{protocol}6_{field}"), value));
        }
    }
    fields.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, value) in fields.iter().filter(|(name, _)| is_shown(name)) {
        let help = format!("The statistic {}.", name.replace('_', " "));
        page.untyped(&format!("node_netstat_{name}"), &help, Some(*value));
    }
}

fn is_shown(name: &str) -> bool {
    const FIELDS: [(&str, &[&str]); 10] = [
        ("Ip", &["Forwarding"]),
        ("Ip6", &["InOctets", "OutOctets"]),
        ("IpExt", &["InOctets", "OutOctets"]),
        ("Icmp", &["InMsgs", "OutMsgs"]),
        ("Icmp6", &["InMsgs", "OutMsgs"]),
        ("TcpExt", &["TCPSynRetrans", "TCPTimeouts", "TCPOFOQueue", "TCPRcvQDrop"]),
        (
            "TcpExt",
            &["ListenDrops", "ListenOverflows", "SyncookiesFailed", "SyncookiesRecv", "SyncookiesSent"],
        ),
        ("Tcp", &["ActiveOpens", "InSegs", "OutSegs", "OutRsts", "PassiveOpens", "RetransSegs", "CurrEstab"]),
        ("Udp", &["InDatagrams", "OutDatagrams", "NoPorts", "RcvbufErrors", "SndbufErrors"]),
        ("Udp6", &["InDatagrams", "OutDatagrams", "NoPorts", "RcvbufErrors", "SndbufErrors"]),
    ];
    let Some((protocol, field)) = name.split_once('_') else { return false };
    matches!(field, "InErrors" | "InErrs")
        || FIELDS.iter().any(|(p, fields)| *p == protocol && fields.contains(&field))
}

/// Sockets in use, of each protocol.
pub(super) fn sockstat(host: &Host, page: &mut Page) {
    for path in ["proc/net/sockstat", "proc/net/sockstat6"] {
        let text = host.read(path).unwrap_or_default();
        for (protocol, rest) in text.lines().filter_map(|line| line.split_once(':')) {
            let words: Vec<&str> = rest.split_whitespace().collect();
            for pair in words.chunks_exact(2) {
                let [name, value] = pair else { continue };
                let Ok(value) = value.parse::<f64>() else { continue };
                let help = format!("Sockets of {protocol}: {name}.");
                page.gauge(&format!("node_sockstat_{protocol}_{name}"), &help, Some(value));
                if *name == "mem" {
                    let help = format!("Memory of sockets of {protocol}.");
                    page.gauge(
                        &format!("node_sockstat_{protocol}_mem_bytes"),
                        &help,
                        Some(value * PAGE_BYTES),
                    );
                }
            }
        }
    }
}
