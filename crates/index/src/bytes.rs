//! Front-coded texts and the envelope of a page.

use std::cell::RefCell;

pub(crate) use pilothouse_model::bytes::{Reader, push_signed, push_slice, push_varint};
use zstd::bulk::{Compressor, Decompressor};

use crate::Error;

/// The largest page before compression; a page that says more is refused.
pub(crate) const MAX_PAGE_BYTES: usize = 16 << 20;

const RAW: u8 = 0;
const ZSTD: u8 = 1;
const LEVEL: i32 = 3;

/// Adds a text as what it shares with the one before it, and the rest.
pub(crate) fn push_front_coded(out: &mut Vec<u8>, before: &str, text: &str) {
    let shared = before.bytes().zip(text.bytes()).take_while(|(a, b)| a == b).count();
    push_varint(out, shared as u64);
    push_slice(out, text.as_bytes().get(shared..).unwrap_or(&[]));
}

/// Replaces `text`, the one before, by the next front-coded text.
pub(crate) fn front_coded(from: &mut Reader<'_>, text: &mut Vec<u8>) -> Result<(), Error> {
    let shared = usize::try_from(from.varint()?).map_err(|_| Error::Malformed("text"))?;
    let rest = from.slice()?;
    if shared > text.len() || shared + rest.len() > MAX_PAGE_BYTES {
        return Err(Error::Malformed("text"));
    }
    text.truncate(shared);
    text.extend_from_slice(rest);
    Ok(())
}

/// Puts a page in its envelope: compressed where that makes it smaller.
pub(crate) fn seal(page: &[u8]) -> Vec<u8> {
    thread_local! {
        static COMPRESSOR: RefCell<Option<Compressor<'static>>> = RefCell::new(Compressor::new(LEVEL).ok());
    }
    let compressed = COMPRESSOR.with_borrow_mut(|c| c.as_mut()?.compress(page).ok());
    let mut out = Vec::with_capacity(page.len() + 8);
    match compressed {
        Some(compressed) if compressed.len() + 4 < page.len() => {
            out.push(ZSTD);
            push_varint(&mut out, page.len() as u64);
            out.extend_from_slice(&compressed);
        }
        _ => {
            out.push(RAW);
            out.extend_from_slice(page);
        }
    }
    out
}

/// Takes a page out of its envelope.
pub(crate) fn unseal(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let (form, rest) = bytes.split_first().ok_or(Error::Malformed("end"))?;
    match *form {
        RAW => Ok(rest.to_vec()),
        ZSTD => decompress(rest),
        _ => Err(Error::Malformed("page form")),
    }
}

fn decompress(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    thread_local! {
        static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = RefCell::new(Decompressor::new().ok());
    }
    let mut reader = Reader(bytes);
    let len = usize::try_from(reader.varint()?).unwrap_or(usize::MAX);
    if len > MAX_PAGE_BYTES {
        return Err(Error::Malformed("page size"));
    }
    let page = DECOMPRESSOR.with_borrow_mut(|d| d.as_mut()?.decompress(reader.0, len).ok());
    page.filter(|page| page.len() == len).ok_or(Error::Malformed("compressed page"))
}
