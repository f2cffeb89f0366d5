//! The part of a configuration that holds for all receivers.

use pilothouse_net::options::TlsOptions;
use pilothouse_net::{HttpOptions, Secret};
use serde::Deserialize;

use super::values::{HostPort, HttpUrl, Millis, SecretUrl};

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Global {
    pub resolve_timeout: Millis,
    pub http_config: HttpOptions,
    pub jira_api_url: Option<HttpUrl>,
    pub smtp_from: String,
    pub smtp_hello: String,
    pub smtp_smarthost: HostPort,
    pub smtp_auth_username: String,
    pub smtp_auth_password: Secret,
    pub smtp_auth_password_file: String,
    pub smtp_auth_secret: Secret,
    pub smtp_auth_secret_file: String,
    pub smtp_auth_identity: String,
    pub smtp_require_tls: bool,
    pub smtp_tls_config: TlsOptions,
    pub smtp_force_implicit_tls: Option<bool>,
    pub slack_api_url: Option<SecretUrl>,
    pub slack_api_url_file: String,
    pub slack_app_token: Secret,
    pub slack_app_token_file: String,
    pub slack_app_url: HttpUrl,
    pub pagerduty_url: HttpUrl,
    pub opsgenie_api_url: HttpUrl,
    pub opsgenie_api_key: Secret,
    pub opsgenie_api_key_file: String,
    pub wechat_api_url: HttpUrl,
    pub wechat_api_secret: Secret,
    pub wechat_api_secret_file: String,
    pub wechat_api_corp_id: String,
    pub victorops_api_url: HttpUrl,
    pub victorops_api_key: Secret,
    pub victorops_api_key_file: String,
    pub telegram_api_url: HttpUrl,
    pub telegram_bot_token: Secret,
    pub telegram_bot_token_file: String,
    pub webex_api_url: HttpUrl,
    pub rocketchat_api_url: HttpUrl,
    pub rocketchat_token: Secret,
    pub rocketchat_token_file: String,
    pub rocketchat_token_id: Secret,
    pub rocketchat_token_id_file: String,
    pub mattermost_webhook_url: Option<SecretUrl>,
    pub mattermost_webhook_url_file: String,
}

/// What `global` says where nothing is said, in the order in which it is shown. Only fields that
/// Alertmanager 0.25 knows: its `amtool` reads what the API shows.
pub(super) const SHOWN_DEFAULTS: [(&str, &str); 9] = [
    ("resolve_timeout", "5m"),
    ("smtp_hello", "localhost"),
    ("smtp_require_tls", "true"),
    ("pagerduty_url", "https://events.pagerduty.com/v2/enqueue"),
    ("opsgenie_api_url", "https://api.opsgenie.com/"),
    ("wechat_api_url", "https://qyapi.weixin.qq.com/cgi-bin/"),
    ("victorops_api_url", "https://alert.victorops.com/integrations/generic/20131114/alert/"),
    ("telegram_api_url", "https://api.telegram.org"),
    ("webex_api_url", "https://webexapis.com/v1/messages"),
];

impl Default for Global {
    fn default() -> Self {
        let url = |text: &str| HttpUrl(text.to_owned());
        let shown =
            |name: &str| url(SHOWN_DEFAULTS.iter().find(|(n, _)| *n == name).map_or("", |(_, value)| value));
        Self {
            resolve_timeout: Millis(5 * 60_000),
            http_config: HttpOptions::default(),
            jira_api_url: None,
            smtp_from: String::new(),
            smtp_hello: "localhost".to_owned(),
            smtp_smarthost: HostPort::default(),
            smtp_auth_username: String::new(),
            smtp_auth_password: Secret::default(),
            smtp_auth_password_file: String::new(),
            smtp_auth_secret: Secret::default(),
            smtp_auth_secret_file: String::new(),
            smtp_auth_identity: String::new(),
            smtp_require_tls: true,
            smtp_tls_config: TlsOptions::default(),
            smtp_force_implicit_tls: None,
            slack_api_url: None,
            slack_api_url_file: String::new(),
            slack_app_token: Secret::default(),
            slack_app_token_file: String::new(),
            slack_app_url: url("https://slack.com/api/chat.postMessage"),
            pagerduty_url: shown("pagerduty_url"),
            opsgenie_api_url: shown("opsgenie_api_url"),
            opsgenie_api_key: Secret::default(),
            opsgenie_api_key_file: String::new(),
            wechat_api_url: shown("wechat_api_url"),
            wechat_api_secret: Secret::default(),
            wechat_api_secret_file: String::new(),
            wechat_api_corp_id: String::new(),
            victorops_api_url: shown("victorops_api_url"),
            victorops_api_key: Secret::default(),
            victorops_api_key_file: String::new(),
            telegram_api_url: shown("telegram_api_url"),
            telegram_bot_token: Secret::default(),
            telegram_bot_token_file: String::new(),
            webex_api_url: shown("webex_api_url"),
            rocketchat_api_url: url("https://open.rocket.chat/"),
            rocketchat_token: Secret::default(),
            rocketchat_token_file: String::new(),
            rocketchat_token_id: Secret::default(),
            rocketchat_token_id_file: String::new(),
            mattermost_webhook_url: None,
            mattermost_webhook_url_file: String::new(),
        }
    }
}

/// At most one of a value and the file that holds it.
pub(crate) fn at_most_one(first: bool, second: bool, names: &str) -> Result<(), String> {
    if first && second { Err(format!("at most one of {names} must be configured")) } else { Ok(()) }
}

impl Global {
    pub(crate) fn check(&self) -> Result<(), String> {
        let both = |secret: &Secret, file: &str| (!secret.is_empty(), !file.is_empty());
        let url = |url: &Option<SecretUrl>, file: &str| (url.is_some(), !file.is_empty());
        let pairs = [
            (
                both(&self.slack_app_token, &self.slack_app_token_file),
                "slack_app_token & slack_app_token_file",
            ),
            (url(&self.slack_api_url, &self.slack_api_url_file), "slack_api_url & slack_api_url_file"),
            (
                both(&self.opsgenie_api_key, &self.opsgenie_api_key_file),
                "opsgenie_api_key & opsgenie_api_key_file",
            ),
            (
                both(&self.victorops_api_key, &self.victorops_api_key_file),
                "victorops_api_key & victorops_api_key_file",
            ),
            (
                both(&self.telegram_bot_token, &self.telegram_bot_token_file),
                "telegram_bot_token & telegram_bot_token_file",
            ),
            (
                both(&self.smtp_auth_password, &self.smtp_auth_password_file),
                "smtp_auth_password & smtp_auth_password_file",
            ),
            (
                both(&self.rocketchat_token, &self.rocketchat_token_file),
                "rocketchat_token & rocketchat_token_file",
            ),
            (
                both(&self.rocketchat_token_id, &self.rocketchat_token_id_file),
                "rocketchat_token_id & rocketchat_token_id_file",
            ),
            (
                both(&self.smtp_auth_secret, &self.smtp_auth_secret_file),
                "smtp_auth_secret & smtp_auth_secret_file",
            ),
            (
                both(&self.wechat_api_secret, &self.wechat_api_secret_file),
                "wechat_api_secret & wechat_api_secret_file",
            ),
            (
                url(&self.mattermost_webhook_url, &self.mattermost_webhook_url_file),
                "mattermost_webhook_url & mattermost_webhook_url_file",
            ),
        ];
        for ((first, second), names) in pairs {
            at_most_one(first, second, names)?;
        }
        let token = !self.slack_app_token.is_empty() || !self.slack_app_token_file.is_empty();
        let hook = self.slack_api_url.as_ref().map(|u| u.0.expose()).unwrap_or_default();
        let hooked = self.slack_api_url.is_some() || !self.slack_api_url_file.is_empty();
        if token && hooked && hook != self.slack_app_url.0 {
            return Err(
                "at most one of slack_app_token/slack_app_token_file & slack_api_url/slack_api_url_file must be configured"
                    .to_owned(),
            );
        }
        self.http_config.validate().map_err(|e| e.to_string())?;
        self.smtp_tls_config.validate().map_err(|e| e.to_string())
    }
}
