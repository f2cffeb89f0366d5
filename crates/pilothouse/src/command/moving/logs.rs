//! Lines, from Loki's query API to its push API, to a file with a JSON object a line, or to files of
//! Parquet.
//!
//! Pages are asked for forward in time. A full page may end amid entries of one time, so the
//! entries of its last time are left to the next page, which begins there: nothing has to be
//! remembered of a page, and nothing comes twice.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::Method;
use pilothouse_model::limits::{MOVE_LOG_RANGE_MS, MOVE_PAGE_LINES, MOVE_PUSH_BYTES};
use serde::{Deserialize, Serialize};

use super::super::client::CommandError;
use super::super::when;
use super::ledger::{Ledger, Place};
use super::openmetrics::append;
use super::parquet::{Files, Lines};
use super::peer::Peer;
use super::{Carriage, Counts, LogsTarget, settle};

const MS_NS: i64 = 1_000_000;
const HOUR_NS: i64 = 3_600 * 1_000 * MS_NS;
/// What an entry takes in a push besides its texts.
const ENTRY_BYTES: usize = 48;
/// Without it labels and structured metadata come as one.
const CATEGORIZE: (&str, &str) = ("x-loki-response-encoding-flags", "categorize-labels");

/// From this server.
pub(super) async fn export(query: &str, to: &LogsTarget, carriage: &Carriage) -> Result<(), CommandError> {
    let here = carriage.here()?;
    let (ledger, target) = match (&to.jsonl, &to.parquet) {
        (_, Some(directory)) => {
            let mut ledger =
                carriage.ledger(&format!("logs {query} into {}", directory.display()), Some(directory))?;
            let files = Files::open(directory, ledger.reached_bytes())?;
            ledger.begin()?;
            (ledger, Target::Parquet(Box::new(files)))
        }
        (Some(path), None) => {
            let mut ledger = carriage.ledger(&format!("logs {query} into {}", path.display()), Some(path))?;
            let length = super::openmetrics::begin(path, &mut ledger)?;
            let file = Target::File { path: path.clone(), length, text: String::new() };
            (ledger, file)
        }
        (None, None) => {
            let there = carriage.there(to.loki.as_deref().unwrap_or_default())?;
            let ledger = carriage.ledger(&format!("logs {query} to {}", there.host()), None)?;
            (ledger, Target::Push { peer: Box::new(there), skip_refused: carriage.skip_refused })
        }
    };
    carry(&here, query, target, ledger).await
}

/// From a running Loki.
pub(super) async fn import(url: &str, query: &str, carriage: &Carriage) -> Result<(), CommandError> {
    let there = carriage.there(url)?;
    let ledger = carriage.ledger(&format!("logs {query} from {}", there.host()), None)?;
    let target = Target::Push { peer: Box::new(carriage.here()?), skip_refused: carriage.skip_refused };
    carry(&there, query, target, ledger).await
}

async fn carry(from: &Peer, query: &str, mut target: Target, mut ledger: Ledger) -> Result<(), CommandError> {
    let mut counts = Counts::default();
    let done = pages(from, query, &mut target, &mut ledger, &mut counts).await;
    settle(done.map(|()| counts), ledger, "lines")
}

async fn pages(
    from: &Peer,
    query: &str,
    target: &mut Target,
    ledger: &mut Ledger,
    counts: &mut Counts,
) -> Result<(), CommandError> {
    let bounds = ledger.bounds();
    let mut place = ledger
        .place()
        .cloned()
        .unwrap_or_else(|| Place { next: bounds.start_ms.saturating_mul(MS_NS), ..Place::default() });
    // The APIs' ends are exclusive, and this one is not.
    let end = bounds.end_ms.saturating_mul(MS_NS).saturating_add(1);
    let mut span = Span { width_ns: HOUR_NS, limit: MOVE_PAGE_LINES };
    while place.next < end {
        let ask = |start, end, limit| page(from, query, start, end, limit);
        let (streams, next) = span.page(ask, place.next, end).await?;
        place.items += entries_of(&streams);
        let settled = target.take(&streams, counts).await?;
        place.next = next;
        let (share, items) = (bounds.share(next / MS_NS), place.items);
        let reached = settled.map(|file_bytes| Place { file_bytes, ..place.clone() });
        ledger.advance(reached, share, || format!("{items} carried, up to {}", when::shown(next / MS_NS)))?;
    }
    target.end()?;
    ledger.carried(place.items);
    Ok(())
}

/// How much is asked for at once.
struct Span {
    width_ns: i64,
    /// Entries.
    limit: u64,
}

impl Span {
    /// The next page, and where the one after it begins. It is asked for again with a lower limit where it
    /// is too large, and with a higher one where all of it has one time: then for that time alone, so that what
    /// is too large cannot be had. `ask` gives `None` for what is too large.
    async fn page(
        &mut self,
        ask: impl AsyncFn(i64, i64, u64) -> Result<Option<Vec<Stream>>, CommandError>,
        start: i64,
        end: i64,
    ) -> Result<(Vec<Stream>, i64), CommandError> {
        let (mut was_too_large, mut one_time) = (false, None::<i64>);
        loop {
            let until = start.saturating_add(self.width_ns).min(end);
            let until = one_time.map_or(until, |t| t.saturating_add(1));
            let Some(streams) = ask(start, until, self.limit).await? else {
                if self.limit == 1 || one_time.is_some() {
                    return Err(too_many(start));
                }
                was_too_large = true;
                self.limit /= 2;
                continue;
            };
            let is_all = entries_of(&streams) < self.limit;
            let last = last_of(&streams);
            let found = if is_all { Some((streams, until)) } else { cut(streams, until) };
            if let Some(found) = found {
                // Long lines come to an end. By steps that are small beside the halves: where they do not, few pages
                // are asked for in vain.
                let grown = if was_too_large { self.limit } else { self.limit + self.limit / 4 + 1 };
                self.limit = grown.min(MOVE_PAGE_LINES);
                if is_all && one_time.is_none() {
                    self.width_ns = (self.width_ns * 2).min(MOVE_LOG_RANGE_MS * MS_NS);
                }
                return Ok(found);
            }
            one_time = last;
            self.limit *= 2;
        }
    }
}

fn entries_of(streams: &[Stream]) -> u64 {
    streams.iter().map(|stream| stream.values.len() as u64).sum()
}

fn too_many(t_ns: i64) -> CommandError {
    let at = when::shown(t_ns / MS_NS);
    CommandError::Answer(format!("the lines of one time, {at}, are too many; ask for fewer streams"))
}

fn last_of(streams: &[Stream]) -> Option<i64> {
    streams.iter().flat_map(|stream| &stream.values).map(|entry| entry.0.0).max()
}

/// The entries before the last time of a full page, and that time; `None` if there are none.
fn cut(mut streams: Vec<Stream>, until: i64) -> Option<(Vec<Stream>, i64)> {
    let last = last_of(&streams).unwrap_or(until);
    for stream in &mut streams {
        stream.values.retain(|entry| entry.0.0 < last);
    }
    streams.retain(|stream| !stream.values.is_empty());
    (!streams.is_empty()).then_some((streams, last))
}

/// `None` if the answer is larger than is taken in.
async fn page(
    from: &Peer,
    query: &str,
    start: i64,
    end: i64,
    limit: u64,
) -> Result<Option<Vec<Stream>>, CommandError> {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("query", query).append_pair("direction", "forward");
    for (name, number) in [("start", start), ("end", end), ("limit", limit as i64)] {
        form.append_pair(name, &number.to_string());
    }
    let path = format!("/loki/api/v1/query_range?{}", form.finish());
    let Some(answer) = from.ask(Method::GET, &path, &[CATEGORIZE], Bytes::new()).await? else {
        return Ok(None);
    };
    let answer: Answer = serde_json::from_slice(&answer.body)
        .map_err(|e| CommandError::Answer(format!("{e}; only queries for lines can be carried")))?;
    let streams = answer.data.result;
    if !streams.is_empty() && !answer.data.encoding_flags.iter().any(|flag| flag == CATEGORIZE.1) {
        return Err(CommandError::Answer(format!(
            "{} does not tell labels from structured metadata; Loki does since 2.9.4",
            from.host()
        )));
    }
    Ok(Some(streams))
}

#[derive(Debug, Deserialize)]
struct Answer {
    data: Data,
}

#[derive(Debug, Deserialize)]
struct Data {
    #[serde(rename = "encodingFlags", default)]
    encoding_flags: Vec<String>,
    result: Vec<Stream>,
}

type Pairs = BTreeMap<String, String>;

#[derive(Debug, Deserialize)]
struct Stream {
    stream: Pairs,
    values: Vec<Entry>,
}

/// Time, line, and what belongs to the line.
#[derive(Debug, Deserialize)]
struct Entry(Time, String, #[serde(default)] Layers);

/// Nanoseconds; a text in JSON, whose numbers are too small for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Time(i64);

impl TryFrom<String> for Time {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

#[derive(Debug, Default, Deserialize)]
struct Layers {
    #[serde(rename = "structuredMetadata", default)]
    metadata: Pairs,
}

enum Target {
    File { path: std::path::PathBuf, length: u64, text: String },
    Parquet(Box<Files<Lines>>),
    Push { peer: Box<Peer>, skip_refused: bool },
}

impl Target {
    /// If everything is at the other side when it returns, gives the length of a file, or the number
    /// of files.
    async fn take(&mut self, streams: &[Stream], counts: &mut Counts) -> Result<Option<u64>, CommandError> {
        match self {
            Self::File { path, length, text } => {
                write_lines(streams, text)?;
                append(path, length, text)?;
                Ok(Some(*length))
            }
            Self::Parquet(files) => {
                for Stream { stream, values } in streams {
                    files.waiting().begin_stream(stream);
                    for Entry(Time(t_ns), line, layers) in values {
                        files.waiting().push(*t_ns, line, &layers.metadata);
                    }
                }
                files.added()?;
                files.settle()
            }
            Self::Push { peer, skip_refused } => {
                for body in bodies(streams)? {
                    let headers = [("content-type", "application/json")];
                    let path = "/loki/api/v1/push";
                    let answer = peer.call(Method::POST, path, &headers, Bytes::from(body)).await?;
                    counts.pushed(peer, &answer, *skip_refused)?;
                }
                Ok(Some(0))
            }
        }
    }

    fn end(&mut self) -> Result<(), CommandError> {
        match self {
            Self::Parquet(files) => files.end(),
            _ => Ok(()),
        }
    }
}

/// The names are those of `logcli --output jsonl`, and `metadata` besides.
#[derive(Debug, Serialize)]
struct Line<'a> {
    labels: &'a Pairs,
    line: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: &'a Pairs,
    timestamp: String,
}

fn write_lines(streams: &[Stream], text: &mut String) -> Result<(), CommandError> {
    let of = |stream| move |entry| (stream, entry);
    let mut all: Vec<(&Stream, &Entry)> =
        streams.iter().flat_map(|stream| stream.values.iter().map(of(stream))).collect();
    all.sort_by_key(|(_, entry)| entry.0.0);
    for (stream, Entry(Time(t_ns), line, layers)) in all {
        let timestamp = jiff::Timestamp::from_nanosecond(i128::from(*t_ns))
            .map_or_else(|_| t_ns.to_string(), |t| format!("{t:.9}"));
        let line = Line { labels: &stream.stream, line, metadata: &layers.metadata, timestamp };
        text.push_str(&serde_json::to_string(&line).map_err(std::io::Error::from)?);
        text.push('\n');
    }
    Ok(())
}

#[derive(Debug, Serialize)]
struct Push<'a> {
    streams: Vec<PushStream<'a>>,
}

#[derive(Debug, Serialize)]
struct PushStream<'a> {
    stream: &'a Pairs,
    values: Vec<(String, &'a str, &'a Pairs)>,
}

/// Pushes of bounded size that together hold all entries.
fn bodies(streams: &[Stream]) -> Result<Vec<String>, CommandError> {
    let (mut bodies, mut push, mut bytes) = (Vec::new(), Push { streams: Vec::new() }, 0);
    for Stream { stream, values } in streams {
        push.streams.push(PushStream { stream, values: Vec::new() });
        for Entry(Time(t_ns), line, layers) in values {
            if bytes >= MOVE_PUSH_BYTES {
                bodies.push(serde_json::to_string(&push).map_err(std::io::Error::from)?);
                push.streams = vec![PushStream { stream, values: Vec::new() }];
                bytes = 0;
            }
            let metadata = layers.metadata.iter().map(|(n, v)| n.len() + v.len() + 6).sum::<usize>();
            bytes += ENTRY_BYTES + line.len() + metadata;
            if let Some(last) = push.streams.last_mut() {
                last.values.push((t_ns.to_string(), line, &layers.metadata));
            }
        }
    }
    if bytes > 0 {
        bodies.push(serde_json::to_string(&push).map_err(std::io::Error::from)?);
    }
    Ok(bodies)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streams(times: &[&[i64]]) -> Vec<Stream> {
        let entry = |t: &i64| Entry(Time(*t), format!("at {t}"), Layers::default());
        let stream = |(i, times): (usize, &&[i64])| Stream {
            stream: Pairs::from([("i".to_owned(), i.to_string())]),
            values: times.iter().map(entry).collect(),
        };
        times.iter().enumerate().map(stream).collect()
    }

    #[test]
    fn a_full_page_leaves_its_last_time_to_the_next() {
        for (times, expected) in [
            (&[&[1, 2, 5][..], &[3, 5]][..], Some((3, 5))),
            (&[&[1], &[2]], Some((1, 2))),
            (&[&[4, 4], &[4]], None),
        ] {
            let cut = cut(streams(times), 9);
            let kept = cut.map(|(s, next)| (s.iter().map(|s| s.values.len()).sum::<usize>(), next));
            assert_eq!(kept, expected, "{times:?}");
        }
    }

    /// All that there is of some lines, each a time and a length, from a server that is asked page by page and whose
    /// answers are too large from so many bytes on; and how often it was asked.
    fn all_pages(lines: &[(i64, usize)], largest: usize) -> (Result<Vec<i64>, CommandError>, usize) {
        let asked = std::cell::Cell::new(0);
        let ask = async |start: i64, end: i64, limit: u64| {
            asked.set(asked.get() + 1);
            let inside = lines.iter().filter(|(t, _)| (start..end).contains(t));
            let found: Vec<_> = inside.take(limit as usize).collect();
            let is_large = found.iter().map(|(_, bytes)| bytes).sum::<usize>() > largest;
            let times: Vec<i64> = found.iter().map(|(t, _)| *t).collect();
            Ok((!is_large).then(|| streams(&[&times[..]])))
        };
        let end = lines.last().unwrap().0 + 1;
        let carry = async {
            let mut span = Span { width_ns: HOUR_NS, limit: MOVE_PAGE_LINES };
            let (mut next, mut carried) = (0, Vec::new());
            while next < end {
                let (streams, then) = span.page(&ask, next, end).await?;
                carried.extend(streams.iter().flat_map(|s| &s.values).map(|entry| entry.0.0));
                next = then;
            }
            Ok(carried)
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        (runtime.block_on(carry), asked.get())
    }

    #[test]
    fn long_lines_make_the_pages_short_that_hold_them_and_no_others() {
        let page = MOVE_PAGE_LINES as i64;
        let long = |i: i64| (i, 1_000);
        // Many of one time behind the long ones, as a restart writes them.
        let crowd = (0..page / 4).map(|_| (500, 1));
        let short = (1_000..1_000 + 3 * page).map(|i| (i, 1));
        let lines: Vec<(i64, usize)> = (0..100).map(long).chain(crowd).chain(short).collect();
        let (carried, asked) = all_pages(&lines, 10_000);
        assert_eq!(carried.unwrap(), lines.iter().map(|(t, _)| *t).collect::<Vec<_>>());
        assert!(asked < 100, "{asked}");
        // Where none of the lines is short, no more than some pages are asked for in vain.
        let lines: Vec<(i64, usize)> = (0..1_000).map(long).collect();
        let (carried, asked) = all_pages(&lines, 10_000);
        assert_eq!(carried.unwrap().len(), 1_000);
        assert!(asked < 300, "{asked}");
        // Long ones before and behind many of one time.
        let many = (0..60).map(|_| (2_000, 100));
        let lines: Vec<(i64, usize)> =
            (0..20).map(long).chain(many).chain((3_000..3_020).map(long)).collect();
        assert_eq!(all_pages(&lines, 10_000).0.unwrap().len(), 100);
        // More of one time than any answer may hold.
        assert!(all_pages(&[(5, 1_000); 40], 10_000).0.is_err());
    }

    #[test]
    fn an_answer_becomes_pushes_and_lines() {
        let answer = r#"{"data":{"resultType":"streams","encodingFlags":["categorize-labels"],"result":[
            {"stream":{"app":"x"},"values":[["1500000000","a \"b\"",{"structuredMetadata":{"k":"v"},"parsed":{"p":"q"}}]]},
            {"stream":{"app":"y"},"values":[["1","c",{}],["2","d"]]}]}}"#;
        let answer: Answer = serde_json::from_str(answer).unwrap();
        let streams = answer.data.result;
        let bodies = bodies(&streams).unwrap();
        assert_eq!(
            bodies,
            [
                r#"{"streams":[{"stream":{"app":"x"},"values":[["1500000000","a \"b\"",{"k":"v"}]]},{"stream":{"app":"y"},"values":[["1","c",{}],["2","d",{}]]}]}"#
            ]
        );
        let mut text = String::new();
        write_lines(&streams, &mut text).unwrap();
        let expected = [
            r#"{"labels":{"app":"y"},"line":"c","timestamp":"1970-01-01T00:00:00.000000001Z"}"#,
            r#"{"labels":{"app":"y"},"line":"d","timestamp":"1970-01-01T00:00:00.000000002Z"}"#,
            r#"{"labels":{"app":"x"},"line":"a \"b\"","metadata":{"k":"v"},"timestamp":"1970-01-01T00:00:01.500000000Z"}"#,
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
        let numbers = r#"{"data":{"resultType":"matrix","result":[{"metric":{},"values":[[1,"2"]]}]}}"#;
        assert!(serde_json::from_str::<Answer>(numbers).is_err());
    }

    #[test]
    fn pushes_are_bounded() {
        let mut one = streams(&[&[1, 2, 3, 4]]);
        one.iter_mut()
            .flat_map(|s| &mut s.values)
            .for_each(|entry| entry.1 = "x".repeat(MOVE_PUSH_BYTES / 2));
        let bodies = bodies(&one).unwrap();
        assert_eq!(bodies.len(), 2);
        assert!(bodies.iter().all(|body| body.len() < 2 * MOVE_PUSH_BYTES));
    }
}
