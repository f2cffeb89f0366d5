//! Errors in the shapes of Scaleway's APIs: a `type`, and the fields of that type. Clients read
//! them only with the content type of JSON.

use http::StatusCode;
use pilothouse_control::Fault;
use serde_json::{Map, Value, json};

use crate::error::{ApiError, Kind};
use crate::offload::Panicked;
use crate::reply::Reply;

/// Why a call of the management API is not answered as asked.
#[derive(Debug)]
pub(super) enum Refusal {
    Argument {
        name: String,
        fault: Fault,
        help: String,
    },
    NotFound {
        resource: String,
        id: String,
    },
    InUse {
        help: String,
    },
    Quota {
        resource: &'static str,
        quota: u64,
        current: u64,
    },
    /// What any path may answer.
    Other(ApiError),
}

impl Refusal {
    pub(super) fn argument(name: impl Into<String>, fault: Fault, help: impl Into<String>) -> Self {
        Self::Argument { name: name.into(), fault, help: help.into() }
    }

    pub(super) fn not_found(resource: &str, id: impl ToString) -> Self {
        Self::NotFound { resource: resource.to_owned(), id: id.to_string() }
    }

    pub(super) fn into_reply(self) -> Reply {
        match self {
            Self::Argument { name, fault, help } => {
                let detail = json!({"argument_name": name, "reason": fault.as_str(), "help_message": help});
                let message = format!("invalid argument {name}: {help}");
                refused(400, "invalid_arguments", &message, json!({"details": [detail]}))
            }
            Self::NotFound { resource, id } => {
                let message = format!("resource {resource} with ID {id} is not found");
                refused(404, "not_found", &message, json!({"resource": resource, "resource_id": id}))
            }
            Self::InUse { help } => {
                let fields = json!({"precondition": "resource_still_in_use", "help_message": help});
                refused(412, "precondition_failed", "precondition failed: resource is still in use", fields)
            }
            Self::Quota { resource, quota, current } => {
                let detail = json!({"resource": resource, "quota": quota, "current": current});
                let message = format!("quota exceeded for {resource}: {current} of {quota} in use");
                refused(403, "quotas_exceeded", &message, json!({"details": [detail]}))
            }
            Self::Other(error) => general(&error),
        }
    }
}

/// What is not the management API's own: who may, what is too large, what fails.
pub(super) fn general(error: &ApiError) -> Reply {
    let status = error.kind.status().as_u16();
    let reply = match error.kind {
        Kind::Unauthorized => {
            let fields = json!({"method": "api_key", "reason": "not_found"});
            refused(status, "denied_authentication", "authentication is denied", fields)
        }
        Kind::Forbidden => {
            let details = json!({"details": [{"resource": "cockpit", "action": "write"}]});
            refused(status, "permissions_denied", "insufficient permissions", details)
        }
        Kind::TooLarge | Kind::BadData => {
            let detail = json!({"argument_name": "body", "reason": "constraint", "help_message": error.text});
            refused(status, "invalid_arguments", &error.text, json!({"details": [detail]}))
        }
        Kind::NotFound => {
            refused(status, "not_found", &error.text, json!({"resource": "path", "resource_id": ""}))
        }
        Kind::Unavailable => refused(status, "temporarily_unavailable", &error.text, json!({})),
        _ => refused(status, "internal_error", &error.text, json!({})),
    };
    error.with_retry(reply)
}

fn refused(status: u16, kind: &str, message: &str, fields: Value) -> Reply {
    let mut body = match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    body.insert("type".to_owned(), kind.into());
    body.insert("message".to_owned(), message.into());
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Reply::new(status, "application/json", Value::Object(body).to_string())
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self::Other(error)
    }
}

impl From<Panicked> for Refusal {
    fn from(panicked: Panicked) -> Self {
        Self::Other(panicked.into())
    }
}

impl From<pilothouse_control::Error> for Refusal {
    fn from(error: pilothouse_control::Error) -> Self {
        use pilothouse_control::Error;
        match error {
            Error::Invalid { argument, fault, help } => Self::argument(argument, fault, help),
            Error::NotFound { resource, id } => Self::not_found(resource.as_str(), id),
            Error::InUse { help, .. } => Self::InUse { help: help.to_owned() },
            Error::Quota { resource, quota, current } => {
                Self::Quota { resource: resource.as_str(), quota, current }
            }
            Error::Exists { resource, id } => {
                let help = format!("{} {id} exists already", resource.as_str());
                Self::argument("login", Fault::Constraint, help)
            }
            other => Self::Other(pilothouse_model::SourceError::from(other).into()),
        }
    }
}
