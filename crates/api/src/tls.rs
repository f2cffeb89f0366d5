//! TLS of the listener: a certificate and its key from files, and who must show one of their own.
//!
//! The files are looked at now and then; when they have changed, new connections get the new
//! certificate. Files that cannot be used then are told of, and the old certificate stays.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::{Mutex, RwLock};
use pilothouse_net::pinned::Clients;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What the operator names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, the server's own certificate first.
    pub cert: PathBuf,
    pub key: PathBuf,
    /// Clients must show a certificate that one of these has signed.
    pub client_ca: Option<PathBuf>,
}

/// Files that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}", path = .path.display())]
pub struct TlsError {
    path: PathBuf,
    reason: String,
}

/// The certificate in force.
pub struct Tls {
    files: TlsFiles,
    current: RwLock<Arc<ServerConfig>>,
    seen: Mutex<Seen>,
}

/// When each file was changed last, and how long it is.
type Seen = Vec<Option<(SystemTime, u64)>>;

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Tls {
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let seen = look(&files);
        let current = RwLock::new(Arc::new(config(&files)?));
        Ok(Self { files, current, seen: Mutex::new(seen) })
    }

    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read())
    }

    /// Looks at the files for ever.
    pub(crate) async fn follow(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let this = Arc::clone(&self);
            // Reading a file may block.
            let _ = tokio::task::spawn_blocking(move || this.reload_if_changed()).await;
        }
    }

    /// Takes new files into use; `true` if there were some.
    fn reload_if_changed(&self) -> bool {
        let now = look(&self.files);
        if std::mem::replace(&mut *self.seen.lock(), now.clone()) == now {
            return false;
        }
        match config(&self.files) {
            Ok(new) => {
                *self.current.write() = Arc::new(new);
                tracing::info!("the TLS certificate was read anew");
                true
            }
            // Perhaps the one file is new and the other is about to be.
            Err(error) => {
                tracing::error!(%error, "the new TLS certificate cannot be used; the old one stays");
                false
            }
        }
    }
}

fn look(files: &TlsFiles) -> Seen {
    let paths = [Some(&files.cert), Some(&files.key), files.client_ca.as_ref()];
    let stamp = |path: &PathBuf| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    paths.into_iter().flatten().map(stamp).collect()
}

fn config(files: &TlsFiles) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let wrong = |path: &Path| {
        let path = path.to_owned();
        move |e: rustls::Error| TlsError { path, reason: e.to_string() }
    };
    let chain = certificates(&files.cert)?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|e| TlsError { path: files.key.clone(), reason: format!("no private key: {e}") })?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(wrong(&files.cert))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(ca) => builder.with_client_cert_verifier(client_verifier(ca, provider)?),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(wrong(&files.cert))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn client_verifier(
    ca: &Path,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let wrong = |reason: String| TlsError { path: ca.to_owned(), reason };
    let certificates = certificates(ca)?;
    let mut roots = RootCertStore::empty();
    for certificate in &certificates {
        roots.add(certificate.clone()).map_err(|e| wrong(e.to_string()))?;
    }
    let built = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
    Ok(Arc::new(Clients::new(certificates, built.map_err(|e| wrong(e.to_string()))?)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |reason: String| TlsError { path: path.to_owned(), reason };
    let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(wrong("no certificate in it".to_owned())),
        Err(e) => Err(wrong(format!("no certificate: {e}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(files: &TlsFiles, name: &str) -> Vec<u8> {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        std::fs::write(&files.cert, made.cert.pem()).unwrap();
        std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        made.cert.der().to_vec()
    }

    #[test]
    fn new_files_are_taken_into_use_and_bad_ones_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let files =
            TlsFiles { cert: dir.path().join("c.pem"), key: dir.path().join("k.pem"), client_ca: None };
        assert!(Tls::load(files.clone()).unwrap_err().to_string().contains("c.pem"));
        write(&files, "one.example");
        let tls = Tls::load(files.clone()).unwrap();
        let first = tls.current();
        assert!(!tls.reload_if_changed());
        write(&files, "a-longer-name.example");
        assert!(tls.reload_if_changed());
        let second = tls.current();
        assert!(!Arc::ptr_eq(&first, &second));
        std::fs::write(&files.key, "no key at all").unwrap();
        assert!(!tls.reload_if_changed() && Arc::ptr_eq(&second, &tls.current()));
        let with_ca = TlsFiles { client_ca: Some(dir.path().join("k.pem")), ..files };
        assert!(Tls::load(with_ca).is_err());
    }
}
