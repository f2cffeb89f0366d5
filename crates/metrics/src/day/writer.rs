//! Writes the file of a closed day.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use pilothouse_disk::{Database, files};
use pilothouse_index::DayWriter;
use pilothouse_model::{Labels, SampleColumns};
use xxhash_rust::xxh3::xxh3_128;

use super::l0::{PageRef, group_flush, push_directory};
use super::l1::{ABOUT, About, FINGERPRINTS, INDEX, KIND, PAGES, PRINTS, TIMES, VERSION, push_about};
use crate::codec::{Effort, encode_times};
use crate::error::Error;
use crate::pages::PageWriter;

/// Large pages: a day's block of a series takes some kilobytes.
const PAGE_SIZE_BITS: u32 = 16;
const CACHE_BYTES: usize = 16 << 20;
/// Rows are written in transactions of about this size.
const TRANSACTION_BYTES: usize = 32 << 20;

type Row<K> = (K, Vec<u8>);

/// A closed day's file while it is written. It is nothing until it is finished and renamed.
#[derive(Debug)]
pub(crate) struct DayFile {
    database: Database,
    path: PathBuf,
    index: DayWriter,
    pages: PageWriter,
    directory: Vec<PageRef>,
    lists: HashMap<u128, u32, foldhash::fast::FixedState>,
    prints: Vec<u8>,
    rows: Rows,
    about: About,
}

#[derive(Debug, Default)]
struct Rows {
    pages: Vec<Row<u32>>,
    times: Vec<Row<u32>>,
    prints: Vec<Row<u32>>,
    index: Vec<Row<Vec<u8>>>,
    bytes: usize,
}

impl DayFile {
    pub(crate) fn create(path: &Path) -> Result<Self, Error> {
        Ok(Self {
            database: Database::open(path, KIND, VERSION, CACHE_BYTES)?,
            path: path.to_owned(),
            index: DayWriter::new(),
            pages: PageWriter::new(PAGE_SIZE_BITS, Effort::Compact),
            directory: Vec::new(),
            lists: HashMap::default(),
            prints: Vec::new(),
            rows: Rows::default(),
            about: About {
                series: 0,
                samples: 0,
                start_ms: i64::MAX,
                end_ms: i64::MIN,
                newest_flush: 0,
                deletions_below: 0,
            },
        })
    }

    /// Adds the next series in the order of labels.
    pub(crate) fn push(&mut self, labels: &Labels, columns: &SampleColumns) -> Result<(), Error> {
        let Self { index, pages, lists, rows, about, .. } = self;
        let position = index.push(labels, 0, &mut |key: &[u8], value: &[u8]| rows.put_index(key, value))?;
        pages.push(position, columns, |times| Some(rows.list(lists, times)));
        about.series = position + 1;
        about.samples += columns.len() as u64;
        self.prints.extend_from_slice(&labels.fingerprint().to_le_bytes());
        if about.series.is_multiple_of(FINGERPRINTS) {
            self.end_prints();
        }
        self.take_pages();
        if self.rows.bytes >= TRANSACTION_BYTES { self.write_rows() } else { Ok(()) }
    }

    fn end_prints(&mut self) {
        if let Some(number) = self.about.series.checked_sub(1).filter(|_| !self.prints.is_empty()) {
            self.rows.prints.push((number / FINGERPRINTS, std::mem::take(&mut self.prints)));
        }
    }

    fn take_pages(&mut self) {
        for page in self.pages.take() {
            self.take_page(page);
        }
    }

    fn take_page(&mut self, page: crate::pages::NewPage) {
        let number = self.directory.len() as u32;
        self.about.start_ms = self.about.start_ms.min(page.start_ms);
        self.about.end_ms = self.about.end_ms.max(page.end_ms);
        self.directory.push(PageRef {
            number,
            first_id: page.first,
            last_id: page.last,
            start_ms: page.start_ms,
            end_ms: page.end_ms,
        });
        self.rows.bytes += page.bytes.len();
        self.rows.pages.push((number, page.bytes));
    }

    /// Writes what is left. The file is whole and on the disk afterwards, though not under its
    /// name.
    pub(crate) fn finish(mut self, newest_flush: u32, deletions_below: u32) -> Result<About, Error> {
        let pages = std::mem::replace(&mut self.pages, PageWriter::new(PAGE_SIZE_BITS, Effort::Compact));
        for page in pages.finish().pages {
            self.take_page(page);
        }
        self.end_prints();
        let index = std::mem::take(&mut self.index);
        let rows = &mut self.rows;
        index.finish(&mut |key: &[u8], value: &[u8]| rows.put_index(key, value))?;
        self.write_rows()?;
        self.about.newest_flush = newest_flush;
        self.about.deletions_below = deletions_below;
        self.write_about()?;
        Ok(self.about)
    }

    fn write_rows(&mut self) -> Result<(), Error> {
        let rows = std::mem::take(&mut self.rows);
        let path = &*self.path;
        files::require_space(path, 2 * rows.bytes as u64)?;
        self.database.write(|transaction| {
            for (table, rows) in [(PAGES, rows.pages), (TIMES, rows.times), (PRINTS, rows.prints)] {
                let mut table = transaction.open_table(table).map_err(Error::redb(path))?;
                let mut end =
                    table.upper_bound_mut(std::ops::Bound::<u32>::Unbounded).map_err(Error::redb(path))?;
                for (key, value) in rows {
                    end.insert_before(key, value.as_slice()).map_err(Error::redb(path))?;
                }
                end.close().map_err(Error::redb(path))?;
            }
            let mut index = transaction.open_table(INDEX).map_err(Error::redb(path))?;
            for (key, value) in rows.index {
                index.insert(key.as_slice(), value.as_slice()).map_err(Error::redb(path))?;
            }
            Ok(())
        })
    }

    fn write_about(&self) -> Result<(), Error> {
        let mut row = Vec::new();
        push_about(&mut row, &self.about);
        push_directory(&mut row, &group_flush(0, self.directory.clone()));
        let path = &*self.path;
        self.database.write(|transaction| {
            let mut about = transaction.open_table(ABOUT).map_err(Error::redb(path))?;
            about.insert((), row.as_slice()).map_err(Error::redb(path))?;
            Ok(())
        })
    }
}

impl Rows {
    fn put_index(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.bytes += key.len() + value.len();
        self.index.push((key.to_vec(), value.to_vec()));
        Ok(())
    }

    /// The number of a list of times, a new one if no series had the same before.
    fn list(&mut self, lists: &mut HashMap<u128, u32, foldhash::fast::FixedState>, times: &[i64]) -> u32 {
        let mut raw = Vec::with_capacity(times.len() * 8);
        times.iter().for_each(|t| raw.extend_from_slice(&t.to_le_bytes()));
        let next = lists.len() as u32;
        let number = *lists.entry(xxh3_128(&raw)).or_insert(next);
        if number == next {
            let mut bytes = Vec::new();
            encode_times(times, &mut bytes);
            self.bytes += bytes.len();
            self.times.push((number, bytes));
        }
        number
    }
}

#[cfg(test)]
mod tests {
    use super::super::l1::OpenL1;
    use super::*;

    #[test]
    fn a_file_that_is_not_what_was_written_is_told_before_it_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("day.redb");
        let mut file = DayFile::create(&path).unwrap();
        let noise = |i: u32| (0..2000).map(move |t| f64::from(i * 2000 + t).sin());
        for i in 0..40 {
            let labels = Labels::from_pairs([("__name__", "m"), ("i", &*format!("{i:02}"))]);
            let values: Vec<f64> = noise(i).collect();
            let columns = SampleColumns { times_ms: (0..2000).collect(), values, ..SampleColumns::default() };
            file.push(&labels, &columns).unwrap();
        }
        let about = file.finish(1, 1).unwrap();
        OpenL1::verify(&path, &about).unwrap();
        assert!(OpenL1::verify(&path, &About { samples: about.samples + 1, ..about }).is_err());
        let whole = std::fs::read(&path).unwrap();
        let mut damaged = whole.clone();
        // Pages of samples are most of what is not empty.
        let full: Vec<usize> =
            (0..whole.len() / 64).filter(|i| !whole[i * 64..][..64].contains(&0)).collect();
        let middle = full[full.len() / 2] * 64;
        damaged[middle..middle + 64].fill(0xa5);
        std::fs::write(&path, &damaged).unwrap();
        assert!(OpenL1::verify(&path, &about).is_err());
        std::fs::write(&path, &whole).unwrap();
        OpenL1::verify(&path, &about).unwrap();
    }
}
