//! One module for each target, and the one list of them. `run` of each takes any bytes and panics
//! where an invariant that the head of its module names does not hold.

pub mod alertmanager_config;
pub mod alertmanager_matchers;
pub mod alertmanager_template;
pub mod codec_head;
pub mod codec_histogram;
pub mod codec_page;
pub mod codec_times;
pub mod codec_values;
pub mod control_copy;
pub mod exposition_protobuf;
pub mod exposition_text;
pub mod histogram_algebra;
pub mod index_day;
pub mod index_page;
pub mod log_block;
pub mod log_explore;
pub mod log_template;
pub mod logql_lines;
pub mod logql_parse;
pub mod loki_json;
pub mod loki_proto;
pub mod metrics_record;
pub mod openmetrics;
pub mod otlp_json;
pub mod otlp_logs;
pub mod otlp_proto;
pub mod promql_parse;
pub mod re2;
pub mod read_request;
pub mod relabel;
pub mod remote_answers;
pub mod rule_groups;
pub mod rule_text;
pub mod rw1;
pub mod rw2;
pub mod snappy;
pub mod synthetic_check;
pub mod synthetic_look;
pub mod tsdb_block;
pub mod wal_replay;
pub mod xor_chunk;

macro_rules! targets {
    ($( $name:ident, )*) => {
        /// Every target by its name.
        pub const TARGETS: &[(&str, fn(&[u8]))] = &[ $( (stringify!($name), $name::run), )* ];

        #[cfg(test)]
        mod kept {
            $( #[test] fn $name() { crate::kept::replay(stringify!($name), super::$name::run) } )*
        }
    };
}

targets! {
    alertmanager_config, alertmanager_matchers, alertmanager_template, codec_head, codec_histogram,
    codec_page, codec_times, codec_values, control_copy, exposition_protobuf, exposition_text,
    histogram_algebra, index_day, index_page, log_block, log_explore, log_template, logql_lines,
    logql_parse, loki_json, loki_proto, metrics_record, openmetrics, otlp_json, otlp_logs, otlp_proto,
    promql_parse, re2, read_request, relabel, remote_answers, rule_groups, rule_text, rw1, rw2,
    snappy, synthetic_check, synthetic_look, tsdb_block, wal_replay, xor_chunk,
}

/// The input as far as it is UTF-8.
fn as_text(data: &[u8]) -> &str {
    match std::str::from_utf8(data) {
        Ok(text) => text,
        Err(e) => std::str::from_utf8(&data[..e.valid_up_to()]).unwrap_or_default(),
    }
}
