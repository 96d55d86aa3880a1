//! Changes that open a blocked connection. Each is applied to a copy of the view and evaluated again.

use serde::Serialize;
use serde_json::{Value, json};

use super::alike::Alike;
use super::explain::{Verdict, explain};
use super::place::{Place, PlaceKind};
use crate::baseline::{self, PolicySet};
use crate::dialect;
use crate::model::{
    Body, ContainerPort, Direction, End, Endpoint, Ends, Labels, NAME_LABEL, Namespace, Object, ObjectRef, Outcome,
    Path, Policy, Protocol, Relation, Traffic, connect, is_added_to_pods, names,
};
use crate::view::{Running, Scene, Site, View};

/// A change that opens a blocked connection, proved on a copy of the view.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Repair {
    /// The change as text.
    pub summary: String,
    /// Commands that make it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<String>,
    /// The patches in these commands.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub patches: Vec<PatchOf>,
    /// Manifests to apply.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub manifests: Vec<Value>,
    /// Other connections that it opens between the known pods. None if they were not compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub also_opens: Option<Vec<String>>,
}

/// A JSON patch of a NetworkPolicy.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PatchOf {
    /// The namespace of the policy.
    pub namespace: String,
    /// The name of the policy.
    pub name: String,
    /// The patch (RFC 6902).
    pub patch: Value,
}

/// Maximum number of other connections that a repair lists.
const MAX_LISTED: usize = 20;
/// Maximum number of pairs of pods that are compared for one repair.
const MAX_PAIRS: usize = 10_000;

/// Returns the changes that open a connection over one port, the smallest first: an access label, a profile, a rule in an
/// existing policy, a new policy.
#[must_use]
pub fn repairs(view: &View, site: &Site, policies: &PolicySet, from: &Place, to: &Place) -> Vec<Repair> {
    let Some((protocol, number)) = to.port else { return Vec::new() };
    let flow = Blocked { view, from, to, protocol, number };
    let blocked = flow.blocked_sides(Scene::of(view));
    if blocked.is_empty() {
        return Vec::new();
    }
    let mut repairs = Vec::new();
    if blocked == [Direction::Egress] {
        repairs.extend(flow.labels(site, policies));
    }
    repairs.extend(flow.rules(site, &blocked));
    repairs
}

struct Blocked<'a> {
    view: &'a View,
    from: &'a Place,
    to: &'a Place,
    protocol: Protocol,
    number: u16,
}

impl Blocked<'_> {
    fn blocked_sides(&self, scene: Scene<'_>) -> Vec<Direction> {
        let flows = explain(scene, self.from, self.to);
        let is_blocked = |verdict: Option<Verdict>| verdict == Some(Verdict::Blocked);
        let mut sides = Vec::new();
        for flow in &flows {
            if is_blocked(flow.egress.as_ref().map(|side| side.verdict)) {
                sides.push(Direction::Egress);
            }
            if is_blocked(flow.ingress.as_ref().map(|side| side.verdict)) {
                sides.push(Direction::Ingress);
            }
        }
        sides
    }

    fn is_open(&self, view: &View) -> bool {
        explain(Scene::of(view), self.from, self.to).iter().all(|flow| flow.verdict == Verdict::Allowed)
    }

    /// Labels on the sender's namespace that give it policies which open the connection.
    fn labels(&self, site: &Site, policies: &PolicySet) -> Option<Repair> {
        let namespace = self.from.namespace()?;
        let labels = self.view.all_labels(namespace)?;
        if site.is_left_alone(namespace) {
            return None;
        }
        let access = site.access.iter().map(|name| {
            (site.access_label(name), "true".to_owned(), format!("give namespace {namespace} access to {name}"))
        });
        let profiles = site.profiles.names.iter().map(|name| {
            (site.profile_label(), name.clone(), format!("change the profile of namespace {namespace} to {name}"))
        });
        access.chain(profiles).find_map(|(key, value, summary)| {
            if labels.get(&key) == Some(&*value) {
                return None;
            }
            let mut view = self.view.clone();
            view.insert(relabelled(namespace, labels.with(&key, &value)));
            for object in baseline::missing(policies, site, &view, namespace) {
                view.insert(object);
            }
            let command = format!("kubectl label namespace {namespace} --overwrite {key}={value}");
            self.is_open(&view).then(|| Repair {
                summary,
                commands: vec![command],
                patches: Vec::new(),
                manifests: Vec::new(),
                also_opens: None,
            })
        })
    }

    /// NetworkPolicies that open the connection: rules in existing ones where one is for these pods alone, or new ones.
    fn rules(&self, site: &Site, blocked: &[Direction]) -> Option<Repair> {
        let mut view = self.view.clone();
        let (mut commands, mut patches, mut manifests, mut done) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for direction in blocked {
            let (own, other) = match direction {
                Direction::Egress => (self.from, self.to),
                Direction::Ingress => (self.to, self.from),
            };
            let (namespace, own_labels) = self.selector(own)?;
            let peer = self.peer(other)?;
            let port = json!({"protocol": self.protocol.name()?, "port": self.number});
            let (list, side, kind) = match direction {
                Direction::Egress => ("to", "egress", "Egress"),
                Direction::Ingress => ("from", "ingress", "Ingress"),
            };
            let rule = json!({list: [peer], "ports": [port]});
            let name = format!("allow-{}-{}-{}", side, short(other), self.number);
            let manifest = json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                "metadata": {"name": name, "namespace": namespace},
                "spec": {"podSelector": {"matchLabels": own_labels}, "policyTypes": [kind], side: [rule]},
            });
            let added = read(&manifest)?;
            match existing(&view, site, own, *direction) {
                Some(policy) => {
                    let (path, value) = if policy.side(*direction).written.is_some() {
                        (format!("/spec/{side}/-"), rule)
                    } else {
                        (format!("/spec/{side}"), json!([rule]))
                    };
                    let patch = json!([{"op": "add", "path": path, "value": value}]);
                    let name = &policy.object.name;
                    commands.push(format!(
                        "kubectl patch networkpolicy {name} --namespace {namespace} --type=json --patch '{patch}'"
                    ));
                    patches.push(PatchOf { namespace: namespace.clone(), name: name.to_string(), patch });
                    done.push(format!("add an {direction} rule to {}", policy.object));
                    let patched = with_rules_of(policy, added.policies(), *direction);
                    view.insert(patched);
                }
                None => {
                    view.insert(added);
                    manifests.push(manifest);
                    done.push(format!("add NetworkPolicy {namespace}/{name}"));
                }
            }
        }
        self.is_open(&view).then(|| Repair {
            summary: done.join(", and "),
            commands,
            patches,
            manifests,
            also_opens: self.also_opens(&view),
        })
    }

    /// The namespace of a place, and labels that select its pods and as few others as possible.
    fn selector(&self, place: &Place) -> Option<(String, Value)> {
        let PlaceKind::Pods { namespace, workload, .. } = &place.kind else { return None };
        let own: Vec<(&str, &str)> = workload.labels.iter().filter(|(key, _)| !is_added_to_pods(key)).collect();
        let facts = self.view.namespace(namespace);
        let is_alone = |label: &(&str, &str)| {
            facts.is_none_or(|facts| {
                let mut with = facts.distinct().filter(|running| running.workload.labels.get(label.0) == Some(label.1));
                with.all(|running| running.workload.labels == workload.labels)
            })
        };
        let common = ["app.kubernetes.io/name", "app.kubernetes.io/instance", "app", "k8s-app", "name"];
        let one = common.iter().find_map(|key| own.iter().find(|label| label.0 == *key && is_alone(label)));
        let chosen = one.map_or(own.clone(), |label| vec![*label]);
        if chosen.is_empty() {
            return None;
        }
        let labels: serde_json::Map<String, Value> =
            chosen.into_iter().map(|(key, value)| (key.to_owned(), json!(value))).collect();
        Some((namespace.clone(), Value::Object(labels)))
    }

    /// The peer of a rule for a place. None if a NetworkPolicy has none for it.
    fn peer(&self, place: &Place) -> Option<Value> {
        match &place.kind {
            PlaceKind::Pods { .. } => {
                let (namespace, labels) = self.selector(place)?;
                let own = if std::ptr::eq(place, self.to) { self.from } else { self.to };
                let mut peer = json!({"podSelector": {"matchLabels": labels}});
                if own.namespace() != Some(&*namespace)
                    && let Some(peer) = peer.as_object_mut()
                {
                    peer.insert("namespaceSelector".to_owned(), json!({"matchLabels": {NAME_LABEL: namespace}}));
                }
                Some(peer)
            }
            PlaceKind::Addresses { .. } => {
                let net = place.name.parse::<ipnet::IpNet>().ok();
                let net = net.or_else(|| place.name.parse::<std::net::IpAddr>().ok().map(ipnet::IpNet::from))?;
                Some(json!({"ipBlock": {"cidr": net.trunc().to_string()}}))
            }
            PlaceKind::Entity(_) | PlaceKind::Domain(_) => None,
        }
    }

    /// The connections between other known pods that a change of the view opens on this port, also if that depends on
    /// unknown facts, such as the addresses of replicas. None if there are too many pairs to compare.
    fn also_opens(&self, changed: &View) -> Option<Vec<String>> {
        let (senders, receivers) = (self.known(self.from), self.known(self.to));
        if senders.len().saturating_mul(receivers.len()) > MAX_PAIRS {
            return None;
        }
        let mut opened = Vec::new();
        for from in &senders {
            for to in &receivers {
                if from.is_of(self.from) && to.is_of(self.to) || from.is_same_pod(to) {
                    continue;
                }
                let outcome = |view: &View| {
                    let both = Ends { from: from.end(), to: to.end(), relation: Relation::Apart };
                    let names = names(to.listed(), self.protocol, self.number);
                    let traffic = Traffic::Port { protocol: self.protocol, number: self.number, names };
                    connect(&both, traffic, &Scene::of(view)).outcome
                };
                let note = match (outcome(self.view), outcome(changed)) {
                    (Outcome::Blocked | Outcome::Undecided, Outcome::Allowed) => "",
                    (Outcome::Blocked, Outcome::Undecided) => " (undecided)",
                    _ => continue,
                };
                if opened.len() >= MAX_LISTED {
                    opened.push("more".to_owned());
                    return Some(opened);
                }
                opened.push(format!("{} to {} on {} {}{note}", from.name(), to.name(), self.protocol, self.number));
            }
        }
        Some(opened)
    }

    /// The known pods in the namespace of a place, or the place itself if it is no pods.
    fn known<'p>(&'p self, place: &'p Place) -> Vec<Known<'p>> {
        let Some(namespace) = place.namespace() else { return vec![Known::Place(place)] };
        let facts = self.view.namespace(namespace).into_iter();
        facts.flat_map(|facts| Alike::on_pod_network(namespace, facts)).map(Known::Pods).collect()
    }
}

/// A NetworkPolicy that isolates these pods and no others, and that its author may change.
fn existing<'v>(view: &'v View, site: &Site, own: &Place, direction: Direction) -> Option<&'v Policy> {
    let PlaceKind::Pods { namespace, workload, .. } = &own.kind else { return None };
    let facts = view.namespace(namespace)?;
    let endpoint = Endpoint::of(namespace, workload);
    facts.policies.iter().map(|policy| &**policy).find(|policy| {
        let is_for =
            |running: &Running| policy.subject.mean(&Endpoint::of(namespace, &running.workload), view) != Some(false);
        policy.object.group() == "networking.k8s.io"
            && !site.is_reserved(&policy.object)
            && policy.isolates(direction, view)
            && policy.subject.mean(&endpoint, view) == Some(true)
            && facts
                .distinct()
                .filter(|running| is_for(running))
                .all(|running| running.workload.labels == workload.labels)
    })
}

/// The NetworkPolicy with the rules of others in one direction.
fn with_rules_of(policy: &Policy, others: &[Policy], direction: Direction) -> Object {
    let mut policy = policy.clone();
    let side = match direction {
        Direction::Ingress => &mut policy.ingress,
        Direction::Egress => &mut policy.egress,
    };
    side.rules.extend(others.iter().flat_map(|other| other.side(direction).rules.iter().cloned()));
    let (id, body) = (policy.object.clone(), Body::Policies(vec![policy]));
    Object { id, body, faults: Vec::new(), annotations: Labels::default() }
}

/// An end with which a repair is compared.
enum Known<'a> {
    /// Known pods of a namespace.
    Pods(Alike<'a>),
    /// The place itself.
    Place(&'a Place),
}

impl<'a> Known<'a> {
    fn end(&self) -> End<'a> {
        match self {
            Self::Pods(alike) => End::Pod(alike.endpoint()),
            Self::Place(place) => place.end(),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Pods(alike) => alike.name(),
            Self::Place(place) => place.name.clone(),
        }
    }

    fn listed(&self) -> Option<&'a [ContainerPort]> {
        match self {
            Self::Pods(alike) => Some(&alike.workload.ports),
            Self::Place(place) => place.listed(),
        }
    }

    /// Returns true if it is the place, or has its labels.
    fn is_of(&self, place: &Place) -> bool {
        match (self, &place.kind) {
            (Self::Pods(alike), PlaceKind::Pods { namespace, workload, .. }) => {
                alike.namespace == namespace && alike.workload.labels == workload.labels
            }
            (Self::Pods(_), _) => false,
            (Self::Place(_), _) => true,
        }
    }

    /// Returns true if both are the same pod, which always reaches itself.
    fn is_same_pod(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Pods(one), Self::Pods(other)) => {
                one.is_one_pod && (one.namespace, one.id) == (other.namespace, other.id)
            }
            _ => false,
        }
    }
}

/// A short name for a place, as a part of the name of an object.
fn short(place: &Place) -> String {
    let name = match &place.kind {
        PlaceKind::Pods { object: Some((_, name)), .. } => name.clone(),
        PlaceKind::Pods { namespace, .. } => namespace.clone(),
        _ => place.name.clone(),
    };
    let name: String =
        name.to_ascii_lowercase().chars().map(|char| if char.is_ascii_alphanumeric() { char } else { '-' }).collect();
    name.trim_matches('-').chars().take(40).collect()
}

fn relabelled(name: &str, labels: Labels) -> Object {
    let id = ObjectRef { api_version: "v1".into(), kind: "Namespace".into(), namespace: None, name: name.into() };
    let labels_path = Path::root().field("metadata").field("labels");
    let body = Body::Namespace(Namespace { labels, labels_path, uid: "".into(), terminating: false, created: None });
    Object { id, body, faults: Vec::new(), annotations: Labels::default() }
}

fn read(manifest: &Value) -> Option<Object> {
    dialect::read_value(manifest).ok().flatten()
}
