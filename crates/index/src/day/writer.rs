use pilothouse_model::Labels;

use super::values::{ValuesWriter, write_bitmap};
use super::{HEADER, SERIES_PER_PAGE, VALUES_PAGE_BYTES, VERSION, having_key, series_key, values_key};
use crate::bytes::{push_slice, push_varint, seal};
use crate::pairs::{Name, Pairs};
use crate::{Error, PageWriter};

/// Takes a row of the table, a key and its value.
pub type PutRow<'a, E> = dyn FnMut(&[u8], &[u8]) -> Result<(), E> + 'a;

/// Writes the index of a day. Give it the series in the order of their labels, then finish; it
/// hands out rows of the table in ascending order of keys.
///
/// Until it is finished it holds the lists of series of all pairs, some 50 bytes a series.
#[derive(Debug, Default)]
pub struct DayWriter {
    pairs: Pairs,
    page: PageWriter,
    last: Option<Labels>,
    series: u32,
}

impl DayWriter {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next series and returns its number. `tag` is a number that the store keeps with
    /// it. Fails with [`Error::Unordered`] if it does not come behind the one before.
    pub fn push<E: From<Error>>(
        &mut self,
        labels: &Labels,
        tag: u64,
        put: &mut PutRow<'_, E>,
    ) -> Result<u32, E> {
        if self.last.as_ref().is_some_and(|last| last >= labels) {
            return Err(Error::Unordered.into());
        }
        let number = self.series;
        for (name, value) in labels {
            let pair = self.pairs.intern(name, value);
            self.pairs.attach(pair, number);
        }
        self.page.push(number, tag, labels)?;
        self.last = Some(labels.clone());
        self.series += 1;
        if self.page.len() == SERIES_PER_PAGE {
            self.put_series(put)?;
        }
        Ok(number)
    }

    /// Writes what is left; the index is then whole.
    pub fn finish<E: From<Error>>(mut self, put: &mut PutRow<'_, E>) -> Result<(), E> {
        self.put_series(put)?;
        let mut names: Vec<&Name> = self.pairs.names().collect();
        names.sort_unstable_by_key(|name| &*name.text);
        for (number, name) in (0..).zip(&names) {
            self.put_values(number, name, put)?;
        }
        for (number, name) in (0..).zip(&names) {
            put(&having_key(number), &write_bitmap(&name.series))?;
        }
        put(&[HEADER], &self.header(&names))
    }

    fn put_series<E>(&mut self, put: &mut PutRow<'_, E>) -> Result<(), E> {
        if self.page.is_empty() {
            return Ok(());
        }
        let first = self.series - self.page.len() as u32;
        put(&series_key(first), &self.page.finish())
    }

    fn put_values<E>(&self, number: u32, name: &Name, put: &mut PutRow<'_, E>) -> Result<(), E> {
        let mut page = ValuesWriter::default();
        let (mut key, mut before) = (values_key(number, b""), "");
        for pair in name.values.iter() {
            let value = self.pairs.value(pair);
            if page.bytes() >= VALUES_PAGE_BYTES {
                put(&key, &page.finish())?;
                key = values_key(number, separator(before, value));
            }
            if let Some(postings) = self.pairs.postings(pair) {
                page.push(value, &postings.to_bitmap());
            }
            before = value;
        }
        if page.is_empty() { Ok(()) } else { put(&key, &page.finish()) }
    }

    fn header(&self, names: &[&Name]) -> Vec<u8> {
        let mut out = Vec::new();
        push_varint(&mut out, VERSION);
        push_varint(&mut out, u64::from(self.series));
        push_varint(&mut out, names.len() as u64);
        for name in names {
            push_slice(&mut out, name.text.as_bytes());
            push_varint(&mut out, name.values.len() as u64);
        }
        seal(&out)
    }
}

/// The shortest start of `value` that lies behind `before`.
fn separator<'a>(before: &str, value: &'a str) -> &'a [u8] {
    let shared = before.bytes().zip(value.bytes()).take_while(|(a, b)| a == b).count();
    value.as_bytes().get(..=shared).unwrap_or(value.as_bytes())
}
