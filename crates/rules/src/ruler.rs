//! All groups of all data sources, their threads, and the ways to change them.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;

use parking_lot::{Mutex, RwLock};
use pilothouse_model::limits::QUERY_STACK_BYTES;
use pilothouse_model::{AlertSink, Clock, Labels, SourceError, StateStore};

use crate::files::RuleFile;
use crate::format::{Problem, ReadGroup, RuleGroup, check_group, read_group};
use crate::group::{Evaluation, Group, GroupKey, Origin};
use crate::records;
use crate::rule::LoadError;
use crate::schedule::{Schedule, Task, Wake};
use crate::settings::{DURATION_BOUNDS_S, Durations, Settings, Surrounding, TransitionObserver};
use crate::source::RuleSource;
use crate::stack::on_deep_stack;
use crate::view::{Figures, GroupFigures, GroupView};
use crate::written::end_series;

/// Why a change of groups was refused or failed. The text is for the caller.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("unable to decoded rule group")]
    Undecodable(String),
    #[error("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    Invalid { problems: Vec<Problem> },
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Unloadable(#[from] LoadError),
    #[error("there is no data source {0:?}")]
    NoSource(String),
    #[error("group does not exist")]
    NoGroup,
    #[error("group namespace does not exist")]
    NoNamespace,
    #[error("{0}")]
    Storage(#[from] SourceError),
}

/// What a ruler is made of.
#[derive(Debug)]
pub struct Parts {
    pub settings: Settings,
    pub clock: Arc<dyn Clock>,
    pub store: Arc<dyn StateStore>,
    pub alerts: Arc<dyn AlertSink>,
    /// Told of every change of an alert's state.
    pub observer: Option<Arc<dyn TransitionObserver>>,
}

/// Both rulers. Share it in an [`Arc`].
#[derive(Debug)]
pub struct Ruler {
    around: Surrounding,
    store: Arc<dyn StateStore>,
    sources: RwLock<BTreeMap<String, RuleSource>>,
    groups: RwLock<BTreeMap<GroupKey, Arc<Group>>>,
    /// Held by whoever changes groups.
    changing: Mutex<()>,
    schedule: Schedule,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Ruler {
    pub fn new(parts: Parts) -> Self {
        Self {
            around: Surrounding {
                settings: parts.settings,
                clock: parts.clock,
                alerts: parts.alerts,
                observer: parts.observer,
                durations: Durations::default(),
                sent: AtomicU64::new(0),
                send_failures: AtomicU64::new(0),
            },
            store: parts.store,
            sources: RwLock::default(),
            groups: RwLock::default(),
            changing: Mutex::new(()),
            schedule: Schedule::default(),
            threads: Mutex::default(),
        }
    }

    // ---- threads ----

    /// Starts the threads that evaluate.
    pub fn spawn(self: &Arc<Self>) -> std::io::Result<()> {
        let mut threads = self.threads.lock();
        for number in 0..self.around.settings.workers.max(1) {
            let ruler = Arc::clone(self);
            let work = move || {
                // What an evaluation spreads over threads stays on this one: the pool of the
                // clients' queries may be busy for minutes, and alerts do not wait for it.
                let alone = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
                let _alone = alone.inspect_err(|e| tracing::warn!("rules share the pool of queries: {e}"));
                let mut seen_ms = ruler.around.clock.now_ms();
                while let Some(wake) = ruler.schedule.wait_due(ruler.around.clock.as_ref()) {
                    let now_ms = ruler.around.clock.now_ms();
                    if number == 0 && now_ms < seen_ms {
                        ruler.reschedule();
                    }
                    seen_ms = now_ms;
                    if let Wake::Due(due_ms, task) = wake {
                        ruler.perform(due_ms, task);
                    }
                }
            };
            let thread = std::thread::Builder::new()
                .name(format!("rules-{number}"))
                .stack_size(QUERY_STACK_BYTES)
                .spawn(work)?;
            threads.push(thread);
        }
        Ok(())
    }

    /// Ends what is being evaluated and waits for the threads. Groups keep their state for who
    /// asks; nothing is evaluated any more.
    pub fn drain(&self) {
        self.schedule.close();
        for group in self.groups.read().values() {
            group.stop();
        }
        for thread in self.threads.lock().drain(..) {
            // A worker that has panicked has nothing more to lose.
            let _ = thread.join();
        }
    }

    /// Performs everything that is due before it returns: what the threads do, for a clock that
    /// is moved by hand.
    pub fn step(&self) {
        while let Some((due_ms, task)) = self.schedule.take_due(self.around.clock.now_ms()) {
            if let Err(e) = on_deep_stack(|| self.perform(due_ms, task)) {
                tracing::error!("a rule group is not evaluated any more: {e}");
            }
        }
    }

    /// Finds new slots for groups that wait for times far ahead, after the clock was set back.
    pub(crate) fn reschedule(&self) {
        let now_ms = self.around.clock.now_ms();
        self.schedule.renew(|at_ms, group| match at_ms.saturating_sub(now_ms) > 2 * group.interval_ms {
            true => group.slot_after(now_ms),
            false => at_ms,
        });
    }

    fn perform(&self, due_ms: i64, task: Task) {
        match task {
            Task::Evaluate { group, last_slot_ms } => self.evaluate(group, due_ms, last_slot_ms),
            Task::End { group, series, at_ms } => self.end(&group, series, at_ms),
        }
    }

    /// Evaluates the newest slot; those between it and the last one are missed and counted.
    fn evaluate(&self, group: Arc<Group>, due_ms: i64, last_slot_ms: Option<i64>) {
        if group.is_stopped() {
            return;
        }
        let now_ms = self.around.clock.now_ms();
        let missed = match last_slot_ms {
            Some(last) => (now_ms.saturating_sub(last) / group.interval_ms - 1).max(0),
            None => 0,
        };
        let slot_ms = due_ms.saturating_add(missed.saturating_mul(group.interval_ms));
        group.counts.missed.fetch_add(missed.unsigned_abs(), Relaxed);
        group.counts.iterations.fetch_add(missed.unsigned_abs() + 1, Relaxed);
        group.evaluate(&Evaluation { around: &self.around, slot_ms });
        let next_ms = slot_ms.saturating_add(group.interval_ms);
        self.schedule.add(next_ms, Task::Evaluate { group, last_slot_ms: Some(slot_ms) });
    }

    fn end(&self, group: &Group, mut series: Vec<Labels>, at_ms: i64) {
        // A rule of another name may give the same series by now.
        let mut given = HashSet::new();
        for other in self.groups.read().values() {
            other.each_given(|labels| {
                given.insert(labels.clone());
            });
        }
        series.retain(|labels| !given.contains(labels));
        let t_ms = at_ms.saturating_sub(group.offset_ms);
        if let Err(e) = end_series(group.source().sink.as_ref(), &series, t_ms) {
            tracing::warn!(group = group.key.label(), "ending series of a removed group failed: {e}");
        }
    }

    // ---- sources ----

    /// Puts a data source's stored groups to work; their alerts are restored. Blocks.
    pub fn add_source(&self, id: &str, source: RuleSource) -> Result<(), Error> {
        deep(|| self.load_source(id, source))
    }

    fn load_source(&self, id: &str, source: RuleSource) -> Result<(), Error> {
        let _changing = self.changing.lock();
        self.sources.write().insert(id.to_owned(), source.clone());
        for ((of, namespace, name), config) in records::load(self.store.as_ref())? {
            if of != id {
                continue;
            }
            let key = GroupKey { source: of, namespace, name, origin: Origin::Stored };
            let label = key.label();
            match self.build(key, config, &source, true) {
                Ok(group) => self.install(group),
                Err(e) => tracing::error!(group = label, "a stored rule group cannot be put to work: {e}"),
            }
        }
        Ok(())
    }

    /// Removes a data source with everything that is stored of its rules. Blocks.
    pub fn remove_source(&self, id: &str) -> Result<(), Error> {
        let _changing = self.changing.lock();
        let keys: Vec<GroupKey> = self.groups.read().keys().filter(|key| key.source == id).cloned().collect();
        let stored = keys.iter().filter(|key| key.origin == Origin::Stored);
        let changes: Vec<_> = stored.map(|key| records::change(&record_key(key), None)).collect();
        self.store.apply(&changes)?;
        self.sources.write().remove(id);
        for key in keys {
            if let Some(group) = self.groups.write().remove(&key) {
                // Its series go with the source, or are ended by age.
                group.stop();
            }
        }
        Ok(())
    }

    pub fn has_source(&self, id: &str) -> bool {
        self.sources.read().contains_key(id)
    }

    fn source(&self, id: &str) -> Result<RuleSource, Error> {
        self.sources.read().get(id).cloned().ok_or_else(|| Error::NoSource(id.to_owned()))
    }

    // ---- stored groups ----

    /// Reads, checks and stores one group, and puts it to work in place of one of the same name.
    /// Blocks until it is durable.
    pub fn set_group(&self, source: &str, namespace: &str, text: &str) -> Result<(), Error> {
        deep(|| self.store_group(source, namespace, text))
    }

    fn store_group(&self, source: &str, namespace: &str, text: &str) -> Result<(), Error> {
        let of = self.source(source)?;
        let read = read_group(text).map_err(Error::Undecodable)?;
        self.check(&of, &read)?;
        let name = read.group.name.clone();
        if !records::are_storable(&[source, namespace, &name]) {
            return Err(Error::Refused("names of groups and namespaces may not hold NUL".to_owned()));
        }
        let key = GroupKey {
            source: source.to_owned(),
            namespace: namespace.to_owned(),
            name,
            origin: Origin::Stored,
        };
        let _changing = self.changing.lock();
        self.check_number(&key)?;
        // Whatever could refuse it does so before it is stored.
        let group = self.build(key, read.group, &of, false)?;
        self.store.apply(&[records::change(&record_key(&group.key), Some(&group.config))])?;
        self.install(group);
        Ok(())
    }

    fn check(&self, source: &RuleSource, read: &ReadGroup) -> Result<(), Error> {
        let language = source.data.language();
        let group = &read.group;
        if language == crate::Language::Promql {
            check_as_mimir(group).map_err(Error::Refused)?;
        }
        let problems = check_group(read, language, 0);
        if !problems.is_empty() {
            return Err(Error::Invalid { problems });
        }
        let (limit, actual) =
            (self.around.settings.limits.now().max_rules_per_group, group.rules.len() as u64);
        if limit > 0 && actual > limit {
            return Err(Error::Refused(format!(
                "per-user rules per rule group limit (limit: {limit} actual: {actual}) exceeded"
            )));
        }
        Ok(())
    }

    fn check_number(&self, key: &GroupKey) -> Result<(), Error> {
        let limit = self.around.settings.limits.now().max_rule_groups;
        let groups = self.groups.read();
        if limit == 0 || groups.contains_key(key) {
            return Ok(());
        }
        let of_source = |k: &&GroupKey| k.source == key.source && k.origin == Origin::Stored;
        let actual = groups.keys().filter(of_source).count() as u64 + 1;
        if actual > limit {
            return Err(Error::Refused(format!(
                "per-user rule groups limit (limit: {limit} actual: {actual}) exceeded"
            )));
        }
        Ok(())
    }

    /// A stored group as it was configured.
    pub fn group(&self, source: &str, namespace: &str, name: &str) -> Result<RuleGroup, Error> {
        let key = GroupKey {
            source: source.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            origin: Origin::Stored,
        };
        self.groups.read().get(&key).map(|group| group.config.clone()).ok_or(Error::NoGroup)
    }

    /// Stored groups by namespace, of one or of all, each list by name.
    pub fn namespaces(&self, source: &str, namespace: Option<&str>) -> BTreeMap<String, Vec<RuleGroup>> {
        let mut found: BTreeMap<String, Vec<RuleGroup>> = BTreeMap::new();
        for (key, group) in self.groups.read().iter() {
            if key.source == source
                && key.origin == Origin::Stored
                && namespace.is_none_or(|wanted| wanted == key.namespace)
            {
                found.entry(key.namespace.clone()).or_default().push(group.config.clone());
            }
        }
        found
    }

    /// Removes one stored group. Blocks until that is durable.
    pub fn delete_group(&self, source: &str, namespace: &str, name: &str) -> Result<(), Error> {
        let removed = self.delete_where(source, namespace, |key| key.name == name)?;
        if removed == 0 { Err(Error::NoGroup) } else { Ok(()) }
    }

    /// Removes all stored groups of a namespace. Blocks until that is durable.
    pub fn delete_namespace(&self, source: &str, namespace: &str) -> Result<(), Error> {
        let removed = self.delete_where(source, namespace, |_| true)?;
        if removed == 0 { Err(Error::NoNamespace) } else { Ok(()) }
    }

    fn delete_where(
        &self,
        source: &str,
        namespace: &str,
        wanted: impl Fn(&GroupKey) -> bool,
    ) -> Result<usize, Error> {
        let _changing = self.changing.lock();
        let of_namespace = |key: &&GroupKey| {
            key.source == source && key.namespace == namespace && key.origin == Origin::Stored
        };
        let keys: Vec<GroupKey> =
            self.groups.read().keys().filter(of_namespace).filter(|k| wanted(k)).cloned().collect();
        if keys.is_empty() {
            return Ok(0);
        }
        let changes: Vec<_> = keys.iter().map(|key| records::change(&record_key(key), None)).collect();
        self.store.apply(&changes)?;
        for key in &keys {
            self.retire(key);
        }
        Ok(keys.len())
    }

    // ---- files ----

    /// Puts the groups of files to work in place of all that came from files before, or changes
    /// nothing; those that stay the same go on undisturbed. `is_start`: alerts are restored.
    /// Blocks.
    pub fn set_files(&self, source: &str, files: &[RuleFile], is_start: bool) -> Result<(), Error> {
        deep(|| self.replace_files(source, files, is_start))
    }

    fn replace_files(&self, source: &str, files: &[RuleFile], is_start: bool) -> Result<(), Error> {
        let of = self.source(source)?;
        let _changing = self.changing.lock();
        let mut wanted = BTreeMap::new();
        for (file, group) in files.iter().flat_map(|file| file.groups.iter().map(move |g| (file, g))) {
            let key = GroupKey {
                source: source.to_owned(),
                namespace: file.path.clone(),
                name: group.name.clone(),
                origin: Origin::File,
            };
            wanted.insert(key, group);
        }
        // Whatever could refuse a group does so before any has changed.
        let mut groups = Vec::new();
        for (key, config) in &wanted {
            let is_known = self.groups.read().get(key).is_some_and(|group| group.config == **config);
            if !is_known {
                groups.push(self.build(key.clone(), (*config).clone(), &of, is_start)?);
            }
        }
        let of_files = |key: &&GroupKey| key.source == source && key.origin == Origin::File;
        let present: Vec<GroupKey> = self.groups.read().keys().filter(of_files).cloned().collect();
        for key in present.iter().filter(|key| !wanted.contains_key(key)) {
            self.retire(key);
        }
        for group in groups {
            self.install(group);
        }
        Ok(())
    }

    // ---- groups at work ----

    fn build(
        &self,
        key: GroupKey,
        config: RuleGroup,
        source: &RuleSource,
        must_restore: bool,
    ) -> Result<Group, LoadError> {
        Group::new(key, config, source.clone(), &self.around, must_restore)
    }

    fn install(&self, group: Group) {
        let before = self.groups.read().get(&group.key).cloned();
        if let Some(before) = before {
            group.take_over(&before);
        }
        let group = Arc::new(group);
        self.groups.write().insert(group.key.clone(), Arc::clone(&group));
        let first_ms = group.slot_after(self.around.clock.now_ms());
        self.schedule.add(first_ms, Task::Evaluate { group, last_slot_ms: None });
    }

    fn retire(&self, key: &GroupKey) {
        let Some(group) = self.groups.write().remove(key) else { return };
        let (series, last_slot_ms) = group.retire();
        if series.is_empty() {
            return;
        }
        // Two intervals leave a rule of another name the time to give the same series.
        let now_ms = self.around.clock.now_ms();
        let due_ms = now_ms.saturating_add(2 * group.interval_ms);
        // After the last samples, even if those are of this very moment.
        let at_ms = last_slot_ms.map_or(now_ms, |last| now_ms.max(last.saturating_add(1)));
        self.schedule.add(due_ms, Task::End { group, series, at_ms });
    }

    // ---- what others see ----

    /// All groups of a source, by file and name.
    pub fn views(&self, source: &str) -> Vec<GroupView> {
        let groups = self.groups.read();
        groups.values().filter(|group| group.key.source == source).map(|g| GroupView::new(g)).collect()
    }

    /// The sources whose rules are at work, with the language of each.
    pub fn sources(&self) -> Vec<(String, crate::Language)> {
        self.sources.read().iter().map(|(id, source)| (id.clone(), source.data.language())).collect()
    }

    pub fn figures(&self) -> Figures {
        let (duration_counts, duration_sum_seconds) = self.around.durations.cumulative();
        Figures {
            groups: self.groups.read().values().map(|group| GroupFigures::new(group)).collect(),
            duration_bounds: DURATION_BOUNDS_S.to_vec(),
            duration_counts,
            duration_sum_seconds,
            alerts_sent: self.around.sent.load(Relaxed),
            send_failures: self.around.send_failures.load(Relaxed),
        }
    }
}

fn deep(work: impl FnOnce() -> Result<(), Error> + Send) -> Result<(), Error> {
    on_deep_stack(work).unwrap_or_else(|e| Err(SourceError::storage(e).into()))
}

fn record_key(key: &GroupKey) -> records::RecordKey {
    (key.source.clone(), key.namespace.clone(), key.name.clone())
}

/// What Mimir demands of a group beyond its rules.
fn check_as_mimir(group: &RuleGroup) -> Result<(), String> {
    let name = &group.name;
    if name.is_empty() {
        return Err("invalid rules configuration: rule group name must not be empty".to_owned());
    }
    if group.rules.is_empty() {
        return Err(format!("invalid rules configuration: rule group '{name}' has no rules"));
    }
    if !group.source_tenants.is_empty() {
        return Err(format!(
            "invalid rules configuration: rule group '{name}' is a federated rule group, but rules federation is disabled; please contact your service administrator to have it enabled"
        ));
    }
    match (group.query_offset_ms, group.evaluation_delay_ms) {
        (Some(offset), Some(delay)) if offset != delay => Err(format!(
            "invalid rules configuration: rule group '{name}' has both query_offset and (deprecated) evaluation_delay set, but to different values; please remove the deprecated evaluation_delay and use query_offset instead"
        )),
        _ => Ok(()),
    }
}
