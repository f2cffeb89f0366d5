//! Messages between the server and private probes (package `synthetic_monitoring`).

use crate::words::{AdHocCheck, Check, Probe, Tenant};

#[derive(Clone, PartialEq, prost::Message)]
pub struct ProbeInfo {
    #[prost(string, tag = "1")]
    pub version: String,
    #[prost(string, tag = "2")]
    pub commit: String,
    #[prost(string, tag = "3")]
    pub buildstamp: String,
    #[prost(bool, tag = "4")]
    pub supports_protocol_secrets: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct RegisterAnswer {
    #[prost(message, optional, tag = "1")]
    pub probe: Option<Probe>,
    #[prost(message, optional, tag = "2")]
    pub status: Option<Status>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Status {
    #[prost(enumeration = "StatusCode", tag = "1")]
    pub code: i32,
    #[prost(string, tag = "2")]
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum StatusCode {
    Ok = 0,
    NotFound = 1,
    InvalidArgument = 2,
    AlreadyExists = 3,
    InternalError = 4,
    NotAuthorized = 5,
}

/// The answer of calls that only take something.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StatusAnswer {
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
}

/// What a probe runs when it connects.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ProbeState {
    #[prost(message, repeated, tag = "1")]
    pub checks: Vec<EntityRef>,
    #[prost(message, repeated, tag = "2")]
    pub tenants: Vec<EntityRef>,
}

/// Compared by its bits: equal times are the same version.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct EntityRef {
    #[prost(int64, tag = "1")]
    pub id: i64,
    #[prost(double, tag = "2")]
    pub last_modified: f64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct PingRequest {
    #[prost(int64, tag = "1")]
    pub sequence: i64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Pong {
    #[prost(int64, tag = "1")]
    pub sequence: i64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct TenantInfo {
    #[prost(int64, tag = "1")]
    pub id: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Changes {
    #[prost(message, repeated, tag = "1")]
    pub checks: Vec<CheckChange>,
    #[prost(message, repeated, tag = "2")]
    pub tenants: Vec<Tenant>,
    #[prost(bool, tag = "3")]
    pub is_delta_first_batch: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct CheckChange {
    #[prost(enumeration = "Operation", tag = "1")]
    pub operation: i32,
    #[prost(message, optional, tag = "2")]
    pub check: Option<Check>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum Operation {
    Add = 0,
    Update = 1,
    Delete = 2,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct AdHocRequest {
    #[prost(message, optional, tag = "1")]
    pub check: Option<AdHocCheck>,
    #[prost(message, optional, tag = "2")]
    pub tenant: Option<Tenant>,
}

impl Changes {
    /// A check that the probe has in another version, or has not.
    pub fn push(&mut self, check: Check, has: bool) {
        let operation = if has { Operation::Update } else { Operation::Add };
        let check = Check { folder_uid: String::new(), ..check };
        self.checks.push(CheckChange { operation: operation as i32, check: Some(check) });
    }

    /// A check that the probe shall end.
    pub fn push_gone(&mut self, id: i64) {
        let check = Check { id, ..Check::default() };
        self.checks.push(CheckChange { operation: Operation::Delete as i32, check: Some(check) });
    }
}
