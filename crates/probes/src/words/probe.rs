//! A place that checks run from.

use serde::{Deserialize, Serialize};

use super::check::Label;

/// Times are seconds since 1970.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Probe {
    #[prost(int64, tag = "1")]
    pub id: i64,
    #[prost(int64, tag = "2")]
    pub tenant_id: i64,
    #[prost(string, tag = "3")]
    pub name: String,
    #[prost(float, tag = "4")]
    pub latitude: f32,
    #[prost(float, tag = "5")]
    pub longitude: f32,
    #[prost(message, repeated, tag = "6")]
    pub labels: Vec<Label>,
    #[prost(string, tag = "7")]
    pub region: String,
    #[prost(bool, tag = "8")]
    pub public: bool,
    #[prost(bool, tag = "9")]
    pub online: bool,
    #[prost(double, tag = "10")]
    pub online_change: f64,
    #[prost(string, tag = "11")]
    pub version: String,
    #[prost(string, tag = "12")]
    pub commit: String,
    #[prost(string, tag = "13")]
    pub buildstamp: String,
    #[prost(bool, tag = "14")]
    pub deprecated: bool,
    #[prost(double, tag = "100")]
    pub created: f64,
    #[prost(double, tag = "101")]
    pub modified: f64,
    #[prost(message, optional, tag = "102")]
    pub capabilities: Option<Capabilities>,
}

#[derive(Clone, Copy, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Capabilities {
    #[prost(bool, tag = "1")]
    pub disable_scripted_checks: bool,
    #[prost(bool, tag = "2")]
    pub disable_browser_checks: bool,
    #[prost(bool, tag = "3")]
    pub enable_protocol_secrets: bool,
}
