//! What the query APIs of Prometheus and Loki answer, as words.

use std::collections::BTreeMap;

use pilothouse_model::{
    Labels, QueryValue, RemoteError, SampleColumns, SampleValue, SourceError, VectorSample,
};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};

#[derive(Deserialize)]
struct Answer<T> {
    data: Option<T>,
}

/// Takes the envelope off; a Loki leaves empty data out.
pub(crate) fn data<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, SourceError> {
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
pub(crate) enum QueryData {
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
pub(crate) struct Element {
    #[serde(default)]
    pub(crate) metric: Pairs,
    pub(crate) value: Option<Point>,
    #[serde(default)]
    pub(crate) values: Vec<Point>,
    pub(crate) histogram: Option<IgnoredAny>,
    pub(crate) histograms: Option<IgnoredAny>,
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
pub(crate) struct Point {
    pub(crate) t_ms: i64,
    pub(crate) value: f64,
}

impl<'de> Deserialize<'de> for Point {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (seconds, text) = <(f64, String)>::deserialize(deserializer)?;
        let value = text.parse().map_err(|_| serde::de::Error::custom(format!("{text:?} is no number")))?;
        Ok(Self { t_ms: (seconds * 1000.0).round() as i64, value })
    }
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

/// The value of an instant query. A native histogram has no schema there, and cannot be taken over.
pub(crate) fn query_value(body: &[u8]) -> Result<QueryValue, SourceError> {
    Ok(match data::<QueryData>(body)? {
        QueryData::Vector(elements) => {
            QueryValue::Vector(elements.into_iter().map(sample).collect::<Result<_, _>>()?)
        }
        QueryData::Scalar(point) => QueryValue::Scalar { t_ms: point.t_ms, value: point.value },
        QueryData::String((seconds, text)) => {
            QueryValue::String { t_ms: (seconds * 1000.0).round() as i64, text }
        }
        QueryData::Matrix(_) => QueryValue::Matrix(Vec::new()),
        QueryData::Streams(_) => return Err(strange("lines, where a metric query was asked")),
    })
}

fn sample(element: Element) -> Result<VectorSample, SourceError> {
    let Some(point) = element.value else {
        return Err(match element.histogram {
            Some(_) => without_schema(),
            None => strange("an element without a value"),
        });
    };
    let value = SampleValue::Float(point.value);
    Ok(VectorSample { labels: element.metric.labels(), t_ms: point.t_ms, value })
}

fn without_schema() -> SourceError {
    let text =
        "the result holds native histograms, which the remote store's query API shows without their schema";
    RemoteError::Refused { status: 422, text: text.into() }.into()
}

/// The series of a query for raw samples; those with histograms alone have none.
pub(crate) fn raw_series(body: &[u8]) -> Result<Vec<(Labels, SampleColumns)>, SourceError> {
    let QueryData::Matrix(elements) = data(body)? else { return Err(strange("no matrix")) };
    let series = elements.into_iter().filter(|e| e.histograms.is_none() || !e.values.is_empty());
    Ok(series
        .map(|element| {
            let mut samples = SampleColumns::default();
            element.values.iter().for_each(|point| samples.push_float(point.t_ms, point.value));
            (element.metric.labels(), samples)
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_they_are_written() {
        let body = br#"{"status":"success","data":{"resultType":"vector","result":[
            {"metric":{"a":"b"},"value":[1.5,"+Inf"]},{"metric":{},"value":[2,"1e-09"]}],"stats":{"x":1}}}"#;
        let QueryValue::Vector(samples) = query_value(body).unwrap() else { panic!("no vector") };
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
        assert!(matches!(query_value(body), Ok(QueryValue::Scalar { t_ms: 3_000, value }) if value.is_nan()));
    }

    #[test]
    fn what_cannot_be_taken_over_is_said() {
        for (body, expected) in [
            (&b"<html>"[..], "the remote store answers strangely: expected value at line 1 column 1"),
            (
                br#"{"data":{"resultType":"vector","result":[{"metric":{},"histogram":[1,{"count":"1"}]}]}}"#,
                "the result holds native histograms, which the remote store's query API shows without their schema",
            ),
            (
                br#"{"data":{"resultType":"streams","result":[]}}"#,
                "the remote store answers strangely: lines, where a metric query was asked",
            ),
        ] {
            assert_eq!(query_value(body).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn entries_come_with_and_without_categories() {
        let body = br#"{"data":{"resultType":"streams","result":[{"stream":{"app":"x"},"values":[
            ["7","a",{"structuredMetadata":{"t":"1"},"parsed":{"p":"2"}}],["8","b",{}],["9","c"]]}]}}"#;
        let QueryData::Streams(streams) = data(body).unwrap() else { panic!("no streams") };
        let entries = &streams[0].values;
        let read: Vec<(i64, &str, String)> =
            entries.iter().map(|e| (e.t_ns, e.line.as_str(), e.metadata.labels().to_string())).collect();
        assert_eq!(read, [(7, "a", r#"{t="1"}"#.into()), (8, "b", "{}".into()), (9, "c", "{}".into())]);
    }
}
