//! Scraping: fetching what targets expose, and what this host says of itself.
//!
//! It does what Prometheus' `scrape_configs` say, with its words and texts: a *job* (in the API a
//! scrape pool) has *targets* that its *discoveries* find and its relabelling shapes; each target
//! has one owner, a loop that scrapes at a phase of its own, never twice at once. What a target
//! exposes becomes one append to a [`pilothouse_model::SampleSink`], with `up` and its siblings.
//! A series that is exposed no more is ended by a stale marker, and so is every series of a scrape
//! that fails or a target that goes.
//!
//! What is absent: rules, storage, the discoveries of cloud providers, and any state on the disk.
//! After a restart targets are found anew, at the same phases; series that went meanwhile end by
//! the lookback.
//!
//! Reading order: [`config`] (what may be said), [`relabel`], [`discovery`], `target` (labels and
//! address), `exchange` (one request), `cache`, `ingest` and `nhcb` (from a body to a batch), `report`, `cycle`
//! (one target's life), `pool` (one job), [`scraper`] (all of them), `local` and [`host`] (this
//! machine).

mod cache;
pub mod config;
mod cycle;
pub mod discovery;
mod exchange;
pub mod host;
mod ingest;
mod local;
mod nhcb;
mod pool;
pub mod relabel;
mod report;
pub mod scraper;
mod shared;
mod target;

pub use config::{ConfigError, Job, Sections};
pub use local::{Collect, LocalTarget};
pub use scraper::{DroppedView, Scraper, Stats, TargetView};
