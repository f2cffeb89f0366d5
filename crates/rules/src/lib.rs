//! Recording and alerting rules over metrics and over logs: both rulers.
//!
//! What it promises: groups run at slots of their own, at the slot's time whatever the delay; rules
//! of a group one after the other, each seeing what the earlier ones wrote; groups side by side
//! on a fixed number of threads. A group that is replaced keeps the alerts and series of rules
//! that stay the same; series of rules that go are ended. After a restart alerts find back to the
//! time since which they wait. What it does not: evaluate slots that were missed, or keep
//! alerts that the Alertmanager did not take other than by sending them again.
//!
//! Its words: a *source* is a data source with its rules' way in and out; a *namespace* takes the
//! place of a rule file; a *slot* is a time at which a group is due; what a rule *gives* are the
//! series of its last evaluation.
//!
//! Nothing here knows HTTP. Calls that set or remove groups block until that is durable, and wait
//! for an evaluation of the group that runs.
//!
//! Reading order: [`mod@format`] (what is written), `expression`, `template`, `overlay` (what a rule
//! says), `recording`, `alerting` (what it makes of a result), `written` (what it writes), `rule`,
//! `group` (one evaluation), `restore`, `settings`, `records`, `files`, `schedule`, `ruler` (all
//! of them), `view` (what others see). [`unittest`] runs files of tests as promtool does.

mod alerting;
pub mod expression;
mod files;
pub mod format;
mod group;
pub mod links;
mod memory;
mod overlay;
mod recording;
mod records;
mod restore;
mod rule;
mod ruler;
mod schedule;
mod settings;
mod source;
mod stack;
mod template;
pub mod unittest;
mod view;
mod written;

pub use alerting::{ActiveAlert, AlertState, Transition};
pub use expression::Language;
pub use files::{Checked, FileError, RuleFile, check_rules, load_files};
pub use format::{Rule, RuleGroup};
pub use group::{GroupKey, Origin};
pub use memory::MemorySeries;
pub use rule::Health;
pub use ruler::{Error, Parts, Ruler};
pub use settings::{Settings, TransitionObserver};
pub use source::{Data, RuleSource};
pub use template::try_text;
pub use view::{Figures, GroupFigures, GroupView, RuleKind, RuleView};

#[cfg(test)]
mod tests;
