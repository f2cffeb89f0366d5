//! A complete Alertmanager: what comes in as alerts goes out as notifications.
//!
//! Alerts are matched against a tree of routes and collected in groups; at the pace that the
//! routes give, groups pass inhibition, time intervals and silences, are compared with the
//! notification log, and are sent by the integrations of a receiver. Configuration, texts,
//! timing and API shapes are those of Prometheus' Alertmanager; the configuration document is
//! Mimir's. Alerts, silences and the notification log are durable as they change, so that a
//! restart neither repeats nor forgets a notification.
//!
//! [`engine`] owns all state and knows no network, no disk and no clock: it is told the time and
//! gives out what to send and what to keep. [`service`] runs it: one thread steps it, tasks make
//! the calls. That is why hours of grouping pass in milliseconds of test.
//!
//! Reading order: [`matchers`], `selector`, [`interval`], [`config`], `route`, [`templates`],
//! [`silence`], `nflog`, `keeper`, `contacts`, `inhibit`, `work`, [`engine`], [`receivers`],
//! [`service`].

pub mod alert;
pub mod config;
mod contacts;
pub mod engine;
mod heartbeat;
pub mod history;
mod inhibit;
pub mod interval;
mod keeper;
pub mod matchers;
mod nflog;
pub mod receivers;
mod route;
mod selector;
pub mod service;
pub mod silence;
pub mod telemetry;
pub mod templates;
#[cfg(test)]
mod tests;
mod work;

pub use config::{Config, ConfigError, Document};
pub use contacts::{Contact, Mail};
pub use keeper::Teller;
pub use pilothouse_net::Secret;
pub use service::{Alertmanager, Options};
