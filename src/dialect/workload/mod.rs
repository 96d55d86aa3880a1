//! Pods, and the kinds that make pods: where the pod's spec is differs, what it says does not.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::parse;
use super::meta::Meta;
use super::{Dialect, Kind, Manifest, Patch, ReadError};
use crate::json::{object as fields, optional};
use crate::model::{Body, Fix, Object, Path, Workload};

/// The dialect.
#[derive(Debug)]
pub struct Workloads;

const KINDS: &[Kind] = &[
    Kind { group: "", versions: &["v1"], kind: "Pod" },
    Kind { group: "", versions: &["v1"], kind: "PodTemplate" },
    Kind { group: "", versions: &["v1"], kind: "ReplicationController" },
    Kind { group: "apps", versions: &["v1"], kind: "DaemonSet" },
    Kind { group: "apps", versions: &["v1"], kind: "Deployment" },
    Kind { group: "apps", versions: &["v1"], kind: "ReplicaSet" },
    Kind { group: "apps", versions: &["v1"], kind: "StatefulSet" },
    Kind { group: "batch", versions: &["v1"], kind: "CronJob" },
    Kind { group: "batch", versions: &["v1"], kind: "Job" },
];

/// A pod, and the template of one.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Pod {
    #[serde(deserialize_with = "fields")]
    metadata: Meta,
    #[serde(deserialize_with = "optional")]
    spec: Option<PodSpec>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    host_network: Option<bool>,
    service_account_name: Option<Box<str>>,
    /// The older name of the same field.
    service_account: Option<Box<str>>,
}

/// A PodTemplate, and what a CronJob makes jobs from, differ from the rest in where the template is.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PodTemplate {
    #[serde(deserialize_with = "fields")]
    metadata: Meta,
    #[serde(deserialize_with = "optional")]
    template: Option<Pod>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Controller {
    #[serde(deserialize_with = "fields")]
    metadata: Meta,
    #[serde(deserialize_with = "optional")]
    spec: Option<ControllerSpec>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ControllerSpec {
    #[serde(deserialize_with = "optional")]
    template: Option<Pod>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CronJob {
    #[serde(deserialize_with = "fields")]
    metadata: Meta,
    #[serde(deserialize_with = "optional")]
    spec: Option<CronJobSpec>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct CronJobSpec {
    #[serde(deserialize_with = "optional")]
    job_template: Option<Controller>,
}

impl Dialect for Workloads {
    fn name(&self) -> &'static str {
        "workload"
    }

    fn kinds(&self) -> &'static [Kind] {
        KINDS
    }

    fn read(&self, manifest: &Manifest<'_>) -> Result<Object, ReadError> {
        let root = Path::root();
        let template = root.field("spec").field("template");
        match manifest.kind {
            "Pod" => {
                let Pod { metadata, spec } = parse(manifest.json)?;
                let labels = Meta { labels: metadata.labels.clone(), ..Meta::default() };
                Ok(object(manifest, &metadata, Some(Pod { metadata: labels, spec }), &root))
            }
            "PodTemplate" => {
                split(manifest, |PodTemplate { metadata, template }| (metadata, template), &root.field("template"))
            }
            "CronJob" => split(
                manifest,
                |CronJob { metadata, spec }| {
                    let job = spec.and_then(|spec| spec.job_template).and_then(|job| job.spec);
                    (metadata, job.and_then(|job| job.template))
                },
                &root.field("spec").field("jobTemplate").field("spec").field("template"),
            ),
            _ => split(
                manifest,
                |Controller { metadata, spec }| (metadata, spec.and_then(|spec| spec.template)),
                &template,
            ),
        }
    }

    fn fix(&self, _fix: &Fix, _manifest: &str) -> Option<Patch> {
        None
    }
}

fn split<W: DeserializeOwned>(
    manifest: &Manifest<'_>,
    parts: impl Fn(W) -> (Meta, Option<Pod>),
    template: &Path,
) -> Result<Object, ReadError> {
    let (metadata, pod) = parts(parse(manifest.json)?);
    Ok(object(manifest, &metadata, pod, template))
}

fn object(manifest: &Manifest<'_>, metadata: &Meta, pod: Option<Pod>, path: &Path) -> Object {
    let Pod { metadata: pod_metadata, spec } = pod.unwrap_or_default();
    let spec = spec.unwrap_or_default();
    let service_account = spec.service_account_name.or(spec.service_account).filter(|name| !name.is_empty());
    Object {
        id: metadata.id(manifest),
        deleting: metadata.deleting(),
        body: Body::Workload(Workload {
            labels: pod_metadata.labels(),
            host_network: (spec.host_network == Some(true)).then(|| path.field("spec").field("hostNetwork")),
            // What the API server fills in.
            service_account: service_account.unwrap_or_else(|| "default".into()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::{Origin, claim};
    use serde_json::{Value, json};

    fn workload(kind: &Kind, manifest: &Value) -> Workload {
        let api_version = if kind.group.is_empty() { "v1".to_owned() } else { format!("{}/v1", kind.group) };
        assert!(matches!(claim(&api_version, kind.kind), crate::dialect::Claim::Known(_)));
        let json = manifest.to_string();
        let manifest = Manifest { api_version: &api_version, kind: kind.kind, json: &json, origin: Origin::Author };
        match Workloads.read(&manifest).unwrap().body {
            Body::Workload(workload) => workload,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_pod_spec_of_every_kind_is_found() {
        for kind in KINDS {
            let pod = json!({"metadata": {"labels": {"app": "x"}}, "spec": {"hostNetwork": true, "serviceAccountName": "agent"}});
            let (manifest, place) = match kind.kind {
                "Pod" => (pod, "spec.hostNetwork"),
                "PodTemplate" => (json!({"template": pod}), "template.spec.hostNetwork"),
                "CronJob" => (
                    json!({"spec": {"jobTemplate": {"spec": {"template": pod}}}}),
                    "spec.jobTemplate.spec.template.spec.hostNetwork",
                ),
                _ => (json!({"spec": {"template": pod}}), "spec.template.spec.hostNetwork"),
            };
            let workload = workload(kind, &manifest);
            assert_eq!(workload.host_network.unwrap().to_string(), place, "{}", kind.kind);
            assert_eq!(&*workload.service_account, "agent", "{}", kind.kind);
            assert_eq!(workload.labels.get("app"), Some("x"), "{}", kind.kind);
        }
    }

    #[test]
    fn what_is_left_out_is_what_the_api_server_fills_in() {
        let pod = workload(&KINDS[0], &json!({"spec": {"hostNetwork": false}}));
        assert_eq!((pod.host_network, &*pod.service_account), (None, "default"));
        assert_eq!(workload(&KINDS[4], &json!({"spec": {}})).host_network, None);
    }
}
