//! Certificates: creation, parsing and expiry.

mod facts;

pub use facts::{Facts, signs};
pub(crate) use facts::{is_trusted_by, subject_names};

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The lifetime of a generated CA: 10 years.
const CA_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// The lifetime of a generated serving certificate: 1 year.
const LEAF_LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);

/// The validity of a new certificate.
#[derive(Clone, Copy, Debug)]
pub struct Validity {
    /// The current time. The certificate is valid from 1 hour earlier, so that machines whose clock is behind accept
    /// it.
    pub now: SystemTime,
    /// The lifetime, counted from `now`.
    pub lifetime: Duration,
}

/// The clock skew that new certificates tolerate.
pub(crate) const BACKDATED: Duration = Duration::from_secs(3600);

/// A certificate and its key, as PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Pem {
    /// The certificate, and its chain if it has one.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

/// An error of reading or creating a certificate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The PEM cannot be parsed.
    #[error("invalid PEM in the {what}: {problem}")]
    Pem {
        /// `certificate` or `key`.
        what: &'static str,
        /// The error of the parser.
        problem: String,
    },
    /// The file has no certificate.
    #[error("no certificate found")]
    NoCertificate,
    /// The server cannot use the certificate with the key.
    #[error("certificate and key do not fit together: {0}")]
    Pair(#[from] rustls::Error),
    /// The certificate cannot be parsed.
    #[error("failed to parse the certificate: {0}")]
    X509(String),
    /// The key belongs to another certificate.
    #[error("the key does not belong to the certificate")]
    NotItsKey,
    /// The certificate could not be created.
    #[error("failed to create a certificate: {0}")]
    Make(#[from] rcgen::Error),
}

/// Creates a CA with this name. The name must differ from `portcullis`, the name of the certificates that the CA signs:
/// OpenSSL treats a certificate with the same name as its issuer as self-signed.
///
/// # Errors
/// The system has no source of randomness, or does not support the algorithm.
pub fn new_ca(name: &str) -> Result<Pem, Error> {
    new_ca_for(name, Validity { now: SystemTime::now(), lifetime: CA_LIFETIME })
}

/// Creates a CA with this name and validity.
///
/// # Errors
/// The system has no source of randomness, or does not support the algorithm.
pub fn new_ca_for(name: &str, validity: Validity) -> Result<Pem, Error> {
    let key = KeyPair::generate()?;
    let mut params = params(name, validity);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key)?;
    Ok(Pem { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// Creates a serving certificate for these names and addresses, signed by this CA.
///
/// # Errors
/// The CA cannot be read, or a name is not valid in a certificate.
pub fn new_leaf(ca: &Pem, names: &[String]) -> Result<Pem, Error> {
    new_leaf_for(ca, names, Validity { now: SystemTime::now(), lifetime: LEAF_LIFETIME })
}

/// Creates a serving certificate for these names and addresses with this validity, signed by this CA.
///
/// # Errors
/// The CA cannot be read, or a name is not valid in a certificate.
pub fn new_leaf_for(ca: &Pem, names: &[String], validity: Validity) -> Result<Pem, Error> {
    let ca_key = KeyPair::from_pem(&ca.key)?;
    let issuer = Issuer::from_ca_cert_pem(&ca.certificate, ca_key)?;
    let key = KeyPair::generate()?;
    let mut params = params("portcullis", validity);
    for name in names {
        params.subject_alt_names.push(match name.parse::<IpAddr>() {
            Ok(address) => rcgen::SanType::IpAddress(address),
            Err(_) => rcgen::SanType::DnsName(name.as_str().try_into()?),
        });
    }
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.signed_by(&key, &issuer)?;
    Ok(Pem { certificate: certificate.pem(), key: key.serialize_pem() })
}

fn params(name: &str, Validity { now, lifetime }: Validity) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + lifetime).into();
    params
}

/// A certificate and key for a server.
#[derive(Debug)]
pub struct Identity {
    /// The certificate, followed by its chain.
    pub chain: Vec<CertificateDer<'static>>,
    /// The private key of the certificate.
    pub key: PrivateKeyDer<'static>,
    /// The expiry time of the certificate.
    pub not_after: SystemTime,
}

impl Identity {
    /// Parses a certificate and its key.
    ///
    /// # Errors
    /// The certificate or the key is not PEM, or the certificate is missing or cannot be parsed. A key of another
    /// certificate is reported only when the pair is served.
    pub fn read(certificate: &[u8], key: &[u8]) -> Result<Self, Error> {
        let fault = |what| move |error: rustls::pki_types::pem::Error| Error::Pem { what, problem: error.to_string() };
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(certificate).collect::<Result<_, _>>().map_err(fault("certificate"))?;
        let first = chain.first().ok_or(Error::NoCertificate)?;
        let not_after = expiry(first)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(fault("key"))?;
        Ok(Self { chain, key, not_after })
    }
}

/// The expiry time of a certificate.
fn expiry(certificate: &CertificateDer<'_>) -> Result<SystemTime, Error> {
    let (_, parsed) =
        x509_parser::parse_x509_certificate(certificate).map_err(|error| Error::X509(error.to_string()))?;
    Ok(time(parsed.validity().not_after))
}

fn time(time: x509_parser::time::ASN1Time) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_is_read_back_with_its_names_and_expiry() {
        let ca = new_ca("test CA").unwrap();
        let leaf =
            new_leaf(&ca, &["portcullis.portcullis-system.svc".into(), "127.0.0.1".into(), "::1".into()]).unwrap();
        let identity = Identity::read(leaf.certificate.as_bytes(), leaf.key.as_bytes()).unwrap();
        let left = identity.not_after.duration_since(SystemTime::now()).unwrap();
        assert!(left > LEAF_LIFETIME - Duration::from_secs(60) && left <= LEAF_LIFETIME);
        let (_, parsed) = x509_parser::parse_x509_certificate(&identity.chain[0]).unwrap();
        let names = format!("{:?}", parsed.subject_alternative_name().unwrap().unwrap().value.general_names);
        assert!(names.contains("portcullis.portcullis-system.svc"), "{names}");
    }

    #[test]
    fn half_a_pair_is_no_pair() {
        let ca = new_ca("test CA").unwrap();
        let leaf = new_leaf(&ca, &["localhost".into()]).unwrap();
        let half = &leaf.certificate.as_bytes()[..leaf.certificate.len() / 2];
        assert!(Identity::read(half, leaf.key.as_bytes()).is_err());
        assert!(Identity::read(leaf.certificate.as_bytes(), b"").is_err());
        assert!(matches!(Identity::read(b"", leaf.key.as_bytes()), Err(Error::NoCertificate)));
    }
}
