//! See [`MonitoringBlocked`].

use super::blame::can_stop;
use super::near_miss::{NearMiss, Target, near_miss};
use super::well_known::WellKnown;
use super::{Case, Findings, Rule};
use crate::model::{
    Action, Decision, Direction, End, Endpoint, Labels, NAME_LABEL, Names, Namespaces, Path, Pods, Policy, Protocol,
    Question, Selector, Subject, Traffic, Workload,
};
use crate::view::{NamespaceFacts, Scene};

rule! {
    /// Pods ask to be scraped for metrics, are isolated for ingress, and nothing lets the monitoring namespace in.
    ///
    /// ## Why
    ///
    /// A target that cannot be scraped shows as one line in Prometheus that nobody looks at, and alerts on metrics that
    /// never arrive stay silent. What is wrong is seen when the metrics are needed.
    ///
    /// ## What it looks at
    ///
    /// Pods and templates of pods with the annotation `prometheus.io/scrape: "true"`, on the port of `prometheus.io/port`,
    /// or on any port where that is not said. It is asked of a policy that isolates such pods for ingress or denies it, and of
    /// such pods where policies are there already. All policies count, over all dialects. Pods on the network of the node are
    /// isolated by nobody.
    ///
    /// The pods of Prometheus are those of `prometheus` in the monitoring namespace: those that are known, or else any with
    /// such labels. Where it is not known whether a rule lets them in, such as one by addresses, by another label of theirs,
    /// or by the name of a port where the pods list none of their ports, nothing is said. Link-local addresses are those of
    /// no pod.
    ///
    /// In a cluster it is asked about policies. Pods and templates are judged in files: but for those on the network of the
    /// node, and pods that come before their baseline, a cluster sends none.
    ///
    /// - NetworkPolicy, Cilium, Calico: what isolates for ingress, and rules that deny.
    /// - ClusterNetworkPolicy: does not isolate; a rule of it that denies is reported, one that accepts counts.
    ///
    /// Of a policy of the cluster it is asked for pods of the namespaces that it is known to mean.
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
    /// - `prometheus`: `namespace` and `podLabels` of the pods that scrape. `monitoring` and
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

/// How many pods and namespaces one decision looks at.
const MOST_LOOKS: usize = 10_000;

/// For how many pods that differ it is asked what becomes of a scrape.
const MOST_ASKED: usize = 50;

/// How many of the pods that scrape are told apart.
const MOST_SCRAPING: usize = 4;

/// How many policies are named.
const MOST_NAMED: usize = 3;

/// Pods that ask to be scraped, and where.
#[derive(Clone, Copy)]
struct Scraped<'a> {
    namespace: &'a str,
    workload: &'a Workload,
    port: Option<u16>,
    names: Names<'a>,
}

/// What keeps the pods from being scraped.
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
        let (what, whom) = match &blocked {
            None => return,
            Some(Blocked::Isolated(by)) => {
                let mut names: Vec<String> = by.iter().map(|policy| policy.object.to_string()).collect();
                names.sort();
                names.dedup();
                names.truncate(MOST_NAMED);
                ("isolated for ingress by", names.join(" and "))
            }
            Some(Blocked::Denied(by, _)) => ("denied ingress by", by.object.to_string()),
        };
        let is_pod = &*object.id.kind == "Pod";
        let message = text!(
            "{} to be scraped{}, and {} {what} {whom}: nothing lets Prometheus ({}) in",
            if is_pod { "the pod asks" } else { "its pods ask" },
            on(scraped.port),
            if is_pod { "is" } else { "are" },
            self.prometheus
        );
        let help = text!(
            "let {} in from namespace {}, by a policy for these pods",
            port(scraped.port),
            self.prometheus.namespace
        );
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
            let (path, verb) = match self.blocked(case, case.supposing(), scraped) {
                Some(Blocked::Isolated(by)) if by.iter().any(|by| is_own(by)) => (&policy.ingress.path, "isolates"),
                Some(Blocked::Denied(by, path)) if is_own(by) => (path, "denies ingress to"),
                _ => continue,
            };
            let message = text!(
                "the policy {verb} pods of {name}, which ask to be scraped{}, and nothing lets Prometheus ({}) in",
                on(scraped.port),
                self.prometheus
            );
            let help = text!(
                "let {} in from namespace {}, in this policy or in another one for the same pods",
                port(scraped.port),
                self.prometheus.namespace
            );
            let near = self.nearest(case, case.supposing(), &policy.subject, scraped);
            let path = near.as_ref().and_then(|near| near.own_place(case)).unwrap_or(path).clone();
            let (closest, help) = near.map_or((None, help), |near| (Some(near.closest), near.cure));
            findings.add_with_closest::<Self>(case, path, message, closest, help, None);
            return;
        }
    }

    /// What keeps Prometheus from these pods, if it is known that nothing lets it in.
    fn blocked<'a>(&'a self, case: &Case<'a>, scene: Scene<'a>, scraped: Scraped<'a>) -> Option<Blocked<'a>> {
        let from = self.scraping(case);
        let traffic = match scraped.port {
            Some(number) => Traffic::Port { protocol: Protocol::Tcp, number, names: scraped.names },
            None => Traffic::SomePort,
        };
        let mut blocked = None;
        for (labels, complete) in from {
            let namespace = self.prometheus.namespace.as_str();
            let end = Endpoint {
                namespace,
                labels,
                complete,
                is_template: false,
                account: None,
                addresses: &[],
                services: &[],
            };
            blocked = Some(stop(scene, scraped, end, traffic)?);
        }
        blocked
    }

    /// The rule that came nearest to letting Prometheus in.
    fn nearest<'a>(
        &'a self,
        case: &Case<'a>,
        scene: Scene<'a>,
        pods: &Pods,
        scraped: Scraped<'a>,
    ) -> Option<NearMiss<'a>> {
        let (namespace, number) = (self.prometheus.namespace.as_str(), scraped.port?);
        let (labels, complete) = *self.scraping(case).first()?;
        let end =
            Endpoint { namespace, labels, complete, is_template: false, account: None, addresses: &[], services: &[] };
        let target = Target {
            name: "the Prometheus pods",
            port_of: "the metrics",
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
        near_miss(case, &scene.policies_for(pods), pods, Direction::Ingress, &target)
    }

    /// The labels of the pods that scrape, and whether these are all of them.
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
    /// What pods of a namespace ask for, if they do and a policy can keep them from it.
    fn of(namespace: &'a str, workload: &'a Workload) -> Option<Self> {
        let scrape = workload.scrape.as_ref()?;
        let names = scrape.names.as_ref().map_or(Names::AtLeast(&[]), |names| Names::Exactly(names));
        workload.host_network.is_none().then_some(Self { namespace, workload, port: scrape.port, names })
    }

    fn endpoint(self) -> Endpoint<'a> {
        Endpoint::of(self.namespace, self.workload)
    }

    /// The pods that ask and are known to be among those of a policy, each with its name.
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
                    meant.push((text!("{} {namespace}{slash}{}", running.kind, running.name), scraped));
                }
            }
        }
        meant
    }
}

/// What keeps an end from the pods, if something is known to and nothing may let it in.
fn stop<'a>(scene: Scene<'a>, scraped: Scraped<'a>, from: Endpoint<'a>, traffic: Traffic<'a>) -> Option<Blocked<'a>> {
    let question = Question {
        subject: Subject::One(scraped.endpoint()),
        direction: Direction::Ingress,
        other: End::Pod(from),
        traffic,
    };
    let answer = scene.ask(scene.policies(scraped.namespace), &question);
    let opens = |action: Action| matches!(action, Action::Allow | Action::Pass);
    let may_pass = answer.assumed.iter().any(|assumed| match assumed.rule {
        Some(rule) => opens(rule.action),
        None => assumed.policy.ingress.rules.iter().any(|rule| opens(rule.action)),
    });
    if may_pass {
        return None;
    }
    answer.decisions.into_iter().find_map(|decision| match decision {
        Decision::Isolated(by) => Some(Blocked::Isolated(by)),
        Decision::Denied(by, rule) => Some(Blocked::Denied(by, &rule.path)),
        Decision::Open | Decision::Allowed(..) => None,
    })
}

/// On which port, for the middle of a sentence.
fn on(port: Option<u16>) -> String {
    port.map_or_else(String::new, |port| text!(" on port {port}"))
}

/// Which port, as something that is let in.
fn port(port: Option<u16>) -> String {
    port.map_or_else(|| "the port of the metrics".to_owned(), |port| text!("TCP {port}"))
}
