//! Where the serving certificate of `portcullis serve` comes from: files, or a Secret of the cluster.

use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::cluster::{CertificateKeeper, CertificateTerms, KeepError};
use crate::server::{Certificates, Shared};

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
