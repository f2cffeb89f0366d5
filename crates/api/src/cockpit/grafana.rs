//! Grafana users, and what else the API says of a Grafana. There is none here: users are
//! records that an operator's tools may keep.

use pilothouse_control::{Fault, GrafanaRole, GrafanaUser, SortKey};
use serde_json::{Value, json};

use super::error::Refusal;
use super::input::Input;
use super::shapes::listed;
use super::{Answer, Context, Version};

pub(super) fn get(_: &Context<'_>, _: &Input) -> Result<Answer, Refusal> {
    Ok(Answer::Object(json!({"grafana_url": ""})))
}

pub(super) fn synchronize(context: &Context<'_>, input: &Input) -> Result<Answer, Refusal> {
    context.control().synchronize_sources(&input.actor(), input.project()?)?;
    Ok(Answer::Nothing)
}

pub(super) fn create(context: &Context<'_>, input: &Input) -> Result<Answer, Refusal> {
    let role: GrafanaRole = input.required_word("role")?;
    let login = input.required("login")?;
    let (user, password) =
        context.control().create_grafana_user(&input.actor(), input.project()?, login, role)?;
    Ok(Answer::Object(shape(&user, Some(&password))))
}

pub(super) fn list(context: &Context<'_>, input: &Input) -> Result<Answer, Refusal> {
    let order = input.order(&[SortKey::Login])?;
    let users = context.control().grafana_users(input.project_filter()?, order, input.page()?);
    Ok(listed("grafana_users", users, |user| shape(user, None)))
}

pub(super) fn delete(context: &Context<'_>, input: &Input) -> Result<Answer, Refusal> {
    let id = user_id(input)?;
    context.control().delete_grafana_user(&input.actor(), input.project_filter()?, id)?;
    Ok(match context.version {
        Version::V1 => Answer::Nothing,
        Version::V1Beta1 => Answer::Object(json!({})),
    })
}

pub(super) fn reset(context: &Context<'_>, input: &Input) -> Result<Answer, Refusal> {
    let id = user_id(input)?;
    let (user, password) =
        context.control().reset_grafana_password(&input.actor(), input.project_filter()?, id)?;
    Ok(Answer::Object(shape(&user, Some(&password))))
}

fn user_id(input: &Input) -> Result<u32, Refusal> {
    let fault = || Refusal::argument("grafana_user_id", Fault::Format, "a whole number");
    input.segment("id").parse().map_err(|_| fault())
}

/// `password` is given where it was made just now.
fn shape(user: &GrafanaUser, password: Option<&str>) -> Value {
    json!({"id": user.id, "login": user.login, "role": user.role.as_str(), "password": password})
}
