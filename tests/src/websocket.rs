use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// The client's side of a WebSocket that only listens: enough to follow logs.
#[derive(Debug)]
pub struct WebSocket {
    stream: TcpStream,
}

/// What came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    Text(String),
    /// The code and the reason.
    Close(u16, String),
    Other,
}

impl WebSocket {
    /// Panics unless the server agrees.
    pub fn connect(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let also: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{also}\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            answer.extend(byte);
        }
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        // The answer to the key above, from RFC 6455.
        assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
        Self { stream }
    }

    fn exactly(&mut self, n: usize) -> Vec<u8> {
        let mut bytes = vec![0; n];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// The next frame; servers neither mask nor, here, split their messages.
    pub fn read_frame(&mut self) -> Frame {
        let head = self.exactly(2);
        let length = match head[1] & 0x7f {
            126 => self.exactly(2).iter().fold(0, |n, b| n << 8 | usize::from(*b)),
            127 => self.exactly(8).iter().fold(0, |n, b| n << 8 | usize::from(*b)),
            short => usize::from(short),
        };
        let payload = self.exactly(length);
        match head[0] & 0x0f {
            1 => Frame::Text(String::from_utf8(payload).unwrap()),
            8 => {
                let code = payload.iter().take(2).fold(0, |n, b| n << 8 | u16::from(*b));
                Frame::Close(code, String::from_utf8_lossy(payload.get(2..).unwrap_or_default()).into_owned())
            }
            _ => Frame::Other,
        }
    }

    /// The next text, pings left out.
    pub fn next_text(&mut self) -> String {
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            match self.read_frame() {
                Frame::Text(text) => return text,
                Frame::Close(code, reason) => panic!("closed: {code} {reason}"),
                Frame::Other => {}
            }
        }
        panic!("no text in time");
    }
}
