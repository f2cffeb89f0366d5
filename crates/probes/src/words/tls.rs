//! Encryption and credentials, shared by several kinds of checks. What may hold a secret prints
//! as its name alone.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::check::Label;
use super::json::{self, is_default};

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[prost(skip_debug)]
pub struct TlsConfig {
    #[prost(bool, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub insecure_skip_verify: bool,
    /// PEM, as are the next two.
    #[prost(bytes = "vec", tag = "2")]
    #[serde(with = "json::bytes", skip_serializing_if = "is_default")]
    pub ca_cert: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    #[serde(with = "json::bytes", skip_serializing_if = "is_default")]
    pub client_cert: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    #[serde(with = "json::bytes", skip_serializing_if = "is_default")]
    pub client_key: Vec<u8>,
    #[prost(string, tag = "5")]
    #[serde(skip_serializing_if = "is_default")]
    pub server_name: String,
}

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[prost(skip_debug)]
pub struct BasicAuth {
    #[prost(string, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub username: String,
    #[prost(string, tag = "2")]
    #[serde(skip_serializing_if = "is_default")]
    pub password: String,
}

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[prost(skip_debug)]
pub struct OAuth2Config {
    #[prost(string, tag = "1")]
    pub client_id: String,
    #[prost(string, tag = "2")]
    pub client_secret: String,
    #[prost(string, tag = "3")]
    #[serde(rename = "tokenURL")]
    pub token_url: String,
    #[prost(string, repeated, tag = "4")]
    #[serde(skip_serializing_if = "is_default")]
    pub scopes: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    #[serde(skip_serializing_if = "is_default")]
    pub endpoint_params: Vec<Label>,
    #[prost(message, optional, tag = "6")]
    #[serde(skip_serializing_if = "is_default")]
    pub tls_config: Option<TlsConfig>,
    #[prost(string, tag = "7")]
    #[serde(rename = "proxyURL", skip_serializing_if = "is_default")]
    pub proxy_url: String,
}

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsConfig(…)")
    }
}

impl fmt::Debug for BasicAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BasicAuth(…)")
    }
}

impl fmt::Debug for OAuth2Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OAuth2Config(…)")
    }
}
