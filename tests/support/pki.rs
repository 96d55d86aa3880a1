//! Certificates for the length of a test.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

/// A certificate authority, whose certificate lies in a file.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    dir: PathBuf,
    /// Its certificate.
    pub(crate) certificate: PathBuf,
}

/// A certificate and its key, in files.
pub(crate) struct Identity {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    /// An authority that keeps its files, and those of what it issues, in this directory.
    pub(crate) fn new(dir: &Path) -> Self {
        fs::create_dir_all(dir).unwrap();
        let mut params = named("portcullis test CA", None, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let certificate = dir.join("ca.crt");
        fs::write(&certificate, params.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(params, key), dir: dir.into(), certificate }
    }

    /// A certificate for a server with these names and addresses.
    pub(crate) fn server(&self, name: &str, hosts: &[&str]) -> Identity {
        self.issue(name, named(name, None, hosts), ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A certificate for a user in a group, as Kubernetes reads it.
    pub(crate) fn client(&self, user: &str, group: &str) -> Identity {
        self.issue(user, named(user, Some(group), &[]), ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// A certificate for a client with these alternative names.
    pub(crate) fn client_for(&self, name: &str, hosts: &[&str]) -> Identity {
        self.issue(name, named(name, None, hosts), ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(&self, name: &str, mut params: CertificateParams, purpose: ExtendedKeyUsagePurpose) -> Identity {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![purpose];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        let identity =
            Identity { certificate: self.dir.join(format!("{name}.crt")), key: self.dir.join(format!("{name}.key")) };
        fs::write(&identity.certificate, signed.pem()).unwrap();
        fs::write(&identity.key, key.serialize_pem()).unwrap();
        identity
    }
}

/// A key pair without a certificate: the files of the public and of the private key. They are made once.
pub(crate) fn key_pair(dir: &Path, name: &str) -> (PathBuf, PathBuf) {
    let (public, private) = (dir.join(format!("{name}.pub")), dir.join(format!("{name}.key")));
    if private.exists() {
        return (public, private);
    }
    let key = KeyPair::generate().unwrap();
    fs::write(&public, key.public_key_pem()).unwrap();
    fs::write(&private, key.serialize_pem()).unwrap();
    (public, private)
}

fn named(name: &str, organization: Option<&str>, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(hosts).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    if let Some(organization) = organization {
        params.distinguished_name.push(DnType::OrganizationName, organization);
    }
    params
}
