//! Looks at all alerts, slice by slice: a hundred thousand of them may meet ten thousand rules, and
//! others want the engine meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::MutexGuard;

use super::Alertmanager;
use crate::alert::{Held, order};
use crate::engine::{AlertFilter, AlertView, Engine, GroupView};
use crate::work::Slice;

/// So many alerts met so many routes, rules and silences that there was no end to it.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("it took longer than {0} ms (limit query_timeout_ms) to go through the alerts; try again with fewer")]
pub struct TooLong(u64);

/// How long one request may go through alerts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    most_ms: u64,
    /// `None`: for ever.
    until: Option<Instant>,
}

impl Patience {
    pub(super) fn check(self) -> Result<(), TooLong> {
        match self.until {
            Some(until) if Instant::now() >= until => Err(TooLong(self.most_ms)),
            _ => Ok(()),
        }
    }
}

impl Alertmanager {
    pub(super) fn patience(&self) -> Patience {
        let most_ms = self.shared.options.limits.now().query_timeout_ms;
        Patience { most_ms, until: Instant::now().checked_add(Duration::from_millis(most_ms)) }
    }

    /// Alerts that are not over, by fingerprint. May take long where very many meet very many
    /// rules.
    pub fn alerts(&self, filter: &AlertFilter) -> Result<Vec<AlertView>, TooLong> {
        let now_ms = self.now_ms();
        let (viewer, pending) = {
            let engine = self.engine();
            (engine.viewer(filter), engine.pending(now_ms))
        };
        let mut views = Vec::new();
        self.in_slices(&pending, |engine, alert, slice| {
            views.extend(viewer.view(engine, alert, now_ms, slice));
        })?;
        Ok(views)
    }

    /// Groups with alerts that are not over, by labels and receiver. As long as the alerts may take.
    pub fn groups(&self, filter: &AlertFilter) -> Result<Vec<GroupView>, TooLong> {
        let now_ms = self.now_ms();
        let (viewer, pending, setup) = {
            let engine = self.engine();
            let viewer = engine.viewer(filter);
            let pending = engine.pending_groups(&viewer, now_ms);
            (viewer, pending, engine.setup().cloned())
        };
        let Some(setup) = setup else { return Ok(Vec::new()) };
        let mut groups = Vec::new();
        let each = pending.iter().enumerate().flat_map(|(i, group)| group.alerts.iter().map(move |a| (i, a)));
        let each: Vec<(usize, &Arc<Held>)> = each.collect();
        let mut views: Vec<Vec<AlertView>> = pending.iter().map(|_| Vec::new()).collect();
        self.in_slices(&each, |engine, (i, alert), slice| {
            if let (Some(group), Some(views)) = (pending.get(*i), views.get_mut(*i)) {
                views.extend(viewer.view_in(engine, group, alert, now_ms, slice));
            }
        })?;
        drop(each);
        for (group, mut views) in pending.into_iter().zip(views) {
            if !views.is_empty() {
                views.sort_by(|a, b| order(&a.alert.labels, &b.alert.labels));
                groups.push(group.shown(views, &setup, now_ms));
            }
        }
        Ok(groups)
    }

    /// Does something with each item under the engine's lock, and lets others have it in between.
    fn in_slices<T>(
        &self,
        items: &[T],
        mut work: impl FnMut(&mut Engine, &T, &mut Slice),
    ) -> Result<(), TooLong> {
        let patience = self.patience();
        let mut items = items.iter().peekable();
        while items.peek().is_some() {
            patience.check()?;
            let mut engine = self.engine();
            let mut slice = Slice::new();
            while let Some(item) = items.next_if(|_| !slice.is_over()) {
                work(&mut engine, item, &mut slice);
            }
            MutexGuard::unlock_fair(engine);
        }
        Ok(())
    }
}
