//! Running checks: what a run leaves behind, what becomes of it, and when the next one is due.

mod accounting;
mod aggregates;
mod entries;
mod geohash;
mod logfmt;
mod outcome;
mod publisher;
mod runner;
mod schedule;
mod series;
mod stats;
mod user_labels;

pub use accounting::{AccountingClass, accounting_classes};
pub use outcome::{Gauge, Level, Line, Outcome, Recorder, Verdict};
pub use publisher::{Publication, Publisher, ResultSink};
pub use runner::{Prober, Target};
pub use schedule::Schedule;
pub use stats::{PublisherStats, ScheduleStats};
