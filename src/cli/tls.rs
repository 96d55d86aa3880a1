//! The source of the serving certificate of `portcullis serve`: files, or a Secret of the cluster.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::cluster::{CertificateKeeper, CertificateTerms, KeepError};
use crate::server::{Certificates, ClientAuth, Shared};

/// The arguments of `portcullis serve` about TLS.
#[derive(Debug, Args)]
pub(super) struct TlsArguments {
    /// Read the serving certificate and its chain from this file.
    #[arg(long, value_name = "PEM", requires = "tls_key", env = "PORTCULLIS_TLS_CERT")]
    pub(super) tls_cert: Option<PathBuf>,
    /// Read the private key of the serving certificate from this file.
    #[arg(long, value_name = "PEM", requires = "tls_cert", env = "PORTCULLIS_TLS_KEY")]
    pub(super) tls_key: Option<PathBuf>,
    /// Create a CA and a serving certificate in the folder of --certs if they are missing, and use them.
    ///
    /// With --tls-name, each start creates a new serving certificate with these names.
    #[arg(long, conflicts_with_all = ["tls_cert", "tls_key"])]
    pub(super) self_signed: bool,
    /// Keep the CA and the serving certificate in this Secret of the cluster [default namespace: that of the pod].
    ///
    /// Portcullis creates and renews them, and writes the CA into the webhook configurations.
    #[arg(long, value_name = "[NAMESPACE/]NAME", conflicts_with_all = ["tls_cert", "tls_key", "self_signed", "standalone"])]
    tls_secret: Option<SecretArgument>,
    /// Store the files of --self-signed in this folder.
    #[arg(long, value_name = "DIR", default_value = "certs")]
    pub(super) certs: PathBuf,
    /// Add this DNS name or IP address to the certificate of --self-signed or --tls-secret. Repeatable.
    ///
    /// The certificate always has localhost and the names of the Service: that of --webhook-service, or portcullis in the
    /// namespace of the Secret or in portcullis-system.
    #[arg(long, value_name = "NAME")]
    pub(super) tls_name: Vec<String>,
    /// Require client certificates that a CA in this file has signed [default: allow all clients].
    ///
    /// The API server sends a client certificate if its AdmissionConfiguration names one (docs/client-certificates.md).
    /// The file is reloaded when it changes.
    #[arg(long, value_name = "PEM", env = "PORTCULLIS_CLIENT_CA")]
    client_ca: Option<PathBuf>,
    /// Require this name in the client certificate [default: allow all certificates of --client-ca]. Repeatable.
    ///
    /// The name is compared with the common name and the subject alternative names. One match is enough.
    #[arg(long, value_name = "NAME", requires = "client_ca", env = "PORTCULLIS_CLIENT_NAME", value_delimiter = ',')]
    client_name: Vec<String>,
}

impl TlsArguments {
    /// Returns the clients that may send reviews. None if all clients may.
    pub(super) fn clients(&self) -> Option<ClientAuth> {
        let ca = self.client_ca.clone()?;
        Some(ClientAuth { ca, names: self.client_name.clone() })
    }

    /// Returns true if the certificate is in a Secret.
    pub(super) fn has_secret(&self) -> bool {
        self.tls_secret.is_some()
    }

    /// Returns the Secret of the certificate, in the namespace of this pod if the argument names none.
    pub(super) fn secret(&self) -> Result<Option<SecretName>> {
        let Some(SecretArgument { namespace, name }) = self.tls_secret.clone() else { return Ok(None) };
        let namespace = namespace.map_or_else(|| super::connection::own_namespace("--tls-secret"), Ok)?;
        Ok(Some(SecretName { namespace, name }))
    }
}

/// A Secret with its namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SecretName {
    pub(super) namespace: String,
    pub(super) name: String,
}

/// A Secret as an argument names it: NAMESPACE/NAME, or NAME.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SecretArgument {
    namespace: Option<String>,
    name: String,
}

impl std::str::FromStr for SecretArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (namespace, name) = match text.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, text),
        };
        if namespace == Some("") || name.is_empty() || name.contains('/') {
            return Err("expected NAMESPACE/NAME or NAME".to_owned());
        }
        Ok(Self { namespace: namespace.map(str::to_owned), name: name.to_owned() })
    }
}

/// Returns the names of the server for its certificate: those of this Service, those of the local host, and the others.
pub(super) fn names(namespace: &str, service: &str, others: &[String]) -> Vec<String> {
    let service = format!("{service}.{namespace}");
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(String::from).into();
    names.extend([service.clone(), format!("{service}.svc"), format!("{service}.svc.cluster.local")]);
    names.extend(others.iter().cloned());
    names
}

/// Returns the keeper of the certificate with these names in this Secret, and of the CA in the webhook configurations of
/// this name.
pub(super) fn keeper(client: Client, secret: &SecretName, webhooks: &str, names: Vec<String>) -> CertificateKeeper {
    CertificateKeeper::new(client, (&secret.namespace, &secret.name), names, webhooks, CertificateTerms::default())
}

/// Runs the keeper and serves the certificates that it reports, until the end.
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
    fn a_secret_is_named_with_its_namespace_or_is_in_the_namespace_of_the_pod() {
        let named =
            |namespace: Option<&str>| SecretArgument { namespace: namespace.map(str::to_owned), name: "b".to_owned() };
        assert_eq!("a/b".parse(), Ok(named(Some("a"))));
        assert_eq!("b".parse(), Ok(named(None)));
        for bad in ["a/", "/b", "a/b/c", ""] {
            let error = Err("expected NAMESPACE/NAME or NAME".to_owned());
            assert_eq!(bad.parse::<SecretArgument>(), error, "{bad}");
        }
    }
}
