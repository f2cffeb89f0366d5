//! WeChat Work: a token of the application, then the message.

use std::time::{Duration, Instant};

use http::{HeaderMap, Method};
use pilothouse_net::{Request, Secret};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use tokio::sync::Mutex;

use super::call::{Caller, OwnHttp, check_http, inherit_http, inherit_secret, secret, without_empty};
use super::{Failure, Kind, Message, Notifier, Sending};
use crate::config::{Global, GoMillis, HttpUrl, at_most_one};
use crate::telemetry::FailureReason;

/// A token is asked for anew after this long.
const TOKEN_LASTS: Duration = Duration::from_secs(2 * 3600);
/// The service's code of a token that is over.
const TOKEN_EXPIRED: i64 = 42001;

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct WechatConfig {
    pub send_resolved: bool,
    pub http_config: OwnHttp,
    pub api_secret: Secret,
    pub api_secret_file: String,
    pub corp_id: String,
    pub message: String,
    pub api_url: Option<HttpUrl>,
    pub to_user: String,
    pub to_party: String,
    pub to_tag: String,
    pub agent_id: String,
    pub message_type: String,
}

impl Default for WechatConfig {
    fn default() -> Self {
        Self {
            send_resolved: false,
            http_config: None,
            api_secret: Secret::default(),
            api_secret_file: String::new(),
            corp_id: String::new(),
            message: template!("wechat.default.message"),
            api_url: None,
            to_user: template!("wechat.default.to_user"),
            to_party: template!("wechat.default.to_party"),
            to_tag: template!("wechat.default.to_tag"),
            agent_id: template!("wechat.default.agent_id"),
            message_type: "text".to_owned(),
        }
    }
}

impl Kind for WechatConfig {
    basics!("wechat", api_secret_file);

    fn check(&self) -> Result<(), String> {
        if !matches!(self.message_type.as_str(), "" | "text" | "markdown") {
            return Err(format!(
                "weChat message type {:?} does not match valid options ^(text|markdown)$",
                self.message_type
            ));
        }
        at_most_one(
            !self.api_secret.is_empty(),
            !self.api_secret_file.is_empty(),
            "api_secret & api_secret_file",
        )?;
        check_http(&self.http_config)
    }

    fn complete(&mut self, global: &Global) -> Result<(), String> {
        inherit_http(&mut self.http_config, global);
        self.api_url.get_or_insert_with(|| global.wechat_api_url.clone());
        let of_all = (&global.wechat_api_secret, &global.wechat_api_secret_file);
        inherit_secret((&mut self.api_secret, &mut self.api_secret_file), of_all)
            .ok_or("no global Wechat Api Secret set either inline or in a file")?;
        if self.corp_id.is_empty() {
            self.corp_id.clone_from(&global.wechat_api_corp_id);
        }
        if self.corp_id.is_empty() {
            return Err("no global Wechat CorpID set".to_owned());
        }
        Ok(())
    }

    fn notifier(&self) -> Result<Box<dyn Notifier>, String> {
        let caller = Caller::new(&self.http_config, GoMillis(0))?;
        Ok(Box::new(Wechat { options: self.clone(), caller, token: Mutex::new(None) }))
    }
}

#[derive(Debug)]
struct Wechat {
    options: WechatConfig,
    caller: Caller,
    token: Mutex<Option<(Secret, Instant)>>,
}

impl Wechat {
    fn url(&self, path: &str, query: &[(&str, &str)]) -> String {
        let base = self.options.api_url.clone().unwrap_or_default().with_slash();
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
        format!("{base}{path}?{query}")
    }

    async fn token(&self, message: &Message) -> Result<Secret, Failure> {
        let mut held = self.token.lock().await;
        if let Some((token, _)) = held.as_ref().filter(|(_, since)| since.elapsed() < TOKEN_LASTS) {
            return Ok(token.clone());
        }
        let o = &self.options;
        let api_secret = secret(&o.api_secret, &o.api_secret_file).await?;
        let (api_secret, corp_id) = {
            let r = message.rendering();
            (r.text(api_secret.expose())?, r.text(&o.corp_id)?)
        };
        let url = self.url("gettoken", &[("corpsecret", &api_secret), ("corpid", &corp_id)]);
        let answer = self.call(Method::GET, url, Json::Null).await?;
        let token = match answer["access_token"].as_str() {
            Some(token) if !token.is_empty() => Secret::new(token),
            _ => {
                let text = format!("invalid APISecret for CorpID: {}", o.corp_id);
                return Err(Failure::last(FailureReason::AuthError, text));
            }
        };
        *held = Some((token.clone(), Instant::now()));
        Ok(token)
    }

    async fn call(&self, method: Method, url: String, body: Json) -> Result<Json, Failure> {
        let request = match body {
            Json::Null => Request {
                method,
                url: Secret::new(url),
                headers: HeaderMap::new(),
                body: bytes::Bytes::new(),
            },
            body => super::call::json_request(method, &url, &body, HeaderMap::new()),
        };
        let answer = self.caller.send(request).await?;
        let status = answer.status.as_u16();
        if status != 200 {
            let reason = FailureReason::of_status(status);
            return Err(Failure::retry(reason, format!("unexpected status code {status}")));
        }
        serde_json::from_slice(&answer.body).map_err(|e| Failure::retry(FailureReason::Other, e))
    }

    fn body(&self, message: &Message) -> Result<Json, Failure> {
        let (r, o) = (message.rendering(), &self.options);
        let kind = if o.message_type.is_empty() { "text" } else { o.message_type.as_str() };
        let mut body = without_empty(json!({
            "touser": r.text(&o.to_user)?,
            "toparty": r.text(&o.to_party)?,
            "totag": r.text(&o.to_tag)?,
            "agentid": r.text(&o.agent_id)?,
            "safe": "0",
            "msgtype": kind,
        }));
        // Both are there, the one that is not used empty.
        body["text"] = json!({"content": ""});
        body["markdown"] = json!({"content": ""});
        body[kind]["content"] = r.text(&o.message)?.into();
        Ok(body)
    }
}

impl Notifier for Wechat {
    fn send<'a>(&'a self, message: &'a Message) -> Sending<'a> {
        Box::pin(async move {
            let token = self.token(message).await?;
            let url = self.url("message/send", &[("access_token", token.expose())]);
            let answer = self.call(Method::POST, url, self.body(message)?).await?;
            let text = answer["errmsg"].as_str().unwrap_or_default();
            match answer["errcode"].as_i64().unwrap_or_default() {
                0 => Ok(()),
                TOKEN_EXPIRED => {
                    *self.token.lock().await = None;
                    Err(Failure::retry(FailureReason::AuthError, text))
                }
                _ => Err(Failure::last(FailureReason::ClientError, text)),
            }
        })
    }
}
