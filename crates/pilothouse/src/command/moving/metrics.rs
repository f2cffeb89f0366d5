//! Samples, from remote read to remote write, to a file of OpenMetrics or to files of Parquet.
//!
//! They are asked for window by window, because an answer may have any size: a window is halved
//! where it is too large, and grows where there is little. Pushes go through time with all
//! series at once, since many receivers refuse what is much older than their newest sample; a
//! file has one metric behind the other, as its format asks for.

use bytes::Bytes;
use http::{Method, header};
use pilothouse_model::labels::METRIC_NAME;
use pilothouse_model::limits::{Limits, MOVE_ANSWER_BYTES, MOVE_FRAME_BYTES, MOVE_PLAIN_BYTES};
use pilothouse_model::{Labels, Matcher, SampleColumns};
use pilothouse_promql::{ParseContext, parse_selector};
use pilothouse_wire::body::{BodyError, Encoding, decompress, snappy};
use pilothouse_wire::remote_read::{
    ReadQuery, ReadSeries, ResponseType, encode_request, read_frame, read_response,
};
use serde_json::Value;

use super::super::client::{CommandError, json};
use super::super::when::{self, Bounds};
use super::ledger::{Ledger, Place};
use super::openmetrics::{TextFile, begin};
use super::parquet::{Files, Samples};
use super::peer::Peer;
use super::pusher::Pusher;
use super::{Carriage, Counts, MetricsTarget, settle};

const HOUR_MS: i64 = 3_600_000;

/// From this server.
pub(super) async fn export(
    selector: &str,
    to: &MetricsTarget,
    carriage: &Carriage,
) -> Result<(), CommandError> {
    let matchers = matchers(selector)?;
    let here = carriage.here()?;
    let reader = Reader { peer: &here, path: "/prometheus/api/v1/read" };
    if let Some(file) = &to.openmetrics {
        let what = format!("metrics {selector} into {}", file.display());
        let mut ledger = carriage.ledger(&what, Some(file))?;
        let text = TextFile::open(file, begin(file, &mut ledger)?);
        let mut lanes = Vec::new();
        for name in names(&here, selector, ledger.bounds()).await? {
            let by_name = Matcher::equal(METRIC_NAME, name.as_str());
            lanes.push((name, [matchers.as_slice(), &[by_name]].concat()));
        }
        let done = carry(&reader, &lanes, &mut Target::File(text), &mut ledger).await;
        return settle(done, ledger, "samples");
    }
    if let Some(directory) = &to.parquet {
        let what = format!("metrics {selector} into {}", directory.display());
        let mut ledger = carriage.ledger(&what, Some(directory))?;
        let finished = ledger.reached_bytes();
        let mut target = Target::Parquet(Box::new(Files::open(directory, finished)?), Counts::default());
        ledger.begin()?;
        let done = carry(&reader, &[(String::new(), matchers)], &mut target, &mut ledger).await;
        return settle(done, ledger, "samples");
    }
    let url = to.remote_write.as_deref().unwrap_or_default();
    let pusher = Pusher::new(carriage.there(url)?, "", carriage.skip_refused);
    let what = format!("metrics {selector} to {}", pusher.host());
    push(&reader, matchers, pusher, carriage.ledger(&what, None)?).await
}

/// From a running Prometheus.
pub(super) async fn import(url: &str, selector: &str, carriage: &Carriage) -> Result<(), CommandError> {
    let there = carriage.there(url)?;
    let reader = Reader { peer: &there, path: "/api/v1/read" };
    let pusher = Pusher::new(carriage.here()?, "/api/v1/push", carriage.skip_refused);
    let what = format!("metrics {selector} from {}", there.host());
    push(&reader, matchers(selector)?, pusher, carriage.ledger(&what, None)?).await
}

async fn push(
    reader: &Reader<'_>,
    matchers: Vec<Matcher>,
    pusher: Pusher,
    mut ledger: Ledger,
) -> Result<(), CommandError> {
    let lanes = [(String::new(), matchers)];
    let done = carry(reader, &lanes, &mut Target::Push(Box::new(pusher)), &mut ledger).await;
    settle(done, ledger, "samples")
}

pub(super) fn matchers(selector: &str) -> Result<Vec<Matcher>, CommandError> {
    parse_selector(selector, &ParseContext::from(&Limits::default()))
        .map_err(|e| CommandError::Usage(e.to_string()))
}

/// All metrics that have series of a selector, in the order of their names.
async fn names(here: &Peer, selector: &str, bounds: Bounds) -> Result<Vec<String>, CommandError> {
    let (start, end) = (when::seconds(bounds.start_ms), when::seconds(bounds.end_ms));
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs([("match[]", selector), ("start", &start), ("end", &end)]);
    let path = format!("/prometheus/api/v1/label/{METRIC_NAME}/values?{}", query.finish());
    let answer = here.ask(Method::GET, &path, &[], Bytes::new()).await?;
    let answer = answer.ok_or_else(|| CommandError::Answer("there are too many metrics".to_owned()))?;
    let answer = json(&answer.body)?;
    let listed = answer.get("data").and_then(Value::as_array).into_iter().flatten();
    let mut names: Vec<String> = listed.filter_map(Value::as_str).map(str::to_owned).collect();
    names.sort_unstable();
    Ok(names)
}

/// What is gone through by itself, and which of how many it is.
struct Lane<'a> {
    name: &'a str,
    matchers: &'a [Matcher],
    nth: u64,
    of: u64,
}

async fn carry(
    reader: &Reader<'_>,
    lanes: &[(String, Vec<Matcher>)],
    target: &mut Target,
    ledger: &mut Ledger,
) -> Result<Counts, CommandError> {
    let reached = ledger.place().cloned();
    let mut items = reached.as_ref().map_or(0, |place| place.items);
    for (nth, (name, matchers)) in lanes.iter().enumerate() {
        let start_ms = match &reached {
            Some(place) if *name < place.lane => continue,
            Some(place) if *name == place.lane => place.next,
            _ => {
                target.begin(name);
                ledger.bounds().start_ms
            }
        };
        let rest = Bounds { start_ms, end_ms: ledger.bounds().end_ms };
        let lane = Lane { name, matchers, nth: nth as u64, of: lanes.len() as u64 };
        carry_lane(reader, &lane, rest, target, ledger, &mut items).await?;
    }
    let counts = target.end()?;
    ledger.carried(items);
    Ok(counts)
}

async fn carry_lane(
    reader: &Reader<'_>,
    lane: &Lane<'_>,
    rest: Bounds,
    target: &mut Target,
    ledger: &mut Ledger,
    items: &mut u64,
) -> Result<(), CommandError> {
    let Bounds { start_ms: mut start, end_ms } = rest;
    let whole = end_ms.saturating_sub(start).saturating_add(1);
    let mut width = target.first_width(whole);
    while start <= end_ms {
        let end = start.saturating_add(width - 1).min(end_ms);
        let Some(mut piece) = reader.read(lane.matchers, start, end).await? else {
            if width == 1 {
                return Err(CommandError::Answer(format!(
                    "the samples of one millisecond, {}, are too many; ask for fewer series",
                    when::shown(start)
                )));
            }
            width = ((end - start) / 2).max(1);
            continue;
        };
        let little = piece.len_bytes() < MOVE_ANSWER_BYTES / 8;
        while let Some(series) = piece.next()? {
            for mut one in series {
                keep_within(&mut one.samples, start, end);
                *items += target.take(&one.labels, &one.samples).await?;
            }
        }
        let settled = target.flush().await?;
        start = end + 1;
        let place = settled.map(|file_bytes| {
            let lane = lane.name.to_owned();
            Place { lane, next: start, file_bytes, items: *items }
        });
        let share = if lane.of > 1 { Some((lane.nth, lane.of)) } else { ledger.bounds().share(end) };
        let at = || format!("{items} read, {} up to {}", lane.name, when::shown(end));
        ledger.advance(place, share, at)?;
        if little {
            width = width.saturating_mul(2).min(whole);
        }
    }
    Ok(())
}

/// Streamed chunks come whole, with samples before and behind what was asked for; and what is
/// sent on has to be in order.
pub(super) fn keep_within(samples: &mut SampleColumns, start_ms: i64, end_ms: i64) {
    let within = |t: &i64| (start_ms..=end_ms).contains(t);
    if !samples.times_ms.iter().all(within) || !samples.times_ms.is_sorted_by(|a, b| a < b) {
        let pairs = samples.times_ms.iter().copied().zip(samples.values.iter().copied());
        let mut pairs: Vec<(i64, f64)> = pairs.filter(|(t, _)| within(t)).collect();
        pairs.sort_by_key(|(t, _)| *t);
        pairs.dedup_by_key(|(t, _)| *t);
        (samples.times_ms, samples.values) = pairs.into_iter().unzip();
    }
    samples.histograms.retain(|(t, _)| within(t));
    samples.histograms.sort_by_key(|(t, _)| *t);
    samples.histograms.dedup_by_key(|(t, _)| *t);
}

/// Who is asked for samples.
struct Reader<'a> {
    peer: &'a Peer,
    path: &'static str,
}

/// An answer, of which the samples of one frame at a time are unpacked.
enum Piece {
    Frames { body: Bytes, at: usize },
    Plain { bytes: usize, series: Option<Vec<ReadSeries>> },
}

impl Reader<'_> {
    /// `None` if there are too many for one answer. Both ends are inclusive.
    async fn read(
        &self,
        matchers: &[Matcher],
        start_ms: i64,
        end_ms: i64,
    ) -> Result<Option<Piece>, CommandError> {
        let query = ReadQuery { start_ms, end_ms, matchers: matchers.to_vec() };
        let accepted = [ResponseType::StreamedXorChunks, ResponseType::Samples];
        let body = Bytes::from(snappy(&encode_request(&[query], &accepted)));
        let headers = [
            ("content-type", "application/x-protobuf"),
            ("content-encoding", "snappy"),
            ("x-prometheus-remote-read-version", "0.1.0"),
        ];
        let Some(answer) = self.peer.ask(Method::POST, self.path, &headers, body).await? else {
            return Ok(None);
        };
        let kind = answer.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        if kind.starts_with("application/x-streamed-protobuf") {
            return Ok(Some(Piece::Frames { body: answer.body, at: 0 }));
        }
        let plain = match decompress(Encoding::Snappy, &answer.body, MOVE_PLAIN_BYTES) {
            Err(BodyError::TooLarge { .. }) => return Ok(None),
            plain => plain.map_err(|e| CommandError::Answer(e.to_string()))?,
        };
        let max_buckets = usize::try_from(Limits::default().max_histogram_buckets).unwrap_or(usize::MAX);
        let results = read_response(&plain, max_buckets).map_err(|e| CommandError::Answer(e.to_string()))?;
        let series = Some(results.into_iter().flatten().collect());
        Ok(Some(Piece::Plain { bytes: plain.len(), series }))
    }
}

impl Piece {
    fn len_bytes(&self) -> usize {
        match self {
            Self::Frames { body, .. } => body.len(),
            Self::Plain { bytes, .. } => *bytes,
        }
    }

    fn next(&mut self) -> Result<Option<Vec<ReadSeries>>, CommandError> {
        let (body, at) = match self {
            Self::Plain { series, .. } => return Ok(series.take()),
            Self::Frames { body, at } => (body, at),
        };
        let mut rest = body.get(*at..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let mut found = Vec::new();
        read_frame(&mut rest, MOVE_FRAME_BYTES, |_, series| found.push(series))
            .map_err(|e| CommandError::Answer(e.to_string()))?;
        *at = body.len() - rest.len();
        Ok(Some(found))
    }
}

enum Target {
    File(TextFile),
    Parquet(Box<Files<Samples>>, Counts),
    Push(Box<Pusher>),
}

impl Target {
    fn begin(&mut self, name: &str) {
        if let Self::File(file) = self {
            file.begin(name);
        }
    }

    /// A metric of a file is asked for as a whole first, so that its series stay together.
    fn first_width(&self, whole: i64) -> i64 {
        match self {
            Self::File(_) => whole.max(1),
            Self::Parquet(..) | Self::Push(_) => (2 * HOUR_MS).min(whole).max(1),
        }
    }

    /// Gives how many samples were taken.
    async fn take(&mut self, labels: &Labels, samples: &SampleColumns) -> Result<u64, CommandError> {
        match self {
            Self::File(file) => file.take(labels, samples),
            Self::Parquet(files, counts) => {
                let taken = files.waiting().push(labels, samples);
                counts.left_out += samples.histograms.len() as u64;
                files.added()?;
                Ok(taken)
            }
            Self::Push(pusher) => pusher.take(labels, samples).await,
        }
    }

    /// Sends on what was taken. If all of it is at the other side now, gives the length of a file, or
    /// the number of files.
    async fn flush(&mut self) -> Result<Option<u64>, CommandError> {
        match self {
            Self::File(file) => file.flush().map(Some),
            Self::Parquet(files, _) => files.settle(),
            Self::Push(pusher) => pusher.flush().await.map(|()| Some(0)),
        }
    }

    fn end(&mut self) -> Result<Counts, CommandError> {
        match self {
            Self::File(file) => file.end(),
            Self::Parquet(files, counts) => files.end().map(|()| std::mem::take(counts)),
            Self::Push(pusher) => Ok(pusher.take_counts()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_outside_of_what_was_asked_for_are_dropped() {
        let mut samples = SampleColumns::default();
        [5, 1, 3, 3, 9].iter().for_each(|t| samples.push_float(*t, *t as f64));
        samples.histograms = [9, 4].map(|t| (t, std::sync::Arc::default())).to_vec();
        keep_within(&mut samples, 3, 8);
        assert_eq!((samples.times_ms, samples.values), (vec![3, 5], vec![3.0, 5.0]));
        assert_eq!(samples.histograms.len(), 1);
    }
}
