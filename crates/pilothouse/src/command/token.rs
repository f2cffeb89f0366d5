//! `pilothouse token`: tokens of clients, through the management API.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use http::Method;
use pilothouse_control::Scope;
use serde_json::{Value, json as object};

use super::client::{CommandError, Connection, Door, Server, json, run as run_client};
use super::print;
use super::table::{Format, Table};

const HELP: &str = "\
The token given by --token or PILOTHOUSE_TOKEN must be the root token. The server shows it once, at its
first start, and keeps it in the file root-token of its data directory.

Examples:
  pilothouse token create --name agent --scope write_only_metrics --scope write_only_logs
  pilothouse token list --output csv
  pilothouse token delete 11111111-2222-3333-4444-555555555555";

const CREATE_HELP: &str = "\
Examples:
  pilothouse token create --name agent --scope write_only_metrics --scope write_only_logs
  pilothouse token create --name grafana --scope read_only_metrics --scope read_only_logs --quiet > grafana.token";

const PAGE: u64 = 100;

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Token {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    server: Server,
    /// Region of the token
    #[arg(long, global = true, default_value = "fr-par")]
    region: String,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a token; its secret is shown this once
    #[command(after_help = CREATE_HELP)]
    Create {
        /// A name for people
        #[arg(long)]
        name: String,
        /// What it may do, as often as needed
        #[arg(long = "scope", value_name = "SCOPE", required = true, value_parser = scopes())]
        scopes: Vec<String>,
        /// Print the secret alone
        #[arg(long, short)]
        quiet: bool,
    },
    /// Show all tokens, without their secrets
    #[command(after_help = "Examples:\n  pilothouse token list\n  pilothouse token list --output csv")]
    List {
        #[arg(long, short, value_enum, default_value = "table")]
        output: Format,
    },
    /// Delete tokens by id
    #[command(after_help = "Examples:\n  pilothouse token delete 11111111-2222-3333-4444-555555555555")]
    Delete {
        #[arg(value_name = "ID", required = true)]
        ids: Vec<String>,
    },
}

/// What clap accepts and completes.
fn scopes() -> clap::builder::PossibleValuesParser {
    Scope::ALL.map(Scope::as_str).into()
}

pub(crate) fn run(token: &Token) -> ExitCode {
    run_client(ask(token))
}

async fn ask(token: &Token) -> Result<(), CommandError> {
    let connection = token.server.connect()?;
    let path = format!("/cockpit/v1/regions/{}/tokens", token.region);
    match &token.action {
        Action::Create { name, scopes, quiet } => {
            let wanted = object!({"name": name, "token_scopes": scopes});
            let made = json(&connection.send(Door::Management, Method::POST, &path, Some(&wanted)).await?)?;
            print(&created(&made, *quiet));
        }
        Action::List { output } => print(&list(&connection, &path, *output).await?),
        Action::Delete { ids } => {
            for id in ids {
                connection.send(Door::Management, Method::DELETE, &format!("{path}/{id}"), None).await?;
                print(&format!("deleted {id}\n"));
            }
        }
    }
    Ok(())
}

fn created(made: &Value, quiet: bool) -> String {
    let text = |key: &str| made.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
    if quiet {
        return text("secret_key") + "\n";
    }
    format!("id      {}\nsecret  {}   (shown this once)\n", text("id"), text("secret_key"))
}

/// Page after page, until all are there.
async fn list(connection: &Connection, path: &str, output: Format) -> Result<String, CommandError> {
    let mut tokens: Vec<Value> = Vec::new();
    for page in 1.. {
        let (page, size) = (page.to_string(), PAGE.to_string());
        let query = [("page", page.as_str()), ("page_size", size.as_str())];
        let mut answer = json(&connection.get(Door::Management, path, &query).await?)?;
        let total = answer.get("total_count").and_then(Value::as_u64).unwrap_or(0);
        let Some(Value::Array(more)) = answer.get_mut("tokens").map(Value::take) else { break };
        let is_last = more.is_empty();
        tokens.extend(more);
        if is_last || tokens.len() as u64 >= total {
            break;
        }
    }
    if output == Format::Json {
        return Ok(Value::Array(tokens).to_string() + "\n");
    }
    let columns = [("ID", "id"), ("NAME", "name"), ("SCOPES", "scopes"), ("CREATED", "created_at")];
    Ok(Table::of_objects(&tokens, &columns).render(output))
}
