//! Overload for a while, under a ceiling of memory that the kernel enforces: twice what the
//! server can take in, and queries that nobody should ask. At the end everything acknowledged
//! must be there, before and after a `kill -9`.
//!
//! ```text
//! PILOTHOUSE_SOAK_CGROUP=/sys/fs/cgroup/memory PILOTHOUSE_BIN=target/release/pilothouse \
//!     cargo run --release -p pilothouse-tests --example soak -- --seconds 1800 --memory 512
//! … --example soak -- --peer victoria-metrics=/path/to/binary --seconds 1800 --memory 512
//! ```
//!
//! First the rate that is sustainable is measured for `--calibrate` seconds: every connection
//! sends its next batch when the one before is answered. Then `--times` that rate is offered by
//! the clock, whatever is answered. A batch whose connection is not free within `--late-ms` of
//! its time is not sent, and counted as turned away by the client, as a sender with a full
//! queue would. A server that ends is started again, and how often and by what it ended is told.
//!
//! The environment names the control group, of version 1 or 2, below which one is made. Without
//! it the ceiling is watched only. Peers run under the same ceiling, with the same work as far
//! as they know it: `prometheus` and `victoria-metrics` the samples, `loki` the lines. So that
//! they can be compared, `--signal samples` and `--signal lines` leave the other one out.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a failure here is a failed run

mod asked;
mod client;
mod contender;
mod drive;
mod memory;
mod tally;
mod verify;
mod work;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use asked::Asked;
use contender::Contender;
use drive::{Loads, Pace};
use serde_json::{Value, json};
use tally::Tally;
use work::Signal;

fn main() {
    let asked = Asked::read();
    // Apart, so that server, control group and directory are gone before the process ends.
    let bad = tokio::runtime::Runtime::new().unwrap().block_on(run(&asked));
    std::process::exit(i32::from(bad > 0));
}

/// How many things were not as they must be. Peers may be as they are.
async fn run(asked: &Asked) -> u64 {
    let contender = Arc::new(Contender::start(asked));
    println!("{}: {}", contender.name, contender.ceiling());
    contender.watch();
    let mut loads = Loads::new(&contender, asked);

    let calibrated = loads.write(Pace::Closed, Duration::from_secs(asked.calibrate)).await;
    for (signal, tally) in &calibrated {
        println!("sustainable, {}: {}", signal.name(), tally.line(*signal, asked.calibrate));
    }
    let pace = Pace::times(asked.times, &calibrated, asked.calibrate);
    let asking = drive::ask(&contender, asked);
    let offered = loads.write(pace, Duration::from_secs(asked.seconds)).await;
    let answers = asking.stop().await;
    for (signal, tally) in &offered {
        println!("offered {} times, {}: {}", asked.times, signal.name(), tally.line(*signal, asked.seconds));
    }
    println!("hostile queries: {answers}");
    let peak = contender.peak();
    println!("{peak}");
    let ends = contender.ends();
    println!(
        "ended by itself or the kernel: {}",
        if ends.is_empty() { "never".into() } else { ends.join("; ") }
    );

    // What waits gets done first; and once more after a restart.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = verify::check(&contender, &loads, asked).await;
    println!("found afterwards: {before}");
    contender.kill_and_start();
    let after = verify::check(&contender, &loads, asked).await;
    println!("found after kill -9 and a restart: {after}");
    let summary = json!({
        "server": contender.name, "memory_mib": asked.memory, "seconds": asked.seconds,
        "writes": by_signal(&offered, asked.seconds), "sustainable": by_signal(&calibrated, asked.calibrate),
        "queries": answers.json(), "peak": peak.json(), "ends": ends, "kills": contender.kills(),
        "found": before.json(), "found_after_kill": after.json(),
    });
    println!("{summary}");
    match contender.is_peer {
        true => 0,
        false => {
            before.wrong
                + after.wrong
                + contender.kills()
                + ends.len() as u64
                + u64::from(peak.resident_mib > asked.memory)
        }
    }
}

fn by_signal(tallies: &[(Signal, Tally)], seconds: u64) -> BTreeMap<&'static str, Value> {
    tallies.iter().map(|(signal, tally)| (signal.name(), tally.json(*signal, seconds))).collect()
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Samples => "samples",
            Self::Lines => "lines",
        }
    }
}
