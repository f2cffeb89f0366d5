//! Calls to a running server, for the commands that ask one.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use pilothouse_model::limits::CLIENT_ANSWER_BYTES;
use pilothouse_net::options::TlsOptions;
use pilothouse_net::{BuildError, CallError, Client, ClientSettings, HttpOptions, Request, Secret};
use serde_json::Value;

/// Longer than the server works on any query by default.
const TIMEOUT: Duration = Duration::from_secs(300);

/// Which server, and what to show it.
#[derive(Debug, Clone, Args)]
pub(crate) struct Server {
    /// Address of the server
    #[arg(long = "server", value_name = "URL", env = "PILOTHOUSE_URL", help_heading = "Server")]
    #[arg(default_value = "http://127.0.0.1:9009", global = true)]
    url: String,
    /// Token, or file: and the path of a file that holds it
    #[arg(long, value_name = "TOKEN", env = "PILOTHOUSE_TOKEN", hide_env_values = true)]
    #[arg(help_heading = "Server", global = true)]
    token: Option<String>,
    /// Certificates that the server's may be signed by, in PEM, besides those of the system
    #[arg(long, value_name = "FILE", env = "PILOTHOUSE_CA_FILE", help_heading = "Server", global = true)]
    ca_file: Option<PathBuf>,
}

/// Why a command that asks a server failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    #[error("{url} was not reached: {cause}")]
    Unreachable { url: String, cause: CallError },
    /// What the server said, as it said it.
    #[error("the server answered {status}: {text}")]
    Refused { status: u16, text: String },
    /// What another server said, or the same one by another call.
    #[error("{host} answered {status}: {text}")]
    OtherRefused { host: String, status: u16, text: String },
    #[error("the server's answer cannot be read: {0}")]
    Answer(String),
    /// Named one by one before.
    #[error("{parts} parts could not be read; all others are carried")]
    Damaged { parts: u64 },
    #[error("{0}")]
    Usage(String),
    #[error("cannot make a client: {0}")]
    Client(#[from] BuildError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl Server {
    /// Without a slash at its end.
    pub(crate) fn url(&self) -> &str {
        self.url.trim_end_matches('/')
    }

    /// Empty where none is given.
    pub(crate) fn token(&self) -> Result<Secret, CommandError> {
        let Some(token) = &self.token else { return Ok(Secret::default()) };
        let Some(path) = token.strip_prefix("file:") else { return Ok(Secret::new(token)) };
        let text = std::fs::read_to_string(path)
            .map_err(|e| CommandError::Usage(format!("cannot read the token from {path}: {e}")))?;
        Ok(Secret::new(text.trim()))
    }

    pub(crate) fn tls(&self) -> TlsOptions {
        let ca_file = self.ca_file.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        TlsOptions { ca_file, ..TlsOptions::default() }
    }

    /// A client that knows the same certificates, for this server or another one.
    pub(crate) fn client_for(
        &self,
        url: &str,
        timeout: Duration,
        max_response_bytes: usize,
    ) -> Result<Client, BuildError> {
        // What a shell says of proxies holds for calls that are made from a shell, but no proxy knows
        // the way to this machine itself.
        let proxy_from_environment = !is_on_this_machine(url);
        let options =
            HttpOptions { tls_config: self.tls(), proxy_from_environment, ..HttpOptions::default() };
        let settings = ClientSettings {
            timeout,
            max_response_bytes,
            // A command has no ceiling but the lengths of what it reads.
            ..ClientSettings::booking(&Arc::default())
        };
        Client::new(&options, settings)
    }

    pub(crate) fn connect(&self) -> Result<Connection, CommandError> {
        self.connect_for(TIMEOUT)
    }

    /// With another time for each call.
    pub(crate) fn connect_for(&self, timeout: Duration) -> Result<Connection, CommandError> {
        Ok(Connection {
            client: self.client_for(self.url(), timeout, CLIENT_ANSWER_BYTES)?,
            url: self.url().to_owned(),
            token: self.token()?,
        })
    }
}

fn is_on_this_machine(url: &str) -> bool {
    let uri = url.parse::<http::Uri>();
    let host = uri.as_ref().ok().and_then(http::Uri::host).unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// A client of one server.
#[derive(Debug)]
pub(crate) struct Connection {
    client: Client,
    url: String,
    token: Secret,
}

/// In which header the token goes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Door {
    /// Data and rules.
    Data,
    /// The management API.
    Management,
    /// Synthetic Monitoring.
    Bearer,
}

impl Connection {
    pub(crate) async fn get(
        &self,
        door: Door,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Bytes, CommandError> {
        let mut path = path.to_owned();
        if !query.is_empty() {
            let mut form = form_urlencoded::Serializer::new(String::new());
            path = format!("{path}?{}", form.extend_pairs(query).finish());
        }
        self.send(door, Method::GET, &path, None).await
    }

    /// `body` is sent as JSON.
    pub(crate) async fn send(
        &self,
        door: Door,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Bytes, CommandError> {
        self.send_as(&self.token, door, method, path, body).await
    }

    /// The same with another token.
    pub(crate) async fn send_as(
        &self,
        token: &Secret,
        door: Door,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Bytes, CommandError> {
        let mut headers = HeaderMap::new();
        if !token.is_empty() {
            let (name, value) = match door {
                Door::Data => ("x-token", token.expose().to_owned()),
                Door::Management => ("x-auth-token", token.expose().to_owned()),
                Door::Bearer => ("authorization", format!("Bearer {}", token.expose())),
            };
            let value = HeaderValue::try_from(value);
            let value = value
                .map_err(|_| CommandError::Usage("the token has characters that no token has".into()))?;
            headers.insert(HeaderName::from_static(name), value);
        }
        if body.is_some() {
            headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let body = body.map(|value| Bytes::from(value.to_string())).unwrap_or_default();
        let url = Secret::new(format!("{}{path}", self.url));
        let sent = self.client.send(Request { method, url, headers, body }).await;
        let answer = sent.map_err(|cause| CommandError::Unreachable { url: self.url.clone(), cause })?;
        if answer.status.is_success() {
            return Ok(answer.body);
        }
        let text = String::from_utf8_lossy(&answer.body).trim().to_owned();
        Err(CommandError::Refused { status: answer.status.as_u16(), text })
    }
}

/// An answer as JSON.
pub(crate) fn json(body: &[u8]) -> Result<Value, CommandError> {
    serde_json::from_slice(body).map_err(|e| CommandError::Answer(e.to_string()))
}

/// Runs what a command does, and tells how it ended.
pub(crate) fn run(work: impl Future<Output = Result<(), CommandError>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.map_err(CommandError::from).and_then(|runtime| runtime.block_on(work));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("pilothouse: {e}");
            ExitCode::FAILURE
        }
    }
}
