//! Status pages: which checks a page shows, and what the store knows of them.
//!
//! Everything a page tells is read from the series that the checks have left, those of private
//! probes included: nothing is counted beside the store, so that a page and a dashboard never
//! differ.

mod page;
mod report;

pub use page::{InvalidPage, StatusPage};
pub use report::{CheckReport, LATENCY_STEP_MS, Place, Report, State, Uptimes, report, uptimes};
