//! A running server talks to nobody whom its configuration does not name.

#![allow(clippy::unwrap_used)] // a failure here is a failed test

use std::collections::HashSet;
use std::fs;
use std::time::{Duration, Instant};

use pilothouse_tests::Server;

/// Long enough for every worker to have had its first turns.
const WATCHED: Duration = Duration::from_secs(6);
const LISTEN: &str = "0A";

/// A socket of TCP or UDP as `/proc/net` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Socket {
    local: String,
    remote: String,
    state: String,
    inode: String,
}

/// All sockets of one table that belong to the process.
fn sockets(pid: u32, table: &str) -> Vec<Socket> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let own: HashSet<String> = descriptors
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let text = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
    let lines = text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let socket = |fields: Vec<&str>| Socket {
        local: fields[1].to_owned(),
        remote: fields[2].to_owned(),
        state: fields[3].to_owned(),
        inode: fields[9].to_owned(),
    };
    lines.map(socket).filter(|socket| own.contains(&socket.inode)).collect()
}

#[test]
fn nobody_is_called_who_was_not_named() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let served = format!(":{:04X}", server.address.port());
    let started = Instant::now();
    let (mut seen_listening, mut outward) = (false, HashSet::new());
    while started.elapsed() < WATCHED {
        for table in ["tcp", "tcp6", "udp", "udp6", "raw", "raw6"] {
            for socket in sockets(server.pid(), table) {
                let is_served = socket.local.ends_with(&served) && table.starts_with("tcp");
                seen_listening |= is_served && socket.state == LISTEN;
                if !is_served {
                    outward.insert((table, socket));
                }
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(seen_listening, "the look at the sockets found not even the one that is served");
    assert!(outward.is_empty(), "{outward:#?}");
}
