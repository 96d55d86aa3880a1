//! The state of a cluster that `trace`, `diff` and `audit` evaluate: from manifests, from a cluster, or from both.

use std::collections::HashSet;
use std::path::PathBuf;

use anyhow::{Result, anyhow, bail};
use clap::Args;

use super::cluster_arguments::ClusterArguments;
use super::inputs::without_patches;
use super::sources::Sources;
use super::{YELLOW, block_on};
use crate::baseline::{self, PolicySet};
use crate::cluster::{Cluster, Snapshot};
use crate::config::Configuration;
use crate::model::Body;
use crate::view::{Site, View};

/// The arguments that say where the state is read from.
#[derive(Debug, Args)]
pub(super) struct StateArguments {
    /// Read the cluster of the kubeconfig, or of the pod's service account. Needs read access only.
    #[arg(long)]
    pub(super) cluster: bool,
    #[command(flatten)]
    arguments: ClusterArguments,
    /// The configuration [default: the shipped one].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The folder of baseline policies [default: the shipped ones].
    #[arg(long, value_name = "FOLDER")]
    policies: Option<PathBuf>,
}

/// A view with the settings that it was completed with.
pub(super) struct State {
    pub(super) view: View,
    pub(super) site: Site,
    pub(super) policies: PolicySet,
    /// What could not be read.
    pub(super) missing: Vec<String>,
    /// Folders of kustomizations whose patches are not applied.
    with_patches: Vec<String>,
}

impl State {
    /// Prints to standard error what is assumed about the manifests.
    pub(super) fn print_assumptions(&self) {
        if let Some(assumed) = without_patches(&self.with_patches) {
            anstream::eprintln!("{YELLOW}assumed{YELLOW:#}: {assumed}");
        }
    }
}

impl StateArguments {
    /// Checks that there is something to read: the cluster, or one of these manifests.
    pub(super) fn expect_input(&self, paths: &[PathBuf]) -> Result<()> {
        if paths.is_empty() && !self.cluster {
            bail!("nothing to read; name files or folders with manifests, or set --cluster");
        }
        Ok(())
    }

    /// Reads the cluster, if it is to be read. Also returns what could not be read.
    pub(super) fn base(&self) -> Result<(View, Vec<String>)> {
        let read = self.read_cluster(async |cluster| cluster.snapshot().await)?;
        Ok(read.map_or_else(Default::default, |Snapshot { view, missing, .. }| (view, missing)))
    }

    /// Reads something from the cluster. None if no cluster is to be read.
    pub(super) fn read_cluster<T>(&self, read: impl AsyncFnOnce(&Cluster) -> Result<T, String>) -> Result<Option<T>> {
        if !self.cluster {
            return Ok(None);
        }
        block_on(async {
            let cluster = self.arguments.connect().await?;
            let read = read(&cluster).await.map_err(|why| anyhow!("API server {}: {why}", cluster.server))?;
            Ok(Some(read))
        })
    }

    /// Reads the configuration and the baseline policies.
    pub(super) fn settings(&self) -> Result<(Configuration, PolicySet)> {
        let (config, policies) = (self.config.clone(), self.policies.clone());
        Sources { config, policies, ..Sources::default() }.read()?.settings()
    }

    /// Reads the text of the configuration file. None for the built-in configuration.
    pub(super) fn configuration_text(&self) -> Result<Option<String>> {
        self.config.as_deref().map(super::sources::read_file).transpose()
    }

    /// Adds manifests to a view as if they were applied, and the desired policies of its namespaces.
    pub(super) fn apply(&self, paths: Vec<PathBuf>, mut view: View) -> Result<State> {
        let (config, policies) = (self.config.clone(), self.policies.clone());
        let sources = Sources { config, policies, context: paths, ..Sources::default() }.read()?;
        let (configuration, policies) = sources.settings()?;
        let (objects, problems) = sources.context_objects(&mut view);
        let mut missing: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let mut contracts = HashSet::new();
        for mut object in objects {
            if matches!(object.body, Body::Contract(_)) && !contracts.insert(object.id.name.clone()) {
                missing.push(format!("an earlier contract with the name {}, which this one replaces", object.id.name));
            }
            baseline::give_profile(&mut object, &configuration.site);
            view.insert(object);
        }
        baseline::complete(&mut view, &policies, &configuration.site);
        let with_patches = sources.with_patches;
        Ok(State { view, site: configuration.site, policies, missing, with_patches })
    }
}
