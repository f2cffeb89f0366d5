use std::borrow::Cow;
use std::collections::BTreeMap;

use pilothouse_model::Labels;
use redb::ReadOnlyTable;
use roaring::RoaringBitmap;

use super::values::{read_sealed_bitmap, visit_page};
use super::{HEADER, SERIES, VALUES, VERSION, having_key, key, series_key, values_key};
use crate::bytes::{Reader, unseal};
use crate::resolve::{PostingsSource, Scan};
use crate::{Error, Listed, Page};

/// Is shown a row of the table, a key and its value.
pub type VisitRow<'a> = dyn FnMut(&[u8], &[u8]) -> Result<Scan, Error> + 'a;

/// The table of a day's index: rows of bytes by ascending keys.
pub trait DayRows {
    /// Visits the rows from the last one at or before `from` on.
    fn scan_from(&self, from: &[u8], visit: &mut VisitRow<'_>) -> Result<(), Error>;
}

impl DayRows for ReadOnlyTable<&'static [u8], &'static [u8]> {
    fn scan_from(&self, from: &[u8], visit: &mut VisitRow<'_>) -> Result<(), Error> {
        let mut before = self.range::<&[u8]>(..=from).map_err(Error::database)?;
        let start = match before.next_back() {
            Some(row) => {
                let (key, value) = row.map_err(Error::database)?;
                if visit(key.value(), value.value())?.is_break() {
                    return Ok(());
                }
                key.value().to_vec()
            }
            None => Vec::new(),
        };
        let behind = (std::ops::Bound::Excluded(start.as_slice()), std::ops::Bound::Unbounded);
        for row in self.range::<&[u8]>(behind).map_err(Error::database)? {
            let (key, value) = row.map_err(Error::database)?;
            if visit(key.value(), value.value())?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// A day's index, open for reading. Holds the names; all else is read when asked for.
#[derive(Debug)]
pub struct DayIndex<R> {
    rows: R,
    series: u32,
    /// By name: its number, and how many values it has.
    names: BTreeMap<String, (u32, u64)>,
}

impl<R: DayRows> DayIndex<R> {
    pub fn open(rows: R) -> Result<Self, Error> {
        let header = row(&rows, &[HEADER])?.ok_or(Error::Malformed("no header"))?;
        let header = unseal(&header)?;
        let mut reader = Reader(&header);
        if reader.varint()? != VERSION {
            return Err(Error::Malformed("version of a day's index"));
        }
        let series = reader.u32()?;
        let count = reader.count()?;
        let mut names = BTreeMap::new();
        for number in 0..count as u32 {
            let name = std::str::from_utf8(reader.slice()?).map_err(|_| Error::Malformed("text"))?;
            names.insert(name.to_owned(), (number, reader.varint()?));
        }
        Ok(Self { rows, series, names })
    }

    /// How many series the day has. They are numbered from 0 in the order of their labels.
    pub fn len(&self) -> u32 {
        self.series
    }

    pub fn is_empty(&self) -> bool {
        self.series == 0
    }

    /// How many values a label has.
    pub fn value_count(&self, name: &str) -> u64 {
        self.names.get(name).map_or(0, |(_, values)| *values)
    }

    /// The page that holds a series; its rows are numbered as the series are.
    pub fn page_of(&self, series: u32) -> Result<Page, Error> {
        let mut page = None;
        self.rows.scan_from(&series_key(series), &mut |key, value| {
            if key.first() == Some(&SERIES) {
                page = Some(Page::decode(value)?);
            }
            Ok(Scan::Break(()))
        })?;
        page.ok_or(Error::Malformed("no page for a series"))
    }

    /// The label set and the tag of one series. For many, see [`DayIndex::for_each`].
    pub fn labels(&self, series: u32) -> Result<(Labels, u64), Error> {
        let page = self.page_of(series)?;
        let row = page.find(series).ok_or(Error::Malformed("no row for a series"))?;
        Ok((page.labels(row), row.tag))
    }

    /// Visits the series of a selection in order, reading each page once.
    pub fn for_each(
        &self,
        selection: &RoaringBitmap,
        visit: &mut dyn FnMut(u32, &Page, &crate::PageRow) -> Result<Scan, Error>,
    ) -> Result<(), Error> {
        let mut page: Option<Page> = None;
        for series in selection {
            if page.as_ref().and_then(|p| p.find(series)).is_none() {
                page = Some(self.page_of(series)?);
            }
            let found = page.as_ref().and_then(|p| Some((p, p.find(series)?)));
            let (page, row) = found.ok_or(Error::Malformed("no row for a series"))?;
            if visit(series, page, row)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The number of the series with these labels.
    pub fn get(&self, labels: &Labels) -> Result<Option<u32>, Error> {
        let (mut low, mut high) = (0, self.series);
        while low < high {
            let page = self.page_of(low + (high - low) / 2)?;
            let (Some(first), Some(last)) = (page.rows().first(), page.rows().last()) else {
                return Err(Error::Malformed("empty page"));
            };
            if *labels < page.labels(first) {
                high = first.id.min(high - 1);
            } else if *labels > page.labels(last) {
                low = last.id.saturating_add(1).max(low + 1);
            } else {
                return Ok(page.rows().iter().find(|row| page.labels(row) == *labels).map(|row| row.id));
            }
        }
        Ok(None)
    }

    /// Visits the pages of one name's values from the one that may hold `from` on.
    fn value_pages(
        &self,
        number: u32,
        from: &[u8],
        visit: &mut dyn FnMut(&[u8]) -> Result<Scan, Error>,
    ) -> Result<(), Error> {
        let of_name = key(VALUES, number);
        self.rows.scan_from(&values_key(number, from), &mut |key, page| {
            if !key.starts_with(&of_name) { Ok(Scan::Break(())) } else { visit(page) }
        })
    }
}

impl<R: DayRows> PostingsSource for DayIndex<R> {
    fn all(&self) -> Result<Cow<'_, RoaringBitmap>, Error> {
        let mut all = RoaringBitmap::new();
        all.insert_range(0..self.series);
        Ok(Cow::Owned(all))
    }

    fn names(&self) -> Result<Vec<String>, Error> {
        Ok(self.names.keys().cloned().collect())
    }

    fn postings(&self, name: &str, value: &str) -> Result<Cow<'_, RoaringBitmap>, Error> {
        let mut found = RoaringBitmap::new();
        let Some((number, _)) = self.names.get(name) else { return Ok(Cow::Owned(found)) };
        self.value_pages(*number, value.as_bytes(), &mut |page| {
            let _ = visit_page(page, &mut |other, series| {
                if other < value {
                    return Ok(Scan::Continue(()));
                }
                if other == value {
                    found = series.to_bitmap()?;
                }
                Ok(Scan::Break(()))
            })?;
            // The first page is the only one that can hold it.
            Ok(Scan::Break(()))
        })?;
        Ok(Cow::Owned(found))
    }

    fn having(&self, name: &str) -> Result<Cow<'_, RoaringBitmap>, Error> {
        let Some((number, _)) = self.names.get(name) else { return Ok(Cow::default()) };
        let bytes = row(&self.rows, &having_key(*number))?.ok_or(Error::Malformed("no list of a name"))?;
        read_sealed_bitmap(&bytes).map(Cow::Owned)
    }

    fn scan(
        &self,
        name: &str,
        prefix: &str,
        visit: &mut dyn FnMut(&str, Listed<'_>) -> Result<Scan, Error>,
    ) -> Result<(), Error> {
        let Some((number, _)) = self.names.get(name) else { return Ok(()) };
        self.value_pages(*number, prefix.as_bytes(), &mut |page| {
            visit_page(page, &mut |value, series| {
                if value.starts_with(prefix) {
                    visit(value, series)
                } else if value < prefix {
                    Ok(Scan::Continue(()))
                } else {
                    Ok(Scan::Break(()))
                }
            })
        })
    }
}

/// The value of one key.
fn row<R: DayRows>(rows: &R, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
    let mut found = None;
    rows.scan_from(key, &mut |other, value| {
        if other == key {
            found = Some(value.to_vec());
        }
        Ok(Scan::Break(()))
    })?;
    Ok(found)
}
