//! What a configuration may say about HTTP calls, as `prometheus/common` defines it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::{BuildError, Secret};

/// `http_config`. Read it from YAML, then call [`HttpOptions::validate`].
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpOptions {
    pub basic_auth: Option<BasicAuth>,
    pub authorization: Option<Authorization>,
    pub oauth2: Option<OAuth2>,
    /// Older form of `authorization`.
    pub bearer_token: Secret,
    pub bearer_token_file: String,
    pub tls_config: TlsOptions,
    pub follow_redirects: bool,
    pub enable_http2: bool,
    pub proxy_url: String,
    pub no_proxy: String,
    pub proxy_from_environment: bool,
    pub proxy_connect_header: BTreeMap<String, Vec<Secret>>,
    pub http_headers: BTreeMap<String, HeaderOptions>,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            basic_auth: None,
            authorization: None,
            oauth2: None,
            bearer_token: Secret::default(),
            bearer_token_file: String::new(),
            tls_config: TlsOptions::default(),
            follow_redirects: true,
            enable_http2: true,
            proxy_url: String::new(),
            no_proxy: String::new(),
            proxy_from_environment: false,
            proxy_connect_header: BTreeMap::new(),
            http_headers: BTreeMap::new(),
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BasicAuth {
    pub username: String,
    pub username_file: String,
    pub username_ref: String,
    pub password: Secret,
    pub password_file: String,
    pub password_ref: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Authorization {
    /// `Bearer` where it is not given.
    #[serde(rename = "type")]
    pub kind: String,
    pub credentials: Secret,
    pub credentials_file: String,
    pub credentials_ref: String,
}

impl Authorization {
    pub fn kind(&self) -> &str {
        match self.kind.trim() {
            "" => "Bearer",
            kind => kind,
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OAuth2 {
    pub client_id: String,
    pub client_secret: Secret,
    pub client_secret_file: String,
    pub client_secret_ref: String,
    pub grant_type: String,
    pub scopes: Vec<String>,
    pub token_url: String,
    pub endpoint_params: BTreeMap<String, String>,
    pub tls_config: TlsOptions,
    pub proxy_url: String,
    pub no_proxy: String,
    pub proxy_from_environment: bool,
    pub proxy_connect_header: BTreeMap<String, Vec<Secret>>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsOptions {
    pub ca: String,
    pub ca_file: String,
    pub ca_ref: String,
    pub cert: String,
    pub cert_file: String,
    pub cert_ref: String,
    pub key: Secret,
    pub key_file: String,
    pub key_ref: String,
    pub server_name: String,
    pub insecure_skip_verify: bool,
    /// `TLS10` to `TLS13`; below 1.2 nothing is offered, whatever is said here.
    pub min_version: String,
    pub max_version: String,
}

/// A header of every request: fixed texts, secrets, and contents of files.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HeaderOptions {
    pub values: Vec<String>,
    pub secrets: Vec<Secret>,
    pub files: Vec<String>,
}

/// Headers that the client or an authorization sets itself.
const RESERVED_HEADERS: [&str; 18] = [
    "Authorization",
    "Host",
    "Content-Encoding",
    "Content-Length",
    "Content-Type",
    "User-Agent",
    "Connection",
    "Keep-Alive",
    "Proxy-Authenticate",
    "Proxy-Authorization",
    "Www-Authenticate",
    "Accept-Encoding",
    "X-Prometheus-Remote-Write-Version",
    "X-Prometheus-Remote-Read-Version",
    "X-Prometheus-Scrape-Timeout-Seconds",
    "X-Amz-Date",
    "X-Amz-Security-Token",
    "X-Amz-Content-Sha256",
];

fn refuse(text: impl Into<String>) -> Result<(), BuildError> {
    Err(BuildError::new(text))
}

/// Refuses more than one of several ways to say a thing.
fn at_most_one(given: &[bool], text: &str) -> Result<(), BuildError> {
    if given.iter().filter(|g| **g).count() > 1 { refuse(text) } else { Ok(()) }
}

/// There is no secret manager here to look a name up in.
fn no_reference(field: &str, value: &str) -> Result<(), BuildError> {
    if value.is_empty() {
        Ok(())
    } else {
        refuse(format!("{field}: references to secrets are not supported"))
    }
}

impl HttpOptions {
    /// The checks of `prometheus/common` with its texts, and a refusal naming the field for what
    /// is not supported.
    pub fn validate(&self) -> Result<(), BuildError> {
        self.validate_tokens()?;
        if let Some(basic) = &self.basic_auth {
            basic.validate()?;
        }
        self.validate_authorization()?;
        if let Some(oauth2) = &self.oauth2 {
            if self.basic_auth.is_some() {
                return refuse("at most one of basic_auth, oauth2 & authorization must be configured");
            }
            oauth2.validate()?;
        }
        Proxy::of(self).validate()?;
        self.tls_config.validate()?;
        for name in self.http_headers.keys() {
            if let Some(reserved) = RESERVED_HEADERS.iter().find(|r| r.eq_ignore_ascii_case(name)) {
                return refuse(format!("setting header {reserved:?} is not allowed"));
            }
        }
        Ok(())
    }

    fn has_bearer_token(&self) -> bool {
        !self.bearer_token.is_empty() || !self.bearer_token_file.is_empty()
    }

    fn validate_tokens(&self) -> Result<(), BuildError> {
        at_most_one(
            &[!self.bearer_token.is_empty(), !self.bearer_token_file.is_empty()],
            "at most one of bearer_token & bearer_token_file must be configured",
        )?;
        if self.has_bearer_token() && (self.basic_auth.is_some() || self.oauth2.is_some()) {
            return refuse(
                "at most one of basic_auth, oauth2, bearer_token & bearer_token_file must be configured",
            );
        }
        Ok(())
    }

    fn validate_authorization(&self) -> Result<(), BuildError> {
        let Some(authorization) = &self.authorization else { return Ok(()) };
        if self.has_bearer_token() {
            return refuse("authorization is not compatible with bearer_token & bearer_token_file");
        }
        at_most_one(
            &[!authorization.credentials.is_empty(), !authorization.credentials_file.is_empty()],
            "at most one of authorization credentials & credentials_file must be configured",
        )?;
        no_reference("authorization.credentials_ref", &authorization.credentials_ref)?;
        if authorization.kind().eq_ignore_ascii_case("basic") {
            return refuse("authorization type cannot be set to \"basic\", use \"basic_auth\" instead");
        }
        if self.basic_auth.is_some() || self.oauth2.is_some() {
            return refuse("at most one of basic_auth, oauth2 & authorization must be configured");
        }
        Ok(())
    }

    /// The authorization in force, the older bearer token included.
    pub fn effective_authorization(&self) -> Option<Authorization> {
        self.authorization.clone().or_else(|| {
            self.has_bearer_token().then(|| Authorization {
                credentials: self.bearer_token.clone(),
                credentials_file: self.bearer_token_file.clone(),
                ..Authorization::default()
            })
        })
    }

    /// Makes relative paths of files relative to a directory.
    pub fn set_directory(&mut self, directory: &Path) {
        join(directory, &mut self.bearer_token_file);
        if let Some(basic) = &mut self.basic_auth {
            join(directory, &mut basic.username_file);
            join(directory, &mut basic.password_file);
        }
        if let Some(authorization) = &mut self.authorization {
            join(directory, &mut authorization.credentials_file);
        }
        if let Some(oauth2) = &mut self.oauth2 {
            join(directory, &mut oauth2.client_secret_file);
            oauth2.tls_config.set_directory(directory);
        }
        for header in self.http_headers.values_mut() {
            header.files.iter_mut().for_each(|file| join(directory, file));
        }
        self.tls_config.set_directory(directory);
    }
}

/// Joins a relative path to a directory; an empty one stays empty.
pub fn join(directory: &Path, path: &mut String) {
    if !path.is_empty() && Path::new(path.as_str()).is_relative() {
        let joined: PathBuf = directory.join(path.as_str());
        *path = joined.display().to_string();
    }
}

impl BasicAuth {
    fn validate(&self) -> Result<(), BuildError> {
        at_most_one(
            &[!self.username.is_empty(), !self.username_file.is_empty(), !self.username_ref.is_empty()],
            "at most one of basic_auth username, username_file & username_ref must be configured",
        )?;
        at_most_one(
            &[!self.password.is_empty(), !self.password_file.is_empty(), !self.password_ref.is_empty()],
            "at most one of basic_auth password, password_file & password_ref must be configured",
        )?;
        no_reference("basic_auth.username_ref", &self.username_ref)?;
        no_reference("basic_auth.password_ref", &self.password_ref)
    }
}

impl OAuth2 {
    fn validate(&self) -> Result<(), BuildError> {
        if self.client_id.is_empty() {
            return refuse("oauth2 client_id must be configured");
        }
        if self.token_url.is_empty() {
            return refuse("oauth2 token_url must be configured");
        }
        if !matches!(self.grant_type.as_str(), "" | "client_credentials") {
            return refuse(format!("oauth2.grant_type: {:?} is not supported", self.grant_type));
        }
        at_most_one(
            &[!self.client_secret.is_empty(), !self.client_secret_file.is_empty()],
            "at most one of oauth2 client_secret, client_secret_file & client_secret_ref must be configured using grant-type=client_credentials",
        )?;
        no_reference("oauth2.client_secret_ref", &self.client_secret_ref)?;
        self.tls_config.validate()
    }

    /// How the token is fetched: the same TLS and proxy settings, and nothing else.
    pub(crate) fn token_options(&self) -> HttpOptions {
        HttpOptions {
            tls_config: self.tls_config.clone(),
            proxy_url: self.proxy_url.clone(),
            no_proxy: self.no_proxy.clone(),
            proxy_from_environment: self.proxy_from_environment,
            proxy_connect_header: self.proxy_connect_header.clone(),
            ..HttpOptions::default()
        }
    }
}

struct Proxy<'a>(&'a HttpOptions);

impl<'a> Proxy<'a> {
    fn of(options: &'a HttpOptions) -> Self {
        Self(options)
    }

    fn validate(&self) -> Result<(), BuildError> {
        let Self(options) = self;
        let (url, environment) = (!options.proxy_url.is_empty(), options.proxy_from_environment);
        if !options.proxy_connect_header.is_empty() && !environment && !url {
            return refuse(
                "if proxy_connect_header is configured, proxy_url or proxy_from_environment must also be configured",
            );
        }
        if environment && url {
            return refuse("if proxy_from_environment is configured, proxy_url must not be configured");
        }
        if environment && !options.no_proxy.is_empty() {
            return refuse("if proxy_from_environment is configured, no_proxy must not be configured");
        }
        if !url && !options.no_proxy.is_empty() {
            return refuse("if no_proxy is configured, proxy_url must also be configured");
        }
        Ok(())
    }
}

impl TlsOptions {
    /// The checks of `prometheus/common`, and those of this side's TLS.
    pub fn validate(&self) -> Result<(), BuildError> {
        at_most_one(
            &[!self.ca.is_empty(), !self.ca_file.is_empty(), !self.ca_ref.is_empty()],
            "at most one of ca, ca_file & ca_ref must be configured",
        )?;
        at_most_one(
            &[!self.cert.is_empty(), !self.cert_file.is_empty(), !self.cert_ref.is_empty()],
            "at most one of cert, cert_file & cert_ref must be configured",
        )?;
        at_most_one(
            &[!self.key.is_empty(), !self.key_file.is_empty(), !self.key_ref.is_empty()],
            "at most one of key and key_file must be configured",
        )?;
        for (field, value) in
            [("ca_ref", &self.ca_ref), ("cert_ref", &self.cert_ref), ("key_ref", &self.key_ref)]
        {
            no_reference(&format!("tls_config.{field}"), value)?;
        }
        let cert = !self.cert.is_empty() || !self.cert_file.is_empty();
        let key = !self.key.is_empty() || !self.key_file.is_empty();
        if cert && !key {
            return refuse(
                "exactly one of key or key_file must be configured when a client certificate is configured",
            );
        }
        if key && !cert {
            return refuse(
                "exactly one of cert or cert_file must be configured when a client key is configured",
            );
        }
        self.validate_versions()
    }

    fn validate_versions(&self) -> Result<(), BuildError> {
        for version in [&self.min_version, &self.max_version] {
            if !matches!(version.as_str(), "" | "TLS10" | "TLS11" | "TLS12" | "TLS13") {
                return refuse(format!("unknown TLS version: {version}"));
            }
        }
        if matches!(self.max_version.as_str(), "TLS10" | "TLS11") {
            return refuse(format!("tls_config.max_version: {} is not supported", self.max_version));
        }
        if self.max_version == "TLS12" && self.min_version == "TLS13" {
            return refuse(
                "tls_config.max_version must be greater than or equal to tls_config.min_version if both are specified",
            );
        }
        Ok(())
    }

    /// Makes relative paths of files relative to a directory.
    pub fn set_directory(&mut self, directory: &Path) {
        for path in [&mut self.ca_file, &mut self.cert_file, &mut self.key_file] {
            join(directory, path);
        }
    }
}
