//! What a token may do: nine scopes, named twice (version 1 and version 1beta1 of the API).

use std::str::FromStr;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    ReadMetrics,
    WriteMetrics,
    MetricsRules,
    ReadLogs,
    WriteLogs,
    LogsRules,
    AlertManager,
    ReadTraces,
    WriteTraces,
}

impl Scope {
    pub const ALL: [Self; 9] = [
        Self::ReadMetrics,
        Self::WriteMetrics,
        Self::MetricsRules,
        Self::ReadLogs,
        Self::WriteLogs,
        Self::LogsRules,
        Self::AlertManager,
        Self::ReadTraces,
        Self::WriteTraces,
    ];

    /// The name in version 1.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReadMetrics => "read_only_metrics",
            Self::WriteMetrics => "write_only_metrics",
            Self::MetricsRules => "full_access_metrics_rules",
            Self::ReadLogs => "read_only_logs",
            Self::WriteLogs => "write_only_logs",
            Self::LogsRules => "full_access_logs_rules",
            Self::AlertManager => "full_access_alert_manager",
            Self::ReadTraces => "read_only_traces",
            Self::WriteTraces => "write_only_traces",
        }
    }

    /// The name of the boolean in version 1beta1.
    pub const fn beta_name(self) -> &'static str {
        match self {
            Self::ReadMetrics => "query_metrics",
            Self::WriteMetrics => "write_metrics",
            Self::MetricsRules => "setup_metrics_rules",
            Self::ReadLogs => "query_logs",
            Self::WriteLogs => "write_logs",
            Self::LogsRules => "setup_logs_rules",
            Self::AlertManager => "setup_alerts",
            Self::ReadTraces => "query_traces",
            Self::WriteTraces => "write_traces",
        }
    }

    const fn bit(self) -> u32 {
        1 << self as u32
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a scope")]
pub struct UnknownScope;

/// By the name in version 1. `unknown_scope`, which clients know too, is none.
impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        Self::ALL.into_iter().find(|s| s.as_str() == text).ok_or(UnknownScope)
    }
}

/// A set of scopes. Scopes add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Scopes(u32);

impl Scopes {
    pub const NONE: Self = Self(0);

    pub fn contains(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    /// Whether any of these is among them.
    pub fn intersects(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// In the order of [`Scope::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |s| self.contains(*s))
    }

    pub(crate) fn bits(self) -> u32 {
        self.0
    }

    /// Bits of scopes that this release does not know are left out.
    pub(crate) fn from_bits(bits: u32) -> Self {
        Scope::ALL.into_iter().filter(|s| bits & s.bit() != 0).collect()
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | scope.bit()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_a_set_with_two_names_each() {
        let all: Scopes = Scope::ALL.into_iter().collect();
        assert_eq!(all.iter().collect::<Vec<_>>(), Scope::ALL);
        assert_eq!(Scopes::from_bits(u32::MAX), all);
        for scope in Scope::ALL {
            assert_eq!(scope.as_str().parse(), Ok(scope));
            assert!(!Scopes::NONE.contains(scope) && !scope.beta_name().is_empty());
        }
        assert!("unknown_scope".parse::<Scope>().is_err());
        let reads: Scopes = [Scope::ReadLogs, Scope::ReadMetrics].into_iter().collect();
        assert!(reads.intersects(all) && !reads.intersects(Scopes::from_iter([Scope::WriteLogs])));
    }
}
