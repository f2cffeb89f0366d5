//! Texts and lines made of what hurts: nothing panics, prints read back, and a filter gives the
//! same whether the store prunes or not.

use pilothouse_logql::{
    Direction, LogPipeline, LogqlValue, MemoryEntries, RangeQuery, parse, parse_log, pretty, query_range,
};
use pilothouse_model::log_ports::{EntrySource, LogStats, StreamVolume};
use pilothouse_model::logs::{EntryBatch, Literal, LogSelection};
use pilothouse_model::{Budget, EntryVisitor, Flow, Labels, ReadReport, SourceError, StreamQuery};
use proptest::prelude::*;

const WORDS: [&str; 60] = [
    "{",
    "}",
    "(",
    ")",
    "[5m]",
    "[1h30m]",
    ",",
    "|",
    "|=",
    "!=",
    "|~",
    "!~",
    "|>",
    "!>",
    "=",
    "==",
    ">",
    "<=",
    "=~",
    "or",
    "and",
    "unless",
    "+",
    "-",
    "*",
    "/",
    "%",
    "^",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "bool",
    "json",
    "logfmt",
    "regexp",
    "pattern",
    "unpack",
    "line_format",
    "label_format",
    "drop",
    "keep",
    "unwrap",
    "ip(",
    "--strict",
    "offset",
    "sum",
    "topk",
    "rate",
    "quantile_over_time",
    "count_over_time",
    "a",
    "b",
    "\"x\"",
    "`y.*`",
    "5",
    "10ms",
    "5KB",
    "{a=\"b\"}",
];

const FRAGMENTS: [&str; 36] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\\",
    ":",
    ",",
    "=",
    " ",
    "\t",
    "a",
    "b.c",
    "_entry",
    "\"a\":",
    "\"a\":1",
    "{\"b\":{",
    "}}",
    "\\u00e9",
    "\\ud83d",
    "\\q",
    "null",
    "true",
    "12.5",
    "-",
    "k=v",
    "k=\"v w\"",
    "k=\"",
    "<_>",
    "10.0.0.7",
    "::1",
    "\u{1b}[31m",
    "\u{fffd}",
    "\u{e9}",
    "\n",
    "1s",
];

fn soup(words: &'static [&'static str], most: usize, between: &'static str) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(words), 0..most).prop_map(move |parts| parts.join(between))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_is_read_prints_and_reads_back(text in soup(&WORDS, 24, " ")) {
        if let Ok(expr) = parse(&text) {
            let printed = expr.to_string();
            let again = parse(&printed).map(|e| e.to_string());
            prop_assert_eq!(again.ok(), Some(printed.clone()));
            let laid_out = parse(&pretty(&expr)).map(|e| e.to_string());
            prop_assert_eq!(laid_out.ok(), Some(printed));
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in ".{0,60}") {
        let _ = parse(&text);
    }

    #[test]
    fn any_line_goes_through_any_parser(line in soup(&FRAGMENTS, 16, "")) {
        let labels = Labels::from_pairs([("app", "x"), ("a", "1")]);
        let metadata = Labels::from_pairs([("k", "2"), ("app", "meta")]);
        for stages in [
            "| json",
            r#"| json a="b.c[0]", d="[1][\"k\"]", e"#,
            "| logfmt --strict --keep-empty | unpack",
            r#"| logfmt a, b="k" | json"#,
            r#"| pattern "<a>=<b>" |> "<_>=<_>""#,
            r#"| regexp "(?P<k>\\w+)=(?P<v>\\S*)" | decolorize | v = ip("10.0.0.0/8") or v > 5 or v < 1s or v >= 1KB"#,
            r#"| json | line_format "{{.a}} {{.b | upper}} {{__line__ | trunc 5}}" | label_format x="{{.a}}", y=k | drop a, b="1" | keep x, y"#,
        ] {
            let log = parse_log(&format!("{{app=\"x\"}} {stages}")).unwrap_or_else(|e| panic!("{stages}: {e}"));
            let mut pipeline = LogPipeline::new(&log).unwrap_or_else(|e| panic!("{stages}: {e}"));
            if let Some(passed) = pipeline.process(&labels, 1, &line, &metadata) {
                let all = passed.merged();
                prop_assert!(all.windows(2).all(|pair| pair[0].0 != pair[1].0), "{:?}", all);
            }
        }
    }

    #[test]
    fn pruning_by_demands_changes_nothing(
        lines in prop::collection::vec("[abAB \u{e9}\u{17f}]{0,8}", 1..30),
        filter in prop::sample::select(vec![
            "|= \"ab\"", "|= \"a\" or \"bb\"", "!= \"ab\"", "|~ \"a+b\"", "|~ \"(?i)ab|BA\"", "|~ \"a.*b\" |= \"b\"",
            "|~ \"(ab|ba) ?b\"", "|> \"<_>ab\"", "!~ \"a\"", "|~ \"^a\" or \"b$\"", "|~ \"[ab]b\"", "|~ \"(?i)s\"",
        ]),
    ) {
        let source = MemoryEntries::default();
        let labels = Labels::from_pairs([("app", "x")]);
        for (i, line) in lines.iter().enumerate() {
            source.add(&labels, i as i64, line, &Labels::empty());
        }
        let pruned = Pruning(&source);
        prop_assert_eq!(answer(&pruned, filter), answer(&source, filter), "{}", filter);
    }
}

fn answer(source: &dyn EntrySource, filter: &str) -> Vec<String> {
    let expr = parse(&format!("{{app=\"x\"}} {filter}")).unwrap_or_else(|e| panic!("{filter}: {e}"));
    let query = RangeQuery {
        start_ns: 0,
        end_ns: 1_000,
        step_ns: 1,
        limit: 1_000,
        direction: Direction::Forward,
        interval_ns: 0,
        categorize: false,
        max_series: 500,
    };
    match query_range(source, &expr, &query, &Budget::unlimited()).map(|r| r.value) {
        Ok(LogqlValue::Streams(streams)) => {
            streams.into_iter().flat_map(|s| s.entries).map(|e| format!("{}:{}", e.t_ns, e.line)).collect()
        }
        other => panic!("{other:?}"),
    }
}

/// Leaves out every line that does not meet the demands, as an exact index would.
struct Pruning<'s>(&'s MemoryEntries);

struct LineByLine<'v> {
    selection: &'v LogSelection,
    visitor: &'v dyn EntryVisitor,
}

fn holds(literal: &Literal, line: &str) -> bool {
    if !literal.fold_case {
        return line.contains(&literal.text);
    }
    // What Unicode folds to ASCII letters is not to be pruned by them.
    !line.is_ascii() || line.to_ascii_lowercase().contains(&literal.text.to_ascii_lowercase())
}

impl EntryVisitor for LineByLine<'_> {
    fn batch(&self, batch: &EntryBatch<'_>) -> Result<Flow, SourceError> {
        for i in 0..batch.len() {
            let line = batch.line(i);
            let meets = self.selection.demands.iter().all(|demand| {
                demand.alternatives.iter().any(|all| all.iter().all(|literal| holds(literal, line)))
            });
            if meets {
                let one = EntryBatch {
                    times_ns: &batch.times_ns[i..=i],
                    bounds: &batch.bounds[i..=i + 1],
                    metadata: &batch.metadata[i..=i],
                    ..*batch
                };
                self.visitor.batch(&one)?;
            }
        }
        Ok(Flow::Continue)
    }
}

impl EntrySource for Pruning<'_> {
    fn read(
        &self,
        selection: &LogSelection,
        visitor: &dyn EntryVisitor,
        budget: &Budget,
    ) -> Result<ReadReport, SourceError> {
        self.0.read(selection, &LineByLine { selection, visitor }, budget)
    }
    fn label_names(&self, query: &StreamQuery, budget: &Budget) -> Result<Vec<String>, SourceError> {
        self.0.label_names(query, budget)
    }
    fn label_values(
        &self,
        name: &str,
        query: &StreamQuery,
        budget: &Budget,
    ) -> Result<Vec<String>, SourceError> {
        self.0.label_values(name, query, budget)
    }
    fn streams(&self, query: &StreamQuery, budget: &Budget) -> Result<Vec<Labels>, SourceError> {
        self.0.streams(query, budget)
    }
    fn stats(&self, query: &StreamQuery, budget: &Budget) -> Result<LogStats, SourceError> {
        self.0.stats(query, budget)
    }
    fn volume(
        &self,
        query: &StreamQuery,
        period_ns: i64,
        budget: &Budget,
    ) -> Result<Vec<StreamVolume>, SourceError> {
        self.0.volume(query, period_ns, budget)
    }
}
