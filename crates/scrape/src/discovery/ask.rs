//! Asking somebody who knows targets, by HTTP.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderMap, Method, StatusCode, header};
use bytes::Bytes;
use pilothouse_model::Memory;
use pilothouse_model::limits::UNBOOKED_BYTES;
use pilothouse_model::memory::Reservation;
use pilothouse_net::{Client, ClientSettings, HttpOptions, Request, Secret};

use super::DiscoveryError;

/// What a list takes while it is read, in times of its text.
const PARSED: u64 = 8;

/// A client that is made at the first use, since files of its options may not be there at the start.
#[derive(Debug)]
pub(super) struct Asker {
    options: HttpOptions,
    unix_socket: Option<PathBuf>,
    max_bytes: u64,
    memory: Arc<Memory>,
    client: Option<Client>,
}

/// An answer with status 200, and room for what is made of it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) body: Bytes,
    pub(super) content_type: String,
    _parsed: Reservation,
}

impl Asker {
    pub(super) fn new(
        options: HttpOptions,
        unix_socket: Option<PathBuf>,
        max_bytes: u64,
        memory: &Arc<Memory>,
    ) -> Self {
        Self { options, unix_socket, max_bytes, memory: Arc::clone(memory), client: None }
    }

    pub(super) async fn get(
        &mut self,
        url: &str,
        headers: HeaderMap,
        timeout: Duration,
    ) -> Result<Answer, DiscoveryError> {
        let (max_bytes, memory) = (self.max_bytes, Arc::clone(&self.memory));
        let request = Request { method: Method::GET, url: Secret::new(url), headers, body: Bytes::new() };
        let answer = self.client(timeout)?.send(request).await?;
        if answer.status != StatusCode::OK {
            return Err(DiscoveryError::Status(answer.status));
        }
        if answer.body.len() as u64 > max_bytes {
            return Err(DiscoveryError::TooLong { limit: max_bytes });
        }
        let mut parsed = Reservation::beyond(UNBOOKED_BYTES * PARSED, &memory);
        parsed.grow(answer.body.len() as u64 * PARSED)?;
        let content_type = answer.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
        let content_type = content_type.unwrap_or("").trim().to_owned();
        Ok(Answer { content_type, body: answer.body, _parsed: parsed })
    }

    fn client(&mut self, timeout: Duration) -> Result<&Client, DiscoveryError> {
        let made = match self.client.take() {
            Some(client) => client,
            None => {
                let longest = self.max_bytes.saturating_add(1);
                let settings = ClientSettings {
                    timeout,
                    max_response_bytes: usize::try_from(longest).unwrap_or(usize::MAX),
                    unix_socket: self.unix_socket.clone(),
                    ..ClientSettings::booking(&self.memory)
                };
                Client::new(&self.options, settings)?
            }
        };
        Ok(self.client.insert(made))
    }
}
