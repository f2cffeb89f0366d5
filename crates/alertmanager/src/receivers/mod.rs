//! Receivers: what a configuration says of them, and how each kind is told.
//!
//! One file per kind: its options with Alertmanager's checks, and how a notification becomes a
//! call. `call` has what the kinds share.

/// What every kind has: its name, whether it tells of ends, and paths of files.
macro_rules! basics {
    ($name:literal $(, $file:ident)*) => {
        const NAME: &'static str = $name;

        fn send_resolved(&self) -> bool {
            self.send_resolved
        }

        fn set_directory(&mut self, directory: &std::path::Path) {
            $crate::receivers::call::http_in(&mut self.http_config, directory);
            $( pilothouse_net::options::join(directory, &mut self.$file); )*
        }
    };
}

/// Texts of options by name and default; the rest of each structure is said around it.
macro_rules! template {
    ($name:literal) => {
        concat!("{{ template \"", $name, "\" . }}").to_owned()
    };
}

mod call;
mod discord;
mod email;
mod incidentio;
mod integration;
mod jira;
mod mattermost;
mod message;
mod msteams;
mod msteamsv2;
mod opsgenie;
mod pagerduty;
mod pushover;
mod rocketchat;
mod slack;
mod sns;
mod telegram;
#[cfg(test)]
mod tests;
mod victorops;
mod webex;
mod webhook;
mod wechat;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use pilothouse_model::Matcher;
use serde::Deserialize;

pub(crate) use email::mail_to;
pub(crate) use integration::LONGEST_TRY;
pub use integration::{Integration, Places};
pub use message::{Message, Told};

use crate::config::{ConfigError, Global};
use crate::telemetry::FailureReason;

/// Why a notification did not go out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Whether it may go out later.
    pub retry: bool,
    pub reason: FailureReason,
    /// Holds no secrets.
    pub text: String,
}

impl Failure {
    pub fn retry(reason: FailureReason, text: impl fmt::Display) -> Self {
        Self { retry: true, reason, text: text.to_string() }
    }

    pub fn last(reason: FailureReason, text: impl fmt::Display) -> Self {
        Self { retry: false, reason, text: text.to_string() }
    }

    /// What no retry heals: a template, a setting.
    pub(crate) fn invalid(text: impl fmt::Display) -> Self {
        Self::last(FailureReason::Other, text)
    }
}

/// A notification on its way.
pub type Sending<'a> = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send + 'a>>;

/// Sends notifications to one place.
pub trait Notifier: Send + Sync + fmt::Debug {
    fn send<'a>(&'a self, message: &'a Message) -> Sending<'a>;
}

/// Options of one kind of integration.
pub(crate) trait Kind {
    const NAME: &'static str;

    fn send_resolved(&self) -> bool;
    /// What can be checked without anything else.
    fn check(&self) -> Result<(), String>;
    /// Takes over from `global` what is not said.
    fn complete(&mut self, global: &Global) -> Result<(), String>;
    fn set_directory(&mut self, directory: &Path);
    /// Something that sends; called once the options are complete.
    fn notifier(&self) -> Result<Box<dyn Notifier>, String>;
}

macro_rules! kinds {
    ($( $list:ident: $kind:ty, )*) => {
        /// A receiver with its integrations, as it is written.
        #[derive(Debug, Clone, Default, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Receiver {
            pub name: String,
            pub labels: BTreeMap<String, String>,
            $( $list: Vec<Option<$kind>>, )*
        }

        /// The names of all kinds, as figures label them.
        pub const KINDS: [&str; { [$( stringify!($list) ),*].len() }] = [$( <$kind as Kind>::NAME ),*];

        impl Receiver {
            pub(crate) fn check(&self) -> Result<(), ConfigError> {
                if self.name.is_empty() {
                    return Err("missing name in receiver".into());
                }
                if let Some(other) = self.labels.get("name").filter(|n| **n != self.name) {
                    return Err(ConfigError(format!(
                        "receiver label \"name\" must match receiver name {:?}, got {other:?}", self.name
                    )));
                }
                $( each(&self.$list, Kind::check)?; )*
                Ok(())
            }

            pub(crate) fn complete(&mut self, global: &Global) -> Result<(), ConfigError> {
                $( for options in self.$list.iter_mut().flatten() {
                    options.complete(global)?;
                } )*
                Ok(())
            }

            pub(crate) fn set_directory(&mut self, directory: &Path) {
                $( self.$list.iter_mut().flatten().for_each(|o| o.set_directory(directory)); )*
            }

            /// Its integrations, ready to send.
            pub fn integrations(&self, concurrency: usize) -> Result<Vec<Arc<Integration>>, ConfigError> {
                let mut all = Vec::new();
                $( for (index, options) in self.$list.iter().flatten().enumerate() {
                    let notifier = options.notifier()?;
                    let kind = <$kind as Kind>::NAME;
                    all.push(Integration::new(kind, index, options.send_resolved(), notifier, concurrency));
                } )*
                Ok(all)
            }
        }
    };
}

kinds! {
    discord_configs: discord::DiscordConfig,
    email_configs: email::EmailConfig,
    incidentio_configs: incidentio::IncidentioConfig,
    pagerduty_configs: pagerduty::PagerdutyConfig,
    slack_configs: slack::SlackConfig,
    webhook_configs: webhook::WebhookConfig,
    opsgenie_configs: opsgenie::OpsgenieConfig,
    wechat_configs: wechat::WechatConfig,
    pushover_configs: pushover::PushoverConfig,
    victorops_configs: victorops::VictoropsConfig,
    sns_configs: sns::SnsConfig,
    telegram_configs: telegram::TelegramConfig,
    webex_configs: webex::WebexConfig,
    msteams_configs: msteams::MsteamsConfig,
    msteamsv2_configs: msteamsv2::MsteamsV2Config,
    jira_configs: jira::JiraConfig,
    rocketchat_configs: rocketchat::RocketchatConfig,
    mattermost_configs: mattermost::MattermostConfig,
}

fn each<K: Kind>(list: &[Option<K>], check: impl Fn(&K) -> Result<(), String>) -> Result<(), ConfigError> {
    for options in list {
        match options {
            None => return Err(ConfigError(format!("missing {} config", K::NAME))),
            Some(options) => check(options)?,
        }
    }
    Ok(())
}

impl Receiver {
    /// Its labels, the name among them.
    pub fn all_labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.labels.clone();
        labels.insert("name".to_owned(), self.name.clone());
        labels
    }

    /// Whether matchers hold for its labels; one that is not there is empty.
    pub fn has_labels(&self, matchers: &[Matcher]) -> bool {
        matchers.iter().all(|m| match m.name.as_str() {
            "name" => m.matches(&self.name),
            name => m.matches(self.labels.get(name).map_or("", String::as_str)),
        })
    }
}
