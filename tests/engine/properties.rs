//! Properties of what reads input: nothing makes it panic, and what the API takes is taken.

use std::sync::LazyLock;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use portcullis::admission::{Knowledge, mutate, validate};
use portcullis::baseline::PolicySet;
use portcullis::config::Configuration;
use portcullis::dialect::{self, Manifest, Origin};
use portcullis::engine::judge;
use portcullis::rules::{Change, Occasion};
use portcullis::view::{Facts, View};
use portcullis::yaml;
use proptest::prelude::*;
use serde_json::{Value, json};

static KNOWLEDGE: LazyLock<Knowledge> = LazyLock::new(|| {
    let configuration = Configuration::read(
        "apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\nrules: {dns-blocked: {settings: {inject: true}}}\n",
    );
    let policies = PolicySet::shipped("network-policy.portcullis.dev");
    Knowledge::new(configuration.unwrap(), View::default(), policies.unwrap())
});

/// Any JSON, made of words that mean something somewhere.
fn any_json() -> impl Strategy<Value = Value> {
    let word =
        prop::sample::select(vec!["Ingress", "Egress", "TCP", "UDP", "In", "10.0.0.0/8", "::/0", "kube-dns", ""]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0i64..70_000).prop_map(Value::from),
        word.prop_map(Value::from),
        ".{0,6}".prop_map(Value::from),
    ];
    let key = prop::sample::select(vec![
        "podSelector",
        "namespaceSelector",
        "matchLabels",
        "matchExpressions",
        "key",
        "operator",
        "values",
        "ingress",
        "egress",
        "from",
        "to",
        "ports",
        "port",
        "endPort",
        "protocol",
        "ipBlock",
        "cidr",
        "except",
        "policyTypes",
        "metadata",
        "labels",
        "name",
        "spec",
        "template",
        "hostNetwork",
        "annotations",
        "x-unknown",
    ]);
    leaf.prop_recursive(6, 48, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((key.clone(), inner), 0..5).prop_map(|fields| Value::Object(
                fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
            )),
        ]
    })
}

fn selector() -> impl Strategy<Value = Value> {
    let pair = (
        prop::sample::select(vec!["app", "env", "kubernetes.io/metadata.name"]),
        prop::sample::select(vec!["a", "b", "kube-system"]),
    );
    let expression = (pair.clone(), 0..4).prop_map(|((key, value), operator)| match operator {
        0 => json!({"key": key, "operator": "In", "values": [value, "c"]}),
        1 => json!({"key": key, "operator": "NotIn", "values": [value]}),
        2 => json!({"key": key, "operator": "Exists"}),
        _ => json!({"key": key, "operator": "DoesNotExist"}),
    });
    prop_oneof![
        Just(json!({})),
        pair.prop_map(|(key, value)| json!({"matchLabels": {key: value}})),
        prop::collection::vec(expression, 1..3).prop_map(|expressions| json!({"matchExpressions": expressions})),
    ]
}

/// A spec that the API server takes.
fn valid_spec() -> impl Strategy<Value = Value> {
    let peer = prop_oneof![
        selector().prop_map(|pods| json!({"podSelector": pods})),
        selector().prop_map(|namespaces| json!({"namespaceSelector": namespaces})),
        (selector(), selector())
            .prop_map(|(namespaces, pods)| json!({"namespaceSelector": namespaces, "podSelector": pods})),
        prop::sample::select(vec![
            json!({"ipBlock": {"cidr": "0.0.0.0/0"}}),
            json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}),
            json!({"ipBlock": {"cidr": "::/0", "except": ["fd00:ec2::254/128"]}}),
        ]),
    ];
    let protocol = || prop::sample::select(vec!["TCP", "UDP", "SCTP"]);
    let port = prop_oneof![
        protocol().prop_map(|protocol| json!({"protocol": protocol})),
        (protocol(), 1u16..).prop_map(|(protocol, port)| json!({"protocol": protocol, "port": port})),
        (1u16..1000, 1000u16..).prop_map(|(port, end)| json!({"port": port, "endPort": end})),
        Just(json!({"port": "dns", "protocol": "UDP"})),
    ];
    let rule = move |field: &'static str| {
        (prop::collection::vec(peer.clone(), 0..3), prop::collection::vec(port.clone(), 0..3)).prop_map(
            move |(peers, ports)| {
                let mut rule = json!({"ports": ports});
                rule[field] = peers.into();
                rule
            },
        )
    };
    let types =
        prop::sample::select(vec![json!(null), json!(["Ingress"]), json!(["Egress"]), json!(["Ingress", "Egress"])]);
    (selector(), types, prop::collection::vec(rule("from"), 0..3), prop::collection::vec(rule("to"), 0..3)).prop_map(
        |(pods, types, ingress, egress)| json!({"podSelector": pods, "policyTypes": types, "ingress": ingress, "egress": egress}),
    )
}

fn review(operation: &str, kind: &str, object: &Value, old: &Value) -> Vec<u8> {
    let (group, version) = match kind {
        "NetworkPolicy" => ("networking.k8s.io", "v1"),
        "Deployment" => ("apps", "v1"),
        _ => ("", "v1"),
    };
    let request = json!({
        "uid": "u-1", "kind": {"group": group, "version": version, "kind": kind}, "operation": operation,
        "name": "x", "namespace": "shop", "object": object, "oldObject": old,
    });
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).to_string().into_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_object_makes_a_decision_panic_or_lose_its_uid(
        object in any_json(),
        old in any_json(),
        kind in prop::sample::select(vec!["NetworkPolicy", "Namespace", "Pod", "Deployment", "PodTemplate"]),
        operation in prop::sample::select(vec!["CREATE", "UPDATE", "DELETE", "CONNECT", "PATCH"]),
    ) {
        let body = review(operation, kind, &json!({"spec": object, "metadata": old}), &old);
        for answer in [validate(&KNOWLEDGE, &Facts::default(), &body).unwrap().answer().unwrap(), mutate(&KNOWLEDGE, &Facts::default(), &body).unwrap().answer().unwrap()] {
            let answer: Value = serde_json::from_slice(&answer.body).unwrap();
            prop_assert_eq!(&answer["response"]["uid"], "u-1");
            prop_assert!(answer["response"]["allowed"].is_boolean());
            prop_assert_eq!(answer["response"]["allowed"] == false, answer["response"]["status"]["code"].is_number());
            prop_assert_eq!(answer["response"]["patch"].is_string(), answer["response"]["patchType"] == "JSONPatch");
        }
    }

    #[test]
    fn what_the_api_takes_is_read_and_judged_alike_from_a_file_and_from_a_request(spec in valid_spec()) {
        let object = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "x", "namespace": "shop"}, "spec": spec,
        });
        // What our reader takes, the types of the API take.
        serde_json::from_value::<NetworkPolicy>(object.clone()).unwrap();
        let json = object.to_string();
        let read = |origin| {
            dialect::read(&Manifest::read("networking.k8s.io/v1", "NetworkPolicy", &json, origin).unwrap()).unwrap().unwrap()
        };
        let file = read(Origin::Author);
        let judged = judge(&KNOWLEDGE.configuration, &View::default(), Change::Write { new: &file, old: None }, Occasion::default());
        let server = read(Origin::Server { namespace: Some("shop") });
        let rules = |verdict: &portcullis::engine::Verdict| -> Vec<&'static str> {
            // What the author left out is known only from the file.
            let all = verdict.judgements.iter().map(|judgement| judgement.finding.rule);
            all.filter(|rule| *rule != "implicit-policy-types").collect()
        };
        let asked = judge(&KNOWLEDGE.configuration, &View::default(), Change::Write { new: &server, old: None }, Occasion::default());
        prop_assert_eq!(rules(&judged), rules(&asked));
        // Nothing that was there before denies.
        let again = judge(&KNOWLEDGE.configuration, &View::default(), Change::Write { new: &file, old: Some(&file) }, Occasion::default());
        prop_assert!(!again.denies(), "{:#?}", again.judgements);
    }

    #[test]
    fn an_injected_policy_has_dns_and_is_injected_once(spec in valid_spec()) {
        let object = json!({"metadata": {"name": "x", "namespace": "shop"}, "spec": spec});
        let body = review("CREATE", "NetworkPolicy", &object, &Value::Null);
        let answer: Value = serde_json::from_slice(&mutate(&KNOWLEDGE, &Facts::default(), &body).unwrap().answer().unwrap().body).unwrap();
        let Some(patch) = answer["response"]["patch"].as_str() else { return Ok(()) };
        let patch = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, patch).unwrap();
        let mut patched = object.clone();
        json_patch::patch(&mut patched, &serde_json::from_slice::<json_patch::Patch>(&patch).unwrap()).unwrap();
        serde_json::from_value::<NetworkPolicy>(patched.clone()).unwrap();
        let body = review("CREATE", "NetworkPolicy", &patched, &Value::Null);
        let second: Value = serde_json::from_slice(&mutate(&KNOWLEDGE, &Facts::default(), &body).unwrap().answer().unwrap().body).unwrap();
        prop_assert!(second["response"]["patch"].is_null());
        let decision = validate(&KNOWLEDGE, &Facts::default(), &body).unwrap().answer().unwrap().decision;
        prop_assert!(decision.judgements.iter().all(|judgement| !judgement.finding.rule.starts_with("dns-")), "{:#?}", decision.judgements);
    }

    #[test]
    fn no_text_makes_the_reader_of_manifests_panic(text in "[ -~\n]{0,120}") {
        let _ = yaml::read(&text);
    }

    #[test]
    fn json_is_read_as_json(value in any_json()) {
        let read = yaml::read(&value.to_string()).unwrap();
        prop_assert_eq!(&read[0].value, &value);
    }
}
