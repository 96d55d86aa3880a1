//! What the documentation of each rule shows is true: its first example fires, its second one passes, and what can be put
//! right mechanically is put right by the patch.

use crate::objects::object as read;
use crate::texts::Texts;
use portcullis::budget::{self, Limits};
use portcullis::config::Configuration;
use portcullis::dialect::{self, Manifest, Origin};
use portcullis::engine::{Judgement, judge};
use portcullis::model::Object;
use portcullis::rules::{Change, Definition, Mode, Named, Occasion, Old, RULES};
use portcullis::view::{Owned, View};
use portcullis::yaml;
use serde_json::Value;

/// Rules that ask who makes a change, and of whom it is somebody who may bypass nothing. All others are shown offline.
const WITH_AUTHOR: &[&str] = &["isolation-downgrade", "managed-policy-change", "untrusted-change"];

/// The judgements of one rule on the last of these documents; the others are there already. If one of them is the same
/// object, it is changed.
fn judged(configuration: &Configuration, rule: &str, documents: &[Value]) -> Vec<Judgement> {
    let mut objects: Vec<Object> = documents.iter().map(read).collect();
    let new = objects.pop().unwrap();
    let old = objects.iter().find(|object| object.id.is_same_object(&new.id)).cloned();
    let view = View::of(objects);
    let change = Change::Write { new: &new, old: old.as_ref().map(|old| old as &dyn Old) };
    let ada = Named { username: "ada", groups: &[], bypass: &[] };
    let mut occasion = Occasion::anonymous("2026-11-21T12:00:00Z".parse().unwrap());
    if WITH_AUTHOR.contains(&rule) {
        occasion.author = &ada;
    }
    let verdict = budget::run(Limits::default(), || judge(configuration, &view, change, occasion)).unwrap();
    verdict.judgements.into_iter().filter(|judgement| judgement.finding.rule == rule).collect()
}

/// The YAML below a heading of a rule's documentation.
fn example(rule: &Definition, heading: &str) -> Vec<Value> {
    let doc = rule.doc();
    let (_, section) = doc.split_once(&format!("## {heading}\n")).unwrap();
    let (_, code) = section.split_once("```yaml\n").unwrap();
    let (code, _) = code.split_once("```").unwrap();
    let mut documents: Vec<Value> = yaml::read(code).unwrap().into_iter().map(|document| document.value).collect();
    // The only example that is too long to be written down.
    if (rule.name, heading) == ("too-complex", "Fires") {
        let rules = &mut documents[0]["spec"]["ingress"];
        *rules = vec![rules[0].clone(); 100_000].into();
    }
    documents
}

fn shipped() -> Configuration {
    Configuration::shipped().unwrap()
}

fn switched_on(rule: &str) -> Configuration {
    let head = "apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\n";
    Configuration::read(&format!("{head}rules: {{{rule}: deny}}\n")).unwrap()
}

#[test]
fn the_examples_of_every_rule_are_true() {
    let texts = Texts::of("tests/rules/examples.rs", "examples");
    for rule in RULES {
        // What is off as shipped is switched on to be shown.
        let (configuration, mode) = match rule.mode {
            Mode::Off => (switched_on(rule.name), Mode::Deny),
            mode => (shipped(), mode),
        };
        let fires = judged(&configuration, rule.name, &example(rule, "Fires"));
        assert_eq!(fires.len(), 1, "{}: {fires:#?}", rule.name);
        assert_eq!(fires[0].action, mode, "{}", rule.name);
        texts.add_all("Fires", &fires);
        let passes = judged(&configuration, rule.name, &example(rule, "Passes"));
        assert!(passes.is_empty(), "{}: {passes:#?}", rule.name);
    }
    texts.compare();
}

/// Label and field manager anybody can write; a name that is reserved nobody else.
#[test]
fn what_is_the_controllers_is_told_by_its_name() {
    let policy = example(portcullis::rules::find("managed-policy-change").unwrap(), "Passes").remove(0);
    let mut of_the_cluster = policy.clone();
    of_the_cluster["apiVersion"] = "cilium.io/v2".into();
    of_the_cluster["kind"] = "CiliumClusterwideNetworkPolicy".into();
    of_the_cluster["metadata"] = serde_json::json!({"name": "portcullis-allow-dns"});
    of_the_cluster["spec"] = serde_json::json!({"endpointSelector": {}, "ingress": [{"fromEntities": ["health"]}]});
    for (object, is_reserved) in [(read(&policy), false), (read(&of_the_cluster), true)] {
        let mut view = View::of([object.clone()]);
        let (uid, layer) = ("1".into(), "baseline".into());
        view.own(
            &object.id,
            Some(Owned { object: object.id.clone(), uid, layer, fingerprint: 0, is_applied: true, domain: None }),
        );
        let change = Change::Delete { old: &object };
        let found = |username: &str| {
            let author = Named { username, groups: &[], bypass: &[] };
            let occasion = Occasion { author: &author, now: "2026-11-21T12:00:00Z".parse().unwrap() };
            let judgements = judge(&shipped(), &view, change, occasion).judgements;
            judgements.iter().filter(|judgement| judgement.finding.rule == "managed-policy-change").count()
        };
        assert_eq!(found("ada"), usize::from(is_reserved), "{}", object.id);
        assert_eq!(found("system:serviceaccount:portcullis-system:portcullis"), 0, "{}", object.id);
    }
}

#[test]
fn what_a_patch_puts_right_is_right_and_a_second_time_there_is_nothing_to_do() {
    let mut fixed = Vec::new();
    for rule in RULES {
        let mut documents = example(rule, "Fires");
        let judgements = judged(&shipped(), rule.name, &documents);
        let Some(fix) = judgements.first().and_then(|judgement| judgement.finding.fix.as_ref()) else { continue };
        let before = documents.pop().unwrap();
        let json = before.to_string();
        let [api_version, kind] = ["apiVersion", "kind"].map(|field| before[field].as_str().unwrap());
        let manifest = Manifest::read(api_version, kind, &json, Origin::Author).unwrap();
        let patch = dialect::fix(fix, &manifest).unwrap_or_else(|| panic!("{}: no patch", rule.name));
        let after = patch.applied_to(&before).unwrap();
        documents.push(after.clone());
        assert!(judged(&shipped(), rule.name, &documents).is_empty(), "{}: {after:#}", rule.name);
        if kind == "NetworkPolicy" {
            serde_json::from_value::<k8s_openapi::api::networking::v1::NetworkPolicy>(after).unwrap();
        }
        fixed.push(rule.name);
    }
    let wanted =
        ["dns-blocked", "dns-udp-only", "fqdn-without-dns", "split-peer", "metadata-egress", "implicit-policy-types"];
    assert_eq!(fixed, wanted);
}

#[test]
fn every_setting_that_a_rule_documents_is_a_setting_that_it_has() {
    for rule in RULES {
        let doc = rule.doc();
        let (_, settings) = doc.split_once("## Settings\n").unwrap();
        let names: Vec<&str> =
            settings.lines().filter_map(|line| line.strip_prefix("- `")?.split('`').next()).collect();
        // A setting that is not there is refused by name; one of the wrong type is refused for its value.
        for name in names {
            let error = rule.configure(serde_json::json!({ name: {"no": "value"} })).err().unwrap().to_string();
            let unknown = format!("unknown field `{name}`");
            assert!(!error.contains(&unknown), "{} has no setting {name}: {error}", rule.name);
        }
        let unknown = rule.configure(serde_json::json!({"no-such-setting": 1})).err().unwrap().to_string();
        assert!(unknown.contains("unknown field"), "{}: {unknown}", rule.name);
    }
}

/// What a rule must not fire on, and what it must, that is not in its documentation: `rule`, `wanted findings`, manifest.
const CASES: &[(&str, usize, &str)] = &[
    // DNS.
    ("dns-blocked", 0, "{podSelector: {}, policyTypes: [Ingress]}"),
    ("dns-blocked", 0, "{podSelector: {}, policyTypes: [Egress], egress: [{}]}"),
    ("dns-blocked", 0, "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0}}]}]}"),
    (
        "dns-blocked",
        0,
        "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [169.254.169.254/32]}}]}]}",
    ),
    (
        "dns-blocked",
        1,
        "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}]}]}",
    ),
    ("dns-blocked", 1, "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}}]}]}"),
    ("dns-blocked", 1, "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: '::/0'}}]}]}"),
    (
        "dns-blocked",
        1,
        "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {k8s-app: kube-dns}}}]}]}",
    ),
    (
        "dns-blocked",
        1,
        "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {name: kube-system}}}]}]}",
    ),
    (
        "dns-blocked",
        0,
        "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: NotIn, values: [a]}]}}]}]}",
    ),
    ("dns-blocked", 0, "{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: dns, protocol: UDP}]}]}"),
    (
        "dns-blocked",
        0,
        "{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 50, endPort: 60, protocol: UDP}]}]}",
    ),
    ("dns-blocked", 1, "{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 5353, protocol: UDP}]}]}"),
    ("dns-udp-only", 1, "{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 53, protocol: UDP}]}]}"),
    ("dns-udp-only", 0, "{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 53}]}]}"),
    // Ports.
    ("any-port", 0, "{podSelector: {}, ingress: []}"),
    ("any-port", 0, "{podSelector: {}, ingress: [{ports: [{port: 30000, endPort: 32767}]}]}"),
    ("any-port", 1, "{podSelector: {}, ingress: [{ports: [{port: 1024, endPort: 65535}]}]}"),
    (
        "any-port",
        1,
        "{podSelector: {}, ingress: [{ports: [{port: 1, endPort: 32767}, {port: 32768, endPort: 65535}]}]}",
    ),
    (
        "any-port",
        0,
        "{podSelector: {}, ingress: [{ports: [{port: 1, endPort: 32767}, {port: 32768, endPort: 65535, protocol: UDP}]}]}",
    ),
    (
        "any-port",
        1,
        "{podSelector: {}, ingress: [{ports: [{port: 1, endPort: 32767}]}, {ports: [{port: 32768, endPort: 65535}]}]}",
    ),
    (
        "any-port",
        1,
        "{podSelector: {}, ingress: [{ports: [{port: 1, endPort: 32767}]}, {from: [{podSelector: {}}], ports: [{port: 32768, endPort: 65535}]}]}",
    ),
    (
        "any-port",
        0,
        "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}], ports: [{port: 1, endPort: 32767}]}, {from: [{podSelector: {}}], ports: [{port: 32768, endPort: 65535}]}]}",
    ),
    ("any-port", 0, "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 169.254.0.0/16}}]}]}"),
    ("any-port", 1, "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 169.254.0.0/16}}]}]}"),
    ("any-port", 1, "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 169.254.0.0/16}}, {podSelector: {}}]}]}"),
    ("any-port", 0, "{podSelector: {}, policyTypes: [Ingress], egress: [{}]}"),
    // Peers.
    (
        "split-peer",
        0,
        "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {a: b}}}, {podSelector: {}}]}]}",
    ),
    (
        "split-peer",
        1,
        "{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {a: b}}}, {namespaceSelector: {}}]}]}",
    ),
    (
        "split-peer",
        0,
        "{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {a: b}}}]}, {from: [{namespaceSelector: {matchLabels: {a: b}}}]}]}",
    ),
    (
        "split-peer",
        0,
        "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {a: b}}, podSelector: {}}, {podSelector: {matchLabels: {a: b}}}]}]}",
    ),
    ("open-ingress", 1, "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: '::/0'}}], ports: [{port: 80}]}]}"),
    (
        "open-ingress",
        0,
        "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}], ports: [{port: 80}]}]}",
    ),
    ("open-ingress", 1, "{podSelector: {}, ingress: [{from: [{namespaceSelector: {}}], ports: [{port: 80}]}]}"),
    (
        "open-ingress",
        0,
        "{podSelector: {}, ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {a: b}}}], ports: [{port: 80}]}]}",
    ),
    ("open-ingress", 0, "{podSelector: {}, ingress: [{from: [{podSelector: {}}], ports: [{port: 80}]}]}"),
    (
        "open-ingress",
        1,
        "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0, except: [192.0.2.0/24]}}], ports: [{port: 80}]}]}",
    ),
    (
        "open-ingress",
        1,
        "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/1}}], ports: [{port: 80}]}, {from: [{ipBlock: {cidr: 128.0.0.0/1}}], ports: [{port: 80}]}]}",
    ),
    (
        "open-ingress",
        0,
        "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/1}}], ports: [{port: 80}]}, {from: [{ipBlock: {cidr: 128.0.0.0/1}}], ports: [{port: 81}]}]}",
    ),
    ("open-ingress", 0, "{podSelector: {}, policyTypes: [Egress], egress: [{}]}"),
    // Addresses.
    (
        "metadata-egress",
        0,
        "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0}}], ports: [{port: 443}]}]}",
    ),
    ("metadata-egress", 0, "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {}}]}]}"),
    ("metadata-egress", 1, "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 'fd00::/8'}}]}]}"),
    (
        "metadata-egress",
        1,
        "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 169.254.0.0/16}}], ports: [{port: 1, endPort: 1000}]}]}",
    ),
    ("metadata-egress", 0, "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}], ports: [{port: 80}]}]}"),
    (
        "hardcoded-address",
        0,
        "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}]}]}",
    ),
    (
        "hardcoded-address",
        2,
        "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}, {ipBlock: {cidr: 1.2.3.4/32}}]}]}",
    ),
    ("hardcoded-address", 0, "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 'fe80::/10'}}]}]}"),
    // Types.
    ("implicit-policy-types", 0, "{podSelector: {}, ingress: [{}]}"),
    ("implicit-policy-types", 0, "{podSelector: {}}"),
    ("implicit-policy-types", 1, "{podSelector: {}, egress: []}"),
    ("implicit-policy-types", 1, "{podSelector: {}, policyTypes: [Ingress], egress: []}"),
    ("implicit-policy-types", 0, "{podSelector: {}, policyTypes: [Ingress, Egress], egress: []}"),
    ("implicit-policy-types", 1, "{podSelector: {}, policyTypes: [Ingress], egress: [{}]}"),
    ("implicit-policy-types", 1, "{podSelector: {}, policyTypes: [Egress], ingress: [{}]}"),
    ("implicit-policy-types", 1, "{podSelector: {}, ingress: [{}], egress: [{}]}"),
];

#[test]
fn rules_fire_where_they_must_and_nowhere_else() {
    let texts = Texts::of("tests/rules/examples.rs", "specs");
    for (rule, wanted, spec) in CASES {
        let found = judged(&shipped(), rule, &[policy("p", spec)]);
        assert_eq!(found.len(), *wanted, "{rule} on {spec}: {found:#?}");
        texts.add_all(spec, &found);
    }
    texts.compare();
}

fn policy(name: &str, spec: &str) -> Value {
    let text = format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: shop}}\nspec: {spec}\n"
    );
    yaml::read(&text).unwrap().remove(0).value
}

fn object(api_version: &str, kind: &str, rest: &str) -> Value {
    yaml::read(&format!("apiVersion: {api_version}\nkind: {kind}\n{rest}\n")).unwrap().remove(0).value
}

const DNS: &str = "egress: [{to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}}], ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]}]";

#[test]
fn dns_may_come_from_other_policies_that_cover_the_same_pods() {
    let isolating = policy(
        "isolating",
        "{podSelector: {matchExpressions: [{key: app, operator: In, values: [a, b]}]}, policyTypes: [Egress]}",
    );
    let dns_for = |name: &str, selector: &str| {
        policy(name, &format!("{{podSelector: {selector}, policyTypes: [Egress], {DNS}}}"))
    };
    let texts = Texts::of("tests/rules/examples.rs", "others");
    let blocked = |others: &[Value]| {
        let documents: Vec<Value> = others.iter().cloned().chain([isolating.clone()]).collect();
        let found = judged(&shipped(), "dns-blocked", &documents);
        texts.add_all(&named(others), &found);
        !found.is_empty()
    };
    assert!(blocked(&[]));
    assert!(!blocked(&[dns_for("all", "{}")]));
    assert!(blocked(&[dns_for("a", "{matchLabels: {app: a}}")]), "pods with app=b have none");
    let both = [dns_for("a", "{matchLabels: {app: a}}"), dns_for("b", "{matchLabels: {app: b}}")];
    assert!(!blocked(&both), "what two policies cover together is covered");
    // Those that have nothing to do with these pods stand in nobody's way, however many there are.
    let many = (0..40).map(|n| dns_for(&format!("other-{n}"), &format!("{{matchLabels: {{app: o{n}, env: e{n}}}}}")));
    let many: Vec<Value> = many.chain(both.clone()).collect();
    assert!(!blocked(&many));
    let unnamed = |value: Value| {
        let mut value = value;
        value["metadata"] = serde_json::json!({"generateName": "p-", "namespace": "shop"});
        value
    };
    let documents = [unnamed(dns_for("", "{}")), unnamed(isolating.clone())];
    assert!(judged(&shipped(), "dns-blocked", &documents).is_empty(), "objects without a name are not the same object");
    let mut elsewhere = dns_for("elsewhere", "{}");
    elsewhere["metadata"]["namespace"] = "other".into();
    assert!(blocked(&[elsewhere]), "a policy of another namespace covers no pod of this one");
    texts.compare();
}

/// The names of these objects, as the name of an input.
fn named(objects: &[Value]) -> String {
    let names: Vec<String> = objects.iter().map(|object| read(object).id.to_string()).collect();
    if names.is_empty() { "alone".to_owned() } else { format!("with {}", names.join(", ")) }
}

#[test]
fn taking_away_the_last_way_to_dns_is_found_on_the_policy_that_takes_it() {
    let [dns, isolating] = [
        policy("dns", &format!("{{podSelector: {{}}, policyTypes: [Egress], {DNS}}}")),
        policy("isolating", "{podSelector: {matchLabels: {app: a}}, policyTypes: [Egress]}"),
    ]
    .map(|value| read(&value));
    let view = View::of([dns.clone(), isolating.clone()]);
    let texts = Texts::of("tests/rules/examples.rs", "last way to DNS");
    let found = |change: Change<'_>, view: &View| {
        let verdict = judge(&shipped(), view, change, Occasion::default());
        let verb = if matches!(change, Change::Delete { .. }) { "delete" } else { "change" };
        texts.add_all(&format!("{verb} {}", change.object().id), &verdict.judgements);
        verdict.judgements.into_iter().map(|judgement| judgement.finding).collect::<Vec<_>>()
    };
    let deleted = found(Change::Delete { old: &dns }, &view);
    assert_eq!(deleted.len(), 1);
    assert_eq!((deleted[0].rule, deleted[0].path.to_string().as_str()), ("dns-blocked", "spec"));
    assert!(deleted[0].message.contains("NetworkPolicy shop/isolating isolates"), "{}", deleted[0].message);

    let narrowed =
        read(&policy("dns", &format!("{{podSelector: {{matchLabels: {{app: b}}}}, policyTypes: [Egress], {DNS}}}")));
    let changed = found(Change::Write { new: &narrowed, old: Some(&dns) }, &view);
    assert_eq!(changed.iter().map(|finding| finding.rule).collect::<Vec<_>>(), ["dns-blocked"], "{changed:#?}");

    assert!(found(Change::Delete { old: &isolating }, &view).is_empty());
    assert!(found(Change::Delete { old: &dns }, &View::of([dns.clone()])).is_empty(), "nobody is isolated");
    texts.compare();
}

#[test]
fn an_old_fault_does_not_deny_and_a_new_one_does() {
    let rule = |app: &str| format!("{{from: [{{podSelector: {{matchLabels: {{app: {app}}}}}}}]}}");
    let with = |rules: &[&str]| {
        let rules: Vec<String> = rules.iter().map(|app| rule(app)).collect();
        read(&policy("p", &format!("{{podSelector: {{}}, ingress: [{}]}}", rules.join(", "))))
    };
    let denies = |old: &Object, new: &Object| {
        judge(&shipped(), &View::default(), Change::Write { new, old: Some(old) }, Occasion::default()).denies()
    };
    let one = with(&["a"]);
    assert!(judge(&shipped(), &View::default(), Change::Write { new: &one, old: None }, Occasion::default()).denies());
    assert!(!denies(&one, &one));
    assert!(denies(&one, &with(&["a", "b"])));
    assert!(denies(&one, &with(&["b"])), "another peer is another fault");
    assert!(denies(&one, &with(&["a", "a"])), "the same fault twice is one more");
    assert!(!denies(&with(&["a", "b"]), &with(&["b", "a"])), "moved is not new");
    assert!(!denies(&with(&["a", "b"]), &with(&["b"])));
    let of = |pods: &str| read(&policy("p", &format!("{{podSelector: {pods}, ingress: [{}]}}", rule("a"))));
    assert!(!denies(&of("{}"), &of("{matchLabels: {app: debug}}")), "fewer pods");
    assert!(denies(&of("{matchLabels: {app: debug}}"), &of("{}")), "an old fault is a new one for other pods");
}

#[test]
fn the_network_of_the_node_is_kept_out_of_isolated_namespaces_only() {
    let pod = |namespace: &str, account: &str| {
        object(
            "v1",
            "Pod",
            &format!(
                "metadata: {{name: p, namespace: {namespace}}}\nspec: {{hostNetwork: true, serviceAccountName: {account}}}"
            ),
        )
    };
    let namespace =
        |name: &str, labels: &str| object("v1", "Namespace", &format!("metadata: {{name: {name}, labels: {labels}}}"));
    let profile = |profile: &str| format!("{{network-policy.portcullis.dev/profile: {profile}}}");
    let texts = Texts::of("tests/rules/examples.rs", "hostNetwork");
    let found = |configuration: &Configuration, around: &[Value], pod: &Value| {
        let documents: Vec<Value> = around.iter().cloned().chain([pod.clone()]).collect();
        let found = judged(configuration, "host-network", &documents);
        texts.add_all(&format!("{} {}", read(pod).id, named(around)), &found);
        found
    };
    let shop = pod("shop", "agent");
    assert!(found(&shipped(), &[], &shop).is_empty(), "nothing is known of the namespace");
    assert!(found(&shipped(), &[namespace("shop", "{}")], &shop).is_empty());
    assert!(found(&shipped(), &[namespace("shop", &profile("unknown"))], &shop).is_empty());
    assert_eq!(found(&shipped(), &[namespace("shop", &profile("standard"))], &shop).len(), 1);
    let by_policy = found(&shipped(), &[policy("deny", "{podSelector: {}}")], &shop);
    assert!(by_policy[0].finding.message.contains("NetworkPolicy shop/deny"), "{by_policy:#?}");
    assert!(found(&shipped(), &[policy("some", "{podSelector: {matchLabels: {a: b}}}")], &shop).is_empty());

    let excluded = namespace("default", &profile("isolated"));
    assert!(
        found(&shipped(), std::slice::from_ref(&excluded), &pod("default", "agent")).is_empty(),
        "nobody isolates it"
    );
    let asked = judged(&shipped(), "invalid-profile", &[excluded]);
    texts.add_all("Namespace default", &asked);
    assert_eq!(asked.len(), 1, "{asked:#?}");

    let exempting = Configuration::read(
        "apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\nrules: {host-network: {settings: {exemptServiceAccounts: [shop/agent]}}}\n",
    )
    .unwrap();
    let isolated = [namespace("shop", &profile("isolated"))];
    assert!(found(&exempting, &isolated, &shop).is_empty());
    assert_eq!(found(&exempting, &isolated, &pod("shop", "other")).len(), 1);
    let mut deny = policy("deny", "{podSelector: {}}");
    deny["metadata"]["namespace"] = "kube-system".into();
    let platform = found(&shipped(), &[deny], &pod("kube-system", "cni"));
    assert_eq!(platform[0].action.name(), "warn", "the platform needs the network of its nodes");
    texts.compare();
}
