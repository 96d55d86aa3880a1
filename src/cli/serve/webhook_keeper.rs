//! The part of `portcullis serve` that compares the webhook configurations in the cluster with the configuration in
//! force.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use tokio::sync::watch;

use super::super::NAME;
use super::super::connection::own_namespace;
use super::super::tasks::Tasks;
use super::super::tls::{SecretName, names};
use super::super::webhooks::{Address, PORT, WebhookMode, render};
use crate::admission::Knowledge;
use crate::cluster::{CertificateKeeper, Cluster, WantedWebhooks, WebhookKeeper};
use crate::config::NAMESPACE;
use crate::controller;
use crate::server::Shared;

/// The interval at which the configurations are compared.
const EVERY: Duration = Duration::from_secs(2);

/// The arguments of `portcullis serve` about webhook configurations.
#[derive(Debug, Args)]
pub(super) struct WebhookArguments {
    /// Use the webhook configurations of this name.
    #[arg(long, value_name = "NAME", default_value = NAME)]
    pub(super) webhook_name: String,
    /// Handle webhook configurations in the cluster that differ from the expected ones [default: manage with
    /// --tls-secret and --controller, report with --tls-secret alone, otherwise off].
    ///
    /// Expected are those that `portcullis webhooks` prints for the configuration in force.
    #[arg(long, value_enum, value_name = "MODE", conflicts_with = "standalone", env = "PORTCULLIS_WEBHOOKS")]
    webhooks: Option<WebhookMode>,
    /// Let the API server call Portcullis through this Service [default: portcullis in the namespace of --tls-secret or
    /// of the pod, port 443]. Its default namespace is the same.
    #[arg(long, value_name = "[NAMESPACE/]NAME[:PORT]", conflicts_with_all = ["webhook_url", "standalone"])]
    webhook_service: Option<String>,
    /// Let the API server call Portcullis by this URL instead of through a Service.
    #[arg(long, value_name = "URL", conflicts_with = "standalone")]
    webhook_url: Option<String>,
}

/// A keeper that is not running yet.
pub(super) struct Planned {
    mode: WebhookMode,
    address: Address,
    namespace: String,
    name: String,
}

/// The sender of the configurations that a running keeper compares with.
pub(super) struct WebhookUpdates {
    address: Address,
    name: String,
    sender: watch::Sender<Arc<WantedWebhooks>>,
}

impl WebhookArguments {
    /// Checks the arguments. Returns None if the configurations are not compared.
    pub(super) fn plan(
        &self,
        secret: Option<&SecretName>,
        has_cluster: bool,
        has_controller: bool,
    ) -> Result<Option<Planned>> {
        let mode = WebhookMode::of(self.webhooks, secret.is_some(), has_controller);
        if mode == WebhookMode::Off {
            return Ok(None);
        }
        if !has_cluster {
            bail!("--webhooks needs a cluster; set --kubeconfig");
        }
        if mode == WebhookMode::Manage && (secret.is_none() || !has_controller) {
            bail!("--webhooks manage needs --tls-secret (CA of the webhooks) and --controller (Lease)");
        }
        let namespace = match secret {
            Some(secret) => secret.namespace.clone(),
            None => own_namespace("--webhooks").unwrap_or_else(|_| NAMESPACE.to_owned()),
        };
        let address = match &self.webhook_url {
            Some(url) => Address::url("--webhook-url", url)?,
            None => self.service(&namespace)?,
        };
        Ok(Some(Planned { mode, address, namespace, name: self.webhook_name.clone() }))
    }

    /// Returns the address of the Service of Portcullis. A Service without a namespace is in this one.
    fn service(&self, namespace: &str) -> Result<Address> {
        let Some(service) = &self.webhook_service else {
            return Ok(Address::shipped(namespace, PORT));
        };
        Address::service_with_port("--webhook-service", service, namespace)
    }

    /// Returns the names for the serving certificate of a server whose Secret is in this namespace.
    pub(super) fn certificate_names(&self, namespace: &str, others: &[String]) -> Result<Vec<String>> {
        Ok(match self.service(namespace)? {
            Address::Service { namespace, name, .. } => names(&namespace, &name, others),
            Address::Url(_) => names(namespace, NAME, others),
        })
    }
}

impl Planned {
    /// Starts the keeper.
    pub(super) fn start(
        self,
        cluster: &Cluster,
        shared: &Arc<Shared>,
        certificates: Option<&CertificateKeeper>,
        leads: Option<watch::Receiver<bool>>,
        tasks: &mut Tasks,
    ) -> Result<WebhookUpdates> {
        let Self { mode, address, namespace, name } = self;
        let wanted = render(&shared.knowledge.load().configuration, &address, &name, None)?;
        let (sender, wanted) = watch::channel(Arc::new(wanted));
        let keeper = WebhookKeeper {
            client: cluster.client.clone(),
            name: name.clone(),
            namespace,
            wanted,
            leads,
            bundle: certificates.filter(|_| mode == WebhookMode::Manage).map(CertificateKeeper::bundle),
            identity: controller::identity(),
            every: EVERY,
            metrics: shared.metrics.webhooks.clone(),
        };
        let (shared, end) = (Arc::clone(shared), tasks.ending());
        tasks.spawn("webhook keeper", async move {
            keeper.run(|status| shared.readiness.webhooks(status), &end).await;
        });
        Ok(WebhookUpdates { address, name, sender })
    }
}

impl WebhookUpdates {
    /// Sends the webhook configurations for changed files to the keeper.
    pub(super) fn tell(&self, knowledge: &Knowledge) {
        match render(&knowledge.configuration, &self.address, &self.name, None) {
            Ok(wanted) => drop(self.sender.send_replace(Arc::new(wanted))),
            Err(error) => tracing::error!(%error, "failed to render the webhook configurations"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(line: &[&str]) -> WebhookArguments {
        #[derive(Debug, clap::Parser)]
        struct Serve {
            #[command(flatten)]
            webhooks: WebhookArguments,
            #[arg(long)]
            standalone: bool,
        }
        let Serve { webhooks, .. } = clap::Parser::parse_from([&["serve"], line].concat());
        webhooks
    }

    fn plan(line: &[&str], secret: Option<&str>, has_controller: bool) -> Result<Option<Planned>> {
        let secret = secret
            .and_then(|secret| secret.split_once('/'))
            .map(|(namespace, name)| SecretName { namespace: namespace.to_owned(), name: name.to_owned() });
        arguments(line).plan(secret.as_ref(), true, has_controller)
    }

    #[test]
    fn only_a_replica_with_a_lease_and_a_ca_writes_by_default() {
        let mode = |secret, has_controller| plan(&[], secret, has_controller).unwrap().map(|planned| planned.mode);
        assert_eq!(mode(Some("a/b"), true), Some(WebhookMode::Manage));
        assert_eq!(mode(Some("a/b"), false), Some(WebhookMode::Report));
        assert_eq!(mode(None, true), None);
        for (secret, has_controller) in [(None, true), (Some("a/b"), false)] {
            let error = plan(&["--webhooks=manage"], secret, has_controller).err().unwrap().to_string();
            assert!(error.contains("needs --tls-secret"), "{error}");
        }
        assert_eq!(plan(&["--webhooks=off"], Some("a/b"), true).unwrap().map(|planned| planned.mode), None);
    }

    #[test]
    fn the_address_is_the_service_beside_the_secret_unless_another_is_given() {
        let address = |arguments: &[&str]| plan(arguments, Some("guard/tls"), true).unwrap().unwrap().address;
        let service = |namespace: &str, port| Address::Service {
            namespace: namespace.to_owned(),
            name: "portcullis".to_owned(),
            port,
        };
        assert_eq!(address(&[]), service("guard", 443));
        assert_eq!(address(&["--webhook-service=other/portcullis"]), service("other", 443));
        assert_eq!(address(&["--webhook-service=other/portcullis:8443"]), service("other", 8443));
        assert_eq!(address(&["--webhook-service=portcullis:8443"]), service("guard", 8443));
        assert_eq!(
            address(&["--webhook-url=https://10.0.0.7:8443/"]),
            Address::Url("https://10.0.0.7:8443".to_owned())
        );
        for bad in ["--webhook-service=a/", "--webhook-service=a/b:x", "--webhook-url=http://x"] {
            assert!(plan(&[bad], Some("guard/tls"), true).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_certificate_has_the_names_of_the_service() {
        let has = |line: &[&str], name: &str| {
            arguments(line).certificate_names("guard", &["extra".to_owned()]).unwrap().contains(&name.to_owned())
        };
        assert!(has(&[], "portcullis.guard.svc") && has(&[], "extra") && has(&[], "localhost"));
        assert!(has(&["--webhook-service=gate:8443"], "gate.guard.svc"));
        assert!(has(&["--webhook-service=other/gate"], "gate.other.svc"));
        assert!(has(&["--webhook-url=https://10.0.0.7"], "portcullis.guard.svc"));
    }
}
