//! The configuration of rules: groups as YAML, by namespace.

use std::sync::Arc;

use http::StatusCode;
use pilothouse_control::SourceKind;
use pilothouse_model::limits;
use pilothouse_rules::format::{print_group, print_namespaces};
use pilothouse_rules::{Error, Ruler};

use super::{Endpoint, blocking, source_of};
use crate::App;
use crate::error::{ApiError, Kind};
use crate::reply::Reply;
use crate::service::Call;

/// What Mimir and Loki answer to a change that they took.
const ACCEPTED: &str = r#"{"status":"success","data":null,"errorType":"","error":""}"#;

pub(super) async fn dispatch(app: &Arc<App>, endpoint: Endpoint, call: &Call) -> Result<Reply, ApiError> {
    let kind = endpoint.kind().unwrap_or(SourceKind::Metrics);
    let (ruler, connector) = app.rulers.get()?.clone();
    if call.body.len() > limits::RULE_GROUP_BYTES {
        let text = format!("a rule group may have at most {} bytes", limits::RULE_GROUP_BYTES);
        return Err(ApiError::new(Kind::TooLarge, text));
    }
    let source = source_of(app, call, kind)?;
    let request = Request {
        source: source.id.to_string(),
        namespace: call.segment("namespace").to_owned(),
        group: call.segment("group").to_owned(),
        kind,
        text: String::from_utf8_lossy(&call.body).into_owned(),
    };
    if kind == SourceKind::Logs
        && let Some(reply) = request.refuse_paths()
    {
        return Ok(reply);
    }
    let work = move || {
        if !ruler.has_source(&request.source)
            && let Some(connected) = connector.connect(&source)
        {
            ruler.add_source(&request.source, connected)?;
        }
        request.answer(&ruler, endpoint)
    };
    blocking(work).await?.map_err(refusal)
}

struct Request {
    source: String,
    namespace: String,
    group: String,
    kind: SourceKind,
    text: String,
}

impl Request {
    fn answer(&self, ruler: &Ruler, endpoint: Endpoint) -> Result<Reply, Error> {
        let (source, namespace, group) = (self.source.as_str(), self.namespace.as_str(), self.group.as_str());
        match endpoint {
            Endpoint::MetricsNamespaces | Endpoint::LogsNamespaces => Ok(self.list(ruler, None)),
            Endpoint::MetricsNamespace | Endpoint::LogsNamespace => Ok(self.list(ruler, Some(namespace))),
            Endpoint::MetricsGroup | Endpoint::LogsGroup => {
                Ok(yaml(print_group(&ruler.group(source, namespace, group)?)))
            }
            Endpoint::MetricsSetGroup | Endpoint::LogsSetGroup => {
                ruler.set_group(source, namespace, &self.text)?;
                Ok(accepted())
            }
            Endpoint::MetricsDeleteNamespace | Endpoint::LogsDeleteNamespace => {
                ruler.delete_namespace(source, namespace)?;
                Ok(accepted())
            }
            _ => match ruler.delete_group(source, namespace, group) {
                // Loki does not know whether there was one.
                Err(Error::NoGroup) if self.kind == SourceKind::Logs => Ok(accepted()),
                deleted => deleted.map(|()| accepted()),
            },
        }
    }

    /// Without any group Mimir answers an empty map, and Loki that there is none.
    fn list(&self, ruler: &Ruler, namespace: Option<&str>) -> Reply {
        let namespaces = ruler.namespaces(&self.source, namespace);
        if namespaces.is_empty() && self.kind == SourceKind::Logs {
            return Reply::text(StatusCode::NOT_FOUND, "no rule groups found\n");
        }
        yaml(print_namespaces(&namespaces))
    }

    /// Loki keeps groups as files and takes no name that would lead out of its directory.
    fn refuse_paths(&self) -> Option<Reply> {
        let what = [("namespace", &self.namespace), ("groupName", &self.group)];
        let (what, _) = what.iter().find(|(_, name)| !name.is_empty() && leads_out(name))?;
        let body = format!(
            "{{\"status\":\"error\",\"data\":null,\"errorType\":\"server_error\",\"error\":\"invalid {what}: path traversal not allowed\"}}"
        );
        Some(Reply::new(StatusCode::INTERNAL_SERVER_ERROR, "application/json", body))
    }
}

fn leads_out(path: &str) -> bool {
    let mut depth = 0i64;
    let steps_out = path.split('/').any(|part| {
        depth += match part {
            "" | "." => 0,
            ".." => -1,
            _ => 1,
        };
        depth < 0
    });
    path.starts_with('/') || steps_out
}

fn yaml(text: String) -> Reply {
    Reply::new(StatusCode::OK, "application/yaml", text)
}

fn accepted() -> Reply {
    Reply::new(StatusCode::ACCEPTED, "application/json", ACCEPTED)
}

fn refusal(error: Error) -> ApiError {
    let kind = match &error {
        Error::Undecodable(why) => {
            tracing::debug!("a rule group cannot be read: {why}");
            Kind::BadData
        }
        Error::Invalid { .. } | Error::Refused(_) | Error::Unloadable(_) => Kind::BadData,
        Error::NoSource(_) | Error::NoGroup | Error::NoNamespace => Kind::NotFound,
        Error::Storage(e) => {
            tracing::error!("rule groups: {e}");
            Kind::Internal
        }
    };
    ApiError::new(kind, error.to_string())
}
