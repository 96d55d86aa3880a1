//! The kinds that are judged, and every field of them that means something.

mod workload;

use workload::{CONTROLLER, POD, TEMPLATE};

use crate::grammar::Shape::{self, CalicoSelector, Either, Flag, List, Map, Number, Object, Port, Text};
use crate::grammar::VALUES;

/// A kind of object.
pub(crate) struct Kind {
    pub(crate) api_version: &'static str,
    pub(crate) kind: &'static str,
    /// The part of the manifest beside `metadata`, or the pod template in it.
    pub(crate) field: &'static str,
    pub(crate) shape: &'static Shape,
    pub(crate) is_namespaced: bool,
}

const fn kind(api_version: &'static str, kind: &'static str, shape: &'static Shape, is_namespaced: bool) -> Kind {
    Kind { api_version, kind, field: "spec", shape, is_namespaced }
}

/// Every kind. Policies come first, and the first ones of them are the most common.
pub(crate) const KINDS: &[Kind] = &[
    kind("networking.k8s.io/v1", "NetworkPolicy", KUBERNETES, true),
    kind("cilium.io/v2", "CiliumNetworkPolicy", CILIUM, true),
    kind("projectcalico.org/v3", "NetworkPolicy", CALICO, true),
    kind("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy", CLUSTER, false),
    kind("cilium.io/v2", "CiliumClusterwideNetworkPolicy", CILIUM, false),
    Kind { field: "specs", ..kind("cilium.io/v2", "CiliumNetworkPolicy", &List(CILIUM), true) },
    kind("projectcalico.org/v3", "GlobalNetworkPolicy", CALICO, false),
    kind("projectcalico.org/v3", "StagedNetworkPolicy", CALICO, true),
    kind("projectcalico.org/v3", "StagedGlobalNetworkPolicy", CALICO, false),
    kind("projectcalico.org/v3", "StagedKubernetesNetworkPolicy", KUBERNETES, true),
    kind("crd.projectcalico.org/v1", "NetworkPolicy", CALICO, true),
    kind("crd.projectcalico.org/v1", "GlobalNetworkPolicy", CALICO, false),
    kind("policy.networking.k8s.io/v1alpha1", "AdminNetworkPolicy", ADMIN, false),
    kind("policy.networking.k8s.io/v1alpha1", "BaselineAdminNetworkPolicy", ADMIN, false),
    kind("projectcalico.org/v3", "Tier", TIER, false),
    kind("v1", "Namespace", &Object(&[]), false),
    kind("v1", "Pod", POD, true),
    kind("apps/v1", "Deployment", CONTROLLER, true),
    kind("apps/v1", "DaemonSet", CONTROLLER, true),
    kind(
        "batch/v1",
        "CronJob",
        &Object(&[("jobTemplate", &Object(&[("metadata", METADATA), ("spec", CONTROLLER)]))]),
        true,
    ),
    Kind { field: "template", ..kind("v1", "PodTemplate", TEMPLATE, true) },
];

/// Metadata without name and namespace.
pub(crate) const METADATA: &Shape = &Object(&[
    ("labels", &Map(LABELS)),
    (
        "annotations",
        &Object(&[
            (
                "network-policy.portcullis.dev/exempt",
                &Text(&["any-port", "any-port,dns-blocked", "nothing", "*", ",,,", ""]),
            ),
            ("network-policy.portcullis.dev/reason", &Text(&["because", ""])),
            ("network-policy.portcullis.dev/until", &Text(TIMES)),
            ("network-policy.portcullis.dev/opened-by", &Text(&["mallory", "ada", ""])),
            ("prometheus.io/scrape", &Text(&["true", "false", "yes"])),
            ("prometheus.io/port", &Text(&["9090", "http", "-1", "99999"])),
        ]),
    ),
    ("deletionTimestamp", &Text(TIMES)),
    ("creationTimestamp", &Text(TIMES)),
    ("finalizers", &List(&Text(&["foregroundDeletion", "f%"]))),
    ("ownerReferences", &List(&Object(&[("kind", &Text(&["Deployment", "Node"])), ("name", &Text(VALUES))]))),
    (
        "managedFields",
        &List(&Object(&[
            ("operation", &Text(&["Apply", "Update"])),
            (
                "fieldsV1",
                &Object(&[("f:spec", &Object(&[("f:policyTypes", &Object(&[])), ("f:egress", &Object(&[]))]))]),
            ),
        ])),
    ),
]);

/// The same with several labels of Portcullis and of pods.
const LABELS: &[&str] = &[
    "app",
    "app%",
    "k8s-app",
    "team",
    "kubernetes.io/metadata.name",
    "network-policy.portcullis.dev/profile",
    "network-policy.portcullis.dev/enforcement",
    "network-policy.portcullis.dev/baseline",
    "access.network-policy.portcullis.dev/postgres",
    "network-policy.portcullis.dev/layer",
    "app.kubernetes.io/name",
    "",
];

const TIMES: &[&str] = &[
    "2026-11-29T00:00:00Z",
    "2099-01-01T00:00:00+01:00",
    "0000-00-00T00:00:00Z",
    "9999-12-31T23:59:60Z",
    "tomorrow",
    "",
];

const KEYS: &[&str] = &["app", "app%", "k8s-app", "team", "kubernetes.io/metadata.name", "a/b", "", "k%"];
const SELECTOR: &Shape = &Object(&[
    ("matchLabels", &Map(KEYS)),
    (
        "matchExpressions",
        &List(&Object(&[
            ("key", &Text(KEYS)),
            ("operator", &Text(&["In", "NotIn", "Exists", "DoesNotExist", "In", "NotIn", "Gt"])),
            ("values", &List(&Text(VALUES))),
        ])),
    ),
]);
const CIDR: &Shape = &Text(&[
    "10.%.%.%/32",
    "10.0.0.0/8",
    "0.0.0.0/0",
    "::/0",
    "192.168.0.0/16",
    "10.%.%.%/30",
    "fd00:ec2::254/128",
    "169.254.169.254/32",
    "fd00::%/128",
    "10.0.0.1",
    "10.0.0.1/8",
    "010.0.0.0/8",
    "10.0.0.0/33",
    "1::ffff:10.0.0.0/97",
    "",
    "10.96.0.10/32",
]);
const BLOCK: &Shape = &Object(&[
    ("cidr", CIDR),
    ("except", &List(CIDR)),
    ("cidrGroupRef", &Text(VALUES)),
    ("cidrGroupSelector", SELECTOR),
]);
const PROTOCOL: &Shape = &Text(&["TCP", "UDP", "SCTP", "ANY", "ICMP", "ICMPv6", "tcp", "UDPLite", "VRRP", ""]);
const PORT: &Shape = &Either(&[
    &Port,
    &Number(&[53, 80, 443, 8080, 9090, 0, 1, 65_535, 65_536, -1]),
    &Text(&["dns", "http", "53", "80", "p%", "1%", "0", "", "dns-tcp", "1:65535", "53:54", "%:65535", "99999"]),
]);
const END: &Shape = &Either(&[&Number(&[65_535, 53, 0, 1, 443, 70_000, -1, i64::MAX]), &Port]);
const ANY_PORTS: &Shape = &List(&Object(&[("protocol", PROTOCOL), ("port", PORT), ("endPort", END)]));
const TYPES: &Shape = &List(&Text(&["Ingress", "Egress", "ingress", "Other"]));

const KUBERNETES: &Shape = &Object(&[
    ("podSelector", SELECTOR),
    ("policyTypes", TYPES),
    ("ingress", &List(&Object(&[("from", &List(PEER)), ("ports", ANY_PORTS)]))),
    ("egress", &List(&Object(&[("to", &List(PEER)), ("ports", ANY_PORTS)]))),
    ("stagedAction", &Text(&["Set", "Delete", "Ignore"])),
]);
const PEER: &Shape = &Object(&[("podSelector", SELECTOR), ("namespaceSelector", SELECTOR), ("ipBlock", BLOCK)]);

const CILIUM_KEYS: &[&str] = &[
    "app",
    "k8s:app%",
    "any:app",
    "k8s:io.kubernetes.pod.namespace",
    "io.cilium.k8s.policy.serviceaccount",
    "reserved:host",
    "io.cilium.k8s.namespace.labels.team",
    "k8s-app",
    "reserved.none",
    "k:%",
];
const ENDPOINTS: &Shape = &Object(&[
    ("matchLabels", &Map(CILIUM_KEYS)),
    (
        "matchExpressions",
        &List(&Object(&[
            ("key", &Text(CILIUM_KEYS)),
            ("operator", &Text(&["In", "NotIn", "Exists", "DoesNotExist"])),
            ("values", &List(&Text(VALUES))),
        ])),
    ),
]);
const ENTITIES: &Shape = &List(&Text(&[
    "all",
    "world",
    "cluster",
    "host",
    "remote-node",
    "kube-apiserver",
    "world-ipv4",
    "init",
    "health",
    "ingress",
    "none",
    "unmanaged",
    "e%",
]));
const NAME: &Shape = &Object(&[
    ("matchName", &Text(&["example.com", "h%.example.com", "*.example.com", "", "a..b", "example.com."])),
    ("matchPattern", &Text(&["*", "*.example.com", "*.h%.example.com", "**.x", "h%", "*a*b*c*d*e*f*g*", ""])),
]);
const STRINGS: &Shape = &List(&Text(VALUES));
const TO_PORTS: &Shape = &List(&Object(&[
    ("ports", &List(&Object(&[("port", PORT), ("endPort", END), ("protocol", PROTOCOL)]))),
    ("serverNames", STRINGS),
    ("terminatingTLS", &Object(&[])),
    ("originatingTLS", &Object(&[])),
    ("listener", &Object(&[("name", &Text(VALUES))])),
    (
        "rules",
        &Object(&[
            (
                "http",
                &List(&Object(&[
                    ("path", &Text(&["/a%", "/[", "(a*)*", ""])),
                    ("method", &Text(&["GET", "G%", ""])),
                    (
                        "headerMatches",
                        &List(&Object(&[
                            ("name", &Text(VALUES)),
                            ("mismatch", &Text(&["LOG", "x"])),
                            ("secret", &Object(&[])),
                        ])),
                    ),
                ])),
            ),
            ("dns", &List(NAME)),
            ("kafka", &List(&Object(&[]))),
            ("l7proto", &Text(VALUES)),
            ("l7", &List(&Object(&[]))),
        ]),
    ),
]));
const ICMPS: &Shape = &List(&Object(&[(
    "fields",
    &List(&Object(&[
        ("family", &Text(&["IPv4", "IPv6", "x"])),
        ("type", &Either(&[&Number(&[8, 0, 255, 256]), &Text(&["EchoRequest", "E%"])])),
    ])),
)]));
const SERVICES: &Shape = &List(&Object(&[
    ("k8sService", &Object(&[("serviceName", &Text(&["kube-dns", "s%"])), ("namespace", &Text(VALUES))])),
    ("k8sServiceSelector", &Object(&[("selector", ENDPOINTS), ("namespace", &Text(VALUES))])),
]));
const CILIUM_FROM: &Shape = &Object(&[
    ("fromEndpoints", &List(ENDPOINTS)),
    ("fromEntities", ENTITIES),
    ("fromCIDR", &List(CIDR)),
    ("fromCIDRSet", &List(BLOCK)),
    ("toPorts", TO_PORTS),
    ("fromNodes", &List(ENDPOINTS)),
    ("fromRequires", &List(ENDPOINTS)),
    ("fromGroups", &List(&Object(&[]))),
    ("icmps", ICMPS),
    ("authentication", &Object(&[("mode", &Text(&["required", "disabled", "x"]))])),
]);
const CILIUM_TO: &Shape = &Object(&[
    ("toEndpoints", &List(ENDPOINTS)),
    ("toEntities", ENTITIES),
    ("toCIDR", &List(CIDR)),
    ("toCIDRSet", &List(BLOCK)),
    ("toPorts", TO_PORTS),
    ("toFQDNs", &List(NAME)),
    ("toServices", SERVICES),
    ("toNodes", &List(ENDPOINTS)),
    ("toRequires", &List(ENDPOINTS)),
    ("toGroups", &List(&Object(&[]))),
    ("icmps", ICMPS),
    ("authentication", &Object(&[("mode", &Text(&["required", "disabled", "x"]))])),
]);
const CILIUM: &Shape = &Object(&[
    ("endpointSelector", ENDPOINTS),
    ("ingress", &List(CILIUM_FROM)),
    ("egress", &List(CILIUM_TO)),
    ("ingressDeny", &List(CILIUM_FROM)),
    ("egressDeny", &List(CILIUM_TO)),
    ("enableDefaultDeny", &Object(&[("ingress", &Flag), ("egress", &Flag)])),
    ("nodeSelector", ENDPOINTS),
]);

const CALICO: &Shape = &Object(&[
    ("selector", &CalicoSelector),
    ("types", TYPES),
    ("ingress", &List(CALICO_RULE)),
    ("egress", &List(CALICO_RULE)),
    ("tier", &Text(&["default", "security", "kube-admin", "t%", ""])),
    ("order", &Number(&[0, 100, 1000, -1, i64::MAX])),
    ("namespaceSelector", &CalicoSelector),
    ("serviceAccountSelector", &CalicoSelector),
    ("doNotTrack", &Flag),
    ("preDNAT", &Flag),
    ("applyOnForward", &Flag),
    ("performanceHints", STRINGS),
    ("stagedAction", &Text(&["Set", "Delete", "Learn", "Ignore", "x"])),
]);
const CALICO_PROTOCOL: &Shape = &Either(&[PROTOCOL, &Number(&[6, 17, 1, 132, 0, 255, 256])]);
const CALICO_ICMP: &Shape = &Object(&[("type", &Number(&[8, 0, 255, 256])), ("code", &Number(&[0, 255, 256]))]);
const CALICO_RULE: &Shape = &Object(&[
    ("action", &Text(&["Allow", "Deny", "Pass", "Log", "Allow", "allow", "x"])),
    ("protocol", CALICO_PROTOCOL),
    ("source", ENTITY),
    ("destination", ENTITY),
    ("notProtocol", CALICO_PROTOCOL),
    ("ipVersion", &Number(&[4, 6, 5])),
    ("icmp", CALICO_ICMP),
    ("notICMP", CALICO_ICMP),
    (
        "http",
        &Object(&[
            ("methods", STRINGS),
            ("paths", &List(&Object(&[("exact", &Text(&["/a%"])), ("prefix", &Text(&["/b%"]))]))),
        ]),
    ),
    ("metadata", &Object(&[("annotations", &Map(KEYS))])),
]);
const ENTITY: &Shape = &Object(&[
    ("nets", &List(CIDR)),
    ("selector", &CalicoSelector),
    ("ports", &List(PORT)),
    ("namespaceSelector", &CalicoSelector),
    ("notNets", &List(CIDR)),
    ("notPorts", &List(PORT)),
    ("notSelector", &CalicoSelector),
    ("services", &Object(&[("name", &Text(&["kube-dns", "s%"])), ("namespace", &Text(VALUES))])),
    ("serviceAccounts", &Object(&[("names", STRINGS), ("selector", &CalicoSelector)])),
]);
const TIER: &Shape =
    &Object(&[("order", &Number(&[0, 100, 1_000_000, -1])), ("defaultAction", &Text(&["Deny", "Pass", "x"]))]);

const PODS: &Shape = &Object(&[
    ("namespaces", SELECTOR),
    ("pods", &Object(&[("namespaceSelector", SELECTOR), ("podSelector", SELECTOR)])),
]);
const ADMIN_PEER: &Shape = &Object(&[
    ("namespaces", SELECTOR),
    ("pods", &Object(&[("namespaceSelector", SELECTOR), ("podSelector", SELECTOR)])),
    ("networks", &List(CIDR)),
    ("nodes", SELECTOR),
    ("domainNames", &List(&Text(&["example.com", "*.h%.example.com", "", "*"]))),
]);
const RANGE: &Shape = &Object(&[("start", PORT), ("end", END)]);
const TRANSPORT: &Shape = &Object(&[("destinationPort", &Object(&[("number", PORT), ("range", RANGE)]))]);
const PROTOCOLS: &Shape = &List(&Object(&[
    ("tcp", TRANSPORT),
    ("udp", TRANSPORT),
    ("sctp", TRANSPORT),
    ("destinationNamedPort", &Text(&["dns", "p%"])),
]));
const ADMIN_PORTS: &Shape = &List(&Object(&[
    ("portNumber", &Object(&[("protocol", PROTOCOL), ("port", PORT)])),
    ("portRange", &Object(&[("protocol", PROTOCOL), ("start", PORT), ("end", END)])),
    ("namedPort", &Text(&["dns", "p%"])),
]));
const ACTION: &Shape = &Text(&["Accept", "Deny", "Pass", "Allow", "x"]);
const CLUSTER: &Shape = &Object(&[
    ("tier", &Text(&["Admin", "Baseline", "x"])),
    ("priority", &Number(&[0, 5, 1000, 1001, -1])),
    ("subject", PODS),
    (
        "ingress",
        &List(&Object(&[("action", ACTION), ("from", &List(PODS)), ("protocols", PROTOCOLS), ("name", &Text(VALUES))])),
    ),
    (
        "egress",
        &List(&Object(&[
            ("action", ACTION),
            ("to", &List(ADMIN_PEER)),
            ("protocols", PROTOCOLS),
            ("name", &Text(VALUES)),
        ])),
    ),
]);
const ADMIN: &Shape = &Object(&[
    ("priority", &Number(&[0, 5, 1000, 1001, -1])),
    ("subject", PODS),
    (
        "ingress",
        &List(&Object(&[("action", ACTION), ("from", &List(PODS)), ("ports", ADMIN_PORTS), ("name", &Text(VALUES))])),
    ),
    (
        "egress",
        &List(&Object(&[
            ("action", ACTION),
            ("to", &List(ADMIN_PEER)),
            ("ports", ADMIN_PORTS),
            ("name", &Text(VALUES)),
        ])),
    ),
]);
