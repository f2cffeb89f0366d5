//! A level among the keys of a JSON line.
//!
//! As Loki's: keys in document order, values of other types are stepped over, objects entered to
//! a depth, and what is found in front of broken JSON counts.

use pilothouse_model::limits::LOG_LEVEL_DEPTH;

use super::FieldNames;

/// Why the search ended.
enum Stop<'l> {
    Found(&'l [u8]),
    Broken,
}

/// The text, escapes and all, of the first string whose key is a name of the list. Depth 0 is
/// no limit.
pub(super) fn find<'l>(line: &'l [u8], fields: &FieldNames, depth: u32) -> Option<&'l [u8]> {
    let depth = if depth == 0 { LOG_LEVEL_DEPTH } else { depth.min(LOG_LEVEL_DEPTH) };
    match object(line, blanks(line, 0), fields, depth) {
        Err(Stop::Found(value)) => Some(value),
        Err(Stop::Broken) | Ok(_) => None,
    }
}

fn blanks(line: &[u8], from: usize) -> usize {
    let rest = line.get(from..).unwrap_or(&[]);
    let blank = |b: &u8| matches!(b, b' ' | b'\n' | b'\r' | b'\t');
    from + rest.iter().position(|b| !blank(b)).unwrap_or(rest.len())
}

/// Walks the object that begins here to the place behind it.
fn object<'l>(line: &'l [u8], start: usize, fields: &FieldNames, depth: u32) -> Result<usize, Stop<'l>> {
    if line.get(start) != Some(&b'{') {
        return Err(Stop::Broken);
    }
    let mut at = blanks(line, start + 1);
    loop {
        match line.get(at) {
            Some(b'}') => return Ok(at + 1),
            Some(b'"') => {}
            _ => return Err(Stop::Broken),
        }
        let (key, after) = string(line, at)?;
        at = blanks(line, after);
        if line.get(at) != Some(&b':') {
            return Err(Stop::Broken);
        }
        at = blanks(line, at + 1);
        at = blanks(line, value(line, at, key, fields, depth)?);
        match line.get(at) {
            Some(b',') => at = blanks(line, at + 1),
            Some(b'}') => return Ok(at + 1),
            _ => return Err(Stop::Broken),
        }
    }
}

fn value<'l>(
    line: &'l [u8],
    at: usize,
    key: &[u8],
    fields: &FieldNames,
    depth: u32,
) -> Result<usize, Stop<'l>> {
    match line.get(at) {
        Some(b'"') => {
            let (text, after) = string(line, at)?;
            if fields.holds(key) { Err(Stop::Found(text)) } else { Ok(after) }
        }
        Some(b'{') if depth > 1 => object(line, at, fields, depth - 1),
        Some(open @ (b'{' | b'[')) => block_end(line, at, *open, open + 2),
        Some(_) => scalar_end(line, at),
        None => Err(Stop::Broken),
    }
}

/// The inside of the string that begins here, and the place behind it.
#[inline]
fn string(line: &[u8], start: usize) -> Result<(&[u8], usize), Stop<'static>> {
    let mut at = start + 1;
    loop {
        let rest = line.get(at..).ok_or(Stop::Broken)?;
        let stop = at + memchr::memchr2(b'"', b'\\', rest).ok_or(Stop::Broken)?;
        if line.get(stop) == Some(&b'"') {
            return Ok((line.get(start + 1..stop).unwrap_or(&[]), stop + 1));
        }
        at = stop + 2;
    }
}

/// The place behind the bracket that closes the one here; other brackets are not looked at.
fn block_end(line: &[u8], start: usize, open: u8, close: u8) -> Result<usize, Stop<'static>> {
    let (mut at, mut depth) = (start, 0u32);
    loop {
        let rest = line.get(at..).ok_or(Stop::Broken)?;
        let stop = at + memchr::memchr3(b'"', open, close, rest).ok_or(Stop::Broken)?;
        at = match line.get(stop) {
            Some(b'"') => string(line, stop)?.1,
            Some(b) if *b == open => {
                depth += 1;
                stop + 1
            }
            _ => {
                depth -= 1;
                if depth == 0 {
                    return Ok(stop + 1);
                }
                stop + 1
            }
        };
    }
}

/// The place behind a number or a literal.
fn scalar_end(line: &[u8], at: usize) -> Result<usize, Stop<'static>> {
    let rest = line.get(at..).unwrap_or(&[]);
    let ends = |b: &u8| matches!(b, b' ' | b'\n' | b'\r' | b'\t' | b',' | b'}' | b']');
    let length = rest.iter().position(ends).ok_or(Stop::Broken)?;
    match rest.get(..length).unwrap_or(&[]) {
        b"true" | b"false" | b"null" | [b'-' | b'0'..=b'9', ..] => Ok(at + length),
        _ => Err(Stop::Broken),
    }
}
