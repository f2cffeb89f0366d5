//! Changes of alerts' states, on their way from the rulers to the history.

use std::collections::VecDeque;

use parking_lot::Mutex;
use pilothouse_alertmanager::history::{EventKind, RuleChange};
use pilothouse_model::sample::format_float;
use pilothouse_rules::{AlertState, GroupKey, Transition, TransitionObserver};

/// Changes that wait to be taken. The newest stay where more come than the history holds: an
/// evaluation waits for nobody.
#[derive(Debug)]
pub(crate) struct Transitions {
    waiting: Mutex<VecDeque<RuleChange>>,
    most: usize,
}

impl Transitions {
    pub(crate) fn new(most: usize) -> Self {
        Self { waiting: Mutex::default(), most }
    }

    /// All that happened since the last call, in order.
    pub(crate) fn take(&self) -> VecDeque<RuleChange> {
        std::mem::take(&mut *self.waiting.lock())
    }
}

impl TransitionObserver for Transitions {
    fn changed(&self, group: &GroupKey, _rule: &str, transitions: &[Transition]) {
        let mut waiting = self.waiting.lock();
        for transition in transitions {
            if waiting.len() >= self.most {
                waiting.pop_front();
            }
            waiting.push_back(change(group, transition));
        }
    }
}

fn change(group: &GroupKey, transition: &Transition) -> RuleChange {
    RuleChange {
        at_ms: transition.at_ms,
        kind: match transition.to {
            AlertState::Inactive => EventKind::RuleInactive,
            AlertState::Pending => EventKind::RulePending,
            AlertState::Firing => EventKind::RuleFiring,
        },
        labels: transition.labels.clone(),
        data_source: group.source.clone(),
        group: group.label(),
        value: format_float(transition.value),
        was: transition.from.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use pilothouse_model::Labels;
    use pilothouse_rules::Origin;

    use super::*;

    #[test]
    fn the_newest_changes_wait_and_are_taken_once() {
        let transitions = Transitions::new(2);
        let group = GroupKey {
            source: "s".to_owned(),
            namespace: "ns".to_owned(),
            name: "g".to_owned(),
            origin: Origin::Stored,
        };
        let changes: Vec<Transition> = (0..3)
            .map(|at_ms| Transition {
                labels: Labels::from_pairs([("alertname", "A")]),
                annotations: Arc::new(BTreeMap::new()),
                from: AlertState::Pending,
                to: AlertState::Firing,
                value: 1.5,
                at_ms,
            })
            .collect();
        transitions.changed(&group, "A", &changes);
        let taken = transitions.take();
        assert_eq!(taken.iter().map(|change| change.at_ms).collect::<Vec<_>>(), [1, 2]);
        let last = &taken[1];
        assert_eq!((last.kind, last.was, last.value.as_str()), (EventKind::RuleFiring, "pending", "1.5"));
        assert_eq!((last.group.as_str(), last.data_source.as_str()), ("ns;g", "s"));
        assert!(transitions.take().is_empty());
    }
}
