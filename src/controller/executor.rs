//! Carries out plans. It checks the live namespace before it deletes a policy.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedSender;

use super::error::{Failure, is_conflict, is_missing};
use super::events::Announcer;
use crate::baseline::{Catalogue, Label, Layer, Plan, Step, plan, truncate_note};
use crate::cluster::Cluster;
use crate::model::Labels;
use crate::telemetry::BaselineMetrics;
use crate::view::{FIELD_MANAGER, NamespaceFacts, Owned};

/// The clients and channels that carry out plans.
#[derive(Clone)]
pub(super) struct Executor {
    pub(super) cluster: Cluster,
    /// The namespace of Portcullis itself, which is used for dry runs.
    pub(super) home: Arc<str>,
    pub(super) metrics: BaselineMetrics,
    pub(super) announcer: Arc<Announcer>,
    /// Receives the dry-run result of a policy if it differs from the earlier one.
    pub(super) results: UnboundedSender<DryRun>,
}

/// The result of the latest dry run of a policy.
pub(super) struct DryRun {
    /// The manifest that was sent.
    pub(super) manifest: Value,
    /// The object that would be stored.
    pub(super) stored: Value,
}

/// The inputs of the plan for a namespace.
pub(super) struct PlanInput {
    pub(super) name: Arc<str>,
    pub(super) facts: Arc<NamespaceFacts>,
    /// The cluster-wide policies that the controller applied.
    pub(super) of_cluster: Vec<Owned>,
    pub(super) catalogue: Arc<Catalogue>,
}

/// The failures of a plan so far. Steps that do not depend on a failed step are still carried out.
#[derive(Default)]
struct Outcome {
    /// The first failure. A later failure of another kind replaces a conflict.
    failure: Option<Failure>,
    /// The layers in which a policy could not be applied.
    missing: Vec<Layer>,
    /// True if a policy that opens the hatch could not be deleted.
    hatch_stays: bool,
}

impl Outcome {
    /// Records the result of a step. Returns true if it succeeded. Fails if the namespace is gone, because every other
    /// step would fail too.
    fn note(&mut self, result: Result<(), Failure>) -> Result<bool, Failure> {
        match result {
            Ok(()) => Ok(true),
            Err(Failure::Gone) => Err(Failure::Gone),
            Err(failure) => {
                // A conflict is over at the next attempt, and must not hide a failure that lasts.
                if self.failure.as_ref().is_none_or(is_passing) {
                    self.failure = Some(failure);
                }
                Ok(false)
            }
        }
    }

    /// Returns true if all policies of the layer that a step depends on were applied. Without a layer, the step depends
    /// on nothing.
    fn has(&self, layer: Option<&Layer>) -> bool {
        layer.is_none_or(|layer| !self.missing.contains(layer))
    }

    fn end(self) -> Result<(), Failure> {
        self.failure.map_or(Ok(()), Err)
    }
}

impl Executor {
    /// Carries out the plan for a namespace as far as possible. Returns the first failure.
    pub(super) async fn carry_out(&self, input: &PlanInput, plan: Plan) -> Result<(), Failure> {
        let catalogue = &input.catalogue;
        let mut outcome = Outcome::default();
        for step in plan.steps {
            match step {
                Step::Apply(position) => {
                    self.apply_one(catalogue, position, Some(&input.name), &mut outcome).await?;
                }
                Step::Delete { owned, after } if outcome.has(after.as_ref()) => {
                    let is_done = outcome.note(self.delete_if_outdated(input, &owned).await)?;
                    outcome.hatch_stays |= !is_done && *owned.layer == *Layer::Hatch.label();
                }
                Step::OpenHatch { reason, until } if outcome.has(Some(&Layer::Hatch)) => {
                    outcome.note(self.open_hatch(input, &reason, until).await)?;
                }
                // Users rely on the record that a hatch is closed, so its policies are deleted first. A cluster-wide
                // policy selects the hatch label, and has no effect once the label is removed.
                Step::CloseHatch if !outcome.hatch_stays || catalogue.has_hatch_of_cluster() => {
                    outcome.note(self.close_hatch(input).await)?;
                }
                Step::Mark { label, status } if outcome.missing.is_empty() => {
                    // After a failure, the status annotation keeps reporting that failure.
                    let status = outcome.failure.is_none().then_some(&*status);
                    outcome.note(self.mark(input, label, status).await)?;
                    if label != Label::AsItIs && catalogue.site.baseline.gate {
                        // This includes pods that the watches have not reported yet.
                        outcome.note(self.lift_all(input).await)?;
                    }
                }
                Step::LiftGates(pods) if outcome.missing.is_empty() => {
                    outcome.note(self.lift(input, &pods).await)?;
                }
                // The step depends on a step that failed.
                _ => {}
            }
        }
        outcome.end()
    }

    /// Carries out the plan for the cluster as far as possible. Returns the first failure.
    pub(super) async fn carry_out_for_cluster(&self, catalogue: &Catalogue, plan: Plan) -> Result<(), Failure> {
        let mut outcome = Outcome::default();
        for step in plan.steps {
            match step {
                Step::Apply(position) => self.apply_one(catalogue, position, None, &mut outcome).await?,
                Step::Delete { owned, after } if outcome.has(after.as_ref()) => {
                    outcome.note(self.delete(catalogue, &owned).await)?;
                }
                _ => {}
            }
        }
        outcome.end()
    }

    async fn apply_one(
        &self,
        catalogue: &Catalogue,
        position: usize,
        namespace: Option<&str>,
        outcome: &mut Outcome,
    ) -> Result<(), Failure> {
        let Some(entry) = catalogue.entries().get(position) else { return Ok(()) };
        if !outcome.note(self.apply(catalogue, position, entry, namespace).await)? {
            outcome.missing.push(entry.layer.clone());
        }
        Ok(())
    }

    /// Deletes a policy, if it is still outdated according to the live namespace.
    async fn delete_if_outdated(&self, input: &PlanInput, owned: &Owned) -> Result<(), Failure> {
        let live = self.look_again(input).await?;
        if live.steps.iter().any(|step| matches!(step, Step::Delete { owned: other, .. } if other.uid == owned.uid)) {
            self.delete(&input.catalogue, owned).await?;
        }
        Ok(())
    }

    /// Plans again, from the labels and annotations of the live namespace.
    async fn look_again(&self, input: &PlanInput) -> Result<Plan, Failure> {
        let live = self.live(input).await?;
        let map = |map: &Option<std::collections::BTreeMap<String, String>>| -> Labels {
            map.iter().flatten().map(|(key, value)| (key.as_str(), value.as_str())).collect()
        };
        let mut facts = NamespaceFacts::clone(&input.facts);
        facts.labels = Some(map(&live.labels));
        facts.annotations = map(&live.annotations);
        Ok(plan(&input.catalogue, &input.name, &facts, &input.of_cluster, jiff::Timestamp::now()))
    }

    /// Returns the metadata of the live namespace. Fails if it is missing, terminating or recreated.
    pub(super) async fn live(&self, input: &PlanInput) -> Result<ObjectMeta, Failure> {
        let namespaces: Api<Namespace> = Api::all(self.cluster.client.clone());
        let live = namespaces.get_metadata_opt(&input.name).await;
        let live = live.map_err(|error| Failure::of("reading the namespace", error))?.ok_or(Failure::Gone)?.metadata;
        let is_same = live.uid.as_deref() == Some(&*input.facts.uid);
        if is_same && live.deletion_timestamp.is_none() { Ok(live) } else { Err(Failure::Gone) }
    }

    /// Writes the baseline label of a namespace, and its status annotation if a status is given.
    async fn mark(&self, input: &PlanInput, label: Label, status: Option<&str>) -> Result<(), Failure> {
        let site = &input.catalogue.site;
        let mut metadata = serde_json::Map::new();
        if let Some(status) = status {
            metadata.insert("annotations".into(), json!({site.status_annotation(): status}));
        }
        let said = input.facts.labels.as_ref().and_then(|labels| labels.get(&site.baseline_label()));
        let label = match label {
            Label::Applied if status.is_some() || said != Some("applied") => Some(json!("applied")),
            Label::Gone => Some(Value::Null),
            Label::Applied | Label::AsItIs => None,
        };
        if let Some(label) = label {
            metadata.insert("labels".into(), json!({site.baseline_label(): label}));
        }
        if metadata.is_empty() {
            return Ok(());
        }
        self.metrics.wrote("mark");
        self.patch_namespace(input, Value::Object(metadata), "labelling the namespace").await
    }

    /// Patches the metadata of the namespace, if its UID is still the same. A patch does not recreate a deleted
    /// namespace.
    pub(super) async fn patch_namespace(
        &self,
        input: &PlanInput,
        mut metadata: Value,
        doing: &str,
    ) -> Result<(), Failure> {
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.insert("uid".into(), json!(input.facts.uid));
        }
        let namespaces: Api<Namespace> = Api::all(self.cluster.client.clone());
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(json!({"metadata": metadata}));
        match namespaces.patch_metadata(&input.name, &parameters, &patch).await {
            Ok(_) => Ok(()),
            Err(error) if is_missing(&error) => Err(Failure::Gone),
            Err(error) => Err(Failure::of(doing, error)),
        }
    }

    /// Reports why a namespace could not be reconciled, in its status annotation and in an Event.
    pub(super) async fn complain(&self, input: &PlanInput, failure: &Failure) {
        let status = truncate_note(format!("failed: {failure}"));
        let is_said = input.facts.annotations.get(&input.catalogue.site.status_annotation()) == Some(&status);
        if !is_said && let Err(error) = self.mark(input, Label::AsItIs, Some(&status)).await {
            tracing::debug!(namespace = %input.name, %error, "failed to write the status annotation");
        }
        let (name, uid) = (&input.name, &input.facts.uid);
        self.announcer.say(name, uid, true, "BaselineFailed", failure.to_string()).await;
    }
}

/// Returns true if a failure is over as soon as the watches have caught up.
pub(super) fn is_passing(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused { source, .. } if is_conflict(source))
}

/// Limits the time of work that sends requests. Without a limit, a request may hang forever on its way to the API
/// server.
pub(super) async fn in_time<T>(
    patience: Duration,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::time::timeout(patience, work).await.unwrap_or(Err(Failure::TimedOut))
}
