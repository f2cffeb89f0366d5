//! Checks of several requests in order, with variables from one to the next.

use serde::{Deserialize, Serialize};

use super::choices::http_method;
use super::json::{self, is_default};

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MultiHttpSettings {
    #[prost(message, repeated, tag = "1")]
    pub entries: Vec<MultiHttpEntry>,
    #[prost(bool, tag = "2")]
    #[serde(rename = "logResponseBodies", skip_serializing_if = "is_default")]
    pub log_responses: bool,
}

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct MultiHttpEntry {
    #[prost(message, optional, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub request: Option<MultiHttpRequest>,
    #[prost(message, repeated, tag = "2")]
    #[serde(rename = "checks", skip_serializing_if = "is_default")]
    pub assertions: Vec<MultiHttpAssertion>,
    #[prost(message, repeated, tag = "3")]
    #[serde(skip_serializing_if = "is_default")]
    pub variables: Vec<MultiHttpVariable>,
}

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MultiHttpRequest {
    #[prost(int32, tag = "1")]
    #[serde(with = "http_method")]
    pub method: i32,
    /// May hold `${name}`, as may query fields, header values and bodies.
    #[prost(string, tag = "2")]
    pub url: String,
    #[prost(message, repeated, tag = "3")]
    #[serde(skip_serializing_if = "is_default")]
    pub headers: Vec<HttpHeader>,
    #[prost(message, repeated, tag = "4")]
    #[serde(skip_serializing_if = "is_default")]
    pub query_fields: Vec<QueryField>,
    #[prost(message, optional, tag = "5")]
    #[serde(skip_serializing_if = "is_default")]
    pub body: Option<HttpRequestBody>,
}

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpHeader {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct QueryField {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HttpRequestBody {
    #[prost(string, tag = "1")]
    pub content_type: String,
    #[prost(string, tag = "2")]
    #[serde(skip_serializing_if = "is_default")]
    pub content_encoding: String,
    #[prost(bytes = "vec", tag = "3")]
    #[serde(with = "json::bytes")]
    pub payload: Vec<u8>,
}

/// What an assertion looks for. A number in JSON too, as are the next three.
#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum AssertionType {
    Text = 0,
    JsonPathValue = 1,
    JsonPathAssertion = 2,
    RegexAssertion = 3,
}

/// The default is the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum AssertionSubject {
    Default = 0,
    ResponseHeaders = 1,
    HttpStatusCode = 2,
    ResponseBody = 3,
}

/// The default is to contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum AssertionCondition {
    Default = 0,
    NotContains = 1,
    Equals = 2,
    StartsWith = 3,
    EndsWith = 4,
    TypeOf = 5,
    Contains = 6,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum VariableType {
    JsonPath = 0,
    Regex = 1,
    CssSelector = 2,
}

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct MultiHttpAssertion {
    #[prost(enumeration = "AssertionType", tag = "1")]
    #[serde(rename = "type")]
    pub kind: i32,
    #[prost(enumeration = "AssertionSubject", tag = "2")]
    #[serde(skip_serializing_if = "is_default")]
    pub subject: i32,
    #[prost(enumeration = "AssertionCondition", tag = "3")]
    #[serde(skip_serializing_if = "is_default")]
    pub condition: i32,
    #[prost(string, tag = "4")]
    #[serde(skip_serializing_if = "is_default")]
    pub expression: String,
    #[prost(string, tag = "5")]
    #[serde(skip_serializing_if = "is_default")]
    pub value: String,
}

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct MultiHttpVariable {
    #[prost(enumeration = "VariableType", tag = "1")]
    #[serde(rename = "type")]
    pub kind: i32,
    #[prost(string, tag = "2")]
    #[serde(skip_serializing_if = "is_default")]
    pub name: String,
    #[prost(string, tag = "3")]
    #[serde(skip_serializing_if = "is_default")]
    pub expression: String,
    /// Of the first hit of a CSS selector; unsaid, what is inside it.
    #[prost(string, tag = "4")]
    #[serde(skip_serializing_if = "is_default")]
    pub attribute: String,
}
