//! The commands that fix faults.

use super::{Certificate, Installation, Settings};
use crate::cli::webhooks::Address;

/// The Helm release that an installation belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Release {
    pub(super) name: String,
    pub(super) namespace: String,
}

impl Installation {
    /// Returns the command that restores the objects of the installation.
    pub(super) fn restore(&self) -> String {
        self.upgrade("").unwrap_or_else(|| "kubectl apply --server-side -k deploy/".to_owned())
    }

    /// Returns the command that sets values of the Helm release. None if Helm does not manage the installation.
    pub(super) fn upgrade(&self, values: &str) -> Option<String> {
        let Release { name, namespace } = self.release.as_ref()?;
        Some(format!("helm upgrade {name} deploy/chart --namespace {namespace} --reuse-values{values}"))
    }

    /// Returns the command that restarts the replicas.
    pub(super) fn restart(&self) -> String {
        format!("kubectl rollout restart deployment/{} --namespace {}", self.name, self.namespace)
    }

    /// Returns the command that prints the log of a replica.
    pub(super) fn logs(&self) -> String {
        format!("kubectl logs deployment/{} --namespace {}", self.name, self.namespace)
    }

    /// Returns the command that writes the webhook configurations.
    pub(super) fn rewrite(&self) -> String {
        let (read, config) = match &self.settings {
            Settings::BuiltIn => (String::new(), String::new()),
            Settings::Unknown => (String::new(), " --config portcullis.yaml".to_owned()),
            Settings::File(file) => (String::new(), format!(" --config {}", quoted(&file.display().to_string()))),
            Settings::ConfigMap { name, key } => {
                let template = format!("go-template={{{{index .data \"{key}\"}}}}");
                let (namespace, template) = (&self.namespace, quoted(&template));
                (
                    format!("kubectl get configmap {name} --namespace {namespace} --output {template} | "),
                    " --config /dev/stdin".to_owned(),
                )
            }
        };
        let name = match self.webhook_name.as_str() {
            crate::cli::NAME => String::new(),
            name => format!(" --webhook-name {name}"),
        };
        let address = match &self.address {
            Address::Url(url) => format!("--url {}", quoted(url)),
            Address::Service { namespace, name, port } => format!("--service {namespace}/{name} --port {port}"),
        };
        // Portcullis writes the CA of a certificate that it keeps itself.
        let ca = match &self.certificate {
            Certificate::Kept { .. } => "",
            Certificate::Mounted { .. } | Certificate::Unknown => " --ca ca.pem",
        };
        format!(
            "{read}portcullis webhooks{config}{name} {address}{ca} | kubectl apply --server-side --force-conflicts -f -"
        )
    }
}

/// Quotes a word for a shell.
pub(super) fn quoted(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=,@%+".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_survives_a_shell() {
        assert_eq!(quoted("deploy/portcullis.yaml"), "deploy/portcullis.yaml");
        assert_eq!(quoted("my config.yaml"), "'my config.yaml'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted("$(id)"), "'$(id)'");
    }
}
