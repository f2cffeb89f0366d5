//! `pilothouse checks`: synthetic checks, through the Synthetic Monitoring API.
//!
//! That API knows tokens of its own, each of a tenant. A command registers as Grafana's plugin
//! does, works with the token that it is given, and gives it back.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use http::Method;
use pilothouse_net::Secret;
use serde_json::{Value, json as object};

use super::client::{CommandError, Connection, Door, Server, json, run as run_client};
use super::table::{Format, Table};
use super::{print, when};

const HELP: &str = "\
The token given by --token or PILOTHOUSE_TOKEN must be the root token where the server asks for tokens.

Examples:
  pilothouse checks add http --job shop --target https://shop.example.org/ --every 30s
  pilothouse checks add tcp --job database --target db.example.org:5432 --label env=prod
  pilothouse checks add --json check.json
  pilothouse checks list
  pilothouse checks delete 3";

/// The time limit of a run where none is said.
const USUAL_TIMEOUT_MS: i64 = 10_000;
const ADD_HELP: &str = "\
Examples:
  pilothouse checks add http --job shop --target https://shop.example.org/ --every 30s
  pilothouse checks add dns --job names --target example.org --timeout 2s --label env=prod
  pilothouse checks add --json check.json";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Checks {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    server: Server,
    /// The stack whose tenant has the checks, as the stackId of Grafana's plugin
    #[arg(long, global = true, value_name = "ID", default_value_t = 1)]
    stack: i64,
    /// A token of that tenant, instead of one that is made and given back
    #[arg(long, global = true, value_name = "TOKEN", env = "PILOTHOUSE_SM_TOKEN", hide_env_values = true)]
    access_token: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show all checks
    #[command(after_help = "Examples:\n  pilothouse checks list\n  pilothouse checks list --output csv")]
    List {
        #[arg(long, short, value_enum, default_value = "table")]
        output: Format,
    },
    /// Add a check: a kind with usual settings, or anything as JSON
    #[command(after_help = ADD_HELP)]
    Add(Box<Add>),
    /// Delete checks by id
    #[command(after_help = "Examples:\n  pilothouse checks delete 3")]
    Delete {
        #[arg(value_name = "ID", required = true)]
        ids: Vec<i64>,
    },
}

#[derive(Debug, Args)]
struct Add {
    /// What is done to the target
    #[arg(value_enum, required_unless_present = "json")]
    kind: Option<Kind>,
    /// A name that is shared by checks of one service
    #[arg(long, required_unless_present = "json")]
    job: Option<String>,
    /// An address for http, a name for dns and ping, a host and a port for tcp and grpc
    #[arg(long, required_unless_present = "json")]
    target: Option<String>,
    /// Time between two runs
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    every: String,
    /// Time that one run may take; unsaid, 10s, or the time between two runs where that is shorter
    #[arg(long, value_name = "DURATION")]
    timeout: Option<String>,
    /// A label of what the check measures, as often as needed
    #[arg(long = "label", value_name = "NAME=VALUE")]
    labels: Vec<String>,
    /// The probes that run it, by id; unsaid, the built-in one
    #[arg(long = "probe", value_name = "ID")]
    probes: Vec<i64>,
    /// A check as the API takes it, from a file or - for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kind", "job", "target", "labels", "probes"])]
    json: Option<PathBuf>,
}

/// The kinds that do well with usual settings.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    Http,
    Ping,
    Dns,
    Tcp,
    Traceroute,
    Grpc,
}

pub(crate) fn run(checks: &Checks) -> ExitCode {
    run_client(ask(checks))
}

async fn ask(checks: &Checks) -> Result<(), CommandError> {
    let connection = checks.server.connect()?;
    if let Some(token) = &checks.access_token {
        return act(&checks.action, &Tenant { connection: &connection, token: Secret::new(token) }).await;
    }
    let tenant = Tenant::register(&connection, &checks.server, checks.stack).await?;
    let done = act(&checks.action, &tenant).await;
    let returned = tenant.send(Method::DELETE, "/token/delete", None).await;
    done.and(returned.map(drop))
}

async fn act(action: &Action, tenant: &Tenant<'_>) -> Result<(), CommandError> {
    match action {
        Action::List { output } => print(&list(tenant, *output).await?),
        Action::Add(add) => {
            let added = tenant.send(Method::POST, "/check/add", Some(&wanted(add, tenant).await?)).await?;
            let id = added.get("id").cloned().unwrap_or_default();
            print(&format!("added check {id}\n"));
        }
        Action::Delete { ids } => {
            for id in ids {
                tenant.send(Method::DELETE, &format!("/check/delete/{id}"), None).await?;
                print(&format!("deleted check {id}\n"));
            }
        }
    }
    Ok(())
}

/// Somebody who may ask about the checks of a tenant.
struct Tenant<'a> {
    connection: &'a Connection,
    token: Secret,
}

impl<'a> Tenant<'a> {
    async fn register(connection: &'a Connection, server: &Server, stack: i64) -> Result<Self, CommandError> {
        let publisher = match server.token()? {
            // Where no tokens are asked for, any will do; one there must be.
            token if token.is_empty() => Secret::new("none"),
            token => token,
        };
        let wanted = object!({"stackId": stack, "metricsInstanceId": stack, "logsInstanceId": stack});
        let path = "/api/v1/register/install";
        let body = connection.send_as(&publisher, Door::Bearer, Method::POST, path, Some(&wanted)).await?;
        let token = json(&body)?.get("accessToken").and_then(Value::as_str).map(Secret::new);
        let token = token.ok_or_else(|| CommandError::Answer("it has no accessToken".to_owned()))?;
        Ok(Self { connection, token })
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, CommandError> {
        let path = format!("/api/v1{path}");
        let answer = self.connection.send_as(&self.token, Door::Bearer, method, &path, body).await?;
        json(&answer)
    }
}

async fn list(tenant: &Tenant<'_>, output: Format) -> Result<String, CommandError> {
    let checks = tenant.send(Method::GET, "/check/list", None).await?;
    if output == Format::Json {
        return Ok(checks.to_string() + "\n");
    }
    let mut rows = checks.as_array().cloned().unwrap_or_default();
    for row in &mut rows {
        let kind = row.get("settings").and_then(Value::as_object).and_then(|s| s.keys().next().cloned());
        row["kind"] = kind.into();
    }
    let columns = [
        ("ID", "id"),
        ("KIND", "kind"),
        ("JOB", "job"),
        ("TARGET", "target"),
        ("EVERY_MS", "frequency"),
        ("ENABLED", "enabled"),
        ("PROBES", "probes"),
    ];
    Ok(Table::of_objects(&rows, &columns).render(output))
}

/// The check to add.
async fn wanted(add: &Add, tenant: &Tenant<'_>) -> Result<Value, CommandError> {
    if let Some(path) = &add.json {
        return json(read(path)?.as_bytes());
    }
    let (Some(kind), Some(job), Some(target)) = (add.kind, &add.job, &add.target) else {
        return Err(CommandError::Usage("a kind, --job and --target are wanted".to_owned()));
    };
    let mut labels = Vec::new();
    for text in &add.labels {
        let (name, value) =
            text.split_once('=').ok_or_else(|| CommandError::Usage(format!("{text:?} is not NAME=VALUE")))?;
        labels.push(object!({"name": name, "value": value}));
    }
    let frequency_ms = when::duration_ms(&add.every)?;
    let timeout_ms = match &add.timeout {
        Some(text) => when::duration_ms(text)?,
        None => USUAL_TIMEOUT_MS.min(frequency_ms),
    };
    let probes = if add.probes.is_empty() { builtin(tenant).await? } else { add.probes.clone() };
    Ok(object!({
        "job": job,
        "target": target,
        "frequency": frequency_ms,
        "timeout": timeout_ms,
        "enabled": true,
        "labels": labels,
        "probes": probes,
        "settings": settings(kind),
    }))
}

/// What is left out has the usual value.
fn settings(kind: Kind) -> Value {
    match kind {
        Kind::Http => object!({"http": {"method": "GET", "ipVersion": "Any"}}),
        Kind::Ping => object!({"ping": {"ipVersion": "Any"}}),
        Kind::Dns => {
            object!({"dns": {"ipVersion": "Any", "recordType": "A", "protocol": "UDP", "server": "8.8.8.8", "port": 53}})
        }
        Kind::Tcp => object!({"tcp": {"ipVersion": "Any"}}),
        Kind::Traceroute => object!({"traceroute": {"maxHops": 64, "maxUnknownHops": 15, "ptrLookup": true}}),
        Kind::Grpc => object!({"grpc": {"ipVersion": "Any"}}),
    }
}

/// The probes that everybody has.
async fn builtin(tenant: &Tenant<'_>) -> Result<Vec<i64>, CommandError> {
    let probes = tenant.send(Method::GET, "/probe/list", None).await?;
    let public = probes.as_array().into_iter().flatten();
    let public = public.filter(|probe| probe.get("public").and_then(Value::as_bool) == Some(true));
    Ok(public.filter_map(|probe| probe.get("id").and_then(Value::as_i64)).collect())
}

fn read(path: &Path) -> Result<String, CommandError> {
    if path.as_os_str() == "-" {
        Ok(std::io::read_to_string(std::io::stdin())?)
    } else {
        Ok(std::fs::read_to_string(path)?)
    }
}
