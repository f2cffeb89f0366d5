//! The body of an answer without its coding, within a bound.

use std::borrow::Cow;
use std::io::Read;

use bytes::Bytes;
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::{HeaderMap, header};
use pilothouse_model::NoMemory;
use pilothouse_model::memory::Reservation;

use super::HttpError;

/// How much comes out before it is booked.
const PIECE_BYTES: u64 = 256 << 10;

/// Decodes by the header of the answer; `wanted` is false where no coding was asked for, and
/// then the body stays as it came.
pub(super) fn decoded(
    body: &Bytes,
    headers: &HeaderMap,
    wanted: bool,
    most: u64,
    held: &mut Reservation,
) -> Result<Bytes, HttpError> {
    let coding = headers.get(header::CONTENT_ENCODING).and_then(|v| v.to_str().ok()).unwrap_or("");
    if !wanted || body.is_empty() {
        return Ok(body.clone());
    }
    match coding.trim().to_ascii_lowercase().as_str() {
        "" | "identity" => Ok(body.clone()),
        "gzip" | "x-gzip" => read(MultiGzDecoder::new(body.as_ref()), most, held),
        // Servers differ in whether they mean the bare stream or zlib's.
        "deflate" => match read(ZlibDecoder::new(body.as_ref()), most, held) {
            Err(HttpError::Coding(_)) => read(DeflateDecoder::new(body.as_ref()), most, held),
            read => read,
        },
        "br" => read(brotli_decompressor::Decompressor::new(body.as_ref(), 4_096), most, held),
        other => Err(HttpError::Coding(format!("content encoding {other:?} was not asked for"))),
    }
}

/// A body as text. What is no UTF-8 is replaced, and that makes a copy.
pub(in crate::probe) fn text<'b>(body: &'b [u8], held: &mut Reservation) -> Result<Cow<'b, str>, NoMemory> {
    if let Ok(text) = std::str::from_utf8(body) {
        return Ok(Cow::Borrowed(text));
    }
    held.grow(body.len() as u64 * char::REPLACEMENT_CHARACTER.len_utf8() as u64)?;
    Ok(String::from_utf8_lossy(body))
}

fn read(decoder: impl Read, most: u64, held: &mut Reservation) -> Result<Bytes, HttpError> {
    let mut out = Vec::new();
    let mut decoder = decoder.take(most.saturating_add(1));
    loop {
        let read = decoder.by_ref().take(PIECE_BYTES).read_to_end(&mut out);
        match read.map_err(|e| HttpError::Coding(e.to_string()))? {
            0 if out.len() as u64 > most => return Err(HttpError::BodyTooLong(most)),
            0 => return Ok(Bytes::from(out)),
            read => held.grow(read as u64)?,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use http::HeaderValue;

    use super::*;

    fn check(coding: &'static str, body: Vec<u8>, most: u64, expected: Result<&[u8], ()>) {
        let headers = HeaderMap::from_iter([(header::CONTENT_ENCODING, HeaderValue::from_static(coding))]);
        let mut held = Reservation::nothing(&Default::default());
        let got = decoded(&Bytes::from(body), &headers, true, most, &mut held);
        assert_eq!(got.as_deref().map_err(|_| ()), expected, "{coding}");
    }

    #[test]
    fn codings_are_undone_within_the_bound() {
        let text = vec![b'a'; 1_000];
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        let mut deflate = DeflateEncoder::new(Vec::new(), Compression::fast());
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&text).unwrap();
        deflate.write_all(&text).unwrap();
        zlib.write_all(&text).unwrap();
        let gzip = gzip.finish().unwrap();
        check("gzip", gzip.clone(), 1_000, Ok(&text));
        check("gzip", gzip, 999, Err(()));
        check("deflate", deflate.finish().unwrap(), 1_000, Ok(&text));
        check("deflate", zlib.finish().unwrap(), 1_000, Ok(&text));
        check("identity", text.clone(), 1, Ok(&text));
        check("zip", text, 1_000, Err(()));
    }
}
