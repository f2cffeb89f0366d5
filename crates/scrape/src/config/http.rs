//! The fields of `http_config` where Prometheus has them beside a section's own.

/// Declares a section of the configuration with the fields of [`pilothouse_net::HttpOptions`]
/// beside its own. Written out, not flattened, so that a field nobody knows is refused with its
/// line, and where it should have stood.
macro_rules! section_with_http {
    (
        $(#[$meta:meta])*
        pub struct $name:ident { $( $(#[$field_meta:meta])* pub $field:ident : $kind:ty = $default:expr, )* }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $( $(#[$field_meta])* pub $field: $kind, )*
            basic_auth: Option<pilothouse_net::options::BasicAuth>,
            authorization: Option<pilothouse_net::options::Authorization>,
            oauth2: Option<pilothouse_net::options::OAuth2>,
            bearer_token: pilothouse_net::Secret,
            bearer_token_file: String,
            tls_config: pilothouse_net::options::TlsOptions,
            follow_redirects: bool,
            enable_http2: bool,
            proxy_url: String,
            no_proxy: String,
            proxy_from_environment: bool,
            proxy_connect_header: std::collections::BTreeMap<String, Vec<pilothouse_net::Secret>>,
            http_headers: std::collections::BTreeMap<String, pilothouse_net::options::HeaderOptions>,
        }

        impl Default for $name {
            fn default() -> Self {
                let http = pilothouse_net::HttpOptions::default();
                Self {
                    $( $field: $default, )*
                    basic_auth: http.basic_auth,
                    authorization: http.authorization,
                    oauth2: http.oauth2,
                    bearer_token: http.bearer_token,
                    bearer_token_file: http.bearer_token_file,
                    tls_config: http.tls_config,
                    follow_redirects: http.follow_redirects,
                    enable_http2: http.enable_http2,
                    proxy_url: http.proxy_url,
                    no_proxy: http.no_proxy,
                    proxy_from_environment: http.proxy_from_environment,
                    proxy_connect_header: http.proxy_connect_header,
                    http_headers: http.http_headers,
                }
            }
        }

        impl $name {
            /// The fields about HTTP, paths relative to a directory, checked.
            pub(crate) fn http(
                &self,
                directory: &std::path::Path,
            ) -> Result<pilothouse_net::HttpOptions, pilothouse_net::BuildError> {
                let mut http = pilothouse_net::HttpOptions {
                    basic_auth: self.basic_auth.clone(),
                    authorization: self.authorization.clone(),
                    oauth2: self.oauth2.clone(),
                    bearer_token: self.bearer_token.clone(),
                    bearer_token_file: self.bearer_token_file.clone(),
                    tls_config: self.tls_config.clone(),
                    follow_redirects: self.follow_redirects,
                    enable_http2: self.enable_http2,
                    proxy_url: self.proxy_url.clone(),
                    no_proxy: self.no_proxy.clone(),
                    proxy_from_environment: self.proxy_from_environment,
                    proxy_connect_header: self.proxy_connect_header.clone(),
                    http_headers: self.http_headers.clone(),
                };
                http.set_directory(directory);
                http.validate()?;
                Ok(http)
            }
        }
    };
}

pub(crate) use section_with_http;
