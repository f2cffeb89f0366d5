//! The bytes of records and marks.
//!
//! Both start with a crc32c and a length, four bytes each, little endian. The checksum goes over
//! the position, the length word and the payload, so that bytes are valid at one place only:
//! neither zeros nor what a file system brings back from another file can pass.
//!
//! A mark has the top bit of its length word set and a payload of 16 bytes: a fixed text to find
//! it by, and the position before which everything was synced when the mark was made.

use pilothouse_model::limits::WAL_RECORD_BYTES;

use super::Position;

/// Bytes before a payload.
pub(super) const HEAD: usize = 8;

const MARK_BIT: u32 = 1 << 31;
const MARK_TEXT: [u8; 8] = *b"\xF5phwalM\xFA";
const MARK_PAYLOAD: usize = 16;

/// What stands at a position.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry<'a> {
    Record(&'a [u8]),
    Mark { synced: Position },
}

/// Why nothing valid stands at a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Invalid {
    /// The bytes end too early.
    Short,
    Length,
    Checksum,
}

pub(super) fn push_record(out: &mut Vec<u8>, position: Position, payload: &[u8]) {
    push(out, position, payload.len() as u32, payload);
}

pub(super) fn push_mark(out: &mut Vec<u8>, position: Position, synced: Position) {
    let mut payload = [0; MARK_PAYLOAD];
    payload[..8].copy_from_slice(&MARK_TEXT);
    payload[8..].copy_from_slice(&synced.0.to_le_bytes());
    push(out, position, MARK_PAYLOAD as u32 | MARK_BIT, &payload);
}

fn push(out: &mut Vec<u8>, position: Position, length: u32, payload: &[u8]) {
    out.extend_from_slice(&checksum(position, length, payload).to_le_bytes());
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(payload);
}

fn checksum(position: Position, length: u32, payload: &[u8]) -> u32 {
    let mut head = [0; 12];
    head[..8].copy_from_slice(&position.0.to_le_bytes());
    head[8..].copy_from_slice(&length.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&head), payload)
}

/// Bytes that an entry with this payload takes.
pub(super) fn size(payload: usize) -> usize {
    HEAD + payload
}

/// Reads the entry at the start of `bytes`, which lie at `position`; gives it with its size.
pub(super) fn read(bytes: &[u8], position: Position) -> Result<(Entry<'_>, usize), Invalid> {
    let (stored, length) = head(bytes).ok_or(Invalid::Short)?;
    let payload_bytes = (length & !MARK_BIT) as usize;
    let is_mark = length & MARK_BIT != 0;
    if payload_bytes > WAL_RECORD_BYTES || (is_mark && payload_bytes != MARK_PAYLOAD) {
        return Err(Invalid::Length);
    }
    let size = size(payload_bytes);
    let payload = bytes.get(HEAD..size).ok_or(Invalid::Short)?;
    if checksum(position, length, payload) != stored {
        return Err(Invalid::Checksum);
    }
    let entry = if is_mark { mark(payload).ok_or(Invalid::Length)? } else { Entry::Record(payload) };
    Ok((entry, size))
}

/// How many bytes from the start of an entry on must be there to read it.
pub(super) fn needed(bytes: &[u8]) -> usize {
    head(bytes).map_or(HEAD, |(_, length)| match (length & !MARK_BIT) as usize {
        payload_bytes if payload_bytes > WAL_RECORD_BYTES => HEAD,
        payload_bytes => size(payload_bytes),
    })
}

fn head(bytes: &[u8]) -> Option<(u32, u32)> {
    let (checksum, rest) = bytes.split_first_chunk()?;
    let (length, _) = rest.split_first_chunk()?;
    Some((u32::from_le_bytes(*checksum), u32::from_le_bytes(*length)))
}

fn mark(payload: &[u8]) -> Option<Entry<'static>> {
    let (text, rest) = payload.split_first_chunk::<8>()?;
    let (synced, _) = rest.split_first_chunk()?;
    (*text == MARK_TEXT).then(|| Entry::Mark { synced: Position(u64::from_le_bytes(*synced)) })
}

/// The offset behind an entry at the start of `bytes` whose checksum is wrong, if its length
/// word can still be believed.
pub(super) fn offset_behind(bytes: &[u8]) -> Option<usize> {
    let (_, length) = head(bytes)?;
    let payload_bytes = (length & !MARK_BIT) as usize;
    (payload_bytes <= WAL_RECORD_BYTES && size(payload_bytes) <= bytes.len()).then(|| size(payload_bytes))
}

/// The valid marks in `bytes`, which lie at `position`, wherever they stand: offset, and what
/// was synced.
pub(super) fn marks(bytes: &[u8], position: Position) -> impl Iterator<Item = (usize, Position)> {
    let mut from = 0;
    std::iter::from_fn(move || {
        loop {
            let found = from + find(bytes.get(from..)?, &MARK_TEXT)?;
            from = found + 1;
            let Some(offset) = found.checked_sub(HEAD) else { continue };
            let at = Position(position.0 + offset as u64);
            if let Ok((Entry::Mark { synced }, _)) = read(bytes.get(offset..)?, at) {
                return Some((offset, synced));
            }
        }
    })
}

fn find(bytes: &[u8], text: &[u8; 8]) -> Option<usize> {
    bytes.windows(text.len()).position(|window| window == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_valid_at_its_own_position_only() {
        let mut bytes = Vec::new();
        push_record(&mut bytes, Position(40), b"payload");
        assert_eq!(read(&bytes, Position(40)), Ok((Entry::Record(b"payload"), HEAD + 7)));
        assert_eq!(read(&bytes, Position(41)), Err(Invalid::Checksum));
        assert_eq!(read(&bytes[..10], Position(40)), Err(Invalid::Short));
        assert_eq!(read(&bytes[..3], Position(40)), Err(Invalid::Short));
        assert_eq!(read(&[0; 64], Position(0)), Err(Invalid::Checksum));
        assert_eq!(read(&[0xff; 64], Position(0)), Err(Invalid::Length));
    }

    #[test]
    fn marks_are_found_where_they_were_put_and_not_where_they_were_copied() {
        let mut bytes = vec![7; 13];
        push_mark(&mut bytes, Position(113), Position(99));
        let copy = bytes[13..].to_vec();
        push_record(&mut bytes, Position(137), &copy);
        assert_eq!(marks(&bytes, Position(100)).collect::<Vec<_>>(), [(13, Position(99))]);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_refused_or_read(bytes in proptest::collection::vec(0u8.., 0..80), position: u64) {
            let _ = read(&bytes, Position(position));
            let _ = offset_behind(&bytes);
            proptest::prop_assert_eq!(marks(&bytes, Position(position >> 1)).count(), 0);
        }
    }
}
