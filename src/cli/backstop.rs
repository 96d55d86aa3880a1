//! `portcullis backstop`: the rules that the API server evaluates itself.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::OK;
use super::output::print_json;
use super::sources::Sources;
use crate::backstop::{Delivery, manifests};

/// Print ValidatingAdmissionPolicies that deny the worst while no replica answers, as one JSON list.
///
/// They contain the rules that need no view of the cluster, with the modes of the configuration: guards, profiles, rules
/// that allow every port, and hostNetwork in namespaces with a profile. They deny only what the webhook denies. Print and
/// apply them again after each change of the configuration.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    portcullis backstop --config portcullis.yaml | kubectl apply -f -\n  \
    portcullis backstop --static > /etc/kubernetes/admission/portcullis.json\n\n\
    Way out:\n  \
    kubectl delete validatingadmissionpolicybinding -l app.kubernetes.io/component=backstop")]
pub(super) struct Arguments {
    /// Read the configuration from this file [default: the built-in configuration].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print static manifests, for the directory `staticManifestsDir` of the API server (alpha in Kubernetes 1.36).
    #[arg(long = "static")]
    is_static: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<u8> {
    let sources = Sources { config: arguments.config.clone(), ..Sources::default() };
    let configuration = sources.read()?.configuration()?;
    let delivery = if arguments.is_static { Delivery::StaticManifests } else { Delivery::Objects };
    print_json(&json!({"apiVersion": "v1", "kind": "List", "items": manifests(&configuration, delivery)}))?;
    Ok(OK)
}
