//! A check: what is watched, how often, from which probes.

use serde::{Deserialize, Serialize};

use super::json::is_default;
use super::settings::CheckSettings;

#[derive(Clone, PartialEq, Eq, Hash, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct Label {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

/// Times `frequency`, `offset` and `timeout` are milliseconds; `created` and `modified` are
/// seconds since 1970 whose bits are kept, since series carry a number made from them.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Check {
    #[prost(int64, tag = "1")]
    pub id: i64,
    #[prost(int64, tag = "2")]
    pub tenant_id: i64,
    #[prost(int64, tag = "3")]
    pub frequency: i64,
    #[prost(int64, tag = "4")]
    pub offset: i64,
    #[prost(int64, tag = "5")]
    pub timeout: i64,
    #[prost(bool, tag = "6")]
    pub enabled: bool,
    #[prost(message, repeated, tag = "7")]
    pub labels: Vec<Label>,
    #[prost(message, optional, tag = "8")]
    pub settings: Option<CheckSettings>,
    #[prost(int64, repeated, tag = "9")]
    pub probes: Vec<i64>,
    #[prost(string, tag = "10")]
    pub target: String,
    #[prost(string, tag = "11")]
    pub job: String,
    #[prost(bool, tag = "12")]
    pub basic_metrics_only: bool,
    #[prost(string, tag = "13")]
    pub alert_sensitivity: String,
    #[prost(message, optional, tag = "14")]
    pub channels: Option<Channels>,
    #[prost(double, tag = "100")]
    pub created: f64,
    #[prost(double, tag = "101")]
    pub modified: f64,
    /// Of the published client; emptied before a check goes to a probe.
    #[prost(string, tag = "1000")]
    #[serde(skip_serializing_if = "is_default")]
    pub folder_uid: String,
}

impl Check {
    /// The label that tells one version of a check from the next: nanoseconds of the change.
    pub fn config_version(&self) -> String {
        ((self.modified * 1e9) as i64).to_string()
    }

    /// `None` where the settings are not exactly one.
    pub fn kind(&self) -> Option<CheckKind> {
        self.settings.as_ref().and_then(CheckSettings::kind)
    }
}

/// Which release of the script runner a scripted check wants; kept and handed on.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct Channels {
    #[prost(message, optional, tag = "1")]
    pub k6: Option<K6Channel>,
}

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct K6Channel {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub manifest: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CheckKind {
    Ping,
    Http,
    Dns,
    Tcp,
    Traceroute,
    Scripted,
    MultiHttp,
    Grpc,
    Browser,
}

impl CheckKind {
    /// As it stands in labels and log lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Http => "http",
            Self::Dns => "dns",
            Self::Tcp => "tcp",
            Self::Traceroute => "traceroute",
            Self::Scripted => "scripted",
            Self::MultiHttp => "multihttp",
            Self::Grpc => "grpc",
            Self::Browser => "browser",
        }
    }
}

impl CheckSettings {
    /// The one kind that is set; `None` for none or several.
    pub fn kind(&self) -> Option<CheckKind> {
        let set = [
            (self.ping.is_some(), CheckKind::Ping),
            (self.http.is_some(), CheckKind::Http),
            (self.dns.is_some(), CheckKind::Dns),
            (self.tcp.is_some(), CheckKind::Tcp),
            (self.traceroute.is_some(), CheckKind::Traceroute),
            (self.scripted.is_some(), CheckKind::Scripted),
            (self.multihttp.is_some(), CheckKind::MultiHttp),
            (self.grpc.is_some(), CheckKind::Grpc),
            (self.browser.is_some(), CheckKind::Browser),
        ];
        let mut kinds = set.into_iter().filter(|(there, _)| *there).map(|(_, kind)| kind);
        let first = kinds.next();
        if kinds.next().is_some() { None } else { first }
    }
}
