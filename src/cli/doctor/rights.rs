//! The rights of the service account: those that `deploy/rbac.yaml` grants.

use futures_util::stream::{self, StreamExt as _};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use serde::Deserialize;

use super::{Check, Installation, NAME, pod};
use crate::cluster::words;
use crate::view::SetName;
use crate::yaml;

/// The roles of an installation.
const ROLES: &str = include_str!("../../../deploy/rbac.yaml");
/// The additional roles of the other policy sets.
const CILIUM: &str = include_str!("../../../deploy/components/cilium/rbac.yaml");
const CALICO: &str = include_str!("../../../deploy/components/calico/rbac.yaml");
/// The namespace of Portcullis in these files.
const NAMESPACE: &str = "portcullis-system";
/// The role that is granted to users and not to Portcullis.
const BYPASS: &str = "portcullis-bypass";

/// Number of access reviews that are sent at once.
const PARALLEL: usize = 16;
/// Maximum number of missing rights in a message.
const MAX_NAMED: usize = 3;

#[derive(Deserialize)]
struct Role {
    metadata: Metadata,
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    namespace: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    api_groups: Vec<String>,
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
    verbs: Vec<String>,
}

/// Checks each right of the service account with a SubjectAccessReview.
pub(super) async fn check(installation: &Installation) -> Check {
    const CHECK: &str = "rights";
    let Installation { client, namespace, deployment, .. } = installation;
    let account = pod(deployment).and_then(|pod| pod.service_account_name.clone());
    let user = format!("system:serviceaccount:{namespace}:{}", account.as_deref().unwrap_or(NAME));
    let rights = match rights(installation) {
        Ok(rights) => rights,
        Err(why) => return Check::unknown(CHECK, why),
    };
    let total = rights.len();
    let mut reviews = stream::iter(rights.into_iter().map(|right| review(client, &user, right))).buffered(PARALLEL);
    let mut missing = Vec::new();
    while let Some(reviewed) = reviews.next().await {
        match reviewed {
            Ok((_, true)) => {}
            Ok((right, false)) => missing.push(right),
            Err(why) => return Check::unknown(CHECK, why),
        }
    }
    if missing.is_empty() {
        return Check::ok(CHECK, format!("{user} has the {total} rights of deploy/rbac.yaml"));
    }
    let more = missing.len().saturating_sub(MAX_NAMED);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    let named: Vec<String> = missing.iter().take(MAX_NAMED).map(described).collect();
    let message = format!("{user} may not {}{more}", named.join(", "));
    Check::fault(CHECK, message, "kubectl apply --server-side -k deploy/")
}

/// Returns the rights that the installation needs.
fn rights(installation: &Installation) -> Result<Vec<ResourceAttributes>, String> {
    let site = &installation.configuration.site;
    let more = match site.policy_set {
        SetName::Kubernetes => None,
        SetName::Cilium => Some(CILIUM),
        SetName::Calico => Some(CALICO),
    };
    let mut rights = Vec::new();
    for text in [Some(ROLES), more].into_iter().flatten() {
        for document in yaml::read(text).map_err(|error| error.to_string())? {
            let Ok(role) = serde_json::from_value::<Role>(document.value) else { continue };
            if role.metadata.name != BYPASS {
                rights.extend(role.rules.iter().flat_map(|rule| rule.rights(role.metadata.namespace.as_deref())));
            }
        }
    }
    let is_for_gate = |right: &ResourceAttributes| {
        right.resource.as_deref() == Some("pods") && right.verb.as_deref() == Some("patch")
    };
    rights.retain(|right| site.baseline.gate || !is_for_gate(right));
    for right in &mut rights {
        if right.namespace.as_deref() == Some(NAMESPACE) {
            right.namespace = Some(installation.namespace.clone());
        }
    }
    Ok(rights)
}

impl Rule {
    fn rights(&self, namespace: Option<&str>) -> Vec<ResourceAttributes> {
        let names: Vec<Option<&String>> =
            if self.resource_names.is_empty() { vec![None] } else { self.resource_names.iter().map(Some).collect() };
        let mut rights = Vec::new();
        for group in &self.api_groups {
            for resource in &self.resources {
                for verb in &self.verbs {
                    rights.extend(names.iter().map(|name| ResourceAttributes {
                        group: Some(group.clone()),
                        resource: Some(resource.clone()),
                        verb: Some(verb.clone()),
                        name: name.cloned(),
                        namespace: namespace.map(str::to_owned),
                        ..ResourceAttributes::default()
                    }));
                }
            }
        }
        rights
    }
}

/// Returns a right, and true if the user has it.
async fn review(client: &Client, user: &str, right: ResourceAttributes) -> Result<(ResourceAttributes, bool), String> {
    let spec = SubjectAccessReviewSpec {
        user: Some(user.to_owned()),
        groups: user.rsplit_once(':').map(|(account, _)| {
            let namespace = account.rsplit(':').next().unwrap_or_default();
            vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")]
        }),
        resource_attributes: Some(right.clone()),
        ..SubjectAccessReviewSpec::default()
    };
    let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
    let api: Api<SubjectAccessReview> = Api::all(client.clone());
    let reviewed = api.create(&PostParams::default(), &review).await.map_err(|error| words(&error))?;
    Ok((right, reviewed.status.is_some_and(|status| status.allowed)))
}

/// Describes a right: `list pods`, `get secrets portcullis-tls in namespace portcullis-system`.
fn described(right: &ResourceAttributes) -> String {
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    let group = right.group.as_ref().filter(|group| !group.is_empty()).map(|group| format!(".{group}"));
    let name = right.name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
    let namespace = right.namespace.as_ref().map(|namespace| format!(" in namespace {namespace}")).unwrap_or_default();
    format!("{} {}{}{name}{namespace}", text(&right.verb), text(&right.resource), group.unwrap_or_default())
}
