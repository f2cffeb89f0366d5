//! The words of the house, and the ports through which its parts meet.
//!
//! Nothing here reads a file, opens a socket or knows a protocol. What is here is
//! said once and used by every other crate: label sets, matchers, times, samples,
//! query results, the one list of limits, the budget of a query, and the ports that
//! stores implement and languages consume.
//!
//! Reading order: [`labels`], [`matcher`], [`time`], [`sample`], [`histogram`],
//! [`result`], [`mod@write`], [`limits`], [`budget`], [`ports`], [`logs`], [`log_ports`],
//! [`alerts`], [`state`], [`share`], [`memory`], [`yaml`].

pub mod active;
pub mod alerts;
pub mod budget;
pub mod bytes;
pub mod durations;
pub mod histogram;
pub mod labels;
pub mod limits;
pub mod log_ports;
pub mod logs;
pub mod matcher;
pub mod memory;
pub mod ports;
pub mod result;
pub mod sample;
pub mod share;
pub mod state;
pub mod time;
pub mod write;
pub mod yaml;

pub use alerts::{Alert, AlertSink};
pub use budget::{Budget, BudgetError};
pub use histogram::{Histogram, ResetHint, Span};
pub use labels::{Labels, LabelsBuilder};
pub use log_ports::{EntrySink, EntrySource, EntryVisitor, Flow, ReadReport, StreamQuery};
pub use logs::{EntryBatch, EntryRun, LogBatch, LogSelection};
pub use matcher::{MatchOp, Matcher};
pub use memory::{Memory, NoMemory};
pub use ports::{
    Clock, Evaluator, LabelNeeds, RemoteError, SampleSink, SelectedSeries, Selection, SeriesSamples,
    SeriesSource, SourceError,
};
pub use result::{Annotations, MatrixSeries, QueryValue, SampleValue, VectorSample};
pub use sample::SampleColumns;
pub use share::{ActiveLimit, ServerCount};
pub use state::{StateChange, StateStore};
