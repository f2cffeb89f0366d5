//! What the query APIs of Prometheus and Loki answer, as words.

use std::collections::BTreeMap;

use pilothouse_model::limits::REMOTE_READ_BYTES;
use pilothouse_model::log_ports::LogStats;
use pilothouse_model::ports::Exemplar;
use pilothouse_model::write::{MetadataEntry, MetricType};
use pilothouse_model::{
    Budget, Labels, QueryValue, RemoteError, SampleColumns, SampleValue, SourceError, VectorSample,
};
use pilothouse_wire::body::{Encoding, decompress, snappy_bytes};
use pilothouse_wire::remote_read::{ReadSeries, read_response};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};

#[derive(Deserialize)]
struct Answer<T> {
    data: Option<T>,
}

/// Takes the envelope off; a Loki leaves empty data out.
fn data<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, SourceError> {
    let answer: Answer<T> = serde_json::from_slice(body).map_err(|e| strange(&e.to_string()))?;
    Ok(answer.data.unwrap_or_default())
}

/// As the other side answered what nobody here understands; asking again is of no use.
pub(crate) fn strange(why: &str) -> SourceError {
    RemoteError::Refused { status: 502, text: format!("the remote store answers strangely: {why}").into() }
        .into()
}

/// `data` of a query.
#[derive(Debug, Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum QueryData {
    Vector(Vec<Element>),
    Matrix(Vec<Element>),
    Scalar(Point),
    String((f64, String)),
    Streams(Vec<Stream>),
}

impl Default for QueryData {
    fn default() -> Self {
        Self::Vector(Vec::new())
    }
}

#[derive(Debug, Deserialize)]
struct Element {
    #[serde(default)]
    metric: Pairs,
    value: Option<Point>,
    #[serde(default)]
    values: Vec<Point>,
    histogram: Option<IgnoredAny>,
    histograms: Option<IgnoredAny>,
}

/// Entries of one stream, in the order that was asked for.
#[derive(Debug, Deserialize)]
pub(crate) struct Stream {
    #[serde(default)]
    pub(crate) stream: Pairs,
    #[serde(default)]
    pub(crate) values: Vec<Entry>,
}

#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Pairs(BTreeMap<String, String>);

impl Pairs {
    pub(crate) fn labels(&self) -> Labels {
        Labels::from_pairs(&self.0)
    }
}

/// Seconds with a fraction, and a number as text.
#[derive(Debug, Clone, Copy)]
struct Point {
    t_ms: i64,
    value: f64,
}

impl<'de> Deserialize<'de> for Point {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (seconds, text) = <(f64, String)>::deserialize(deserializer)?;
        let value = text.parse().map_err(|_| serde::de::Error::custom(format!("{text:?} is no number")))?;
        Ok(Self { t_ms: milliseconds(seconds), value })
    }
}

fn milliseconds(seconds: f64) -> i64 {
    (seconds * 1000.0).round() as i64
}

/// A time, a line, and the structured metadata.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) t_ns: i64,
    pub(crate) line: String,
    pub(crate) metadata: Pairs,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Categories {
    structured_metadata: Pairs,
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Categorized(String, String, Categories),
            Plain(String, String),
        }
        let (time, line, categories) = match Written::deserialize(deserializer)? {
            Written::Categorized(time, line, categories) => (time, line, categories),
            Written::Plain(time, line) => (time, line, Categories::default()),
        };
        let t_ns = time.parse().map_err(|_| serde::de::Error::custom(format!("{time:?} is no time")))?;
        Ok(Self { t_ns, line, metadata: categories.structured_metadata })
    }
}

/// The value of an instant query; `None` where a native histogram is in it, since it has no schema
/// there.
pub fn query_value(body: &[u8]) -> Result<Option<QueryValue>, SourceError> {
    Ok(Some(match data::<QueryData>(body)? {
        QueryData::Vector(elements) if elements.iter().any(|e| e.histogram.is_some()) => return Ok(None),
        QueryData::Vector(elements) => {
            QueryValue::Vector(elements.into_iter().map(sample).collect::<Result<_, _>>()?)
        }
        QueryData::Scalar(point) => QueryValue::Scalar { t_ms: point.t_ms, value: point.value },
        QueryData::String((seconds, text)) => QueryValue::String { t_ms: milliseconds(seconds), text },
        QueryData::Matrix(_) => QueryValue::Matrix(Vec::new()),
        QueryData::Streams(_) => return Err(strange("lines, where a metric query was asked")),
    }))
}

fn sample(element: Element) -> Result<VectorSample, SourceError> {
    let point = element.value.ok_or_else(|| strange("an element without a value"))?;
    let value = SampleValue::Float(point.value);
    Ok(VectorSample { labels: element.metric.labels(), t_ms: point.t_ms, value })
}

/// The series of a query for raw samples, each with its times ascending; `None` where native
/// histograms are among them.
pub fn raw_series(body: &[u8]) -> Result<Option<Vec<(Labels, SampleColumns)>>, SourceError> {
    let QueryData::Matrix(elements) = data(body)? else { return Err(strange("no matrix")) };
    if elements.iter().any(|e| e.histograms.is_some()) {
        return Ok(None);
    }
    let series = elements.into_iter().map(|element| {
        let mut samples = SampleColumns::default();
        element.values.iter().for_each(|point| samples.push_float(point.t_ms, point.value));
        in_order(&samples)?;
        Ok((element.metric.labels(), samples))
    });
    series.collect::<Result<_, _>>().map(Some)
}

/// Who evaluates relies on it.
fn in_order(samples: &SampleColumns) -> Result<(), SourceError> {
    let histograms = samples.histograms.is_sorted_by(|a, b| a.0 < b.0);
    if histograms && samples.times_ms.is_sorted_by(|a, b| a < b) {
        return Ok(());
    }
    Err(strange("samples out of order"))
}

/// The series of an answer to one query by remote read, in its own compression.
pub fn read_series(body: &[u8], max_buckets: usize, budget: &Budget) -> Result<Vec<ReadSeries>, SourceError> {
    // More than may be is refused by whoever undoes it.
    budget.reserve_bytes(2 * snappy_bytes(body).min(REMOTE_READ_BYTES as u64))?;
    let plain = decompress(Encoding::Snappy, body, REMOTE_READ_BYTES as u64);
    let plain = plain.map_err(|e| strange(&e.to_string()))?;
    let results = read_response(&plain, max_buckets).map_err(|e| strange(&e.to_string()))?;
    let series: Vec<ReadSeries> = results.into_iter().flatten().collect();
    series.iter().try_for_each(|series| in_order(&series.samples))?;
    Ok(series)
}

/// Entries by stream, as a query for lines is answered; a system that found none may call it a matrix.
pub(crate) fn lines(body: &[u8]) -> Result<Vec<Stream>, SourceError> {
    match data(body)? {
        QueryData::Streams(streams) => Ok(streams),
        QueryData::Matrix(none) if none.is_empty() => Ok(Vec::new()),
        _ => Err(strange("no lines")),
    }
}

/// Names or values of labels.
pub fn texts(body: &[u8]) -> Result<Vec<String>, SourceError> {
    data(body)
}

/// Label sets, sorted.
pub fn label_sets(body: &[u8]) -> Result<Vec<Labels>, SourceError> {
    let mut sets: Vec<Labels> = data::<Vec<Pairs>>(body)?.iter().map(Pairs::labels).collect();
    sets.sort_unstable();
    Ok(sets)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SeriesExemplars {
    #[serde(default)]
    series_labels: Pairs,
    exemplars: Vec<WireExemplar>,
}

#[derive(Deserialize)]
struct WireExemplar {
    #[serde(default)]
    labels: Pairs,
    value: String,
    timestamp: f64,
}

/// The exemplars of each series.
pub fn exemplars(body: &[u8]) -> Result<Vec<(Labels, Vec<Exemplar>)>, SourceError> {
    let exemplar = |e: WireExemplar| Exemplar {
        labels: e.labels.labels(),
        value: e.value.parse().unwrap_or(f64::NAN),
        t_ms: milliseconds(e.timestamp),
    };
    let series = data::<Vec<SeriesExemplars>>(body)?.into_iter();
    Ok(series.map(|s| (s.series_labels.labels(), s.exemplars.into_iter().map(exemplar).collect())).collect())
}

#[derive(Deserialize)]
struct WireMetadata {
    #[serde(rename = "type", default)]
    metric_type: String,
    #[serde(default)]
    help: String,
    #[serde(default)]
    unit: String,
}

impl WireMetadata {
    fn words(self, family: String) -> MetadataEntry {
        let known = MetricType::ALL.into_iter().find(|t| t.as_str() == self.metric_type);
        MetadataEntry { family, metric_type: known.unwrap_or_default(), help: self.help, unit: self.unit }
    }
}

/// What is told of each metric family.
pub fn metadata(body: &[u8]) -> Result<Vec<MetadataEntry>, SourceError> {
    let families: BTreeMap<String, Vec<WireMetadata>> = data(body)?;
    let entries = families
        .into_iter()
        .flat_map(|(family, entries)| entries.into_iter().map(move |entry| entry.words(family.clone())));
    Ok(entries.collect())
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireStats {
    streams: u64,
    chunks: u64,
    bytes: u64,
    entries: u64,
}

/// What a Loki says of the streams of a selector; this answer has no envelope.
pub fn stats(body: &[u8]) -> Result<LogStats, SourceError> {
    let WireStats { streams, chunks, bytes, entries } =
        serde_json::from_slice(body).map_err(|e| strange(&e.to_string()))?;
    Ok(LogStats { streams, chunks, bytes, entries })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_they_are_written() {
        let body = br#"{"status":"success","data":{"resultType":"vector","result":[
            {"metric":{"a":"b"},"value":[1.5,"+Inf"]},{"metric":{},"value":[2,"1e-09"]}],"stats":{"x":1}}}"#;
        let Some(QueryValue::Vector(samples)) = query_value(body).unwrap() else { panic!("no vector") };
        let read: Vec<(String, i64, SampleValue)> =
            samples.into_iter().map(|s| (s.labels.to_string(), s.t_ms, s.value)).collect();
        assert_eq!(
            read,
            [
                (r#"{a="b"}"#.to_owned(), 1_500, SampleValue::Float(f64::INFINITY)),
                ("{}".to_owned(), 2_000, SampleValue::Float(1e-9)),
            ]
        );
        let body = br#"{"status":"success","data":{"result":[3,"NaN"],"resultType":"scalar"}}"#;
        assert!(
            matches!(query_value(body), Ok(Some(QueryValue::Scalar { t_ms: 3_000, value })) if value.is_nan())
        );
    }

    #[test]
    fn what_cannot_be_taken_over_is_said() {
        for (body, expected) in [
            (&b"<html>"[..], "the remote store answers strangely: expected value at line 1 column 1"),
            (
                br#"{"data":{"resultType":"streams","result":[]}}"#,
                "the remote store answers strangely: lines, where a metric query was asked",
            ),
        ] {
            assert_eq!(query_value(body).unwrap_err().to_string(), expected);
        }
        // Nor a native histogram, which has no schema there.
        let body =
            br#"{"data":{"resultType":"vector","result":[{"metric":{},"value":[1,"1"]},{"metric":{},"histogram":[1,{"count":"1"}]}]}}"#;
        assert_eq!(query_value(body).unwrap(), None);
        let body =
            br#"{"data":{"resultType":"matrix","result":[{"metric":{},"values":[[1,"1"]],"histograms":[[2,{"count":"1"}]]}]}}"#;
        assert!(raw_series(body).unwrap().is_none());
        let body = br#"{"data":{"resultType":"matrix","result":[{"metric":{},"values":[[2,"1"],[1,"1"]]}]}}"#;
        let refused = raw_series(body).unwrap_err().to_string();
        assert_eq!(refused, "the remote store answers strangely: samples out of order");
    }

    #[test]
    fn entries_come_with_and_without_categories() {
        let body = br#"{"data":{"resultType":"streams","result":[{"stream":{"app":"x"},"values":[
            ["7","a",{"structuredMetadata":{"t":"1"},"parsed":{"p":"2"}}],["8","b",{}],["9","c"]]}]}}"#;
        let streams = lines(body).unwrap();
        let entries = &streams[0].values;
        let read: Vec<(i64, &str, String)> =
            entries.iter().map(|e| (e.t_ns, e.line.as_str(), e.metadata.labels().to_string())).collect();
        assert_eq!(read, [(7, "a", r#"{t="1"}"#.into()), (8, "b", "{}".into()), (9, "c", "{}".into())]);
    }
}
