//! Contact points: addresses that get mail from the default receiver, whatever the configuration
//! in force makes of it.

use std::sync::Arc;

use pilothouse_net::Secret;

use crate::config::{ConfigError, Global, HostPort};
use crate::receivers::{Failure, Integration, Message, Notifier, Sending, mail_to};

/// Somebody who gets mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    pub email: String,
    /// Whether ends are told as well.
    pub send_resolved: bool,
}

/// How the server itself sends mail. Without it contact points use what the configuration in force
/// says for all receivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// `host:port`.
    pub smarthost: String,
    pub from: String,
    /// How the server calls itself.
    pub hello: String,
    pub username: String,
    pub password: Secret,
    pub require_tls: bool,
}

impl Mail {
    fn to_global(&self) -> Result<Global, ConfigError> {
        Ok(Global {
            smtp_smarthost: HostPort::parse(&self.smarthost)?,
            smtp_from: self.from.clone(),
            smtp_hello: self.hello.clone(),
            smtp_auth_username: self.username.clone(),
            smtp_auth_password: self.password.clone(),
            smtp_require_tls: self.require_tls,
            ..Global::default()
        })
    }

    /// What is wrong with it, if anything.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.to_global()?.check()?;
        if self.from.is_empty() {
            return Err("mail needs a sender, smtp_from".into());
        }
        Ok(())
    }
}

/// One integration for each contact point. One that cannot send says why whenever it should.
pub(crate) fn integrations(
    contacts: &[Contact],
    mail: Option<&Mail>,
    of_document: &Global,
    concurrency: usize,
) -> Vec<Arc<Integration>> {
    let own = mail.map(Mail::to_global).transpose();
    let integration = |contact: &Contact| {
        let notifier = match &own {
            Ok(global) => mail_to(contact, global.as_ref().unwrap_or(of_document)),
            Err(error) => Err(error.to_string()),
        };
        let notifier = notifier.unwrap_or_else(|why| Box::new(Unable { why }));
        let name = format!("contact[{}]", contact.email);
        Integration::named("email", name, contact.send_resolved, notifier, concurrency)
    };
    contacts.iter().map(integration).collect()
}

/// In place of mail that cannot be sent.
#[derive(Debug)]
struct Unable {
    why: String,
}

impl Notifier for Unable {
    fn send<'a>(&'a self, _: &'a Message) -> Sending<'a> {
        Box::pin(async move { Err(Failure::invalid(&self.why)) })
    }
}
