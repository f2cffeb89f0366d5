//! Bytes to words and back.
//!
//! Everything that comes over the network as a body, and every body that leaves, is taken apart
//! or put together here: compression ([`body`]), remote write 1.0 and 2.0 ([`remote_write`]),
//! remote read ([`remote_read`]) with Prometheus' chunks ([`chunk`]), the text formats
//! ([`exposition`]), pushes of logs ([`logs`]), OTLP metrics and logs ([`otlp`]). So are the files
//! of a Prometheus ([`tsdb`]), which come from elsewhere just the same.
//! Nothing here knows HTTP: a caller hands in bytes and the value of a header.
//!
//! What holds for every decoder: it never allocates by a length that the input only claims, the
//! number of series and samples is bounded by [`pilothouse_model::limits::Limits`], nesting is
//! walked without recursion or to a fixed depth, and no input makes it panic. Whether label text
//! is UTF-8, whether names are allowed and whether a histogram adds up is not asked here: the
//! store asks it once for a series it has not met, and the histogram algebra for each histogram.
//!
//! Every decoder of written samples answers [`Decoded`]: the good part as one batch, and what was
//! refused of the rest. The labels of all batches have one form, so that a series has one key
//! whichever protocol it comes by (see [`labels`]).

pub mod body;
pub mod chunk;
pub mod exposition;
pub mod labels;
pub mod logs;
pub mod otlp;
pub mod remote_read;
pub mod remote_write;
pub mod tsdb;

mod decoded;
mod proto;
mod proto_complaint;

pub use decoded::{DecodeError, Decoded};
