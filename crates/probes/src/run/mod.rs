//! Running checks: what a run leaves behind, what becomes of it, and when the next one is due.

mod aggregates;
mod entries;
mod geohash;
mod logfmt;
mod outcome;
mod publisher;
mod runner;
mod schedule;
mod series;

pub use outcome::{Gauge, Level, Line, Outcome, Recorder};
pub use publisher::{Publication, Publisher, PublisherStats, ResultSink};
pub use runner::{Prober, Target};
pub use schedule::{Schedule, ScheduleStats};
