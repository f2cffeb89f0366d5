//! The form in which a batch keeps labels: the bytes of remote write 1.0, `labels` fields one
//! behind the other, each a message of name and value.
//!
//! A 1.0 request is kept as it came, so its labels cost nothing. The other decoders write the
//! same form, names in order, because that is what a 1.0 sender sends: a series then has one key
//! whichever protocol it comes by, and the store one entry for it.

use pilothouse_model::Labels;
use pilothouse_model::labels::SeriesText;
use pilothouse_model::write::{MalformedLabels, RawPair};

use crate::proto::{Cursor, ProtoError, bytes_key, push_varint, varint_len};

pub(crate) const LABELS_KEY: u32 = bytes_key(1);
const NAME_KEY: u32 = bytes_key(1);
const VALUE_KEY: u32 = bytes_key(2);

/// Reads the pairs of one series in the order they came; the `read_labels` of every batch that
/// this crate makes.
pub fn read_labels<'a>(raw: &'a [u8], pairs: &mut Vec<RawPair<'a>>) -> Result<(), MalformedLabels> {
    let mut cursor = Cursor::new(raw);
    while let Some(key) = cursor.key().map_err(|_| MalformedLabels)? {
        if key != LABELS_KEY {
            return Err(MalformedLabels);
        }
        let pair = cursor.message().and_then(read_pair).map_err(|_| MalformedLabels)?;
        pairs.push(pair);
    }
    Ok(())
}

/// The key of a series: a hash over its raw labels. All batches have one form of labels, so no
/// form needs to be mixed in.
#[inline]
pub fn key(raw: &[u8]) -> u128 {
    xxhash_rust::xxh3::xxh3_128(raw)
}

/// Name and value of one label message. Of a field that occurs twice the last counts.
pub(crate) fn read_pair(mut label: Cursor<'_>) -> Result<RawPair<'_>, ProtoError> {
    let (mut name, mut value) = (&[][..], &[][..]);
    while let Some(key) = label.key()? {
        match key {
            NAME_KEY => name = label.bytes()?,
            VALUE_KEY => value = label.bytes()?,
            _ => label.skip_unknown(key, 1..=2)?,
        }
    }
    Ok((name, value))
}

/// Walks over the label message that stands here and asks only whether it is one. The usual form
/// (name, value, both shorter than 128 bytes) is known by four bytes.
#[inline]
pub(crate) fn skip_pair(cursor: &mut Cursor<'_>) -> Result<(), ProtoError> {
    let label = cursor.message()?;
    let bytes = label.slice(label.at, cursor.at);
    if let [10, name_len @ 0..0x80, rest @ ..] = bytes
        && let Some([18, value_len @ 0..0x80, value @ ..]) = rest.get(usize::from(*name_len)..)
        && value.len() == usize::from(*value_len)
    {
        return Ok(());
    }
    read_pair(label).map(drop)
}

/// Appends one pair.
pub(crate) fn push_pair(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let field = |n: usize| 1 + varint_len(n as u64) + n;
    out.push(LABELS_KEY as u8);
    push_varint(out, (field(name.len()) + field(value.len())) as u64);
    for (key, part) in [(NAME_KEY, name), (VALUE_KEY, value)] {
        out.push(key as u8);
        push_varint(out, part.len() as u64);
        out.extend_from_slice(part);
    }
}

/// As [`push_pair`], for parts that have their length in front of them already.
#[inline]
pub(crate) fn push_sized_pair(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let length = 2 + name.len() + value.len();
    if length < 0x80 {
        out.extend_from_slice(&[LABELS_KEY as u8, length as u8, NAME_KEY as u8]);
    } else {
        out.push(LABELS_KEY as u8);
        push_varint(out, length as u64);
        out.push(NAME_KEY as u8);
    }
    out.extend_from_slice(name);
    out.push(VALUE_KEY as u8);
    out.extend_from_slice(value);
}

/// A series for a message, `name{a="b"}`, with what is not UTF-8 replaced.
pub(crate) fn series_text(raw: &[u8]) -> String {
    let mut pairs = Vec::new();
    // What was read before a fault is still the best name there is.
    let _ = read_labels(raw, &mut pairs);
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let labels = Labels::from_pairs(pairs.into_iter().map(|(n, v)| (text(n), text(v))));
    SeriesText(&labels).to_string()
}

/// Pairs as text, with what is not UTF-8 replaced; for exemplars.
pub(crate) fn lossy_pair((name, value): RawPair<'_>) -> (String, String) {
    (String::from_utf8_lossy(name).into_owned(), String::from_utf8_lossy(value).into_owned())
}
