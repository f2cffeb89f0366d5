//! The routers on the way to a target, by packets that may go only so far.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::LocalProber;
use super::connect::{ConnectError, resolve};
use super::icmp::{Icmp, Kind};
use super::reverse::names_of;
use crate::run::{Recorder, Target};
use crate::words::{IpVersion, TracerouteSettings};

const ROUNDS: u16 = 5;
const DEFAULT_MAX_HOPS: u16 = 64;
const DEFAULT_MAX_UNKNOWN_HOPS: u16 = 15;
const DEFAULT_HOP_TIMEOUT_MS: u64 = 500;

/// One distance from here.
#[derive(Debug, Default)]
struct HopSeen {
    hosts: BTreeSet<IpAddr>,
    sent: u32,
    lost: u32,
    elapsed: Duration,
}

struct Bounds {
    max_hops: u16,
    max_unknown: u16,
    hop_timeout: Duration,
    deadline: Instant,
}

impl Bounds {
    fn of(settings: &TracerouteSettings, timeout: Duration) -> Self {
        let or = |value: i64, default: u16| u16::try_from(value).ok().filter(|v| *v > 0).unwrap_or(default);
        let hop_timeout_ms = u64::try_from(settings.hop_timeout).ok().filter(|ms| *ms > 0);
        Self {
            max_hops: or(settings.max_hops, DEFAULT_MAX_HOPS).min(255),
            max_unknown: or(settings.max_unknown_hops, DEFAULT_MAX_UNKNOWN_HOPS),
            hop_timeout: Duration::from_millis(hop_timeout_ms.unwrap_or(DEFAULT_HOP_TIMEOUT_MS)),
            deadline: Instant::now() + timeout.mul_f64(0.95),
        }
    }
}

pub(super) async fn probe(
    prober: &LocalProber,
    target: &Target<'_>,
    settings: &TracerouteSettings,
    recorder: &mut Recorder,
) -> bool {
    let bounds = Bounds::of(settings, target.timeout);
    match trace(prober, target, &bounds, recorder).await {
        Ok(hops) => {
            take_down(&hops, recorder);
            let hosts = hops.iter().flat_map(|hop| hop.hosts.iter().copied()).collect();
            let names = if settings.ptr_lookup { names_of(hosts).await } else { HashMap::new() };
            say(&hops, &names, target, recorder);
            true
        }
        Err(e) => {
            recorder.error("Error while tracing the route", &[("err", &e)]);
            take_down(&[], recorder);
            false
        }
    }
}

async fn trace(
    prober: &LocalProber,
    target: &Target<'_>,
    bounds: &Bounds,
    recorder: &mut Recorder,
) -> Result<Vec<HopSeen>, ConnectError> {
    // Its series are those of the route alone.
    let mut aside = Recorder::default();
    let resolved = resolve(target.target, IpVersion::Any, &prober.rules, &mut aside).await;
    recorder.hear(aside);
    let (address, _) = resolved?;
    let icmp = Icmp::open(address, "", true)?;
    let mut hops: Vec<HopSeen> = Vec::new();
    let mut sequence = 0;
    for _ in 0..ROUNDS {
        round(&icmp, address, bounds, &mut hops, &mut sequence).await?;
        if Instant::now() >= bounds.deadline {
            break;
        }
    }
    // What lies behind the target, or behind the last that ever answered, is no hop.
    while hops.last().is_some_and(|hop| hop.hosts.is_empty()) {
        hops.pop();
    }
    Ok(hops)
}

/// One packet to each distance, until the target answers or too many have not.
async fn round(
    icmp: &Icmp,
    address: IpAddr,
    bounds: &Bounds,
    hops: &mut Vec<HopSeen>,
    sequence: &mut u16,
) -> Result<(), ConnectError> {
    let mut unknown = 0;
    for distance in 1..=bounds.max_hops {
        if hops.len() < usize::from(distance) {
            hops.push(HopSeen::default());
        }
        *sequence = sequence.wrapping_add(1);
        icmp.set_hop_limit(u32::from(distance))?;
        let started = Instant::now();
        icmp.send(*sequence, b"pilothouse").await?;
        let until = (started + bounds.hop_timeout).min(bounds.deadline);
        let answered = answer_to(icmp, *sequence, until).await?;
        let Some(hop) = hops.get_mut(usize::from(distance) - 1) else { return Ok(()) };
        hop.sent += 1;
        match answered {
            Some((from, kind)) => {
                unknown = 0;
                hop.hosts.insert(from);
                hop.elapsed = started.elapsed();
                if from == address || kind != Kind::TimeExceeded {
                    return Ok(());
                }
            }
            None => {
                unknown += 1;
                hop.lost += 1;
            }
        }
        if unknown >= bounds.max_unknown || Instant::now() >= bounds.deadline {
            return Ok(());
        }
    }
    Ok(())
}

async fn answer_to(
    icmp: &Icmp,
    sequence: u16,
    until: Instant,
) -> Result<Option<(IpAddr, Kind)>, ConnectError> {
    loop {
        match tokio::time::timeout_at(until.into(), icmp.receive()).await {
            Err(_) => return Ok(None),
            Ok(event) => {
                let event = event?;
                if event.sequence == sequence {
                    return Ok(Some((event.from, event.kind)));
                }
            }
        }
    }
}

fn take_down(hops: &[HopSeen], recorder: &mut Recorder) {
    let (sent, lost) = hops.iter().fold((0, 0), |(s, l), hop| (s + hop.sent, l + hop.lost));
    // A fraction in spite of the name.
    let loss = if sent == 0 { 0.0 } else { f64::from(lost) / f64::from(sent) };
    for (name, help, value) in [
        ("probe_traceroute_total_hops", "Total hops to reach a traceroute destination", hops.len() as f64),
        (
            "probe_traceroute_packet_loss_percent",
            "Overall percentage of packet loss during the traceroute",
            loss,
        ),
        (
            "probe_traceroute_route_hash",
            "Hash of all the hosts in a traceroute path. Used to determine route volatility.",
            f64::from(route_hash(hops)),
        ),
    ] {
        recorder.gauge(name, help, &[], value);
    }
}

/// FNV-1 over the hosts in order.
fn route_hash(hops: &[HopSeen]) -> u32 {
    let text: String = hops.iter().flat_map(|hop| &hop.hosts).map(ToString::to_string).collect();
    text.bytes().fold(0x811c_9dc5, |hash: u32, byte| hash.wrapping_mul(0x0100_0193) ^ u32::from(byte))
}

/// A line for each hop. A host is called by its name where it was asked for and has one.
fn say(hops: &[HopSeen], names: &HashMap<IpAddr, String>, target: &Target<'_>, recorder: &mut Recorder) {
    let id = uuid::Uuid::new_v4();
    for (distance, hop) in hops.iter().enumerate() {
        let name = |host: &IpAddr| names.get(host).cloned().unwrap_or_else(|| host.to_string());
        let hosts = hop.hosts.iter().map(name).collect::<Vec<_>>().join(",");
        let loss = f64::from(hop.lost) / f64::from(hop.sent.max(1));
        let elapsed = format!("{:?}", hop.elapsed);
        recorder.info(
            "hop",
            &[
                ("Level", &"info"),
                ("Destination", &target.target),
                ("Hosts", &hosts),
                ("TTL", &(distance + 1)),
                ("ElapsedTime", &elapsed),
                ("LossPercent", &loss),
                ("Sent", &hop.sent),
                ("TracerouteID", &id),
            ],
        );
    }
}
