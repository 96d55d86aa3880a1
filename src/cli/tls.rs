//! Where the serving certificate of `portcullis serve` comes from: files, or a Secret of the cluster.

use std::path::PathBuf;

use clap::Args;
use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::cluster::{CertificateKeeper, CertificateTerms, KeepError};
use crate::server::{Certificates, ClientAuth, Shared};

/// The arguments of `portcullis serve` about TLS.
#[derive(Debug, Args)]
pub(super) struct TlsArguments {
    /// The serving certificate, with its chain.
    #[arg(long, value_name = "PEM", requires = "tls_key", env = "PORTCULLIS_TLS_CERT")]
    pub(super) tls_cert: Option<PathBuf>,
    /// Its private key.
    #[arg(long, value_name = "PEM", requires = "tls_cert", env = "PORTCULLIS_TLS_KEY")]
    pub(super) tls_key: Option<PathBuf>,
    /// Make a CA and a serving certificate under --certs, unless they are there, and use them.
    #[arg(long, conflicts_with_all = ["tls_cert", "tls_key"])]
    pub(super) self_signed: bool,
    /// Keep the CA and the serving certificate in this Secret of the cluster, renew them, and have the webhook
    /// configurations trust them.
    #[arg(long, value_name = "NAMESPACE/NAME", conflicts_with_all = ["tls_cert", "tls_key", "self_signed", "standalone"])]
    pub(super) tls_secret: Option<SecretName>,
    /// The folder for --self-signed.
    #[arg(long, value_name = "DIR", default_value = "certs")]
    pub(super) certs: PathBuf,
    /// A name or an address for --self-signed and --tls-secret, besides localhost and those of the Service portcullis (in
    /// portcullis-system, or in the namespace of the Secret).
    #[arg(long, value_name = "NAME")]
    pub(super) tls_name: Vec<String>,
    /// Answer only clients with a certificate that a CA in this file has signed. The API server shows one if its
    /// AdmissionConfiguration names it (docs/client-certificates.md). The file is read again when it changes.
    #[arg(long, value_name = "PEM", env = "PORTCULLIS_CLIENT_CA")]
    client_ca: Option<PathBuf>,
    /// A name that the client certificate has to have, as its common name or an alternative name; one of several suffices
    /// [default: any certificate of --client-ca].
    #[arg(long, value_name = "NAME", requires = "client_ca", env = "PORTCULLIS_CLIENT_NAME", value_delimiter = ',')]
    client_name: Vec<String>,
}

impl TlsArguments {
    /// The clients that may send reviews, if not all may.
    pub(super) fn clients(&self) -> Option<ClientAuth> {
        let ca = self.client_ca.clone()?;
        Some(ClientAuth { ca, names: self.client_name.clone() })
    }
}

/// A Secret, as NAMESPACE/NAME.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SecretName {
    pub(super) namespace: String,
    pub(super) name: String,
}

impl std::str::FromStr for SecretName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err("it has to be NAMESPACE/NAME".to_owned()),
        }
    }
}

/// The names by which a server is called: those of the Service `portcullis` in this namespace, those of this machine,
/// and others.
pub(super) fn names(namespace: &str, others: &[String]) -> Vec<String> {
    let service = format!("portcullis.{namespace}");
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(String::from).into();
    names.extend([service.clone(), format!("{service}.svc"), format!("{service}.svc.cluster.local")]);
    names.extend(others.iter().cloned());
    names
}

/// Who keeps the certificate in this Secret, and the webhook configurations of this name.
pub(super) fn keeper(client: Client, secret: &SecretName, webhooks: &str, others: &[String]) -> CertificateKeeper {
    let names = names(&secret.namespace, others);
    CertificateKeeper::new(client, (&secret.namespace, &secret.name), names, webhooks, CertificateTerms::default())
}

/// Keeps it, and serves what is there, until the end.
pub(super) async fn keep(
    keeper: CertificateKeeper,
    certificates: &Certificates,
    shared: &Shared,
    end: &CancellationToken,
) {
    let tell = |found: Result<&_, &KeepError>| match found {
        Ok(pem) => certificates.replace(pem, shared),
        Err(error) => certificates.unavailable(error.to_string(), shared),
    };
    keeper.run(tell, end).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_named_with_its_namespace() {
        let named = SecretName { namespace: "a".to_owned(), name: "b".to_owned() };
        assert_eq!("a/b".parse(), Ok(named));
        for bad in ["a", "a/", "/b", "a/b/c", ""] {
            assert_eq!(bad.parse::<SecretName>(), Err("it has to be NAMESPACE/NAME".to_owned()), "{bad}");
        }
    }
}
