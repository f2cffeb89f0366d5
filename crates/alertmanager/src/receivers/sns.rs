//! Amazon SNS: `Publish` of its query API, signed with version 4.
//!
//! Keys are given in the configuration; roles and profiles, which need more than them, are
//! refused by name.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use hmac::{Hmac, Mac as _};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use pilothouse_net::{Request, Secret};
use pilothouse_query::template::Time;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::call::{Caller, Judge, OwnHttp, check_http, inherit_http};
use super::{Failure, Kind, Message, Notifier, Sending};
use crate::config::{Global, GoMillis};

const MAX_MESSAGE_BYTES: usize = 256 << 10;
const MAX_SMS_BYTES: usize = 1600;

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SnsConfig {
    pub send_resolved: bool,
    pub http_config: OwnHttp,
    pub api_url: String,
    pub sigv4: SigV4,
    pub topic_arn: String,
    pub phone_number: String,
    pub target_arn: String,
    pub subject: String,
    pub message: String,
    pub attributes: BTreeMap<String, String>,
    pub use_aws_http_client: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SigV4 {
    pub region: String,
    pub access_key: String,
    pub secret_key: Secret,
    pub profile: String,
    pub role_arn: String,
    pub external_id: String,
    pub use_fips_sts_endpoint: bool,
    pub service_name: String,
}

impl Default for SnsConfig {
    fn default() -> Self {
        Self {
            send_resolved: true,
            http_config: None,
            api_url: String::new(),
            sigv4: SigV4::default(),
            topic_arn: String::new(),
            phone_number: String::new(),
            target_arn: String::new(),
            subject: template!("sns.default.subject"),
            message: template!("sns.default.message"),
            attributes: BTreeMap::new(),
            use_aws_http_client: false,
        }
    }
}

impl SnsConfig {
    /// The region that is said, or that of the topic.
    fn region(&self) -> &str {
        if !self.sigv4.region.is_empty() {
            return &self.sigv4.region;
        }
        let arn = if self.topic_arn.is_empty() { &self.target_arn } else { &self.topic_arn };
        arn.split(':').nth(3).unwrap_or("")
    }
}

impl Kind for SnsConfig {
    basics!("sns");

    fn check(&self) -> Result<(), String> {
        let targets = [&self.topic_arn, &self.phone_number, &self.target_arn];
        if targets.iter().filter(|t| !t.is_empty()).count() != 1 {
            return Err(
                "must provide either a Target ARN, Topic ARN, or Phone Number for SNS config".to_owned()
            );
        }
        if self.sigv4.access_key.is_empty() != self.sigv4.secret_key.is_empty() {
            return Err("must provide a AWS SigV4 Access key and Secret Key if credentials are specified in the SigV4 config".to_owned());
        }
        for (field, value) in [("profile", &self.sigv4.profile), ("role_arn", &self.sigv4.role_arn)] {
            if !value.is_empty() {
                return Err(format!("sigv4.{field}: not supported, give access_key and secret_key"));
            }
        }
        if self.use_aws_http_client {
            return Err("use_aws_http_client: not supported".to_owned());
        }
        check_http(&self.http_config)
    }

    fn complete(&mut self, global: &Global) -> Result<(), String> {
        inherit_http(&mut self.http_config, global);
        Ok(())
    }

    fn notifier(&self) -> Result<Box<dyn Notifier>, String> {
        let caller = Caller::new(&self.http_config, GoMillis(0))?;
        Ok(Box::new(Sns { options: self.clone(), caller }))
    }
}

#[derive(Debug)]
struct Sns {
    options: SnsConfig,
    caller: Caller,
}

impl Sns {
    fn form(&self, message: &Message) -> Result<Vec<(String, String)>, Failure> {
        let (r, o) = (message.rendering(), &self.options);
        let mut form: Vec<(String, String)> = Vec::new();
        let mut add = |name: &str, value: String| form.push((name.to_owned(), value));
        add("Action", "Publish".to_owned());
        add("Version", "2010-03-31".to_owned());
        let mut most = MAX_MESSAGE_BYTES;
        if !o.topic_arn.is_empty() {
            let topic = r.text(&o.topic_arn)?;
            if topic.ends_with(".fifo") {
                add("MessageDeduplicationId", message.group_hash());
                add("MessageGroupId", message.group_hash());
            }
            add("TopicArn", topic);
        }
        if !o.phone_number.is_empty() {
            add("PhoneNumber", r.text(&o.phone_number)?);
            most = MAX_SMS_BYTES;
        }
        if !o.target_arn.is_empty() {
            add("TargetArn", r.text(&o.target_arn)?);
        }
        let text = r.text(&o.message)?;
        let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        add("Message", text[..end].to_owned());
        if !o.subject.is_empty() {
            add("Subject", r.text(&o.subject)?);
        }
        let mut attributes = Vec::new();
        for (name, value) in &o.attributes {
            attributes.push((r.text(name)?, r.text(value)?));
        }
        if end < text.len() {
            attributes.push(("truncated".to_owned(), "true".to_owned()));
        }
        for (i, (name, value)) in attributes.into_iter().enumerate() {
            let entry = format!("MessageAttributes.entry.{}", i + 1);
            add(&format!("{entry}.Name"), name);
            add(&format!("{entry}.Value.DataType"), "String".to_owned());
            add(&format!("{entry}.Value.StringValue"), value);
        }
        Ok(form)
    }

    fn request(&self, message: &Message) -> Result<Request, Failure> {
        let (o, region) = (&self.options, self.options.region());
        if region.is_empty() {
            return Err(Failure::invalid(
                "region not configured in sns.sigv4.region or in default credentials chain",
            ));
        }
        if o.sigv4.access_key.is_empty() {
            return Err(Failure::invalid("sigv4.access_key is missing"));
        }
        let url = match message.rendering().text(&o.api_url)? {
            url if url.is_empty() => format!("https://sns.{region}.amazonaws.com/"),
            url => url,
        };
        let parsed = url::Url::parse(&url).map_err(|e| Failure::invalid(format!("api_url: {e}")))?;
        let form = self.form(message)?;
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let signed = Signed { keys: &o.sigv4, region, service: "sns", url: &parsed, body: &body };
        let now = Time { seconds: message.now_ms.div_euclid(1000), nanos: 0 };
        Ok(Request {
            method: Method::POST,
            headers: signed.headers(now)?,
            url: Secret::new(parsed.as_str()),
            body: body.into(),
        })
    }
}

/// A request to be signed with AWS' version 4.
struct Signed<'a> {
    keys: &'a SigV4,
    region: &'a str,
    service: &'a str,
    url: &'a url::Url,
    body: &'a str,
}

const FORM: &str = "application/x-www-form-urlencoded";

impl Signed<'_> {
    fn host(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        self.url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    fn authorization(&self, now: Time) -> (String, String) {
        let at = now.format("20060102T150405Z");
        let scope = format!("{}/{}/{}/aws4_request", now.format("20060102"), self.region, self.service);
        let names = "content-type;host;x-amz-date";
        let canonical = format!(
            "POST\n{}\n{}\ncontent-type:{FORM}\nhost:{}\nx-amz-date:{at}\n\n{names}\n{}",
            self.url.path(),
            self.url.query().unwrap_or(""),
            self.host(),
            hex(&Sha256::digest(self.body.as_bytes())),
        );
        let to_sign =
            format!("AWS4-HMAC-SHA256\n{at}\n{scope}\n{}", hex(&Sha256::digest(canonical.as_bytes())));
        let first = format!("AWS4{}", self.keys.secret_key.expose()).into_bytes();
        let key = scope.split('/').fold(first, |key, part| hmac(&key, part.as_bytes()));
        let signature = hex(&hmac(&key, to_sign.as_bytes()));
        let text = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
            self.keys.access_key
        );
        (at, text)
    }

    fn headers(&self, now: Time) -> Result<HeaderMap, Failure> {
        let (at, authorization) = self.authorization(now);
        let value = |text: &str| {
            HeaderValue::from_str(text)
                .map_err(|_| Failure::invalid("sigv4.access_key cannot stand in a header"))
        };
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(FORM));
        headers.insert(HeaderName::from_static("x-amz-date"), value(&at)?);
        headers.insert(header::AUTHORIZATION, value(&authorization)?);
        Ok(headers)
    }
}

fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    // Keys of any length are keys.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return Vec::new() };
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, b| {
        // Writing to a String does not fail.
        let _ = write!(out, "{b:02x}");
        out
    })
}

/// The message among the answer's XML.
fn explanation(body: &bytes::Bytes) -> String {
    let text = String::from_utf8_lossy(body);
    let inside = text.split_once("<Message>").and_then(|(_, rest)| rest.split_once("</Message>"));
    inside.map(|(message, _)| message.to_owned()).unwrap_or_default()
}

impl Notifier for Sns {
    fn send<'a>(&'a self, message: &'a Message) -> Sending<'a> {
        Box::pin(async move {
            let answer = self.caller.send(self.request(message)?).await?;
            Judge { retry: &[429], detail: Some(explanation) }.check(&answer)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_signed_as_others_sign_them() {
        let keys = SigV4 {
            access_key: "AKIDEXAMPLE".to_owned(),
            secret_key: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
            ..SigV4::default()
        };
        // The example of AWS' own test suite, `post-x-www-form-urlencoded`.
        let url = url::Url::parse("https://example.amazonaws.com/").unwrap();
        let signed =
            Signed { keys: &keys, region: "us-east-1", service: "service", url: &url, body: "Param1=value1" };
        let now = Time { seconds: 1_440_938_160, nanos: 0 };
        let (at, text) = signed.authorization(now);
        assert_eq!(at, "20150830T123600Z");
        assert!(text.contains("SignedHeaders=content-type;host;x-amz-date"));
        assert!(
            text.ends_with("Signature=ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"),
            "{text}"
        );
    }
}
