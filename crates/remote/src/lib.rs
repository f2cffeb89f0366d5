//! Data sources whose data another system keeps: a Mimir or any store with Prometheus' remote
//! write and query API, or a Loki.
//!
//! What is decided here stays here: tokens, limits, labels, rules and alerts are this server's, and
//! the other system sees its own credentials alone. What it promises: a write that was called good
//! was taken by the other system, for it is sent while its sender waits; nothing of a sender's is
//! kept back. Only what this server writes by itself (rules, checks, scrapes) waits in a bounded
//! queue while the other side is away, since nobody would send it again. What it does not: count
//! what is there already, forget anything, or know what the other system refuses before asking it.
//!
//! Reading order: `settings` (where and how), `peer` (calls and their outcomes), `recent` (what is
//! active), `queue`, [`Link`], which holds one of each, then [`RemoteMetrics`] and [`RemoteLogs`],
//! which stand where a store would stand, with `answers` for what the other side says.

#[doc(hidden)] // for the fuzzer
pub mod answers;
mod ask;
mod link;
mod logs;
mod metrics;
mod peer;
mod queue;
mod recent;
mod settings;

pub use link::Link;
pub use logs::RemoteLogs;
#[doc(hidden)]
pub use logs::first_page;
pub use metrics::RemoteMetrics;
pub use peer::{Answering, Forwarded, OutcomeFigures, Peer, PeerFigures};
pub use queue::QueueFigures;
pub use settings::{Kind, Settings, SettingsError};
