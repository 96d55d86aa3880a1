//! The rights of the service account: those that `deploy/rbac.yaml` grants.

use futures_util::stream::{self, StreamExt as _};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use serde::Deserialize;

use super::Check;
use super::installation::{Certificate, Installation};
use crate::cli::webhooks::WebhookMode;
use crate::cluster::{is_granted, words};
use crate::config::NAMESPACE;
use crate::view::SetName;
use crate::yaml;

/// The roles of an installation.
const ROLES: &str = include_str!("../../../deploy/rbac.yaml");
/// The additional roles of the other policy sets.
const CILIUM: &str = include_str!("../../../deploy/components/cilium/rbac.yaml");
const CALICO: &str = include_str!("../../../deploy/components/calico/rbac.yaml");
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
    let Installation { client, namespace, .. } = installation;
    let user = match installation.server() {
        Some(server) => format!("system:serviceaccount:{namespace}:{}", server.account()),
        None => installation.configuration.site.baseline.username.clone(),
    };
    let rights = match Needs::of(installation).rights() {
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
        return Check::ok(CHECK, format!("{user} has the {total} rights that it needs"));
    }
    let more = missing.len().saturating_sub(MAX_NAMED);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    let named: Vec<String> = missing.iter().take(MAX_NAMED).map(described).collect();
    let message = format!("{user} may not {}{more}", named.join(", "));
    Check::fault(CHECK, message, installation.restore())
}

/// The settings of an installation on which its rights depend.
struct Needs<'a> {
    namespace: &'a str,
    webhook_name: &'a str,
    webhook_mode: WebhookMode,
    /// The namespace and the name of the Secret in which Portcullis keeps its certificate.
    secret: Option<(&'a str, &'a str)>,
    has_controller: bool,
    has_gate: bool,
    policy_set: SetName,
}

impl<'a> Needs<'a> {
    fn of(installation: &'a Installation) -> Self {
        let site = &installation.configuration.site;
        Self {
            namespace: &installation.namespace,
            webhook_name: &installation.webhook_name,
            webhook_mode: installation.webhook_mode,
            secret: match &installation.certificate {
                Certificate::Kept { namespace, name } => Some((namespace, name)),
                Certificate::Mounted { .. } | Certificate::Unknown => None,
            },
            has_controller: installation.server().is_none_or(|server| server.is_set("--controller")),
            has_gate: site.baseline.gate,
            policy_set: site.policy_set,
        }
    }

    /// Returns the rights of the roles in `deploy/`, with the names of the installation and without those that it does
    /// not need.
    fn rights(&self) -> Result<Vec<ResourceAttributes>, String> {
        let more = match self.policy_set {
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
        Ok(rights.into_iter().filter_map(|right| self.adapt(right)).collect())
    }

    /// Puts the names of the installation into a right. None if the installation does not need the right.
    fn adapt(&self, mut right: ResourceAttributes) -> Option<ResourceAttributes> {
        if right.namespace.as_deref() == Some(NAMESPACE) {
            right.namespace = Some(self.namespace.to_owned());
        }
        let verb = right.verb.as_deref().unwrap_or_default();
        let reads = ["get", "list", "watch"].contains(&verb);
        let is_needed = match right.resource.as_deref().unwrap_or_default() {
            "secrets" => {
                let (namespace, name) = self.secret?;
                right.namespace = Some(namespace.to_owned());
                right.name = right.name.map(|_| name.to_owned());
                true
            }
            "validatingwebhookconfigurations" | "mutatingwebhookconfigurations" if right.name.is_some() => {
                right.name = Some(self.webhook_name.to_owned());
                match verb {
                    "create" => self.webhook_mode == WebhookMode::Manage,
                    // The CA of a certificate that Portcullis keeps.
                    "patch" => self.webhook_mode == WebhookMode::Manage || self.secret.is_some(),
                    _ => self.webhook_mode != WebhookMode::Off || self.secret.is_some(),
                }
            }
            "pods" => reads || (self.has_gate && self.has_controller),
            "events" => self.has_controller || self.webhook_mode != WebhookMode::Off,
            "subjectaccessreviews" => true,
            "leases" => self.has_controller,
            _ => reads || self.has_controller,
        };
        is_needed.then_some(right)
    }
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
            let all = ["system:serviceaccounts", "system:authenticated"].map(str::to_owned);
            all.into_iter().chain([format!("system:serviceaccounts:{namespace}")]).collect()
        }),
        resource_attributes: Some(right.clone()),
        ..SubjectAccessReviewSpec::default()
    };
    let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
    let api: Api<SubjectAccessReview> = Api::all(client.clone());
    let reviewed = api.create(&PostParams::default(), &review).await.map_err(|error| words(&error))?;
    let is_allowed = reviewed.status.as_ref().is_some_and(is_granted);
    Ok((right, is_allowed))
}

/// Describes a right: `list pods`, `get secrets portcullis-tls in namespace portcullis-system`.
fn described(right: &ResourceAttributes) -> String {
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    let group = right.group.as_ref().filter(|group| !group.is_empty()).map(|group| format!(".{group}"));
    let name = right.name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
    let namespace = right.namespace.as_ref().map(|namespace| format!(" in namespace {namespace}")).unwrap_or_default();
    format!("{} {}{}{name}{namespace}", text(&right.verb), text(&right.resource), group.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs() -> Needs<'static> {
        Needs {
            namespace: "guard",
            webhook_name: "gate-webhooks",
            webhook_mode: WebhookMode::Manage,
            secret: Some(("guard", "gate-serving")),
            has_controller: true,
            has_gate: false,
            policy_set: SetName::Kubernetes,
        }
    }

    fn rights(needs: &Needs<'_>) -> Vec<String> {
        needs.rights().unwrap().iter().map(described).collect()
    }

    #[test]
    fn rights_on_named_objects_have_the_names_of_the_installation() {
        let rights = rights(&needs());
        for right in [
            "get secrets gate-serving in namespace guard",
            "update secrets gate-serving in namespace guard",
            "create secrets in namespace guard",
            "create validatingwebhookconfigurations.admissionregistration.k8s.io gate-webhooks",
            "list validatingwebhookconfigurations.admissionregistration.k8s.io",
            "update leases.coordination.k8s.io portcullis in namespace guard",
            "list endpointslices.discovery.k8s.io in namespace default",
        ] {
            assert!(rights.iter().any(|one| one == right), "{right} in {rights:#?}");
        }
        let text = rights.join("\n");
        assert!(!text.contains("portcullis-tls") && !text.contains("portcullis-system"), "{text}");
        let elsewhere = Needs { secret: Some(("vault", "tls")), ..needs() }.rights().unwrap();
        let of_secrets = elsewhere.iter().filter(|right| right.resource.as_deref() == Some("secrets"));
        assert!(
            of_secrets.clone().count() == 3
                && of_secrets.into_iter().all(|right| right.namespace.as_deref() == Some("vault"))
        );
    }

    #[test]
    fn a_right_that_the_arguments_do_not_use_is_not_needed() {
        let has = |needs: &Needs<'_>, right: &str| rights(needs).iter().any(|one| one.starts_with(right));
        let create = "create validatingwebhookconfigurations";
        let patch = "patch validatingwebhookconfigurations";
        let get = "get validatingwebhookconfigurations";
        let of = |webhook_mode, secret| Needs { webhook_mode, secret, ..needs() };
        let kept = Some(("guard", "gate-serving"));
        for (needs, expected) in [
            (of(WebhookMode::Manage, kept), [true, true, true]),
            (of(WebhookMode::Report, kept), [false, true, true]),
            (of(WebhookMode::Off, kept), [false, true, true]),
            (of(WebhookMode::Report, None), [false, false, true]),
            (of(WebhookMode::Off, None), [false, false, false]),
        ] {
            assert_eq!([create, patch, get].map(|right| has(&needs, right)), expected, "{:?}", needs.webhook_mode);
            assert_eq!(has(&needs, "get secrets"), needs.secret.is_some());
        }
        assert!(!has(&needs(), "patch pods") && has(&Needs { has_gate: true, ..needs() }, "patch pods"));
        let reader = Needs { has_controller: false, ..needs() };
        assert!(!has(&reader, "create networkpolicies") && !has(&reader, "get leases") && has(&reader, "list pods"));
    }
}
