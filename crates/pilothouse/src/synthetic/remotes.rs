//! Where private probes write to, and with which secrets.

use std::sync::Arc;

use pilothouse_api::Remotes;
use pilothouse_control::{Actor, Control, NewToken, ProjectId, Region, Scope, Scopes};
use pilothouse_probes::words::Remote;

/// Private probes write with tokens of the control plane that can do nothing else.
#[derive(Debug)]
pub(super) struct Tokens(pub(super) Arc<Control>);

impl Remotes for Tokens {
    fn for_tenant(&self, address: &str) -> (Remote, Remote) {
        let remote = |path: &str, scope: Scope| {
            let new = NewToken {
                project: ProjectId::DEFAULT,
                region: Region::FrPar,
                name: "synthetic monitoring".to_owned(),
                scopes: Scopes::from_iter([scope]),
            };
            let password = match self.0.create_token(&Actor::server(), new) {
                Ok((_, secret)) => secret.reveal().to_owned(),
                Err(e) => {
                    tracing::error!("private probes of a new tenant cannot write: {e}");
                    String::new()
                }
            };
            Remote {
                name: "pilothouse".to_owned(),
                url: format!("{address}{path}"),
                username: "synthetic-monitoring".to_owned(),
                password,
            }
        };
        (remote("/api/v1", Scope::WriteMetrics), remote("/loki/api/v1", Scope::WriteLogs))
    }
}
