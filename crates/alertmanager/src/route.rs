//! The routing tree.

use std::collections::BTreeMap;

use pilothouse_model::{Labels, Matcher};

use crate::config::RouteOptions;
use crate::matchers::{braced, match_all};
use crate::selector::Selector;
use crate::work::Slice;

/// What alerts are grouped by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GroupBy {
    All,
    Names(Vec<String>),
}

/// A node with everything it inherits.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) receiver: String,
    group_by: GroupBy,
    pub(crate) group_wait_ms: i64,
    pub(crate) group_interval_ms: i64,
    pub(crate) repeat_interval_ms: i64,
    pub(crate) mute: Vec<String>,
    pub(crate) active: Vec<String>,
    pub(crate) labels: BTreeMap<String, String>,
    matchers: Vec<Matcher>,
    goes_on: bool,
    /// In their order, by what they ask for.
    children: Selector<usize>,
    /// The matchers of the path from the root, joined by slashes.
    pub(crate) key: String,
}

/// All nodes; the root is the first.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    routes: Vec<Route>,
}

impl Tree {
    pub(crate) fn new(root: &RouteOptions) -> Self {
        let base = Route {
            receiver: String::new(),
            group_by: GroupBy::Names(Vec::new()),
            group_wait_ms: 30_000,
            group_interval_ms: 5 * 60_000,
            repeat_interval_ms: 4 * 3_600_000,
            mute: Vec::new(),
            active: Vec::new(),
            labels: BTreeMap::new(),
            matchers: Vec::new(),
            goes_on: false,
            children: Selector::default(),
            key: String::new(),
        };
        let mut tree = Self { routes: Vec::new() };
        tree.add(root, &base, true);
        tree
    }

    /// Adds a node and those below it. Matchers and intervals are not inherited.
    fn add(&mut self, options: &RouteOptions, parent: &Route, is_root: bool) -> usize {
        let matchers = options.all_matchers();
        let own = braced(&matchers);
        let group_by = match &options.group_by {
            None => parent.group_by.clone(),
            Some(names) if names.iter().any(|n| n == "...") => GroupBy::All,
            Some(names) => GroupBy::Names(names.clone()),
        };
        let mut labels = parent.labels.clone();
        labels.extend(options.labels.clone());
        let route = Route {
            receiver: if options.receiver.is_empty() {
                parent.receiver.clone()
            } else {
                options.receiver.clone()
            },
            group_by,
            group_wait_ms: options.group_wait.map_or(parent.group_wait_ms, |d| d.0),
            group_interval_ms: options.group_interval.map_or(parent.group_interval_ms, |d| d.0),
            repeat_interval_ms: options.repeat_interval.map_or(parent.repeat_interval_ms, |d| d.0),
            mute: options.mute_time_intervals.clone(),
            active: options.active_time_intervals.clone(),
            labels,
            matchers,
            goes_on: options.goes_on,
            children: Selector::default(),
            key: if is_root { own } else { format!("{}/{own}", parent.key) },
        };
        let at = self.routes.len();
        self.routes.push(route.clone());
        for child in &options.routes {
            let child = self.add(child, &route, false);
            let asked = self.routes.get(child).map(|c| c.matchers.clone()).unwrap_or_default();
            if let Some(node) = self.routes.get_mut(at) {
                node.children.insert(child, &asked);
            }
        }
        at
    }

    pub(crate) fn get(&self, index: usize) -> Option<&Route> {
        self.routes.get(index)
    }

    /// The nodes that take an alert: depth first, the first child that matches, and later ones
    /// where it says `continue`; the node itself where no child does.
    pub(crate) fn matching(&self, labels: &Labels, slice: &mut Slice) -> Vec<usize> {
        let mut found = Vec::new();
        self.collect(0, labels, &mut found, slice);
        found
    }

    fn collect(&self, at: usize, labels: &Labels, found: &mut Vec<usize>, slice: &mut Slice) -> bool {
        slice.spend(1);
        let Some(route) = self.routes.get(at).filter(|r| match_all(&r.matchers, labels)) else {
            return false;
        };
        let before = found.len();
        for child in route.children.candidates(labels) {
            let goes_on = self.routes.get(*child).is_some_and(|r| r.goes_on);
            if self.collect(*child, labels, found, slice) && !goes_on {
                break;
            }
        }
        if found.len() == before {
            found.push(at);
        }
        true
    }
}

impl Route {
    /// The labels of the group that an alert falls into.
    pub(crate) fn group_labels(&self, labels: &Labels) -> Labels {
        match &self.group_by {
            GroupBy::All => labels.clone(),
            GroupBy::Names(names) => labels.filter(|name| names.iter().any(|n| n == name)),
        }
    }

    /// The name of a group in the notification log and in payloads.
    pub(crate) fn group_key(&self, group: &Labels) -> String {
        format!("{}:{group}", self.key)
    }
}
