use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

/// A request, as a server made for a test meets it.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// As it came, with the query.
    pub(crate) target: String,
    pub(crate) path: String,
    pub(crate) query: BTreeMap<String, String>,
    /// By name in small letters.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    /// `None` when the client has gone.
    pub(crate) fn read(stream: &TcpStream) -> Option<Self> {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let mut words = line.split_whitespace();
        let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let length = headers.get("content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let pair = |text: &str| {
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            (unescape(name), unescape(value))
        };
        let query = query.split('&').filter(|text| !text.is_empty()).map(pair).collect();
        let path = unescape(path);
        Some(Self { method, path, query, headers, body, target })
    }

    pub(crate) fn answer(
        &self,
        mut stream: &TcpStream,
        status: u16,
        headers: &[(&str, String)],
        body: &[u8],
    ) -> Option<()> {
        let mut head = format!("HTTP/1.1 {status} X\r\n");
        if !headers.iter().any(|(name, _)| *name == "Content-Length") {
            let _ = write!(head, "Content-Length: {}\r\n", body.len());
        }
        for (name, value) in headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        head.push_str("\r\n");
        let mut all = head.into_bytes();
        if self.method != "HEAD" {
            all.extend(body);
        }
        // At once: what is written bit by bit waits for the client's acknowledgements.
        stream.write_all(&all).ok()
    }
}

fn unescape(text: &str) -> String {
    let (mut out, bytes) = (Vec::new(), text.as_bytes());
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'%' => {
                out.push(u8::from_str_radix(&text[at + 1..at + 3], 16).unwrap());
                at += 3;
            }
            byte => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(out).unwrap()
}
