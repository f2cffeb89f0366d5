use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Who notifications are sent to: answers 200 and remembers the bodies.
#[derive(Debug)]
pub struct Receiver {
    pub address: SocketAddr,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Receiver {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&heard);
        // Ends with the test program; each request comes on a connection of its own.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if let Some(body) = take(&stream) {
                    told.lock().unwrap().push(body);
                }
            }
        });
        Self { address, heard }
    }

    /// How many bodies came so far.
    pub fn count(&self) -> usize {
        self.heard.lock().unwrap().len()
    }

    /// All bodies so far.
    pub fn heard(&self) -> Vec<Value> {
        let bodies = self.heard.lock().unwrap();
        bodies.iter().map(|body| serde_json::from_slice(body).unwrap_or(Value::Null)).collect()
    }

    /// Waits until so many bodies came, and gives them.
    pub fn wait_for(&self, count: usize, longest: Duration) -> Vec<Value> {
        let deadline = Instant::now() + longest;
        while self.count() < count {
            assert!(Instant::now() < deadline, "{count} notifications in {longest:?}: {:?}", self.heard());
            std::thread::sleep(Duration::from_millis(20));
        }
        self.heard()
    }
}

fn take(stream: &TcpStream) -> Option<Vec<u8>> {
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            if line.trim_end().is_empty() {
                break;
            }
            continue;
        };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let mut stream = stream;
    stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").ok()?;
    Some(body)
}
