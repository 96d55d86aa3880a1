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
use super::client_auth::{ClientAuth, verifier};
use crate::pki::{self, Identity};

/// The serving certificate, and its files if it comes from files.
///
/// The files are read again at an interval and their bytes compared. inotify would miss the updates of a kubelet, which
/// swaps a symbolic link to a folder: a watch on a file sees the file deleted, and then no further event. If only one
/// of the two files is new, certificate and key do not match, so the old pair stays in use until both files are new.
pub struct Certificates {
    provider: Arc<CryptoProvider>,
    config: ArcSwap<ServerConfig>,
    files: Option<(PathBuf, PathBuf)>,
    clients: Option<ClientAuth>,
    seen: Mutex<Seen>,
}

/// The bytes of a certificate and its key.
type Pair = (Vec<u8>, Vec<u8>);

/// The certificates that were read last.
struct Seen {
    in_use: Option<Pair>,
    /// The expiry of the certificate in use.
    expires: SystemTime,
    /// The last pair that could not be used. The inner value is None if the pair could not be read.
    refused: Option<Option<Pair>>,
    /// The client CAs in use, as PEM.
    client_ca: Option<Vec<u8>>,
    /// The last problem with the file of client CAs.
    client_ca_fault: Option<String>,
}

impl Seen {
    fn new(in_use: Option<Pair>, expires: SystemTime) -> Self {
        Self { in_use, expires, refused: None, client_ca: None, client_ca_fault: None }
    }
}

/// A certificate that cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A file cannot be read.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        problem: std::io::Error,
    },
    /// The client CAs cannot be used.
    #[error("client CA {}: {problem}", path.display())]
    ClientCa {
        /// The file.
        path: PathBuf,
        /// The cause.
        problem: pki::Error,
    },
    /// The pair in the files cannot be served.
    #[error("{certificate} and {key}: {problem}")]
    Pair {
        /// The file of the certificate.
        certificate: String,
        /// The file of the key.
        key: String,
        /// The cause.
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
    /// The files cannot be read, or their pair cannot be served.
    pub(crate) fn from_files(certificate: &Path, key: &Path, shared: &Shared) -> Result<Self, Error> {
        let (certificate, key) = (certificate.to_owned(), key.to_owned());
        let bytes = read(&certificate, &key)?;
        let provider = provider();
        let (config, expires) = configure(&provider, &bytes, None).map_err(|problem| Error::Pair {
            certificate: certificate.display().to_string(),
            key: key.display().to_string(),
            problem,
        })?;
        in_use(shared, expires);
        let seen = Mutex::new(Seen::new(Some(bytes), expires));
        let files = Some((certificate, key));
        Ok(Self { provider, config: ArcSwap::from(config), files, clients: None, seen })
    }

    /// Serves this pair, which does not come from files.
    ///
    /// # Errors
    /// The pair cannot be served.
    pub fn from_pem(pem: &pki::Pem, shared: &Shared) -> Result<Self, pki::Error> {
        let provider = provider();
        let pair = (pem.certificate.clone().into_bytes(), pem.key.clone().into_bytes());
        let (config, expires) = configure(&provider, &pair, None)?;
        in_use(shared, expires);
        let seen = Mutex::new(Seen::new(Some(pair), expires));
        Ok(Self { provider, config: ArcSwap::from(config), files: None, clients: None, seen })
    }

    /// Rejects all connections until [`Self::replace`] provides a pair.
    ///
    /// # Errors
    /// The crypto provider supports no version of TLS.
    pub fn awaited(shared: &Shared) -> Result<Self, pki::Error> {
        let provider = provider();
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(ResolvesServerCertUsingSni::new()));
        shared.readiness.certificate_awaited();
        let seen = Mutex::new(Seen::new(None, SystemTime::UNIX_EPOCH));
        Ok(Self { provider, config: ArcSwap::from_pointee(config), files: None, clients: None, seen })
    }

    /// Answers only clients with these certificates.
    ///
    /// # Errors
    /// The file of CAs cannot be read or used.
    pub(crate) fn for_clients(mut self, clients: ClientAuth, shared: &Shared) -> Result<Self, Error> {
        let path = clients.file().to_owned();
        let ca = clients.read().map_err(|problem| Error::File { path: path.clone(), problem })?;
        let fault = |problem| Error::ClientCa { path, problem };
        let seen = self.seen.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        match &seen.in_use {
            Some(pair) => self.config.store(configure(&self.provider, pair, Some(&ca)).map_err(fault)?.0),
            None => drop(verifier(&self.provider, &ca).map_err(fault)?),
        }
        seen.client_ca = Some(ca);
        self.clients = Some(clients);
        shared.readiness.client_ca(None);
        Ok(self)
    }

    /// Returns the clients that may send reviews. None if all clients may.
    pub(super) fn clients(&self) -> Option<&ClientAuth> {
        self.clients.as_ref()
    }

    /// Serves this pair from now on, if it is new and can be served.
    pub fn replace(&self, pem: &pki::Pem, shared: &Shared) {
        let pair = (pem.certificate.clone().into_bytes(), pem.key.clone().into_bytes());
        let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.offer(&mut seen, pair, shared);
    }

    /// Records that the current pair cannot be fetched. The pair in use stays.
    pub(crate) fn unavailable(&self, fault: String, shared: &Shared) {
        let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // The caller logs the fault.
        seen.refused = Some(None);
        shared.readiness.certificate_fault(fault);
    }

    /// Returns the TLS configuration for a new connection.
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

    /// Reads the files again, and serves their pair if it is new and can be served.
    pub(crate) fn refresh(&self, shared: &Shared) {
        let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(clients) = &self.clients {
            self.refresh_clients(clients, &mut seen, shared);
        }
        let Some((certificate, key)) = &self.files else { return };
        match read(certificate, key) {
            Ok(pair) => self.offer(&mut seen, pair, shared),
            Err(error) => refuse(&mut seen, None, error.to_string(), shared),
        }
    }

    /// Reads the file of client CAs again. The CAs in use stay if the new ones cannot be used.
    fn refresh_clients(&self, clients: &ClientAuth, seen: &mut Seen, shared: &Shared) {
        let used = clients.read().map_err(|error| error.to_string()).and_then(|ca| {
            if seen.client_ca.as_ref() == Some(&ca) {
                return Ok(false);
            }
            let fault = |error: pki::Error| error.to_string();
            match &seen.in_use {
                Some(pair) => self.config.store(configure(&self.provider, pair, Some(&ca)).map_err(fault)?.0),
                None => drop(verifier(&self.provider, &ca).map_err(fault)?),
            }
            seen.client_ca = Some(ca);
            Ok(true)
        });
        let fault = used.as_ref().err().map(|fault| format!("{}: {fault}", clients.file().display()));
        if let Ok(true) = used {
            tracing::info!(file = %clients.file().display(), "reloaded the client CAs");
        }
        if seen.client_ca_fault != fault {
            if let Some(fault) = &fault {
                tracing::warn!(fault, "failed to reload the client CAs; the last good ones stay in use");
            }
            seen.client_ca_fault.clone_from(&fault);
            shared.readiness.client_ca(fault);
        }
    }

    /// Puts a pair in use, unless it is in use already or cannot be served.
    fn offer(&self, seen: &mut Seen, pair: Pair, shared: &Shared) {
        if seen.in_use.as_ref() == Some(&pair) {
            // The source has the pair in use again, after one that could not be used.
            if seen.refused.take().is_some() {
                in_use(shared, seen.expires);
            }
            return;
        }
        match configure(&self.provider, &pair, seen.client_ca.as_deref()) {
            Ok((config, expires)) => {
                shared.metrics.certificate_reloaded(true);
                self.config.store(config);
                (seen.in_use, seen.expires, seen.refused) = (Some(pair), expires, None);
                in_use(shared, expires);
                tracing::info!("serving a new certificate");
            }
            Err(fault) => refuse(seen, Some(pair), fault.to_string(), shared),
        }
    }
}

/// Reports that a pair cannot be used, or cannot be read.
fn refuse(seen: &mut Seen, found: Option<Pair>, fault: String, shared: &Shared) {
    // The same pair is reported once.
    let found = Some(found);
    if seen.refused == found {
        return;
    }
    seen.refused = found;
    shared.metrics.certificate_reloaded(false);
    tracing::warn!(%fault, "failed to load the serving certificate; the last good one stays in use");
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

/// Returns the TLS configuration for a pair, for clients of these CAs or for all clients. Fails if certificate and key
/// do not match.
fn configure(
    provider: &Arc<CryptoProvider>,
    (certificate, key): &Pair,
    client_ca: Option<&[u8]>,
) -> Result<(Arc<ServerConfig>, SystemTime), pki::Error> {
    let Identity { chain, key, not_after } = Identity::read(certificate, key)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider)).with_safe_default_protocol_versions()?;
    let builder = match client_ca {
        Some(ca) => builder.with_client_cert_verifier(verifier(provider, ca)?),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((Arc::new(config), not_after))
}
