//! The twin of Scaleway's Cockpit: its management API in the versions 1 and 1beta1.
//!
//! The objects are the control plane's; here they get their JSON. One table of actions serves
//! both versions, so that what is made by one is seen by the other; where their shapes differ
//! the action asks which version it speaks.

mod alerting;
mod book;
mod error;
mod grafana;
mod input;
mod managed;
mod others;
mod own;
mod plans;
mod routes;
mod shapes;
mod sources;
#[cfg(test)]
mod tests;
mod tokens;
mod usage;

use std::sync::Arc;

use http::StatusCode;
use pilothouse_control::Control;
use serde_json::Value;

use crate::App;
use crate::error::ApiError;
use crate::offload;
use crate::reply::Reply;
use crate::service::Call;
use error::Refusal;
use input::Input;

pub(crate) use book::NoRules;
pub use book::{AlertRule, RuleBook};
pub use managed::{MANAGED_RULES, ManagedRule};
pub use own::audit_line;
pub(crate) use routes::ROUTES;

/// Which API a path belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    V1,
    V1Beta1,
}

/// What a route of this subject does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Endpoint {
    pub version: Version,
    pub action: Action,
}

macro_rules! actions {
    ($( $action:ident = $name:literal, $handler:path; )*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Action { $( $action, )* }

        impl Action {
            fn name(self) -> &'static str {
                match self { $( Self::$action => $name, )* }
            }

            fn run(self, context: &Context<'_>, input: &Input) -> Result<Answer, Refusal> {
                match self { $( Self::$action => $handler(context, input), )* }
            }
        }
    };
}

actions! {
    Config = "cockpit_config", sources::config;
    CreateToken = "cockpit_create_token", tokens::create;
    ListTokens = "cockpit_list_tokens", tokens::list;
    GetToken = "cockpit_get_token", tokens::get;
    DeleteToken = "cockpit_delete_token", tokens::delete;
    CreateSource = "cockpit_create_data_source", sources::create;
    ListSources = "cockpit_list_data_sources", sources::list;
    GetSource = "cockpit_get_data_source", sources::get;
    UpdateSource = "cockpit_update_data_source", sources::update;
    DeleteSource = "cockpit_delete_data_source", sources::delete;
    UsageOverview = "cockpit_usage_overview", usage::overview;
    GetAlertManager = "cockpit_get_alert_manager", alerting::get;
    EnableAlertManager = "cockpit_enable_alert_manager", alerting::enable;
    DisableAlertManager = "cockpit_disable_alert_manager", alerting::disable;
    EnableManagedAlerts = "cockpit_enable_managed_alerts", alerting::enable_managed;
    DisableManagedAlerts = "cockpit_disable_managed_alerts", alerting::disable_managed;
    EnableAlertRules = "cockpit_enable_alert_rules", alerting::enable_rules;
    DisableAlertRules = "cockpit_disable_alert_rules", alerting::disable_rules;
    CountRules = "cockpit_count_rules", alerting::count_rules;
    ListAlerts = "cockpit_list_alerts", alerting::list_alerts;
    TriggerTestAlert = "cockpit_trigger_test_alert", alerting::trigger_test;
    CreateContactPoint = "cockpit_create_contact_point", alerting::create_contact;
    UpdateContactPoint = "cockpit_update_contact_point", alerting::update_contact;
    ListContactPoints = "cockpit_list_contact_points", alerting::list_contacts;
    DeleteContactPoint = "cockpit_delete_contact_point", alerting::delete_contact;
    CreateExporter = "cockpit_create_exporter", others::create_exporter;
    ListExporters = "cockpit_list_exporters", others::list_exporters;
    OneExporter = "cockpit_exporter", others::one_exporter;
    ListProducts = "cockpit_list_products", others::list_products;
    GetGrafana = "cockpit_get_grafana", grafana::get;
    SyncSources = "cockpit_sync_data_sources", grafana::synchronize;
    CreateGrafanaUser = "cockpit_create_grafana_user", grafana::create;
    ListGrafanaUsers = "cockpit_list_grafana_users", grafana::list;
    DeleteGrafanaUser = "cockpit_delete_grafana_user", grafana::delete;
    ResetGrafanaUser = "cockpit_reset_grafana_user", grafana::reset;
    ListDashboards = "cockpit_list_dashboards", others::list_dashboards;
    GetDashboard = "cockpit_get_dashboard", others::get_dashboard;
    ListPlans = "cockpit_list_plans", plans::list;
    SelectPlan = "cockpit_select_plan", plans::select;
    CurrentPlan = "cockpit_current_plan", plans::current;
    Cockpit = "cockpit_get_cockpit", others::cockpit;
    Audit = "audit", own::audit;
    TokenUse = "token_use", own::token_use;
    SourceUse = "source_use", own::source_use;
}

impl Endpoint {
    pub(crate) fn name(self) -> &'static str {
        self.action.name()
    }
}

/// What an action works with.
struct Context<'a> {
    app: &'a App,
    version: Version,
    /// `http://HOST:PORT`, without a trailing slash.
    base: String,
}

impl Context<'_> {
    fn control(&self) -> &Control {
        &self.app.settings.control
    }

    /// One of two values, by version.
    fn of_version<T>(&self, v1: T, v1beta1: T) -> T {
        match self.version {
            Version::V1 => v1,
            Version::V1Beta1 => v1beta1,
        }
    }
}

enum Answer {
    Object(Value),
    /// 204.
    Nothing,
}

/// Changes wait for the disk and lists may be long, so all of it is work for the pool.
pub(crate) async fn dispatch(app: &Arc<App>, endpoint: Endpoint, call: Call) -> Result<Reply, ApiError> {
    let app = Arc::clone(app);
    let answered = offload::write(move || answer(&app, endpoint, call)).await?;
    Ok(match answered {
        Ok(Answer::Object(value)) => Reply::json(value.to_string()),
        Ok(Answer::Nothing) => Reply::empty(StatusCode::NO_CONTENT),
        Err(refusal) => refusal.into_reply(),
    })
}

fn answer(app: &App, endpoint: Endpoint, call: Call) -> Result<Answer, Refusal> {
    let input = Input::read(call)?;
    let base = app.settings.external_url.clone().or_else(|| input.host()).unwrap_or_default();
    endpoint.action.run(&Context { app, version: endpoint.version, base }, &input)
}

pub(crate) fn refuse(error: &ApiError) -> Reply {
    error::general(error)
}
