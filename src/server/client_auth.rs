//! Client certificates: only API servers with a certificate of a configured CA and name get an answer.
//!
//! A certificate of another CA fails the handshake. A connection without a certificate, or with one of another name,
//! gets 401 or 403 with the reason, because a failed handshake tells the operator of an API server nothing. Bodies of
//! such requests are not read.
//!
//! **Limits**: a connection is checked once, when it opens. A CA that is removed from the file stays trusted on open
//! connections.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Response, StatusCode};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use crate::pki;

/// The clients that may send reviews.
#[derive(Clone, Debug)]
pub struct ClientAuth {
    /// The file with the CAs that sign client certificates, as PEM. It is read again with the serving certificate.
    pub ca: PathBuf,
    /// The accepted names: a common name, or a subject alternative name. Empty if every certificate of the CAs is
    /// accepted.
    pub names: Vec<String>,
}

/// A client that may not send reviews.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unauthorized {
    /// The client sent no certificate.
    NoCertificate,
    /// The certificate has other names.
    OtherName(String),
}

impl ClientAuth {
    pub(super) fn read(&self) -> Result<Vec<u8>, std::io::Error> {
        std::fs::read(&self.ca)
    }

    pub(super) fn file(&self) -> &Path {
        &self.ca
    }

    /// Checks the certificate that a connection was opened with.
    pub(super) fn check(&self, certificates: Option<&[CertificateDer<'_>]>) -> Result<(), Unauthorized> {
        let Some(certificate) = certificates.and_then(<[_]>::first) else { return Err(Unauthorized::NoCertificate) };
        if self.names.is_empty() {
            return Ok(());
        }
        // A certificate that cannot be read has no name.
        let names = pki::subject_names(certificate).unwrap_or_default();
        if names.iter().any(|name| self.names.contains(name)) {
            return Ok(());
        }
        Err(Unauthorized::OtherName(names.join(", ")))
    }
}

impl Unauthorized {
    pub(super) fn response(&self) -> Response<Body> {
        let (status, text) = match self {
            Self::NoCertificate => (
                StatusCode::UNAUTHORIZED,
                "a client certificate is required (--client-ca); configure one for the API server in the kubeconfig of \
                 its AdmissionConfiguration\n"
                    .to_owned(),
            ),
            Self::OtherName(names) => {
                (StatusCode::FORBIDDEN, format!("client certificate names {names} are not accepted (--client-name)\n"))
            }
        };
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = status;
        response
    }
}

/// Returns the verifier of client certificates that one of these CAs has signed.
pub(super) fn verifier(provider: &Arc<CryptoProvider>, ca: &[u8]) -> Result<Arc<dyn ClientCertVerifier>, pki::Error> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca) {
        let certificate =
            certificate.map_err(|error| pki::Error::Pem { what: "client CA", problem: error.to_string() })?;
        roots.add(certificate)?;
    }
    if roots.is_empty() {
        return Err(pki::Error::NoCertificate);
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .allow_unauthenticated()
        .build()
        .map_err(|error| pki::Error::X509(error.to_string()))
}
