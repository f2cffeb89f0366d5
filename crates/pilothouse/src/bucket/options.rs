//! Which bucket, and by which credentials.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use pilothouse_net::Secret;

/// `s3://BUCKET/PREFIX`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(super) bucket: String,
    /// Without slashes at its ends; may be empty.
    prefix: String,
}

const SCHEME: &str = "s3://";

impl Address {
    /// `None` where the text is no such address, and so a path.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(SCHEME)?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_matches('/');
        Some(Self { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }

    /// The key of an object below the prefix.
    pub(super) fn key(&self, name: &str) -> String {
        match (self.prefix.as_str(), name) {
            ("", name) => name.to_owned(),
            (prefix, "") => prefix.to_owned(),
            (prefix, name) => format!("{prefix}/{name}"),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.bucket, self.prefix)
    }
}

/// How a bucket is reached.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BucketOptions {
    /// Unsaid: Amazon's of the region.
    pub(crate) endpoint_url: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) access_key_id: Option<String>,
    pub(crate) secret_access_key: Secret,
    pub(crate) session_token: Secret,
    /// Whether the bucket stands in the path of an address, else in its host.
    pub(crate) path_style: bool,
    pub(crate) ca_file: Option<PathBuf>,
}

impl BucketOptions {
    /// Takes what is not said from the environment, in the names that Amazon's own tools read.
    pub(crate) fn or_environment(self) -> Self {
        self.or(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn or(self, variable: impl Fn(&str) -> Option<String>) -> Self {
        let secret = |said: Secret, name: &str| match said.is_empty() {
            true => variable(name).map(Secret::new).unwrap_or_default(),
            false => said,
        };
        Self {
            endpoint_url: self
                .endpoint_url
                .or_else(|| variable("AWS_ENDPOINT_URL_S3"))
                .or_else(|| variable("AWS_ENDPOINT_URL")),
            region: self.region.or_else(|| variable("AWS_REGION")).or_else(|| variable("AWS_DEFAULT_REGION")),
            access_key_id: self.access_key_id.or_else(|| variable("AWS_ACCESS_KEY_ID")),
            secret_access_key: secret(self.secret_access_key, "AWS_SECRET_ACCESS_KEY"),
            session_token: secret(self.session_token, "AWS_SESSION_TOKEN"),
            path_style: self.path_style,
            ca_file: self.ca_file.or_else(|| variable("AWS_CA_BUNDLE").map(PathBuf::from)),
        }
    }

    /// What is missing. Nobody is asked for credentials, such as the metadata service of a cloud:
    /// calls go where they were told to and nowhere else.
    pub(super) fn check(&self) -> Result<(), String> {
        let missing = match (&self.access_key_id, self.secret_access_key.is_empty()) {
            (Some(_), false) => return self.check_endpoint(),
            (None, _) => "s3.access_key_id or AWS_ACCESS_KEY_ID",
            _ => "s3.secret_access_key or AWS_SECRET_ACCESS_KEY",
        };
        Err(format!("{missing} is not set"))
    }

    fn check_endpoint(&self) -> Result<(), String> {
        match &self.endpoint_url {
            Some(url) if !(url.starts_with("http://") || url.starts_with("https://")) => {
                Err(format!("s3.endpoint_url is http://HOST or https://HOST, not {url:?}"))
            }
            _ => Ok(()),
        }
    }

    /// The endpoint, with the bucket in its host where that is the style.
    pub(super) fn endpoint(&self, bucket: &str) -> Option<String> {
        let url = self.endpoint_url.as_ref()?.trim_end_matches('/');
        match url.split_once("://") {
            Some((scheme, host)) if !self.path_style => Some(format!("{scheme}://{bucket}.{host}")),
            _ => Some(url.to_owned()),
        }
    }

    pub(super) fn is_on_this_machine(&self) -> bool {
        let uri = self.endpoint_url.as_deref().unwrap_or_default().parse::<http::Uri>();
        let host = uri.as_ref().ok().and_then(http::Uri::host).unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing() -> BucketOptions {
        BucketOptions {
            endpoint_url: None,
            region: None,
            access_key_id: None,
            secret_access_key: Secret::default(),
            session_token: Secret::default(),
            path_style: true,
            ca_file: None,
        }
    }

    #[test]
    fn addresses_have_a_bucket_and_perhaps_a_prefix() {
        for (text, bucket, key) in
            [("s3://b", "b", "MANIFEST"), ("s3://b/", "b", "MANIFEST"), ("s3://b/a/c/", "b", "a/c/MANIFEST")]
        {
            let address = Address::parse(text).unwrap();
            assert_eq!((address.bucket.as_str(), address.key("MANIFEST").as_str()), (bucket, key), "{text}");
        }
        assert_eq!(Address::parse("/backups/s3"), None);
    }

    #[test]
    fn what_is_said_wins_over_the_environment() {
        let variable = |name: &str| (name != "AWS_ENDPOINT_URL_S3").then(|| name.to_owned());
        let said = BucketOptions { region: Some("fr-par".to_owned()), ..nothing() }.or(variable);
        assert_eq!(said.region.as_deref(), Some("fr-par"));
        assert_eq!(said.endpoint_url.as_deref(), Some("AWS_ENDPOINT_URL"));
        assert_eq!(said.secret_access_key.expose(), "AWS_SECRET_ACCESS_KEY");
        assert!(nothing().check().unwrap_err().contains("AWS_ACCESS_KEY_ID"));
        assert!(said.check().unwrap_err().contains("endpoint_url"));
    }

    #[test]
    fn a_bucket_may_stand_in_the_host() {
        let endpoint_url = Some("https://s3.fr-par.scw.cloud/".to_owned());
        let path = BucketOptions { endpoint_url, ..nothing() };
        assert_eq!(path.endpoint("b").as_deref(), Some("https://s3.fr-par.scw.cloud"));
        let host = BucketOptions { path_style: false, ..path };
        assert_eq!(host.endpoint("b").as_deref(), Some("https://b.s3.fr-par.scw.cloud"));
        assert!(!host.is_on_this_machine());
    }
}
