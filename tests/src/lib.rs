//! The real binary on a free port, a client that is no bigger than it must be, and a writer of
//! remote-write requests that shares no code with the reader.

// Everything here serves tests; a failure here is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::missing_panics_doc)]

mod asked;
mod binary;
mod bucket;
mod flaky;
mod http;
mod mailbox;
mod receiver;
mod server;
mod websocket;
mod write;

pub use binary::binary;
pub use bucket::BucketServer;
pub use flaky::Flaky;
pub use http::{Answer, request};
pub use mailbox::Mailbox;
pub use receiver::Receiver;
pub use server::{Server, escape, free_address};
pub use websocket::{Frame, WebSocket};
pub use write::{Series, push_body, series};
