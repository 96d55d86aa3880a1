//! Does what is planned, one step after the other, and looks again before it takes anything away.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, Preconditions,
    PropagationPolicy,
};
use serde_json::{Value, json};

use super::catalogue::{Catalogue, Entry};
use super::error::{Failure, is_conflict, is_missing};
use super::events::Announcer;
use super::plan::{Plan, Step, plan, plan_cluster};
use crate::cluster::Cluster;
use crate::model::{Labels, ObjectRef};
use crate::telemetry::BaselineMetrics;
use crate::view::{FIELD_MANAGER, NamespaceFacts, Owned};

/// What is needed to do things.
#[derive(Clone)]
pub(super) struct Executor {
    pub(super) cluster: Cluster,
    pub(super) metrics: BaselineMetrics,
    pub(super) announcer: Arc<Announcer>,
}

/// What the plan for a namespace was made from.
pub(super) struct Subject {
    pub(super) name: Arc<str>,
    pub(super) facts: Arc<NamespaceFacts>,
    /// Policies of the cluster.
    pub(super) of_cluster: Vec<Owned>,
    pub(super) catalogue: Arc<Catalogue>,
}

impl Executor {
    /// Does what is planned for a namespace.
    pub(super) async fn carry_out(&self, subject: &Subject, plan: Plan) -> Result<(), Failure> {
        for step in plan.steps {
            match step {
                Step::Apply(position) => {
                    if let Some(entry) = subject.catalogue.entries().get(position) {
                        self.apply(&subject.catalogue, entry, Some(&subject.name)).await?;
                    }
                }
                Step::Delete(owned) => {
                    let live = self.look_again(subject).await?;
                    if live.steps.iter().any(|step| matches!(step, Step::Delete(other) if other.uid == owned.uid)) {
                        self.delete(&subject.catalogue, &owned).await?;
                    }
                }
                Step::OpenHatch { reason, until } => self.open_hatch(subject, &reason, until).await?,
                Step::CloseHatch => self.close_hatch(subject).await?,
                Step::Mark { applied, status } => {
                    self.mark(subject, applied, &status).await?;
                    if applied && subject.catalogue.site.baseline.gate {
                        // Those that the watches have not told of yet.
                        self.lift_all(subject).await?;
                    }
                }
                Step::LiftGates(pods) => {
                    for (pod, position) in pods {
                        self.lift(subject, &pod, position).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Does what is planned for the cluster.
    pub(super) async fn carry_out_for_cluster(
        &self,
        catalogue: &Catalogue,
        owned: &[Owned],
        plan: Plan,
    ) -> Result<(), Failure> {
        for step in plan.steps {
            match step {
                Step::Apply(position) => {
                    if let Some(entry) = catalogue.entries().get(position) {
                        self.apply(catalogue, entry, None).await?;
                    }
                }
                Step::Delete(outdated)
                    if plan_cluster(catalogue, owned).steps.contains(&Step::Delete(outdated.clone())) =>
                {
                    self.delete(catalogue, &outdated).await?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What an API server would make of an entry. Nothing is stored.
    pub(super) async fn learn(&self, entry: &Entry, namespace: &str) -> Result<Value, Failure> {
        let namespace = (!entry.of_cluster).then_some(namespace);
        let api = self.api(&entry.id, namespace)?;
        let mut manifest = entry.manifest.clone();
        // Under a name of its own, so that what is there plays no part.
        if let Some(name) = manifest.pointer_mut("/metadata/name") {
            *name = json!(format!("{}-dry-run", entry.id.name));
        }
        let doing = || format!("trying {}", entry.id);
        let object: DynamicObject =
            serde_json::from_value(manifest).map_err(|error| Failure::of(doing(), kube::Error::SerdeError(error)))?;
        let parameters = PostParams { dry_run: true, field_manager: Some(FIELD_MANAGER.to_owned()) };
        let stored = api.create(&parameters, &object).await.map_err(|error| Failure::of(doing(), error))?;
        as_value(&stored)
    }

    /// Writes an entry, and makes sure that nothing else is in what is stored.
    async fn apply(&self, catalogue: &Catalogue, entry: &Entry, namespace: Option<&str>) -> Result<(), Failure> {
        let api = self.api(&entry.id, namespace)?;
        let mut manifest = entry.manifest.clone();
        if let (Some(namespace), Some(metadata)) =
            (namespace, manifest.get_mut("metadata").and_then(Value::as_object_mut))
        {
            metadata.insert("namespace".into(), json!(namespace));
        }
        let id = ObjectRef { namespace: namespace.map(Into::into), ..entry.id.clone() };
        let doing = || format!("applying {id}");
        // By force: whatever somebody else wrote into it, it is ours.
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        self.metrics.wrote("apply");
        let stored = api.patch(&entry.id.name, &parameters, &Patch::Apply(&manifest)).await;
        let stored = as_value(&stored.map_err(|error| Failure::of(doing(), error))?)?;
        tracing::debug!(object = %id, "applied");
        if entry.comes_to(catalogue.fingerprint(&stored)) {
            return Ok(());
        }
        // Somebody added a field that we do not have, and applying leaves it theirs.
        self.metrics.wrote("replace");
        let patch = entry.repair(&stored);
        let stored = json_patch(&api, &entry.id.name, patch).await.map_err(|error| Failure::of(doing(), error))?;
        let stored = as_value(&stored)?;
        if entry.comes_to(catalogue.fingerprint(&stored)) { Ok(()) } else { Err(Failure::Interfered(id)) }
    }

    /// The plan for the namespace as it is at this moment.
    async fn look_again(&self, subject: &Subject) -> Result<Plan, Failure> {
        let live = self.live(subject).await?;
        let map = |map: &Option<std::collections::BTreeMap<String, String>>| -> Labels {
            map.iter().flatten().map(|(key, value)| (key.as_str(), value.as_str())).collect()
        };
        let mut facts = NamespaceFacts::clone(&subject.facts);
        facts.labels = Some(map(&live.labels));
        facts.annotations = map(&live.annotations);
        Ok(plan(&subject.catalogue, &subject.name, &facts, &subject.of_cluster, jiff::Timestamp::now()))
    }

    /// The namespace as it is at this moment, if it is the same one and stays.
    pub(super) async fn live(&self, subject: &Subject) -> Result<ObjectMeta, Failure> {
        let namespaces: Api<Namespace> = Api::all(self.cluster.client.clone());
        let live = namespaces.get_metadata_opt(&subject.name).await;
        let live = live.map_err(|error| Failure::of("reading the namespace", error))?.ok_or(Failure::Gone)?.metadata;
        let is_same = live.uid.as_deref() == Some(&*subject.facts.uid);
        if is_same && live.deletion_timestamp.is_none() { Ok(live) } else { Err(Failure::Gone) }
    }

    /// Takes a policy away, if it is still the one that was meant and still ours.
    async fn delete(&self, catalogue: &Catalogue, owned: &Owned) -> Result<(), Failure> {
        let name = &owned.object.name;
        let doing = || format!("deleting {}", owned.object);
        let api = self.api(&owned.object, owned.object.namespace.as_deref())?;
        let Some(live) = api.get_metadata_opt(name).await.map_err(|error| Failure::of(doing(), error))? else {
            return Ok(());
        };
        let live = live.metadata;
        let layer = live.labels.as_ref().and_then(|labels| labels.get(&catalogue.site.layer_label()));
        let is_applied = live.managed_fields.iter().flatten().any(|entry| {
            entry.manager.as_deref() == Some(FIELD_MANAGER) && entry.operation.as_deref() == Some("Apply")
        });
        let is_meant = live.uid.as_deref() == Some(&*owned.uid) && layer.map(String::as_str) == Some(&*owned.layer);
        if !is_meant || !is_applied || live.deletion_timestamp.is_some() {
            return Ok(());
        }
        let preconditions = Preconditions { uid: live.uid, resource_version: live.resource_version };
        let parameters = DeleteParams {
            preconditions: Some(preconditions),
            propagation_policy: Some(PropagationPolicy::Background),
            ..DeleteParams::default()
        };
        self.metrics.wrote("delete");
        match api.delete(name, &parameters).await {
            Ok(_) => tracing::info!(object = %owned.object, layer = %owned.layer, "deleted"),
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(Failure::of(doing(), error)),
        }
        Ok(())
    }

    /// Says on the namespace how far it is.
    pub(super) async fn mark(&self, subject: &Subject, applied: bool, status: &str) -> Result<(), Failure> {
        let site = &subject.catalogue.site;
        let mut metadata = json!({"annotations": {site.status_annotation(): status}});
        if applied && let Some(metadata) = metadata.as_object_mut() {
            metadata.insert("labels".into(), json!({site.baseline_label(): "applied"}));
        }
        self.metrics.wrote("mark");
        self.patch_namespace(subject, metadata, "marking the namespace").await
    }

    /// Changes the metadata of the namespace, if it is still the same one. Where it is gone, a patch does not make it.
    pub(super) async fn patch_namespace(
        &self,
        subject: &Subject,
        mut metadata: Value,
        doing: &str,
    ) -> Result<(), Failure> {
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.insert("uid".into(), json!(subject.facts.uid));
        }
        let namespaces: Api<Namespace> = Api::all(self.cluster.client.clone());
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(json!({"metadata": metadata}));
        match namespaces.patch_metadata(&subject.name, &parameters, &patch).await {
            Ok(_) => Ok(()),
            Err(error) if is_missing(&error) => Err(Failure::Gone),
            Err(error) => Err(Failure::of(doing, error)),
        }
    }

    /// Lets all pods of the namespace be scheduled, whatever the view shows.
    async fn lift_all(&self, subject: &Subject) -> Result<(), Failure> {
        let ours = subject.catalogue.site.gate_name();
        let pods: Api<Pod> = Api::namespaced(self.cluster.client.clone(), &subject.name);
        // Those that have a node wait for nothing.
        let unassigned = ListParams::default().fields("spec.nodeName=");
        let found = pods.list(&unassigned).await.map_err(|error| Failure::of("listing pods", error))?;
        for pod in found {
            let gates = pod.spec.and_then(|spec| spec.scheduling_gates).unwrap_or_default();
            let position = gates.iter().position(|gate| gate.name == ours);
            if let (Some(name), Some(position)) = (pod.metadata.name, position) {
                self.lift(subject, &name, position).await?;
            }
        }
        Ok(())
    }

    /// Lets a pod be scheduled.
    async fn lift(&self, subject: &Subject, pod: &str, position: usize) -> Result<(), Failure> {
        let gate = json!({"name": subject.catalogue.site.gate_name()});
        let path = format!("/spec/schedulingGates/{position}");
        // The view may be behind, and the gates may stand elsewhere by now.
        let patch = json!([{"op": "test", "path": path, "value": gate}, {"op": "remove", "path": path}]);
        let pods: Api<Pod> = Api::namespaced(self.cluster.client.clone(), &subject.name);
        self.metrics.wrote("lift");
        match json_patch(&pods, pod, patch).await {
            Ok(_) => tracing::debug!(namespace = %subject.name, pod, "lifted the gate"),
            Err(error) if is_missing(&error) => {}
            // It is gone from there: lifted already, or moved, which the watches tell.
            Err(kube::Error::Api(status)) if status.code == 422 => {}
            Err(error) => return Err(Failure::of(format!("lifting the gate of pod {pod}"), error)),
        }
        Ok(())
    }

    /// How to talk about objects of a kind.
    fn api(&self, id: &ObjectRef, namespace: Option<&str>) -> Result<Api<DynamicObject>, Failure> {
        let (group, version) = id.api_version.rsplit_once('/').unwrap_or(("", &id.api_version));
        let served = self.cluster.served.load();
        let found = served.find(group, &id.kind);
        let found = found.ok_or_else(|| Failure::NotServed(id.api_version.clone(), id.kind.clone()))?;
        // In the version in which it is written.
        let resource =
            ApiResource { version: version.to_owned(), api_version: id.api_version.to_string(), ..found.clone() };
        let client = self.cluster.client.clone();
        Ok(match namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        })
    }

    /// Says why nothing can be done for a namespace, on it and in an Event.
    pub(super) async fn complain(&self, subject: &Subject, failure: &Failure) {
        let status = format!("failed: {failure}");
        let is_said = subject.facts.annotations.get(&subject.catalogue.site.status_annotation()) == Some(&status);
        if !is_said && let Err(error) = self.mark(subject, false, &status).await {
            tracing::debug!(namespace = %subject.name, %error, "the status cannot be written");
        }
        let (name, uid) = (&subject.name, &subject.facts.uid);
        self.announcer.say(name, uid, true, "BaselineFailed", failure.to_string()).await;
    }
}

/// A failure that is over as soon as the watches have caught up.
pub(super) fn is_passing(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused { source, .. } if is_conflict(source))
}

/// No request may take for ever, whatever is between us and the API server.
pub(super) async fn in_time<T>(
    patience: Duration,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::time::timeout(patience, work).await.unwrap_or(Err(Failure::TimedOut))
}

fn as_value(object: &DynamicObject) -> Result<Value, Failure> {
    serde_json::to_value(object).map_err(|error| Failure::of("reading the answer", kube::Error::SerdeError(error)))
}

async fn json_patch<K>(api: &Api<K>, name: &str, patch: Value) -> kube::Result<K>
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let patch: Patch<()> = Patch::Json(serde_json::from_value(patch).map_err(kube::Error::SerdeError)?);
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    api.patch(name, &parameters, &patch).await
}
