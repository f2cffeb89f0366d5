//! Scraping wired to what is around it: jobs from the configuration into the default source of
//! metrics, the server's own metrics and those of the host beside them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pilothouse_api::TextFormat;
use pilothouse_model::{SampleSink, SourceError};
use pilothouse_scrape::host::Host;
use pilothouse_scrape::{ConfigError, Job, LocalTarget, Scraper, Sections, config};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::config::{Config, Settings};
use crate::reload::{Apply, Part};
use crate::stored::{Stored, Writer};
use crate::workers::Ground;

const INTERVAL: Duration = Duration::from_secs(15);
const OWN_JOB: &str = "pilothouse";
const HOST_JOB: &str = "node";

/// What the configuration says of scraping.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct ScrapeConfig {
    pub(crate) jobs: Vec<Job>,
    pub(crate) host_metrics: bool,
}

impl ScrapeConfig {
    /// Checks all jobs, those in further files included. Relative paths start at `directory`.
    pub(crate) fn of(settings: &Settings, directory: &Path) -> Result<Self, ConfigError> {
        let sections = Sections {
            global: settings.global.section.clone(),
            scrape_configs: settings.scrape_configs.sections.clone(),
            scrape_config_files: settings.scrape_config_files.clone(),
        };
        Ok(Self { jobs: config::load(&sections, directory)?, host_metrics: settings.host_metrics })
    }
}

/// What runs, and how to end it.
#[derive(Debug)]
pub(crate) struct Scraping {
    scraper: Scraper,
    /// The server's own metrics, and the host's.
    local: Vec<JoinHandle<()>>,
}

impl Scraping {
    /// Takes a first round of what needs no request, so that the first query finds something, and
    /// starts all jobs.
    pub(crate) async fn start(ground: &Ground) -> Result<Self, SourceError> {
        let Ground { config, limits, app, stores, instance, .. } = ground;
        let sink: Arc<dyn SampleSink> = Arc::new(Stored::default_metrics(stores, Writer::Own)?);
        let rendered = Arc::clone(app);
        let own = Box::new(move || rendered.own_metrics(TextFormat::Prometheus));
        let mut targets = vec![LocalTarget::new(OWN_JOB, instance, Arc::clone(&sink), limits.clone(), own)];
        // Elsewhere there is nothing under these names.
        if config.scraping.host_metrics && cfg!(target_os = "linux") {
            let host = Host::default();
            let name = host.name().unwrap_or_else(|| instance.clone());
            targets.push(LocalTarget::new(
                HOST_JOB,
                &name,
                sink,
                limits.clone(),
                Box::new(move || host.render()),
            ));
        }
        for target in &targets {
            target.once().await;
        }
        let local = targets.into_iter().map(|target| tokio::spawn(target.run(INTERVAL))).collect();
        let scraped = Arc::new(Stored::default_metrics(stores, Writer::Worker)?);
        let scraper = Scraper::new(scraped, limits.clone(), Arc::clone(app.memory()));
        scraper.apply(config.scraping.jobs.clone()).await;
        app.start_scraping(scraper.clone());
        Ok(Self { scraper, local })
    }

    /// The part of a reload.
    pub(crate) fn jobs(&self) -> Jobs {
        Jobs { scraper: self.scraper.clone(), runtime: Handle::current() }
    }

    /// Ends everything; series go on after the next start.
    pub(crate) async fn drain(self) {
        self.local.iter().for_each(JoinHandle::abort);
        self.scraper.drain().await;
    }
}

/// Takes over changed jobs.
#[derive(Debug)]
pub(crate) struct Jobs {
    scraper: Scraper,
    runtime: Handle,
}

impl Part for Jobs {
    fn prepare(&self, next: &Config) -> Result<Apply, String> {
        let (scraper, runtime) = (self.scraper.clone(), self.runtime.clone());
        let jobs = next.scraping.jobs.clone();
        Ok(Box::new(move || runtime.block_on(scraper.apply(jobs))))
    }
}
