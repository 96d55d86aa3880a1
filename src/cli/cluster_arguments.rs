//! The arguments that name a cluster.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

use super::connection::connect;
use crate::cluster::Cluster;

/// The arguments that name a cluster.
#[derive(Debug, Args)]
pub(super) struct ClusterArguments {
    /// Read the kubeconfig from this file [default: $KUBECONFIG; in a pod its service account; otherwise
    /// ~/.kube/config].
    #[arg(long, value_name = "FILE", global = true)]
    pub(super) kubeconfig: Option<PathBuf>,
    /// Use this context of the kubeconfig [default: its current context].
    #[arg(long, visible_alias = "context", value_name = "NAME", global = true)]
    pub(super) kube_context: Option<String>,
}

impl ClusterArguments {
    /// Connects to the cluster. Fails if no cluster is configured.
    pub(super) async fn connect(&self) -> Result<Cluster> {
        match connect(self.kubeconfig.as_deref(), self.kube_context.as_deref()).await? {
            Some(cluster) => Ok(cluster),
            None => bail!("no cluster is configured; set --kubeconfig"),
        }
    }
}
