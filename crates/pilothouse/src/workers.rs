//! What works beside the requests: started in an order in which each finds what it needs, and
//! ended in the other one.

use std::sync::Arc;

use pilothouse_alertmanager::Alertmanager;
use pilothouse_api::App;
use pilothouse_control::Control;
use pilothouse_model::SourceError;
use pilothouse_model::limits::LiveLimits;
use pilothouse_model::ports::SystemClock;
use tokio::task::JoinHandle;

use crate::alerting;
use crate::audit;
use crate::config::Config;
use crate::limits::InForce;
use crate::reload::Part;
use crate::rule_book::Book;
use crate::rules::{self, Rules};
use crate::scrape::Scraping;
use crate::serve::ServeError;
use crate::sources::{self, Stores};
use crate::synthetic;

/// What all of them stand on.
#[derive(Debug, Clone)]
pub(crate) struct Ground {
    pub(crate) config: Arc<Config>,
    pub(crate) limits: LiveLimits,
    pub(crate) app: Arc<App>,
    pub(crate) control: Arc<Control>,
    pub(crate) stores: Arc<Stores>,
    /// Where people reach the server, without a trailing slash.
    pub(crate) url: String,
    /// The label of the server's own series.
    pub(crate) instance: String,
}

impl Ground {
    /// Runs what waits for the disk.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Stores) -> Result<T, SourceError> + Send + 'static,
    ) -> Result<T, ServeError> {
        let stores = Arc::clone(&self.stores);
        let done = tokio::task::spawn_blocking(move || work(&stores)).await;
        Ok(done.map_err(|e| ServeError::Start(std::io::Error::other(e)))??)
    }
}

/// All that runs.
#[derive(Debug)]
pub(crate) struct Workers {
    stores: Arc<Stores>,
    limits: LiveLimits,
    alertmanager: Alertmanager,
    rules: Arc<Rules>,
    scraping: Scraping,
    synthetic: synthetic::Running,
    /// Follows data sources as they come and go, for the rules.
    following: JoinHandle<()>,
    /// What follows others and may end at any moment.
    followers: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Once this returns, who asks for rules, alerts, targets or checks finds them.
    pub(crate) async fn start(ground: &Ground) -> Result<Self, ServeError> {
        let Ground { config, limits, app, control, stores, url, .. } = ground;
        let alertmanager = alerting::start(config, limits, url, control, app.memory()).await?;
        app.start_alertmanager(alertmanager.clone());
        let rules = start_rules(ground, &alertmanager).await?;
        let book = Book { rules: Arc::clone(&rules), alertmanager: alertmanager.clone() };
        app.start_alerting(Arc::new(alertmanager.clone()), Arc::new(book));
        let scraping = Scraping::start(ground).await?;
        let told = Arc::clone(app);
        let lines = ground.blocking(|stores| stores.own_lines(told)).await?;
        let past = ground.blocking(Stores::own_logs).await?;
        let followers = vec![
            tokio::spawn(Arc::clone(stores).run(Arc::clone(app))),
            tokio::spawn(audit::follow(Arc::clone(control), Arc::clone(&lines))),
            tokio::spawn(alerting::follow_contacts(alertmanager.clone(), Arc::clone(control))),
            tokio::spawn(alerting::follow(alertmanager.clone(), rules.transitions(), past, lines)),
        ];
        let following = tokio::spawn(Arc::clone(&rules).run());
        let synthetic = synthetic::start(ground, rules.ruler()).await?;
        let (stores, limits) = (Arc::clone(stores), limits.clone());
        Ok(Self { stores, limits, alertmanager, rules, scraping, synthetic, following, followers })
    }

    /// What takes over a changed configuration.
    pub(crate) fn parts(&self) -> Vec<Arc<dyn Part>> {
        vec![
            // First: what others take over is judged by the limits in force then.
            Arc::new(InForce { limits: self.limits.clone(), stores: Arc::clone(&self.stores) }),
            Arc::new(rules::Files(Arc::clone(&self.rules))),
            Arc::new(alerting::ConfigFile(self.alertmanager.clone())),
            Arc::new(sources::Retention(Arc::clone(&self.stores))),
            Arc::new(self.synthetic.declared()),
            Arc::new(self.scraping.jobs()),
        ]
    }

    /// Ends all of it: first who writes, then who reads what was written.
    pub(crate) async fn drain(self) {
        self.scraping.drain().await;
        self.synthetic.drain().await;
        self.following.abort();
        let rules = self.rules;
        // No rule is evaluated any more once the first store closes.
        let _ = tokio::task::spawn_blocking(move || rules.drain()).await;
        alerting::drain(self.alertmanager).await;
        self.followers.iter().for_each(JoinHandle::abort);
    }
}

async fn start_rules(ground: &Ground, alertmanager: &Alertmanager) -> Result<Arc<Rules>, ServeError> {
    let (ground, alerts) = (ground.clone(), Arc::new(alertmanager.clone()));
    let app = Arc::clone(&ground.app);
    let start = move || Rules::start(&ground, alerts, Arc::new(SystemClock));
    let started = tokio::task::spawn_blocking(start).await;
    let rules = started.map_err(|e| ServeError::Start(std::io::Error::other(e)))??;
    app.start_rules(Arc::clone(rules.ruler()), Arc::clone(&rules) as _);
    Ok(rules)
}
