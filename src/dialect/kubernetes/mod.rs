//! `networking.k8s.io/v1` NetworkPolicy.
//!
//! The semantics follow the [API
//! reference](https://kubernetes.io/docs/reference/kubernetes-api/policy-resources/network-policy-v1/) and
//! `pkg/apis/networking/v1/defaults.go` of Kubernetes. `protocol` defaults to TCP. `policyTypes` defaults to Ingress,
//! plus Egress if the policy has egress rules.

mod api_server;
mod fix;
mod read;
mod wire;

pub(crate) use api_server::{allow_api_server, can_allow_api_server};

use super::{Dialect, Kind, Manifest, Patch, ReadError};
use crate::model::{Fix, Object};

/// The dialect of Kubernetes.
#[derive(Debug)]
pub struct Kubernetes;

impl Dialect for Kubernetes {
    fn name(&self) -> &'static str {
        "kubernetes"
    }

    fn kinds(&self) -> &'static [Kind] {
        &[Kind { group: "networking.k8s.io", versions: &["v1"], kind: "NetworkPolicy" }]
    }

    fn read(&self, manifest: &Manifest<'_>) -> Result<Object, ReadError> {
        read::object(manifest)
    }

    fn fix(&self, fix: &Fix, manifest: &Manifest<'_>) -> Option<Patch> {
        fix::patch(fix, manifest)
    }
}
