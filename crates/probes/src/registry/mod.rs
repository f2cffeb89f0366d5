//! Who has which checks and probes: tenants, access tokens, checks with their alerts, private
//! probes with their tokens.
//!
//! Everything is in memory and in the state store; a change is durable before it is seen. Whoever
//! runs checks (the built-in probe, a private probe's connection) waits for [`Registry::changes`]
//! and compares what it runs with [`Registry::assignments`]: there is no list of events to miss.

mod alerts;
mod checks;
mod connections;
mod declared;
mod error;
mod image;
mod probes;
mod rows;
mod tenants;
mod tokens;

use std::fmt;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use pilothouse_model::limits::LiveLimits;
use pilothouse_model::memory::{Holding, Part};
use pilothouse_model::ports::Clock;
use pilothouse_model::{Memory, StateChange, StateStore};
use tokio::sync::watch;

use crate::validate::LabelRules;
use crate::words::{Check, Probe, Tenant};

pub use alerts::CheckAlert;
pub use connections::Connection;
pub use declared::{Declared, DeclaredCheck};
pub use error::{Refusal, RefusalKind};
pub use tenants::{StatusUpdate, TenantSettings, TenantUpdate};
pub use tokens::{Caller, Installed};

use connections::Connections;
use image::Image;

/// The tenant that the server's own probe belongs to, and the checks that its configuration
/// declares. No caller is this tenant.
pub const OWN_TENANT: i64 = 1;
/// The id of the built-in probe.
pub const BUILTIN_PROBE: i64 = 1;

/// What the registry is told once.
#[derive(Debug, Clone)]
pub struct RegistrySettings {
    /// Name, region and place of the built-in probe.
    pub builtin: Probe,
    pub limits: LiveLimits,
    /// Where checks and what is known of them are counted.
    pub memory: Arc<Memory>,
}

/// See the module.
pub struct Registry {
    held: Mutex<Holding>,
    settings: RegistrySettings,
    state: Arc<dyn StateStore>,
    clock: Arc<dyn Clock>,
    image: RwLock<Image>,
    changed: watch::Sender<u64>,
    connections: Arc<Connections>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Registry {
    /// Reads what is stored. Blocks, as do all changes.
    pub fn open(
        settings: RegistrySettings,
        state: Arc<dyn StateStore>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Refusal> {
        let image = Image::load(state.as_ref(), &settings, now_s(clock.as_ref()))?;
        let mut held = settings.memory.holding(Part::Checks);
        held.set(image.held_bytes());
        Ok(Self {
            held: Mutex::new(held),
            settings,
            state,
            clock,
            image: RwLock::new(image),
            changed: watch::Sender::new(0),
            connections: Arc::default(),
        })
    }

    pub fn settings(&self) -> &RegistrySettings {
        &self.settings
    }

    fn label_rules(&self) -> LabelRules {
        LabelRules::from(&*self.settings.limits.now())
    }

    /// Tells that something changed: a number that grows. What is looked at after a change shows it.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The enabled checks of active tenants that a probe has to run, by id.
    pub fn assignments(&self, probe: i64) -> Vec<Arc<Check>> {
        let image = self.read();
        let runs = |check: &&Arc<Check>| {
            check.enabled && check.probes.contains(&probe) && image.is_active(check.tenant_id)
        };
        image.checks.values().map(|c| &c.check).filter(runs).cloned().collect()
    }

    /// With the real passwords of its remotes.
    pub fn tenant(&self, id: i64) -> Option<Tenant> {
        self.read().tenants.get(&id).map(|t| t.tenant.clone())
    }

    fn read(&self) -> RwLockReadGuard<'_, Image> {
        self.image.read()
    }

    fn now_s(&self) -> f64 {
        now_s(self.clock.as_ref())
    }

    /// The one way to change anything: `plan` looks at the image and says which rows change and
    /// what the caller gets; the rows are stored, then the image follows.
    fn change<T>(
        &self,
        plan: impl FnOnce(&Image) -> Result<(Vec<image::Row>, T), Refusal>,
    ) -> Result<T, Refusal> {
        let mut image = self.image.write();
        let (rows, answer) = plan(&image)?;
        let changes: Vec<StateChange> = rows.iter().map(image::Row::to_change).collect();
        self.state.apply(&changes)?;
        rows.into_iter().for_each(|row| image.apply(row));
        self.held.lock().set(image.held_bytes());
        drop(image);
        self.changed.send_modify(|generation| *generation += 1);
        Ok(answer)
    }
}

/// Seconds since 1970 with a fraction, as all times of this protocol.
fn now_s(clock: &dyn Clock) -> f64 {
    clock.now_ms() as f64 / 1_000.0
}

/// A time of change that is later than the one before, whatever the clock says.
fn later_than(before_s: f64, now_s: f64) -> f64 {
    if now_s > before_s { now_s } else { before_s + 0.001 }
}
