//! The part of the list that is not for configuration: who would need another value here needs
//! another program.

/// One bound as the reference page shows it.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    /// Whom it concerns.
    pub group: &'static str,
    pub name: &'static str,
    pub value: u64,
    pub unit: &'static str,
    pub help: &'static str,
}

macro_rules! bounds {
    ($( $group:literal { $( $name:ident: $kind:ty = $value:expr, $unit:literal, $help:literal; )* } )*) => {
        $( $( #[doc = $help] pub const $name: $kind = $value; )* )*

        /// All of them in the order of this file.
        pub const BOUNDS: &[Bound] = &[ $( $( Bound {
            group: $group, name: stringify!($name), value: $name as u64, unit: $unit, help: $help,
        }, )* )* ];
    };
}

bounds! {
    "Requests" {
        CONNECTIONS: u64 = 8_192, "connections", "Connections open at once, where the system gives descriptors for them; more wait.";
        CONNECTION_BYTES: u64 = 32 << 10, "bytes", "Memory that an open connection counts with from its beginning; what comes over it is counted beside it.";
        CONNECTIONS_ALWAYS: usize = 256, "connections", "Connections that are taken while memory is short; more wait until there is room.";
        HEAD_BYTES: usize = 256 << 10, "bytes", "Headers of one request together.";
        HEADS_BYTES: u64 = 32 << 20, "bytes", "Heads of requests that are not whole yet, of all connections together; a connection whose head finds no room is closed.";
        OWN_HEAD_BYTES: u64 = 4 << 10, "bytes", "The beginning of each head, which does not count towards that.";
        HEADERS: usize = 128, "headers", "Headers of one request.";
        UNBOOKED_BYTES: u64 = 64 << 10, "bytes", "The beginning of an answer of another server, of a target or of a checked page that is read without asking the memory account.";
        FAILED_LOGINS_AT_ONCE: u32 = 100, "attempts", "Attempts without a valid token that one address may make in a minute before each waits for a second.";
        FAILED_LOGINS_WAITING: usize = 512, "attempts", "Attempts without a valid token that wait for their answer; more are answered at once.";
        FAILED_LOGIN_ADDRESSES: usize = 10_000, "addresses", "Addresses of which attempts without a valid token are counted.";
        READ_FRAME_BYTES: usize = 1 << 20, "bytes", "A frame of a streamed remote read stays below it, as Prometheus' do.";
        CARDINALITY_ENTRIES: i64 = 500, "entries", "Entries in one list of cardinalities, as in Mimir.";
        TSDB_STATUS_ENTRIES: usize = 10_000, "entries", "Entries in one list of `status/tsdb`, as in Prometheus.";
        LIST_PAGE_ENTRIES: usize = 100, "entries", "Entries on one page of a list of projects, data sources, tokens and the like.";
        NAME_CHARS: usize = 255, "characters", "Name of a project, a data source, a token and the like.";
        MAIL_ADDRESS_BYTES: usize = 254, "bytes", "Mail address of a contact point; mail knows no longer ones.";
        AUDIT_QUEUE: usize = 4_096, "entries", "Entries of the audit trail that wait to be stored as log lines; further ones are only in the trail.";
        TOLD_REJECTIONS: usize = 10, "refusals", "Samples or entries refused of one request that are told one by one; more are counted.";
        QUOTED_TEXT_CHARS: usize = 200, "characters", "A series or a label in the text of a refusal is cut there, as in Mimir.";
        QUOTED_LABELS_BYTES: usize = 8 << 10, "bytes", "A label set that the refusal of a log stream repeats.";
    }
    "Pushes" {
        LOG_LINE_BYTES: u64 = 8 << 20, "bytes", "A log line, whatever `max_line_bytes` says: a block must be able to hold it.";
        LOG_LABEL_TEXT_BYTES: usize = 1 << 24, "bytes", "The labels of a log stream as text, before they are read, as in Loki.";
        LOG_LEVEL_DEPTH: u32 = 64, "levels", "Objects within objects of a JSON line in which its level is looked for.";
        LOG_ROOM_WAIT_MS: u64 = 10_000, "ms", "How long a push waits while log lines in memory have no room; then it is refused.";
        LOG_SEEN_BYTES: usize = 8 << 20, "bytes", "Decoded streams that are kept to tell entries that come again.";
        STREAM_RATES: usize = 20_000, "streams", "Log streams whose rates are held before those that have been quiet are forgotten.";
        METADATA_PER_FAMILY: usize = 10, "descriptions", "Different descriptions kept of one metric family.";
        OTLP_DEPTH: u32 = 16, "levels", "Lists and maps within the value of an OTLP attribute.";
        OTLP_NAMES: usize = 10_000, "names", "Translated label names that are kept for one OTLP request.";
        OTLP_TARGET_INFO_SAMPLES: i64 = 1_000, "samples", "Samples of `target_info` that one OTLP resource makes; older ones are left out.";
        OTLP_EXEMPLAR_CHARS: usize = 128, "characters", "All labels of an exemplar that comes by OTLP; attributes beyond it are left out, as OpenMetrics says.";
        WAL_RECORD_BYTES: usize = 256 << 20, "bytes", "One record of a write-ahead log, which is read as a whole.";
        WAL_DAMAGE_NAMED: usize = 100, "stretches", "Stretches of damage in a write-ahead log that are told one by one; more are counted.";
    }
    "Queries" {
        QUERY_STACK_BYTES: usize = 64 << 20, "bytes", "Stack of a thread that reads, plans and evaluates expressions: some kilobytes for each of `max_query_depth` levels. The kernel gives pages only to what is used.";
        LOG_QUERY_DEPTH: u32 = 200, "levels", "Nesting of a log query's expressions and label filters.";
        LOG_QUERY_BYTES: usize = 131_072, "bytes", "Text of a log query, as in Loki.";
        LOG_LINE_DEPTH: u32 = 200, "levels", "JSON objects within objects of one log line.";
        LOG_FIELD_DEPTH: usize = 64, "levels", "JSON objects within objects that are looked into for the paths of detected fields.";
        LOG_JSON_KEYS: usize = 20_000, "keys", "Keys of JSON lines that one parser of a query remembers.";
        LOG_LABEL_NAMES: usize = 50_000, "names", "Label names that a log query keeps from one entry to the next.";
        LOG_LABEL_SETS: usize = 4_096, "sets", "Label sets that one thread of a log query remembers.";
        PATTERNS: usize = 300, "patterns", "Patterns in one answer, the most frequent ones, as in Loki.";
        PATTERN_CLUSTERS: usize = 10_000, "clusters", "Clusters that one query for patterns makes of all streams together.";
        PATTERN_STREAM_CLUSTERS: usize = 300, "clusters", "Clusters held at once of one stream; the one that was met longest ago makes room.";
        PATTERN_LINE_BYTES: usize = 3_000, "bytes", "Longer lines are in no pattern, as in Loki.";
        PATTERN_SAMPLES: i64 = 11_000, "samples", "Samples of one pattern; a range of more steps shows its gaps.";
        LOG_DELETION_INTERVAL_MS: i64 = 86_400_000, "ms", "The longest interval in which a deletion of log entries may be cut, as in Loki.";
        TAIL_MESSAGE_BYTES: usize = 64 << 10, "bytes", "A message of who follows logs; such clients send next to nothing.";
        TAIL_TOLD_LOSSES: usize = 1_000, "entries", "Entries a follower lost that it is told of one by one, as in Loki; more are counted.";
        TAIL_FRAME_ENTRIES: usize = 100, "entries", "Entries in one message to who follows logs.";
        TAIL_DELAY_SECONDS: i64 = 5, "seconds", "`delay_for` of who follows logs, as in Loki.";
        TAIL_SECONDS: u64 = 3_600, "seconds", "How long logs may be followed by one connection, as in Loki.";
        TAIL_SEND_SECONDS: u64 = 30, "seconds", "How long one message to who follows logs may take; then it is given up.";
        TEMPLATE_ITERATIONS: u64 = 100_000, "iterations", "All loops of one run of a template of a query or a rule.";
        TEMPLATE_TEXT_BYTES: usize = 1 << 20, "bytes", "Text that a template makes by repetition or padding.";
        LOG_ENTRY_BYTES: usize = 24 << 20, "bytes", "Text that the stages of a LogQL query make of one entry; beyond it the entry has an error, and the stages behind do not run.";
        RULE_TEXT_BYTES: usize = 64 << 10, "bytes", "A label or an annotation of an alert that a rule's template makes; in place of a longer one stands an error.";
        RULE_TEXTS_BYTES: usize = 32 << 20, "bytes", "All such texts of one rule together; behind them stand errors.";
        TEMPLATE_WIDTH: usize = 10_000, "characters", "Widths and precisions of `printf` in templates; wider ones are cut. Go takes a million.";
        SELECTOR_CACHE_ENTRIES: usize = 256, "matchers", "Matchers whose label values are kept for each index.";
        SELECTOR_CACHE_BYTES: usize = 8 << 20, "bytes", "Label values that are kept for the matchers of each index.";
        REGEX_DEPTH: u32 = 200, "levels", "Groups within groups of a regular expression. Go allows 1,000.";
        REGEX_GROUPS: usize = 100, "groups", "Groups of a regular expression whose captures are asked for: in parsers, templates, relabelling. Go has no such limit.";
        REGEX_REPEAT: u32 = 1_000, "repetitions", "The greatest repetition count of a regular expression, those of nested repetitions multiplied; Go's own.";
        REGEX_RANGES: usize = 1 << 20, "ranges", "Ranges of all character classes of a regular expression together; `\\pL` has some 700.";
        REGEX_CACHE_ENTRIES: usize = 128, "expressions", "Compiled regular expressions that are kept.";
        REGEX_CACHE_BYTES: usize = 32 << 20, "bytes", "Compiled regular expressions that are kept.";
        REGEX_CACHE_TEXT_BYTES: usize = 64 << 10, "bytes", "Text of a regular expression that is kept; longer ones are compiled each time.";
    }
    "Rules and alerts" {
        RULE_GROUP_BYTES: usize = 2 << 20, "bytes", "A rule group as YAML. Its reader takes some thirty times as much.";
        YAML_BRACKETS: u32 = 500, "brackets", "Brackets of a YAML text that are open at once; parsers refuse far fewer levels.";
        YAML_DEPTH: usize = 64, "levels", "Sequences and mappings within each other in a file of rules.";
        YAML_NODES: usize = 2_000_000, "nodes", "Nodes of a file of rules, those that aliases repeat counted each time.";
        YAML_REPEATED_BYTES: u64 = 8 << 20, "bytes", "What the aliases of a YAML text stand for together.";
        RULE_TEST_VALUES: usize = 1_000_000, "values", "Values that one series of a test of rules stands for.";
        NOTIFICATION_ITERATIONS: u64 = 1_000_000, "iterations", "All loops of one notification template.";
        NOTIFICATION_BYTES: usize = 4 << 20, "bytes", "What one notification template prints.";
        NOTIFICATION_TEMPLATES: usize = 2_000, "templates", "Compiled notification templates that are kept; a configuration has some dozens.";
        ALERT_REGEX_BYTES: usize = 64 << 20, "bytes", "All compiled expressions of one Alertmanager configuration, one silence, or one request to the Alertmanager.";
        SILENCES_BYTES: u64 = 64 << 20, "bytes", "All silences in memory, with their compiled expressions.";
        LARGE_NOTIFICATION_ALERTS: u32 = 2_000, "alerts", "Alerts from which on a notification is a large one, which waits for its turn among them.";
        LARGE_NOTIFICATIONS_TOGETHER: u32 = 100_000, "alerts", "Alerts of large notifications under way at once; while it is printed and sent, one takes some kilobytes.";
        LATE_NOTIFICATIONS: usize = 256, "notifications", "Notifications to one integration that wait for a late answer, beside those whose turn it is.";
        LATE_NOTIFICATIONS_BYTES: u64 = 64 << 20, "bytes", "Notifications to all integrations that wait for a late answer, with what is printed of them; a large one that finds no room is tried again later.";
        NOTIFICATION_TRY_SECONDS: u64 = 300, "seconds", "How long one try to notify waits for an answer; no longer than the group's interval, which is all that Alertmanager knows.";
        ALERT_PAGE_ROWS: usize = 1_000, "rows", "Rows of the page of alerts; the API gives all.";
    }
    "Checks, probes and targets" {
        CHECK_BYTES: usize = 1 << 20, "bytes", "A check as a whole, with what it sends.";
        CHECK_TARGET_BYTES: usize = 2_048, "bytes", "Target of a check.";
        CHECK_REQUESTS: usize = 10, "requests", "Requests of a check of several, as in the original.";
        CHECK_ASSERTIONS: usize = 5, "assertions", "Assertions of one such request, as in the original.";
        CHECK_VARIABLES: usize = 5, "variables", "Variables of one such request, as in the original.";
        CHECK_EXPRESSION_BYTES: usize = 1_024, "bytes", "A JSONPath or a CSS selector of a check of several requests; what runs it recurses with its length.";
        CHECK_EXPRESSION_DEPTH: usize = 16, "brackets", "Brackets of such an expression that are open at once, quoted ones included.";
        CHECK_TAG_ATTRIBUTES: usize = 512, "attributes", "Attributes of one tag of a page that a CSS selector looks into; in a page with more it finds nothing, since each is compared with all before it.";
        CHECK_PAGE_NODES: usize = 8, "nodes", "Elements and texts that such a page makes for each of its `<`; in a page with more a selector finds nothing. Formatting that is not closed is opened again in each paragraph that follows.";
        CHECK_REDIRECTS: u32 = 10, "redirects", "Redirects that an HTTP check follows, as the real probe program does; with the next one it ends.";
        CHECK_GAUGES: usize = 2_000, "values", "Values that one run of a check takes down; more are left out. A run of ten requests has some three hundred.";
        CHECK_LINES: usize = 1_000, "lines", "Lines that one run of a check says; more are left out.";
        CHECK_LINE_BYTES: u64 = 64 << 10, "bytes", "A line that a TCP check waits for; a longer one is no dialogue.";
        CHECK_GRPC_ANSWER_BYTES: usize = 64 << 10, "bytes", "Answer of a gRPC health service, which has a few.";
        CHECK_LOGGED_BODY_BYTES: usize = 4_096, "bytes", "A body that a check of several requests puts into its log.";
        CHECK_LABEL_VALUE_BYTES: usize = 2_048, "bytes", "A label value of the series of a check, as any of a push may have.";
        CHECK_STREAM_LABELS: usize = 15, "labels", "Labels of the log stream of a check; what is more goes to the metadata of its entries.";
        CHECK_TLS_CLIENTS: usize = 256, "clients", "TLS clients kept for checks; beyond it all are made anew.";
        PUBLICATIONS_TOGETHER: usize = 256, "runs", "Runs of checks whose samples share one append.";
        PROBE_LABELS: usize = 3, "labels", "Labels of a probe.";
        PROBE_OFFERS: usize = 64, "checks", "Checks that run once which a connected private probe may be behind; older ones are lost to it.";
        PROBE_STREAM_BYTES: u64 = 16 << 10, "bytes", "Memory that a stream to a private probe counts with; it is refused where memory is short.";
        PROBE_MESSAGES: usize = 4, "messages", "Messages that wait for a slow private probe; then its stream waits.";
        TENANT_SETTINGS_BYTES: usize = 64 << 10, "bytes", "Settings that the web app keeps for a tenant of Synthetic Monitoring, as text.";
        STATUS_PAGE_NAME_BYTES: usize = 64, "bytes", "Name of a status page.";
        DISCOVERY_SHARED_NETWORKS: usize = 16, "containers", "Containers that use each other's network, one behind the other, as discovery follows them.";
    }
    "Remote data sources" {
        REMOTE_READ_BYTES: usize = 64 << 20, "bytes", "An answer of a remote data source that is taken apart here; answers that are handed on have a limit of their own.";
        REMOTE_PAGE_ENTRIES: usize = 5_000, "entries", "Entries that a remote Loki is asked for at once; its own limit unless it was told otherwise.";
        REMOTE_TEXT_BYTES: usize = 4 << 10, "bytes", "What is told on of a remote data source's refusal.";
        REMOTE_RECENT: usize = 1_000_000, "series", "Series or streams of a remote data source that are remembered as active where there is no limit; beyond it new ones are not counted.";
    }
    "Backups, moving and the command line" {
        CONTROL_COPY_BYTES: usize = 16 << 20, "bytes", "Records of workers in the copy of the control plane's file; larger tables of them are left out.";
        BUCKET_PART_BYTES: u64 = 8 << 20, "bytes", "A part in which a file goes to a bucket and comes back.";
        BUCKET_PARTS: u64 = 9_000, "parts", "Parts of one file; of a larger file, parts are larger. S3 takes 10,000.";
        BUCKET_PARTS_IN_FLIGHT: usize = 3, "parts", "Parts on their way to a bucket at once.";
        BUCKET_ANSWER_BYTES: usize = 16 << 20, "bytes", "An answer of a bucket: a part, or a page of a listing.";
        MOVE_ANSWER_BYTES: usize = 32 << 20, "bytes", "An answer that a move reads; a piece of this size was too large, and less is asked for.";
        MOVE_PLAIN_BYTES: u64 = 128 << 20, "bytes", "Samples of an answer that is not streamed, after decompression.";
        MOVE_FRAME_BYTES: usize = 8 << 20, "bytes", "A frame of a streamed answer; Prometheus makes them of 1 MiB unless told otherwise.";
        MOVE_PUSH_SAMPLES: usize = 10_000, "samples", "Samples of one push of a move.";
        MOVE_PUSH_BYTES: usize = 1 << 20, "bytes", "Samples or lines of one push of a move.";
        MOVE_PAGE_LINES: u64 = 1_000, "lines", "Lines that are asked for at once; Loki and this server refuse more than 5,000 unless told otherwise.";
        MOVE_LOG_RANGE_MS: i64 = 28 * 86_400_000, "ms", "Range of time of one question of a move of logs; Loki answers 30 days at most unless told otherwise.";
        MOVE_TEXT_LINE_BYTES: u64 = 1 << 20, "bytes", "A line of OpenMetrics; the labels of the widest series take far less.";
        MOVE_TEXT_BYTES: usize = 4 << 20, "bytes", "Text that is held before it is written to a file.";
        MOVE_TRIES: u32 = 9, "calls", "Calls for one thing before a move gives up; the waits between them make about two minutes.";
        MOVE_WAIT_SECONDS: u64 = 30, "seconds", "The longest wait between two calls of a move, whatever the other server asks for.";
        PARQUET_GROUP_ROWS: usize = 1 << 19, "rows", "Rows that are written to a file of Parquet together.";
        PARQUET_GROUP_BYTES: usize = 32 << 20, "bytes", "Memory that such rows take before they are written.";
        PARQUET_FILE_ROWS: usize = 1 << 22, "rows", "Rows after which a file of Parquet is finished and another begun.";
        TSDB_DAMAGE_NAMED: u64 = 100, "parts", "Damaged parts of Prometheus' blocks that are named; further ones are counted.";
        TSDB_CHUNK_BYTES: u64 = 1 << 20, "bytes", "A chunk of a Prometheus block; a chunk of a hundred wide histograms has a fifth.";
        TSDB_SERIES_BYTES: u64 = 4 << 20, "bytes", "A series and the places of its chunks in the index of a Prometheus block: a year of samples every second.";
        TSDB_SYMBOL_BYTES: u64 = 1 << 20, "bytes", "One text of the index of a Prometheus block.";
        TSDB_SYMBOL_CACHE_BYTES: usize = 8 << 20, "bytes", "Such texts that are held for each index that is being read.";
        TSDB_RECORD_BYTES: u64 = 128 << 20, "bytes", "One record of the log of a Prometheus, before and after decompression: what one scrape or one request brought.";
        TSDB_LOG_SERIES_BYTES: usize = 1 << 30, "bytes", "Labels of the series of such a log that are held while it is read; series beyond are left out.";
        TSDB_LOG_BATCH_SAMPLES: usize = 200_000, "samples", "Samples of such a log that are put in order by series before they are pushed; a native histogram counts as thirty.";
        TSDB_TOMBSTONES_BYTES: u64 = 64 << 20, "bytes", "List of what was deleted of a Prometheus block.";
        CLIENT_ANSWER_BYTES: usize = 1 << 30, "bytes", "An answer that a command reads.";
        CLIENT_TAIL_BYTES: usize = 64 << 20, "bytes", "One message of a tail that `pilothouse logs --follow` reads; a server sends no longer ones.";
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The unit stands in the name where it is bytes, characters or a time.
    #[test]
    fn bounds_are_told_apart_and_say_what_they_bound() {
        let names: BTreeSet<&str> = BOUNDS.iter().map(|bound| bound.name).collect();
        assert_eq!(names.len(), BOUNDS.len());
        for Bound { name, value, unit, help, .. } in BOUNDS {
            assert!(*value > 0 && help.ends_with('.'), "{name}");
            for (end, of) in
                [("_BYTES", "bytes"), ("_CHARS", "characters"), ("_MS", "ms"), ("_SECONDS", "seconds")]
            {
                assert!(!name.ends_with(end) || *unit == of, "{name}");
            }
        }
    }
}
