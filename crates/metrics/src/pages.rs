//! Columns of samples into pages.

use std::sync::Arc;

use pilothouse_model::{Histogram, SampleColumns};
use roaring::RoaringBitmap;

use crate::codec::page::Times;
use crate::codec::{Effort, MAX_BLOCK_SAMPLES, PageBuilder};

/// A page to be written, with what it holds.
#[derive(Debug)]
pub(crate) struct NewPage {
    pub(crate) first: u32,
    pub(crate) last: u32,
    pub(crate) start_ms: i64,
    pub(crate) end_ms: i64,
    pub(crate) bytes: Vec<u8>,
}

/// Fills pages with series in ascending numbers.
#[derive(Debug)]
pub(crate) struct PageWriter {
    builder: PageBuilder,
    effort: Effort,
    series: Option<(u32, u32)>,
    span: (i64, i64),
    done: Vec<NewPage>,
    written: RoaringBitmap,
}

/// Pages with the numbers of the series in them.
#[derive(Debug)]
pub(crate) struct NewPages {
    pub(crate) pages: Vec<NewPage>,
    pub(crate) series: RoaringBitmap,
    /// Where the pages are not in the order of ids: the place of each slot of the group.
    pub(crate) order: Arc<[u16]>,
}

impl PageWriter {
    /// Pages are just under `2^size_bits` bytes.
    pub(crate) fn new(size_bits: u32, effort: Effort) -> Self {
        let builder = PageBuilder::new(size_bits);
        Self {
            builder,
            effort,
            series: None,
            span: (i64::MAX, i64::MIN),
            done: Vec::new(),
            written: RoaringBitmap::new(),
        }
    }

    /// Adds a series. `list` gives the number of a list of times kept outside of the page, or
    /// `None` for one in the page.
    pub(crate) fn push(
        &mut self,
        series: u32,
        columns: &SampleColumns,
        mut list: impl FnMut(&[i64]) -> Option<u32>,
    ) {
        let floats = columns.times_ms.chunks(MAX_BLOCK_SAMPLES).zip(columns.values.chunks(MAX_BLOCK_SAMPLES));
        for (times, values) in floats {
            self.push_parts(series, times, list(times), |builder, times, at, effort| {
                builder.push_floats(series, times, at, &values[at..], effort)
            });
        }
        if columns.histograms.is_empty() {
            return;
        }
        let (times, rows): (Vec<i64>, Vec<Arc<Histogram>>) = columns.histograms.iter().cloned().unzip();
        for (times, rows) in times.chunks(MAX_BLOCK_SAMPLES).zip(rows.chunks(MAX_BLOCK_SAMPLES)) {
            self.push_parts(series, times, list(times), |builder, times, at, effort| {
                builder.push_histograms(series, times, at, &rows[at..], effort)
            });
        }
    }

    fn push_parts(
        &mut self,
        series: u32,
        times: &[i64],
        shared: Option<u32>,
        mut push: impl FnMut(&mut PageBuilder, Times<'_>, usize, Effort) -> usize,
    ) {
        let list = shared.map_or(Times::Own(times), |number| Times::Shared(number, times));
        let mut at = 0;
        while at < times.len() {
            let took = push(&mut self.builder, list, at, self.effort);
            if took > 0 {
                self.note(series, &times[at..at + took]);
            } else if self.builder.is_empty() {
                // An empty page takes something of anything; this only ends the loop.
                return;
            }
            at += took;
            if at < times.len() {
                self.end_page();
            }
        }
    }

    fn note(&mut self, series: u32, times: &[i64]) {
        self.series = Some((self.series.map_or(series, |s| s.0), series));
        self.written.insert(series);
        if let (Some(first), Some(last)) = (times.first(), times.last()) {
            self.span = (self.span.0.min(*first), self.span.1.max(*last));
        }
    }

    fn end_page(&mut self) {
        let Some((first, last)) = self.series.take() else { return };
        let mut bytes = Vec::new();
        self.builder.finish(&mut bytes);
        let (start_ms, end_ms) = std::mem::replace(&mut self.span, (i64::MAX, i64::MIN));
        self.done.push(NewPage { first, last, start_ms, end_ms, bytes });
    }

    /// The pages that are full.
    pub(crate) fn take(&mut self) -> Vec<NewPage> {
        std::mem::take(&mut self.done)
    }

    /// The pages that are left, the last one as far as it is filled.
    pub(crate) fn finish(mut self) -> NewPages {
        self.end_page();
        NewPages { pages: self.done, series: self.written, order: Arc::default() }
    }
}
