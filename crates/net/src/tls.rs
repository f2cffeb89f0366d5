//! TLS for outward connections: rustls with ring, the system's roots and the ones built in.

use std::fs;
use std::sync::{Arc, LazyLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedProtocolVersion};

use crate::BuildError;
use crate::options::TlsOptions;
use crate::pinned::{Pinned, Servers};

/// Whom a client believes.
#[derive(Clone)]
struct Roots {
    by_chain: Arc<RootCertStore>,
    pinned: Arc<Pinned>,
}

/// The system's roots and those built in, read once: a small image may have none of its own.
static ROOTS: LazyLock<Roots> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs().certs;
    let (_, unusable) = roots.add_parsable_certificates(native.iter().cloned());
    if unusable > 0 {
        tracing::debug!(unusable, "system certificates that cannot be used");
    }
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    Roots { by_chain: Arc::new(roots), pinned: Arc::new(Pinned::new(native)) }
});

/// The text itself, or the contents of a file, or nothing.
fn text_or_file(field: &str, text: &str, file: &str) -> Result<Option<Vec<u8>>, BuildError> {
    if !text.is_empty() {
        return Ok(Some(text.as_bytes().to_vec()));
    }
    if file.is_empty() {
        return Ok(None);
    }
    let read = fs::read(file).map_err(|e| BuildError::new(format!("unable to read {field} {file}: {e}")))?;
    Ok(Some(read))
}

/// PEM texts of what the options name, files read.
#[derive(Default)]
pub struct Material {
    pub ca: Option<Vec<u8>>,
    pub cert: Option<Vec<u8>>,
    pub key: Option<Vec<u8>>,
}

impl std::fmt::Debug for Material {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Material").field("ca", &self.ca.is_some()).finish_non_exhaustive()
    }
}

impl Material {
    pub fn read(options: &TlsOptions) -> Result<Self, BuildError> {
        Ok(Self {
            ca: text_or_file("ca_file", &options.ca, &options.ca_file)?,
            cert: text_or_file("cert_file", &options.cert, &options.cert_file)?,
            key: text_or_file("key_file", options.key.expose(), &options.key_file)?,
        })
    }
}

fn roots(ca: Option<&[u8]>) -> Result<Roots, BuildError> {
    let Some(pem) = ca else { return Ok(ROOTS.clone()) };
    let unusable =
        |e: &dyn std::fmt::Display| BuildError::new(format!("unable to use specified CA cert: {e}"));
    let certificates =
        CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(|e| unusable(&e))?;
    let mut roots = RootCertStore::empty();
    for certificate in &certificates {
        roots.add(certificate.clone()).map_err(|e| unusable(&e))?;
    }
    if roots.is_empty() {
        return Err(unusable(&"no certificate in it"));
    }
    Ok(Roots { by_chain: Arc::new(roots), pinned: Arc::new(Pinned::new(certificates)) })
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn identity(material: &Material) -> Result<Option<Identity>, BuildError> {
    let (Some(cert), Some(key)) = (&material.cert, &material.key) else { return Ok(None) };
    let unusable = |e: rustls::pki_types::pem::Error| {
        BuildError::new(format!("unable to use specified client cert and key: {e}"))
    };
    let chain = CertificateDer::pem_slice_iter(cert).collect::<Result<Vec<_>, _>>().map_err(unusable)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(unusable)?;
    Ok(Some((chain, key)))
}

fn versions(options: &TlsOptions) -> Vec<&'static SupportedProtocolVersion> {
    let mut versions = Vec::new();
    if options.min_version != "TLS13" {
        versions.push(&rustls::version::TLS12);
    }
    if options.max_version != "TLS12" {
        versions.push(&rustls::version::TLS13);
    }
    versions
}

/// A client configuration for the options; files are read now.
pub fn client_config(options: &TlsOptions) -> Result<ClientConfig, BuildError> {
    let material = Material::read(options)?;
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions(options))
        .map_err(|e| BuildError::new(format!("tls_config: {e}")))?;
    let servers = verifier(options, roots(material.ca.as_deref())?, Arc::clone(&provider))?;
    let verifier: Arc<dyn ServerCertVerifier> =
        if options.insecure_skip_verify { Arc::new(AnyCertificate(provider)) } else { Arc::new(servers) };
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    match identity(&material)? {
        None => Ok(builder.with_no_client_auth()),
        Some((chain, key)) => builder
            .with_client_auth_cert(chain, key)
            .map_err(|e| BuildError::new(format!("unable to use specified client cert and key: {e}"))),
    }
}

fn verifier(
    options: &TlsOptions,
    roots: Roots,
    provider: Arc<CryptoProvider>,
) -> Result<Servers, BuildError> {
    let by_chain = WebPkiServerVerifier::builder_with_provider(roots.by_chain, provider)
        .build()
        .map_err(|e| BuildError::new(format!("tls_config: {e}")))?;
    let name = match options.server_name.as_str() {
        "" => None,
        name => Some(
            ServerName::try_from(name.to_owned())
                .map_err(|e| BuildError::new(format!("tls_config.server_name: {e}")))?,
        ),
    };
    Ok(Servers { pinned: roots.pinned, name, by_chain })
}

/// `insecure_skip_verify`: whoever answers is believed, but must hold the key of what it shows.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
