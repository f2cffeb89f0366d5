//! Mail over SMTP: STARTTLS or TLS from the start, PLAIN, LOGIN and CRAM-MD5.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, Mac as _};
use lettre::address::Envelope;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailboxes, MultiPart, SinglePart};
use lettre::transport::smtp::client::{
    AsyncSmtpConnection, Certificate, CertificateStore, Identity, TlsParameters, TlsVersion,
};
use lettre::transport::smtp::extension::ClientId;
use md5::Md5;
use pilothouse_net::Secret;
use pilothouse_net::options::{TlsOptions, join};
use pilothouse_net::tls::Material;
use serde::Deserialize;

use super::call::secret;
use super::message::Rendering;
use super::{Failure, Kind, Message, Notifier, Sending};
use crate::config::{Global, HostPort};
use crate::contacts::Contact;
use crate::telemetry::FailureReason;

/// The longest time for one command.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct EmailConfig {
    pub send_resolved: bool,
    pub to: String,
    pub from: String,
    pub hello: String,
    pub smarthost: HostPort,
    pub auth_username: String,
    pub auth_password: Secret,
    pub auth_password_file: String,
    pub auth_secret: Secret,
    pub auth_secret_file: String,
    pub auth_identity: String,
    pub headers: BTreeMap<String, String>,
    pub html: String,
    pub text: String,
    pub require_tls: Option<bool>,
    pub tls_config: Option<TlsOptions>,
    /// TLS from the first byte; where it is not said, on port 465 alone.
    pub force_implicit_tls: Option<bool>,
    pub threading: Threading,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Threading {
    pub enabled: bool,
    /// `none` or `daily`.
    pub thread_by_date: String,
}

impl Default for EmailConfig {
    fn default() -> Self {
        Self {
            send_resolved: false,
            to: String::new(),
            from: String::new(),
            hello: String::new(),
            smarthost: HostPort::default(),
            auth_username: String::new(),
            auth_password: Secret::default(),
            auth_password_file: String::new(),
            auth_secret: Secret::default(),
            auth_secret_file: String::new(),
            auth_identity: String::new(),
            headers: BTreeMap::new(),
            html: template!("email.default.html"),
            text: String::new(),
            require_tls: None,
            tls_config: None,
            force_implicit_tls: None,
            threading: Threading::default(),
        }
    }
}

/// A name of a header as Go spells it: `message-id` is `Message-Id`.
fn canonical(name: &str) -> String {
    let part = |part: &str| {
        let (first, rest) = part.split_at(part.chars().next().map_or(0, char::len_utf8));
        format!("{}{}", first.to_uppercase(), rest.to_lowercase())
    };
    name.split('-').map(part).collect::<Vec<_>>().join("-")
}

impl Kind for EmailConfig {
    const NAME: &'static str = "email";

    fn send_resolved(&self) -> bool {
        self.send_resolved
    }

    fn set_directory(&mut self, directory: &Path) {
        join(directory, &mut self.auth_password_file);
        join(directory, &mut self.auth_secret_file);
        if let Some(tls) = &mut self.tls_config {
            tls.set_directory(directory);
        }
    }

    fn check(&self) -> Result<(), String> {
        if self.to.is_empty() {
            return Err("missing to address in email config".to_owned());
        }
        let mut seen = std::collections::HashSet::new();
        for name in self.headers.keys().map(|n| canonical(n)) {
            if !seen.insert(name.clone()) {
                return Err(format!("duplicate header {name:?} in email config"));
            }
            if HeaderName::new_from_ascii(name.clone()).is_err() {
                return Err(format!("headers: {name:?} is no name of a header"));
            }
            if self.threading.enabled && matches!(name.as_str(), "References" | "In-Reply-To") {
                return Err(format!(
                    "conflicting configuration: threading.enabled conflicts with custom {name} header"
                ));
            }
        }
        if self.threading.enabled && !matches!(self.threading.thread_by_date.as_str(), "none" | "daily") {
            return Err("threading.thread_by_date must be either 'none' or 'daily'".to_owned());
        }
        self.tls_config.as_ref().map_or(Ok(()), |tls| tls.validate().map_err(|e| e.to_string()))
    }

    fn complete(&mut self, global: &Global) -> Result<(), String> {
        self.tls_config.get_or_insert_with(|| global.smtp_tls_config.clone());
        if self.smarthost.is_empty() {
            self.smarthost = global.smtp_smarthost.clone();
        }
        if self.smarthost.is_empty() {
            return Err("no global SMTP smarthost set".to_owned());
        }
        let inherit = |own: &mut String, global: &String| {
            if own.is_empty() {
                own.clone_from(global);
            }
        };
        inherit(&mut self.from, &global.smtp_from);
        if self.from.is_empty() {
            return Err("no global SMTP from set".to_owned());
        }
        inherit(&mut self.hello, &global.smtp_hello);
        inherit(&mut self.auth_username, &global.smtp_auth_username);
        inherit(&mut self.auth_identity, &global.smtp_auth_identity);
        if self.auth_password.is_empty() && self.auth_password_file.is_empty() {
            self.auth_password = global.smtp_auth_password.clone();
            self.auth_password_file.clone_from(&global.smtp_auth_password_file);
        }
        if self.auth_secret.is_empty() && self.auth_secret_file.is_empty() {
            self.auth_secret = global.smtp_auth_secret.clone();
            self.auth_secret_file.clone_from(&global.smtp_auth_secret_file);
        }
        self.require_tls.get_or_insert(global.smtp_require_tls);
        self.force_implicit_tls = self.force_implicit_tls.or(global.smtp_force_implicit_tls);
        Ok(())
    }

    fn notifier(&self) -> Result<Box<dyn Notifier>, String> {
        let port = self
            .smarthost
            .port
            .parse()
            .map_err(|_| format!("smarthost: {:?} is no port", self.smarthost.port))?;
        let options = self.tls_config.clone().unwrap_or_default();
        let tls = tls_parameters(&options, &self.smarthost.host)?;
        Ok(Box::new(Email { options: self.clone(), port, tls }))
    }
}

/// Mail to a contact point, in the shape that nothing but an address gives it.
pub(crate) fn mail_to(contact: &Contact, global: &Global) -> Result<Box<dyn Notifier>, String> {
    if contact.email.contains("{{") {
        return Err(format!("{:?} would be a template", contact.email));
    }
    let mut options = EmailConfig {
        to: contact.email.clone(),
        send_resolved: contact.send_resolved,
        ..EmailConfig::default()
    };
    options.complete(global)?;
    options.notifier()
}

/// `tls_config` for a connection to a host.
fn tls_parameters(options: &TlsOptions, host: &str) -> Result<TlsParameters, String> {
    let material = Material::read(options).map_err(|e| e.to_string())?;
    let name = if options.server_name.is_empty() { host } else { options.server_name.as_str() };
    let mut builder = TlsParameters::builder(name.to_owned())
        .dangerous_accept_invalid_certs(options.insecure_skip_verify)
        .dangerous_accept_invalid_hostnames(options.insecure_skip_verify)
        .set_min_tls_version(if options.min_version == "TLS13" {
            TlsVersion::Tlsv13
        } else {
            TlsVersion::Tlsv12
        });
    if options.max_version == "TLS12" {
        return Err("tls_config.max_version: TLS12 is not supported for mail".to_owned());
    }
    if let Some(ca) = &material.ca {
        let ca = Certificate::from_pem(ca).map_err(|e| format!("unable to use specified CA cert: {e}"))?;
        builder = builder.certificate_store(CertificateStore::None).add_root_certificate(ca);
    }
    if let (Some(cert), Some(key)) = (&material.cert, &material.key) {
        let identity = Identity::from_pem(cert, key)
            .map_err(|e| format!("unable to use specified client cert and key: {e}"))?;
        builder = builder.identify_with(identity);
    }
    builder.build_rustls().map_err(|e| format!("tls_config: {e}"))
}

struct Email {
    options: EmailConfig,
    port: u16,
    tls: TlsParameters,
}

impl std::fmt::Debug for Email {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Email").field("options", &self.options).finish_non_exhaustive()
    }
}

fn smtp(what: &str) -> impl Fn(lettre::transport::smtp::Error) -> Failure + '_ {
    move |error| Failure::retry(FailureReason::Other, format!("{what}: {error}"))
}

impl Email {
    async fn connect(&self) -> Result<AsyncSmtpConnection, Failure> {
        let o = &self.options;
        let hello = ClientId::Domain(self.hello().to_owned());
        let implicit = o.force_implicit_tls.unwrap_or(self.port == 465);
        let first = implicit.then(|| self.tls.clone());
        let address = (o.smarthost.host.as_str(), self.port);
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(address, Some(COMMAND_TIMEOUT), &hello, first, None)
                .await
                .map_err(smtp("establish connection to server"))?;
        if o.require_tls.unwrap_or(true) && !implicit {
            if !connection.can_starttls() {
                connection.abort().await;
                return Err(Failure::retry(
                    FailureReason::Other,
                    format!(
                        "'require_tls' is true (default) but \"{}:{}\" does not advertise the STARTTLS extension",
                        o.smarthost.host, self.port
                    ),
                ));
            }
            connection.starttls(self.tls.clone(), &hello).await.map_err(smtp("send STARTTLS command"))?;
        }
        Ok(connection)
    }

    /// Logs in where a name is given and the server offers it: by the first of the offered
    /// mechanisms that there is a secret for.
    async fn log_in(&self, connection: &mut AsyncSmtpConnection) -> Result<(), Failure> {
        let o = &self.options;
        if o.auth_username.is_empty() {
            return Ok(());
        }
        let offered = mechanisms(connection, self.hello()).await;
        let mut missing = Vec::new();
        for mechanism in &offered {
            let secret = match mechanism.as_str() {
                "CRAM-MD5" => secret(&o.auth_secret, &o.auth_secret_file).await?,
                "PLAIN" | "LOGIN" => secret(&o.auth_password, &o.auth_password_file).await?,
                unknown => {
                    missing.push(format!("unknown auth mechanism: {unknown}"));
                    continue;
                }
            };
            if !secret.is_empty() {
                return self.log_in_by(connection, mechanism, &secret).await;
            }
            let what = if mechanism == "CRAM-MD5" { "secret" } else { "password" };
            missing.push(format!("missing {what} for {mechanism} auth mechanism"));
        }
        match missing.is_empty() {
            true => Ok(()),
            false => Err(Failure::retry(
                FailureReason::AuthError,
                format!("find auth mechanism: {}", missing.join("\n")),
            )),
        }
    }

    async fn log_in_by(
        &self,
        connection: &mut AsyncSmtpConnection,
        mechanism: &str,
        secret: &Secret,
    ) -> Result<(), Failure> {
        let o = &self.options;
        match mechanism {
            "CRAM-MD5" => cram_md5(connection, &o.auth_username, secret).await,
            "PLAIN" => {
                let is_local = matches!(o.smarthost.host.as_str(), "localhost" | "127.0.0.1" | "::1");
                if !connection.is_encrypted() && !is_local {
                    let text = "*smtp.plainAuth auth: unencrypted connection";
                    return Err(Failure::retry(FailureReason::AuthError, text));
                }
                let words = format!("{}\0{}\0{}", o.auth_identity, o.auth_username, secret.expose());
                command(connection, &format!("AUTH PLAIN {}", BASE64_STANDARD.encode(words))).await.map(drop)
            }
            _ => {
                command(connection, "AUTH LOGIN").await?;
                command(connection, &BASE64_STANDARD.encode(&o.auth_username)).await?;
                command(connection, &BASE64_STANDARD.encode(secret.expose())).await.map(drop)
            }
        }
    }

    /// How it calls itself.
    fn hello(&self) -> &str {
        if self.options.hello.is_empty() { "localhost" } else { &self.options.hello }
    }

    fn mailboxes(&self, r: &Rendering<'_>, field: &str, template: &str) -> Result<Mailboxes, Failure> {
        r.text(template)?.parse().map_err(|e| Failure::invalid(format!("parse '{field}' addresses: {e}")))
    }

    fn envelope(&self, r: &Rendering<'_>) -> Result<Envelope, Failure> {
        let from: Vec<_> = self.mailboxes(r, "from", &self.options.from)?.into();
        let to: Vec<lettre::message::Mailbox> = self.mailboxes(r, "to", &self.options.to)?.into();
        let [from] = <[lettre::message::Mailbox; 1]>::try_from(from).map_err(|all| {
            Failure::invalid(format!("must be exactly one 'from' address (got: {})", all.len()))
        })?;
        let to = to.into_iter().map(|mailbox| mailbox.email).collect();
        Envelope::new(Some(from.email), to).map_err(Failure::invalid)
    }

    fn headers(&self, r: &Rendering<'_>) -> Result<Vec<(String, String)>, Failure> {
        let o = &self.options;
        let mut headers = Vec::new();
        let given: BTreeMap<String, &String> = o.headers.iter().map(|(n, v)| (canonical(n), v)).collect();
        let subject = template!("email.default.subject");
        for (name, template) in [("From", &o.from), ("To", &o.to), ("Subject", &subject)] {
            if !given.contains_key(name) {
                headers.push((name.to_owned(), r.text(template)?));
            }
        }
        for (name, template) in given {
            headers.push((name, r.text(template)?));
        }
        Ok(headers)
    }

    fn thread(&self, message: &Message) -> Option<String> {
        let threading = &self.options.threading;
        let day = if threading.thread_by_date == "none" {
            String::new()
        } else {
            pilothouse_query::template::Time { seconds: message.now_ms.div_euclid(1000), nanos: 0 }
                .format("2006-01-02")
        };
        let hash = message.group_hash();
        threading.enabled.then(|| format!("<alert-{}-{day}@alertmanager>", &hash[..16]))
    }

    fn mail(&self, message: &Message) -> Result<lettre::Message, Failure> {
        let (r, o) = (message.rendering(), &self.options);
        let mut builder = lettre::Message::builder().envelope(self.envelope(&r)?).date_now();
        let headers = self.headers(&r)?;
        if !headers.iter().any(|(name, _)| name == "Message-Id") {
            builder = builder.message_id(None);
        }
        let threads = self.thread(message).into_iter();
        let threads =
            threads.flat_map(|id| [("References".to_owned(), id.clone()), ("In-Reply-To".to_owned(), id)]);
        for (name, value) in headers.into_iter().chain(threads) {
            let name = HeaderName::new_from_ascii(name).map_err(Failure::invalid)?;
            // A header is one line, whatever a template prints.
            let value = value.replace(['\r', '\n'], " ");
            builder = builder.raw_header(HeaderValue::new(name, value));
        }
        let text = (!o.text.is_empty()).then(|| r.text(&o.text)).transpose()?;
        let html = (!o.html.is_empty()).then(|| r.html(&o.html)).transpose()?;
        let part = |kind: ContentType, body: String| SinglePart::builder().header(kind).body(body);
        let built = match (text, html) {
            (Some(text), Some(html)) => builder.multipart(
                MultiPart::alternative()
                    .singlepart(part(ContentType::TEXT_PLAIN, text))
                    .singlepart(part(ContentType::TEXT_HTML, html)),
            ),
            (Some(text), None) => {
                builder.multipart(MultiPart::alternative().singlepart(part(ContentType::TEXT_PLAIN, text)))
            }
            (None, html) => builder.multipart(
                MultiPart::alternative().singlepart(part(ContentType::TEXT_HTML, html.unwrap_or_default())),
            ),
        };
        built.map_err(Failure::invalid)
    }
}

/// One line of a login, and what the server says to it.
async fn command(connection: &mut AsyncSmtpConnection, line: &str) -> Result<String, Failure> {
    let failed = |error| Failure::retry(FailureReason::AuthError, format!("auth: {error}"));
    let answer = connection.command(format!("{line}\r\n")).await.map_err(failed)?;
    Ok(answer.first_line().unwrap_or_default().to_owned())
}

/// The mechanisms of login that a server offers, in its order, which the client library does not keep.
async fn mechanisms(connection: &mut AsyncSmtpConnection, hello: &str) -> Vec<String> {
    let Ok(answer) = connection.command(format!("EHLO {hello}\r\n")).await else { return Vec::new() };
    let offers = answer.message().filter_map(|line| line.strip_prefix("AUTH "));
    offers.flat_map(str::split_whitespace).map(str::to_owned).collect()
}

async fn cram_md5(connection: &mut AsyncSmtpConnection, user: &str, shared: &Secret) -> Result<(), Failure> {
    let broken = || Failure::retry(FailureReason::AuthError, "auth: challenge cannot be read");
    let challenge = command(connection, "AUTH CRAM-MD5").await?;
    let challenge = BASE64_STANDARD.decode(challenge.trim()).map_err(|_| broken())?;
    let mut mac = Hmac::<Md5>::new_from_slice(shared.expose().as_bytes()).map_err(|_| broken())?;
    mac.update(&challenge);
    let digest: String = mac.finalize().into_bytes().iter().map(|b| format!("{b:02x}")).collect();
    command(connection, &BASE64_STANDARD.encode(format!("{user} {digest}"))).await.map(drop)
}

impl Notifier for Email {
    fn send<'a>(&'a self, message: &'a Message) -> Sending<'a> {
        Box::pin(async move {
            let mail = self.mail(message)?;
            let mut connection = self.connect().await?;
            let logged_in = self.log_in(&mut connection).await;
            let sent = match logged_in {
                Ok(()) => connection
                    .send(mail.envelope(), &mail.formatted())
                    .await
                    .map(drop)
                    .map_err(smtp("delivery failure")),
                Err(failure) => Err(failure),
            };
            // The mail is delivered or not by now; how the other side takes leave changes nothing.
            let _ = connection.quit().await;
            sent
        })
    }
}
