//! Request lines as people write them by hand.
//!
//! `curl -g '…/query?query=up{job="x"}'` puts quotes into a request line where they belong in percent
//! encoding only, and so does a program in Go that joins its address from pieces. Go's servers take
//! that, and with them every system that Pilothouse takes the place of; hyper answers 400 without a
//! word. So such bytes are encoded before hyper sees them.
//!
//! That is done only where a request begins for sure: at the first byte of a connection, and behind
//! a head that announces no body. From any other byte on the connection goes through untouched, since
//! a byte more within a body would move the place where the next request begins. HTTP/2 and web
//! sockets go through so too: no frame of theirs begins with a capital letter.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Longest name of a field that is looked for.
const NAME_BYTES: usize = "transfer-encoding".len();

/// A connection whose request lines are encoded as they are read.
#[derive(Debug)]
pub(crate) struct RequestLines<S> {
    inner: S,
    place: Place,
    /// Read and encoded, and too long for the buffer that was given: at most three times that.
    waiting: Vec<u8>,
}

/// Where the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    Begin,
    Line,
    Fields(Field),
    Untouched,
}

/// What of a line of the head has been read, in small letters, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Field {
    start: [u8; NAME_BYTES],
    length: usize,
    has_name: bool,
    has_body: bool,
}

impl Field {
    fn next(mut self, byte: u8) -> Place {
        match byte {
            b'\r' => {}
            b'\n' if self.length == 0 && self.has_body => return Place::Untouched,
            b'\n' if self.length == 0 => return Place::Begin,
            b'\n' => self = Self { has_body: self.has_body, ..Self::default() },
            b':' if !self.has_name => {
                let name = self.start.get(..self.length).unwrap_or_default();
                self.has_body |= name == b"content-length" || name == b"transfer-encoding";
                self.has_name = true;
            }
            byte => {
                if let Some(place) = self.start.get_mut(self.length) {
                    *place = byte.to_ascii_lowercase();
                }
                self.length += 1;
            }
        }
        Place::Fields(self)
    }
}

impl Place {
    fn next(self, byte: u8) -> Self {
        match (self, byte) {
            // hyper leaves out empty lines before a request.
            (Self::Begin, b'\r' | b'\n') => Self::Begin,
            (Self::Begin, b'A'..=b'Z') => Self::Line,
            (Self::Line, b'\n') => Self::Fields(Field::default()),
            (Self::Line, _) => Self::Line,
            (Self::Fields(field), byte) => field.next(byte),
            (Self::Begin | Self::Untouched, _) => Self::Untouched,
        }
    }
}

/// What stands for a byte that Go takes in a request line, and hyper does not, or reads as the end
/// of the address.
fn encoded(byte: u8) -> Option<&'static [u8]> {
    match byte {
        b'"' => Some(b"%22"),
        b'#' => Some(b"%23"),
        b'<' => Some(b"%3C"),
        b'>' => Some(b"%3E"),
        b'`' => Some(b"%60"),
        _ => None,
    }
}

impl<S> RequestLines<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self { inner, place: Place::Begin, waiting: Vec::new() }
    }

    /// What is to be read in place of `read`; nothing where that is the same.
    fn replaced(&mut self, read: &[u8]) -> Option<Vec<u8>> {
        let mut out: Option<Vec<u8>> = None;
        for (i, byte) in read.iter().enumerate() {
            let is_line = self.place == Place::Line;
            self.place = self.place.next(*byte);
            match encoded(*byte).filter(|_| is_line) {
                Some(code) => out.get_or_insert_with(|| read[..i].to_vec()).extend_from_slice(code),
                None => out.iter_mut().for_each(|out| out.push(*byte)),
            }
        }
        out
    }

    fn give(&mut self, buf: &mut ReadBuf<'_>) {
        let rest = self.waiting.split_off(self.waiting.len().min(buf.remaining()));
        buf.put_slice(&self.waiting);
        self.waiting = rest;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for RequestLines<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.waiting.is_empty() {
            self.give(buf);
            return Poll::Ready(Ok(()));
        }
        if self.place == Place::Untouched {
            return Pin::new(&mut self.inner).poll_read(cx, buf);
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let read = buf.filled().get(before..).unwrap_or_default();
        if let Some(replaced) = self.replaced(read) {
            buf.set_filled(before);
            self.waiting = replaced;
            self.give(buf);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for RequestLines<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    /// However it is cut into reads, and however small the buffer is.
    async fn check(sent: &[u8], expected: &[u8]) {
        for cut in 0..sent.len() {
            for room in [1, 7, 4_096] {
                let (first, second) = sent.split_at(cut);
                let mut lines = RequestLines::new(first.chain(second));
                let mut seen = Vec::new();
                let mut piece = vec![0; room];
                loop {
                    let read = lines.read(&mut piece).await.unwrap();
                    seen.extend_from_slice(&piece[..read]);
                    if read == 0 {
                        break;
                    }
                }
                assert_eq!(
                    seen.escape_ascii().to_string(),
                    expected.escape_ascii().to_string(),
                    "{cut} {room}"
                );
            }
        }
    }

    #[tokio::test]
    async fn request_lines_are_encoded_and_nothing_else_is() {
        let get = br#"GET /q?query={a="<b>#`"} HTTP/1.1
Host: "x"

"#;
        let seen = br#"GET /q?query={a=%22%3Cb%3E%23%60%22} HTTP/1.1
Host: "x"

"#;
        check(get, seen).await;
        let crlf = b"\r\nGET /\" HTTP/1.1\r\nX-Content-Length: \"\r\nY: content-length:\r\n\r\n";
        check(crlf, b"\r\nGET /%22 HTTP/1.1\r\nX-Content-Length: \"\r\nY: content-length:\r\n\r\n").await;
        check(&[get, crlf.as_slice(), get].concat(), &[seen, crlf_seen(), seen].concat()).await;
        for body in ["Content-Length: 3", "TRANSFER-ENCODING: chunked", "A: b\r\ncontent-length:0"] {
            let post = format!("POST /\" HTTP/1.1\r\n{body}\r\n\r\n");
            let all = [post.as_bytes(), get].concat();
            check(&all, &[post.replace('"', "%22").as_bytes(), get].concat()).await;
        }
        check(b"GET /\"", b"GET /%22").await;
    }

    fn crlf_seen() -> &'static [u8] {
        b"\r\nGET /%22 HTTP/1.1\r\nX-Content-Length: \"\r\nY: content-length:\r\n\r\n"
    }

    #[tokio::test]
    async fn frames_go_through() {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x06\x04\0\0\0\0\0\0\x02\"\"\"\"GET /\"\n";
        check(preface, preface).await;
        let socket = b"GET /tail HTTP/1.1\r\nUpgrade: websocket\r\n\r\n\x81\x85GET /\"\"\n\x02A\"\n";
        check(socket, socket).await;
        check(b"\x16\x03\x01\"GET \"\n", b"\x16\x03\x01\"GET \"\n").await;
    }
}
