//! What watches tell becomes the view, and only what an API server said is gone goes.

use std::sync::Arc;

use kube::core::ApiResource;
use portcullis::cluster::{Arriving, Decoded, Event, Feed, Owning, WatchStatus, read};
use portcullis::config::Configuration;
use portcullis::dialect::fingerprint;
use portcullis::model::{ObjectRef, Surroundings as _};
use portcullis::view::FIELD_MANAGER;
use serde_json::{Value, json};

fn resource(api_version: &str, kind: &str) -> ApiResource {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        plural: String::new(),
    }
}

/// A feed with a watch of each of these kinds.
struct Fed {
    feed: Feed,
    kinds: Vec<ApiResource>,
}

impl Fed {
    fn new(kinds: &[(&str, &str)]) -> Self {
        let kinds: Vec<ApiResource> = kinds.iter().map(|(version, kind)| resource(version, kind)).collect();
        let mut feed = Feed::default();
        for kind in &kinds {
            feed.watch(&kind.kind, kind.clone());
        }
        Self { feed, kinds }
    }

    fn arrival(&self, kind: &str, object: &Value) -> Decoded {
        let resource = self.kinds.iter().find(|resource| resource.kind == kind).unwrap();
        let arriving: Arriving = serde_json::from_str(&object.to_string()).unwrap();
        read(resource, &Owning::from(&Configuration::shipped().unwrap().site), &arriving)
    }

    fn tell(&mut self, kind: &str, event: Event) -> bool {
        self.feed.take(kind, event)
    }

    fn listed(&mut self, kind: &str, object: &Value) {
        let arrival = self.arrival(kind, object);
        self.tell(kind, Event::Listed(arrival));
    }

    fn applied(&mut self, kind: &str, object: &Value) {
        let arrival = self.arrival(kind, object);
        self.tell(kind, Event::Applied(arrival));
    }

    fn list(&mut self, kind: &str, objects: &[Value]) {
        self.tell(kind, Event::Begin);
        for object in objects {
            self.listed(kind, object);
        }
        self.tell(kind, Event::End);
    }

    fn status(&self, kind: &str) -> WatchStatus {
        self.feed.statuses().find(|(name, _)| *name == kind).unwrap().1.clone()
    }

    /// The names of the policies in the namespace `shop`.
    fn policies(&self) -> Vec<String> {
        self.feed.view().own_policies("shop").map(|policy| policy.object.name.to_string()).collect()
    }
}

fn policy(name: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "shop", "resourceVersion": "1"}, "spec": {"podSelector": {}}})
}

fn namespace(name: &str) -> Value {
    json!({"metadata": {"name": name, "uid": format!("uid-{name}"), "labels": {"team": "a"}}})
}

const POLICY: (&str, &str) = ("networking.k8s.io/v1", "NetworkPolicy");
const NAMESPACE: (&str, &str) = ("v1", "Namespace");
const POD: (&str, &str) = ("v1", "Pod");

#[test]
fn what_vanished_between_two_lists_is_removed_and_nothing_before_the_end_of_the_second() {
    let mut fed = Fed::new(&[POLICY]);
    fed.list("NetworkPolicy", &[policy("a"), policy("b"), policy("c")]);
    assert_eq!(fed.policies(), ["a", "b", "c"]);

    // The watch was lost; `b` was deleted and `d` made meanwhile.
    fed.tell("NetworkPolicy", Event::Lost("gone".into()));
    fed.tell("NetworkPolicy", Event::Begin);
    fed.listed("NetworkPolicy", &policy("a"));
    assert_eq!(fed.policies(), ["b", "c", "a"], "what is not told yet may be told yet");
    // A page failed. Everything is told once more from its beginning.
    fed.tell("NetworkPolicy", Event::Lost("page".into()));
    fed.tell("NetworkPolicy", Event::Begin);
    for name in ["d", "c", "a"] {
        fed.listed("NetworkPolicy", &policy(name));
        assert!(fed.policies().contains(&"b".to_owned()));
    }
    fed.tell("NetworkPolicy", Event::End);
    assert_eq!(fed.policies(), ["d", "c", "a"]);

    fed.list("NetworkPolicy", &[]);
    assert!(fed.policies().is_empty());
    assert!(fed.feed.view().namespace("shop").is_none(), "nothing is known of it any more");
}

#[test]
fn a_webhook_that_vanished_leads_nowhere_and_one_that_moved_leads_elsewhere() {
    const WEBHOOKS: (&str, &str) = ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration");
    let mut fed = Fed::new(&[WEBHOOKS]);
    let webhooks = |name: &str, namespace: &str| {
        let service = json!({"namespace": namespace, "name": "hook"});
        json!({"metadata": {"name": name}, "webhooks": [{"clientConfig": {"service": service}}]})
    };
    let leading = |fed: &Fed, namespace: &str| -> Vec<String> {
        let backends = fed.feed.view().namespace(namespace).map(|facts| facts.backends.as_slice());
        backends.unwrap_or_default().iter().map(|backend| backend.object.name.to_string()).collect()
    };
    fed.list(WEBHOOKS.1, &[webhooks("a", "shop"), webhooks("b", "shop")]);
    assert_eq!(leading(&fed, "shop"), ["a", "b"]);
    assert_eq!(fed.feed.counts(), [(WEBHOOKS.1, 2, 0)]);
    fed.applied(WEBHOOKS.1, &webhooks("a", "bank"));
    assert_eq!((leading(&fed, "shop"), leading(&fed, "bank")), (vec!["b".to_owned()], vec!["a".to_owned()]));
    // What cannot be read any more counts for nothing.
    fed.applied(WEBHOOKS.1, &json!({"metadata": {"name": "a"}, "webhooks": 5}));
    assert!(leading(&fed, "bank").is_empty());
    fed.list(WEBHOOKS.1, &[]);
    assert!(leading(&fed, "shop").is_empty() && fed.feed.view().namespace("shop").is_none());
    fed.list(WEBHOOKS.1, &[webhooks("a", "shop")]);
    fed.feed.unwatch(WEBHOOKS.1);
    assert!(leading(&fed, "shop").is_empty());
}

#[test]
fn what_vanished_is_removed_of_every_kind_and_of_that_kind_only() {
    let kinds =
        [NAMESPACE, POD, POLICY, ("projectcalico.org/v3", "Tier"), ("cilium.io/v2", "CiliumClusterwideNetworkPolicy")];
    let mut fed = Fed::new(&kinds);
    let pod = |name: &str| json!({"metadata": {"name": name, "namespace": "shop", "labels": {"app": "x"}}, "spec": {}});
    let tier = |name: &str| json!({"metadata": {"name": name}, "spec": {"order": 7}});
    let wide = |name: &str| json!({"metadata": {"name": name}, "spec": {"endpointSelector": {}, "ingress": [{}]}});
    fed.list("Namespace", &[namespace("shop"), namespace("bank")]);
    fed.list("Pod", &[pod("p"), pod("q")]);
    fed.list("NetworkPolicy", &[policy("a")]);
    fed.list("Tier", &[tier("low"), tier("high")]);
    fed.list("CiliumClusterwideNetworkPolicy", &[wide("one"), wide("two")]);
    let counts = |fed: &Fed| -> Vec<(String, usize)> {
        fed.feed.counts().into_iter().map(|(kind, known, _)| (kind.to_owned(), known)).collect()
    };
    let numbers = |fed: &Fed| counts(fed).into_iter().map(|(_, known)| known).collect::<Vec<_>>();
    let names: Vec<String> = counts(&fed).into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(names, ["CiliumClusterwideNetworkPolicy", "Namespace", "NetworkPolicy", "Pod", "Tier"]);
    assert_eq!(numbers(&fed), [2, 2, 1, 2, 2]);

    fed.list("Pod", &[pod("q")]);
    assert_eq!(numbers(&fed), [2, 2, 1, 1, 2]);
    assert_eq!(&*fed.feed.view().namespace("shop").unwrap().running()[0].name, "q");
    fed.list("Tier", &[tier("high")]);
    fed.list("CiliumClusterwideNetworkPolicy", &[wide("two")]);
    assert_eq!(numbers(&fed), [1, 2, 1, 1, 1]);
    fed.list("Namespace", &[namespace("bank")]);
    assert_eq!(numbers(&fed), [1, 1, 1, 1, 1]);
    let shop = fed.feed.view().namespace("shop").unwrap();
    assert!(shop.labels.is_none() && shop.policies.len() == 1, "what is in it is told of by others");
    assert_eq!(fed.feed.view().all_labels("bank").unwrap().get("team"), Some("a"));
}

#[test]
fn changes_are_taken_in_and_deletions_too() {
    let mut fed = Fed::new(&[NAMESPACE, POLICY]);
    fed.list("Namespace", &[namespace("shop")]);
    fed.applied("NetworkPolicy", &policy("a"));
    let mut changed = policy("a");
    changed["spec"]["policyTypes"] = json!(["Egress"]);
    fed.applied("NetworkPolicy", &changed);
    assert_eq!(fed.policies(), ["a"]);
    assert!(fed.feed.view().own_policies("shop").all(|policy| policy.egress.isolates && !policy.ingress.isolates));
    let id = |version: &str| ObjectRef {
        api_version: version.into(),
        kind: "NetworkPolicy".into(),
        namespace: Some("shop".into()),
        name: "a".into(),
    };
    fed.tell("NetworkPolicy", Event::Removed(id("projectcalico.org/v3")));
    assert_eq!(fed.policies(), ["a"], "that one is another");
    fed.tell("NetworkPolicy", Event::Removed(id("networking.k8s.io/v1")));
    assert!(fed.policies().is_empty());
    let mut leaving = namespace("shop");
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    fed.applied("Namespace", &leaving);
    let shop = fed.feed.view().namespace("shop").unwrap();
    assert!(shop.is_terminating);
    assert_eq!(&*shop.uid, "uid-shop");
}

#[test]
fn what_cannot_be_read_counts_for_nothing_and_is_named_until_it_can_be_or_is_gone() {
    let mut fed = Fed::new(&[POLICY]);
    fed.list("NetworkPolicy", &[policy("a"), policy("b")]);
    let mut broken = policy("a");
    broken["spec"]["podSelector"] = json!(5);
    fed.applied("NetworkPolicy", &broken);
    assert_eq!(fed.policies(), ["b"], "it is not what it was");
    let unreadable = fed.feed.unreadable();
    let (count, sample) = &unreadable["NetworkPolicy"];
    assert_eq!(*count, 1);
    assert!(sample.starts_with("NetworkPolicy shop/a: spec.podSelector: "), "{sample}");
    fed.list("NetworkPolicy", &[broken.clone(), policy("b")]);
    assert_eq!(fed.feed.unreadable().len(), 1);
    fed.applied("NetworkPolicy", &policy("a"));
    assert!(fed.feed.unreadable().is_empty());
    assert_eq!(fed.policies(), ["b", "a"]);
    fed.applied("NetworkPolicy", &broken);
    fed.list("NetworkPolicy", &[policy("b")]);
    assert!(fed.feed.unreadable().is_empty(), "it is gone");
}

#[test]
fn a_contract_that_vanished_counts_no_more_and_an_unreadable_one_is_known_with_its_fault() {
    let mut fed = Fed::new(&[("portcullis.dev/v1alpha1", "Contract")]);
    let contract = |name: &str, side: &str| {
        let pods = json!([{"namespaces": ["shop"]}]);
        json!({"metadata": {"name": name}, "spec": {side: {"from": pods, "to": pods}}})
    };
    let [good, bad] = ["mustReach", "mustTouch"];
    fed.list("Contract", &[contract("a", good), contract("b", good), contract("c", bad)]);
    let known = |fed: &Fed| -> Vec<String> {
        let view = fed.feed.view();
        let unreadable = view.unreadable_contracts().map(|(name, why)| format!("{name}: {why}"));
        view.contracts().map(|contract| contract.name.to_string()).chain(unreadable).collect()
    };
    let fault = |name: &str| format!("{name}: spec.mustTouch: unknown field of Contract");
    assert_eq!(known(&fed), ["a", "b", &fault("c")]);
    assert_eq!(fed.feed.counts(), [("Contract", 2, 1)]);
    fed.list("Contract", &[contract("b", good), contract("c", bad)]);
    assert_eq!(known(&fed), ["b", &fault("c")]);
    fed.applied("Contract", &contract("c", good));
    fed.applied("Contract", &contract("b", bad));
    assert_eq!(known(&fed), ["c", &fault("b")]);
    fed.list("Contract", &[contract("c", good)]);
    assert_eq!(known(&fed), ["c"]);
}

#[test]
fn a_watch_is_synced_from_its_first_end_on_and_what_it_told_stays_when_it_is_lost() {
    let mut fed = Fed::new(&[POLICY]);
    assert_eq!(fed.status("NetworkPolicy"), WatchStatus::Syncing(None));
    fed.tell("NetworkPolicy", Event::Begin);
    fed.listed("NetworkPolicy", &policy("a"));
    fed.tell("NetworkPolicy", Event::Lost("away".into()));
    assert_eq!(fed.status("NetworkPolicy"), WatchStatus::Syncing(Some("away".into())));
    fed.list("NetworkPolicy", &[policy("a")]);
    assert_eq!(fed.status("NetworkPolicy"), WatchStatus::Synced);
    fed.tell("NetworkPolicy", Event::Lost("cut".into()));
    let WatchStatus::Lost { since, why } = fed.status("NetworkPolicy") else { panic!("it is lost") };
    assert_eq!(why, "cut");
    fed.tell("NetworkPolicy", Event::Lost("refused".into()));
    assert_eq!(fed.status("NetworkPolicy"), WatchStatus::Lost { since, why: "refused".into() });
    assert_eq!(fed.policies(), ["a"]);
    fed.tell("NetworkPolicy", Event::Resumed);
    assert_eq!(fed.status("NetworkPolicy"), WatchStatus::Synced);
    fed.feed.unwatch("NetworkPolicy");
    assert!(fed.policies().is_empty() && fed.feed.statuses().next().is_none(), "there is no such kind any more");
    assert!(!fed.tell("NetworkPolicy", Event::Begin), "who is not asked is not listened to");
}

#[test]
fn pods_that_are_alike_share_what_is_said_of_them() {
    let mut fed = Fed::new(&[POD]);
    let pod = |name: &str, app: &str| {
        let metadata = json!({"name": name, "namespace": "shop", "uid": name, "labels": {"app": app}});
        json!({"metadata": metadata, "spec": {"nodeName": name}, "status": {"podIP": name}})
    };
    fed.list("Pod", &[pod("a", "x"), pod("b", "x"), pod("c", "y")]);
    let running = fed.feed.view().namespace("shop").unwrap().running().to_vec();
    assert!(Arc::ptr_eq(&running[0].workload, &running[1].workload));
    assert!(!Arc::ptr_eq(&running[0].workload, &running[2].workload));
    fed.applied("Pod", &pod("b", "y"));
    let running = fed.feed.view().namespace("shop").unwrap().running().to_vec();
    assert!(Arc::ptr_eq(&running[1].workload, &running[2].workload));
}

#[test]
fn what_the_controller_applied_is_known_by_its_layer_with_what_it_comes_to() {
    let site = Configuration::shipped().unwrap().site;
    let mut fed = Fed::new(&[POLICY]);
    let mut owned = policy("portcullis-baseline");
    owned["metadata"]["uid"] = json!("u-1");
    owned["metadata"]["labels"] =
        json!({(site.layer_label()): "baseline", "app.kubernetes.io/managed-by": "portcullis"});
    owned["metadata"]["managedFields"] = json!([{"manager": FIELD_MANAGER, "operation": "Apply", "fieldsV1": {}}]);
    let mut taken = owned.clone();
    taken["metadata"]["name"] = json!("of-somebody-else");
    let mut copied = owned.clone();
    copied["metadata"]["name"] = json!("portcullis-copied");
    copied["metadata"]["managedFields"] = json!([{"manager": "kubectl", "operation": "Apply", "fieldsV1": {}}]);
    fed.list("NetworkPolicy", &[owned.clone(), copied, taken, policy("own")]);
    let known = fed.feed.view().namespace("shop").unwrap().owned.clone();
    let names: Vec<&str> = known.iter().map(|owned| &*owned.object.name).collect();
    assert_eq!(names, ["portcullis-baseline", "portcullis-copied"], "the name of the field manager anybody can write");
    assert_eq!((&*known[0].layer, &*known[0].uid, known[0].is_applied), ("baseline", "u-1", true));
    assert!(!known[1].is_applied, "a label alone anybody can write");
    let (labels, annotations) = (site.owned_labels(), site.owned_annotations());
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let annotations: Vec<&str> = annotations.iter().map(String::as_str).collect();
    assert_eq!(known[0].fingerprint, fingerprint(&owned, &labels, &annotations));

    owned["metadata"]["labels"] = json!({});
    fed.applied("NetworkPolicy", &owned);
    let names: Vec<String> =
        fed.feed.view().namespace("shop").unwrap().owned.iter().map(|owned| owned.object.name.to_string()).collect();
    assert_eq!(names, ["portcullis-copied"]);
}

/// Where Calico's API server is installed or removed, its tiers are told by another watch from then on.
#[test]
fn a_tier_that_two_groups_tell_of_stays_when_one_of_them_ends() {
    let owning = Owning::from(&Configuration::shipped().unwrap().site);
    let (stored, served) = (resource("crd.projectcalico.org/v1", "Tier"), resource("projectcalico.org/v3", "Tier"));
    let mut feed = Feed::default();
    let mut list = |name: &str, resource: &ApiResource, names: &[&str]| {
        feed.watch(name, resource.clone());
        feed.take(name, Event::Begin);
        for tier in names {
            let tier = json!({"metadata": {"name": tier}, "spec": {"order": 100.0}}).to_string();
            feed.take(name, Event::Listed(read(resource, &owning, &serde_json::from_str(&tier).unwrap())));
        }
        feed.take(name, Event::End);
    };
    list("stored", &stored, &["platform", "gone"]);
    list("served", &served, &["platform"]);
    feed.unwatch("stored");
    assert!(feed.view().tier("platform").is_some());
    assert!(feed.view().tier("gone").is_none(), "of that only the one that ended told");
    assert_eq!(feed.counts(), [("served", 1, 0)]);
    feed.unwatch("served");
    assert!(feed.view().tier("platform").is_none());
}

/// While both are watched, each takes away only what it told of itself.
#[test]
fn a_policy_that_two_groups_tell_of_stays_when_one_of_them_ends() {
    let owning = Owning::from(&Configuration::shipped().unwrap().site);
    let stored = resource("crd.projectcalico.org/v1", "GlobalNetworkPolicy");
    let served = resource("projectcalico.org/v3", "GlobalNetworkPolicy");
    let mut feed = Feed::default();
    let policy = |resource: &ApiResource, name: &str| {
        let policy =
            json!({"metadata": {"name": name}, "spec": {"selector": "all()", "types": ["Ingress"]}}).to_string();
        read(resource, &owning, &serde_json::from_str(&policy).unwrap())
    };
    for (name, resource, stored_as) in [("served", &served, "dns"), ("stored", &stored, "default.dns")] {
        feed.watch(name, resource.clone());
        feed.take(name, Event::Begin);
        feed.take(name, Event::Listed(policy(resource, stored_as)));
        feed.take(name, Event::End);
    }
    feed.take("stored", Event::Applied(policy(&stored, "default.dns")));
    feed.unwatch("stored");
    let known: Vec<String> = feed.view().cluster_wide_policies().map(|policy| policy.object.to_string()).collect();
    assert_eq!(known, ["GlobalNetworkPolicy dns"]);
}
