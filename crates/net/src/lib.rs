//! Outward calls: an HTTP client that obeys the `http_config` of Prometheus' world.
//!
//! [`options`] is what a configuration file may say (TLS, proxies, basic and bearer
//! authorization, OAuth2, headers) with the checks and texts of `prometheus/common`;
//! [`client`] is a client that does it, with a time limit per call and a bound on what it reads
//! of an answer. A [`Secret`] prints as `<secret>` wherever it is printed.
//!
//! What cannot be done is refused when the configuration is read, naming the field: TLS below
//! 1.2 as the highest version, tokens by signed JWT, references to a secret manager.

pub mod client;
mod error;
mod oauth;
pub mod options;
pub mod pinned;
mod secret;
pub mod stream;
#[cfg(test)]
mod tests;
pub mod tls;
pub mod websocket;

pub use client::{Client, ClientSettings, Request, Response};
pub use error::{BuildError, CallError};
pub use options::HttpOptions;
pub use secret::{REDACTED, Secret};
pub use stream::{BodyStream, Streamed};
