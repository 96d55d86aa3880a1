//! `portcullis uninstall`: deletes the webhooks from a cluster and removes the scheduling gates of waiting pods.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use clap::Args;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde_json::json;

use super::cluster_arguments::ClusterArguments;
use super::sources::Sources;
use super::{FAILED, NAME, OK, block_on};
use crate::cluster::{PAUSE_ANNOTATION, words};
use crate::controller::{lift_gate, pods};
use crate::view::Site;

/// The field manager of the changes.
const FIELD_MANAGER: &str = "portcullis-uninstall";
/// The value of the pause annotation.
const PAUSE_REASON: &str = "portcullis uninstall";
/// Maximum number of pods in one page of a list.
const PAGE: u32 = 500;
/// Time for which API servers may still call a webhook after its configuration is deleted.
const NOTICE: Duration = Duration::from_secs(3);

/// Delete the webhooks from a cluster and remove the scheduling gates of Portcullis from all pods.
///
/// Afterwards nothing in the cluster depends on Portcullis, and it can be deleted. The policies, labels and annotations
/// that it applied stay; the command prints how to delete them. The command can be repeated: it skips steps that are
/// done.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  portcullis uninstall\n  portcullis uninstall --yes && kubectl delete --ignore-not-found -k deploy/\n  portcullis uninstall --unpause"
)]
pub(super) struct Arguments {
    #[command(flatten)]
    cluster: ClusterArguments,
    /// Read the label domain from this configuration [default: the built-in configuration].
    ///
    /// Use the configuration of the Portcullis that runs in the cluster.
    #[arg(long, value_name = "FILE", env = "PORTCULLIS_CONFIG")]
    config: Option<PathBuf>,
    /// Delete the webhook configurations of this name.
    #[arg(long, value_name = "NAME", default_value = NAME)]
    webhook_name: String,
    /// Annotate this namespace of Portcullis, so that running replicas do not recreate the webhook configurations
    /// [default: installation.namespace of the configuration].
    #[arg(long, short, value_name = "NAME")]
    namespace: Option<String>,
    /// Only remove that annotation. For the end, when no replica runs any more: a later installation in the same namespace
    /// then manages its webhook configurations.
    #[arg(long)]
    unpause: bool,
    /// Do not ask for confirmation.
    #[arg(long)]
    yes: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<u8> {
    let sources = Sources { config: arguments.config.clone(), ..Sources::default() };
    let site = sources.read()?.configuration()?.site;
    block_on(uninstall(arguments, &site))
}

async fn uninstall(arguments: &Arguments, site: &Site) -> Result<u8> {
    let cluster = arguments.cluster.connect().await?;
    let namespace = arguments.namespace.as_ref().unwrap_or(&site.namespace);
    if arguments.unpause {
        unpause(&cluster.client, namespace).await?;
        return Ok(OK);
    }
    if !arguments.yes && !agreed(&arguments.webhook_name, &cluster.server)? {
        bail!("nothing was changed");
    }
    let client = cluster.client;
    say(&format!("In the cluster at {}:", cluster.server));
    pause(&client, namespace).await?;
    // The webhooks are deleted first, so that no further pod gets a gate.
    let name = &arguments.webhook_name;
    let validating = delete::<ValidatingWebhookConfiguration>(&client, name).await?;
    let mutating = delete::<MutatingWebhookConfiguration>(&client, name).await?;
    let gate = site.gate_name();
    let mut failed = lift(&client, &gate).await?;
    if validating || mutating {
        tokio::time::sleep(NOTICE).await;
        failed = lift(&client, &gate).await?;
    }
    say(&what_stays(site, namespace));
    if failed == 0 {
        return Ok(OK);
    }
    anstream::eprintln!("{failed} pods still have the scheduling gate; run the command again");
    Ok(FAILED)
}

fn agreed(name: &str, server: &str) -> Result<bool> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        bail!("standard input is not a terminal; confirm with --yes");
    }
    let mut out = std::io::stdout().lock();
    write!(
        out,
        "Delete the webhook configurations {name} in the cluster at {server} and remove every scheduling gate of \
         Portcullis there? [y/N] "
    )?;
    out.flush()?;
    let mut answer = String::new();
    input.read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Stops Portcullis from writing its webhook configurations.
async fn pause(client: &Client, namespace: &str) -> Result<()> {
    let what = format!("namespace {namespace}");
    match annotate(client, namespace, Some(PAUSE_REASON)).await {
        Ok(()) => say(&format!("{what}: annotated {PAUSE_ANNOTATION}")),
        Err(kube::Error::Api(status)) if status.code == 404 => say(&format!("{what}: not found")),
        Err(error) => return Err(anyhow!("{what}: {}", words(&error))),
    }
    Ok(())
}

/// Removes the annotation of [`pause`]. An annotation with another reason stays.
async fn unpause(client: &Client, namespace: &str) -> Result<()> {
    let api: Api<Namespace> = Api::all(client.clone());
    let what = format!("namespace {namespace}");
    let found = api.get_metadata_opt(namespace).await.map_err(|error| anyhow!("{what}: {}", words(&error)))?;
    let reason = found.as_ref().and_then(|found| found.annotations().get(PAUSE_ANNOTATION));
    match reason {
        Some(reason) if reason == PAUSE_REASON => {
            annotate(client, namespace, None).await.map_err(|error| anyhow!("{what}: {}", words(&error)))?;
            say(&format!("{what}: removed annotation {PAUSE_ANNOTATION}"));
        }
        Some(reason) => say(&format!("{what}: kept annotation {PAUSE_ANNOTATION}={reason}")),
        None => say(&format!("{what}: has no annotation {PAUSE_ANNOTATION}")),
    }
    Ok(())
}

/// Sets or removes the pause annotation.
async fn annotate(client: &Client, namespace: &str, reason: Option<&str>) -> kube::Result<()> {
    let api: Api<Namespace> = Api::all(client.clone());
    let annotation = json!({"metadata": {"annotations": {PAUSE_ANNOTATION: reason}}});
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    api.patch_metadata(namespace, &parameters, &Patch::Merge(&annotation)).await.map(drop)
}

/// Deletes a webhook configuration. Returns true if it existed.
async fn delete<K>(client: &Client, name: &str) -> Result<bool>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let api: Api<K> = Api::all(client.clone());
    let what = format!("{} {name}", K::kind(&()));
    match api.delete(name, &DeleteParams::default()).await {
        Ok(_) => {
            say(&format!("{what}: deleted"));
            Ok(true)
        }
        Err(kube::Error::Api(status)) if status.code == 404 => {
            say(&format!("{what}: not found"));
            Ok(false)
        }
        Err(error) => Err(anyhow!("{what}: {}", words(&error))),
    }
}

/// Removes the gate from every pod that has it. Returns the number of pods for which that failed.
async fn lift(client: &Client, gate: &str) -> Result<usize> {
    let (mut lifted, mut failed) = (0_usize, 0_usize);
    let (mut others, mut other) = (0_usize, String::new());
    let ending = gate.rsplit_once('/').map_or(gate, |(_, name)| name);
    // A pod with a scheduling gate has no node yet.
    let mut page = ListParams::default().fields("spec.nodeName=").limit(PAGE);
    loop {
        let found = pods(client, None).list(&page).await;
        let found = found.map_err(|error| anyhow!("failed to list pods without a node: {}", words(&error)))?;
        for name in found
            .items
            .iter()
            .flat_map(|pod| pod.spec.names())
            .filter(|name| *name != gate && name.ends_with(&format!("/{ending}")))
        {
            others += 1;
            name.clone_into(&mut other);
        }
        for pod in found.items.iter().filter(|pod| pod.spec.names().any(|name| name == gate)) {
            let namespace = pod.namespace().unwrap_or_default();
            match lift_gate(client, &namespace, &pod.name_any(), gate, FIELD_MANAGER).await {
                Ok(()) => lifted += 1,
                // The pod is deleted and no longer waits.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => {
                    failed += 1;
                    anstream::eprintln!("pod {namespace}/{}: {}", pod.name_any(), words(&error));
                }
            }
        }
        match found.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => break,
        }
    }
    say(&format!("scheduling gate {gate}: removed from {lifted} pods"));
    if others > 0 {
        anstream::eprintln!(
            "{others} pods have a scheduling gate of another label domain, such as {other}; if Portcullis used that \
             domain, run this command with its --config"
        );
    }
    Ok(failed)
}

/// Prints progress. A closed output must not stop the remaining steps.
fn say(text: &str) {
    let _ = writeln!(anstream::stdout().lock(), "{text}");
}

/// Describes the objects, labels and annotations that stay in the cluster, and the commands that delete them.
fn what_stays(site: &Site, namespace: &str) -> String {
    let (layer, baseline, profile, enforcement) =
        (site.layer_label(), site.baseline_label(), site.profile_label(), site.enforcement_label());
    let access: Vec<String> = site.access.iter().map(|name| format!("{}-", site.access_label(name))).collect();
    let mut text = format!(
        "\nThe API server no longer calls Portcullis. These objects remain; the commands delete them:\n\n\
         Portcullis itself (if Git applies it, remove it from Git):\n  \
         kubectl delete --ignore-not-found -k deploy/\n\n\
         The policies that it applied. They stay in force; deleting them opens the namespaces:\n  \
         kubectl delete networkpolicies --all-namespaces --selector {layer}\n"
    );
    text.push_str(match site.policy_set {
        crate::view::SetName::Kubernetes => "",
        crate::view::SetName::Cilium => "  kubectl delete ciliumclusterwidenetworkpolicies --selector ",
        crate::view::SetName::Calico => "  kubectl delete globalnetworkpolicies.projectcalico.org --selector ",
    });
    if site.policy_set != crate::view::SetName::Kubernetes {
        text.push_str(&format!("{layer}\n"));
    }
    text.push_str(&format!(
        "\nThe labels of namespaces:\n  kubectl label namespaces --all {profile}- {baseline}- {enforcement}- {}",
        access.join(" ")
    ));
    text.push_str(&format!(
        "\n\nThe pause annotation, if Portcullis stays and manages its webhook configurations again:\n  \
         kubectl annotate namespace {namespace} {PAUSE_ANNOTATION}-"
    ));
    text.push_str(&format!(
        "\n\nThe annotations of namespaces:\n  kubectl annotate namespaces --all {}- {}-",
        site.status_annotation(),
        site.opened_annotation()
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Configuration;

    #[test]
    fn it_says_how_the_rest_is_removed_with_the_names_of_the_cluster() {
        let mut site = Configuration::shipped().unwrap().site;
        let text = what_stays(&site, "portcullis-system");
        for line in [
            "  kubectl delete --ignore-not-found -k deploy/\n",
            "  kubectl delete networkpolicies --all-namespaces --selector network-policy.portcullis.dev/layer\n",
            " access.network-policy.portcullis.dev/postgres- ",
            "  kubectl annotate namespace portcullis-system portcullis.dev/webhooks-paused-\n",
            "  kubectl annotate namespaces --all network-policy.portcullis.dev/baseline-status- ",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert!(!text.contains("cilium"), "{text}");
        site.label_domain = "example.com".to_owned();
        site.policy_set = crate::view::SetName::Cilium;
        let text = what_stays(&site, "portcullis-system");
        assert!(text.contains("ciliumclusterwidenetworkpolicies --selector example.com/layer\n"), "{text}");
        assert!(text.contains("--all example.com/profile- example.com/baseline- "), "{text}");
    }
}
