//! The configuration of the Alertmanager, as Mimir keeps it for a tenant.

use http::StatusCode;
use pilothouse_alertmanager::Alertmanager;
use pilothouse_alertmanager::service::ChangeError;

use crate::reply::Reply;
use crate::service::Call;

/// Grafana looks for these words.
const NOT_FOUND: &str = "alertmanager storage object not found\n";

pub(super) fn get(am: &Alertmanager) -> Reply {
    match am.document() {
        Some(document) => Reply::new(StatusCode::OK, "application/yaml", document.to_yaml()),
        None => Reply::text(StatusCode::NOT_FOUND, NOT_FOUND),
    }
}

pub(super) fn set(am: &Alertmanager, call: &Call) -> Reply {
    match am.set_document(&call.body) {
        Ok(()) => Reply::empty(StatusCode::CREATED),
        Err(ChangeError::Refused(error)) => Reply::text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        Err(ChangeError::State(error)) => {
            let text = format!("unable to store the Alertmanager config: {error}\n");
            Reply::text(StatusCode::INTERNAL_SERVER_ERROR, text)
        }
    }
}

pub(super) fn delete(am: &Alertmanager) -> Reply {
    match am.delete_document() {
        Ok(()) => Reply::empty(StatusCode::OK),
        Err(error) => {
            let text = format!("unable to delete the Alertmanager config: {error}\n");
            Reply::text(StatusCode::INTERNAL_SERVER_ERROR, text)
        }
    }
}
