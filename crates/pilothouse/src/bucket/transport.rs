//! Calls of `object_store` by our own client.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt as _;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use pilothouse_model::limits::BUCKET_ANSWER_BYTES;
use pilothouse_net::options::TlsOptions;
use pilothouse_net::{BuildError, CallError, Client, ClientSettings, HttpOptions, Request, Secret};

use super::BucketOptions;

/// For a part over a thin line.
const TIMEOUT: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub(super) struct Transport {
    options: HttpOptions,
}

impl Transport {
    pub(super) fn new(options: &BucketOptions) -> Result<Self, BuildError> {
        let ca_file = options.ca_file.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        let options = HttpOptions {
            tls_config: TlsOptions { ca_file, ..TlsOptions::default() },
            // A signature holds for the address that it was made for.
            follow_redirects: false,
            proxy_from_environment: !options.is_on_this_machine(),
            ..HttpOptions::default()
        };
        // What is wrong with it is said now and not at the first call.
        client(&options)?;
        Ok(Self { options })
    }
}

fn client(options: &HttpOptions) -> Result<Client, BuildError> {
    // A backup takes room for one answer and its parts when it begins; see `crate::backup`.
    let usual = ClientSettings::booking(&Arc::default());
    let settings = ClientSettings { timeout: TIMEOUT, max_response_bytes: BUCKET_ANSWER_BYTES, ..usual };
    Client::new(options, settings)
}

impl HttpConnector for Transport {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = client(&self.options)
            .map_err(|e| object_store::Error::Generic { store: "S3", source: Box::new(e) })?;
        Ok(HttpClient::new(Service(client)))
    }
}

#[derive(Debug)]
struct Service(Client);

#[async_trait::async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        let body: Bytes = body.collect().await?.to_bytes();
        let url = Secret::new(parts.uri.to_string());
        let request = Request { method: parts.method, url, headers: parts.headers, body };
        let answer = self.0.send(request).await.map_err(failed)?;
        let mut response = Response::new(answer.body.into());
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        Ok(response)
    }
}

/// All calls may be made twice, so that what is temporary is tried again.
fn failed(error: CallError) -> HttpError {
    let kind = match &error {
        CallError::Timeout(_) => HttpErrorKind::Timeout,
        temporary if temporary.is_temporary() => HttpErrorKind::Request,
        _ => HttpErrorKind::Unknown,
    };
    HttpError::new(kind, error)
}
