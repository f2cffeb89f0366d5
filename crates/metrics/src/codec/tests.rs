//! What is written is read back to the bit, and any bytes are read without harm.

use std::sync::Arc;

use pilothouse_model::sample::STALE_NAN_BITS;
use pilothouse_model::{Histogram, ResetHint, SampleColumns, Span};
use proptest::collection::vec;
use proptest::prelude::*;

use super::bits::Input;
use super::ints::{decode_ints, encode_ints};
use super::page::{Times, TimesRef};
use super::times::count_times;
use super::*;

#[path = "hard_mix.rs"]
mod hard_mix;

const EFFORTS: [Effort; 2] = [Effort::Flush, Effort::Compact];

/// Floats of every kind of bit pattern there is, and those that metrics are made of.
fn any_float() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        (-1_000i64..1_000).prop_map(|v| v as f64),
        any::<i64>().prop_map(|v| v as f64),
        (-100_000i64..100_000, 0i32..13).prop_map(|(v, e)| v as f64 / 10f64.powi(e)),
        (0i64..1 << 20).prop_map(|v| v as f64 * 4096.0),
        special_float(),
        // NaN with payloads of either sign and quietness, and subnormals.
        any::<u64>().prop_map(|v| f64::from_bits(v | 0x7ff0_0000_0000_0000)),
        (0u64..1 << 52).prop_map(f64::from_bits),
    ]
}

fn special_float() -> impl Strategy<Value = f64> {
    prop::sample::select(vec![
        f64::from_bits(STALE_NAN_BITS),
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        -0.0,
        0.0,
        f64::MAX,
        f64::MIN_POSITIVE,
        9_007_199_254_740_993.0,
        9_223_372_036_854_775_808.0,
        -9_223_372_036_854_775_808.0,
        18_446_744_073_709_551_616.0,
        2_251_799_813_685_248.0,
    ])
}

/// Series as they occur: one class of value, mostly, with strays.
fn any_series(max: usize) -> impl Strategy<Value = Vec<f64>> {
    let walk = |unit: f64, spread: i64| {
        (any::<i32>(), vec((-spread..=spread, 0u8..64), 1..max)).prop_map(move |(start, steps)| {
            let mut at = i64::from(start);
            let moved = steps.into_iter().map(|(step, luck)| {
                at = if luck == 0 { 0 } else { at + step };
                at as f64 * unit
            });
            moved.collect::<Vec<f64>>()
        })
    };
    let body = prop_oneof![
        vec(any_float(), 1..max),
        walk(1.0, 0),
        walk(1.0, 3),
        walk(0.01, 500),
        walk(4096.0, 1000),
        walk(1e-9, 100_000),
        (any_float(), 1..max).prop_map(|(v, n)| vec![v; n]),
        (0usize..200, 1..max).prop_map(|(series, n)| hard_mix::values(series, n)),
    ];
    (body, vec((any::<prop::sample::Index>(), any_float()), 0..6)).prop_map(|(mut values, strays)| {
        for (at, stray) in strays {
            let at = at.index(values.len());
            values[at] = stray;
        }
        values
    })
}

fn any_times(n: usize) -> impl Strategy<Value = Vec<i64>> {
    prop_oneof![
        vec(any::<i64>(), n..=n),
        (any::<i32>(), 1i64..100_000, vec(0i64..2_000, n..=n)).prop_map(|(start, step, late)| {
            (0i64..).zip(late).map(|(i, l)| i64::from(start) + i * step + (l - 1_900).max(0)).collect()
        }),
        (
            any::<i64>(),
            vec(prop_oneof![Just(15_000i64), Just(45_000), 14_000i64..16_000, any::<i64>()], n..=n)
        )
            .prop_map(|(start, steps)| {
                let mut at = start;
                steps
                    .into_iter()
                    .map(|s| {
                        at = at.wrapping_add(s);
                        at
                    })
                    .collect()
            }),
    ]
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// Lists are long: name the first difference only.
#[track_caller]
fn assert_same<T: PartialEq + std::fmt::Debug>(read: &[T], wanted: &[T]) {
    let at = read.iter().zip(wanted).position(|(r, w)| r != w);
    let differing = at.map(|at| (at, &read[at], &wanted[at]));
    assert!(
        differing.is_none() && read.len() == wanted.len(),
        "{differing:?} of {} and {}",
        read.len(),
        wanted.len()
    );
}

fn check_values(values: &[f64]) {
    for effort in EFFORTS {
        let mut block = Vec::new();
        encode_values(values, effort, &mut block);
        let mut read = vec![7.0];
        decode_values(&block, values.len(), &mut read).unwrap();
        assert_same(&bits(&read[1..]), &bits(values));
        // Never much more than the floats themselves.
        assert!(
            block.len() <= values.len() * 8 + values.len() / 16 + 32,
            "{} for {}",
            block.len(),
            values.len()
        );
    }
}

fn check_times(times: &[i64]) {
    let mut list = Vec::new();
    encode_times(times, &mut list);
    let mut read = Vec::new();
    decode_times(&list, times.len(), &mut read).unwrap();
    assert_same(&read, times);
    assert_eq!(count_times(&list), Ok(times.len()));
    if !times.is_empty() {
        assert!(decode_times(&list, times.len() - 1, &mut read).is_err());
    }
}

fn check_head(samples: &[(i64, f64)]) {
    let mut head = HeadChunk::new();
    for (i, (t, value)) in samples.iter().enumerate() {
        head.append(*t, *value);
        assert_eq!((head.len(), head.last_t()), (i + 1, Some(*t)));
        assert_eq!(head.last_value().map(f64::to_bits), Some(value.to_bits()));
        assert_eq!(head.first_t(), Some(samples[0].0));
    }
    let read: Vec<(i64, u64)> = head.iter().map(|(t, v)| (t, v.to_bits())).collect();
    let wanted: Vec<(i64, u64)> = samples.iter().map(|(t, v)| (*t, v.to_bits())).collect();
    assert_same(&read, &wanted);
}

fn any_histogram() -> impl Strategy<Value = Histogram> {
    let counts = || vec(prop_oneof![4 => (0u32..50).prop_map(f64::from), 1 => any_float()], 0..12);
    let spans = || vec((any::<i32>(), 0u32..9), 0..4);
    (
        any::<bool>(),
        -4i32..9,
        0u8..4,
        any_float(),
        (spans(), counts()),
        (spans(), counts()),
        vec(any_float(), 0..4),
    )
        .prop_map(|(integer, schema, hint, sum, positive, negative, bounds)| Histogram {
            schema,
            reset_hint: [ResetHint::Unknown, ResetHint::Reset, ResetHint::NotReset, ResetHint::Gauge]
                [usize::from(hint)],
            integer,
            zero_threshold: 1e-128,
            zero_count: 2.0,
            count: positive.1.iter().sum(),
            sum,
            positive_spans: to_spans(positive.0),
            positive_counts: positive.1,
            negative_spans: to_spans(negative.0),
            negative_counts: negative.1,
            custom_bounds: bounds.into(),
        })
}

fn to_spans(pairs: Vec<(i32, u32)>) -> Vec<Span> {
    pairs.into_iter().map(|(offset, length)| Span { offset, length }).collect()
}

/// Histograms that keep their layout for a while and count upwards.
fn any_histograms() -> impl Strategy<Value = Vec<Arc<Histogram>>> {
    vec((any_histogram(), 1usize..30), 1..5).prop_map(|runs| {
        let mut rows = Vec::new();
        for (first, n) in runs {
            for i in 0..n {
                let mut row = first.clone();
                for (at, count) in row.positive_counts.iter_mut().enumerate() {
                    *count += (i * at) as f64;
                }
                rows.push(Arc::new(row));
            }
        }
        rows
    })
}

/// Equal to the bit, which `==` on floats is not.
fn text(rows: &[Arc<Histogram>]) -> Vec<String> {
    let of = |h: &Arc<Histogram>| {
        let floats = [h.zero_threshold, h.zero_count, h.count, h.sum];
        let lists = [&h.positive_counts[..], &h.negative_counts, &h.custom_bounds].map(bits);
        format!("{h:?} {:?} {lists:?}", bits(&floats))
    };
    rows.iter().map(of).collect()
}

proptest! {
    #[test]
    fn blocks_read_back(values in any_series(700)) {
        check_values(&values);
    }

    #[test]
    fn times_read_back(times in (0usize..300).prop_flat_map(any_times)) {
        check_times(&times);
    }

    #[test]
    fn columns_read_back(values in vec(any::<i64>(), 0..200), small in vec((-9i64..9, 0u32..60), 0..200)) {
        let shifted: Vec<i64> = small.into_iter().map(|(v, s)| v << s).collect();
        for column in [values, shifted] {
            let mut out = Vec::new();
            encode_ints(&column, Effort::Flush, &mut out);
            let mut read = Vec::new();
            let mut input = Input::new(&out);
            decode_ints(&mut input, column.len(), |run| read.extend_from_slice(run)).unwrap();
            prop_assert!(input.is_empty());
            assert_same(&read, &column);
        }
    }

    #[test]
    fn heads_read_back(
        (values, times) in any_series(300).prop_flat_map(|v| { let n = v.len(); (Just(v), any_times(n)) })
    ) {
        check_head(&times.into_iter().zip(values).collect::<Vec<_>>());
    }

    #[test]
    fn histograms_read_back(rows in any_histograms()) {
        let mut block = Vec::new();
        encode_histograms(&rows, Effort::Flush, &mut block);
        let mut read = Vec::new();
        decode_histograms(&block, rows.len(), &mut read).unwrap();
        assert_same(&text(&read), &text(&rows));
        prop_assert!(holds_histograms(&block));
        block.clear();
        encode_values(&[rows[0].sum], Effort::Flush, &mut block);
        prop_assert!(!holds_histograms(&block));
    }

    #[test]
    fn any_bytes_are_read_without_harm(head in any::<u8>(), mut bytes in vec(any::<u8>(), 0..300), n in 0usize..2000) {
        bytes.insert(0, head);
        for kind in 0..16u8 {
            bytes[0] = kind << 4 | head & 15;
            let mut values = Vec::new();
            if decode_values(&bytes, n, &mut values).is_ok() {
                prop_assert_eq!(values.len(), n);
            }
            let mut rows = Vec::new();
            if decode_histograms(&bytes, n, &mut rows).is_ok() {
                prop_assert_eq!(rows.len(), n);
            }
        }
        let mut times = Vec::new();
        let _ = decode_times(&bytes, n, &mut times);
        prop_assert!(times.len() <= n);
        let _ = Page::open(&bytes[..]);
    }

    #[test]
    fn damaged_blocks_are_read_without_harm(values in any_series(300), at in any::<prop::sample::Index>(), to in any::<u8>(), cut in any::<prop::sample::Index>()) {
        for effort in EFFORTS {
            let mut block = Vec::new();
            encode_values(&values, effort, &mut block);
            let at = at.index(block.len());
            block[at] = to;
            let mut read = Vec::new();
            let _ = decode_values(&block, values.len(), &mut read);
            prop_assert!(read.len() <= values.len());
            block.truncate(cut.index(block.len()));
            let mut read = Vec::new();
            let _ = decode_values(&block, values.len(), &mut read);
            prop_assert!(read.len() <= values.len());
        }
    }

    #[test]
    fn pages_read_back(
        series in vec((1u32..1000, any_series(400), 0usize..3, any::<bool>()), 1..20),
        size_bits in 12u32..14,
    ) {
        check_page(&series, size_bits);
    }
}

/// Builds as many pages as it takes and reads every series back from them.
fn check_page(series: &[(u32, Vec<f64>, usize, bool)], size_bits: u32) {
    let targets: Vec<Vec<i64>> = (0..3).map(|t| hard_mix::times(t, 400, 16)).collect();
    let mut builder = PageBuilder::new(size_bits);
    let mut pages: Vec<Vec<u8>> = Vec::new();
    let mut number = 0;
    let mut wanted = Vec::new();
    for (gap, values, target, shared) in series {
        number += gap;
        let times = &targets[*target];
        let times = if *shared { Times::Shared(*target as u32 * 7, times) } else { Times::Own(times) };
        let mut done = 0;
        while done < values.len() {
            let taken = builder.push_floats(number, times, done, &values[done..], Effort::Flush);
            done += taken;
            if done < values.len() {
                assert!(taken > 0 || !builder.is_empty());
                let mut page = Vec::new();
                builder.finish(&mut page);
                pages.push(page);
            }
        }
        wanted.push((number, *target, values));
    }
    let mut page = Vec::new();
    builder.finish(&mut page);
    assert!(page.len() < 1 << size_bits);
    pages.push(page);
    let pages: Vec<_> = pages.into_iter().map(|p| Page::open(p).unwrap()).collect();
    for (number, target, values) in wanted {
        let (mut read, mut read_times) = (Vec::new(), Vec::new());
        for page in &pages {
            for entry in page.find(number) {
                decode_values(page.block(entry), entry.count as usize, &mut read).unwrap();
                let mut times = targets[target].clone();
                match entry.times() {
                    TimesRef::Own(list) => {
                        times.clear();
                        decode_times(page.own_times(list), 400, &mut times).unwrap();
                    }
                    TimesRef::Shared(list) => assert_eq!(list, target as u32 * 7),
                }
                let span = &times[entry.start as usize..][..entry.count as usize];
                assert!(page.range_ms.0 <= span[0] && span[span.len() - 1] <= page.range_ms.1);
                read_times.extend_from_slice(span);
            }
        }
        assert_same(&bits(&read), &bits(values));
        assert_same(&read_times, &targets[target][..values.len()]);
        assert_eq!(pages[0].find(number + 1_000_000), &[]);
    }
}

#[test]
fn the_hard_mix_reads_back() {
    for series in 0..101 {
        let (times, mut values) = (hard_mix::times(series, 600, 16), hard_mix::values(series, 600));
        check_times(&times);
        check_head(&times.iter().copied().zip(values.iter().copied()).collect::<Vec<_>>());
        check_values(&values);
        values[599] = f64::from_bits(STALE_NAN_BITS);
        check_values(&values);
    }
}

/// Sizes that the formats page promises, with some room for another seed.
#[test]
fn the_hard_mix_stays_small() {
    for (n, effort, most) in
        [(120, Effort::Flush, 0.95), (240, Effort::Flush, 0.92), (5760, Effort::Compact, 0.84)]
    {
        let (mut bytes, mut xor) = (0, 0.0);
        for series in 0..101 {
            let values = hard_mix::values(series, n);
            let mut block = Vec::new();
            encode_values(&values, effort, &mut block);
            bytes += block.len();
            xor += hard_mix::gorilla_bytes(&values);
        }
        let (each, xor) = (bytes as f64 / (101 * n) as f64, xor / (101 * n) as f64);
        assert!(each < most && each < xor / 2.0, "{n}: {each:.3}, XOR {xor:.3}");
    }
    let (mut bytes, times) = (0, hard_mix::times(1, 120, 16));
    for series in 0..101 {
        let mut head = HeadChunk::new();
        times.iter().zip(hard_mix::values(series, 120)).for_each(|(t, v)| head.append(*t, v));
        bytes += head.bytes_len();
    }
    assert!(bytes as f64 / (101.0 * 120.0) < 1.3, "{bytes}");
}

#[test]
fn special_values_cost_little_among_others() {
    let mut values = hard_mix::values(7, 240);
    let mut block = Vec::new();
    encode_values(&values, Effort::Flush, &mut block);
    let before = block.len();
    values[239] = f64::from_bits(STALE_NAN_BITS);
    block.clear();
    encode_values(&values, Effort::Flush, &mut block);
    assert!(block.len() <= before + 16, "{before} {}", block.len());
}

#[test]
fn ranges_of_a_head() {
    let mut head = HeadChunk::new();
    assert_eq!((head.first_t(), head.last_t(), head.last_value(), head.heap_bytes()), (None, None, None, 0));
    for i in 0..100 {
        head.append(i * 10, i as f64);
    }
    for (start, end, first, count) in [
        (0, 990, 0.0, 100),
        (5, 15, 1.0, 1),
        (10, 10, 1.0, 1),
        (991, 2000, 0.0, 0),
        (-9, -1, 0.0, 0),
        (985, 3000, 99.0, 1),
    ] {
        let mut columns = SampleColumns::default();
        head.read_range(start, end, &mut columns);
        assert_eq!(columns.times_ms.len(), count, "{start}..={end}");
        assert_eq!(columns.values.first().copied().unwrap_or(0.0), first, "{start}..={end}");
    }
    assert!(size_of::<HeadChunk>() <= 64);
}

#[test]
fn a_page_knows_its_damage() {
    let mut builder = PageBuilder::new(12);
    let times = hard_mix::times(1, 100, 16);
    assert_eq!(builder.push_floats(3, Times::Own(&times), 0, &hard_mix::values(2, 100), Effort::Flush), 100);
    let mut page = Vec::new();
    builder.finish(&mut page);
    assert!(builder.is_empty() && Page::open(&page[..]).is_ok());
    for at in 0..page.len() {
        page[at] ^= 4;
        assert!(Page::open(&page[..]).is_err(), "byte {at}");
        page[at] ^= 4;
    }
    for length in 0..page.len() {
        assert!(Page::open(&page[..length]).is_err());
    }
}

#[test]
fn a_histogram_larger_than_a_page_gets_its_own() {
    let row = |seed: u64| {
        let mut rng = hard_mix::Rng(seed);
        let counts: Vec<f64> = (0..3000).map(|_| rng.unit()).collect();
        Arc::new(Histogram {
            positive_spans: to_spans(vec![(0, 3000)]),
            positive_counts: counts,
            ..Default::default()
        })
    };
    let rows: Vec<_> = (0..3).map(row).collect();
    let mut builder = PageBuilder::new(12);
    let times = [10, 20, 30];
    let mut pages = Vec::new();
    let mut done = 0;
    while done < 3 {
        done += builder.push_histograms(1, Times::Own(&times), done, &rows[done..], Effort::Flush);
        let mut page = Vec::new();
        builder.finish(&mut page);
        pages.push(Page::open(page).unwrap());
    }
    let mut read = Vec::new();
    for page in &pages {
        for entry in page.entries() {
            decode_histograms(page.block(entry), entry.count as usize, &mut read).unwrap();
        }
    }
    assert_same(&text(&read), &text(&rows));
}
