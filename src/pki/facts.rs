//! The contents of a certificate, and a check of its issuer.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{KeyPair, PublicKeyData as _};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::extensions::GeneralName;

use super::{Error, Pem, time};

/// The contents of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The start of its validity.
    pub not_before: SystemTime,
    /// The end of its validity.
    pub not_after: SystemTime,
    /// The DNS names and IP addresses that it covers.
    pub names: Vec<String>,
    /// True if it is a CA, which may sign other certificates.
    pub is_ca: bool,
}

impl Facts {
    /// Reads the first certificate of a PEM.
    ///
    /// # Errors
    /// The PEM has no certificate that can be read.
    pub fn of(certificate: &str) -> Result<Self, Error> {
        Self::read(&first(certificate)?)
    }

    /// Reads the first certificate of a PEM, and checks that the key belongs to it.
    ///
    /// # Errors
    /// The certificate or the key cannot be read, or they do not belong together.
    pub(crate) fn of_pair(pem: &Pem) -> Result<Self, Error> {
        let certificate = first(&pem.certificate)?;
        let (_, parsed) =
            x509_parser::parse_x509_certificate(&certificate).map_err(|error| Error::X509(error.to_string()))?;
        let key = KeyPair::from_pem(&pem.key)?;
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(Error::NotItsKey);
        }
        Self::read(&certificate)
    }

    fn read(certificate: &CertificateDer<'_>) -> Result<Self, Error> {
        let fault = |error: &dyn std::fmt::Display| Error::X509(error.to_string());
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|error| fault(&error))?;
        let alternatives = parsed.subject_alternative_name().map_err(|error| fault(&error))?;
        let names = alternatives.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(octets) => address(octets).map(|address| address.to_string()),
            _ => None,
        });
        Ok(Self {
            not_before: time(parsed.validity().not_before),
            not_after: time(parsed.validity().not_after),
            names: names.collect(),
            is_ca: parsed.is_ca(),
        })
    }

    /// Returns true if the certificate covers this DNS name or IP address, by itself or by a wildcard.
    #[must_use]
    pub fn covers(&self, name: &str) -> bool {
        let wildcard = name.split_once('.').map(|(_, domain)| format!("*.{domain}"));
        self.names.iter().any(|covered| covered == name || Some(covered) == wildcard.as_ref())
    }

    /// Returns true if the certificate is valid at this time.
    #[must_use]
    pub fn is_valid(&self, now: SystemTime) -> bool {
        self.not_before <= now && now < self.not_after
    }

    /// Returns true if two thirds of the certificate's lifetime have passed.
    #[must_use]
    pub(crate) fn is_old(&self, now: SystemTime) -> bool {
        let life = self.not_after.duration_since(self.not_before).unwrap_or_default();
        now >= self.not_before + life * 2 / 3
    }
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(octets) {
        return Some(octets.into());
    }
    <[u8; 16]>::try_from(octets).ok().map(IpAddr::from)
}

fn first(certificate: &str) -> Result<CertificateDer<'static>, Error> {
    match CertificateDer::pem_slice_iter(certificate.as_bytes()).next() {
        Some(Ok(certificate)) => Ok(certificate),
        Some(Err(error)) => Err(Error::Pem { what: "certificate", problem: error.to_string() }),
        None => Err(Error::NoCertificate),
    }
}

/// Checks that a client that trusts only this CA accepts this serving certificate for one of its names, while both are
/// valid.
///
/// # Errors
/// The reason why the client rejects the certificate.
pub fn signs(ca: &str, leaf: &str) -> Result<(), Error> {
    verify(first(ca)?, &first(leaf)?, &[])
}

/// Verifies a serving certificate as a client that trusts only this CA does.
fn verify(
    ca: CertificateDer<'_>,
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
) -> Result<(), Error> {
    let (authority, facts) = (Facts::read(&ca)?, Facts::read(leaf)?);
    let name = facts.names.first().ok_or_else(|| Error::X509("it has no subject alternative name".to_owned()))?;
    let name = ServerName::try_from(name.as_str()).map_err(|error| Error::X509(error.to_string()))?;
    // The first second at which both are valid. A machine whose clock is behind may sign with a CA that is not valid
    // yet.
    let begun = facts.not_before.max(authority.not_before) + Duration::from_secs(1);
    let begun = UnixTime::since_unix_epoch(begun.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
    let mut roots = RootCertStore::empty();
    roots.add(ca)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| Error::X509(error.to_string()))?;
    rustls::client::danger::ServerCertVerifier::verify_server_cert(&*verifier, leaf, intermediates, &name, &[], begun)?;
    Ok(())
}

/// Returns true if a client that trusts the CAs of this PEM accepts this serving certificate, with the intermediate
/// certificates that follow it, for one of its names while all are valid.
#[must_use]
pub(crate) fn is_trusted_by(bundle: &str, leaf: &str) -> bool {
    let authorities = CertificateDer::pem_slice_iter(bundle.as_bytes()).filter_map(Result::ok);
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(leaf.as_bytes()).collect();
    let Ok(chain) = chain else { return false };
    let Some((leaf, intermediates)) = chain.split_first() else { return false };
    authorities.into_iter().any(|authority| verify(authority, leaf, intermediates).is_ok())
}

/// The names of a certificate: its common names and its alternative names.
///
/// # Errors
/// The certificate cannot be parsed.
pub(crate) fn subject_names(certificate: &CertificateDer<'_>) -> Result<Vec<String>, Error> {
    let (_, parsed) =
        x509_parser::parse_x509_certificate(certificate).map_err(|error| Error::X509(error.to_string()))?;
    let common = parsed.subject().iter_common_name().filter_map(|name| name.as_str().ok().map(str::to_owned));
    let mut names: Vec<String> = common.collect();
    names.extend(Facts::read(certificate)?.names);
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::{Validity, new_ca_for, new_leaf_for};

    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn a_certificate_says_when_it_is_valid_and_for_whom() {
        let now = SystemTime::UNIX_EPOCH + DAY * 20_000;
        let ca = new_ca_for("test CA", Validity { now, lifetime: 10 * DAY }).unwrap();
        let names = ["portcullis.portcullis-system.svc".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        let leaf = new_leaf_for(&ca, &names, Validity { now, lifetime: 3 * DAY }).unwrap();
        let facts = Facts::of_pair(&leaf).unwrap();
        assert_eq!(facts.names, names);
        let facts = Facts { names: vec!["*.example.com".to_owned(), "10.0.0.7".to_owned()], ..facts };
        assert!(facts.covers("a.example.com") && facts.covers("10.0.0.7"));
        assert!(!facts.covers("a.b.example.com") && !facts.covers("example.com") && !facts.covers("0.0.7"));
        assert_eq!((facts.not_before, facts.not_after), (now - super::super::BACKDATED, now + 3 * DAY));
        assert!(!facts.is_ca && Facts::of_pair(&ca).unwrap().is_ca);
        assert!(facts.is_valid(now) && !facts.is_valid(now + 3 * DAY) && !facts.is_valid(now - DAY));
        assert!(!facts.is_old(now + DAY) && facts.is_old(now + 2 * DAY));
    }

    #[test]
    fn one_of_several_authorities_is_enough() {
        let now = SystemTime::now();
        let validity = Validity { now, lifetime: DAY };
        let (one, other) = (new_ca_for("test CA", validity).unwrap(), new_ca_for("test CA", validity).unwrap());
        let leaf = new_leaf_for(&one, &["localhost".to_owned()], validity).unwrap().certificate;
        let bundle = format!("{}{}", other.certificate, one.certificate);
        assert!(is_trusted_by(&bundle, &leaf) && is_trusted_by(&one.certificate, &leaf));
        assert!(!is_trusted_by(&other.certificate, &leaf) && !is_trusted_by("", &leaf) && !is_trusted_by(&bundle, ""));
    }

    #[test]
    fn intermediates_lead_from_the_certificate_to_the_authority() {
        let validity = Validity { now: SystemTime::now(), lifetime: DAY };
        let authority = |name: &str| {
            let mut params = super::super::params(name, validity);
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            (params, KeyPair::generate().unwrap())
        };
        let (root, root_key) = authority("root");
        let root = root.self_signed(&root_key).unwrap().pem();
        let (intermediate, key) = authority("intermediate");
        let issuer = rcgen::Issuer::from_ca_cert_pem(&root, root_key).unwrap();
        let certificate = intermediate.signed_by(&key, &issuer).unwrap().pem();
        let intermediate = Pem { certificate, key: key.serialize_pem() };
        let leaf = new_leaf_for(&intermediate, &["localhost".to_owned()], validity).unwrap().certificate;
        assert!(is_trusted_by(&root, &format!("{leaf}{}", intermediate.certificate)));
        assert!(!is_trusted_by(&root, &leaf));
    }

    #[test]
    fn a_key_of_another_certificate_is_noticed() {
        let now = SystemTime::now();
        let (one, other) = (
            new_ca_for("test CA", Validity { now, lifetime: DAY }).unwrap(),
            new_ca_for("test CA", Validity { now, lifetime: DAY }).unwrap(),
        );
        let mixed = Pem { certificate: one.certificate, key: other.key };
        assert!(matches!(Facts::of_pair(&mixed), Err(Error::NotItsKey)));
    }

    #[test]
    fn who_signed_is_proved_by_the_signature_and_not_by_a_name() {
        let now = SystemTime::now();
        let validity = Validity { now, lifetime: DAY };
        let (one, other) = (new_ca_for("test CA", validity).unwrap(), new_ca_for("test CA", validity).unwrap());
        let leaf = new_leaf_for(&one, &["localhost".to_owned()], validity).unwrap();
        assert!(signs(&one.certificate, &leaf.certificate).is_ok());
        assert!(signs(&other.certificate, &leaf.certificate).is_err());
        // Expiry is not checked here.
        let old = Validity { now: now - 100 * DAY, lifetime: DAY };
        let ca = new_ca_for("test CA", old).unwrap();
        let leaf = new_leaf_for(&ca, &["localhost".to_owned()], old).unwrap();
        assert!(signs(&ca.certificate, &leaf.certificate).is_ok());
    }
}
