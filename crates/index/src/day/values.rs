//! A page of values of one label, each with the series that have it.

use roaring::RoaringBitmap;

use crate::bytes::{self, Reader, push_front_coded, push_slice, push_varint};
use crate::postings::read_bitmap;
use crate::{Error, Listed, Scan};

/// Up to so many series are written as their distances, more as a bitmap.
const FEW: u64 = 16;

/// Collects the values of one page.
#[derive(Debug, Default)]
pub(super) struct ValuesWriter {
    body: Vec<u8>,
    last: String,
    count: u64,
}

impl ValuesWriter {
    pub(super) fn push(&mut self, value: &str, series: &RoaringBitmap) {
        push_front_coded(&mut self.body, &self.last, value);
        value.clone_into(&mut self.last);
        self.count += 1;
        if series.len() > FEW {
            let mut bitmap = series.clone();
            bitmap.optimize();
            let mut bytes = Vec::with_capacity(bitmap.serialized_size());
            // Writing into memory does not fail.
            let _ = bitmap.serialize_into(&mut bytes);
            push_varint(&mut self.body, 0);
            push_slice(&mut self.body, &bytes);
            return;
        }
        push_varint(&mut self.body, series.len());
        let mut next = 0;
        for id in series {
            push_varint(&mut self.body, u64::from(id) - next);
            next = u64::from(id) + 1;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn bytes(&self) -> usize {
        self.body.len()
    }

    pub(super) fn finish(&mut self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.body.len() + 4);
        push_varint(&mut out, self.count);
        out.extend_from_slice(&self.body);
        *self = Self::default();
        bytes::seal(&out)
    }
}

/// Visits the values of a page in order.
pub(super) fn visit_page(
    page: &[u8],
    visit: &mut dyn FnMut(&str, Listed<'_>) -> Result<Scan, Error>,
) -> Result<Scan, Error> {
    let raw = bytes::unseal(page)?;
    let mut reader = Reader(&raw);
    let count = reader.count()?;
    let (mut value, mut ids) = (Vec::new(), Vec::new());
    for _ in 0..count {
        bytes::front_coded(&mut reader, &mut value)?;
        let text = std::str::from_utf8(&value).map_err(|_| Error::Malformed("text"))?;
        let series = match reader.varint()? {
            0 => Listed::Bytes(reader.slice()?),
            few if few <= FEW => {
                read_few(&mut reader, few, &mut ids)?;
                Listed::Few(&ids)
            }
            _ => return Err(Error::Malformed("list of series")),
        };
        if visit(text, series)?.is_break() {
            return Ok(Scan::Break(()));
        }
    }
    Ok(Scan::Continue(()))
}

fn read_few(reader: &mut Reader<'_>, count: u64, ids: &mut Vec<u32>) -> Result<(), Error> {
    ids.clear();
    let mut next = 0u64;
    for _ in 0..count {
        let id = reader.varint()?.checked_add(next).and_then(|id| u32::try_from(id).ok());
        let id = id.ok_or(Error::Malformed("series id"))?;
        ids.push(id);
        next = u64::from(id) + 1;
    }
    Ok(())
}

/// A bitmap as a value of its own.
pub(super) fn write_bitmap(series: &RoaringBitmap) -> Vec<u8> {
    let mut bitmap = series.clone();
    bitmap.optimize();
    let mut bytes = Vec::with_capacity(bitmap.serialized_size());
    let _ = bitmap.serialize_into(&mut bytes);
    bytes::seal(&bytes)
}

pub(super) fn read_sealed_bitmap(bytes: &[u8]) -> Result<RoaringBitmap, Error> {
    read_bitmap(&bytes::unseal(bytes)?)
}
