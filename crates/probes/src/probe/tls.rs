//! Encryption: the settings of a check as a client, and what a handshake showed.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use pilothouse_model::limits::CHECK_TLS_CLIENTS;
use pilothouse_net::options::TlsOptions;
use pilothouse_net::{BuildError, Secret};
use prost::Message as _;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ProtocolVersion};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::run::Recorder;
use crate::words::TlsConfig;

/// Settings as bytes, and what is offered by ALPN.
type Key = (Vec<u8>, Vec<Vec<u8>>);

/// Clients by their settings, since roots, certificates and keys are costly to read for each run.
#[derive(Default)]
pub(super) struct Clients(Mutex<HashMap<Key, Arc<ClientConfig>>>);

/// The keys hold secrets.
impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clients(…)")
    }
}

impl Clients {
    /// A client for the settings; `protocols` are offered by ALPN.
    pub(super) fn client(
        &self,
        settings: Option<&TlsConfig>,
        protocols: &[&[u8]],
    ) -> Result<Arc<ClientConfig>, BuildError> {
        let offered = protocols.iter().map(|p| p.to_vec()).collect();
        let key = (settings.map(TlsConfig::encode_to_vec).unwrap_or_default(), offered);
        if let Some(known) = self.0.lock().get(&key) {
            return Ok(Arc::clone(known));
        }
        let made = Arc::new(client(settings, &key.1)?);
        let mut clients = self.0.lock();
        if clients.len() >= CHECK_TLS_CLIENTS {
            clients.clear();
        }
        clients.insert(key, Arc::clone(&made));
        Ok(made)
    }
}

/// No session is resumed: every run measures a whole handshake and sees the certificates.
fn client(settings: Option<&TlsConfig>, protocols: &[Vec<u8>]) -> Result<ClientConfig, BuildError> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let options = settings.map_or_else(TlsOptions::default, |s| TlsOptions {
        ca: text(&s.ca_cert),
        cert: text(&s.client_cert),
        key: Secret::new(text(&s.client_key)),
        server_name: s.server_name.clone(),
        insecure_skip_verify: s.insecure_skip_verify,
        ..TlsOptions::default()
    });
    let mut config = pilothouse_net::tls::client_config(&options)?;
    config.resumption = Resumption::disabled();
    config.alpn_protocols = protocols.to_vec();
    Ok(config)
}

/// The handshake, for the name that the certificate must carry.
pub(super) async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
    config: Arc<ClientConfig>,
    settings: Option<&TlsConfig>,
    host: &str,
    stream: S,
) -> std::io::Result<TlsStream<S>> {
    let named = settings.map(|s| s.server_name.as_str()).filter(|name| !name.is_empty());
    let name = ServerName::try_from(named.unwrap_or(host).to_owned()).map_err(std::io::Error::other)?;
    TlsConnector::from(config).connect(name, stream).await
}

/// Of a chain that nobody verified.
const NOT_VERIFIED_S: f64 = -62_135_596_800.0;

/// Takes down version, cipher and certificates of a connection.
pub(super) fn take_down(connection: &ClientConnection, verified: bool, recorder: &mut Recorder) {
    let version = match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => "TLS 1.2",
        Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
        _ => "unknown",
    };
    let help = "Returns the TLS version used or NaN when unknown";
    recorder.gauge("probe_tls_version_info", help, &[("version", version)], 1.0);
    if let Some(suite) = connection.negotiated_cipher_suite() {
        let cipher = format!("{:?}", suite.suite()).replace("TLS13_", "TLS_");
        let help = "Returns the TLS cipher negotiated during handshake";
        recorder.gauge("probe_tls_cipher_info", help, &[("cipher", &cipher)], 1.0);
    }
    let chain = connection.peer_certificates().unwrap_or(&[]);
    let parsed: Vec<X509Certificate<'_>> =
        chain.iter().filter_map(|der| X509Certificate::from_der(der).ok().map(|(_, c)| c)).collect();
    let expiry =
        parsed.iter().map(|c| c.validity().not_after.timestamp() as f64).fold(f64::INFINITY, f64::min);
    if expiry.is_finite() {
        let help = "Returns last SSL chain expiry in unixtime";
        recorder.gauge("probe_ssl_earliest_cert_expiry", help, &[], expiry);
        let help = "Returns last SSL chain expiry in timestamp";
        let chain_expiry = if verified { expiry } else { NOT_VERIFIED_S };
        recorder.gauge("probe_ssl_last_chain_expiry_timestamp_seconds", help, &[], chain_expiry);
    }
    if let (Some(der), Some(leaf)) = (chain.first(), parsed.first()) {
        take_down_leaf(der, leaf, recorder);
    }
}

fn take_down_leaf(der: &[u8], leaf: &X509Certificate<'_>, recorder: &mut Recorder) {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let serial = hex(leaf.raw_serial());
    let labels: [(&'static str, &str); 5] = [
        ("fingerprint_sha256", &hex(&Sha256::digest(der))),
        ("issuer", &leaf.issuer().to_string()),
        ("serialnumber", serial.trim_start_matches('0')),
        ("subject", &leaf.subject().to_string()),
        ("subjectalternative", &alternative_names(leaf)),
    ];
    let help = "Contains SSL leaf certificate information";
    recorder.gauge("probe_ssl_last_chain_info", help, &labels, 1.0);
}

fn alternative_names(leaf: &X509Certificate<'_>) -> String {
    let names = leaf.extensions().iter().filter_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
        _ => None,
    });
    let dns = names.flatten().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(*name),
        _ => None,
    });
    dns.collect::<Vec<_>>().join(",")
}
