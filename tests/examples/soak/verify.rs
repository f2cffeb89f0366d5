//! What was acknowledged is there, and nothing that was not sent.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use pilothouse_tests::escape;
use serde_json::{Value, json};

use crate::asked::Asked;
use crate::client::Client;
use crate::contender::Contender;
use crate::drive::{Loads, Writer};
use crate::work::Signal;

/// Seconds of data that one query counts.
const SLICE_S: u64 = 10;
const ATTEMPTS: u32 = 10;

#[derive(Default)]
struct Count {
    acknowledged: u64,
    found: u64,
    /// By writer, so that what one has too much does not hide what another lacks.
    lost: u64,
    surplus: u64,
}

#[derive(Default)]
pub(crate) struct Found {
    counts: BTreeMap<Signal, Count>,
    /// Queries that had no answer.
    unanswered: u64,
    /// Writers whose data is not as acknowledged.
    pub(crate) wrong: u64,
}

impl Found {
    pub(crate) fn json(&self) -> Value {
        let of = |count: &Count| json!({"acknowledged": count.acknowledged, "found": count.found, "lost": count.lost, "surplus": count.surplus});
        let counts: BTreeMap<&str, Value> =
            self.counts.iter().map(|(s, count)| (s.name(), of(count))).collect();
        json!({"counts": counts, "unanswered": self.unanswered, "wrong_writers": self.wrong})
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (signal, count) in &self.counts {
            let Count { acknowledged, found, lost, surplus } = count;
            write!(
                f,
                "{}: {found} of {acknowledged} acknowledged, {lost} lost, {surplus} that were not sent; ",
                signal.name()
            )?;
        }
        write!(f, "{} counts without an answer", self.unanswered)
    }
}

pub(crate) async fn check(contender: &Contender, loads: &Loads, asked: &Asked) -> Found {
    let mut found = Found::default();
    let mut client = Client::new(contender.address, Duration::from_secs(120));
    for signal in &asked.signals {
        for writer in loads.writers.iter().filter(|writer| writer.signal == *signal) {
            let there = match signal {
                Signal::Samples => samples(&mut client, contender, loads, writer).await,
                Signal::Lines => lines(&mut client, loads, writer).await,
            };
            found.unanswered += u64::from(there.is_none());
            found.compare(writer, there.unwrap_or(0));
        }
    }
    found
}

impl Found {
    fn compare(&mut self, writer: &Writer, there: u64) {
        let each = writer.signal.per_batch();
        let (acknowledged, sent) = (writer.acknowledged * each, writer.batches.made() * each);
        let (lost, surplus) = (acknowledged.saturating_sub(there), there.saturating_sub(sent));
        let count = self.counts.entry(writer.signal).or_default();
        count.acknowledged += acknowledged;
        count.found += there;
        count.lost += lost;
        count.surplus += surplus;
        self.wrong += u64::from(lost + surplus > 0);
    }
}

/// A sample of each batch is enough to know the batch: it is taken or refused as a whole.
async fn samples(client: &mut Client, contender: &Contender, loads: &Loads, writer: &Writer) -> Option<u64> {
    let window = writer.signal.span_s(writer.batches.made()) + 1;
    let query = format!("count_over_time(soak{{w=\"{}\",i=\"7\"}}[{window}s])", writer.number);
    let path = format!(
        "{}/api/v1/query?query={}&time={}",
        contender.prefix(),
        escape(&query),
        loads.begin_s + window
    );
    Some(count(client, &path).await? * writer.signal.per_batch())
}

/// In slices, so that no server has to go through everything in one query.
async fn lines(client: &mut Client, loads: &Loads, writer: &Writer) -> Option<u64> {
    let query = format!("sum(count_over_time({{app=\"soak\",w=\"{}\"}}[{SLICE_S}s]))", writer.number);
    let slices = writer.signal.span_s(writer.batches.made()) / SLICE_S + 1;
    let mut sum = 0;
    for slice in 1..=slices {
        let end = loads.begin_s + slice * SLICE_S;
        let path = format!("/loki/api/v1/query?query={}&time={end}000000000", escape(&query));
        sum += count(client, &path).await?;
    }
    Some(sum)
}

async fn count(client: &mut Client, path: &str) -> Option<u64> {
    let mut told = String::new();
    for _ in 0..ATTEMPTS {
        let (status, text) = client.text(path).await;
        if status == 200 {
            let answer: Value = serde_json::from_str(&text).ok()?;
            return answer["data"]["result"][0]["value"][1].as_str().unwrap_or("0").parse().ok();
        }
        told = format!("{status}: {text}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    println!("a count had no answer, at last {told}");
    None
}
