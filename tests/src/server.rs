use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http::{Answer, request};
use crate::{Series, WebSocket, binary, push_body};

/// A running server; killed when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    pub address: SocketAddr,
}

impl Server {
    /// Starts on a free port and waits until it is ready.
    pub fn start(data_dir: &Path, flags: &[&str]) -> Self {
        Self::start_at(free_address(), data_dir, flags)
    }

    /// The same where others look for it.
    pub fn start_at(address: SocketAddr, data_dir: &Path, flags: &[&str]) -> Self {
        Self::spawn(Command::new(binary()), address, data_dir, flags)
    }

    /// The same with variables of the environment.
    pub fn start_with(data_dir: &Path, flags: &[&str], variables: &[(&str, String)]) -> Self {
        let mut command = Command::new(binary());
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        Self::spawn(command, free_address(), data_dir, flags)
    }

    fn spawn(mut command: Command, address: SocketAddr, data_dir: &Path, flags: &[&str]) -> Self {
        let child = command
            .args(["serve", "--listen", &address.to_string(), "--data-dir"])
            .arg(data_dir)
            .args(flags)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = Self { child, address };
        server.wait_until_ready();
        server
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the server ended at its start: {status}");
            }
            if self.try_get("/ready").is_ok_and(|answer| answer.status == 200) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the server was not ready in time");
    }

    /// Of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// `Err` when nobody answers.
    pub fn try_get(&self, path: &str) -> std::io::Result<Answer> {
        self.try_send("GET", path, &[], b"")
    }

    pub fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> std::io::Result<Answer> {
        request(self.address, method, path, headers, body)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.try_get(path).unwrap()
    }

    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        request(self.address, method, path, headers, body).unwrap()
    }

    /// Remote write 1.0.
    pub fn push(&self, series: &[Series]) -> Answer {
        let headers = [("Content-Type", "application/x-protobuf"), ("Content-Encoding", "snappy")];
        self.send("POST", "/api/v1/push", &headers, &push_body(series))
    }

    /// Loki's JSON; each entry is a time in nanoseconds and a line.
    pub fn push_logs(&self, labels: &Value, entries: &[(i64, String)]) -> Answer {
        let values: Vec<Value> = entries.iter().map(|(t_ns, line)| json!([t_ns.to_string(), line])).collect();
        let body = json!({ "streams": [{ "stream": labels, "values": values }] }).to_string();
        self.send("POST", "/loki/api/v1/push", &[("Content-Type", "application/json")], body.as_bytes())
    }

    /// The `result` of a log query over the hour up to now; `also` goes on with the parameters.
    pub fn query_logs(&self, query: &str, also: &str) -> Value {
        let answer = self.get(&format!("/loki/api/v1/query_range?query={}{also}", escape(query)));
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
        answer.json()["data"]["result"].clone()
    }

    /// How many entries of the last hour pass a log query.
    pub fn count_logs(&self, query: &str) -> u64 {
        let query = format!("sum(count_over_time({query}[1h]))");
        let answer = self.get(&format!("/loki/api/v1/query?query={}", escape(&query)));
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
        let count = answer.json()["data"]["result"][0]["value"][1].as_str().unwrap_or("0").to_owned();
        count.parse().unwrap()
    }

    /// Follows what passes a log query.
    pub fn follow_logs(&self, query: &str) -> WebSocket {
        self.follow_logs_below("", query, &[])
    }

    /// The same below a root, with headers of one's own.
    pub fn follow_logs_below(&self, root: &str, query: &str, headers: &[(&str, &str)]) -> WebSocket {
        let path = format!("{root}/loki/api/v1/tail?query={}", escape(query));
        WebSocket::connect(self.address, &path, headers)
    }

    /// The `result` of an instant query.
    pub fn query(&self, query: &str, time_s: i64) -> Value {
        let answer = self.get(&format!("/prometheus/api/v1/query?query={}&time={time_s}", escape(query)));
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
        answer.json()["data"]["result"].clone()
    }

    /// SIGTERM, and the status that the server ends with.
    pub fn stop(mut self) -> ExitStatus {
        let status = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the server did not end after SIGTERM");
    }

    /// SIGKILL: nothing is flushed.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where nobody listens yet.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Percent-encoded, for a path or a query.
pub fn escape(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}
