//! The settings of each kind of check.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::choices::{compression, dns_protocol, dns_record_type, http_method, ip_version};
use super::json::{self, is_default};
use super::multihttp::MultiHttpSettings;
use super::tls::{BasicAuth, OAuth2Config, TlsConfig};

/// Exactly one of these is there in a check that holds.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
#[prost(skip_debug)]
pub struct CheckSettings {
    #[prost(message, optional, tag = "1")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ping: Option<PingSettings>,
    #[prost(message, optional, tag = "2")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpSettings>,
    #[prost(message, optional, tag = "3")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<DnsSettings>,
    #[prost(message, optional, tag = "4")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpSettings>,
    #[prost(message, optional, tag = "5")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceroute: Option<TracerouteSettings>,
    #[prost(message, optional, tag = "6")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scripted: Option<ScriptedSettings>,
    #[prost(message, optional, tag = "7")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multihttp: Option<MultiHttpSettings>,
    #[prost(message, optional, tag = "8")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc: Option<GrpcSettings>,
    #[prost(message, optional, tag = "9")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub browser: Option<BrowserSettings>,
}

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PingSettings {
    #[prost(int32, tag = "1")]
    #[serde(with = "ip_version")]
    pub ip_version: i32,
    #[prost(string, tag = "2")]
    #[serde(skip_serializing_if = "is_default")]
    pub source_ip_address: String,
    #[prost(int64, tag = "3")]
    #[serde(skip_serializing_if = "is_default")]
    pub payload_size: i64,
    #[prost(bool, tag = "4")]
    pub dont_fragment: bool,
    /// 0: three packets, of which one must return; otherwise all must.
    #[prost(int64, tag = "900")]
    pub packet_count: i64,
}

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[prost(skip_debug)]
pub struct HttpSettings {
    #[prost(int32, tag = "1")]
    #[serde(with = "ip_version")]
    pub ip_version: i32,
    #[prost(int32, tag = "2")]
    #[serde(with = "http_method")]
    pub method: i32,
    /// `Name: value`.
    #[prost(string, repeated, tag = "3")]
    #[serde(skip_serializing_if = "is_default")]
    pub headers: Vec<String>,
    #[prost(string, tag = "4")]
    #[serde(deserialize_with = "json::text_or_parts", skip_serializing_if = "is_default")]
    pub body: String,
    #[prost(bool, tag = "5")]
    pub no_follow_redirects: bool,
    #[prost(message, optional, tag = "100")]
    #[serde(skip_serializing_if = "is_default")]
    pub tls_config: Option<TlsConfig>,
    #[prost(message, optional, tag = "101")]
    #[serde(skip_serializing_if = "is_default")]
    pub basic_auth: Option<BasicAuth>,
    #[prost(string, tag = "102")]
    #[serde(skip_serializing_if = "is_default")]
    pub bearer_token: String,
    #[prost(string, tag = "103")]
    #[serde(rename = "proxyURL", skip_serializing_if = "is_default")]
    pub proxy_url: String,
    #[prost(message, optional, tag = "104")]
    #[serde(skip_serializing_if = "is_default")]
    pub oauth2_config: Option<OAuth2Config>,
    #[prost(string, repeated, tag = "105")]
    #[serde(skip_serializing_if = "is_default")]
    pub proxy_connect_headers: Vec<String>,
    #[prost(bool, tag = "200")]
    #[serde(rename = "failIfSSL")]
    pub fail_if_ssl: bool,
    #[prost(bool, tag = "201")]
    #[serde(rename = "failIfNotSSL")]
    pub fail_if_not_ssl: bool,
    #[prost(int32, repeated, tag = "202")]
    #[serde(skip_serializing_if = "is_default")]
    pub valid_status_codes: Vec<i32>,
    #[prost(string, repeated, tag = "203")]
    #[serde(rename = "validHTTPVersions", skip_serializing_if = "is_default")]
    pub valid_http_versions: Vec<String>,
    #[prost(string, repeated, tag = "204")]
    #[serde(skip_serializing_if = "is_default")]
    pub fail_if_body_matches_regexp: Vec<String>,
    #[prost(string, repeated, tag = "205")]
    #[serde(skip_serializing_if = "is_default")]
    pub fail_if_body_not_matches_regexp: Vec<String>,
    #[prost(message, repeated, tag = "206")]
    #[serde(skip_serializing_if = "is_default")]
    pub fail_if_header_matches_regexp: Vec<HeaderMatch>,
    #[prost(message, repeated, tag = "207")]
    #[serde(skip_serializing_if = "is_default")]
    pub fail_if_header_not_matches_regexp: Vec<HeaderMatch>,
    #[prost(int32, tag = "208")]
    #[serde(with = "compression", skip_serializing_if = "is_default")]
    pub compression: i32,
    #[prost(string, tag = "900")]
    #[serde(skip_serializing_if = "is_default")]
    pub cache_busting_query_param_name: String,
    #[prost(bool, tag = "901")]
    #[serde(skip_serializing_if = "is_default")]
    pub secret_manager_enabled: bool,
}

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HeaderMatch {
    #[prost(string, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub header: String,
    #[prost(string, tag = "2")]
    #[serde(skip_serializing_if = "is_default")]
    pub regexp: String,
    #[prost(bool, tag = "3")]
    #[serde(skip_serializing_if = "is_default")]
    pub allow_missing: bool,
}

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DnsSettings {
    #[prost(int32, tag = "1")]
    #[serde(with = "ip_version")]
    pub ip_version: i32,
    #[prost(string, tag = "2")]
    #[serde(skip_serializing_if = "is_default")]
    pub source_ip_address: String,
    #[prost(string, tag = "3")]
    pub server: String,
    /// 0 means 53.
    #[prost(int32, tag = "4")]
    pub port: i32,
    #[prost(int32, tag = "5")]
    #[serde(with = "dns_record_type")]
    pub record_type: i32,
    #[prost(int32, tag = "6")]
    #[serde(with = "dns_protocol")]
    pub protocol: i32,
    /// The published page has another spelling.
    #[prost(string, repeated, tag = "200")]
    #[serde(rename = "validRCodes", alias = "validRCode", skip_serializing_if = "is_default")]
    pub valid_rcodes: Vec<String>,
    #[prost(message, optional, tag = "201")]
    #[serde(rename = "validateAnswerRRS", skip_serializing_if = "is_default")]
    pub validate_answer: Option<DnsValidator>,
    #[prost(message, optional, tag = "202")]
    #[serde(rename = "validateAuthorityRRS", skip_serializing_if = "is_default")]
    pub validate_authority: Option<DnsValidator>,
    /// The published page has another spelling here too.
    #[prost(message, optional, tag = "203")]
    #[serde(
        rename = "validateAdditionalRRS",
        alias = "validateAditionalRRS",
        skip_serializing_if = "is_default"
    )]
    pub validate_additional: Option<DnsValidator>,
}

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DnsValidator {
    #[prost(string, repeated, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub fail_if_matches_regexp: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    #[serde(skip_serializing_if = "is_default")]
    pub fail_if_not_matches_regexp: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TcpSettings {
    #[prost(int32, tag = "1")]
    #[serde(with = "ip_version")]
    pub ip_version: i32,
    #[prost(string, tag = "2")]
    #[serde(skip_serializing_if = "is_default")]
    pub source_ip_address: String,
    #[prost(bool, tag = "3")]
    #[serde(skip_serializing_if = "is_default")]
    pub tls: bool,
    #[prost(message, optional, tag = "4")]
    #[serde(skip_serializing_if = "is_default")]
    pub tls_config: Option<TlsConfig>,
    #[prost(message, repeated, tag = "5")]
    #[serde(skip_serializing_if = "is_default")]
    pub query_response: Vec<TcpQueryResponse>,
}

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TcpQueryResponse {
    #[prost(bytes = "vec", tag = "1")]
    #[serde(with = "json::bytes")]
    pub send: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    #[serde(with = "json::bytes")]
    pub expect: Vec<u8>,
    #[prost(bool, tag = "3")]
    #[serde(rename = "startTLS", skip_serializing_if = "is_default")]
    pub start_tls: bool,
}

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TracerouteSettings {
    /// 0 means 64.
    #[prost(int64, tag = "1")]
    pub max_hops: i64,
    /// 0 means 15.
    #[prost(int64, tag = "2")]
    pub max_unknown_hops: i64,
    #[prost(bool, tag = "3")]
    pub ptr_lookup: bool,
    /// Milliseconds; 0 means 500.
    #[prost(int64, tag = "4")]
    pub hop_timeout: i64,
}

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GrpcSettings {
    #[prost(int32, tag = "1")]
    #[serde(with = "ip_version")]
    pub ip_version: i32,
    #[prost(string, tag = "2")]
    #[serde(skip_serializing_if = "is_default")]
    pub service: String,
    #[prost(bool, tag = "3")]
    #[serde(skip_serializing_if = "is_default")]
    pub tls: bool,
    #[prost(message, optional, tag = "4")]
    #[serde(skip_serializing_if = "is_default")]
    pub tls_config: Option<TlsConfig>,
}

/// Read so that it can be refused by name.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct ScriptedSettings {
    #[prost(bytes = "vec", tag = "1")]
    #[serde(with = "json::bytes")]
    pub script: Vec<u8>,
}

/// Read so that it can be refused by name.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct BrowserSettings {
    #[prost(bytes = "vec", tag = "1")]
    #[serde(with = "json::bytes")]
    pub script: Vec<u8>,
}

/// Settings of any kind may hold secrets.
impl fmt::Debug for CheckSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CheckSettings({})", self.kind().map_or("invalid", |kind| kind.name()))
    }
}

impl fmt::Debug for HttpSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HttpSettings(…)")
    }
}
