//! Synthetic Monitoring over HTTP, and the gRPC services of private probes.
//!
//! The access token of a request names its tenant, so it is asked for even where the server asks
//! for none. All errors have the shape of this API: `{"code", "msg", "err"}`.

mod checks;
mod figures;
mod grpc;
mod probes;
mod status;
mod tenants;
mod tokens;

use std::sync::Arc;

use http::{HeaderMap, StatusCode, header};
use pilothouse_control::{Actor, Event};
use pilothouse_probes::registry::{Caller, Refusal, RefusalKind, Registry};
use pilothouse_probes::run::Schedule;
use pilothouse_probes::words::{Remote, read_json};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::error::ApiError;
use crate::reply::Reply;
use crate::routes::Base::{Plain, Root};
use crate::routes::{self, Base, Methods, Route, Scope};
use crate::service::Call;
use crate::{App, offload, own};

pub(crate) use figures::families;
pub use status::StatusPages;

/// What stands behind these routes. Cloning gives another way to the same.
#[derive(Debug, Clone)]
pub struct Synthetic {
    pub registry: Arc<Registry>,
    pub schedule: Arc<Schedule>,
    pub remotes: Arc<dyn Remotes>,
    pub pages: Arc<StatusPages>,
}

/// Says where results of a new tenant go.
pub trait Remotes: Send + Sync + std::fmt::Debug {
    /// For series and for entries, reached at the server's address; the passwords may write
    /// there and do nothing else. Blocks.
    fn for_tenant(&self, address: &str) -> (Remote, Remote);
}

/// What a route of this subject does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    Install,
    CreateToken,
    DeleteToken,
    RefreshToken,
    ValidateToken,
    AddCheck,
    UpdateCheck,
    UpdateChecks,
    DeleteCheck,
    ListChecks,
    FindCheck,
    GetCheck,
    PostCheck,
    CheckAlerts,
    SetCheckAlerts,
    AdHocCheck,
    ChecksInfo,
    AddProbe,
    UpdateProbe,
    ListProbes,
    GetProbe,
    DeleteProbe,
    GetTenant,
    UpdateTenant,
    DeleteTenant,
    TenantLimits,
    TenantCals,
    TenantSettings,
    UpdateTenantSettings,
    StatusPage,
    Grpc(grpc::Method),
}

impl Endpoint {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Install => "synthetic_install",
            Self::CreateToken | Self::DeleteToken | Self::RefreshToken | Self::ValidateToken => {
                "synthetic_token"
            }
            Self::AddCheck | Self::UpdateCheck | Self::UpdateChecks | Self::DeleteCheck | Self::PostCheck => {
                "synthetic_change_check"
            }
            Self::ListChecks | Self::FindCheck | Self::GetCheck | Self::ChecksInfo => "synthetic_check",
            Self::CheckAlerts | Self::SetCheckAlerts => "synthetic_check_alerts",
            Self::AdHocCheck => "synthetic_adhoc",
            Self::AddProbe | Self::UpdateProbe | Self::DeleteProbe => "synthetic_change_probe",
            Self::ListProbes | Self::GetProbe => "synthetic_probe",
            Self::GetTenant | Self::TenantLimits | Self::TenantCals | Self::TenantSettings => {
                "synthetic_tenant"
            }
            Self::UpdateTenant | Self::DeleteTenant | Self::UpdateTenantSettings => "synthetic_change_tenant",
            Self::StatusPage => "status_page",
            Self::Grpc(_) => "synthetic_private_probe",
        }
    }
}

const fn route(base: Base, path: &'static str, methods: Methods, endpoint: Endpoint) -> Route {
    Route { base, path, methods, scope: Scope::Synthetic, endpoint: routes::Endpoint::Synthetic(endpoint) }
}

const GET: Methods = Methods::GET;
const POST: Methods = Methods::POST;
const DELETE: Methods = Methods::DELETE;

/// Literal paths win over those with a segment, whatever their order.
pub(crate) const ROUTES: &[Route] = &[
    route(Plain, "/register/install", POST, Endpoint::Install),
    route(Plain, "/token/create", POST, Endpoint::CreateToken),
    route(Plain, "/token/delete", DELETE, Endpoint::DeleteToken),
    route(Plain, "/token/refresh", POST, Endpoint::RefreshToken),
    route(Plain, "/token/validate", POST, Endpoint::ValidateToken),
    route(Plain, "/check/add", POST, Endpoint::AddCheck),
    route(Plain, "/check/update", POST, Endpoint::UpdateCheck),
    route(Plain, "/check/update/bulk", POST, Endpoint::UpdateChecks),
    route(Plain, "/check/delete/{id}", DELETE, Endpoint::DeleteCheck),
    route(Plain, "/check/list", GET, Endpoint::ListChecks),
    route(Plain, "/check/query", GET, Endpoint::FindCheck),
    route(Plain, "/check/adhoc", POST, Endpoint::AdHocCheck),
    route(Plain, "/check", GET, Endpoint::ListChecks),
    route(Plain, "/check", POST, Endpoint::AddCheck),
    route(Plain, "/check/{id}", GET, Endpoint::GetCheck),
    route(Plain, "/check/{id}", POST, Endpoint::PostCheck),
    route(Plain, "/check/{id}", DELETE, Endpoint::DeleteCheck),
    route(Plain, "/check/{id}/alerts", GET, Endpoint::CheckAlerts),
    route(Plain, "/check/{id}/alerts", Methods::POST_PUT, Endpoint::SetCheckAlerts),
    route(Plain, "/checks/info", GET, Endpoint::ChecksInfo),
    route(Plain, "/probe/add", POST, Endpoint::AddProbe),
    route(Plain, "/probe/update", POST, Endpoint::UpdateProbe),
    route(Plain, "/probe/list", GET, Endpoint::ListProbes),
    route(Plain, "/probe", GET, Endpoint::ListProbes),
    route(Plain, "/probe/{id}", GET, Endpoint::GetProbe),
    route(Plain, "/probe/delete/{id}", DELETE, Endpoint::DeleteProbe),
    route(Plain, "/tenant", GET, Endpoint::GetTenant),
    route(Plain, "/tenant/update", POST, Endpoint::UpdateTenant),
    route(Plain, "/tenant/delete/{id}", DELETE, Endpoint::DeleteTenant),
    route(Plain, "/tenant/limits", GET, Endpoint::TenantLimits),
    route(Plain, "/tenant/cals", GET, Endpoint::TenantCals),
    route(Plain, "/tenant/settings", GET, Endpoint::TenantSettings),
    route(Plain, "/tenant/settings/update", POST, Endpoint::UpdateTenantSettings),
    // Its handler asks for a token unless the page is public.
    Route { scope: Scope::Open, ..route(Root, "/status/{name}", GET, Endpoint::StatusPage) },
    grpc("/synthetic_monitoring.Checks/RegisterProbe", grpc::Method::RegisterProbe),
    grpc("/synthetic_monitoring.Checks/GetChanges", grpc::Method::GetChanges),
    grpc("/synthetic_monitoring.Checks/Ping", grpc::Method::Ping),
    grpc("/synthetic_monitoring.AdHocChecks/RegisterProbe", grpc::Method::RegisterAdHoc),
    grpc("/synthetic_monitoring.AdHocChecks/GetAdHocChecks", grpc::Method::GetAdHocChecks),
    grpc("/synthetic_monitoring.Tenants/GetTenant", grpc::Method::GetTenant),
    grpc("/synthetic_monitoring.Telemetry/PushTelemetry", grpc::Method::PushTelemetry),
    grpc("/synthetic_monitoring.K6/RegisterK6Version", grpc::Method::RegisterK6Version),
];

const fn grpc(path: &'static str, method: grpc::Method) -> Route {
    route(Root, path, POST, Endpoint::Grpc(method))
}

pub(crate) async fn dispatch(app: &Arc<App>, endpoint: Endpoint, call: Call) -> Result<Reply, ApiError> {
    let synthetic = app.synthetic().ok_or_else(own::starting)?.clone();
    if let Endpoint::Grpc(method) = endpoint {
        return Ok(grpc::answer(app.memory(), synthetic, method, call).await);
    }
    if endpoint == Endpoint::StatusPage {
        return status::answer(app, &synthetic, &call).await;
    }
    let app = Arc::clone(app);
    // Changes wait for the disk, reads are short: all of it belongs off the async workers.
    offload::write(move || answer(&app, &synthetic, endpoint, &call).unwrap_or_else(|e| refused(&e)))
        .await
        .map_err(ApiError::from)
}

fn answer(app: &App, synthetic: &Synthetic, endpoint: Endpoint, call: &Call) -> Result<Reply, Refused> {
    if endpoint == Endpoint::Install {
        return tokens::install(app, synthetic, call);
    }
    let token = bearer(call).ok_or_else(Refused::unauthorized)?;
    let caller = synthetic.registry.authenticate(token).ok_or_else(Refused::unauthorized)?;
    let request = Request { app, registry: &synthetic.registry, caller, call };
    match endpoint {
        Endpoint::CreateToken => tokens::create(&request),
        Endpoint::DeleteToken => tokens::delete(&request),
        Endpoint::RefreshToken => tokens::refresh(&request),
        Endpoint::ValidateToken => ok(&json!({"msg": "token is valid", "isValid": true})),
        Endpoint::AddCheck => checks::add(&request),
        Endpoint::UpdateCheck => checks::update(&request, None),
        Endpoint::PostCheck => checks::update(&request, Some(request.id()?)),
        Endpoint::UpdateChecks => checks::update_all(&request),
        Endpoint::DeleteCheck => checks::delete(&request),
        Endpoint::ListChecks => checks::list(&request),
        Endpoint::FindCheck => checks::find(&request),
        Endpoint::GetCheck => checks::get(&request),
        Endpoint::CheckAlerts => checks::alerts(&request),
        Endpoint::SetCheckAlerts => checks::set_alerts(&request),
        Endpoint::AdHocCheck => checks::run_once(&request, synthetic),
        Endpoint::ChecksInfo => checks::info(),
        Endpoint::AddProbe => probes::add(&request),
        Endpoint::UpdateProbe => probes::update(&request),
        Endpoint::ListProbes => ok(&request.registry.probes(request.caller.tenant)),
        Endpoint::GetProbe => ok(&request.registry.probe(request.caller.tenant, request.id()?)?),
        Endpoint::DeleteProbe => probes::delete(&request),
        Endpoint::GetTenant => tenants::get(&request),
        Endpoint::UpdateTenant => tenants::update(&request),
        Endpoint::DeleteTenant => tenants::delete(&request),
        Endpoint::TenantLimits => tenants::limits(&request),
        Endpoint::TenantCals => tenants::cals(&request),
        Endpoint::TenantSettings => tenants::settings(&request),
        Endpoint::UpdateTenantSettings => tenants::update_settings(&request),
        Endpoint::Install | Endpoint::StatusPage | Endpoint::Grpc(_) => Err(Refused::not_found()),
    }
}

/// A request whose token is known.
struct Request<'a> {
    app: &'a App,
    registry: &'a Registry,
    caller: Caller,
    call: &'a Call,
}

impl Request<'_> {
    /// The `{id}` of the path.
    fn id(&self) -> Result<i64, Refused> {
        let text = self.call.segment("id");
        text.parse().map_err(|_| Refused::bad("invalid id", format!("{text:?} is not a number")))
    }

    /// Writes a change down in the audit trail: what it was of, and nothing of its settings.
    fn note(&self, action: &'static str, resource: &str, id: i64, name: &str) {
        let actor = Actor::tenant(self.call.peer().map(|peer| peer.0.ip()));
        let event = Event::named(action, resource, id).with("tenant", self.caller.tenant).with("name", name);
        if let Err(e) = self.app.settings.control.note(&actor, event) {
            tracing::error!(resource, id, "a change is not in the audit trail: {e}");
        }
    }

    fn body<T: DeserializeOwned>(&self) -> Result<T, Refused> {
        read_json(&self.call.body).map_err(|e| Refused::bad("Invalid request body", e.to_string()))
    }
}

/// A refusal in the shape of this API.
#[derive(Debug)]
struct Refused {
    status: StatusCode,
    message: String,
    cause: String,
}

impl Refused {
    fn new(status: StatusCode, message: impl Into<String>, cause: impl Into<String>) -> Self {
        Self { status, message: message.into(), cause: cause.into() }
    }

    fn bad(message: &str, cause: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message, cause)
    }

    fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "not authorized", "missing or invalid access token")
    }

    fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not found", "")
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal.kind {
            RefusalKind::Invalid | RefusalKind::TooMany => StatusCode::BAD_REQUEST,
            RefusalKind::Forbidden => StatusCode::FORBIDDEN,
            RefusalKind::NotFound => StatusCode::NOT_FOUND,
            RefusalKind::Conflict => StatusCode::CONFLICT,
            RefusalKind::Storage => {
                tracing::error!("{refusal}");
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        Self::new(status, refusal.message, refusal.cause)
    }
}

fn refused(refused: &Refused) -> Reply {
    let body = json!({"code": refused.status.as_u16(), "msg": refused.message, "err": refused.cause});
    Reply::new(refused.status, JSON, body.to_string())
}

/// What refuses a request before a handler has seen it.
pub(crate) fn refuse(error: ApiError) -> Reply {
    let reply = error.clone().into_json();
    let body = json!({"code": reply.status.as_u16(), "msg": error.text, "err": ""});
    error.with_retry(Reply::new(reply.status, JSON, body.to_string()))
}

const JSON: &str = "application/json; charset=utf-8";

fn ok<T: Serialize>(value: &T) -> Result<Reply, Refused> {
    accepted(StatusCode::OK, value)
}

fn accepted<T: Serialize>(status: StatusCode, value: &T) -> Result<Reply, Refused> {
    let body = serde_json::to_vec(value).map_err(|e| {
        Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "cannot write the answer", e.to_string())
    })?;
    Ok(Reply::new(status, JSON, body))
}

/// Below these, all paths are of this API, those that there are not as well.
const SUBJECTS: [&str; 6] = ["check", "checks", "probe", "register", "tenant", "token"];

/// Whether a path would be one of this API.
pub(crate) fn owns(path: &str) -> bool {
    let subject = path.strip_prefix("/api/v1/").and_then(|rest| rest.split('/').next());
    subject.is_some_and(|subject| SUBJECTS.contains(&subject))
}

/// What a path of this API gets that there is not.
pub(crate) fn absent(app: &App, headers: &HeaderMap) -> Reply {
    let known = app.synthetic().zip(bearer_in(headers));
    let known = known.is_some_and(|(synthetic, token)| synthetic.registry.authenticate(token).is_some());
    refused(&if known { Refused::not_found() } else { Refused::unauthorized() })
}

/// What a path gets by a method that it has not.
pub(crate) fn wrong_method() -> Reply {
    refused(&Refused::new(StatusCode::METHOD_NOT_ALLOWED, "method not allowed", ""))
}

fn bearer(call: &Call) -> Option<&str> {
    bearer_in(&call.parts.headers)
}

/// The token of the header, whatever the case of the scheme.
fn bearer_in(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
}
