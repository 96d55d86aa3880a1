//! Requests for policies: dry run, apply, repair, delete.

use kube::Api;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy,
};
use serde_json::{Value, json};

use super::error::{Failure, is_missing};
use super::executor::{DryRun, Executor};
use crate::baseline::{Catalogue, Entry};
use crate::model::ObjectRef;
use crate::view::{FIELD_MANAGER, Owned};

impl Executor {
    /// Dry-runs the creation of an entry. Returns the object that the API server would store.
    pub(super) async fn dry_run(&self, entry: &Entry) -> Result<Value, Failure> {
        let namespace = (!entry.of_cluster).then_some(&*self.home);
        let api = self.api(&entry.id, namespace)?;
        let mut manifest = entry.manifest.clone();
        // Under a name of its own, so that an existing object does not affect the result.
        if let Some(name) = manifest.pointer_mut("/metadata/name") {
            *name = json!(format!("{}-dry-run", entry.id.name));
        }
        let doing = || format!("dry run of {}", entry.id);
        let object: DynamicObject =
            serde_json::from_value(manifest).map_err(|error| Failure::of(doing(), kube::Error::SerdeError(error)))?;
        let parameters = PostParams { dry_run: true, field_manager: Some(FIELD_MANAGER.to_owned()) };
        let stored = api.create(&parameters, &object).await.map_err(|error| Failure::of(doing(), error))?;
        as_value(&stored)
    }

    /// Applies an entry, and removes what other writers added to the stored object.
    pub(super) async fn apply(
        &self,
        catalogue: &Catalogue,
        position: usize,
        entry: &Entry,
        namespace: Option<&str>,
    ) -> Result<(), Failure> {
        let api = self.api(&entry.id, namespace)?;
        let mut manifest = entry.manifest.clone();
        if let (Some(namespace), Some(metadata)) =
            (namespace, manifest.get_mut("metadata").and_then(Value::as_object_mut))
        {
            metadata.insert("namespace".into(), json!(namespace));
        }
        let id = ObjectRef { namespace: namespace.map(Into::into), ..entry.id.clone() };
        let doing = || format!("applying {id}");
        // By force: the policy belongs to the controller, even if another client wrote fields of it.
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        self.metrics.wrote("apply");
        let stored = api.patch(&entry.id.name, &parameters, &Patch::Apply(&manifest)).await;
        let stored = as_value(&stored.map_err(|error| Failure::of(doing(), error))?)?;
        tracing::debug!(object = %id, "applied");
        if entry.comes_to(catalogue.fingerprint(&stored)) {
            return Ok(());
        }
        // Another client added a field that the manifest lacks, and an apply does not remove it.
        let stored = self.repair(&api, entry, &stored).await.map_err(|error| Failure::of(doing(), error))?;
        if entry.comes_to(catalogue.fingerprint(&stored)) {
            return Ok(());
        }
        // Or the API server now stores the policy in another form: the CRD has other defaults.
        let Some(fresh) = self.dry_run_again(catalogue, position, entry).await else {
            return Err(Failure::Interfered(id));
        };
        if fresh.comes_to(catalogue.fingerprint(&stored)) {
            return Ok(());
        }
        let stored = self.repair(&api, &fresh, &stored).await.map_err(|error| Failure::of(doing(), error))?;
        if fresh.comes_to(catalogue.fingerprint(&stored)) { Ok(()) } else { Err(Failure::Interfered(id)) }
    }

    /// Patches a stored object to the desired state.
    async fn repair(&self, api: &Api<DynamicObject>, entry: &Entry, stored: &Value) -> kube::Result<Value> {
        self.metrics.wrote("replace");
        let patch = serde_json::from_value(entry.repair(stored)).map_err(kube::Error::SerdeError)?;
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let stored = api.patch(&entry.id.name, &parameters, &Patch::<()>::Json(patch)).await?;
        serde_json::to_value(stored).map_err(kube::Error::SerdeError)
    }

    /// Repeats the dry run of an entry. Returns the updated entry if the result differs from the recorded one.
    async fn dry_run_again(&self, catalogue: &Catalogue, position: usize, entry: &Entry) -> Option<Entry> {
        let stored = match self.dry_run(entry).await {
            Ok(stored) => stored,
            Err(error) => {
                tracing::debug!(object = %entry.id, %error, "repeated dry run of a baseline policy failed");
                return None;
            }
        };
        if entry.comes_to(catalogue.fingerprint(&stored)) {
            return None;
        }
        let mut fresh = catalogue.clone();
        fresh.record_dry_run(position, &stored);
        tracing::info!(object = %entry.id, "the API server stores a baseline policy differently than before");
        let _ = self.results.send(DryRun { manifest: entry.manifest.clone(), stored });
        fresh.entries().get(position).cloned()
    }

    /// Deletes a policy, if it is still the planned object and the controller still owns it.
    pub(super) async fn delete(&self, catalogue: &Catalogue, owned: &Owned) -> Result<(), Failure> {
        let name = &owned.object.name;
        let doing = || format!("deleting {}", owned.object);
        let api = self.api(&owned.object, owned.object.namespace.as_deref())?;
        let Some(live) = api.get_metadata_opt(name).await.map_err(|error| Failure::of(doing(), error))? else {
            return Ok(());
        };
        let live = live.metadata;
        let layer_label = match &owned.domain {
            Some(domain) => format!("{domain}/layer"),
            None => catalogue.site.layer_label(),
        };
        let layer = live.labels.as_ref().and_then(|labels| labels.get(&layer_label));
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

    /// Returns the API for objects of a kind.
    pub(super) fn api(&self, id: &ObjectRef, namespace: Option<&str>) -> Result<Api<DynamicObject>, Failure> {
        let (group, version) = id.api_version.rsplit_once('/').unwrap_or(("", &id.api_version));
        let served = self.cluster.served.load();
        let found = served.find(group, &id.kind);
        let found = found.ok_or_else(|| Failure::NotServed(id.api_version.clone(), id.kind.clone()))?;
        // The version is that of the manifest.
        let resource =
            ApiResource { version: version.to_owned(), api_version: id.api_version.to_string(), ..found.clone() };
        let client = self.cluster.client.clone();
        Ok(match namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        })
    }
}

fn as_value(object: &DynamicObject) -> Result<Value, Failure> {
    serde_json::to_value(object).map_err(|error| Failure::of("reading the response", kube::Error::SerdeError(error)))
}
