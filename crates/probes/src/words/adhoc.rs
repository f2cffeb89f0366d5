//! A check that runs once.

use serde::{Deserialize, Serialize};

use super::check::Channels;
use super::json::is_default;
use super::settings::CheckSettings;

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AdHocCheck {
    /// A UUID.
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(int64, tag = "2")]
    pub tenant_id: i64,
    /// Milliseconds.
    #[prost(int64, tag = "3")]
    pub timeout: i64,
    #[prost(message, optional, tag = "4")]
    pub settings: Option<CheckSettings>,
    #[prost(int64, repeated, tag = "5")]
    pub probes: Vec<i64>,
    #[prost(string, tag = "6")]
    pub target: String,
    #[prost(message, optional, tag = "7")]
    #[serde(skip_serializing_if = "is_default")]
    pub channels: Option<Channels>,
}
