//! The commands that fix faults.

use std::fmt::Display;

use super::installation::{Certificate, Installation, Release, Settings};
use crate::cli::webhooks::Address;

impl Installation {
    /// Returns a command of kubectl for the cluster of the arguments.
    pub(super) fn kubectl(&self, command: impl Display) -> String {
        format!("kubectl{} {command}", self.cluster_flags("context"))
    }

    /// Returns the flags with which another program connects to the cluster of the arguments.
    fn cluster_flags(&self, context: &str) -> String {
        let mut flags = String::new();
        if let Some(file) = &self.kubeconfig {
            flags.push_str(&format!(" --kubeconfig {}", quoted(&file.display().to_string())));
        }
        if let Some(name) = &self.kube_context {
            flags.push_str(&format!(" --{context} {}", quoted(name)));
        }
        flags
    }

    /// Returns the command that restores the objects of the installation.
    pub(super) fn restore(&self) -> String {
        self.upgrade("").unwrap_or_else(|| self.kubectl("apply --server-side -k deploy/"))
    }

    /// Returns the command that sets values of the Helm release. None if Helm does not manage the installation.
    pub(super) fn upgrade(&self, values: &str) -> Option<String> {
        let Release { name, namespace } = self.release.as_ref()?;
        let flags = self.cluster_flags("kube-context");
        Some(format!("helm{flags} upgrade {name} deploy/chart --namespace {namespace} --reuse-values{values}"))
    }

    /// Returns the command that restarts the replicas.
    pub(super) fn restart(&self) -> String {
        self.kubectl(format_args!("rollout restart deployment/{} --namespace {}", self.name, self.namespace))
    }

    /// Returns the command that prints the log of a replica.
    pub(super) fn logs(&self) -> String {
        self.kubectl(format_args!("logs deployment/{} --namespace {}", self.name, self.namespace))
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
                let get = format!("get configmap {name} --namespace {namespace} --output {template}");
                (format!("{} | ", self.kubectl(get)), " --config /dev/stdin".to_owned())
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
        let apply = self.kubectl("apply --server-side --force-conflicts -f -");
        format!("{read}portcullis webhooks{config}{name} {address}{ca} | {apply}")
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
