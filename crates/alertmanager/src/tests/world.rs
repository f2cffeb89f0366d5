//! An engine, a clock that is set by hand, and receivers that write down what they are told.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use pilothouse_model::limits::{Limits, LiveLimits};
use pilothouse_model::state::MemoryState;
use pilothouse_model::{Alert, Labels, Memory, StateStore as _};

use crate::config::Config;
use crate::engine::{AlertFilter, AlertView, Engine, Kept, Pending, Setup};
use crate::keeper::Teller;
use crate::receivers::{Failure, Integration, Message, Notifier, Places, Sending};
use crate::telemetry::FailureReason;
use crate::templates::Templates;
use crate::work::Slice;

/// What a receiver was told, and when: `12s a: firing[x y] resolved[z]`.
pub(super) type Told = Arc<Mutex<Vec<String>>>;

/// A receiver that notes messages, and fails as often as it is told to.
#[derive(Debug)]
struct Note {
    name: String,
    told: Told,
    failures: Arc<Mutex<u32>>,
}

fn names(message: &Message, resolved: bool) -> String {
    let names: Vec<&str> =
        message.alerts.iter().filter(|a| a.resolved == resolved).map(|a| a.alert.labels.value("i")).collect();
    names.join(" ")
}

impl Notifier for Note {
    fn send<'a>(&'a self, message: &'a Message) -> Sending<'a> {
        let mut failures = self.failures.lock();
        let failed = *failures > 0;
        *failures = failures.saturating_sub(1);
        if !failed {
            let (firing, resolved) = (names(message, false), names(message, true));
            let t_s = message.now_ms / 1000;
            self.told.lock().push(format!("{t_s}s {}: firing[{firing}] resolved[{resolved}]", self.name));
        }
        Box::pin(async move {
            if failed {
                Err(Failure::retry(FailureReason::ServerError, "unexpected status code 500"))
            } else {
                Ok(())
            }
        })
    }
}

/// Everything around an engine.
pub(super) struct World {
    pub(super) engine: Engine,
    pub(super) now_ms: i64,
    pub(super) store: Arc<MemoryState>,
    pub(super) told: Told,
    pub(super) failures: BTreeMap<String, Arc<Mutex<u32>>>,
    /// Nothing can be written down.
    pub(super) disk_is_full: bool,
    setup: Arc<Setup>,
    places: Places,
}

fn engine(store: &MemoryState, limits: Limits, now_ms: i64) -> Engine {
    let kept = Kept::load(store).unwrap();
    let (engine, unreadable) = Engine::new(kept, LiveLimits::from(limits), now_ms);
    assert_eq!(unreadable, 0);
    engine
}

impl World {
    /// A world with a configuration whose receivers are named in it; those whose name ends in
    /// `-quiet` do not tell of ends.
    pub(super) fn new(yaml: &str) -> Self {
        Self::limited(yaml, Limits::default())
    }

    /// The same with limits of its own.
    pub(super) fn limited(yaml: &str, limits: Limits) -> Self {
        let config = Config::load(yaml).unwrap();
        let names: Vec<String> = config.receivers.iter().map(|r| r.name.clone()).collect();
        let mut setup = Setup::new(config, Templates::new([]).unwrap(), "http://am", 1).unwrap();
        let (told, mut failures) = (Told::default(), BTreeMap::new());
        for name in names {
            let count = Arc::new(Mutex::new(0));
            let note = Note { name: name.clone(), told: Arc::clone(&told), failures: Arc::clone(&count) };
            let resolved = !name.ends_with("-quiet");
            let integration = Integration::new("webhook", 0, resolved, Box::new(note), 1);
            setup = setup.with_integrations(&name, vec![integration]);
            failures.insert(name, count);
        }
        let store = Arc::new(MemoryState::default());
        let now_ms = 0;
        let setup = Arc::new(setup);
        let mut engine = engine(&store, limits, now_ms);
        engine.configure(Arc::clone(&setup), now_ms);
        Self {
            engine,
            now_ms,
            store,
            told,
            failures,
            disk_is_full: false,
            setup,
            places: Places::new(Arc::default()),
        }
    }

    /// Ends without a word and starts again from what was written down.
    pub(super) fn restart(&mut self) {
        self.engine = engine(&self.store, Limits::default(), self.now_ms);
        self.engine.configure(Arc::clone(&self.setup), self.now_ms);
    }

    /// The same with an account of memory.
    pub(super) fn within(mut self, memory: &Arc<Memory>) -> Self {
        self.engine = self.engine.within(Arc::clone(memory));
        self
    }

    /// Contact points beside the default receiver: `(name, tells ends)`.
    pub(super) fn set_contacts(&mut self, contacts: &[(&str, bool)]) {
        let integration = |(name, ends): &(&str, bool)| {
            let told = Arc::clone(&self.told);
            let note = Note { name: (*name).to_owned(), told, failures: Arc::default() };
            Integration::named("email", format!("contact[{name}]"), *ends, Box::new(note), 1)
        };
        self.engine.replace_contacts(contacts.iter().map(integration).collect());
    }

    /// An alert with a name `i` and more labels, firing from now until it is ended.
    pub(super) fn fire(&mut self, i: &str, labels: &[(&str, &str)]) {
        self.put(i, labels, 0);
    }

    pub(super) fn resolve(&mut self, i: &str, labels: &[(&str, &str)]) {
        self.put(i, labels, self.now_ms);
    }

    pub(super) fn put(&mut self, i: &str, labels: &[(&str, &str)], ends_at_ms: i64) {
        let all = labels.iter().copied().chain([("i", i)]);
        let alert = Alert {
            labels: Labels::from_pairs(all),
            annotations: BTreeMap::new(),
            starts_at_ms: 0,
            ends_at_ms,
            generator_url: String::new(),
        };
        assert_eq!(self.engine.put(&[alert], Teller::Anybody, self.now_ms), Vec::<String>::new());
        self.keep();
    }

    /// Lets time pass, and does what is due when it is due.
    pub(super) fn until(&mut self, t_ms: i64) {
        loop {
            let attempts = self.engine.step(self.now_ms);
            for attempt in attempts {
                let outcome = now(attempt.integration.send(&attempt.message, &self.places));
                self.engine.finished(attempt.job, outcome, 1, self.now_ms);
                self.keep();
            }
            self.keep();
            let next = self.engine.next_due_ms().max(self.now_ms);
            if next > t_ms {
                break;
            }
            self.now_ms = next;
        }
        self.now_ms = t_ms;
    }

    pub(super) fn keep(&mut self) {
        let changes = self.engine.take_changes();
        if self.disk_is_full {
            self.engine.changes_failed(changes);
            return;
        }
        self.store.apply(&changes).unwrap();
        self.engine.changes_written(&changes);
    }

    /// Alerts that are not over, as they are shown.
    pub(super) fn alerts(&mut self) -> Vec<AlertView> {
        let (engine, filter, slice) = (&mut self.engine, AlertFilter::default(), &mut Slice::endless());
        let pending = engine.pending(self.now_ms);
        let viewer = engine.viewer(&filter);
        pending.iter().filter_map(|alert| viewer.view(engine, alert, self.now_ms, slice)).collect()
    }

    /// The groups of them: what intervals mute in each.
    pub(super) fn groups(&mut self) -> Vec<Vec<AlertView>> {
        let (engine, filter, slice) = (&mut self.engine, AlertFilter::default(), &mut Slice::endless());
        let viewer = engine.viewer(&filter);
        let groups = engine.pending_groups(&viewer, self.now_ms);
        let mut views = |group: &Pending| {
            let view = |alert| viewer.view_in(engine, group, alert, self.now_ms, slice);
            group.alerts.iter().filter_map(view).collect::<Vec<_>>()
        };
        groups.iter().map(&mut views).filter(|views| !views.is_empty()).collect()
    }

    /// What was told since the last call.
    pub(super) fn heard(&self) -> Vec<String> {
        std::mem::take(&mut *self.told.lock())
    }
}

/// Runs a future that waits for nothing.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("a receiver of a test waits"),
    }
}
