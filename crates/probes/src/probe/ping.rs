//! Echo requests, 50 ms apart.

use std::time::{Duration, Instant};

use super::LocalProber;
use super::clock::Watch;
use super::connect::{ConnectError, resolve};
use super::icmp::{Icmp, Kind};
use crate::run::{Recorder, Target};
use crate::words::{IpVersion, PingSettings};

const GAP: Duration = Duration::from_millis(50);
const DEFAULT_PACKETS: u16 = 3;
/// Of a packet where no size is set, as ping sends.
const DEFAULT_PAYLOAD_BYTES: i64 = 56;

pub(super) async fn probe(
    prober: &LocalProber,
    target: &Target<'_>,
    settings: &PingSettings,
    recorder: &mut Recorder,
) -> bool {
    for phase in ["resolve", "setup", "rtt"] {
        self::phase(recorder, phase, 0.0);
    }
    let wanted = u16::try_from(settings.packet_count).ok().filter(|n| *n > 0);
    let packets = wanted.unwrap_or(DEFAULT_PACKETS);
    let mut echoes = Echoes::default();
    let ended = ping(prober, target, settings, packets, &mut echoes, recorder).await;
    echoes.take_down(recorder);
    if let Err(e) = ended {
        recorder.error("Error while pinging", &[("err", &e)]);
        return false;
    }
    recorder.info("Probe finished", &[("sent", &echoes.sent), ("received", &echoes.times.len())]);
    match wanted {
        Some(all) => echoes.times.len() == usize::from(all),
        None => !echoes.times.is_empty(),
    }
}

fn phase(recorder: &mut Recorder, phase: &str, seconds: f64) {
    recorder.gauge(
        "probe_icmp_duration_seconds",
        "Duration of icmp request by phase",
        &[("phase", phase)],
        seconds,
    );
}

#[derive(Debug, Default)]
struct Echoes {
    sent: u16,
    /// Of the packets that came back, in the order in which they did.
    times: Vec<Duration>,
    hop_limit: Option<u8>,
}

impl Echoes {
    fn mean(&self) -> f64 {
        let total: Duration = self.times.iter().sum();
        total.as_secs_f64() / (self.times.len().max(1) as f64)
    }

    fn take_down(&self, recorder: &mut Recorder) {
        let mean = self.mean();
        let seconds = || self.times.iter().map(Duration::as_secs_f64);
        // A sum of nothing would be the negative zero.
        let squares = seconds().map(|s| (s - mean).powi(2)).fold(0.0, |sum, square| sum + square);
        let spread = squares / (self.times.len().max(1) as f64);
        phase(recorder, "rtt", mean);
        for (name, help, value) in [
            (
                "probe_icmp_duration_rtt_min_seconds",
                "Minimum duration of round trip time",
                seconds().reduce(f64::min).unwrap_or(0.0),
            ),
            (
                "probe_icmp_duration_rtt_max_seconds",
                "Maximum duration of round trip time",
                seconds().reduce(f64::max).unwrap_or(0.0),
            ),
            (
                "probe_icmp_duration_rtt_stddev_seconds",
                "Standard deviation of round trip time",
                spread.sqrt(),
            ),
            ("probe_icmp_packets_sent_count", "Number of ICMP packets sent", f64::from(self.sent)),
            ("probe_icmp_packets_received_count", "Number of ICMP packets received", self.times.len() as f64),
        ] {
            recorder.gauge(name, help, &[], value);
        }
        if let Some(hops) = self.hop_limit {
            let help = "Replied packet hop limit (TTL for ipv4)";
            recorder.gauge("probe_icmp_reply_hop_limit", help, &[], f64::from(hops));
        }
    }
}

async fn ping(
    prober: &LocalProber,
    target: &Target<'_>,
    settings: &PingSettings,
    packets: u16,
    echoes: &mut Echoes,
    recorder: &mut Recorder,
) -> Result<(), ConnectError> {
    let deadline = Instant::now() + target.timeout.mul_f64(0.95);
    let version = IpVersion::try_from(settings.ip_version).unwrap_or_default();
    let (address, resolved) = resolve(target.target, version, &prober.rules, recorder).await?;
    phase(recorder, "resolve", resolved.as_secs_f64());
    let mut watch = Watch::start();
    recorder.info("Creating socket", &[]);
    let icmp = Icmp::open(address, &settings.source_ip_address, false)?;
    if settings.dont_fragment {
        icmp.dont_fragment()?;
    }
    let setup = watch.lap();
    phase(recorder, "setup", setup.as_secs_f64());
    let bytes = if settings.payload_size > 0 { settings.payload_size } else { DEFAULT_PAYLOAD_BYTES };
    let payload = vec![b'p'; usize::try_from(bytes).unwrap_or(0)];
    exchange(&icmp, packets, &payload, deadline, echoes).await?;
    recorder.took(resolved + setup + Duration::from_secs_f64(echoes.mean()));
    Ok(())
}

/// Sends all packets and waits until each has come back or the time is over.
async fn exchange(
    icmp: &Icmp,
    packets: u16,
    payload: &[u8],
    deadline: Instant,
    echoes: &mut Echoes,
) -> Result<(), ConnectError> {
    let mut sent_at: Vec<Option<Instant>> = Vec::new();
    while echoes.times.len() < usize::from(packets) {
        let now = Instant::now();
        let may_send = echoes.sent < packets;
        let next = if may_send {
            sent_at.last().copied().flatten().map_or(now, |last| last + GAP)
        } else {
            deadline
        };
        if may_send && now >= next {
            sent_at.push(Some(Instant::now()));
            icmp.send(echoes.sent, payload).await?;
            echoes.sent += 1;
            continue;
        }
        if now >= deadline {
            return Ok(());
        }
        let Ok(received) = tokio::time::timeout_at(next.min(deadline).into(), icmp.receive()).await else {
            continue;
        };
        let event = received?;
        let sent = sent_at.get_mut(usize::from(event.sequence)).and_then(Option::take);
        if let (Kind::Reply, Some(sent)) = (event.kind, sent) {
            echoes.times.push(sent.elapsed());
            echoes.hop_limit = echoes.hop_limit.or(event.hop_limit);
            // The gap is counted from sending, whether or not the packet has come back.
            if usize::from(event.sequence) + 1 == sent_at.len() && echoes.sent < packets {
                tokio::time::sleep_until((sent + GAP).into()).await;
            }
        }
    }
    Ok(())
}
