//! Whatever comes in: a clear answer, and the server goes on.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};

use crate::support::client::{Blocking, Protocol, Sent};
use crate::support::reviews::{
    UID, Webhook, create, egress, from_on_any_port, ingress, namespace, policy, to_database, to_dns, with,
};
use crate::support::verdict::Verdict;

/// Refused by HTTP, so that the failurePolicy decides, in words that hold these.
#[track_caller]
fn not_a_review(webhook: &mut Webhook, body: impl Into<Vec<u8>>, words: &str) {
    let body: Vec<u8> = body.into();
    let shown = String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned();
    for endpoint in ["/validate", "/mutate"] {
        let answer = webhook.post(endpoint, body.clone());
        assert_eq!(answer.status, 400, "{shown}: {answer}");
        assert!(answer.text.contains(words), "nothing of {words}: {shown}: {answer}");
        assert!(answer.text.len() < 1000, "{shown}: {answer}");
    }
    webhook.goes_on();
}

#[test]
fn a_truncated_review_is_refused() {
    let mut webhook = Webhook::new();
    let whole = create(&policy(&egress(&[to_dns()]))).to_string();
    for cut in [1, 2, whole.len() / 3, whole.len() / 2, whole.len() - 10, whole.len() - 1] {
        not_a_review(&mut webhook, &whole.as_bytes()[..cut], "EOF");
    }
    not_a_review(&mut webhook, format!("{whole}{whole}"), "trailing characters");
    not_a_review(&mut webhook, "", "the body is empty");
}

#[test]
fn what_is_no_review_is_refused() {
    let mut webhook = Webhook::new();
    let only = "expected admission.k8s.io/v1 AdmissionReview";
    not_a_review(&mut webhook, "{}", only);
    not_a_review(&mut webhook, policy(&egress(&[to_dns()])).to_string(), only);
    for body in ["[]", "null", "5", "\"AdmissionReview\"", "true", "hello", "kind: AdmissionReview\n", "<html></html>"]
    {
        not_a_review(&mut webhook, body, "admission.k8s.io/v1 AdmissionReview");
    }
    let mut review = create(&policy(&egress(&[to_dns()])));
    review["kind"] = json!("AdmissionRequest");
    not_a_review(&mut webhook, review.to_string(), "kind is AdmissionRequest");
    review["kind"] = json!("AdmissionReview");
    review["apiVersion"] = json!("admission.k8s.io/v0");
    not_a_review(&mut webhook, review.to_string(), "apiVersion is admission.k8s.io/v0");
    review["apiVersion"] = Value::Null;
    not_a_review(&mut webhook, review.to_string(), only);
    review["apiVersion"] = json!(["admission.k8s.io/v1"]);
    not_a_review(&mut webhook, review.to_string(), "admission.k8s.io/v1 AdmissionReview");
}

#[test]
fn a_review_without_a_uid_is_refused() {
    let mut webhook = Webhook::new();
    let good = create(&policy(&egress(&[to_dns()])));
    for uid in [json!(""), json!(5), json!(null), json!([UID])] {
        not_a_review(&mut webhook, with(good.clone(), &json!({"uid": uid})).to_string(), "the request has no uid");
    }
    let mut review = good.clone();
    review["request"] = Value::Null;
    not_a_review(&mut webhook, review.to_string(), "the review has no request");
    review["request"] = json!([]);
    not_a_review(&mut webhook, review.to_string(), "the request has no uid");
    review["request"] = json!("request");
    not_a_review(&mut webhook, review.to_string(), "the request has no uid");
    // What an answer looks like.
    review.as_object_mut().unwrap().remove("request");
    review["response"] = json!({"uid": UID, "allowed": true});
    not_a_review(&mut webhook, review.to_string(), "the review has no request");
}

/// In Go a null is an empty value: a rule that is null allows everything from everywhere.
#[test]
fn nulls_are_read_as_go_reads_them() {
    let mut webhook = Webhook::new();
    let spec = |spec: Value| create(&policy(&spec));
    let verdict = webhook.validate(&spec(json!({"podSelector": {}, "ingress": [null], "policyTypes": null})));
    let all = [("any-port", "spec.ingress[0]"), ("dissolved-baseline", "spec.ingress[0]")];
    verdict.denied_by(&all);
    let null_ports =
        json!({"podSelector": null, "ingress": [{"from": null, "ports": null}], "policyTypes": ["Ingress"]});
    webhook.validate(&spec(null_ports)).denied_by(&all);
    let null_port = json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}], "ports": [null]}]});
    webhook.validate(&spec(null_port)).denied_by(&[("any-port", "spec.ingress[0]")]);
    webhook.validate(&spec(json!({"podSelector": {}, "ingress": null, "egress": null}))).allowed_without_a_word();
    webhook.validate(&spec(Value::Null)).allowed_without_a_word();
    for endpoint in ["/validate", "/mutate"] {
        let null = with(create(&policy(&json!({}))), &json!({"object": null}));
        webhook.ask(endpoint, &null).refused(400, "BadRequest", &["object"]);
    }
    webhook.goes_on();
}

#[test]
fn an_object_of_another_form_is_denied() {
    let mut webhook = Webhook::new();
    let good = create(&policy(&egress(&[to_dns()])));
    for object in
        [json!(5), json!("policy"), json!(true), json!({"spec": "all"}), json!({"spec": {"podSelector": "app"}})]
    {
        let verdict = webhook.validate(&with(good.clone(), &json!({"object": object})));
        verdict.refused(422, "Invalid", &["NetworkPolicy cannot be parsed"]);
    }
    webhook.goes_on();
}

/// Some libraries read a list as the fields of an object in their order, and an empty one as an object without any.
#[test]
fn a_list_is_no_object() {
    let mut webhook = Webhook::new();
    let good = create(&policy(&egress(&[to_dns()])));
    for object in [
        json!([]),
        json!({"metadata": [], "spec": {}}),
        json!({"metadata": {"name": "web"}, "spec": []}),
        json!({"metadata": {"name": "web"}, "spec": {"podSelector": [], "policyTypes": ["Ingress"]}}),
        json!({"metadata": {"name": "web"}, "spec": {"podSelector": {}, "ingress": [[]]}}),
    ] {
        let verdict = webhook.validate(&with(good.clone(), &json!({"object": object})));
        verdict.refused(422, "Invalid", &["NetworkPolicy cannot be parsed"]);
    }
    not_a_review(
        &mut webhook,
        json!([good["apiVersion"], good["kind"], good["request"]]).to_string(),
        "AdmissionReview",
    );
    webhook.goes_on();
}

#[test]
fn deep_nesting_ends_nothing() {
    let mut webhook = Webhook::new();
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    let objects = format!("{}{}", "{\"a\":".repeat(20_000), format_args!("1{}", "}".repeat(20_000)));
    let marked = |review: &Value, deep: &str| review.to_string().replace("\"DEEP\"", deep);
    for deep in [&deep, &objects] {
        // Where nobody looks.
        let mut bad = policy(&egress(&[to_database()]));
        bad["metadata"]["futureField"] = json!("DEEP");
        let answer = webhook.post("/validate", marked(&create(&bad), deep));
        let verdict = Verdict::read("/validate", &answer);
        assert!(!verdict.allowed, "{verdict}");
        // Where somebody does.
        let strange = policy(&json!({"podSelector": {"matchLabels": "DEEP"}, "ingress": "DEEP"}));
        let answer = webhook.post("/validate", marked(&create(&strange), deep));
        Verdict::read("/validate", &answer).refused(422, "Invalid", &["NetworkPolicy cannot be parsed"]);
        // In an object that is patched.
        let mut new = namespace("new", &json!({}));
        new["futureField"] = json!("DEEP");
        let answer = webhook.post("/mutate", marked(&create(&new), deep));
        assert!(Verdict::read("/mutate", &answer).allowed, "{answer}");
        webhook.goes_on();

        not_a_review(&mut webhook, deep.as_str(), "admission.k8s.io/v1 AdmissionReview");
        let in_the_request = with(create(&new), &json!({"operation": "DEEP"}));
        let answer = webhook.post("/validate", marked(&in_the_request, deep));
        Verdict::read("/validate", &answer).refused(400, "BadRequest", &[]);
    }
}

#[test]
fn what_is_not_utf8_is_never_allowed() {
    let mut webhook = Webhook::new();
    not_a_review(&mut webhook, b"\xff\xfe{}".as_slice(), "UTF-8");
    let whole = create(&policy(&json!({"podSelector": {"matchLabels": {"app": "BROKEN"}}}))).to_string();
    let (start, end) = whole.split_once("BROKEN").unwrap();
    for broken in [b"\xff".as_slice(), b"\xc3\x28", b"\xed\xa0\x80", b"\xf0\x9f", b"\\ud800"] {
        let body = [start.as_bytes(), broken, end.as_bytes()].concat();
        for endpoint in ["/validate", "/mutate"] {
            let answer = webhook.post(endpoint, body.clone());
            match answer.status {
                400 => assert!(!answer.text.is_empty(), "{answer}"),
                _ => assert!(!Verdict::read(endpoint, &answer).allowed, "{answer}"),
            }
        }
        webhook.goes_on();
    }
}

#[test]
fn a_client_that_goes_away_disturbs_nobody() {
    let mut webhook = Webhook::new();
    let start = create(&policy(&egress(&[to_dns()]))).to_string();
    for protocol in Protocol::ALL {
        for _ in 0..5 {
            let client = Blocking::connect(&webhook.server, protocol);
            client.abandon("/validate", &start[..50], Duration::from_millis(20));
            let mut client = Blocking::connect(&webhook.server, protocol);
            // Nobody has the other half.
            let (_, body) = Sent::half(&start[..50]);
            let broken = client.request(Method::POST, "/mutate", body);
            assert!(broken.as_ref().map_or(true, |answer| answer.status == 400), "{}", broken.unwrap());
        }
        webhook.goes_on();
    }
}

#[test]
fn what_is_no_tls_disturbs_nobody() {
    let mut webhook = Webhook::new();
    for bytes in [
        b"POST /validate HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}".as_slice(),
        b"\x16\x03\x01\x00",
        &[0; 512],
    ] {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, webhook.server.port())).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        // Cut off, or left waiting for what it has to say.
        let _ = stream.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        drop(stream);
        webhook.goes_on();
    }
}

#[test]
fn other_paths_and_methods_are_refused() {
    let mut webhook = Webhook::new();
    let review = create(&policy(&egress(&[to_dns()]))).to_string();
    for protocol in Protocol::ALL {
        let mut client = Blocking::connect(&webhook.server, protocol);
        for path in ["/", "/validate/", "/Validate", "/mutate/x", "/metrics"] {
            let answer = client.post(path, review.clone());
            assert_eq!(answer.status, 404, "{path}: {answer}");
            assert!(answer.text.contains("/validate or /mutate"), "{path}: {answer}");
        }
        for method in [Method::GET, Method::PUT, Method::DELETE] {
            let answer = client.request(method.clone(), "/validate", review.clone()).unwrap();
            assert_eq!(answer.status, 405, "{method}: {answer}");
        }
    }
    webhook.goes_on();
}

/// All the faults of a policy are told, whatever else is strange about it.
#[test]
fn unknown_fields_are_no_fault() {
    let mut webhook = Webhook::new();
    let mut review = create(&policy(&ingress(&[from_on_any_port("batch")])));
    review["futureField"] = json!([1]);
    review["request"]["futureField"] = json!({"a": 1});
    review["request"]["object"]["spec"]["futureField"] = json!("x");
    webhook.validate(&review).denied_by(&[("any-port", "spec.ingress[0]")]);
}
