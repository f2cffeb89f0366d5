use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::asked::Asked;
use crate::request;

/// A status, and the body that it was answered to.
type Seen = (u16, Vec<u8>);

/// Stands in front of a server and lets a request through only when its own answers are used up.
#[derive(Debug)]
pub struct Flaky {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Flaky {
    /// Answers these statuses first, each with `Retry-After: 1`.
    pub fn start(target: SocketAddr, statuses: &[u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (told, mut statuses) = (Arc::clone(&seen), statuses.to_vec());
        statuses.reverse();
        // Ends with the test program; each answer closes its connection.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if let Some(pair) = pass(&stream, target, statuses.pop()) {
                    told.lock().unwrap().push(pair);
                }
            }
        });
        Self { address, seen }
    }

    /// What was answered to which bodies, in order.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

fn pass(stream: &TcpStream, target: SocketAddr, status: Option<u16>) -> Option<Seen> {
    let asked = Asked::read(stream)?;
    let close = ("Connection", "close".to_owned());
    if let Some(status) = status {
        asked.answer(stream, status, &[("Retry-After", "1".to_owned()), close], b"not now")?;
        return Some((status, asked.body));
    }
    let dropped = ["host", "content-length", "connection"];
    let headers: Vec<(&str, &str)> = asked
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .filter(|(name, _)| !dropped.contains(name))
        .collect();
    let answer = request(target, &asked.method, &asked.target, &headers, &asked.body).ok()?;
    let kind = answer.header("content-type").unwrap_or("text/plain").to_owned();
    asked.answer(stream, answer.status, &[("Content-Type", kind), close], &answer.body)?;
    Some((answer.status, asked.body))
}
