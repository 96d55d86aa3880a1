//! The serving certificate, replaced while the server runs.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::ResolvesServerCertUsingSni;
use tokio_util::sync::CancellationToken;

use super::Shared;
use crate::pki::{self, Identity};

/// The certificate that is served, and the files that it comes from, if it comes from files.
///
/// The files are read again at an interval and their bytes compared. Watching them with inotify misses what a kubelet
/// does: it swaps a link to a folder, so that a watch on a file sees the file go and never again anything. And a pair of
/// which one half is new does not fit together, so the old pair stays in use until the other half is there too.
pub struct Certificates {
    provider: Arc<CryptoProvider>,
    config: ArcSwap<ServerConfig>,
    files: Option<(PathBuf, PathBuf)>,
    seen: Mutex<Seen>,
}

/// The bytes of a certificate and of a key.
type Pair = (Vec<u8>, Vec<u8>);

/// What the files held.
struct Seen {
    in_use: Option<Pair>,
    /// When the certificate in use expires.
    expires: SystemTime,
    /// What was found last, if it could not be used: the pair, or nothing that could be read.
    refused: Option<Option<Pair>>,
}

/// A certificate that cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        problem: std::io::Error,
    },
    /// What is in the files cannot be served.
    #[error("{certificate} and {key}: {problem}")]
    Pair {
        /// The file of the certificate.
        certificate: String,
        /// The file of the key.
        key: String,
        /// Why not.
        problem: pki::Error,
    },
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Certificates {
    /// Serves the pair in these files.
    ///
    /// # Errors
    /// The files cannot be read, or what is in them cannot be served.
    pub fn from_files(certificate: &Path, key: &Path, shared: &Shared) -> Result<Self, Error> {
        let (certificate, key) = (certificate.to_owned(), key.to_owned());
        let bytes = read(&certificate, &key)?;
        let provider = provider();
        let (config, expires) = configure(&provider, &bytes.0, &bytes.1).map_err(|problem| Error::Pair {
            certificate: certificate.display().to_string(),
            key: key.display().to_string(),
            problem,
        })?;
        in_use(shared, expires);
        let seen = Seen { in_use: Some(bytes), expires, refused: None };
        let files = Some((certificate, key));
        Ok(Self { provider, config: ArcSwap::from(config), files, seen: Mutex::new(seen) })
    }

    /// Serves this pair, which is in no file.
    ///
    /// # Errors
    /// It cannot be served.
    pub fn from_pem(pem: &pki::Pem, shared: &Shared) -> Result<Self, pki::Error> {
        let provider = provider();
        let (config, expires) = configure(&provider, pem.certificate.as_bytes(), pem.key.as_bytes())?;
        in_use(shared, expires);
        let seen = Seen { in_use: None, expires, refused: None };
        Ok(Self { provider, config: ArcSwap::from(config), files: None, seen: Mutex::new(seen) })
    }

    /// Serves nobody until a pair is there to be served: see [`Self::replace`].
    ///
    /// # Errors
    /// There are no protocols to serve by.
    pub fn awaited(shared: &Shared) -> Result<Self, pki::Error> {
        let provider = provider();
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(ResolvesServerCertUsingSni::new()));
        shared.readiness.certificate_awaited();
        let seen = Seen { in_use: None, expires: SystemTime::UNIX_EPOCH, refused: None };
        Ok(Self { provider, config: ArcSwap::from_pointee(config), files: None, seen: Mutex::new(seen) })
    }

    /// Serves this pair from now on, if it is another one than before and can be served.
    pub fn replace(&self, pem: &pki::Pem, shared: &Shared) {
        let pair = (pem.certificate.clone().into_bytes(), pem.key.clone().into_bytes());
        let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.offer(&mut seen, pair, shared);
    }

    /// There may be a new pair, and it cannot be had: the one in use stays.
    pub fn unavailable(&self, fault: String, shared: &Shared) {
        let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Whoever has it to tell tells it in the log.
        seen.refused = Some(None);
        shared.readiness.certificate_fault(fault);
    }

    /// What a connection that comes in now is to be served with.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }

    /// Reads the files again at this interval, until the end.
    pub async fn watch(&self, every: Duration, shared: &Shared, end: CancellationToken) {
        while end.run_until_cancelled(tokio::time::sleep(every)).await.is_some() {
            self.refresh(shared);
        }
    }

    /// Reads the files again, and serves what is in them if that is new and can be served.
    pub fn refresh(&self, shared: &Shared) {
        let Some((certificate, key)) = &self.files else { return };
        let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match read(certificate, key) {
            Ok(pair) => self.offer(&mut seen, pair, shared),
            Err(error) => refuse(&mut seen, None, error.to_string(), shared),
        }
    }

    /// Puts a pair in use, unless it is already, or cannot be.
    fn offer(&self, seen: &mut Seen, pair: Pair, shared: &Shared) {
        if seen.in_use.as_ref() == Some(&pair) {
            // What could not be used meanwhile is gone again.
            if seen.refused.take().is_some() {
                in_use(shared, seen.expires);
            }
            return;
        }
        match configure(&self.provider, &pair.0, &pair.1) {
            Ok((config, expires)) => {
                shared.metrics.certificate_reloaded(true);
                self.config.store(config);
                *seen = Seen { in_use: Some(pair), expires, refused: None };
                in_use(shared, expires);
                tracing::info!("serving a new certificate");
            }
            Err(fault) => refuse(seen, Some(pair), fault.to_string(), shared),
        }
    }
}

/// What was found cannot be used.
fn refuse(seen: &mut Seen, found: Option<Pair>, fault: String, shared: &Shared) {
    // The same fault is told once.
    let found = Some(found);
    if seen.refused == found {
        return;
    }
    seen.refused = found;
    shared.metrics.certificate_reloaded(false);
    tracing::warn!(%fault, "the certificate cannot be used; the last good one stays in use");
    shared.readiness.certificate_fault(fault);
}

fn in_use(shared: &Shared, expires: SystemTime) {
    shared.readiness.certificate(expires);
    shared.metrics.certificate_expires(expires);
}

fn read(certificate: &Path, key: &Path) -> Result<Pair, Error> {
    let read = |path: &Path| std::fs::read(path).map_err(|problem| Error::File { path: path.to_owned(), problem });
    Ok((read(certificate)?, read(key)?))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// How to serve a pair. Here it is found out whether the two belong together.
fn configure(
    provider: &Arc<CryptoProvider>,
    certificate: &[u8],
    key: &[u8],
) -> Result<(Arc<ServerConfig>, SystemTime), pki::Error> {
    let Identity { chain, key, not_after } = Identity::read(certificate, key)?;
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((Arc::new(config), not_after))
}
