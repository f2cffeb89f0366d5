//! The paths of both versions, and of what is Pilothouse's own.

use super::{Action, Endpoint, Version};
use crate::routes::{self, Base, Methods, Route, Scope};

const GET: Methods = Methods::GET;
const POST: Methods = Methods::POST;
const PATCH: Methods = Methods::PATCH;
const DELETE: Methods = Methods::DELETE;

const fn with(path: &'static str, methods: Methods, scope: Scope, endpoint: Endpoint) -> Route {
    Route { base: Base::Root, path, methods, scope, endpoint: routes::Endpoint::Cockpit(endpoint) }
}

const fn v1(path: &'static str, methods: Methods, action: Action) -> Route {
    with(path, methods, Scope::Management, Endpoint { version: Version::V1, action })
}

const fn beta(path: &'static str, methods: Methods, action: Action) -> Route {
    with(path, methods, Scope::Management, Endpoint { version: Version::V1Beta1, action })
}

const fn own(path: &'static str, action: Action) -> Route {
    with(path, GET, Scope::Root, Endpoint { version: Version::V1, action })
}

/// A path of a region.
macro_rules! region {
    ($path:literal) => {
        concat!("/cockpit/v1/regions/{region}", $path)
    };
}

pub(crate) const ROUTES: &[Route] = &[
    // A region's.
    v1(region!("/config"), GET, Action::Config),
    v1(region!("/tokens"), POST, Action::CreateToken),
    v1(region!("/tokens"), GET, Action::ListTokens),
    v1(region!("/tokens/{id}"), GET, Action::GetToken),
    v1(region!("/tokens/{id}"), DELETE, Action::DeleteToken),
    v1(region!("/data-sources"), POST, Action::CreateSource),
    v1(region!("/data-sources"), GET, Action::ListSources),
    v1(region!("/data-sources/{id}"), GET, Action::GetSource),
    v1(region!("/data-sources/{id}"), PATCH, Action::UpdateSource),
    v1(region!("/data-sources/{id}"), DELETE, Action::DeleteSource),
    v1(region!("/usage-overview"), GET, Action::UsageOverview),
    v1(region!("/alert-manager"), GET, Action::GetAlertManager),
    v1(region!("/alert-manager/enable"), POST, Action::EnableAlertManager),
    v1(region!("/alert-manager/disable"), POST, Action::DisableAlertManager),
    v1(region!("/rules/count"), GET, Action::CountRules),
    v1(region!("/alert-manager/contact-points"), POST, Action::CreateContactPoint),
    v1(region!("/alert-manager/contact-points"), PATCH, Action::UpdateContactPoint),
    v1(region!("/alert-manager/contact-points"), GET, Action::ListContactPoints),
    v1(region!("/alert-manager/contact-points/delete"), POST, Action::DeleteContactPoint),
    v1(region!("/alerts"), GET, Action::ListAlerts),
    v1(region!("/alert-manager/managed-alerts/enable"), POST, Action::EnableManagedAlerts),
    v1(region!("/alert-manager/managed-alerts/disable"), POST, Action::DisableManagedAlerts),
    v1(region!("/alert-manager/enable-alert-rules"), POST, Action::EnableAlertRules),
    v1(region!("/alert-manager/disable-alert-rules"), POST, Action::DisableAlertRules),
    v1(region!("/alert-manager/trigger-test-alert"), POST, Action::TriggerTestAlert),
    v1(region!("/exporters"), POST, Action::CreateExporter),
    v1(region!("/exporters"), GET, Action::ListExporters),
    v1(region!("/exporters/{id}"), GET.or(PATCH).or(DELETE), Action::OneExporter),
    v1(region!("/products"), GET, Action::ListProducts),
    // Everybody's.
    v1("/cockpit/v1/grafana", GET, Action::GetGrafana),
    v1("/cockpit/v1/grafana/sync-data-sources", POST, Action::SyncSources),
    v1("/cockpit/v1/grafana/users", POST, Action::CreateGrafanaUser),
    v1("/cockpit/v1/grafana/users", GET, Action::ListGrafanaUsers),
    v1("/cockpit/v1/grafana/users/{id}", DELETE, Action::DeleteGrafanaUser),
    v1("/cockpit/v1/grafana/users/{id}/reset-password", POST, Action::ResetGrafanaUser),
    v1("/cockpit/v1/grafana/product-dashboards", GET, Action::ListDashboards),
    v1("/cockpit/v1/grafana/product-dashboards/{name}", GET, Action::GetDashboard),
    v1("/cockpit/v1/plans", GET, Action::ListPlans),
    v1("/cockpit/v1/plans", PATCH, Action::SelectPlan),
    v1("/cockpit/v1/current-plan", GET, Action::CurrentPlan),
    // The version before, without a region in the path.
    beta("/cockpit/v1beta1/tokens", POST, Action::CreateToken),
    beta("/cockpit/v1beta1/tokens", GET, Action::ListTokens),
    beta("/cockpit/v1beta1/tokens/{id}", GET, Action::GetToken),
    beta("/cockpit/v1beta1/tokens/{id}", DELETE, Action::DeleteToken),
    beta("/cockpit/v1beta1/cockpit", GET, Action::Cockpit),
    beta("/cockpit/v1beta1/cockpit/metrics", GET, Action::Cockpit),
    beta("/cockpit/v1beta1/activate", POST, Action::Cockpit),
    beta("/cockpit/v1beta1/deactivate", POST, Action::Cockpit),
    beta("/cockpit/v1beta1/datasources", POST, Action::CreateSource),
    beta("/cockpit/v1beta1/datasources", GET, Action::ListSources),
    beta("/cockpit/v1beta1/datasources/{id}", DELETE, Action::DeleteSource),
    beta("/cockpit/v1beta1/contact-points", POST, Action::CreateContactPoint),
    beta("/cockpit/v1beta1/contact-points", GET, Action::ListContactPoints),
    beta("/cockpit/v1beta1/delete-contact-point", POST, Action::DeleteContactPoint),
    beta("/cockpit/v1beta1/enable-managed-alerts", POST, Action::EnableManagedAlerts),
    beta("/cockpit/v1beta1/disable-managed-alerts", POST, Action::DisableManagedAlerts),
    beta("/cockpit/v1beta1/trigger-test-alert", POST, Action::TriggerTestAlert),
    beta("/cockpit/v1beta1/grafana-users", POST, Action::CreateGrafanaUser),
    beta("/cockpit/v1beta1/grafana-users", GET, Action::ListGrafanaUsers),
    beta("/cockpit/v1beta1/grafana-users/{id}/delete", POST, Action::DeleteGrafanaUser),
    beta("/cockpit/v1beta1/grafana-users/{id}/reset-password", POST, Action::ResetGrafanaUser),
    beta("/cockpit/v1beta1/plans", GET, Action::ListPlans),
    beta("/cockpit/v1beta1/select-plan", POST, Action::SelectPlan),
    beta("/cockpit/v1beta1/grafana-product-dashboards", GET, Action::ListDashboards),
    beta("/cockpit/v1beta1/grafana-product-dashboards/{name}", GET, Action::GetDashboard),
    // Of this server alone.
    own("/pilothouse/v1/audit", Action::Audit),
    own("/pilothouse/v1/tokens/usage", Action::TokenUse),
    own("/pilothouse/v1/data-sources/usage", Action::SourceUse),
];
