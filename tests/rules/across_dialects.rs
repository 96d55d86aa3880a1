//! Rules are about what policies mean, in whichever dialect: the same question asked of Cilium, Calico and
//! ClusterNetworkPolicy, and of several dialects together. First of all where a rule must be silent.

use crate::objects::objects;
use crate::shipped::CONFIGURATION;
use crate::texts::{Texts, named};
use portcullis::config::Configuration;
use portcullis::engine::{Judgement, judge};
use portcullis::model::{Fix, Object};
use portcullis::rules::{Change, Occasion};
use portcullis::view::View;

const FILE: &str = "tests/rules/across_dialects.rs";

/// The findings of a rule in the last of the objects; the others are there already.
fn judged(rule: &str, yaml: &[String]) -> Vec<Judgement> {
    let mut objects: Vec<Object> = yaml.iter().flat_map(|yaml| objects(yaml)).collect();
    let new = objects.pop().unwrap();
    let view = View::of(objects);
    let verdict = judge(&CONFIGURATION, &view, Change::Write { new: &new, old: None }, Occasion::default());
    verdict.judgements.into_iter().filter(|judgement| judgement.finding.rule == rule).collect()
}

/// Checks the places at which a rule finds something in the last object of each case, and the texts.
#[track_caller]
fn check(section: &str, rule: &str, cases: &[(&[&str], Vec<String>)]) {
    let mut wrong = Vec::new();
    let texts = Texts::of(FILE, section);
    for (wanted, yaml) in cases {
        let judged = judged(rule, yaml);
        texts.add_all(&named(yaml), &judged);
        let found: Vec<String> = judged.iter().map(|judgement| judgement.finding.path.to_string()).collect();
        if found != *wanted {
            wrong.push(format!("wanted {wanted:?}, found {found:?}:\n{}", yaml.join("---\n")));
        }
    }
    assert!(wrong.is_empty(), "{rule}\n{}", wrong.join("\n"));
    texts.compare();
}

fn object(api_version: &str, kind: &str, metadata: &str, spec: &str) -> String {
    format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {{{metadata}}}\nspec: {spec}\n")
}

fn np(name: &str, spec: &str) -> String {
    object("networking.k8s.io/v1", "NetworkPolicy", &format!("name: {name}, namespace: shop"), spec)
}

fn cnp(spec: &str) -> String {
    object("cilium.io/v2", "CiliumNetworkPolicy", "name: cilium, namespace: shop", spec)
}

fn ccnp(name: &str, spec: &str) -> String {
    object("cilium.io/v2", "CiliumClusterwideNetworkPolicy", &format!("name: {name}"), spec)
}

fn calico(spec: &str) -> String {
    object("projectcalico.org/v3", "NetworkPolicy", "name: calico, namespace: shop", spec)
}

fn gnp(name: &str, spec: &str) -> String {
    object("projectcalico.org/v3", "GlobalNetworkPolicy", &format!("name: {name}"), spec)
}

fn tier(name: &str, spec: &str) -> String {
    object("projectcalico.org/v3", "Tier", &format!("name: {name}"), spec)
}

fn cluster(tier: &str, spec: &str) -> String {
    let spec = format!("{{tier: {tier}, priority: 10, {spec}}}");
    object("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy", "name: cluster", &spec)
}

fn namespace(labels: &str) -> String {
    format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop, labels: {{{labels}}}}}\n")
}

const NP_ISOLATES: &str = "{podSelector: {}, policyTypes: [Egress]}";
const NP_DNS: &str = "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: \
    {kubernetes.io/metadata.name: kube-system}}}], ports: [{protocol: UDP, port: 53}, {protocol: TCP, port: 53}]}]}";
const CILIUM_DNS: &str = "{toEndpoints: [{matchLabels: {k8s:io.kubernetes.pod.namespace: kube-system, k8s:k8s-app: kube-dns}}], \
    toPorts: [{ports: [{port: '53', protocol: ANY}]}]}";
const KUBE_DNS: &str = "k8s:io.kubernetes.pod.namespace: kube-system, k8s:k8s-app: kube-dns";
const SEEN: &str = ", rules: {dns: [{matchPattern: '*'}]}";
const CALICO_DNS: &str = "{action: Allow, protocol: UDP, destination: {namespaceSelector: \"projectcalico.org/name == \
    'kube-system'\", selector: \"k8s-app == 'kube-dns'\", ports: [53]}}";
const CLUSTER_DNS: &str = "subject: {namespaces: {}}, egress: [{action: Accept, to: [{pods: {namespaceSelector: {matchLabels: \
    {kubernetes.io/metadata.name: kube-system}}, podSelector: {matchLabels: {k8s-app: kube-dns}}}}], protocols: [{udp: \
    {destinationPort: {number: 53}}}, {tcp: {destinationPort: {number: 53}}}]}]";

#[test]
fn dns_in_cilium() {
    let all = |rest: &str| cnp(&format!("{{endpointSelector: {{}}, {rest}}}"));
    let by_label = "endpointSelector: {matchLabels: {io.cilium.k8s.namespace.labels.team: web}}";
    check(
        "DNS in Cilium",
        "dns-blocked",
        &[
            (&[], vec![all("ingress: [{fromEndpoints: [{}]}]")]),
            (&[], vec![all("egress: []")]),
            (&["spec.egress"], vec![all("egress: [{}]")]),
            (&["spec.egressDeny"], vec![all("egressDeny: [{toEntities: [world]}]")]),
            (&[], vec![all("enableDefaultDeny: {egress: false}, egress: [{toEntities: [world]}]")]),
            (&[], vec![all("egress: [{toEntities: [all]}]")]),
            (&[], vec![all("egress: [{toEntities: [cluster], toPorts: [{ports: [{port: '53'}]}]}]")]),
            (&["spec.egress"], vec![all("egress: [{toEntities: [world]}]")]),
            (&["spec.egress"], vec![all("egress: [{toCIDR: [0.0.0.0/0]}]")]),
            (&[], vec![all("egress: [{toPorts: [{ports: [{port: '53', protocol: UDP}]}]}]")]),
            // Two halves are all there is.
            (
                &[],
                vec![np(
                    "halves",
                    "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 0.0.0.0/1}}, {ipBlock: {cidr: \
                     128.0.0.0/1}}], ports: [{protocol: UDP, port: 53}]}]}",
                )],
            ),
            (&[], vec![all(&format!("egress: [{CILIUM_DNS}]"))]),
            (
                &[],
                vec![all(
                    "egress: [{toServices: [{k8sService: {serviceName: kube-dns, namespace: kube-system}}], toPorts: [{ports: \
                     [{port: '53'}]}]}]",
                )],
            ),
            // A denial comes before what is allowed. Somebody else's is not blamed on a policy.
            (
                &["spec.egressDeny[0]"],
                vec![all(&format!("egress: [{CILIUM_DNS}], egressDeny: [{{toEntities: [cluster]}}]"))],
            ),
            (
                &[],
                vec![
                    ccnp("deny", "{endpointSelector: {}, egressDeny: [{toEntities: [cluster]}]}"),
                    all(&format!("egress: [{CILIUM_DNS}]")),
                ],
            ),
            (&[], vec![all(&format!("egress: [{CILIUM_DNS}], egressDeny: [{{toEntities: [world]}}]"))]),
            // Of the cluster.
            (&["spec.egress"], vec![ccnp("web", &format!("{{{by_label}, egress: [{{toEntities: [world]}}]}}"))]),
            (
                &[],
                vec![
                    ccnp("dns", &format!("{{endpointSelector: {{}}, egress: [{CILIUM_DNS}]}}")),
                    ccnp("web", &format!("{{{by_label}, egress: [{{toEntities: [world]}}]}}")),
                ],
            ),
            // What one namespace has of its own says nothing of the others, but of itself.
            (
                &["spec.egress"],
                vec![np("dns", NP_DNS), ccnp("web", &format!("{{{by_label}, egress: [{{toEntities: [world]}}]}}"))],
            ),
            (
                &[],
                vec![
                    np("dns", NP_DNS),
                    ccnp(
                        "web",
                        "{endpointSelector: {matchLabels: {k8s:io.kubernetes.pod.namespace: shop}}, egress: [{toEntities: \
                         [world]}]}",
                    ),
                ],
            ),
        ],
    );
}

#[test]
fn dns_in_calico() {
    let all = |rest: &str| calico(&format!("{{selector: all(), types: [Egress], {rest}}}"));
    let secure = "{tier: security, order: 10, selector: all(), types: [Egress], egress: [{action: Allow, protocol: TCP, \
                  destination: {ports: [443]}}]}";
    check(
        "DNS in Calico",
        "dns-blocked",
        &[
            (&[], vec![calico("{selector: all(), types: [Ingress]}")]),
            (&["spec.egress"], vec![all("order: 10")]),
            (&[], vec![all(&format!("egress: [{CALICO_DNS}]"))]),
            (&[], vec![all(&format!("egress: [{CALICO_DNS}, {{action: Deny}}]"))]),
            (&["spec.egress[0]"], vec![all(&format!("egress: [{{action: Deny}}, {CALICO_DNS}]"))]),
            (&[], vec![all("egress: [{action: Allow, protocol: UDP, destination: {ports: [53]}}]")]),
            (&["spec.egress"], vec![all("egress: [{action: Log}]")]),
            // By the Service that leads there, and by no other.
            (
                &[],
                vec![all(
                    "egress: [{action: Allow, destination: {services: {name: kube-dns, namespace: kube-system}}}]",
                )],
            ),
            (
                &["spec.egress"],
                vec![all("egress: [{action: Allow, destination: {services: {name: kube-dns, namespace: shop}}}]")],
            ),
            (&[], vec![all("egress: [{action: Pass}]")]),
            // An order before that of NetworkPolicies decides first, one after it comes too late.
            (&["spec.egress[0]"], vec![np("dns", NP_DNS), all("order: 10, egress: [{action: Deny}]")]),
            (&[], vec![np("dns", NP_DNS), all("order: 2000, egress: [{action: Deny}]")]),
            (
                &[],
                vec![np("dns", NP_DNS), all("order: 10, egress: [{action: Deny, destination: {nets: [10.0.0.0/8]}}]")],
            ),
            // Each tier has to let it through.
            (&["spec.egress"], vec![tier("security", "{order: 100}"), np("dns", NP_DNS), gnp("security.web", secure)]),
            (
                &[],
                vec![
                    tier("security", "{order: 100, defaultAction: Pass}"),
                    np("dns", NP_DNS),
                    gnp("security.web", secure),
                ],
            ),
            (
                &[],
                vec![
                    tier("security", "{order: 100}"),
                    gnp(
                        "security.dns",
                        &format!(
                            "{{tier: security, order: 1, selector: all(), types: [Egress], egress: [{CALICO_DNS}]}}"
                        ),
                    ),
                    gnp("security.web", secure),
                ],
            ),
            // The own namespace is known, at least by its name.
            (
                &[],
                vec![all(&format!(
                    "egress: [{}]",
                    CALICO_DNS.replace(
                        "destination",
                        "source: {namespaceSelector: \"projectcalico.org/name == 'shop'\"}, destination"
                    )
                ))],
            ),
            // For some of the pods only.
            (
                &["spec.egress"],
                vec![
                    gnp("dns", &format!("{{selector: \"app == 'web'\", types: [Egress], egress: [{CALICO_DNS}]}}")),
                    calico("{selector: \"app in {'web', 'api'}\", types: [Egress]}"),
                ],
            ),
            (
                &[],
                vec![
                    gnp(
                        "dns",
                        &format!(
                            "{{selector: \"has(app)\", namespaceSelector: \"projectcalico.org/name == 'shop'\", types: [Egress], \
                         egress: [{CALICO_DNS}]}}"
                        ),
                    ),
                    calico("{selector: \"app in {'web', 'api'}\", types: [Egress]}"),
                ],
            ),
        ],
    );
}

#[test]
fn dns_over_several_dialects() {
    check(
        "DNS over several dialects",
        "dns-blocked",
        &[
            (&["spec.egress"], vec![np("isolates", NP_ISOLATES)]),
            (
                &[],
                vec![
                    ccnp("dns", &format!("{{endpointSelector: {{}}, egress: [{CILIUM_DNS}]}}")),
                    np("isolates", NP_ISOLATES),
                ],
            ),
            // For namespaces with a label: known, known not to, and not known.
            (
                &[],
                vec![
                    namespace("team: web"),
                    gnp(
                        "dns",
                        &format!("{{namespaceSelector: \"team == 'web'\", types: [Egress], egress: [{CALICO_DNS}]}}"),
                    ),
                    np("isolates", NP_ISOLATES),
                ],
            ),
            (
                &["spec.egress"],
                vec![
                    namespace("team: api"),
                    gnp(
                        "dns",
                        &format!("{{namespaceSelector: \"team == 'web'\", types: [Egress], egress: [{CALICO_DNS}]}}"),
                    ),
                    np("isolates", NP_ISOLATES),
                ],
            ),
            (
                &["spec.egress"],
                vec![
                    gnp(
                        "dns",
                        &format!("{{namespaceSelector: \"team == 'web'\", types: [Egress], egress: [{CALICO_DNS}]}}"),
                    ),
                    np("isolates", NP_ISOLATES),
                ],
            ),
            // The Admin tier decides before, the Baseline tier is not asked any more.
            (&[], vec![cluster("Admin", CLUSTER_DNS), np("isolates", NP_ISOLATES)]),
            (&["spec.egress"], vec![cluster("Baseline", CLUSTER_DNS), np("isolates", NP_ISOLATES)]),
            (
                &["spec.egress[0]"],
                vec![cluster(
                    "Admin",
                    "subject: {namespaces: {}}, egress: [{action: Deny, to: [{networks: [0.0.0.0/0]}]}]",
                )],
            ),
            (
                &[],
                vec![cluster(
                    "Admin",
                    "subject: {namespaces: {}}, egress: [{action: Pass, to: [{networks: [0.0.0.0/0]}]}]",
                )],
            ),
            // A policy that its agent leaves aside, or that is staged, serves nobody.
            (
                &["spec.egress"],
                vec![
                    ccnp(
                        "dns",
                        &format!(
                            "{{endpointSelector: {{}}, egress: [{CILIUM_DNS}, {{toFQDNs: [{{matchName: '*.a.b'}}]}}]}}"
                        ),
                    ),
                    np("isolates", NP_ISOLATES),
                ],
            ),
            (
                &["spec.egress"],
                vec![
                    object(
                        "projectcalico.org/v3",
                        "StagedGlobalNetworkPolicy",
                        "name: dns",
                        &format!("{{types: [Egress], egress: [{CALICO_DNS}]}}"),
                    ),
                    np("isolates", NP_ISOLATES),
                ],
            ),
        ],
    );
}

#[test]
fn any_port() {
    let cilium = |rest: &str| cnp(&format!("{{endpointSelector: {{}}, {rest}}}"));
    let from = |peers: &str, ports: &str| cilium(&format!("ingress: [{{{peers}{ports}}}]"));
    let allow = |rest: &str| calico(&format!("{{selector: all(), types: [Ingress], ingress: [{{{rest}}}]}}"));
    let peers = "source: {selector: \"app == 'web'\"}";
    let accept = |rest: &str| {
        cluster("Admin", &format!("subject: {{namespaces: {{}}}}, ingress: [{{from: [{{namespaces: {{}}}}], {rest}}}]"))
    };
    let at = &["spec.ingress[0]"];
    check(
        "any port",
        "any-port",
        &[
            (at, vec![from("fromEndpoints: [{}]", "")]),
            (at, vec![from("fromEntities: [cluster]", "")]),
            (at, vec![from("fromEndpoints: [{}]", ", toPorts: [{ports: [{port: '0'}]}]")]),
            (
                at,
                vec![from("fromEndpoints: [{}]", ", toPorts: [{ports: [{port: '1', endPort: 65535, protocol: TCP}]}]")],
            ),
            (&[], vec![from("fromEndpoints: [{}]", ", toPorts: [{ports: [{port: '80'}]}]")]),
            (&[], vec![from("fromEndpoints: [{}]", ", toPorts: [{ports: [{port: http}]}]")]),
            (&[], vec![from("fromEndpoints: [{}]", ", icmps: [{fields: [{type: 8}]}]")]),
            (&[], vec![from("fromEntities: [health]", "")]),
            (&[], vec![from("fromEntities: [host, remote-node, kube-apiserver]", "")]),
            (&[], vec![from("fromCIDR: [169.254.0.0/16]", "")]),
            // Istio's ambient mesh sends IPv6 probes from this address, and from no other of the block.
            (&[], vec![from("fromCIDR: ['fd16:9254:7127:1337:ffff:ffff:ffff:ffff/128']", "")]),
            (at, vec![from("fromCIDR: ['fd16:9254:7127:1337::/64']", "")]),
            (&[], vec![from("fromEndpoints: []", "")]),
            (&[], vec![cilium("ingress: [{}]")]),
            (&[], vec![cilium("ingressDeny: [{fromEntities: [world]}]")]),
            (&["spec.egress[0]"], vec![cilium("egress: [{toEntities: [host]}]")]),
            (&["spec.egress[0]"], vec![cilium("egress: [{toFQDNs: [{matchName: a.b}]}]")]),
            (at, vec![allow(&format!("action: Allow, {peers}"))]),
            (at, vec![allow(&format!("action: Allow, protocol: TCP, {peers}"))]),
            (at, vec![allow(&format!("action: Allow, protocol: TCP, {peers}, destination: {{notPorts: [22]}}"))]),
            (at, vec![allow(&format!("action: Allow, notProtocol: TCP, {peers}"))]),
            (&[], vec![allow(&format!("action: Allow, protocol: ICMP, {peers}"))]),
            (
                &[],
                vec![allow(&format!("action: Allow, protocol: TCP, {peers}, destination: {{ports: ['80:90', http]}}"))],
            ),
            (&[], vec![allow(&format!("action: Deny, {peers}"))]),
            (&[], vec![allow(&format!("action: Log, {peers}"))]),
            (&[], vec![allow("action: Allow, destination: {nets: [127.0.0.0/8]}")]),
            (&[], vec![allow("action: Allow, destination: {nets: ['::1/128', 'fe80::/10']}")]),
            (at, vec![allow("action: Allow, destination: {nets: [126.0.0.0/7]}")]),
            (&[], vec![allow("action: Allow, source: {nets: [169.254.0.0/16]}")]),
            (
                &[],
                vec![calico(
                    "{selector: all(), types: [Egress], egress: [{action: Allow, destination: {services: {name: db, \
                     namespace: shop}}}]}",
                )],
            ),
            (at, vec![accept("action: Accept")]),
            (
                at,
                vec![accept("action: Accept, protocols: [{tcp: {destinationPort: {range: {start: 1, end: 65535}}}}]")],
            ),
            (&[], vec![accept("action: Accept, protocols: [{tcp: {destinationPort: {number: 80}}}]")]),
            (&[], vec![accept("action: Deny")]),
            (&[], vec![accept("action: Pass")]),
        ],
    );
}

#[test]
fn what_is_passed_on_past_all_that_isolates_is_allowed() {
    let at = &["spec.ingress[0]"];
    let policy = |tier: &str, rule: &str| {
        calico(&format!("{{tier: {tier}, selector: app == 'a', types: [Ingress], ingress: [{rule}]}}"))
    };
    let pass = policy("default", "{action: Pass, source: {selector: app == 'web'}}");
    let later = |order: u32, rest: &str| {
        let security = tier("security", &format!("{{order: {order}{rest}}}"));
        format!("{security}---\n{}", gnp("later", "{tier: security, types: [Ingress]}"))
    };
    let baseline = |pods: &str, action: &str| {
        let from = "from: [{namespaces: {}}]";
        cluster("Baseline", &format!("subject: {{{pods}}}, ingress: [{{action: {action}, {from}}}]"))
    };
    let some = "pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: b}}}";
    check(
        "passed on: any port",
        "any-port",
        &[
            (at, vec![pass.clone()]),
            (&[], vec![policy("security", "{action: Pass}")]),
            (&[], vec![tier("security", "{order: 10}"), policy("security", "{action: Pass}")]),
            (&[], vec![policy("default", "{action: Pass, protocol: TCP, destination: {ports: [80]}}")]),
            (&[], vec![baseline("namespaces: {}", "Deny"), pass.clone()]),
            (at, vec![baseline("namespaces: {}", "Accept"), pass.clone()]),
            (at, vec![baseline(some, "Deny"), pass.clone()]),
            // What comes from outside of the cluster is not denied.
            (at, vec![baseline("namespaces: {}", "Deny"), policy("default", "{action: Pass}")]),
            (&[], vec![later(2_000_000, ""), pass.clone()]),
            (at, vec![later(2_000_000, ", defaultAction: Pass"), pass.clone()]),
            (at, vec![later(10, ""), pass.clone()]),
            (
                at,
                vec![
                    later(2_000_000, "").replace("types: [Ingress]", "types: [Ingress], ingress: [{action: Allow}]"),
                    pass,
                ],
            ),
        ],
    );
    let http = "protocol: TCP, destination: {ports: [80]}";
    check("passed on: ingress", "open-ingress", &[(at, vec![policy("default", &format!("{{action: Pass, {http}}}"))])]);
    let egress = |tier: &str| calico(&format!("{{tier: {tier}, types: [Egress], egress: [{{action: Pass, {http}}}]}}"));
    check(
        "passed on: egress",
        "metadata-egress",
        &[(&["spec.egress[0]"], vec![egress("default")]), (&[], vec![egress("security")])],
    );
}

#[test]
fn texts_name_what_a_rule_applies_to() {
    let texts = Texts::of(FILE, "texts");
    let any_port = |rule: &str| calico(&format!("{{types: [Ingress], ingress: [{rule}]}}"));
    let http = "protocols: [{tcp: {destinationPort: {number: 80}}}]";
    let networks = format!("egress: [{{action: Accept, to: [{{networks: [0.0.0.0/0, '128.0.0.0/1']}}], {http}}}]");
    for (rule, yaml) in [
        ("any-port", any_port("{action: Allow}")),
        ("any-port", any_port("{action: Pass}")),
        ("any-port", any_port("{action: Allow, destination: {selector: app == 'a', nets: [10.0.0.0/8]}}")),
        ("metadata-egress", cluster("Admin", &format!("subject: {{namespaces: {{}}}}, {networks}"))),
        (
            "metadata-egress",
            calico(
                "{types: [Egress], egress: [{action: Allow, protocol: TCP, destination: {nets: [0.0.0.0/0], ports: [80]}}]}",
            ),
        ),
        (
            "metadata-egress",
            np("p", "{podSelector: {}, egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0}}], ports: [{port: 80}]}]}"),
        ),
    ] {
        let yaml = [yaml];
        let judged = judged(rule, &yaml);
        assert_eq!(judged.len(), 1, "{rule}: {yaml:?}");
        texts.add_all(&named(&yaml), &judged);
    }
    texts.compare();
}

#[test]
fn open_ingress() {
    let cilium = |rule: &str| {
        cnp(&format!("{{endpointSelector: {{}}, ingress: [{{{rule}, toPorts: [{{ports: [{{port: '80'}}]}}]}}]}}"))
    };
    let allow = |source: &str| {
        calico(&format!(
            "{{selector: all(), types: [Ingress], ingress: [{{action: Allow, protocol: TCP, {source}destination: {{ports: \
             [80]}}}}]}}"
        ))
    };
    let only_ports = cnp("{endpointSelector: {}, ingress: [{toPorts: [{ports: [{port: '80'}]}]}]}");
    check(
        "open ingress",
        "open-ingress",
        &[
            (&["spec.ingress[0].fromEntities[0]"], vec![cilium("fromEntities: [world]")]),
            (&["spec.ingress[0].fromEntities[1]"], vec![cilium("fromEntities: [host, all]")]),
            (&["spec.ingress[0].fromCIDR[0]"], vec![cilium("fromCIDR: [0.0.0.0/0]")]),
            (&["spec.ingress[0]"], vec![only_ports]),
            (&["spec.ingress[0].fromEntities[0]"], vec![cilium("fromEntities: [cluster]")]),
            (&["spec.ingress[0].fromEntities[1]"], vec![cilium("fromEntities: [host, remote-node]")]),
            (&[], vec![cilium("fromEntities: [host, health, kube-apiserver]")]),
            (&[], vec![cilium("fromEntities: [cluster]").replace("namespace: shop", "namespace: kube-system")]),
            (&["spec.ingress[0].fromCIDR[1]"], vec![cilium("fromCIDR: ['::/1', '8000::/1']")]),
            (
                &["spec.ingress[0].fromCIDRSet[0]"],
                vec![cilium("fromCIDRSet: [{cidr: 0.0.0.0/0, except: [192.0.2.1/32]}]")],
            ),
            (&[], vec![cilium("fromEndpoints: [{}]")]),
            (&[], vec![cilium("fromCIDRSet: [{cidr: 0.0.0.0/0, except: [10.0.0.0/8]}]")]),
            (&["spec.ingress[0]"], vec![allow("")]),
            (&["spec.ingress[0].source.nets[0]"], vec![allow("source: {nets: [0.0.0.0/0]}, ")]),
            (&[], vec![allow("source: {nets: [0.0.0.0/0], selector: all()}, ")]),
            (&["spec.ingress[0].source"], vec![allow("source: {namespaceSelector: all()}, ")]),
            (&[], vec![allow("source: {namespaceSelector: all(), selector: app == 'a'}, ")]),
            (&["spec.ingress[0].source.nets[1]"], vec![allow("source: {nets: [0.0.0.0/1, 128.0.0.0/1]}, ")]),
            (
                &[],
                vec![
                    allow("source: {nets: [0.0.0.0/1]}, ").replace("Allow", "Deny"),
                    allow("source: {nets: [128.0.0.0/1]}, "),
                ],
            ),
            (&["spec.ingress[0].source.notNets"], vec![allow("source: {notNets: [192.0.2.0/24]}, ")]),
            (&[], vec![allow("source: {notNets: [10.0.0.0/8]}, ")]),
            (
                &["spec.ingress[0].source"],
                vec![gnp(
                    "all-but",
                    "{types: [Ingress], ingress: [{action: Allow, protocol: TCP, source: {notSelector: \"app == 'x'\"}, \
                     destination: {ports: [80]}}]}",
                )],
            ),
            (
                &[],
                vec![cluster(
                    "Admin",
                    "subject: {namespaces: {}}, ingress: [{action: Accept, from: [{namespaces: {}}]}]",
                )],
            ),
        ],
    );
}

#[test]
fn metadata_egress() {
    let cilium = |rest: &str| cnp(&format!("{{endpointSelector: {{}}, {rest}}}"));
    let http = "toPorts: [{ports: [{port: '80', protocol: TCP}]}]";
    let allow = |destination: &str| {
        calico(&format!(
            "{{selector: all(), types: [Egress], egress: [{{action: Allow, protocol: TCP, destination: {{{destination}ports: \
             [80]}}}}]}}"
        ))
    };
    check(
        "metadata egress",
        "metadata-egress",
        &[
            (&["spec.egress[0].toEntities[0]"], vec![cilium(&format!("egress: [{{toEntities: [world], {http}}}]"))]),
            (&["spec.egress[0].toCIDR[0]"], vec![cilium(&format!("egress: [{{toCIDR: [169.254.0.0/16], {http}}}]"))]),
            (&["spec.egress[0]"], vec![cilium(&format!("egress: [{{{http}}}]"))]),
            (&[], vec![cilium("egress: [{toEntities: [world], toPorts: [{ports: [{port: '443'}]}]}]")]),
            (&[], vec![cilium(&format!("egress: [{{toEntities: [cluster], {http}}}]"))]),
            (
                &[],
                vec![cilium(&format!(
                    "egress: [{{toCIDRSet: [{{cidr: 0.0.0.0/0, except: [169.254.0.0/16]}}], {http}}}]"
                ))],
            ),
            // What is denied is not reached, whoever denies it, as long as all pods are meant.
            (
                &[],
                vec![cilium(&format!(
                    "egress: [{{toEntities: [world], {http}}}], egressDeny: [{{toCIDR: [169.254.169.254/32, \
                     'fd00:ec2::254/128']}}]"
                ))],
            ),
            (
                &[],
                vec![
                    ccnp("deny", "{endpointSelector: {}, egressDeny: [{toCIDR: [169.254.0.0/16, 'fd00:ec2::/32']}]}"),
                    cilium(&format!("egress: [{{toEntities: [world], {http}}}]")),
                ],
            ),
            (
                &["spec.egress[0].toEntities[0]"],
                vec![
                    ccnp(
                        "deny",
                        "{endpointSelector: {matchLabels: {app: web}}, egressDeny: [{toCIDR: [169.254.0.0/16, \
                         'fd00:ec2::/32']}]}",
                    ),
                    cilium(&format!("egress: [{{toEntities: [world], {http}}}]")),
                ],
            ),
            (&["spec.egress[0]"], vec![allow("")]),
            (&["spec.egress[0].destination.nets[0]"], vec![allow("nets: [0.0.0.0/0], ")]),
            (&[], vec![allow("nets: [0.0.0.0/0], notNets: [169.254.169.254/32], ")]),
            (&[], vec![allow("selector: all(), ")]),
            (
                &["spec.egress[0].to[0].networks[0]"],
                vec![cluster(
                    "Admin",
                    "subject: {namespaces: {}}, egress: [{action: Accept, to: [{networks: [0.0.0.0/0]}], protocols: [{tcp: \
                     {destinationPort: {number: 80}}}]}]",
                )],
            ),
        ],
    );
}

#[test]
fn other_rules() {
    let ports = "toPorts: [{ports: [{port: '80'}]}]";
    let from = |peers: &str| cnp(&format!("{{endpointSelector: {{}}, ingress: [{{{peers}, {ports}}}]}}"));
    check(
        "addresses",
        "hardcoded-address",
        &[
            (&["spec.ingress[0].fromCIDR[1]"], vec![from("fromCIDR: [169.254.0.0/16, 10.0.0.0/8]")]),
            (&["spec.ingress[0].fromCIDRSet[0]"], vec![from("fromCIDRSet: [{cidr: 10.0.0.0/8}]")]),
            (
                &["spec.ingress[0].fromCIDR[1]"],
                vec![from("fromCIDR: ['fd16:9254:7127:1337:ffff:ffff:ffff:ffff/128', 'fd16:9254:7127:1337::/64']")],
            ),
            (&[], vec![from("fromCIDR: [0.0.0.0/0]")]),
            (
                &["spec.egress[0].destination.nets[0]"],
                vec![gnp(
                    "out",
                    "{types: [Egress], egress: [{action: Allow, protocol: TCP, destination: {nets: [10.1.2.3/32], ports: \
                     [443]}}]}",
                )],
            ),
        ],
    );
    check(
        "peers",
        "split-peer",
        &[
            (
                &["spec.ingress[0].fromEndpoints"],
                vec![from(
                    "fromEndpoints: [{matchLabels: {k8s:io.kubernetes.pod.namespace: web}}, {matchLabels: {app: frontend}}]",
                )],
            ),
            (
                &[],
                vec![from(
                    "fromEndpoints: [{matchLabels: {k8s:io.kubernetes.pod.namespace: web, app: frontend}}, {matchLabels: \
                     {app: x}}]",
                )],
            ),
            (&[], vec![from("fromEndpoints: [{matchLabels: {k8s:io.kubernetes.pod.namespace: web}}, {}]")]),
        ],
    );
    check(
        "types",
        "implicit-policy-types",
        &[
            (&[], vec![calico(&format!("{{selector: all(), egress: [{CALICO_DNS}]}}"))]),
            (&["spec.egress"], vec![calico(&format!("{{selector: all(), types: [Ingress], egress: [{CALICO_DNS}]}}"))]),
            (&[], vec![cnp(&format!("{{endpointSelector: {{}}, egress: [{CILIUM_DNS}]}}"))]),
            (
                &[],
                vec![cnp(&format!(
                    "{{endpointSelector: {{}}, enableDefaultDeny: {{egress: false}}, egress: [{CILIUM_DNS}]}}"
                ))],
            ),
            (&["spec.egress"], vec![cnp("{endpointSelector: {}, ingress: [{}], egress: []}")]),
            (&["spec.egress"], vec![calico("{selector: all(), types: [Ingress], egress: []}")]),
            (&["spec.types"], vec![calico("{selector: all(), egress: []}")]),
            (&["spec.types"], vec![calico("{selector: all(), ingress: [{action: Allow}], egress: []}")]),
            (&[], vec![calico("{selector: all(), ingress: []}")]),
            (
                &["spec.types"],
                vec![
                    calico(&format!("{{selector: all(), egress: [{CALICO_DNS}]}}"))
                        .replace("projectcalico.org/v3", "crd.projectcalico.org/v1"),
                ],
            ),
        ],
    );
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: shop}\nspec: {hostNetwork: true}\n";
    let isolates = |selector: &str| ccnp("isolates", &format!("{{endpointSelector: {selector}, ingress: [{{}}]}}"));
    check(
        "isolated by a policy",
        "host-network",
        &[
            (&["spec.hostNetwork"], vec![isolates("{}"), pod.into()]),
            (
                &["spec.hostNetwork"],
                vec![isolates("{matchLabels: {k8s:io.kubernetes.pod.namespace: shop}}"), pod.into()],
            ),
            (&[], vec![isolates("{matchLabels: {k8s:io.kubernetes.pod.namespace: other}}"), pod.into()]),
            (&[], vec![isolates("{matchLabels: {app: web}}"), pod.into()]),
            (&[], vec![isolates("{matchLabels: {io.cilium.k8s.namespace.labels.team: web}}"), pod.into()]),
        ],
    );
    let in_tier = |rest: &str, rules: &str| {
        let policy = gnp("security.b", &format!("{{tier: security, types: [Ingress], ingress: [{rules}]}}"));
        vec![tier("security", &format!("{{order: 1{rest}}}")), policy, pod.into()]
    };
    let denies = "{action: Deny, source: {nets: [192.0.2.1/32]}}";
    check(
        "isolated by a tier",
        "host-network",
        &[
            (&["spec.hostNetwork"], in_tier("", denies)),
            (&[], in_tier(", defaultAction: Pass", denies)),
            (&[], in_tier("", &format!("{denies}, {{action: Pass}}"))),
        ],
    );
}

#[test]
fn names_need_lookups_that_are_seen() {
    let dns = |rules: &str| {
        format!(
            "{{toEndpoints: [{{matchLabels: {{k8s:io.kubernetes.pod.namespace: kube-system}}}}], toPorts: [{{ports: [{{port: \
             '53'}}]{rules}}}]}}"
        )
    };
    let names = |dns: &str, fqdn: &str| {
        let to = format!("{{toFQDNs: [{fqdn}], toPorts: [{{ports: [{{port: '443'}}]}}]}}");
        cnp(&format!("{{endpointSelector: {{}}, egress: [{dns}, {to}]}}"))
    };
    let seen = |pattern: &str| dns(&format!(", rules: {{dns: [{pattern}]}}"));
    let to = |labels: &str, port: &str, rules: &str| {
        format!("{{toEndpoints: [{{matchLabels: {{{labels}}}}}], toPorts: [{{ports: [{port}]{rules}}}]}}")
    };
    let at = &["spec.egress[1].toFQDNs[0]"];
    let shop_wide = |subject: &str| {
        ccnp("dns", &format!("{{endpointSelector: {subject}, egress: [{}]}}", seen("{matchPattern: '*'}")))
    };
    check(
        "FQDNs",
        "fqdn-without-dns",
        &[
            (at, vec![names(&dns(""), "{matchName: a.example.com}")]),
            (&[], vec![names(&seen("{matchPattern: '*'}"), "{matchName: a.example.com}")]),
            (&[], vec![names(&seen("{matchName: A.example.com.}"), "{matchName: a.example.com}")]),
            (&[], vec![names(&seen("{matchPattern: '*.example.com'}"), "{matchPattern: 'a*.example.com'}")]),
            (at, vec![names(&seen("{matchPattern: '*.example.org'}"), "{matchName: a.example.com}")]),
            (at, vec![names(&seen("{matchPattern: '*.example.com'}"), "{matchName: a.b.example.com}")]),
            (&[], vec![shop_wide("{}"), names(&dns(""), "{matchName: a.example.com}")]),
            (at, vec![shop_wide("{matchLabels: {app: web}}"), names(&dns(""), "{matchName: a.example.com}")]),
            // Lookups go to the proxy by where they go, by protocol and by port.
            (at, vec![names(&to(KUBE_DNS, "{port: '53', protocol: TCP}", SEEN), "{matchName: a.example.com}")]),
            (&[], vec![names(&to(KUBE_DNS, "{port: '53', protocol: UDP}", SEEN), "{matchName: a.example.com}")]),
            (&[], vec![names(&to(KUBE_DNS, "{port: dns, protocol: UDP}", SEEN), "{matchName: a.example.com}")]),
            (at, vec![names(&to(KUBE_DNS, "{port: '5353'}", SEEN), "{matchName: a.example.com}")]),
            (at, vec![names(&to("app: dns", "{port: '53'}", SEEN), "{matchName: a.example.com}")]),
            // There may be such a label on the DNS pods.
            (&[], vec![names(&to(&format!("{KUBE_DNS}, a: b"), "{port: '53'}", SEEN), "{matchName: a.example.com}")]),
            // Names of the cluster's own policies need no rules for DNS.
            (
                &[],
                vec![cluster(
                    "Admin",
                    "subject: {namespaces: {}}, egress: [{action: Accept, to: [{domainNames: [a.example.com]}]}]",
                )],
            ),
        ],
    );
}

/// The fix for FQDNs without observed lookups, as the lists of ports that it changes. The help is in the golden texts.
fn offered(texts: &Texts, egress: &str) -> Option<Vec<String>> {
    let name = "{toFQDNs: [{matchName: a.b.example.com}], toPorts: [{ports: [{port: '443'}]}]}";
    let object = objects(&cnp(&format!("{{endpointSelector: {{}}, egress: [{name}, {egress}]}}"))).remove(0);
    let change = Change::Write { new: &object, old: None };
    let verdict = judge(&CONFIGURATION, &View::default(), change, Occasion::default());
    let mut judgements = verdict.judgements.into_iter();
    let judgement = judgements.find(|judgement| judgement.finding.rule == "fqdn-without-dns").unwrap();
    texts.add_all(egress, [&judgement]);
    judgement.finding.fix.map(|fix| match fix {
        Fix::WatchLookups { lists } => lists.iter().map(ToString::to_string).collect(),
        other => panic!("{other:?}"),
    })
}

#[test]
fn what_is_offered_lets_lookups_be_seen() {
    let texts = Texts::of(FILE, "fixes for FQDNs");
    let lists = |egress: &str| offered(&texts, egress);
    let to_dns = |entries: &str| format!("{{toEndpoints: [{{matchLabels: {{{KUBE_DNS}}}}}], toPorts: [{entries}]}}");
    let (tcp, udp) = ("{ports: [{port: '53', protocol: TCP}]", "{ports: [{port: '53', protocol: UDP}]");
    let entries = |entries: &[&str]| Some(entries.iter().map(|entry| format!("spec.egress{entry}.ports")).collect());
    assert_eq!(lists(&to_dns(&format!("{tcp}}}, {udp}}}"))), entries(&["[1].toPorts[0]", "[1].toPorts[1]"]));
    let apart = format!("{}, {}", to_dns(&format!("{udp}}}")), to_dns(&format!("{tcp}}}")));
    assert_eq!(lists(&apart), entries(&["[1].toPorts[0]", "[2].toPorts[0]"]));
    let both = "{ports: [{port: '53', protocol: UDP}, {port: '53', protocol: TCP}]}, {ports: [{port: '9153'}]}";
    assert_eq!(lists(&to_dns(both)), entries(&["[1].toPorts[0]"]), "the proxy takes nothing but lookups");
    assert_eq!(lists(&to_dns(&format!("{tcp}}}"))), None, "over TCP alone it sees next to nothing");
    assert_eq!(lists(&to_dns(&format!("{tcp}}}, {{ports: [{{port: '53'}}, {{port: '9153'}}]}}"))), None);
    assert_eq!(lists("{toEndpoints: [{matchLabels: {app: dns}}], toPorts: [{ports: [{port: '53'}]}]}"), None);
    // The help names existing DNS rules that do not cover the lookup.
    assert_eq!(lists(&to_dns(&format!("{tcp}{SEEN}}}, {udp}}}"))), entries(&["[1].toPorts[1]"]));
    let narrow = |patterns: &str| lists(&to_dns(&format!("{udp}, rules: {{dns: [{patterns}]}}}}, {tcp}}}")));
    assert_eq!(narrow("{matchPattern: '*.example.com'}"), None);
    let several = "{matchName: a.com}, {matchName: b.com}, {matchName: a.com}, {matchName: c.com}, {matchName: d.com}";
    assert_eq!(narrow(several), None);
    texts.compare();
}

#[test]
fn what_the_platform_needs() {
    let of = |name: &str, spec: &str| {
        object("networking.k8s.io/v1", "NetworkPolicy", &format!("name: {name}, namespace: kube-public"), spec)
    };
    let namespace = |labels: &str| {
        format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: kube-public, labels: {{{labels}}}}}\n")
    };
    let isolates = "{podSelector: {}, policyTypes: [Ingress]}";
    let prometheus = "{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{namespaceSelector: {matchLabels: \
        {kubernetes.io/metadata.name: monitoring}}}], ports: [{port: 9090}]}]}";
    let mesh = "istio.io/dataplane-mode: ambient";
    let at = "spec.ingress";
    check(
        "platform flows",
        "platform-flow-missing",
        &[
            (&[at], vec![of("isolates", isolates)]),
            // It is no namespace of the platform.
            (&[], vec![np("isolates", isolates)]),
            (&[], vec![of("isolates", "{podSelector: {}, policyTypes: [Egress]}")]),
            (&[], vec![of("prometheus", prometheus)]),
            (&[], vec![of("prometheus", prometheus), of("isolates", isolates)]),
            (
                &[],
                vec![
                    gnp(
                        "prometheus",
                        "{types: [Ingress], ingress: [{action: Allow, protocol: TCP, source: {namespaceSelector: \
                    \"projectcalico.org/name == 'monitoring'\"}, destination: {ports: [metrics]}}]}",
                    ),
                    of("isolates", isolates),
                ],
            ),
            // Pods with other labels are not served by it.
            (
                &[at],
                vec![
                    of("prometheus", &prometheus.replacen("{}", "{matchLabels: {app: web}}", 1)),
                    of("isolates", isolates),
                ],
            ),
            // In the mesh: probes and HBONE too, in and out.
            (&[at, at], vec![namespace(mesh), of("prometheus", prometheus)]),
            (&[], vec![namespace("istio.io/dataplane-mode: none"), of("prometheus", prometheus)]),
            (
                &[],
                vec![
                    namespace(mesh),
                    of(
                        "mesh",
                        "{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{ipBlock: {cidr: \
                        169.254.7.127/32}}]}, {ports: [{port: 15008}]}]}",
                    ),
                    of("prometheus", prometheus),
                ],
            ),
            // The tunnel connects pods of the mesh, and a policy may name them by the label of their namespaces.
            (
                &[],
                vec![
                    namespace(mesh),
                    of(
                        "mesh",
                        "{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{from: [{ipBlock: {cidr:                         'fd16:9254:7127:1337:ffff:ffff:ffff:ffff/128'}}]}, {from: [{namespaceSelector: {matchLabels:                         {istio.io/dataplane-mode: ambient}}}], ports: [{port: 15008}]}], egress: [{to: [{namespaceSelector:                         {matchLabels: {istio.io/dataplane-mode: ambient}}}], ports: [{port: 15008}]}]}",
                    ),
                    of("prometheus", prometheus),
                ],
            ),
            (&["spec.egress"], vec![namespace(mesh), of("out", "{podSelector: {}, policyTypes: [Egress]}")]),
            // A denial of every port is one, however it is written.
            (
                &["spec.ingressDeny[0]"],
                vec![object(
                    "cilium.io/v2",
                    "CiliumNetworkPolicy",
                    "name: deny, namespace: kube-public",
                    "{endpointSelector: {}, enableDefaultDeny: {ingress: false}, ingressDeny: [{fromEntities: [all], toPorts: \
                     [{ports: [{port: '0', protocol: ANY}]}]}]}",
                )],
            ),
        ],
    );
}

#[test]
fn fields_that_are_not_known() {
    check(
        "unknown fields",
        "unknown-field",
        &[
            (&["spec.ingres"], vec![np("typo", "{podSelector: {}, policyTypes: [Ingress], ingres: []}")]),
            (
                &["spec.ingress[0].ports[0].prot"],
                vec![np("typo", "{podSelector: {}, policyTypes: [Ingress], ingress: [{ports: [{prot: 80}]}]}")],
            ),
            (&["sepc"], vec![np("typo", "{podSelector: {}}").replace("spec:", "sepc:")]),
            (&["spec.egress[0].toPort"], vec![cnp("{endpointSelector: {}, egress: [{toPort: []}]}")]),
            (
                &["spec.ingress[0].source.select"],
                vec![calico("{selector: all(), ingress: [{action: Deny, source: {select: all()}}]}")],
            ),
            (
                &["spec.subject.namespaces.matchLabel"],
                vec![cluster(
                    "Admin",
                    "subject: {namespaces: {matchLabel: {a: b}}}, ingress: [{action: Deny, from: [{namespaces: {}}]}]",
                )],
            ),
            (&[], vec![np("fine", NP_DNS)]),
            (&[], vec![cnp(&format!("{{endpointSelector: {{}}, egress: [{CILIUM_DNS}]}}"))]),
            (&[], vec![calico(&format!("{{selector: all(), egress: [{CALICO_DNS}]}}"))]),
            (&[], vec![cluster("Baseline", CLUSTER_DNS)]),
        ],
    );
}

/// Somebody else's denial of one way to DNS says nothing about another way that the policy itself does not open.
#[test]
fn a_denial_of_one_way_excuses_no_other() {
    let configuration = Configuration::read(
        "apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\nclusterDNS:\n- {namespace: kube-system, podLabels: {k8s-app: \
         kube-dns}}\n- {addresses: [169.254.20.10]}\n",
    )
    .unwrap();
    let guard =
        cluster("Admin", "subject: {namespaces: {}}, egress: [{action: Deny, to: [{networks: [169.254.0.0/16]}]}]");
    let isolates = objects(&np("isolates", NP_ISOLATES)).remove(0);
    let view = View::of(objects(&guard));
    let verdict = judge(&configuration, &view, Change::Write { new: &isolates, old: None }, Occasion::default());
    let texts = Texts::of(FILE, "two ways to DNS");
    texts.add_all("two ways, one of them denied", &verdict.judgements);
    texts.compare();
    let found: Vec<_> = verdict.judgements.iter().map(|judgement| judgement.finding.rule).collect();
    assert_eq!(found, ["dns-blocked"]);
}

/// What costs much on purpose is given up, and what is not proved is not taken for true.
#[test]
fn tiers_of_many_passes_are_judged() {
    let rules = |key: usize| {
        let each = (0..60).map(|n| format!("{{action: Pass, source: {{selector: \"k{key} == 'v{n}'\"}}}}, {{action: Deny, source: {{selector: \"d{key} == 'v{n}'\"}}}}"));
        each.collect::<Vec<_>>().join(", ")
    };
    let mut yaml: Vec<String> = Vec::new();
    for key in 0..6 {
        yaml.push(tier(&format!("t{key}"), &format!("{{order: {key}}}")));
        let spec = format!("{{tier: t{key}, selector: all(), types: [Egress], egress: [{}]}}", rules(key));
        yaml.push(gnp(&format!("t{key}.passes"), &spec));
    }
    assert!(!judged("dns-blocked", &yaml).is_empty());
}
