//! Pages of many series' blocks.
//!
//! Strategy: the first byte chooses between bytes read as a page (under a checksum made right,
//! so that the directory is reached), and a page built from the bytes.
//! Invariants: never a panic; blocks and lists of a page that opens lie within it; every series
//! that went in is found again with its values and times, over as many pages as it took; a page
//! stays below its size.

use pilothouse_metrics::codec::page::{Times, TimesRef};
use pilothouse_metrics::codec::{Effort, Page, PageBuilder, decode_histograms, decode_times, decode_values};
use xxhash_rust::xxh3::xxh3_64;

use crate::choices::{Choices, assert_same_bits};

pub fn run(data: &[u8]) {
    let mut choices = Choices::new(data);
    if choices.byte().is_multiple_of(2) { read_any(choices.rest()) } else { build(choices) }
}

fn read_any(body: &[u8]) {
    let mut bytes = xxh3_64(body).to_le_bytes().to_vec();
    bytes.extend_from_slice(body);
    let Ok(page) = Page::open(&bytes[..]) else { return };
    for entry in page.entries() {
        assert!(page.find(entry.series).contains(entry));
        let n = entry.count.min(5_000) as usize;
        let _ = decode_values(page.block(entry), n, &mut Vec::new());
        let _ = decode_histograms(page.block(entry), n.min(500), &mut Vec::new());
        if let TimesRef::Own(list) = entry.times() {
            let _ = decode_times(page.own_times(list), 5_000, &mut Vec::new());
        }
    }
}

fn build(mut choices: Choices<'_>) {
    let lists: Vec<Vec<i64>> = (0..3).map(|_| choices.times(400)).collect();
    let mut builder = PageBuilder::new(12);
    let mut pages = Vec::new();
    let mut put = Vec::new();
    let mut series = 0u32;
    while !choices.is_empty() && put.len() < 100 {
        series = series.saturating_add(u32::from(choices.byte()) + 1);
        let list = choices.below(3);
        let times = if choices.byte().is_multiple_of(2) {
            Times::Own(&lists[list])
        } else {
            Times::Shared(list as u32, &lists[list])
        };
        let n = choices.below(400);
        let values = choices.values(n);
        let mut done = 0;
        while done < values.len() {
            done += builder.push_floats(series, times, done, &values[done..], Effort::Flush);
            if done < values.len() {
                close(&mut builder, &mut pages);
            }
        }
        put.push((series, list, values));
    }
    close(&mut builder, &mut pages);
    let pages: Vec<_> =
        pages.into_iter().map(|p| Page::open(p).expect("a page that was built opens")).collect();
    for (series, list, values) in put {
        check(&pages, series, &lists[list], &values);
    }
}

fn close(builder: &mut PageBuilder, pages: &mut Vec<Vec<u8>>) {
    let (size, mut page) = (builder.size(), Vec::new());
    let empty = builder.is_empty();
    builder.finish(&mut page);
    assert!(page.len() <= size && page.len() < 1 << 12);
    if !empty {
        pages.push(page);
    }
}

fn check(pages: &[Page<Vec<u8>>], series: u32, times: &[i64], values: &[f64]) {
    let (mut read, mut read_times) = (Vec::new(), Vec::new());
    for page in pages {
        for entry in page.find(series) {
            decode_values(page.block(entry), entry.count as usize, &mut read).expect("a block reads");
            let mut list = times.to_vec();
            if let TimesRef::Own(number) = entry.times() {
                list.clear();
                decode_times(page.own_times(number), 400, &mut list).expect("a list reads");
            }
            read_times.extend_from_slice(&list[entry.start as usize..][..entry.count as usize]);
        }
    }
    assert_same_bits(&read, values);
    assert_eq!(read_times, times[..values.len()]);
}
