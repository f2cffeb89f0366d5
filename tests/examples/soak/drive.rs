//! Writers, by answers or by the clock, and those who ask.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use crate::asked::Asked;
use crate::client::Client;
use crate::contender::Contender;
use crate::tally::{Answers, Tally, is_acknowledged};
use crate::work::{Batches, Signal, begin_s, now_s};

/// Of samples: asked in turn, `NOW` and `BEGIN` are times in seconds.
const OF_SAMPLES: [&str; 9] = [
    "/api/v1/query_range?query=sum%20by(i)(rate(soak[5m]))&start=BEGIN&end=NOW&step=1",
    "/api/v1/query_range?query=soak&start=BEGIN&end=NOW&step=1",
    "/api/v1/query?query=max_over_time(sum(soak)[1h:1s])&time=NOW",
    "/api/v1/query?query=soak*on(i,w)group_left()soak&time=NOW",
    "/api/v1/query?query=%7B__name__%3D~%22.%2B%22%7D%5B1h%5D&time=NOW",
    "/api/v1/query?query=%7B__name__%3D~%22((a%7B1000%7D)%7B1000%7D)%7B1000%7D%22%7D&time=NOW",
    "/api/v1/query?query=quantile_over_time(0.9,soak[1h])&time=NOW",
    "/api/v1/series?match[]=%7B__name__!%3D%22%22%7D",
    "/api/v1/status/tsdb",
];

const OF_LINES: [&str; 4] = [
    "/loki/api/v1/query_range?query=%7Bapp%3D%22soak%22%7D%7C~%22(a%7Cb%7Cc)%2B.*%5B0-9%5D%2B%22&limit=5000&start=BEGINns&end=NOWns",
    "/loki/api/v1/query?query=sum%20by(line)(count_over_time(%7Bapp%3D%22soak%22%7D%7Cregexp%20%22(%3FP%3Cline%3E.*)%22%5B1h%5D))&time=NOWns",
    "/loki/api/v1/query_range?query=sum(rate(%7Bapp%3D%22soak%22%7D%5B1m%5D))&step=1&start=BEGINns&end=NOWns",
    "/loki/api/v1/patterns?query=%7Bapp%3D%22soak%22%7D&start=BEGINns&end=NOWns",
];

/// When the next batch goes.
#[derive(Clone)]
pub(crate) enum Pace {
    /// When the one before is answered.
    Closed,
    /// So many a second, whatever is answered.
    Open(BTreeMap<Signal, f64>),
}

impl Pace {
    /// Some times the rate that was measured.
    pub(crate) fn times(times: u64, measured: &[(Signal, Tally)], seconds: u64) -> Self {
        let rate = |tally: &Tally| (tally.acknowledged() * times) as f64 / seconds as f64;
        assert!(measured.iter().all(|(_, tally)| tally.acknowledged() > 0), "nothing was taken at all");
        Self::Open(measured.iter().map(|(signal, tally)| (*signal, rate(tally))).collect())
    }
}

/// One connection and what goes over it.
pub(crate) struct Writer {
    pub(crate) signal: Signal,
    pub(crate) number: u64,
    pub(crate) acknowledged: u64,
    pub(crate) batches: Batches,
    client: Client,
}

pub(crate) struct Loads {
    pub(crate) begin_s: u64,
    pub(crate) writers: Vec<Writer>,
    contender: Arc<Contender>,
    connections: u64,
    late: Duration,
}

impl Loads {
    pub(crate) fn new(contender: &Arc<Contender>, asked: &Asked) -> Self {
        let begin_s = begin_s();
        let writer = |signal, number| Writer {
            signal,
            number,
            acknowledged: 0,
            batches: Batches::new(signal, number, begin_s),
            client: Client::new(contender.address, Duration::from_secs(60)),
        };
        let of = |signal: &Signal| (0..asked.connections).map(|n| writer(*signal, n)).collect::<Vec<_>>();
        Self {
            begin_s,
            writers: asked.signals.iter().flat_map(of).collect(),
            contender: Arc::clone(contender),
            connections: asked.connections,
            late: Duration::from_millis(asked.late_ms),
        }
    }

    /// All writers for so long; what became of their batches.
    pub(crate) async fn write(&mut self, pace: Pace, length: Duration) -> Vec<(Signal, Tally)> {
        let began = Instant::now();
        let handles: Vec<_> = self
            .writers
            .drain(..)
            .map(|writer| {
                let path = self.contender.push_path(writer.signal);
                match &pace {
                    Pace::Closed => tokio::spawn(by_answers(writer, path, began + length)),
                    Pace::Open(rates) => {
                        let every = Duration::from_secs_f64(self.connections as f64 / rates[&writer.signal]);
                        let first = began + every.mul_f64(writer.number as f64 / self.connections as f64);
                        let clock = Clock { next: first, every, late: self.late, end: began + length };
                        tokio::spawn(by_the_clock(writer, path, clock))
                    }
                }
            })
            .collect();
        let mut tallies: BTreeMap<Signal, Tally> = BTreeMap::new();
        for handle in handles {
            let (writer, tally) = handle.await.unwrap();
            tallies.entry(writer.signal).or_default().add(tally);
            self.writers.push(writer);
        }
        tallies.into_iter().collect()
    }
}

struct Clock {
    next: Instant,
    every: Duration,
    late: Duration,
    end: Instant,
}

async fn by_answers(mut writer: Writer, path: &'static str, end: Instant) -> (Writer, Tally) {
    let mut tally = Tally::default();
    while Instant::now() < end {
        if !writer.send(path, &mut tally).await {
            sleep(Duration::from_millis(50)).await;
        }
    }
    (writer, tally)
}

async fn by_the_clock(mut writer: Writer, path: &'static str, mut clock: Clock) -> (Writer, Tally) {
    let mut tally = Tally::default();
    while clock.next < clock.end {
        if clock.next.elapsed() > clock.late {
            tally.late += 1;
        } else {
            sleep_until(clock.next).await;
            writer.send(path, &mut tally).await;
        }
        clock.next += clock.every;
    }
    (writer, tally)
}

impl Writer {
    async fn send(&mut self, path: &str, tally: &mut Tally) -> bool {
        let body = self.batches.next();
        let began = Instant::now();
        let headers = [("content-type", "application/x-protobuf"), ("content-encoding", "snappy")];
        let status = self.client.status(path, &headers, Some(body)).await;
        tally.note(status, began.elapsed().as_micros());
        self.acknowledged += u64::from(is_acknowledged(status));
        is_acknowledged(status)
    }
}

/// Those who ask, until they are stopped.
pub(crate) struct Asking {
    over: Arc<AtomicBool>,
    handles: Vec<JoinHandle<Answers>>,
}

impl Asking {
    pub(crate) async fn stop(self) -> Answers {
        self.over.store(true, Relaxed);
        let mut all = Answers::default();
        for handle in self.handles {
            all.add(handle.await.unwrap());
        }
        all
    }
}

pub(crate) fn ask(contender: &Arc<Contender>, asked: &Asked) -> Asking {
    let over = Arc::new(AtomicBool::new(false));
    let mut queries = Vec::new();
    if asked.signals.contains(&Signal::Samples) {
        queries.extend(OF_SAMPLES.map(|query| format!("{}{query}", contender.prefix())));
    }
    if asked.signals.contains(&Signal::Lines) {
        queries.extend(OF_LINES.map(str::to_owned));
    }
    let queries = Arc::new(queries);
    let handles = (0..asked.queries as usize)
        .map(|n| {
            let client = Client::new(contender.address, Duration::from_secs(120));
            tokio::spawn(ask_in_turn(client, Arc::clone(&queries), n * 3, Arc::clone(&over)))
        })
        .collect();
    Asking { over, handles }
}

async fn ask_in_turn(
    mut client: Client,
    queries: Arc<Vec<String>>,
    first: usize,
    over: Arc<AtomicBool>,
) -> Answers {
    let mut answers = Answers::default();
    let begin = begin_s();
    for query in queries.iter().cycle().skip(first) {
        if over.load(Relaxed) {
            break;
        }
        let path = query
            .replace("BEGINns", &format!("{begin}000000000"))
            .replace("NOWns", &format!("{}000000000", now_s()))
            .replace("BEGIN", &begin.to_string())
            .replace("NOW", &now_s().to_string());
        let began = Instant::now();
        let status = client.status(&path, &[], None).await;
        answers.note(status, began.elapsed().as_millis());
        if status == 0 {
            sleep(Duration::from_millis(50)).await;
        }
    }
    answers
}
