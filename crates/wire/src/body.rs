//! Compressed bodies. The decoded size is bounded before memory is taken for it.

use std::io::{self, Read, Write as _};

use pilothouse_model::NoMemory;
use pilothouse_model::memory::Reservation;

/// How a body is compressed, as its `Content-Encoding` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Identity,
    /// The block format, not the framed one; as remote write and remote read use it.
    Snappy,
    Gzip,
    /// zlib as the HTTP standard says, or raw deflate as some clients send.
    Deflate,
    Zstd,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error("unsupported compression: {0:?}; use snappy, gzip, deflate, zstd or none")]
    UnsupportedEncoding(String),
    #[error("the body is larger than {limit} bytes after decompression")]
    TooLarge { limit: u64 },
    #[error("cannot decompress the body as {encoding}: {why}")]
    Corrupt { encoding: Encoding, why: String },
    #[error(transparent)]
    NoMemory(#[from] NoMemory),
}

impl Encoding {
    /// From the value of a `Content-Encoding` header; the empty text is [`Encoding::Identity`].
    pub fn from_header(value: &str) -> Result<Self, BodyError> {
        Ok(match value.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Self::Identity,
            "snappy" => Self::Snappy,
            "gzip" | "x-gzip" => Self::Gzip,
            "deflate" => Self::Deflate,
            "zstd" => Self::Zstd,
            _ => return Err(BodyError::UnsupportedEncoding(value.to_owned())),
        })
    }
}

impl std::fmt::Display for Encoding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Identity => "identity",
            Self::Snappy => "snappy",
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Zstd => "zstd",
        })
    }
}

/// The body as it was before compression, of at most `max_bytes`.
pub fn decompress(encoding: Encoding, body: &[u8], max_bytes: u64) -> Result<Vec<u8>, BodyError> {
    let mut out = Vec::new();
    decompress_into(encoding, body, max_bytes, &mut out)?;
    Ok(out)
}

/// As [`decompress`], replacing the contents of a buffer that is used again and again. After an
/// error the buffer's contents are unspecified.
pub fn decompress_into(
    encoding: Encoding,
    body: &[u8],
    max_bytes: u64,
    out: &mut Vec<u8>,
) -> Result<(), BodyError> {
    Bounded { max_bytes, booked: &mut |_| Ok(()), out }.decompress(encoding, body)
}

/// As [`decompress`]; the memory of what comes out is taken from the account as it comes.
pub fn decompress_booked(
    encoding: Encoding,
    body: &[u8],
    max_bytes: u64,
    held: &mut Reservation,
) -> Result<Vec<u8>, BodyError> {
    let mut out = Vec::new();
    Bounded { max_bytes, booked: &mut |bytes| held.grow(bytes), out: &mut out }.decompress(encoding, body)?;
    Ok(out)
}

/// What a snappy block says that it holds; 0 where it says nothing.
pub fn snappy_bytes(body: &[u8]) -> u64 {
    snap::raw::decompress_len(body).unwrap_or(0) as u64
}

/// A snappy block, for answers.
pub fn snappy(body: &[u8]) -> Vec<u8> {
    // Fails only beyond 4 GiB, which no answer reaches; an empty block is then the honest minimum.
    snap::raw::Encoder::new().compress_vec(body).unwrap_or_default()
}

/// A gzip stream at a fast level, for answers.
pub fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder =
        flate2::write::GzEncoder::new(Vec::with_capacity(body.len() / 4), flate2::Compression::fast());
    // Writing into memory does not fail.
    let written = encoder.write_all(body);
    debug_assert!(written.is_ok());
    encoder.finish().unwrap_or_default()
}

/// How much comes out of a stream before it is booked.
const PIECE_BYTES: u64 = 256 << 10;

/// What a body becomes, up to a bound.
struct Bounded<'a> {
    max_bytes: u64,
    /// Told before or as soon as memory is taken.
    booked: &'a mut dyn FnMut(u64) -> Result<(), NoMemory>,
    out: &'a mut Vec<u8>,
}

impl Bounded<'_> {
    fn decompress(mut self, encoding: Encoding, body: &[u8]) -> Result<(), BodyError> {
        self.out.clear();
        match encoding {
            Encoding::Identity => {
                self.check(body.len() as u64)?;
                (self.booked)(body.len() as u64)?;
                self.out.extend_from_slice(body);
                Ok(())
            }
            Encoding::Snappy => self.snappy_block(body),
            Encoding::Gzip => self.stream(flate2::read::MultiGzDecoder::new(body), encoding),
            Encoding::Deflate if is_zlib(body) => self.stream(flate2::read::ZlibDecoder::new(body), encoding),
            Encoding::Deflate => self.stream(flate2::read::DeflateDecoder::new(body), encoding),
            Encoding::Zstd => self.zstd_frames(body),
        }
    }

    fn check(&self, bytes: u64) -> Result<(), BodyError> {
        if bytes > self.max_bytes { Err(BodyError::TooLarge { limit: self.max_bytes }) } else { Ok(()) }
    }

    fn snappy_block(&mut self, body: &[u8]) -> Result<(), BodyError> {
        let corrupt = |e: snap::Error| BodyError::Corrupt { encoding: Encoding::Snappy, why: e.to_string() };
        if body.is_empty() {
            return Err(corrupt(snap::Error::Empty));
        }
        let length = snap::raw::decompress_len(body).map_err(corrupt)?;
        self.check(length as u64)?;
        // The longest run that a snappy block can say is 64 bytes in 2 or more; a header that claims
        // more than that is a lie, and is not worth its memory.
        if length as u64 > body.len() as u64 * 64 {
            return Err(corrupt(snap::Error::HeaderMismatch { expected_len: length as u64, got_len: 0 }));
        }
        (self.booked)(length as u64)?;
        self.out.resize(length, 0);
        let written = snap::raw::Decoder::new().decompress(body, self.out).map_err(corrupt)?;
        self.out.truncate(written);
        Ok(())
    }

    fn zstd_frames(&mut self, body: &[u8]) -> Result<(), BodyError> {
        let corrupt = |e: io::Error| BodyError::Corrupt { encoding: Encoding::Zstd, why: e.to_string() };
        let mut decoder = zstd::stream::read::Decoder::with_buffer(body).map_err(corrupt)?;
        // The window is memory too: a frame may ask for one as large as the bound, but no larger.
        let window_log = (u64::BITS - self.max_bytes.max(1 << 10).leading_zeros()).clamp(10, 27);
        decoder.window_log_max(window_log).map_err(corrupt)?;
        self.stream(decoder, Encoding::Zstd)
    }

    fn stream(&mut self, from: impl Read, encoding: Encoding) -> Result<(), BodyError> {
        let mut from = from.take(self.max_bytes.saturating_add(1));
        loop {
            let read = from.by_ref().take(PIECE_BYTES).read_to_end(self.out);
            let read = read.map_err(|e| BodyError::Corrupt { encoding, why: e.to_string() })?;
            if read == 0 {
                return self.check(self.out.len() as u64);
            }
            (self.booked)(read as u64)?;
        }
    }
}

/// The first two bytes of a zlib stream: deflate with a window of at most 32 KiB, and a checksum
/// that makes the pair a multiple of 31.
fn is_zlib(body: &[u8]) -> bool {
    matches!(body, [first, second, ..]
        if first & 0x0f == 8 && first >> 4 <= 7 && (u32::from(*first) << 8 | u32::from(*second)) % 31 == 0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pilothouse_model::Memory;
    use pilothouse_model::memory::Part;

    use super::*;

    fn compressed(encoding: Encoding, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match encoding {
            Encoding::Identity => out.extend_from_slice(body),
            Encoding::Snappy => out = snappy(body),
            Encoding::Gzip => out = gzip(body),
            Encoding::Deflate => {
                let mut encoder = flate2::write::ZlibEncoder::new(&mut out, flate2::Compression::default());
                encoder.write_all(body).unwrap();
            }
            Encoding::Zstd => out = zstd::bulk::compress(body, 3).unwrap(),
        }
        out
    }

    const ALL: [Encoding; 5] =
        [Encoding::Identity, Encoding::Snappy, Encoding::Gzip, Encoding::Deflate, Encoding::Zstd];

    #[test]
    fn each_encoding_goes_both_ways_and_is_bounded() {
        let body: Vec<u8> = (0..100_000u32).map(|i| (i / 7 % 251) as u8).collect();
        for encoding in ALL {
            let small = compressed(encoding, &body);
            assert_eq!(decompress(encoding, &small, 100_000).as_deref(), Ok(body.as_slice()), "{encoding}");
            assert_eq!(decompress(encoding, &small, 99_999), Err(BodyError::TooLarge { limit: 99_999 }));
            assert_eq!(Encoding::from_header(&encoding.to_string()), Ok(encoding));
        }
        let mut raw = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
        raw.write_all(&body).unwrap();
        assert_eq!(decompress(Encoding::Deflate, &raw.finish().unwrap(), 100_000), Ok(body));
    }

    #[test]
    fn what_comes_out_is_booked_while_it_comes() {
        let body = vec![7; 3 << 20];
        for encoding in ALL {
            let small = compressed(encoding, &body);
            let memory = Arc::new(Memory::limited(8 << 20));
            let mut held = Reservation::nothing(&memory);
            let out = decompress_booked(encoding, &small, 4 << 20, &mut held);
            assert_eq!(out.as_ref(), Ok(&body), "{encoding}");
            assert_eq!(memory.held_bytes(Part::Requests), 3 << 20, "{encoding}");
            let memory = Arc::new(Memory::limited(2 << 20));
            let mut held = Reservation::nothing(&memory);
            let out = decompress_booked(encoding, &small, 4 << 20, &mut held);
            assert!(matches!(out, Err(BodyError::NoMemory(_))), "{encoding}");
        }
    }

    #[test]
    fn broken_bodies_are_told_apart_from_large_ones() {
        for encoding in [Encoding::Snappy, Encoding::Gzip, Encoding::Deflate, Encoding::Zstd] {
            let mut cut =
                compressed(encoding, b"a body that is long enough to be cut in two halves, twice over");
            cut.truncate(cut.len() - 5);
            for body in [&cut[..], b"\xff\xfe nonsense nonsense"] {
                assert!(
                    matches!(decompress(encoding, body, 1 << 20), Err(BodyError::Corrupt { .. })),
                    "{encoding}"
                );
            }
        }
        assert!(matches!(decompress(Encoding::Snappy, b"", 10), Err(BodyError::Corrupt { .. })));
        assert_eq!(decompress(Encoding::Snappy, b"\x00", 10), Ok(Vec::new()));
        assert_eq!(Encoding::from_header(""), Ok(Encoding::Identity));
        assert!(Encoding::from_header("br").is_err());
    }

    #[test]
    fn a_snappy_header_that_claims_too_much_takes_no_memory() {
        let claims_a_gibibyte = b"\x80\x80\x80\x80\x04\x00a";
        let mut out = Vec::new();
        assert!(matches!(
            decompress_into(Encoding::Snappy, claims_a_gibibyte, u64::MAX, &mut out),
            Err(BodyError::Corrupt { .. })
        ));
        assert_eq!(out.capacity(), 0);
    }
}
