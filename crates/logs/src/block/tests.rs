use std::sync::Arc;

use pilothouse_model::Labels;
use pilothouse_model::logs::{LineDemand, LineNeed, Literal, MetadataNeed};
use proptest::prelude::*;
use regex::Regex;

use super::bytes::seal;
use super::*;

/// An entry as the tests hold it: stream, time, line, metadata.
type Entry = (u32, i64, String, Labels);

fn encode(entries: &[Entry]) -> Encoded {
    let mut encoder = Encoder::new().expect("memory");
    encode_with(&mut encoder, entries)
}

fn encode_with(encoder: &mut Encoder, entries: &[Entry]) -> Encoded {
    let mut last = None;
    for (stream, t_ns, line, metadata) in entries {
        if last != Some(*stream) {
            encoder.stream(*stream).expect("ascending");
            last = Some(*stream);
        }
        encoder.push(*t_ns, line, metadata).expect("sorted and small");
    }
    encoder.finish().expect("entries")
}

fn decode(block: &Encoded, want: &Want<'_>) -> Result<Vec<Entry>, BlockError> {
    let head = Head::decode(&block.head)?;
    let mut reader = Reader::new()?;
    reader.read(&head, &block.body, &block.metadata, want)?;
    Ok(shown(&reader))
}

fn shown(reader: &Reader) -> Vec<Entry> {
    let mut entries = Vec::new();
    let labels = Labels::empty();
    for part in reader.streams() {
        let batch = part.batch(&labels, 0);
        for (i, t_ns) in batch.times_ns.iter().enumerate() {
            let metadata = batch.metadata_of(i).cloned().unwrap_or_default();
            entries.push((part.number, *t_ns, batch.line(i).to_owned(), metadata));
        }
        assert_eq!(batch.text_bytes(), batch.text.len());
    }
    entries
}

fn all(need: &MetadataNeed) -> Want<'_> {
    Want { streams: &|_| true, start_ns: i64::MIN, end_ns: i64::MAX, lines: LineNeed::Text, metadata: need }
}

fn sets() -> impl Strategy<Value = Labels> {
    let name = prop_oneof![9 => "(detected_level|pod|trace_id)", 1 => "[a-z]{2}"];
    prop::collection::vec((name, "[a-zä0-9]{0,5}"), 0..3).prop_map(Labels::from_pairs)
}

fn lines() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-fA-F0-9]{0,20}",
        "([A-Za-z]{1,12}[ =.:/]){0,6}",
        "[a-zäßKſé€😀 \n]{0,30}",
        "(error|Kelvin|massive|NullPointerException) [0-9]{1,4}",
        "[a-z]{30,60}",
    ]
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let times = prop_oneof![Just(0i64), 0..1_000i64, any::<i64>().prop_map(|t| t.min(i64::MAX - 1))];
    let scale = prop::sample::select(vec![1i64, 1_000, 1_000_000_000]);
    let entry = (prop_oneof![0..4u32, any::<u32>()], times, lines(), sets());
    (prop::collection::vec(entry, 1..200), scale).prop_map(|(mut entries, scale)| {
        entries.iter_mut().for_each(|entry| entry.1 = entry.1.checked_mul(scale).unwrap_or(entry.1));
        entries.sort_by_key(|entry| (entry.0, entry.1));
        entries
    })
}

proptest! {
    #[test]
    fn what_goes_in_comes_out(entries in entries()) {
        let block = encode(&entries);
        prop_assert_eq!(decode(&block, &all(&MetadataNeed::All)), Ok(entries.clone()));
        prop_assert_eq!(block.entries as usize, entries.len());
        prop_assert_eq!(block.text_bytes as usize, entries.iter().map(|e| e.2.len()).sum::<usize>());
        prop_assert_eq!(block.min_ns, entries.iter().map(|e| e.1).min().unwrap_or(0));
        prop_assert_eq!(block.max_ns, entries.iter().map(|e| e.1).max().unwrap_or(0));
    }

    #[test]
    fn an_encoder_forgets_the_block_before(first in entries(), second in entries()) {
        let mut encoder = Encoder::new().expect("memory");
        encode_with(&mut encoder, &first);
        let again = encode_with(&mut encoder, &second);
        let fresh = encode(&second);
        prop_assert_eq!((again.head, again.body, again.metadata), (fresh.head, fresh.body, fresh.metadata));
        prop_assert_eq!(again.filter.grams, fresh.filter.grams);
        prop_assert_eq!(again.filter.words, fresh.filter.words);
    }

    #[test]
    fn only_what_is_wanted_comes_out(
        entries in entries(), streams in prop::collection::vec(any::<bool>(), 4), from in 0..1_000i64,
        length in 0..1_000i64,
    ) {
        let block = encode(&entries);
        let wanted = |number: u32| streams.get(number as usize).copied().unwrap_or(false);
        let level = MetadataNeed::Named(Arc::from(["detected_level".to_owned()]));
        let want = Want {
            streams: &wanted, start_ns: from, end_ns: from + length, lines: LineNeed::Text, metadata: &level,
        };
        let has_level = entries.iter().any(|e| e.3.get("detected_level").is_some());
        prop_assert!(block.metadata_names.may_have(&level) || !has_level);
        let inside = entries.iter().filter(|e| wanted(e.0) && (from..from + length).contains(&e.1));
        let expected: Vec<Entry> = inside
            .map(|e| (e.0, e.1, e.2.clone(), e.3.filter(|name| name == "detected_level")))
            .collect();
        prop_assert_eq!(decode(&block, &want), Ok(expected.clone()));

        let lengths = Want { lines: LineNeed::Length, metadata: &MetadataNeed::Nothing, ..want };
        let head = Head::decode(&block.head).expect("head");
        let mut reader = Reader::new().expect("memory");
        reader.read(&head, &[], &[], &lengths).expect("no body needed");
        let found: Vec<(u32, i64, usize)> = reader.streams().flat_map(|part| {
            let bounds = part.bounds.windows(2).map(|pair| (pair[1] - pair[0]) as usize);
            part.times_ns.iter().zip(bounds).map(move |(t, n)| (part.number, *t, n)).collect::<Vec<_>>()
        }).collect();
        let expected: Vec<_> = expected.iter().map(|e| (e.0, e.1, e.2.len())).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn the_directory_tells_each_stream(entries in entries()) {
        let block = encode(&entries);
        let head = Head::decode(&block.head).expect("head");
        for (stat, own) in head.streams.iter().zip(entries.chunk_by(|a, b| a.0 == b.0)) {
            let metadata = |e: &Entry| e.3.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>();
            prop_assert_eq!(*stat, StreamStat {
                number: own[0].0,
                entries: own.len() as u32,
                first_ns: own[0].1,
                last_ns: own[own.len() - 1].1,
                text_bytes: own.iter().map(|e| e.2.len() as u32).sum(),
                metadata_bytes: own.iter().map(|e| metadata(e) as u64).sum(),
            });
        }
    }

    #[test]
    fn damage_is_an_error_or_changes_nothing(entries in entries(), at: prop::sample::Index, bit in 0..8u8) {
        let good = encode(&entries);
        let need = MetadataNeed::All;
        for frame in 0..3 {
            let mut bad = good.clone();
            let bytes = [&mut bad.head, &mut bad.body, &mut bad.metadata][frame].as_mut_slice();
            if bytes.is_empty() {
                continue;
            }
            bytes[at.index(bytes.len())] ^= 1 << bit;
            let read = decode(&bad, &all(&need));
            prop_assert!(read.is_err() || read == Ok(entries.clone()));
            // The same behind a checksum that was made to fit: any answer but a panic.
            seal([&mut bad.head, &mut bad.body, &mut bad.metadata][frame]);
            if let Ok(entries) = decode(&bad, &all(&need)) {
                prop_assert!(entries.is_sorted_by_key(|e| (e.0, e.1)));
            }
            let bytes = &mut *[&mut bad.head, &mut bad.body, &mut bad.metadata][frame];
            bytes.truncate(at.index(bytes.len()));
            seal(bytes);
            prop_assert!(decode(&bad, &all(&need)).is_err() || bad.metadata.len() < good.metadata.len());
        }
    }

    #[test]
    fn a_damaged_slab_excludes_nothing_that_matches(
        entries in entries(), at: prop::sample::Index, bit in 0..8u8, demands in prop::collection::vec(demand(), 1),
    ) {
        let mut builder = SlabBuilder::default();
        let block = encode(&entries);
        (0..9).for_each(|_| { builder.push(&block.filter); });
        let mut bytes = builder.finish();
        let n = bytes.len();
        bytes[at.index(n)] ^= 1 << bit;
        if let Ok(slab) = Slab::open(bytes.as_slice(), bytes.len() as u64) {
            let left = slab.probe(&Probe::new(&demands), bytes.as_slice());
            prop_assert!(left.len() == 9 || !Truth::new(&demands).matches(&entries));
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Slab::open(bytes.as_slice(), bytes.len() as u64);
        seal(&mut bytes);
        if let Ok(head) = Head::decode(&bytes) {
            let mut reader = Reader::new().expect("memory");
            let _ = reader.read(&head, &bytes, &bytes, &all(&MetadataNeed::All));
        }
    }
}

proptest! {
    // Each case makes a dozen blocks.
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_filter_excludes_a_line_that_matches(
        blocks in prop::collection::vec(entries(), 1..12), demands in prop::collection::vec(demand(), 1..3),
    ) {
        let probe = Probe::new(&demands);
        let mut builder = SlabBuilder::default();
        let mut encoder = Encoder::new().expect("memory");
        let filters: Vec<_> = blocks.iter().map(|e| encode_with(&mut encoder, e).filter).collect();
        filters.iter().for_each(|filter| { builder.push(filter); });
        let bytes = builder.finish();
        let slab = Slab::open(bytes.as_slice(), bytes.len() as u64).expect("slab");
        let left = slab.probe(&probe, bytes.as_slice());
        let truth = Truth::new(&demands);
        for (i, entries) in blocks.iter().enumerate() {
            let matches = truth.matches(entries);
            prop_assert!(left.contains(i) || !matches);
            prop_assert!(filters[i].may_match(&probe) || !matches);
        }
    }
}

/// Demands whose literals are cut out of lines of the same kind, with their case changed.
fn demand() -> impl Strategy<Value = LineDemand> {
    let literal = (lines(), any::<prop::sample::Index>(), 1..12usize, any::<bool>(), any::<bool>());
    let literal = literal.prop_map(|(line, start, length, fold_case, upper)| {
        let chars: Vec<char> = line.chars().collect();
        let start = start.index(chars.len() + 1);
        let text: String = chars.iter().skip(start).take(length).collect();
        let text = if fold_case && upper { text.to_uppercase() } else { text };
        Literal { text, fold_case }
    });
    let alternative = prop::collection::vec(literal, 1..3);
    prop::collection::vec(alternative, 1..3).prop_map(|alternatives| LineDemand { alternatives })
}

/// Demands as regexes, by which the tests judge what a filter leaves out.
struct Truth(Vec<Vec<Vec<Regex>>>);

impl Truth {
    fn new(demands: &[LineDemand]) -> Self {
        let regex = |literal: &Literal| {
            let pattern = regex_syntax::escape(&literal.text);
            let pattern = if literal.fold_case { format!("(?i){pattern}") } else { pattern };
            Regex::new(&pattern).expect("escaped")
        };
        let demand = |demand: &LineDemand| {
            demand.alternatives.iter().map(|all| all.iter().map(regex).collect()).collect()
        };
        Self(demands.iter().map(demand).collect())
    }

    fn matches(&self, entries: &[Entry]) -> bool {
        let meets = |line: &str, demand: &Vec<Vec<Regex>>| {
            demand.iter().any(|all| all.iter().all(|regex| regex.is_match(line)))
        };
        entries.iter().any(|entry| self.0.iter().all(|demand| meets(&entry.2, demand)))
    }
}

fn demand_of(text: &str, fold_case: bool) -> Vec<LineDemand> {
    vec![LineDemand { alternatives: vec![vec![Literal { text: text.to_owned(), fold_case }]] }]
}

#[test]
fn filters_exclude_what_is_not_there() {
    let lines = [
        "level=info msg=\"connection established\" id=4711",
        "java.lang.NullPointerException: Cannot invoke",
        "user=müller temperature in \u{212A}elvin",
        &"longword".repeat(8),
    ];
    let mut builder = SlabBuilder::default();
    for line in lines {
        builder.push(&encode(&[(1, 1, line.to_owned(), Labels::empty())]).filter);
    }
    let bytes = builder.finish();
    let slab = Slab::open(bytes.as_slice(), bytes.len() as u64).expect("slab");
    for (text, fold_case, expected) in [
        ("connection", false, vec![0]),
        ("nection esta", false, vec![0]),
        ("id=4711", false, vec![0]),
        ("id=4712", false, vec![]),
        ("pointer", false, vec![1]),
        ("pointers", false, vec![]),
        ("POINTER", true, vec![1, 2]),
        ("kelvin", true, vec![2]),
        ("\u{212A}elvin", true, vec![2]),
        ("kelvin", false, vec![]),
        ("müller", false, vec![2]),
        ("gwordlon", false, vec![3]),
        // Too short to tell.
        ("zzz", false, vec![0, 1, 2, 3]),
    ] {
        let probe = Probe::new(&demand_of(text, fold_case));
        let left = slab.probe(&probe, bytes.as_slice());
        let left: Vec<usize> = (0..lines.len()).filter(|i| left.contains(*i)).collect();
        assert_eq!(left, expected, "{text}");
    }
}

#[test]
fn entries_out_of_order_are_refused() {
    let mut encoder = Encoder::new().expect("memory");
    let none = Labels::empty();
    assert_eq!(encoder.push(1, "no stream", &none), Err(BlockError::Order));
    assert_eq!(encoder.stream(7), Ok(()));
    assert_eq!(encoder.push(2, "b", &none), Ok(()));
    assert_eq!(encoder.push(1, "a", &none), Err(BlockError::Order));
    assert_eq!(encoder.stream(7), Err(BlockError::Order));
    assert_eq!(encoder.stream(8), Ok(()));
    assert_eq!(encoder.push(1, "a", &none), Ok(()));
    assert_eq!(encoder.finish().map(|block| block.streams), Ok(2));
    assert_eq!(encoder.finish().map(|block| block.streams), Err(BlockError::Order));
}

#[test]
fn sets_with_names_of_their_own_are_written_one_by_one() {
    let set = |i: i64| {
        Labels::from_pairs(
            (0..4)
                .map(|k| (format!("name_{i}_{k}"), k.to_string()))
                .chain([("level".to_owned(), "info".to_owned())]),
        )
    };
    let entries: Vec<Entry> = (0..3_000).map(|i| (1, i, format!("line {i}"), set(i % 2_000))).collect();
    let block = encode(&entries);
    assert_eq!(decode(&block, &all(&MetadataNeed::All)), Ok(entries));
    let level = MetadataNeed::Named(Arc::from(["level".to_owned()]));
    let reduced = decode(&block, &all(&level)).expect("read");
    assert!(reduced.iter().all(|e| e.3.len() == 1 && e.3.get("level") == Some("info")));
}

#[test]
fn a_block_tells_which_names_its_metadata_has() {
    let level = Labels::from_pairs([("detected_level", "info")]);
    let names = encode(&[(1, 1, "line".to_owned(), level)]).metadata_names;
    let named = |name: &str| MetadataNeed::Named(Arc::from([name.to_owned()]));
    for (need, expected) in [
        (named("detected_level"), true),
        (named("app"), false),
        (named("trace_id"), false),
        (MetadataNeed::All, true),
        (MetadataNeed::Nothing, false),
    ] {
        assert_eq!(names.may_have(&need), expected, "{need:?}");
    }
    let none = encode(&[(1, 1, "line".to_owned(), Labels::empty())]).metadata_names;
    assert!(!none.may_have(&MetadataNeed::All));
}

#[test]
fn large_blocks_are_read_in_parts() {
    let line = |stream: u32, i: i64| format!("{stream} {i} {}", "x".repeat(900));
    let entry = |stream: u32, i: i64| (stream, i, line(stream, i), Labels::empty());
    let entries: Vec<Entry> = (0..20).flat_map(|stream| (0..100).map(move |i| entry(stream, i))).collect();
    let block = encode(&entries);
    let head = Head::decode(&block.head).expect("head");
    let mut reader = Reader::new().expect("memory");
    for wanted in [0u32, 7, 19] {
        let want = Want { streams: &|n| n == wanted, ..all(&MetadataNeed::All) };
        reader.read(&head, &block.body, &block.metadata, &want).expect("read");
        let expected: Vec<Entry> = entries.iter().filter(|e| e.0 == wanted).cloned().collect();
        assert_eq!(shown(&reader), expected);
        assert!(reader.decompressed_bytes() < 500_000, "{}", reader.decompressed_bytes());
    }
}
