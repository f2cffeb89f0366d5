//! Plans. They differ in name alone: nothing costs anything here.

use std::str::FromStr as _;

use pilothouse_control::{Fault, Listed, Plan, SortKey};
use serde_json::{Value, json};

use super::error::Refusal;
use super::input::Input;
use super::shapes::{duration_s, listed};
use super::{Answer, Context, Version};

/// What the published page promises for everything: 31 days.
const RETENTION_S: i64 = 31 * 86_400;

pub(super) fn list(context: &Context<'_>, input: &Input) -> Result<Answer, Refusal> {
    let order = input.order(&[SortKey::Name])?;
    let mut plans = Plan::ALL.to_vec();
    plans.sort_by_key(|plan| plan.as_str());
    if order.descending {
        plans.reverse();
    }
    let plans: Listed<Plan> = input.page()?.of(plans);
    Ok(listed("plans", plans, |plan| shape(context.version, *plan)))
}

pub(super) fn current(context: &Context<'_>, input: &Input) -> Result<Answer, Refusal> {
    let plan = context.control().plan(input.project()?);
    Ok(Answer::Object(shape(context.version, plan)))
}

pub(super) fn select(context: &Context<'_>, input: &Input) -> Result<Answer, Refusal> {
    let argument = context.of_version("plan_name", "plan_id");
    let text = input.required(argument)?;
    let by_id = Plan::ALL.into_iter().find(|plan| id(*plan) == text);
    let known = by_id.or_else(|| Plan::from_str(text).ok());
    let plan = known.ok_or_else(|| Refusal::argument(argument, Fault::Unknown, "free, premium or custom"))?;
    context.control().select_plan(&input.actor(), input.project()?, plan)?;
    Ok(Answer::Object(match context.version {
        Version::V1 => shape(context.version, plan),
        Version::V1Beta1 => json!({}),
    }))
}

/// The older version knows plans by ids.
fn id(plan: Plan) -> &'static str {
    match plan {
        Plan::Free => "5e16eb25-6d25-4f1c-8e0b-5c1f1d0a0001",
        Plan::Premium => "5e16eb25-6d25-4f1c-8e0b-5c1f1d0a0002",
        Plan::Custom => "5e16eb25-6d25-4f1c-8e0b-5c1f1d0a0003",
    }
}

pub(super) fn shape(version: Version, plan: Plan) -> Value {
    let mut object = json!({
        "name": plan.as_str(),
        "retention_metrics_interval": duration_s(RETENTION_S),
        "retention_logs_interval": duration_s(RETENTION_S),
        "retention_traces_interval": duration_s(RETENTION_S),
        "sample_ingestion_price": 0,
        "logs_ingestion_price": 0,
        "traces_ingestion_price": 0,
        "monthly_price": 0,
    });
    if version == Version::V1Beta1 {
        object["id"] = id(plan).into();
        object["logs_retention_price"] = 0.into();
        object["metrics_retention_price"] = 0.into();
    }
    object
}
