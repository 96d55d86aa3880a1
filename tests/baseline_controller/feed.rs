//! A feed for tests: it lists what is in the cluster over and over, and keeps a view of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use portcullis::controller::Wanted;
use portcullis::dialect::{self, Manifest, Origin};
use portcullis::model::{Object, ObjectRef};
use portcullis::view::{FIELD_MANAGER, Owned, Site, View};
use serde_json::Value;
use tokio::sync::watch;

/// How often it lists.
const EVERY: Duration = Duration::from_millis(50);

const KINDS: [(&str, &str, &str, &str); 4] = [
    ("", "v1", "Namespace", "namespaces"),
    ("", "v1", "Pod", "pods"),
    ("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"),
    ("cilium.io", "v2", "CiliumNetworkPolicy", "ciliumnetworkpolicies"),
];

/// The kinds of cluster-wide policies.
pub(crate) const CLUSTER_WIDE: [(&str, &str, &str, &str); 2] = [
    ("cilium.io", "v2", "CiliumClusterwideNetworkPolicy", "ciliumclusterwidenetworkpolicies"),
    ("projectcalico.org", "v3", "GlobalNetworkPolicy", "globalnetworkpolicies"),
];

/// A kind of the API server.
pub(crate) fn resource(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    ApiResource { group: group.into(), version: version.into(), api_version, kind: kind.into(), plural: plural.into() }
}

/// Keeps a view of the cluster until its receivers are gone.
pub(crate) async fn run(client: Client, wanted: watch::Receiver<Wanted>, views: watch::Sender<Arc<View>>) {
    let mut domain = String::new();
    let mut known: BTreeMap<ObjectRef, String> = BTreeMap::new();
    let mut view = View::of_cluster();
    while !views.is_closed() {
        let site = Arc::clone(&wanted.borrow().site);
        if site.label_domain != domain {
            // The controller's policies are found by another label.
            domain.clone_from(&site.label_domain);
            known.clear();
        }
        let mut listed = Vec::new();
        for (group, version, kind, plural) in KINDS.into_iter().chain(CLUSTER_WIDE) {
            let resource = resource(group, version, kind, plural);
            let api_version = resource.api_version.clone();
            let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
            let list = match api.list(&ListParams::default()).await {
                Ok(list) => list,
                // Its CRD is not there.
                Err(kube::Error::Api(status)) if status.code == 404 => continue,
                // An API server that goes away ends the test, and not the feed.
                Err(_) => return,
            };
            for object in list {
                let mut value = serde_json::to_value(object).unwrap();
                value["apiVersion"] = api_version.clone().into();
                value["kind"] = kind.into();
                listed.push(value);
            }
        }
        let mut present = BTreeSet::new();
        let mut changed = known.is_empty();
        for value in listed {
            let object = read(&value);
            let version = value["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
            let id = object.id.clone();
            present.insert(id.clone());
            if known.insert(id.clone(), version.clone()).as_deref() == Some(&*version) {
                continue;
            }
            changed = true;
            view.insert(object);
            view.own(&id, owned(&site, &id, &value));
        }
        let gone: Vec<ObjectRef> = known.keys().filter(|id| !present.contains(*id)).cloned().collect();
        for id in gone {
            changed = true;
            known.remove(&id);
            view.remove(&id);
        }
        if changed {
            views.send_replace(Arc::new(view.clone()));
        }
        tokio::time::sleep(EVERY).await;
    }
}

fn read(value: &Value) -> Object {
    let json = value.to_string();
    let (api_version, kind) = (value["apiVersion"].as_str().unwrap(), value["kind"].as_str().unwrap());
    dialect::read(&Manifest::read(api_version, kind, &json, Origin::Server { namespace: None }).unwrap())
        .unwrap()
        .unwrap()
}

fn owned(site: &Site, id: &ObjectRef, value: &Value) -> Option<Owned> {
    let metadata = &value["metadata"];
    let written = metadata["labels"].as_object()?;
    let earlier = || written.iter().find_map(|(label, layer)| Some((label.strip_suffix("/layer")?, layer)));
    let (layer, domain): (&str, Option<Box<str>>) = match written.get(&site.layer_label()) {
        Some(layer) => (layer.as_str()?, None),
        None => earlier().and_then(|(domain, layer)| Some((layer.as_str()?, Some(domain.into()))))?,
    };
    let (labels, annotations) = (site.owned_labels(), site.owned_annotations());
    let annotations: Vec<&str> = annotations.iter().map(String::as_str).collect();
    let fields = metadata["managedFields"].as_array().cloned().unwrap_or_default();
    let is_applied = fields.iter().any(|entry| entry["manager"] == FIELD_MANAGER && entry["operation"] == "Apply");
    Some(Owned {
        object: id.clone(),
        uid: metadata["uid"].as_str().unwrap().into(),
        layer: layer.into(),
        fingerprint: dialect::fingerprint(value, &[&labels[0], &labels[1]], &annotations),
        is_applied,
        domain,
    })
}
