//! The rule unreachable-backend: where it must be silent, where it fires, and what it says.

use crate::apps::{Stranger, app, judged, object, service};
use crate::objects::objects;
use portcullis::baseline::{self, PolicySet};
use portcullis::config::Configuration;
use portcullis::engine::judge;
use portcullis::model::{Finding, ObjectRef};
use portcullis::rules::{Anonymous, Author, Change, Occasion};
use portcullis::view::View;

const RULE: &str = "unreachable-backend";

/// What a case is about: its words, the findings, and the objects, of which the last is judged.
type Case = (&'static str, Vec<String>);

/// The findings in the last object. The others are in manifests, or in a cluster.
fn findings(yaml: &[String], is_whole: bool, author: &dyn Author) -> Vec<Finding> {
    let found = judged(RULE, yaml, is_whole, None, author);
    crate::texts::check("tests/rules/unreachable_backend.rs", "backends", &crate::texts::named(yaml), &found);
    found.into_iter().map(|judgement| judgement.finding).collect()
}

fn paths(yaml: &[String], is_whole: bool) -> Vec<String> {
    let found = judged(RULE, yaml, is_whole, None, &Anonymous);
    found.iter().map(|judgement| judgement.finding.path.to_string()).collect()
}

fn check(wanted: &[&str], cases: &[Case]) {
    let mut wrong = Vec::new();
    for (about, yaml) in cases {
        let found = paths(yaml, false);
        if found != *wanted {
            wrong.push(format!("{about}: wanted {wanted:?}, found {found:?}:\n{}", yaml.join("---\n")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

const SILENT: &[&str] = &[];
const INGRESS: &[&str] = &["spec.ingress"];
const LISTS: &str = "{containerPort: 10250, name: web}";
const FORWARDS: &str = "ports: [{port: 443, targetPort: 10250, name: https}]";

/// A webhook configuration with webhooks for these Services.
fn webhooks(kind: &str, services: &[&str]) -> String {
    let hooks = services.iter().map(|service| format!("{{name: x.example.com, clientConfig: {{service: {service}}}}}"));
    let hooks: Vec<String> = hooks.collect();
    format!(
        "apiVersion: admissionregistration.k8s.io/v1\nkind: {kind}\nmetadata: {{name: x}}\nwebhooks: [{}]\n",
        hooks.join(", ")
    )
}

fn webhook() -> String {
    webhooks("ValidatingWebhookConfiguration", &["{namespace: shop, name: hook}"])
}

fn api_service() -> String {
    "apiVersion: apiregistration.k8s.io/v1\nkind: APIService\nmetadata: {name: v1.example.com}\nspec: {service: {namespace: \
     shop, name: hook}}\n"
        .to_owned()
}

fn ingress(port: &str) -> String {
    let backend = format!("{{service: {{name: hook, port: {port}}}}}");
    object(
        "networking.k8s.io/v1",
        "Ingress",
        "shop",
        &format!("{{rules: [{{http: {{paths: [{{backend: {backend}}}]}}}}]}}"),
    )
}

fn route(gateway: &str) -> String {
    let spec = format!(
        "{{parentRefs: [{{name: edge, namespace: {gateway}}}], rules: [{{backendRefs: [{{name: hook, port: 443}}]}}]}}"
    );
    object("gateway.networking.k8s.io/v1", "HTTPRoute", "shop", &spec)
}

/// A policy for the pods of app hook with these rules.
fn policy(rules: &str) -> String {
    let spec = format!("{{podSelector: {{matchLabels: {{app: hook}}}}, policyTypes: [Ingress], ingress: [{rules}]}}");
    object("networking.k8s.io/v1", "NetworkPolicy", "shop", &spec).replace("name: x", "name: p")
}

/// A policy that allows a peer to the target port.
fn from(peer: &str) -> String {
    policy(&format!("{{from: [{peer}], ports: [{{port: 10250}}]}}"))
}

fn cilium(rules: &str) -> String {
    let spec = format!("{{endpointSelector: {{matchLabels: {{app: hook}}}}, {rules}}}");
    object("cilium.io/v2", "CiliumNetworkPolicy", "shop", &spec).replace("name: x", "name: p")
}

fn calico(more: &str) -> String {
    let spec = format!("{{selector: app == 'hook', types: [Ingress], {more}}}");
    object("projectcalico.org/v3", "NetworkPolicy", "shop", &spec).replace("name: x", "name: p")
}

const NOTHING: &str = "";
const OWN: &str = "{podSelector: {}}";
const SYSTEM: &str = "{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}}";
const OTHER: &str = "{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: edge}}}";
const EVERYWHERE: &str = "{namespaceSelector: {}}";

/// The app with its Service, these objects, and a policy.
fn there(more: &[String], policy: String) -> Vec<String> {
    [&[app("shop", "hook", LISTS), service("shop", "hook", FORWARDS)], more, &[policy]].concat()
}

fn renamed(policy: &str) -> String {
    policy.replace("name: p,", "name: other,")
}

/// A policy that allows nothing, in a tier with this default action.
fn in_tier(action: &str) -> Vec<String> {
    let tier = format!(
        "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {{name: security}}\nspec: {{order: 100, defaultAction: \
         {action}}}\n"
    );
    there(&[webhook(), tier], calico("tier: security, ingress: []").replace("name: p,", "name: security.p,"))
}

#[test]
fn the_api_server_may_be_allowed() {
    let hook = |policy: String| there(&[webhook()], policy);
    let tcp = "toPorts: [{ports: [{port: '10250', protocol: TCP}]}]";
    let entity = |name: &str| hook(cilium(&format!("ingress: [{{fromEntities: [{name}], {tcp}}}]")));
    let staged = calico("ingress: []").replace("kind: NetworkPolicy", "kind: StagedNetworkPolicy");
    let admin = |rule: &str| {
        format!(
            "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{name: a}}\nspec: {{tier: \
             Admin, priority: 1, subject: {{namespaces: {{}}}}, ingress: [{rule}]}}\n"
        )
    };
    check(
        SILENT,
        &[
            ("no peers", hook(policy("{ports: [{port: 10250}]}"))),
            ("no peers and no ports", hook(policy("{}"))),
            ("a name", hook(policy("{ports: [{port: web}]}"))),
            ("a range", hook(policy("{ports: [{port: 10000, endPort: 10300}]}"))),
            ("addresses", hook(from("{ipBlock: {cidr: 10.0.0.1/32}}"))),
            ("addresses with a hole", hook(from("{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}"))),
            ("Konnectivity may be the caller", hook(from(SYSTEM))),
            ("all pods, and so those of Konnectivity", hook(from(EVERYWHERE))),
            ("another policy", there(&[webhook(), renamed(&policy("{ports: [{port: 10250}]}"))], policy(NOTHING))),
            ("entity all", entity("all")),
            ("entity world", entity("world")),
            ("entity host", entity("host")),
            ("entity remote-node", entity("remote-node")),
            ("entity kube-apiserver", entity("kube-apiserver")),
            ("entity cluster", entity("cluster")),
            ("fromCIDR", hook(cilium(&format!("ingress: [{{fromCIDR: [10.0.0.0/8], {tcp}}}]")))),
            ("fromNodes", hook(cilium(&format!("ingress: [{{fromNodes: [{{}}], {tcp}}}]")))),
            (
                "rules for requests",
                hook(cilium(
                    "ingress: [{fromEntities: [all], toPorts: [{ports: [{port: '10250', protocol: \
              TCP}], rules: {http: [{method: GET}]}}]}]",
                )),
            ),
            (
                "authentication",
                hook(cilium(&format!(
                    "ingress: [{{fromEntities: [all], authentication: {{mode: required}}, \
              {tcp}}}]"
                ))),
            ),
            ("no default deny", hook(cilium("enableDefaultDeny: {ingress: false}, ingress: [{fromEndpoints: [{}]}]"))),
            ("rejected by its agent", hook(cilium("ingress: [{fromEndpoints: [{}], fromEntities: [host]}]"))),
            ("Calico allows", hook(calico("ingress: [{action: Allow}]"))),
            ("Calico allows addresses", hook(calico("ingress: [{action: Allow, source: {nets: [10.0.0.0/8]}}]"))),
            (
                "a Calico selector, which may match a network set",
                hook(calico("ingress: [{action: Allow, source: {selector: all()}}]")),
            ),
            ("Calico passes", hook(calico("ingress: [{action: Pass}]"))),
            ("all but some addresses", hook(calico("ingress: [{action: Allow, source: {notNets: [10.0.0.0/8]}}]"))),
            ("a tier that passes", in_tier("Pass")),
            (
                "a tier that is not known",
                hook(calico("tier: security, ingress: []").replace("name: p,", "name: security.p,")),
            ),
            ("staged", hook(staged)),
            ("egress only", hook(policy(NOTHING).replace("[Ingress]", "[Egress]").replace(", ingress: []", ""))),
            ("other pods", hook(policy(NOTHING).replace("app: hook", "app: other"))),
            ("another namespace", hook(policy(NOTHING).replace("namespace: shop", "namespace: other"))),
            (
                "an admin policy that allows",
                there(&[webhook(), admin("{action: Accept, from: [{namespaces: {}}]}")], policy(NOTHING)),
            ),
            ("no pods", vec![service("shop", "hook", FORWARDS), webhook(), policy(NOTHING)]),
            ("no Service", vec![app("shop", "hook", LISTS), webhook(), policy(NOTHING)]),
            (
                "no selector",
                vec![
                    app("shop", "hook", LISTS),
                    service("shop", "hook", FORWARDS).replace("selector: {app: hook}, ", ""),
                    webhook(),
                    policy(NOTHING),
                ],
            ),
            (
                "an ExternalName",
                vec![
                    app("shop", "hook", LISTS),
                    service("shop", "hook", &format!("type: ExternalName, externalName: a.example.com, {FORWARDS}")),
                    webhook(),
                    policy(NOTHING),
                ],
            ),
            (
                "a name that no container has",
                vec![
                    app("shop", "hook", LISTS),
                    service("shop", "hook", "ports: [{port: 443, targetPort: none}]"),
                    webhook(),
                    policy(NOTHING),
                ],
            ),
            (
                "no such port",
                there(
                    &[webhooks("ValidatingWebhookConfiguration", &["{namespace: shop, name: hook, port: 8443}"])],
                    policy(NOTHING),
                ),
            ),
            (
                "a name in the policy, and containers that list no ports",
                vec![
                    app("shop", "hook", ""),
                    service("shop", "hook", FORWARDS),
                    webhook(),
                    policy("{ports: [{port: web}]}"),
                ],
            ),
            (
                "hostNetwork",
                vec![
                    app("shop", "hook", LISTS).replace("containers:", "hostNetwork: true, containers:"),
                    service("shop", "hook", FORWARDS),
                    webhook(),
                    policy(NOTHING),
                ],
            ),
            (
                "some pods only",
                vec![
                    app("shop", "hook", LISTS),
                    app("shop", "hook", LISTS)
                        .replace("name: hook, namespace", "name: b, namespace")
                        .replace("labels: {app: hook}", "labels: {app: hook, version: b}"),
                    service("shop", "hook", FORWARDS),
                    webhook(),
                    policy(NOTHING).replace("app: hook", "version: b"),
                ],
            ),
            ("nobody calls", there(&[], policy(NOTHING))),
        ],
    );
}

#[test]
fn the_api_server_is_blocked() {
    let hook = |policy: String| there(&[webhook()], policy);
    check(
        INGRESS,
        &[
            ("nothing", hook(policy(NOTHING))),
            ("pods", hook(from(OWN))),
            ("pods of another namespace", hook(from(OTHER))),
            ("the port of the Service", hook(policy("{ports: [{port: 443}]}"))),
            ("another protocol", hook(policy("{ports: [{port: 10250, protocol: UDP}]}"))),
            (
                "a mutating webhook",
                there(
                    &[webhooks("MutatingWebhookConfiguration", &["{namespace: shop, name: hook, port: 443}"])],
                    policy(NOTHING),
                ),
            ),
            ("an API", there(&[api_service()], policy(NOTHING))),
            ("link-local addresses", hook(from("{ipBlock: {cidr: 169.254.0.0/16}}, {ipBlock: {cidr: fe80::/10}}"))),
            ("two policies", there(&[webhook(), renamed(&from(OWN))], policy(NOTHING))),
            (
                "a named target",
                vec![
                    app("shop", "hook", LISTS),
                    service("shop", "hook", "ports: [{port: 443, targetPort: web}]"),
                    webhook(),
                    policy(NOTHING),
                ],
            ),
            ("a tier that drops", in_tier("Deny")),
            ("Cilium", hook(cilium("ingress: [{fromEndpoints: [{}]}]"))),
            ("Cilium with no rule", hook(cilium("ingress: [{}]"))),
            ("the ingress proxy of Cilium", hook(cilium("ingress: [{fromEntities: [ingress]}]"))),
            (
                "Calico",
                hook(calico("ingress: [{action: Allow, source: {selector: projectcalico.org/orchestrator == 'k8s'}}]")),
            ),
            (
                "two webhooks and an API, one finding",
                there(
                    &[
                        webhooks("ValidatingWebhookConfiguration", &["{namespace: shop, name: hook}"; 2]),
                        webhooks("MutatingWebhookConfiguration", &["{namespace: shop, name: hook}"]),
                        api_service(),
                    ],
                    policy(NOTHING),
                ),
            ),
        ],
    );
    // A deny rule is reported at its place.
    check(&["spec.ingress[0]"], &[("a denial", hook(calico("ingress: [{action: Deny}]")))]);
    // A policy for many namespaces.
    let wide = "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: p}\nspec: {namespaceSelector: \
                projectcalico.org/name == 'shop', types: [Ingress]}\n";
    check(INGRESS, &[("cluster-wide", hook(wide.to_owned()))]);
}

#[test]
fn konnectivity_is_looked_for_where_all_pods_are_known() {
    let agent = |more: &str| {
        let pod = format!("{{containers: [{{name: a}}]{more}}}");
        object("v1", "Pod", "kube-system", &pod).replace("name: x", "name: konnectivity-agent-abc")
    };
    let found = |more: &[String], peer: &str| paths(&there(&[&[webhook()], more].concat(), from(peer)), true);
    assert_eq!(found(&[], SYSTEM), INGRESS);
    assert_eq!(found(&[], EVERYWHERE), INGRESS);
    assert_eq!(found(&[agent("")], SYSTEM), SILENT);
    assert_eq!(found(&[agent(", hostNetwork: true")], SYSTEM), INGRESS);
    assert_eq!(found(&[agent("")], OTHER), INGRESS);
}

#[test]
fn clients_reach_an_exposed_service() {
    let exposed = |more: &str, policy: String| {
        vec![app("shop", "hook", LISTS), service("shop", "hook", &format!("{more}, {FORWARDS}")), policy]
    };
    let two = "type: LoadBalancer, ports: [{port: 443, targetPort: 10250}, {port: 80, targetPort: 8080, name: b}]";
    let two = |policy: String| vec![app("shop", "hook", LISTS), service("shop", "hook", two), policy];
    check(
        SILENT,
        &[
            ("not exposed", exposed("type: ClusterIP", policy(NOTHING))),
            ("no peers", exposed("type: LoadBalancer", policy("{ports: [{port: 10250}]}"))),
            ("addresses", exposed("type: NodePort", from("{ipBlock: {cidr: 192.0.2.0/24}}"))),
            ("the load balancer of k3s", exposed("type: LoadBalancer", from(SYSTEM))),
            ("pods of a load balancer", exposed("type: LoadBalancer, loadBalancerClass: tailscale", from(OTHER))),
            ("one of two ports", two(policy("{ports: [{port: 8080}]}"))),
        ],
    );
    check(
        INGRESS,
        &[
            ("a load balancer", exposed("type: LoadBalancer", policy(NOTHING))),
            ("a node port", exposed("type: NodePort", from(OWN))),
            ("an address of a node", exposed("externalIPs: [192.0.2.1]", from(OTHER))),
            ("a class", exposed("type: LoadBalancer, loadBalancerClass: tailscale", from(OWN))),
            ("both ports", two(policy("{ports: [{port: 443}]}"))),
        ],
    );
    let found = findings(&two(policy(NOTHING)), false, &Anonymous).remove(0);
    assert_eq!(
        found.message,
        "clients outside of the cluster cannot reach Service shop/hook, because no policy allows TCP 10250 or TCP 8080 from outside \
         of the pod network to pods app=hook"
    );
}

#[test]
fn ingress_controllers_come_from_another_namespace() {
    let number = || ingress("{number: 443}");
    let web = |policy: String| there(&[number()], policy);
    let tunnel = || policy(&format!("{{from: [{OTHER}], ports: [{{port: 15008}}]}}"));
    let namespace =
        |labels: &str| format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop, labels: {labels}}}\n");
    let exposed = |name: &str| service("shop", name, "type: LoadBalancer, ports: [{port: 80}]");
    check(
        SILENT,
        &[
            ("its namespace", web(from(OTHER))),
            ("a label of namespaces", web(from("{namespaceSelector: {matchLabels: {team: edge}}}"))),
            ("all pods", web(from(EVERYWHERE))),
            ("no peers", web(policy("{ports: [{port: 10250}]}"))),
            ("addresses", web(from("{ipBlock: {cidr: 10.0.0.0/8}}"))),
            ("the entity ingress", web(cilium("ingress: [{fromEntities: [ingress]}]"))),
            ("the tunnel of a mesh", there(&[number(), namespace("{istio.io/dataplane-mode: ambient}")], tunnel())),
            ("the tunnel, in a namespace whose labels are not known", web(tunnel())),
            (
                "a gateway of its own",
                there(&[number(), app("shop", "edge", "{containerPort: 80}"), exposed("edge")], from(OWN)),
            ),
            (
                "a hostNetwork pod",
                there(
                    &[number(), app("shop", "edge", "").replace("containers:", "hostNetwork: true, containers:")],
                    from(OWN),
                ),
            ),
            ("the Gateway is in the namespace", there(&[route("shop")], from(OWN))),
            (
                "a platform namespace",
                there(&[number()], from(OWN))
                    .iter()
                    .map(|yaml| yaml.replace("namespace: shop", "namespace: kube-system"))
                    .collect(),
            ),
            ("another Service", there(&[number().replace("name: hook", "name: other")], policy(NOTHING))),
            ("no such port", there(&[ingress("{name: none}")], policy(NOTHING))),
        ],
    );
    check(
        INGRESS,
        &[
            ("nothing", web(policy(NOTHING))),
            ("the tunnel, and no mesh", there(&[number(), namespace("{}")], tunnel())),
            ("link-local addresses", web(from("{ipBlock: {cidr: 169.254.0.0/16}}"))),
            ("own pods", web(from(OWN))),
            ("the own namespace by name", web(from(&OTHER.replace("edge", "shop")))),
            ("a named port", there(&[ingress("{name: https}")], from(OWN))),
            ("a route", there(&[route("edge")], from(OWN))),
            ("the port of the Service", web(policy(&format!("{{from: [{OTHER}], ports: [{{port: 443}}]}}")))),
            ("entities of nodes are no pods elsewhere", web(cilium("ingress: [{fromEndpoints: [{}]}]"))),
        ],
    );
}

#[test]
fn what_calls_is_judged_at_its_own_field() {
    let object = |object: String, rules: String| {
        vec![app("shop", "hook", LISTS), service("shop", "hook", FORWARDS), rules, object]
    };
    let number = || ingress("{number: 443}");
    let two =
        webhooks("ValidatingWebhookConfiguration", &["{namespace: data, name: hook}", "{namespace: shop, name: hook}"]);
    for (about, yaml, wanted) in [
        ("Ingress", object(number(), from(OWN)), vec!["spec.rules[0].http.paths[0].backend.service"]),
        ("Ingress that is allowed", object(number(), from(OTHER)), vec![]),
        ("route", object(route("edge"), from(OWN)), vec!["spec.rules[0].backendRefs[0]"]),
        ("webhook", object(two.clone(), policy(NOTHING)), vec!["webhooks[1].clientConfig.service"]),
        ("webhook that is allowed", object(two, policy("{ports: [{port: 10250}]}")), vec![]),
        ("API", object(api_service(), policy(NOTHING)), vec!["spec.service"]),
        (
            "Service",
            vec![
                app("shop", "hook", LISTS),
                policy(NOTHING),
                service("shop", "hook", &format!("type: LoadBalancer, {FORWARDS}")),
            ],
            vec!["spec"],
        ),
        ("inner Service", vec![app("shop", "hook", LISTS), policy(NOTHING), service("shop", "hook", FORWARDS)], vec![]),
    ] {
        assert_eq!(paths(&yaml, false), wanted, "{about}");
    }
}

#[test]
fn the_message_names_the_caller_and_the_port() {
    let found = |yaml: Vec<String>| {
        let finding = findings(&yaml, false, &Anonymous).remove(0);
        (finding.message, finding.help)
    };
    assert_eq!(
        found(there(&[webhook()], policy(NOTHING))),
        (
            "the API server cannot reach Service shop/hook for ValidatingWebhookConfiguration x, because no policy allows TCP 10250 \
             from outside of the pod network to pods app=hook"
                .to_owned(),
            "add an ingress rule for TCP 10250 without peers, or with the addresses of the API server".to_owned()
        )
    );
    assert_eq!(
        found(there(&[ingress("{number: 443}")], policy(NOTHING))),
        (
            "the ingress controller of Ingress shop/x cannot reach Service shop/hook, because no policy allows TCP 10250 from other \
             namespaces or outside of the pod network to pods app=hook"
                .to_owned(),
            "add an ingress rule for TCP 10250 from the namespace of the ingress controller or the gateway".to_owned()
        )
    );
    let (message, _) = found([&there(&[], policy(NOTHING))[..], &[webhook()]].concat());
    assert!(message.starts_with("the API server cannot reach Service shop/hook, because no policy"), "{message}");
    let (message, _) = found(there(&[route("edge")], policy(NOTHING)));
    assert!(
        message.starts_with("the gateway of HTTPRoute shop/x cannot reach Service shop/hook, because "),
        "{message}"
    );
    let (message, _) = found(there(&[webhook()], calico("ingress: [{action: Deny}]")));
    assert!(message.contains(", because this rule denies TCP 10250 from outside"), "{message}");
}

/// The baseline of a namespace allows probes and metrics, and none of them is the API server or a gateway.
#[test]
fn the_shipped_baseline_does_not_hide_it() {
    let configuration = Configuration::shipped().unwrap();
    let site = &configuration.site;
    let labels = format!("{{{}: isolated}}", site.profile_label());
    let namespace = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop, labels: {labels}}}\n");
    let judged = objects(&policy("{from: [{podSelector: {}}], ports: [{port: 3000}]}")).remove(0);
    for (caller, yaml) in [("webhook", webhook()), ("Ingress", ingress("{number: 443}"))] {
        let mut view = View::default();
        for yaml in there(std::slice::from_ref(&namespace), yaml) {
            objects(&yaml).into_iter().for_each(|object| view.insert(object));
        }
        baseline::complete(&mut view, &PolicySet::shipped(&site.label_domain).unwrap(), site);
        assert!(view.own_policies("shop").count() > 3, "the baseline is there");
        let change = Change::Write { new: &judged, old: None };
        let verdict = judge(&configuration, &view, change, Occasion::default());
        let found = verdict.judgements.iter().filter(|judgement| judgement.finding.rule == RULE).count();
        assert_eq!(found, 1, "{caller}");
    }
}

#[test]
fn nobody_hears_of_objects_that_they_may_not_list() {
    let found = |more: &[String]| findings(&there(more, policy(NOTHING)), true, &Stranger);
    assert!(found(&[webhook()]).is_empty());
    assert!(found(&[api_service()]).is_empty());
    assert_eq!(found(&[ingress("{number: 443}")]).len(), 1, "it is in the namespace of the policy");
    // The route of another namespace.
    let foreign = route("edge")
        .replace("namespace: shop", "namespace: other")
        .replace("name: hook", "name: hook, namespace: shop");
    let yaml = there(&[foreign], policy(NOTHING));
    assert_eq!((paths(&yaml, true).len(), findings(&yaml, true, &Stranger).len()), (1, 0));
}

#[test]
fn a_view_forgets_what_an_object_named_before() {
    let mut view = View::of_cluster();
    let insert = |view: &mut View, yaml: &str| objects(yaml).into_iter().for_each(|object| view.insert(object));
    let backends = |view: &View, namespace: &str| {
        let found = view.namespace(namespace).map(|facts| facts.backends.len());
        found.unwrap_or_default()
    };
    let both = |view: &View| (backends(view, "shop"), backends(view, "data"));
    let kind = "ValidatingWebhookConfiguration";
    let group = "admissionregistration.k8s.io";
    insert(
        &mut view,
        &webhooks(kind, &["{namespace: shop, name: a}", "{namespace: data, name: b}", "{namespace: shop, name: c}"]),
    );
    insert(&mut view, &webhooks(kind, &["{namespace: shop, name: d}"]).replace("name: x}", "name: other}"));
    insert(&mut view, &ingress("{number: 80}"));
    assert_eq!(both(&view), (4, 1));
    assert_eq!(view.census()[&(group, kind)], 2);
    assert_eq!(view.census()[&("networking.k8s.io", "Ingress")], 1);
    let mut listed: Vec<String> =
        view.objects_of("admissionregistration.k8s.io/v1", kind).iter().map(ToString::to_string).collect();
    listed.sort();
    assert_eq!(listed, [format!("{kind} other"), format!("{kind} x")]);

    let before = view.clone();
    insert(&mut view, &webhooks(kind, &["{namespace: data, name: b}"]));
    assert_eq!((both(&view), both(&before)), ((2, 1), (4, 1)), "an earlier snapshot stays");
    // One that leads nowhere is still known, and can go.
    insert(&mut view, &webhooks(kind, &[]));
    assert_eq!(both(&view), (2, 0));
    assert!(view.namespace("data").is_none(), "nothing is left of it");
    assert_eq!(view.census()[&(group, kind)], 2);
    let id = |kind: &str, api_version: &str, namespace: Option<&str>, name: &str| ObjectRef {
        api_version: api_version.into(),
        kind: kind.into(),
        namespace: namespace.map(Box::from),
        name: name.into(),
    };
    view.remove(&id("MutatingWebhookConfiguration", "admissionregistration.k8s.io/v1", None, "other"));
    assert_eq!(both(&view), (2, 0), "another kind");
    view.remove(&id(kind, "admissionregistration.k8s.io/v1", None, "other"));
    view.remove(&id(kind, "admissionregistration.k8s.io/v1", None, "x"));
    assert_eq!(both(&view), (1, 0));
    view.remove(&id("Ingress", "networking.k8s.io/v1", Some("shop"), "x"));
    assert!(view.namespace("shop").is_none() && view.objects_of("networking.k8s.io/v1", "Ingress").is_empty());
}

#[test]
fn a_crowd_of_services_and_pods_ends_the_comparison() {
    let mut yaml = Vec::new();
    for number in 0..120 {
        yaml.push(app("shop", &format!("a{number}"), "{containerPort: 80}"));
        yaml.push(service("shop", &format!("a{number}"), "type: NodePort, ports: [{port: 80}]"));
    }
    yaml.push(policy(NOTHING).replace("matchLabels: {app: hook}", ""));
    let found = paths(&yaml, false);
    assert!(!found.is_empty() && found.len() < 120, "{}", found.len());
}
