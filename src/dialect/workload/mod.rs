//! Pods, and the kinds that create pods. They differ only in the path of the pod spec.

mod custom;

pub(crate) use custom::operator_pods;

use serde::Deserialize;

use super::error::parse;
use super::label_map::LabelMap;
use super::{Dialect, Kind, Manifest, Patch, ReadError};
use crate::budget::{charge, hold};
use crate::dialect::label_map::means_something;
use crate::json::{object as fields, optional};
use crate::model::{self, Body, Fix, Labels, Object, Path, Protocol, Scrape, Workload};

/// The dialect of workloads.
#[derive(Debug)]
pub(crate) struct Workloads;

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

/// A pod template.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Template {
    #[serde(deserialize_with = "fields")]
    metadata: TemplateMeta,
    #[serde(deserialize_with = "optional")]
    spec: Option<PodSpec>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TemplateMeta {
    labels: Option<LabelMap>,
    annotations: Option<LabelMap>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    host_network: Option<bool>,
    service_account_name: Option<Box<str>>,
    /// The deprecated name of `service_account_name`.
    service_account: Option<Box<str>>,
    node_name: Option<Box<str>>,
    scheduling_gates: Option<Vec<Gate>>,
    containers: Option<Vec<Container>>,
    /// Init containers, including sidecar containers, which keep running.
    init_containers: Option<Vec<Container>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Container {
    ports: Option<Vec<ContainerPort>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerPort {
    name: Option<Box<str>>,
    container_port: Option<i64>,
    protocol: Option<Box<str>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PodStatus {
    #[serde(rename = "podIP")]
    pod_ip: Option<Box<str>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Gate {
    name: Box<str>,
}

/// The spec of an object that creates pods.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ControllerSpec {
    #[serde(deserialize_with = "optional")]
    template: Option<Template>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct CronJobSpec {
    #[serde(deserialize_with = "optional")]
    job_template: Option<JobTemplate>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct JobTemplate {
    #[serde(deserialize_with = "fields")]
    metadata: TemplateMeta,
    #[serde(deserialize_with = "optional")]
    spec: Option<ControllerSpec>,
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
        let spec = root.field("spec");
        let own = manifest.annotations()?;
        // Pods get their exemptions from their template, so an exemption there comes first: it is the one that the user
        // who writes the object needs permission for. Next come the annotations of the Jobs that a CronJob creates, then
        // those of the object itself.
        let exempts = |annotations: &Labels| annotations.iter().any(|(key, _)| key.ends_with("/exempt"));
        let mut of_job = Labels::default();
        let Made { labels, annotations, pod, path } = match manifest.kind {
            "Pod" => Made { labels: manifest.labels()?, annotations: own.clone(), pod: manifest.spec()?, path: root },
            "PodTemplate" => {
                let path = root.field("template");
                let template = manifest.written.template.map(|template| parse(template, &path)).transpose()?;
                split(template, path)
            }
            "CronJob" => {
                let CronJobSpec { job_template } = manifest.spec()?;
                let JobTemplate { metadata, spec: job } = job_template.unwrap_or_default();
                of_job = meaningful(metadata.annotations);
                let job = job.unwrap_or_default();
                split(job.template, spec.field("jobTemplate").field("spec").field("template"))
            }
            _ => {
                let ControllerSpec { template } = manifest.spec()?;
                split(template, spec.field("template"))
            }
        };
        let scrape = scrape(&annotations, &pod);
        let ports = ports(&pod);
        let status = manifest.written.status.filter(|_| manifest.kind == "Pod");
        let status: Option<PodStatus> =
            status.map(|status| parse(status, &Path::root().field("status"))).transpose()?;
        let address = status.unwrap_or_default().pod_ip.and_then(|address| address.parse().ok());
        let PodSpec { host_network, service_account_name, service_account, node_name, scheduling_gates, .. } = pod;
        let account = service_account_name.or(service_account).filter(|name| !name.is_empty());
        Ok(Object {
            id: manifest.id()?,
            body: Body::Workload(Workload {
                labels,
                is_template: manifest.kind != "Pod",
                address,
                ports,
                host_network: (host_network == Some(true)).then(|| path.field("spec").field("hostNetwork")),
                // The default of the API server.
                service_account: account.unwrap_or_else(|| "default".into()),
                scrape,
                gates: scheduling_gates.into_iter().flatten().map(|gate| gate.name).collect(),
                is_assigned: node_name.is_some_and(|node| !node.is_empty()),
            }),
            faults: Vec::new(),
            annotations: [annotations, of_job].into_iter().find(exempts).unwrap_or(own),
        })
    }

    fn fix(&self, _fix: &Fix, _manifest: &Manifest<'_>) -> Option<Patch> {
        None
    }
}

/// The pods that a template creates, or a single pod.
struct Made {
    labels: Labels,
    annotations: Labels,
    pod: PodSpec,
    /// The path of the template or pod.
    path: Path,
}

/// Reads the template at this path.
fn split(template: Option<Template>, path: Path) -> Made {
    let Template { metadata, spec } = template.unwrap_or_default();
    let labels = metadata.labels.map(|LabelMap(labels)| labels).unwrap_or_default();
    Made { labels, annotations: meaningful(metadata.annotations), pod: spec.unwrap_or_default(), path }
}

/// The annotations that Portcullis reads.
fn meaningful(annotations: Option<LabelMap>) -> Labels {
    let annotations = annotations.map(|LabelMap(annotations)| annotations).unwrap_or_default();
    annotations.iter().filter(|(key, _)| means_something(key)).collect()
}

/// The port on which pods with these annotations ask to be scraped, by the convention of the Prometheus example
/// configuration.
fn scrape(annotations: &Labels, pod: &PodSpec) -> Option<Scrape> {
    if annotations.get("prometheus.io/scrape") != Some("true") {
        return None;
    }
    let port: Option<u16> = annotations.get("prometheus.io/port").and_then(|port| port.parse().ok());
    let containers = [&pod.containers, &pod.init_containers].into_iter().flatten().flatten();
    let listed: Vec<&ContainerPort> = containers.flat_map(|container| container.ports.iter().flatten()).collect();
    let of_port = listed.iter().filter(|listed| port.is_some() && listed.container_port == port.map(i64::from));
    let names = of_port.filter_map(|listed| listed.name.clone()).collect();
    Some(Scrape { port, names: (!listed.is_empty()).then_some(names) })
}

/// The ports that the containers of a pod list.
fn ports(pod: &PodSpec) -> Box<[model::ContainerPort]> {
    let containers = [&pod.containers, &pod.init_containers].into_iter().flatten().flatten();
    let listed = containers.flat_map(|container| container.ports.iter().flatten());
    let ports = listed.filter_map(|port| {
        charge(1);
        let protocol = match port.protocol.as_deref() {
            None | Some("" | "TCP") => Protocol::Tcp,
            Some("UDP") => Protocol::Udp,
            Some("SCTP") => Protocol::Sctp,
            Some(_) => return None,
        };
        let number = port.container_port.and_then(|number| u16::try_from(number).ok())?;
        hold(size_of::<model::ContainerPort>());
        Some(model::ContainerPort { name: port.name.clone(), protocol, number })
    });
    ports.collect()
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
        let manifest = Manifest::read(&api_version, kind.kind, &json, Origin::Author).unwrap();
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
