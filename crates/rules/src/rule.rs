//! One rule at work: what it says, read once, and what is known of it.

use std::sync::Arc;
use std::time::Duration;

use pilothouse_query::template::TemplateError;

use crate::alerting::{Alerting, Alerts};
use crate::expression::{Expression, ExpressionError, Language};
use crate::format::{Rule, RuleGroup};
use crate::links;
use crate::recording::Recording;
use crate::written::WriteError;

/// Why an evaluation of a rule failed; the text is what the list of rules shows.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum RuleError {
    #[error(transparent)]
    Expression(#[from] ExpressionError),
    #[error("vector contains metrics with the same labelset after applying rule labels")]
    DuplicateSeries,
    #[error("vector contains metrics with the same labelset after applying alert labels")]
    DuplicateAlerts,
    #[error("exceeded limit of {limit} with {series} series")]
    TooManySeries { limit: i64, series: usize },
    #[error("exceeded limit of {limit} with {alerts} alerts")]
    TooManyAlerts { limit: i64, alerts: usize },
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Why a rule cannot be put to work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    #[error("could not parse expression: {0}")]
    Expression(String),
    #[error(transparent)]
    Template(#[from] TemplateError),
}

#[derive(Debug)]
pub(crate) enum Kind {
    Recording(Recording),
    Alerting(Box<Alerting>),
}

impl Kind {
    /// Whether the series that it writes are those of its alerts.
    pub(crate) fn shares_series(&self) -> bool {
        matches!(self, Self::Alerting(_))
    }
}

/// What a rule says, in a form that evaluates without reading anything again.
#[derive(Debug)]
pub(crate) struct LiveRule {
    /// As configured, with the group's labels under its own.
    pub(crate) config: Rule,
    pub(crate) expression: Expression,
    /// The expression as it is shown.
    pub(crate) shown: Arc<str>,
    pub(crate) generator_url: String,
    pub(crate) kind: Kind,
}

impl LiveRule {
    pub(crate) fn new(
        language: Language,
        group: &RuleGroup,
        rule: &Rule,
        external_url: &str,
    ) -> Result<Self, LoadError> {
        let expression = Expression::parse(language, &rule.expr).map_err(LoadError::Expression)?;
        let shown = expression.to_string();
        let mut labels = group.labels.clone();
        labels.extend(rule.labels.clone());
        let kind = if rule.alert.is_empty() {
            Kind::Recording(Recording::new(&rule.record, &labels))
        } else {
            let times = (rule.for_ms, rule.keep_firing_for_ms);
            Kind::Alerting(Box::new(Alerting::new(&rule.alert, &labels, &rule.annotations, times)?))
        };
        Ok(Self {
            config: Rule { labels, ..rule.clone() },
            expression,
            generator_url: format!("{external_url}{}", links::table(&shown)),
            shown: shown.into(),
            kind,
        })
    }

    /// What makes it the same rule in another configuration.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.config.name() == other.config.name()
            && self.config.alert.is_empty() == other.config.alert.is_empty()
            && self.config.labels == other.config.labels
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Not evaluated yet.
    Unknown,
    Good,
    Bad,
}

impl Health {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Good => "ok",
            Self::Bad => "err",
        }
    }
}

/// What is known of a rule.
#[derive(Debug)]
pub(crate) struct RuleState {
    pub(crate) health: Health,
    pub(crate) last_error: Option<Arc<str>>,
    pub(crate) evaluated_at_ms: Option<i64>,
    pub(crate) took: Duration,
    pub(crate) alerts: Alerts,
}

impl RuleState {
    pub(crate) fn new(is_restored: bool) -> Self {
        Self {
            health: Health::Unknown,
            last_error: None,
            evaluated_at_ms: None,
            took: Duration::ZERO,
            alerts: Alerts::new(is_restored),
        }
    }

    pub(crate) fn failed(&mut self, error: &RuleError) {
        self.health = Health::Bad;
        self.last_error = Some(Arc::from(error.to_string()));
    }

    pub(crate) fn succeeded(&mut self) {
        self.health = Health::Good;
        self.last_error = None;
    }
}
