//! The one list of limits: name, default, unit, help. Command line, configuration, admission
//! and the reference page are all made from it. What bounds that which comes from outside, or
//! grows with it, stands here: [`Limits`] can be configured, [`BOUNDS`] cannot. Elsewhere are only
//! sizes that belong to a format on the disk, and what another system's protocol or product lays
//! down for its own messages.

mod bounds;

use std::sync::Arc;

use arc_swap::ArcSwap;

pub use bounds::*;

/// One limit as the reference page and the command line show it.
#[derive(Debug, Clone, Copy)]
pub struct LimitInfo {
    pub name: &'static str,
    pub default: u64,
    pub unit: &'static str,
    pub help: &'static str,
    /// Whether a server that runs takes over a change, or only the next start does.
    pub is_live: bool,
}

macro_rules! limits {
    (@live) => { true };
    (@live at_start) => { false };
    ($( $name:ident = $default:expr, $unit:literal, $help:literal $(, $when:ident)?; )*) => {
        /// The limits in force. Each field is named, defaulted and explained in [`Limits::LIST`].
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Limits { $( #[doc = $help] pub $name: u64, )* }

        impl Default for Limits {
            fn default() -> Self { Self { $( $name: $default, )* } }
        }

        impl Limits {
            pub const LIST: &'static [LimitInfo] = &[ $( LimitInfo {
                name: stringify!($name), default: $default, unit: $unit, help: $help,
                is_live: limits!(@live $($when)?),
            }, )* ];

            /// Sets a limit by name; `false` if there is none of that name.
            pub fn set(&mut self, name: &str, value: u64) -> bool {
                match name { $( stringify!($name) => self.$name = value, )* _ => return false }
                true
            }

            pub fn get(&self, name: &str) -> Option<u64> {
                match name { $( stringify!($name) => Some(self.$name), )* _ => None }
            }
        }
    };
}

// What ends with `at_start` sizes something that is made once.
limits! {
    max_active_series = 250_000, "series", "Series that got a sample in the last 20 minutes; new ones beyond it are refused. 0: no limit.";
    max_series_in_memory = 1_000_000, "series", "Series of days that are not compacted yet, active or not; new ones beyond it are refused. 0: no limit.";
    max_log_streams = 5_000, "streams", "Log streams that got an entry in the last 30 minutes; new ones beyond it are refused. 0: no limit.";
    max_log_bytes_per_second = 0, "bytes/s", "Rate of log lines and structured metadata taken in; a push beyond it is answered 429. 0: no limit. Loki's default is 4 MB.";
    max_log_burst_bytes = 6 << 20, "bytes", "Bytes of logs that may come at once above the rate.";
    max_stream_bytes_per_second = 0, "bytes/s", "The same for each log stream; entries beyond it are refused. 0: no limit. Loki's default is 3 MB.";
    max_stream_burst_bytes = 15 << 20, "bytes", "Bytes of one log stream that may come at once above the rate.";
    max_labels_per_stream = 15, "labels", "Labels of one log stream; `service_name` is not counted.";
    max_line_bytes = 256 << 10, "bytes", "Length of a log line; longer ones are refused. 0: no limit below that of a block.";
    max_entry_metadata_pairs = 128, "pairs", "Structured metadata of one log entry. 0: no limit.";
    max_entry_metadata_bytes = 64 << 10, "bytes", "Names and values of the structured metadata of one log entry. 0: no limit.";
    log_tail_bytes = 64 << 20, "bytes", "Log lines in memory that are not on the disk as blocks yet; above it, writers wait.";
    max_open_log_days = 8, "days", "Days whose tables of blocks are held in memory for log queries.", at_start;
    log_deletion_delay_ms = 86_400_000, "ms", "How long a deletion of log entries can be canceled; they are hidden at once, and removed after it.";
    max_log_deletions = 1_000, "requests", "Deletions of log entries that are not done yet; more are refused.";
    max_labels_per_series = 40, "labels", "Labels of one series, the metric name included.";
    max_label_name_bytes = 1_024, "bytes", "Length of a label name.";
    max_label_value_bytes = 2_048, "bytes", "Length of a label value.";
    max_future_ms = 600_000, "ms", "How far ahead of the clock a sample may be.";
    out_of_order_window_ms = u64::MAX, "ms", "How much older than its series' newest sample a sample may be; unsaid, anything within retention.";
    max_samples_per_second = 0, "samples/s", "Rate of samples taken in; more is answered 429. 0: no limit.";
    max_samples_burst = 200_000, "samples", "Samples that may come at once above the rate.";
    max_requests_in_flight = 1_024, "requests", "Requests served at once; more are answered 503.", at_start;
    header_timeout_ms = 30_000, "ms", "Time in which a client must send the head of a request, and shake hands for TLS.", at_start;
    body_timeout_ms = 60_000, "ms", "Time in which a client must send the body of a request.";
    send_timeout_ms = 60_000, "ms", "How long a client may read nothing of an answer; then its connection is cut.", at_start;
    max_body_bytes = 100 << 20, "bytes", "Size of a request body after decompression.";
    max_request_series = 1_000_000, "series", "Series or log streams of one write request.";
    max_request_samples = 10_000_000, "samples", "Samples, histogram buckets and exemplars, or log entries and their metadata, of one write request.";
    max_exemplars = 100_000, "exemplars", "Exemplars kept per data source, oldest dropped first.", at_start;
    max_exemplar_label_chars = 128, "characters", "Characters of all labels of one exemplar together.";
    max_metadata_families = 50_000, "families", "Metric families whose metadata is kept.";
    max_metadata_text_bytes = 1_024, "bytes", "Length of a help or unit text; longer ones are cut.";
    max_histogram_buckets = 10_000, "buckets", "Buckets of one native histogram.";
    max_query_length_bytes = 1 << 20, "bytes", "Length of a query's text.";
    max_read_matchers = 1_000, "matchers", "Queries and matchers of one remote read request together.";
    max_query_depth = 2_000, "levels", "Nesting of a query's expressions.";
    max_query_samples = 50_000_000, "samples", "Samples one query may hold in memory.";
    max_query_series = 1_000_000, "series", "Series one query may select.";
    max_query_memory_bytes = 2 << 30, "bytes", "Memory one query may take.";
    max_query_points = 11_000, "points", "Points per series of a range query.";
    query_timeout_ms = 120_000, "ms", "Time one query may take.";
    max_log_query_entries = 5_000, "entries", "Entries that a log query may ask for.";
    max_log_query_series = 500, "series", "Series in the result of a metric query over logs.";
    max_log_query_range_ms = 721 * 3_600_000, "ms", "Range of time of a query over logs. 0: no limit.";
    max_volume_series = 1_000, "series", "Series or labels that a query for volumes may count.";
    max_pattern_lines = 200_000, "lines", "Lines that one query for patterns looks at; of more, every n-th counts n times.";
    max_pattern_read_bytes = 1 << 30, "bytes", "Bytes of lines that one query for patterns reads; of more, slices spread over the range.";
    max_tails = 10, "tails", "Clients that may follow logs at once.";
    max_tail_entries = 10_000, "entries", "Entries that wait for one such client; more are dropped, and it is told so.";
    max_tail_bytes = 16 << 20, "bytes", "Bytes of such entries.";
    max_concurrent_queries = 20, "queries", "Queries evaluated at once; more wait their turn. One client has at most two for each core.";
    max_queued_queries = 200, "queries", "Queries that may wait; more are answered 429.";
    max_queued_queries_of_client = 150, "queries", "The same of one token, or of one address where there is none.";
    max_rule_groups = 10_000, "groups", "Rule groups of one data source set by the configuration API. 0: no limit.";
    max_rules_per_group = 10_000, "rules", "Rules of one group set by the configuration API. 0: no limit.";
    max_regex_bytes = 10 << 20, "bytes", "Size of one compiled regular expression.";
    max_alertmanager_config_bytes = 1 << 20, "bytes", "Size of an Alertmanager configuration with its templates.";
    max_alertmanager_templates = 100, "templates", "Template files of an Alertmanager configuration. 0: no limit.";
    max_alertmanager_template_bytes = 256 << 10, "bytes", "Size of one template file. 0: no limit.";
    max_alerts = 100_000, "alerts", "Alerts held by the Alertmanager; new ones beyond it are refused.";
    max_alerts_bytes = 256 << 20, "bytes", "Labels and annotations of the alerts held; new alerts beyond it are refused.";
    max_alert_groups = 50_000, "groups", "Groups of alerts; alerts that would make another are not notified.";
    max_grouped_alerts = 1_000_000, "alerts", "Places of alerts in groups, one for each route that takes an alert; beyond it alerts are not notified.";
    max_inhibit_rules = 10_000, "rules", "Inhibition rules of an Alertmanager configuration. 0: no limit.";
    max_inhibition_sources = 500_000, "sources", "Alerts that inhibition rules know as sources while they fire, of all rules together. One for each set of equal labels suffices; further sets mute nothing until others end.";
    max_silences = 10_000, "silences", "Silences kept, past ones included; new ones beyond it are refused.";
    max_silence_bytes = 256 << 10, "bytes", "Size of one silence. 0: no limit.";
    max_alert_events = 10_000, "events", "Transitions of alerts and notifications kept as history, oldest dropped first.", at_start;
    max_concurrent_notifications = 32, "notifications", "Notifications under way at once to one integration, but for those that wait for a late answer; more wait their turn.", at_start;
    head_memory_bytes = 512 << 20, "bytes", "Samples held in memory before groups are sealed early.";
    block_cache_bytes = 64 << 20, "bytes", "Decoded pages kept for queries.", at_start;
    max_tokens = 10_000, "tokens", "Tokens of all projects together.";
    max_data_sources = 1_000, "sources", "Data sources of all projects together.";
    max_contact_points = 1_000, "addresses", "Contact points of all projects together.";
    max_grafana_users = 1_000, "users", "Records of Grafana users of all projects together.";
    max_audit_entries = 100_000, "entries", "Entries of the audit trail that are kept, the oldest go first.";
    max_checks = 10_000, "checks", "Synthetic checks of one tenant.";
    max_check_labels = 5, "labels", "Labels of one synthetic check.";
    max_check_label_bytes = 32, "bytes", "Length of the name or the value of a label of a check or probe.";
    max_synthetic_tenants = 1_000, "tenants", "Tenants of Synthetic Monitoring.";
    max_private_probes = 1_000, "probes", "Private probes of one tenant.";
    max_probe_runs = 1_024, "runs", "Runs of synthetic checks at once; more wait for a place.", at_start;
    max_probe_body_bytes = 16 << 20, "bytes", "Length of an answer that a synthetic check reads.";
    max_probe_decoded_bytes = 64 << 20, "bytes", "Length of such an answer after decompression.";
    max_probe_results = 4_096, "results", "Results of synthetic checks that wait to be stored; more are dropped and counted.", at_start;
    max_status_pages = 100, "pages", "Status pages of the configuration.";
    max_status_page_checks = 200, "checks", "Checks that one status page shows; those of the lowest ids are shown.";
    max_scrape_targets = 5_000, "targets", "Targets scraped, of all jobs together; more are not scraped.", at_start;
    max_scrape_body_bytes = 64 << 20, "bytes", "Length of what one target exposes, after decompression; a job's own limit may be lower.", at_start;
    max_concurrent_scrapes = 500, "scrapes", "Targets scraped at the same moment; more wait for a place.", at_start;
    max_discovery_bytes = 16 << 20, "bytes", "Length of an answer or a file that names targets.", at_start;
    max_remote_answer_bytes = 256 << 20, "bytes", "Length of an answer to a query that a remote store answers; one that is longer is cut off.", at_start;
    remote_queue_bytes = 32 << 20, "bytes", "What rules, checks and scrapes have written and a remote store has not taken yet, for each data source; the oldest gives way.";
    max_open_days = 8, "files", "Closed days held open for queries.", at_start;
}

/// The limits in force, shared by all who obey them, so that a change reaches everybody at once.
///
/// Whoever asks more than once within one piece of work asks for all of them first and keeps the
/// answer: half a request under the old limits and half under the new ones would be neither.
#[derive(Debug, Clone)]
pub struct LiveLimits(Arc<ArcSwap<Limits>>);

impl LiveLimits {
    pub fn now(&self) -> Arc<Limits> {
        self.0.load_full()
    }

    pub fn replace(&self, next: Limits) {
        self.0.store(Arc::new(next));
    }
}

impl From<Limits> for LiveLimits {
    fn from(limits: Limits) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(limits)))
    }
}

impl Default for LiveLimits {
    fn default() -> Self {
        Self::from(Limits::default())
    }
}

impl Limits {
    /// The defaults where memory has a ceiling: what may be held is at most a share of it.
    pub fn within(memory_bytes: u64) -> Self {
        let mut limits = Self::default();
        let at_most = |limit: &mut u64, part: u64| *limit = (*limit).min(memory_bytes / part);
        at_most(&mut limits.head_memory_bytes, 8);
        at_most(&mut limits.log_tail_bytes, 10);
        at_most(&mut limits.block_cache_bytes, 12);
        at_most(&mut limits.max_query_memory_bytes, 3);
        at_most(&mut limits.max_body_bytes, 12);
        at_most(&mut limits.max_scrape_body_bytes, 12);
        at_most(&mut limits.max_probe_decoded_bytes, 12);
        at_most(&mut limits.max_tail_bytes, 32);
        at_most(&mut limits.remote_queue_bytes, 16);
        at_most(&mut limits.max_pattern_read_bytes, 4);
        at_most(&mut limits.max_alerts_bytes, 6);
        // Of some fifty bytes each.
        at_most(&mut limits.max_inhibition_sources, 1_024);
        at_most(&mut limits.max_grouped_alerts, 512);
        limits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_listed_and_can_be_set() {
        let mut limits = Limits::default();
        for info in Limits::LIST {
            assert_eq!(limits.get(info.name), Some(info.default));
            assert!(limits.set(info.name, 7));
            assert_eq!(limits.get(info.name), Some(7));
            assert!(!info.help.is_empty() && !info.unit.is_empty());
        }
        assert!(!limits.set("no_such_limit", 1));
    }
}
