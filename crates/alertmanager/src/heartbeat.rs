//! A dead man's switch: somebody outside is told that notifications still flow, and raises the
//! alarm when that stops.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use pilothouse_model::Clock;
use pilothouse_net::{Client, ClientSettings, HttpOptions, Request, Secret};

use crate::config::ConfigError;

/// How often it is told.
const EVERY: Duration = Duration::from_secs(60);
/// The engine takes a step at least this often; beyond three of them it counts as stuck.
pub(crate) const STEP_MS: i64 = 15_000;

pub(crate) struct Heartbeat {
    client: Client,
    url: Secret,
}

impl Heartbeat {
    pub(crate) fn new(url: Secret) -> Result<Self, ConfigError> {
        crate::config::values::check_url(url.expose())
            .map_err(|e| ConfigError(format!("heartbeat_url: {e}")))?;
        let timeout = Duration::from_secs(30);
        let settings = ClientSettings { timeout, ..ClientSettings::booking(&Arc::default()).never_refused() };
        let client =
            Client::new(&HttpOptions::default(), settings).map_err(|e| ConfigError(e.to_string()))?;
        Ok(Self { client, url })
    }

    /// Tells it until the task is dropped, as long as the engine takes its steps.
    pub(crate) async fn run(self, last_step_ms: Arc<AtomicI64>, clock: Arc<dyn Clock>) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let silent_ms = clock.now_ms().saturating_sub(last_step_ms.load(Relaxed));
            if silent_ms > 3 * STEP_MS {
                tracing::error!(silent_ms, "the Alertmanager takes no steps; no heartbeat is sent");
                continue;
            }
            let request = Request {
                method: http::Method::POST,
                url: self.url.clone(),
                headers: http::HeaderMap::new(),
                body: bytes::Bytes::new(),
            };
            match self.client.send(request).await {
                Ok(answer) if answer.status.is_success() => {}
                Ok(answer) => tracing::warn!(status = answer.status.as_u16(), "heartbeat was not taken"),
                Err(error) => tracing::warn!(%error, "heartbeat was not sent"),
            }
        }
    }
}
