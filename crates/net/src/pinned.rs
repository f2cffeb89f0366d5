//! Certificates that are trusted for themselves.
//!
//! Whoever makes a certificate with a plain `openssl req -x509` gets one of an authority, shows it as a
//! server's, and names the same file as the authority to trust. rustls refuses an authority as a
//! server's own certificate whoever trusts it; Go takes one that is itself among the roots. So does
//! this, and nothing more: the bytes must be those of a root, and what Go checks of it then is checked.

use std::sync::Arc;

use rustls::CertificateError;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// What a certificate is shown for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Server,
    Client,
}

/// The roots as they were given.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pinned(Vec<CertificateDer<'static>>);

impl Pinned {
    pub(crate) fn new(roots: Vec<CertificateDer<'static>>) -> Self {
        Self(roots)
    }

    fn holds(&self, shown: &CertificateDer<'_>) -> bool {
        self.0.iter().any(|root| root.as_ref() == shown.as_ref())
    }
}

/// Time and purpose; reading it refuses critical extensions that nobody here knows.
fn check(shown: &CertificateDer<'_>, purpose: Purpose, now: UnixTime) -> Result<(), Error> {
    let wrong = |why: CertificateError| Err(Error::InvalidCertificate(why));
    ParsedCertificate::try_from(shown)?;
    let Ok((_, parsed)) = X509Certificate::from_der(shown) else {
        return wrong(CertificateError::BadEncoding);
    };
    let now_s = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now_s < parsed.validity().not_before.timestamp() {
        return wrong(CertificateError::NotValidYet);
    }
    if now_s > parsed.validity().not_after.timestamp() {
        return wrong(CertificateError::Expired);
    }
    let Ok(usage) = parsed.extended_key_usage() else { return wrong(CertificateError::BadEncoding) };
    let fits = usage.is_none_or(|usage| {
        let named = match purpose {
            Purpose::Server => usage.value.server_auth,
            Purpose::Client => usage.value.client_auth,
        };
        named || usage.value.any
    });
    if fits { Ok(()) } else { wrong(CertificateError::InvalidPurpose) }
}

/// Verifies servers by a chain to a root, or as a root itself.
#[derive(Debug)]
pub(crate) struct Servers {
    pub(crate) pinned: Arc<Pinned>,
    /// The certificate is checked for this name rather than for the one that is asked for in the
    /// handshake, which stays the host of the address.
    pub(crate) name: Option<ServerName<'static>>,
    pub(crate) by_chain: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        asked: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let name = self.name.as_ref().unwrap_or(asked);
        if !self.pinned.holds(shown) {
            return self.by_chain.verify_server_cert(shown, chain, name, ocsp, now);
        }
        check(shown, Purpose::Server, now)?;
        verify_server_name(&ParsedCertificate::try_from(shown)?, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_chain.verify_tls12_signature(message, cert, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_chain.verify_tls13_signature(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_chain.supported_verify_schemes()
    }
}

/// Verifies clients by a chain to a root, or as a root itself; for the listener.
#[derive(Debug)]
pub struct Clients {
    pinned: Pinned,
    by_chain: Arc<dyn ClientCertVerifier>,
}

impl Clients {
    /// `roots` are those that `by_chain` was made with.
    pub fn new(roots: Vec<CertificateDer<'static>>, by_chain: Arc<dyn ClientCertVerifier>) -> Self {
        Self { pinned: Pinned::new(roots), by_chain }
    }
}

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.by_chain.root_hint_subjects()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.by_chain.client_auth_mandatory()
    }

    fn verify_client_cert(
        &self,
        shown: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if !self.pinned.holds(shown) {
            return self.by_chain.verify_client_cert(shown, chain, now);
        }
        check(shown, Purpose::Client, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_chain.verify_tls12_signature(message, cert, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_chain.verify_tls13_signature(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_chain.supported_verify_schemes()
    }
}
