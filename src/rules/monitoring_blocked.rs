//! See [`MonitoringBlocked`].

use super::shared::attribution::{can_stop, surely_stopped};
use super::shared::near_miss::{NearMiss, Target, near_miss};
use super::shared::well_known::WellKnown;
use super::{Case, Findings, Rule};
use crate::model::{
    Decision, Direction, End, Endpoint, Labels, NAME_LABEL, Names, Namespaces, Path, Pods, Policy, Protocol, Question,
    Selector, Subject, Traffic, Workload,
};
use crate::view::{NamespaceFacts, Scene};

rule! {
    /// Pods request scraping, are isolated for ingress, and no policy allows the monitoring namespace.
    ///
    /// ## Why
    ///
    /// A failed scrape target is easy to miss in Prometheus, and alerts on metrics that never arrive do not fire. The
    /// problem is noticed only when the metrics are needed.
    ///
    /// ## What it checks
    ///
    /// Pods and pod templates with the annotation `prometheus.io/scrape: "true"`, on the port of `prometheus.io/port`,
    /// or on any port without that annotation. The rule checks policies that isolate such pods for ingress or deny it,
    /// and such pods in the presence of policies. All policies count, over all dialects. hostNetwork pods are exempt,
    /// because policies do not isolate them.
    ///
    /// The pods of Prometheus are those of the setting `prometheus` in the monitoring namespace: the known pods, or
    /// else any pods with these labels. If it is unknown whether a rule allows them, the rule reports nothing. Examples
    /// are rules by address, by another label of these pods, or by a port name if the pods list no ports. Link-local
    /// addresses belong to no pod.
    ///
    /// On a cluster only policies are checked. Pods and pod templates are checked in files: the webhooks send only
    /// hostNetwork pods, and pods created before their baseline is applied.
    ///
    /// - NetworkPolicy, Cilium, Calico: policies that isolate ingress, and deny rules.
    /// - ClusterNetworkPolicy: does not isolate; a deny rule is reported, an accept rule counts.
    ///
    /// A cluster-scoped policy is checked for pods of the namespaces that it is known to select.
    ///
    /// ## Fires
    ///
    /// ```yaml
    /// apiVersion: apps/v1
    /// kind: Deployment
    /// metadata:
    ///   name: web
    ///   namespace: shop
    /// spec:
    ///   selector:
    ///     matchLabels:
    ///       app: web
    ///   template:
    ///     metadata:
    ///       labels:
    ///         app: web
    ///       annotations:
    ///         prometheus.io/scrape: "true"
    ///         prometheus.io/port: "9090"
    ///     spec:
    ///       containers:
    ///       - name: web
    ///         image: web:1
    /// ---
    /// apiVersion: networking.k8s.io/v1
    /// kind: NetworkPolicy
    /// metadata:
    ///   name: from-frontend
    ///   namespace: shop
    /// spec:
    ///   podSelector: {}
    ///   policyTypes: [Ingress]
    ///   ingress:
    ///   - from:
    ///     - podSelector:
    ///         matchLabels:
    ///           app: frontend
    ///     ports:
    ///     - protocol: TCP
    ///       port: 8080
    /// ```
    ///
    /// ## Passes
    ///
    /// ```yaml
    /// apiVersion: apps/v1
    /// kind: Deployment
    /// metadata:
    ///   name: web
    ///   namespace: shop
    /// spec:
    ///   selector:
    ///     matchLabels:
    ///       app: web
    ///   template:
    ///     metadata:
    ///       labels:
    ///         app: web
    ///       annotations:
    ///         prometheus.io/scrape: "true"
    ///         prometheus.io/port: "9090"
    ///     spec:
    ///       containers:
    ///       - name: web
    ///         image: web:1
    /// ---
    /// apiVersion: networking.k8s.io/v1
    /// kind: NetworkPolicy
    /// metadata:
    ///   name: from-monitoring
    ///   namespace: shop
    /// spec:
    ///   podSelector: {}
    ///   policyTypes: [Ingress]
    ///   ingress:
    ///   - from:
    ///     - namespaceSelector:
    ///         matchLabels:
    ///           kubernetes.io/metadata.name: monitoring
    ///     ports:
    ///     - protocol: TCP
    ///       port: 9090
    /// ```
    ///
    /// ## Settings
    ///
    /// - `prometheus`: `namespace` and `podLabels` of the Prometheus pods. `monitoring` and
    ///   `app.kubernetes.io/name: prometheus` by default.
    "monitoring-blocked", Warn, adds_up = true,
    pub struct MonitoringBlocked {
        prometheus: WellKnown,
    }
}

impl Default for MonitoringBlocked {
    fn default() -> Self {
        Self { prometheus: WellKnown::prometheus() }
    }
}

/// Maximum number of pods and namespaces that one decision compares.
const MOST_LOOKS: usize = 10_000;

/// Maximum number of different pods for which a scrape is evaluated.
const MOST_ASKED: usize = 50;

/// Maximum number of different Prometheus pods that are evaluated.
const MOST_SCRAPING: usize = 4;

/// Maximum number of policies in a message.
const MOST_NAMED: usize = 3;

/// Pods that request scraping, with their port.
#[derive(Clone, Copy)]
struct Scraped<'a> {
    namespace: &'a str,
    workload: &'a Workload,
    port: Option<u16>,
    names: Names<'a>,
}

/// The policies that block the scrape.
enum Blocked<'a> {
    Isolated(Vec<&'a Policy>),
    Denied(&'a Policy, &'a Path),
}

impl Rule for MonitoringBlocked {
    fn check(&self, case: &Case<'_>, findings: &mut Findings) {
        if let Some(workload) = case.workload() {
            self.check_workload(case, findings, workload);
        }
        let mut looks = MOST_LOOKS;
        for policy in case.policies().iter().filter(|policy| can_stop(&policy.ingress)) {
            self.check_policy(case, findings, policy, &mut looks);
        }
    }
}

impl MonitoringBlocked {
    fn check_workload<'a>(&'a self, case: &Case<'a>, findings: &mut Findings, workload: &'a Workload) {
        let object = case.change.object();
        let Some(scraped) = Scraped::of(object.namespace().unwrap_or_default(), workload) else { return };
        let blocked = self.blocked(case, case.after(), scraped);
        let is_pod = &*object.id.kind == "Pod";
        let (pods, them) =
            if is_pod { ("the pod".to_owned(), "it") } else { (text!("pods of this {}", object.id.kind), "them") };
        let why = match &blocked {
            None => return,
            Some(Blocked::Isolated(by)) => {
                let mut names: Vec<String> = by.iter().map(|policy| policy.object.to_string()).collect();
                names.sort();
                names.dedup();
                names.truncate(MOST_NAMED);
                let isolate = if names.len() == 1 { "isolates" } else { "isolate" };
                text!("{} {isolate} {them} for ingress", names.join(" and "))
            }
            Some(Blocked::Denied(by, _)) => text!("{} denies {them} ingress", by.object),
        };
        let message = text!(
            "Prometheus in namespace {} cannot scrape {pods}{}, because {why}",
            self.prometheus.namespace,
            on(scraped.port)
        );
        let help =
            text!("allow ingress on {} from {}, in a policy for these pods", port(scraped.port), self.prometheus);
        let place = Path::root().field("metadata");
        let place = if is_pod { place.field("annotations") } else { place };
        let pods = Pods {
            namespaces: Namespaces::Own(object.namespace().map(Box::from)),
            labels: Some(Selector::of(&workload.labels)),
        };
        let near = self.nearest(case, case.after(), &pods, scraped);
        let (closest, help) = near.map_or((None, help), |near| (Some(near.closest), near.cure));
        findings.add_with_closest::<Self>(case, place, message, closest, help, None);
    }

    fn check_policy<'a>(&'a self, case: &Case<'a>, findings: &mut Findings, policy: &'a Policy, looks: &mut usize) {
        let mut asked: Vec<Scraped<'a>> = Vec::new();
        for (name, scraped) in Scraped::meant(case, policy, looks) {
            let is_alike = |other: &Scraped<'_>| {
                (other.namespace, other.port, other.names, &other.workload.labels)
                    == (scraped.namespace, scraped.port, scraped.names, &scraped.workload.labels)
            };
            if asked.iter().any(is_alike) {
                continue;
            }
            if asked.len() == MOST_ASKED {
                return;
            }
            asked.push(scraped);
            let is_own = |by: &Policy| std::ptr::eq(by, policy);
            let (path, why) = match self.blocked(case, case.supposing(), scraped) {
                Some(Blocked::Isolated(by)) if by.iter().any(|by| is_own(by)) => {
                    (&policy.ingress.path, "policy isolates ingress")
                }
                Some(Blocked::Denied(by, path)) if is_own(by) => (path, "rule denies ingress"),
                _ => continue,
            };
            let message = text!(
                "Prometheus in namespace {} cannot scrape {name}{}, because this {why}",
                self.prometheus.namespace,
                on(scraped.port)
            );
            let help = text!(
                "allow ingress on {} from {}, in this policy or in another policy for the same pods",
                port(scraped.port),
                self.prometheus
            );
            let near = self.nearest(case, case.supposing(), &policy.subject, scraped);
            let path = near.as_ref().and_then(|near| near.own_place(case)).unwrap_or(path).clone();
            let (closest, help) = near.map_or((None, help), |near| (Some(near.closest), near.cure));
            findings.add_with_closest::<Self>(case, path, message, closest, help, None);
            return;
        }
    }

    /// Finds the policies that block Prometheus, if it is known that no policy allows it.
    fn blocked<'a>(&'a self, case: &Case<'a>, scene: Scene<'a>, scraped: Scraped<'a>) -> Option<Blocked<'a>> {
        let from = self.scraping(case);
        let traffic = match scraped.port {
            Some(number) => Traffic::Port { protocol: Protocol::Tcp, number, names: scraped.names },
            None => Traffic::SomePort,
        };
        let mut blocked = None;
        for (labels, complete) in from {
            let namespace = self.prometheus.namespace.as_str();
            let end = Endpoint { labels, complete, ..Endpoint::unknown(namespace) };
            blocked = Some(stop(scene, scraped, end, traffic)?);
        }
        blocked
    }

    /// The rule that comes closest to allowing Prometheus.
    fn nearest<'a>(
        &'a self,
        case: &Case<'a>,
        scene: Scene<'a>,
        pods: &Pods,
        scraped: Scraped<'a>,
    ) -> Option<NearMiss<'a>> {
        let (namespace, number) = (self.prometheus.namespace.as_str(), scraped.port?);
        let (labels, complete) = *self.scraping(case).first()?;
        let end = Endpoint { labels, complete, ..Endpoint::unknown(namespace) };
        let target = Target {
            name: "the Prometheus pods",
            port_of: "the scraped pods",
            word: "prometheus",
            namespace,
            labels: &self.prometheus.labels,
            place: text!("{} in namespace {namespace}", self.prometheus.labels),
            end: End::Pod(end),
            protocol: Protocol::Tcp,
            number,
            is_configured: false,
            traffic: Traffic::Port { protocol: Protocol::Tcp, number, names: scraped.names },
        };
        near_miss(case, &scene.policies_for(pods), pods, Direction::Ingress, &target, None)
    }

    /// The labels of the Prometheus pods, each with true if the set of labels is complete.
    fn scraping<'a>(&'a self, case: &Case<'a>) -> Vec<(&'a Labels, bool)> {
        let wanted = Selector::of(&self.prometheus.labels);
        let known = case.view.namespace(&self.prometheus.namespace).map(NamespaceFacts::running).unwrap_or_default();
        let mut found: Vec<(&Labels, bool)> = Vec::new();
        for labels in known.iter().take(MOST_LOOKS).map(|running| &running.workload.labels) {
            if found.len() < MOST_SCRAPING && wanted.matches(labels) && !found.contains(&(labels, true)) {
                found.push((labels, true));
            }
        }
        if found.is_empty() {
            found.push((&self.prometheus.labels, false));
        }
        found
    }
}

impl<'a> Scraped<'a> {
    /// The scrape request of a workload. None if it requests no scraping, or is a hostNetwork pod that policies do not
    /// isolate.
    fn of(namespace: &'a str, workload: &'a Workload) -> Option<Self> {
        let scrape = workload.scrape.as_ref()?;
        let names = scrape.names.as_ref().map_or(Names::AtLeast(&[]), |names| Names::Exactly(names));
        workload.host_network.is_none().then_some(Self { namespace, workload, port: scrape.port, names })
    }

    fn endpoint(self) -> Endpoint<'a> {
        Endpoint::of(self.namespace, self.workload)
    }

    /// The pods that request scraping and are known to be selected by the policy, each with its name.
    fn meant(case: &Case<'a>, policy: &'a Policy, looks: &mut usize) -> Vec<(String, Self)> {
        let mut places: Vec<&'a str> = match &policy.subject.namespaces {
            Namespaces::Own(name) => vec![name.as_deref().unwrap_or_default()],
            Namespaces::Matching(selector) => match selector.values_of(NAME_LABEL) {
                Some(names) => names.iter().map(|name| &**name).collect(),
                None if case.view.namespaces().len() > *looks => return Vec::new(),
                None => {
                    let all = case.view.namespaces();
                    *looks -= all.len();
                    all.map(|(name, _)| &**name).collect()
                }
            },
        };
        places.retain(|place| policy.subject.namespaces.mean(place, case.view) == Some(true));
        places.sort_unstable();
        let mut meant = Vec::new();
        for namespace in places {
            let running = case.view.namespace(namespace).map(NamespaceFacts::running).unwrap_or_default();
            let most = running.len().min(*looks);
            *looks -= most;
            for running in running.iter().take(most) {
                let Some(scraped) = Self::of(namespace, &running.workload) else { continue };
                if policy.subject.mean(&scraped.endpoint(), case.view) == Some(true) {
                    let slash = if namespace.is_empty() { "" } else { "/" };
                    let of = if &*running.kind == "Pod" { "" } else { "pods of " };
                    meant.push((text!("{of}{} {namespace}{slash}{}", running.kind, running.name), scraped));
                }
            }
        }
        meant
    }
}

/// Finds the policies that block the connection, if they are known to and no other rule may allow it.
fn stop<'a>(scene: Scene<'a>, scraped: Scraped<'a>, from: Endpoint<'a>, traffic: Traffic<'a>) -> Option<Blocked<'a>> {
    let question = Question {
        subject: Subject::One(scraped.endpoint()),
        direction: Direction::Ingress,
        other: End::Pod(from),
        traffic,
    };
    surely_stopped(scene, scene.policies(scraped.namespace), &question).and_then(|decision| match decision {
        Decision::Isolated(by) => Some(Blocked::Isolated(by)),
        Decision::Denied(by, rule) => Some(Blocked::Denied(by, &rule.path)),
        Decision::Open | Decision::Allowed(..) => None,
    })
}

/// The port as a suffix of a sentence; empty if it is unknown.
fn on(port: Option<u16>) -> String {
    port.map_or_else(String::new, |port| text!(" on port {port}"))
}

/// The port as the object of "allow".
fn port(port: Option<u16>) -> String {
    port.map_or_else(|| "the metrics port".to_owned(), |port| text!("TCP {port}"))
}
