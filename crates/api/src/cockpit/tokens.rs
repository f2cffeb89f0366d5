//! Tokens. Scopes are `token_scopes` on input and `scopes` on output; the older version has an
//! object of booleans on both sides.

use pilothouse_control::{Fault, NewToken, Scope, Scopes, SortKey, Token, TokenFilter, TokenId};
use serde_json::{Value, json};

use super::error::Refusal;
use super::input::Input;
use super::shapes::{listed, members, stamped};
use super::{Answer, Context, Version};

const ORDERS: [SortKey; 2] = [SortKey::CreatedAt, SortKey::Name];

pub(super) fn create(context: &Context<'_>, input: &Input) -> Result<Answer, Refusal> {
    let new = NewToken {
        project: input.project()?,
        region: input.region,
        name: input.required("name")?.to_owned(),
        scopes: match context.version {
            Version::V1 => input.list::<Scope>("token_scopes")?.into_iter().collect(),
            Version::V1Beta1 => flags(input)?,
        },
    };
    let (token, secret) = context.control().create_token(&input.actor(), new)?;
    Ok(Answer::Object(shape(context.version, &token, Some(secret.reveal()))))
}

/// Names that are missing are false; others than the nine are ignored.
fn flags(input: &Input) -> Result<Scopes, Refusal> {
    let Some(flags) = input.object("scopes")? else { return Ok(Scopes::NONE) };
    let mut scopes = Vec::new();
    for scope in Scope::ALL {
        match flags.get(scope.beta_name()) {
            Some(Value::Bool(true)) => scopes.push(scope),
            None | Some(Value::Bool(false) | Value::Null) => {}
            Some(_) => {
                let name = format!("scopes.{}", scope.beta_name());
                return Err(Refusal::argument(name, Fault::Format, "true or false"));
            }
        }
    }
    Ok(scopes.into_iter().collect())
}

pub(super) fn list(context: &Context<'_>, input: &Input) -> Result<Answer, Refusal> {
    let filter = TokenFilter {
        region: input.region,
        project: input.project_filter()?,
        scopes: input.words::<Scope>("token_scopes")?.into_iter().collect(),
        order: input.order(&ORDERS)?,
        page: input.page()?,
    };
    Ok(listed("tokens", context.control().tokens(&filter), |token| shape(context.version, token, None)))
}

pub(super) fn get(context: &Context<'_>, input: &Input) -> Result<Answer, Refusal> {
    let token = context.control().token(input.region, input.id("token")?)?;
    Ok(Answer::Object(shape(context.version, &token, None)))
}

pub(super) fn delete(context: &Context<'_>, input: &Input) -> Result<Answer, Refusal> {
    let id: TokenId = input.id("token")?;
    context.control().delete_token(&input.actor(), input.region, id)?;
    Ok(Answer::Nothing)
}

/// `secret` is given in the answer to the creation alone.
fn shape(version: Version, token: &Token, secret: Option<&str>) -> Value {
    let scopes: Value = match version {
        Version::V1 => token.scopes.iter().map(Scope::as_str).collect(),
        Version::V1Beta1 => {
            let flag = |s: Scope| (s.beta_name().to_owned(), Value::Bool(token.scopes.contains(s)));
            Value::Object(Scope::ALL.into_iter().map(flag).collect())
        }
    };
    let object = json!({
        "id": token.id.to_string(),
        "project_id": token.project.to_string(),
        "name": token.name,
        "scopes": scopes,
        "secret_key": secret,
        "region": token.region.as_str(),
    });
    Value::Object(stamped(members(object), token.stamp))
}
