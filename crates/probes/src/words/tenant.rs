//! Who owns checks and private probes, and where results go.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Times are seconds since 1970. `status` holds a [`TenantStatus`], `label_mode` a
/// [`LabelMode`].
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Tenant {
    #[prost(int64, tag = "1")]
    pub id: i64,
    #[prost(int64, tag = "2")]
    pub org_id: i64,
    #[prost(message, optional, tag = "3")]
    pub metrics_remote: Option<Remote>,
    #[prost(message, optional, tag = "4")]
    pub events_remote: Option<Remote>,
    #[prost(int64, tag = "5")]
    pub stack_id: i64,
    #[prost(enumeration = "TenantStatus", tag = "6")]
    pub status: i32,
    #[prost(string, tag = "7")]
    pub reason: String,
    #[prost(message, optional, tag = "8")]
    pub limits: Option<TenantLimits>,
    #[prost(string, repeated, tag = "9")]
    pub cost_attribution_labels: Vec<String>,
    #[prost(enumeration = "LabelMode", tag = "10")]
    pub label_mode: i32,
    #[prost(double, tag = "100")]
    pub created: f64,
    #[prost(double, tag = "101")]
    pub modified: f64,
    #[prost(message, optional, tag = "102")]
    pub secret_store: Option<SecretStore>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum TenantStatus {
    Active = 0,
    Disabled = 1,
}

/// How labels of checks stand on series: with a prefix on `sm_check_info` only, or otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum LabelMode {
    Prefixed = 0,
    DualWrite = 1,
    Unprefixed = 2,
}

/// Where results are pushed: the root under which `/push` is.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
#[prost(skip_debug)]
pub struct Remote {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub url: String,
    #[prost(string, tag = "3")]
    pub username: String,
    #[prost(string, tag = "4")]
    pub password: String,
}

impl Remote {
    /// What stands in answers in place of a password, and in updates for the one that is there.
    pub const MASK: &'static str = "<encrypted>";

    /// As answers over HTTP show it.
    pub fn masked(&self) -> Self {
        Self { password: Self::MASK.to_owned(), ..self.clone() }
    }
}

#[derive(Clone, Copy, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TenantLimits {
    #[prost(int64, tag = "1")]
    pub max_checks: i64,
    #[prost(int64, tag = "2")]
    pub max_scripted_checks: i64,
    #[prost(int64, tag = "3")]
    pub max_metric_labels: i64,
    #[prost(int64, tag = "4")]
    pub max_log_labels: i64,
    #[prost(int64, tag = "5")]
    pub max_browser_checks: i64,
}

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
#[prost(skip_debug)]
pub struct SecretStore {
    #[prost(string, tag = "1")]
    pub url: String,
    #[prost(string, tag = "2")]
    pub token: String,
    #[prost(double, tag = "3")]
    pub expiry: f64,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Remote(…)")
    }
}

impl fmt::Debug for SecretStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretStore(…)")
    }
}
