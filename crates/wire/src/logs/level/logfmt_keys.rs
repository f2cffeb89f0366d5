//! A level among the pairs of a logfmt line, read as Loki's decoder reads them.

use super::FieldNames;

/// The value of the earliest name of the list that stands as a key before the first broken pair.
pub(super) fn find<'l>(line: &'l [u8], fields: &FieldNames) -> Option<&'l [u8]> {
    let mut found = None;
    let mut best = usize::MAX;
    let mut at = 0;
    while let Some((key, value, next)) = pair(line, at) {
        at = next;
        if let Some(rank) = fields.rank_folded(key)
            && rank < best
        {
            (found, best) = (Some(value), rank);
            if rank == 0 {
                break;
            }
        }
    }
    found
}

/// The next key, its value (empty where it has none) and where to go on; `None` at the end and at
/// a broken pair.
fn pair(line: &[u8], from: usize) -> Option<(&[u8], &[u8], usize)> {
    let start = from + line.get(from..)?.iter().position(|b| *b > b' ')?;
    let rest = line.get(start..)?;
    let length = rest.iter().position(|b| *b <= b' ' || *b == b'=' || *b == b'"').unwrap_or(rest.len());
    let (key, rest) = rest.split_at(length);
    match rest {
        [b'=', ..] if key.is_empty() => None,
        [b'"', ..] => None,
        [b'=', b'"', quoted @ ..] => {
            let length = quoted_length(quoted)?;
            Some((key, quoted.get(..length)?, start + key.len() + 2 + length + 1))
        }
        [b'=', value @ ..] => {
            let length =
                value.iter().position(|b| *b <= b' ' || *b == b'=' || *b == b'"').unwrap_or(value.len());
            if matches!(value.get(length), Some(b'=' | b'"')) {
                return None;
            }
            Some((key, value.get(..length)?, start + key.len() + 1 + length))
        }
        _ => Some((key, &[], start + key.len())),
    }
}

/// Bytes up to the quote that ends a text; `None` where none does.
fn quoted_length(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let stop = at + memchr::memchr2(b'"', b'\\', text.get(at..)?)?;
        if text.get(stop) == Some(&b'"') {
            return Some(stop);
        }
        at = stop + 2;
    }
}
