//! Discovers which supported kinds a cluster serves.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{APIGroup, APIResource, APIResourceList};
use kube::Client;
use kube::api::GetParams;
use kube::core::{ApiResource, Request};

use super::words;
use crate::dialect::{self, Claim, DIALECTS, Kind};

/// Maximum time for one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The kinds that a cluster serves and a dialect supports, by group and kind. Each is in the supported version that the
/// API server prefers, or in an unlisted version that its dialect reads like the nearest listed one.
#[derive(Clone, Debug, Default)]
pub struct Served {
    kinds: HashMap<(String, String), (ApiResource, bool)>,
    /// Kinds that are served only in unlisted versions, and how these are treated, by the name of the kind.
    other_versions: BTreeMap<String, String>,
    /// Groups whose discovery failed, with the reason.
    unclear: BTreeMap<String, String>,
}

impl Served {
    /// Returns the resource of a kind, if it is served.
    #[must_use]
    pub fn find(&self, group: &str, kind: &str) -> Option<&ApiResource> {
        self.kinds.get(&(group.to_owned(), kind.to_owned())).map(|(resource, _)| resource)
    }

    /// Returns true if a kind is served and namespaced.
    #[must_use]
    pub fn is_namespaced(&self, group: &str, kind: &str) -> bool {
        self.kinds.get(&(group.to_owned(), kind.to_owned())).is_some_and(|(_, namespaced)| *namespaced)
    }

    /// Adds a kind.
    pub fn insert(&mut self, resource: ApiResource, is_namespaced: bool) {
        self.kinds.insert((resource.group.clone(), resource.kind.clone()), (resource, is_namespaced));
    }

    /// Returns the kinds that are served only in unlisted versions, and how these are treated, by the name of the kind.
    #[must_use]
    pub fn other_versions(&self) -> &BTreeMap<String, String> {
        &self.other_versions
    }

    /// Returns the groups whose discovery failed, with the reason. Kinds of such a group that were served before still
    /// count as served.
    #[must_use]
    pub fn unclear(&self) -> &BTreeMap<String, String> {
        &self.unclear
    }

    /// Returns a group whose failed discovery leaves it open which policies are in the cluster, and the reason. If
    /// discovery of the group of Calico's API server fails, its policies are watched in the group in which they are
    /// stored. Groups without policies only lead to warnings, so they do not count.
    #[must_use]
    pub fn missing(&self) -> Option<(&str, &str)> {
        let is_stored = |group: &str| group == SERVED && self.find(STORED, "GlobalNetworkPolicy").is_some();
        let mut unclear =
            self.unclear.iter().filter(|(group, _)| !is_stored(group) && !WITHOUT_POLICIES.contains(&group.as_str()));
        unclear.next().map(|(group, why)| (group.as_str(), why.as_str()))
    }

    /// Returns the resources to watch, in the order of the dialects.
    #[must_use]
    pub fn watched(&self) -> Vec<&ApiResource> {
        kinds().filter(|kind| is_watched(kind)).filter_map(|kind| self.watched_as(kind)).collect()
    }

    /// Returns the resource under which a kind is watched. Calico's API server stores its objects in
    /// `crd.projectcalico.org`. If both groups were watched, each policy would be in the view twice, and a change of
    /// one would leave the other outdated.
    fn watched_as(&self, kind: &Kind) -> Option<&ApiResource> {
        let is_copy = kind.group == STORED && self.find(SERVED, kind.kind).is_some();
        self.find(kind.group, kind.kind).filter(|_| !is_copy)
    }
}

/// Kinds that every cluster serves and that every decision depends on.
const EVERYWHERE: [(&str, &str); 3] = [("", "Namespace"), ("", "Pod"), ("networking.k8s.io", "NetworkPolicy")];

/// The group of Calico's policies as its API server serves them, and the group in which they are stored.
const SERVED: &str = "projectcalico.org";
const STORED: &str = "crd.projectcalico.org";

/// Groups whose kinds are read only for the Services that they reference.
const WITHOUT_POLICIES: [&str; 3] =
    ["admissionregistration.k8s.io", "apiregistration.k8s.io", "gateway.networking.k8s.io"];

/// Workload kinds that are watched. All others create pods, or are created by one of these.
const RUNNING: [&str; 5] = ["Pod", "DaemonSet", "Deployment", "StatefulSet", "CronJob"];

/// The kinds of the core group that do not make pods.
const PLACES: [&str; 2] = ["Namespace", "Service"];

fn kinds() -> impl Iterator<Item = &'static Kind> {
    DIALECTS.iter().flat_map(|dialect| dialect.kinds())
}

/// Returns true if objects of a kind are in the view. Of the workloads, only [`RUNNING`] ones are.
fn is_watched(kind: &Kind) -> bool {
    let runs = matches!(kind.group, "" | "apps" | "batch") && !PLACES.contains(&kind.kind);
    !runs || RUNNING.contains(&kind.kind)
}

/// Returns the name of a kind for messages and metrics. It includes the group if an earlier kind has the same name.
pub(super) fn name(group: &str, kind: &str) -> String {
    match kinds().find(|other| other.kind == kind) {
        Some(first) if first.group != group => format!("{kind}.{group}"),
        _ => kind.to_owned(),
    }
}

/// Discovers the kinds that a cluster serves. If the discovery of a group fails, its kinds in `before` still count as
/// served.
///
/// # Errors
/// Fails if the API server is not ready, or does not list its groups or its core resources.
pub async fn discover(client: &Client, before: &Served) -> Result<Served, String> {
    readiness(client).await?;
    let groups = answer(client.list_api_groups()).await?.groups;
    let mut served = Served::default();
    let core = answer(client.list_core_api_resources("v1")).await?;
    take(&mut served, "", "v1", &core);
    let mut names: Vec<&str> = kinds().map(|kind| kind.group).filter(|group| !group.is_empty()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let Some(group) = groups.iter().find(|group| group.name == name) else { continue };
        if let Err(why) = discover_group(client, &mut served, group).await {
            served.unclear.insert(name.to_owned(), why);
            for kind in kinds().filter(|kind| kind.group == name) {
                if served.find(name, kind.kind).is_none()
                    && let Some(known) = before.find(name, kind.kind)
                {
                    served.insert(known.clone(), before.is_namespaced(name, kind.kind));
                }
            }
        }
    }
    for (group, kind) in EVERYWHERE {
        if served.find(group, kind).is_none() {
            let name = if group.is_empty() { "core" } else { group };
            served.unclear.insert(name.to_owned(), format!("kind {kind} is missing, which every cluster serves"));
            if let Some(known) = before.find(group, kind) {
                served.insert(known.clone(), before.is_namespaced(group, kind));
            }
        }
    }
    Ok(served)
}

/// Checks that the API server is ready. Until then, it may not list all its groups.
async fn readiness(client: &Client) -> Result<(), String> {
    let Ok(request) = Request::new("").get("readyz", &GetParams::default()) else { return Ok(()) };
    match tokio::time::timeout(PATIENCE, client.request_text(request)).await {
        // If this request is forbidden, discovery continues without it.
        Ok(Err(kube::Error::Api(status))) if status.code >= 500 => {
            Err(format!("the API server is not ready (HTTP {})", status.code))
        }
        Ok(Err(kube::Error::Api(_)) | Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(words(&error)),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

/// Adds the supported kinds of a group, each in the version that the API server prefers.
async fn discover_group(client: &Client, served: &mut Served, group: &APIGroup) -> Result<(), String> {
    let known: Vec<&Kind> = kinds().filter(|kind| kind.group == group.name).collect();
    let preferred = group.preferred_version.iter().map(|version| &*version.version);
    let others = group.versions.iter().map(|version| &*version.version);
    let mut versions: Vec<&str> = Vec::new();
    for version in preferred.chain(others) {
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    let is_understood = |version: &&str| known.iter().any(|kind| kind.versions.contains(version));
    let (understood, foreign): (Vec<&str>, Vec<&str>) = versions.into_iter().partition(is_understood);
    for version in understood {
        let list = answer(client.list_api_group_resources(&format!("{}/{version}", group.name))).await?;
        take(served, &group.name, version, &list);
    }
    // Kinds that are served only in unlisted versions are reported.
    for version in foreign {
        if known.iter().all(|kind| served.find(kind.group, kind.kind).is_some()) {
            break;
        }
        let list = answer(client.list_api_group_resources(&format!("{}/{version}", group.name))).await?;
        for kind in known.iter().filter(|kind| resource(&list, kind.kind).is_some()) {
            take_unlisted(served, kind, version, &list);
        }
    }
    Ok(())
}

/// Adds the supported kinds in one version of a group, unless they were added in another version before.
fn take(served: &mut Served, group: &str, version: &str, list: &APIResourceList) {
    for kind in kinds().filter(|kind| kind.group == group && kind.versions.contains(&version)) {
        insert(served, kind, version, list);
    }
}

/// Adds a kind in an unlisted version, if its dialect reads that like a listed one, and records how it is treated.
fn take_unlisted(served: &mut Served, kind: &Kind, version: &str, list: &APIResourceList) {
    if served.find(kind.group, kind.kind).is_some() {
        return;
    }
    let treated = match dialect::claim(&format!("{}/{version}", kind.group), kind.kind) {
        Claim::Nearest(_, nearest) => {
            insert(served, kind, version, list);
            format!("served as {version}, which is read as {nearest}")
        }
        _ => {
            format!("served as {version}; its objects are ignored, because only {} is known", kind.versions.join(", "))
        }
    };
    served.other_versions.entry(name(kind.group, kind.kind)).or_insert(treated);
}

/// Adds a kind in this version, if it is in the list and was not added in another version before.
fn insert(served: &mut Served, kind: &Kind, version: &str, list: &APIResourceList) {
    let group = kind.group;
    if let Some(found) = resource(list, kind.kind)
        && served.find(group, kind.kind).is_none()
    {
        let resource = ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") },
            kind: kind.kind.to_owned(),
            plural: found.name.clone(),
        };
        served.insert(resource, found.namespaced);
    }
}

/// Returns the resource of a kind that can be listed and watched. Subresources such as `deployments/scale` cannot.
fn resource<'a>(list: &'a APIResourceList, kind: &str) -> Option<&'a APIResource> {
    let can = |resource: &APIResource, verb: &str| resource.verbs.iter().any(|other| other == verb);
    list.resources.iter().find(|resource| {
        resource.kind == kind && !resource.name.contains('/') && can(resource, "list") && can(resource, "watch")
    })
}

async fn answer<T>(question: impl Future<Output = kube::Result<T>>) -> Result<T, String> {
    match tokio::time::timeout(PATIENCE, question).await {
        Ok(answer) => answer.map_err(|error| words(&error)),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(version: &str, kinds: &[(&str, &str)]) -> APIResourceList {
        let resource = |(name, kind): &(&str, &str)| APIResource {
            name: (*name).to_owned(),
            kind: (*kind).to_owned(),
            namespaced: true,
            verbs: ["get", "list", "watch"].map(str::to_owned).into(),
            ..APIResource::default()
        };
        APIResourceList { group_version: version.to_owned(), resources: kinds.iter().map(resource).collect() }
    }

    fn watched(served: &Served) -> Vec<String> {
        served.watched().into_iter().map(|resource| name(&resource.group, &resource.kind)).collect()
    }

    #[test]
    fn of_what_makes_pods_only_what_nothing_else_tells_of_is_watched() {
        let mut served = Served::default();
        take(&mut served, "", "v1", &list("v1", &[("pods", "Pod"), ("namespaces", "Namespace")]));
        let apps = [
            ("deployments/scale", "Scale"),
            ("deployments", "Deployment"),
            ("replicasets", "ReplicaSet"),
            ("daemonsets", "DaemonSet"),
        ];
        take(&mut served, "apps", "v1", &list("apps/v1", &apps));
        take(&mut served, "batch", "v1", &list("batch/v1", &[("jobs", "Job"), ("cronjobs", "CronJob")]));
        assert_eq!(watched(&served), ["Namespace", "Pod", "DaemonSet", "Deployment", "CronJob"]);
        assert!(served.find("apps", "ReplicaSet").is_some(), "it is served, and the controller may ask for it");
        assert_eq!(served.find("apps", "Deployment").unwrap().plural, "deployments");
    }

    #[test]
    fn calico_is_watched_under_one_of_its_names() {
        let mut served = Served::default();
        let kinds = [("networkpolicies", "NetworkPolicy"), ("tiers", "Tier")];
        take(&mut served, STORED, "v1", &list("crd.projectcalico.org/v1", &kinds));
        assert_eq!(watched(&served), ["NetworkPolicy.crd.projectcalico.org", "Tier.crd.projectcalico.org"]);
        take(&mut served, SERVED, "v3", &list("projectcalico.org/v3", &kinds[..1]));
        assert_eq!(watched(&served), ["NetworkPolicy.projectcalico.org", "Tier.crd.projectcalico.org"]);
        assert!(served.find(STORED, "NetworkPolicy").is_some());
    }

    #[test]
    fn what_calicos_api_server_does_not_show_is_known_where_it_is_stored() {
        let mut served = Served::default();
        served.unclear.insert(SERVED.to_owned(), "503".to_owned());
        assert_eq!(served.missing(), Some((SERVED, "503")));
        let kinds = [("globalnetworkpolicies", "GlobalNetworkPolicy"), ("tiers", "Tier")];
        take(&mut served, STORED, "v1", &list("crd.projectcalico.org/v1", &kinds));
        assert_eq!(served.missing(), None);
        served.unclear.insert("gateway.networking.k8s.io".to_owned(), "503".to_owned());
        assert_eq!(served.missing(), None, "no policy is in it");
        served.unclear.insert("cilium.io".to_owned(), "503".to_owned());
        assert_eq!(served.missing(), Some(("cilium.io", "503")));
    }

    #[test]
    fn what_cannot_be_watched_is_not_served() {
        let mut without = list("v1", &[("pods", "Pod")]);
        without.resources[0].verbs = vec!["get".into()];
        let mut served = Served::default();
        take(&mut served, "", "v1", &without);
        assert!(served.watched().is_empty());
    }
}
