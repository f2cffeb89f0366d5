//! Answers in protobuf, for who accepts nothing else: the same results in Loki's own messages.

use std::time::Duration;

use http::{StatusCode, header};
use pilothouse_logql::{Direction, LogqlValue, QueryResult, QueryStats, ResultStream};
use pilothouse_model::{Labels, MatrixSeries, SampleValue};
use pilothouse_wire::logs::{ANSWER_TYPE, Cost, SamplesWriter, StreamsWriter};

use crate::logs::answer::labels_text;
use crate::reply::Reply;
use crate::service::Call;

/// Whether a request asks for protobuf. As in Loki, the header names that type and nothing beside it.
pub(crate) fn is_wanted(call: &Call) -> bool {
    call.header(header::ACCEPT) == ANSWER_TYPE
}

pub(crate) fn reply(body: Vec<u8>) -> Reply {
    Reply::new(StatusCode::OK, ANSWER_TYPE, body)
}

pub(crate) fn cost(stats: &QueryStats, queued: Duration) -> Cost {
    Cost {
        lines: stats.lines,
        bytes: stats.bytes,
        lines_after_filter: stats.lines_after_filter,
        entries_returned: stats.entries_returned,
        exec_seconds: stats.exec_ns as f64 / 1e9,
        queue_seconds: queued.as_secs_f64(),
        blocks: stats.blocks,
        blocks_read: stats.blocks.saturating_sub(stats.blocks_pruned),
        decompressed_bytes: stats.decompressed_bytes,
        streams: stats.streams,
    }
}

/// The result of a query; `direction` and `limit` are those of the question.
pub(crate) fn result(result: &QueryResult, direction: Direction, limit: usize, queued: Duration) -> Vec<u8> {
    let cost = cost(&result.stats, queued);
    match &result.value {
        LogqlValue::Streams(list) => streams(list, direction, limit, &cost),
        LogqlValue::Vector(samples) => {
            let mut writer = SamplesWriter::new("vector");
            for sample in samples {
                writer.series(&sample.labels, [(sample.t_ms, float(&sample.value))]);
            }
            writer.finish(&cost)
        }
        LogqlValue::Matrix(list) => matrix(list, &cost),
        LogqlValue::Scalar { t_ms, value } => {
            let mut writer = SamplesWriter::new("scalar");
            writer.series(&Labels::empty(), [(*t_ms, *value)]);
            writer.finish(&cost)
        }
    }
}

fn float(value: &SampleValue) -> f64 {
    match value {
        SampleValue::Float(value) => *value,
        // LogQL makes no histograms.
        SampleValue::Histogram(_) => f64::NAN,
    }
}

fn matrix(list: &[MatrixSeries], cost: &Cost) -> Vec<u8> {
    let mut writer = SamplesWriter::new("matrix");
    for series in list {
        writer.series(&series.labels, series.floats.iter().copied());
    }
    writer.finish(cost)
}

fn streams(list: &[ResultStream], direction: Direction, limit: usize, cost: &Cost) -> Vec<u8> {
    let mut writer = StreamsWriter::default();
    for stream in list {
        writer.begin_stream(&labels_text(&stream.labels));
        for entry in &stream.entries {
            writer.entry(entry.t_ns, &entry.line, &entry.metadata, &entry.parsed);
        }
    }
    let direction = match direction {
        Direction::Forward => 0,
        Direction::Backward => 1,
    };
    writer.finish(direction, limit, cost)
}
