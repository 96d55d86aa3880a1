//! The connection of a command to the cluster, and the namespace of the pod that it runs in.

use std::path::Path;

use anyhow::{Result, bail};

use crate::cluster::Cluster;

/// Connects to the cluster. None if no cluster is configured. Sends no request yet.
pub(super) async fn connect(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Option<Cluster>> {
    // The client uses the crypto provider of the process. A provider that is installed already stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Ok(Cluster::connect(kubeconfig, context).await?)
}

/// Returns the namespace of this pod, from its environment or from its service account.
///
/// # Errors
/// If both are missing, with the flag that needs the namespace.
pub(super) fn own_namespace(flag: &str) -> Result<String> {
    let said = std::env::var("POD_NAMESPACE").ok();
    let account = || std::fs::read_to_string("/var/run/secrets/kubernetes.io/serviceaccount/namespace").ok();
    match said.or_else(account).map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()) {
        Some(name) => Ok(name),
        None => bail!("{flag} needs the namespace of this pod; set POD_NAMESPACE outside a pod"),
    }
}
