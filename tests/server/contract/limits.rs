//! How long, how large, how much.

use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::{Value, json};

use crate::support::client::{Blocking, Protocol, Sent};
use crate::support::reviews::{
    Webhook, create, egress, from, from_on_any_port, ingress, policy, to_database, to_dns, update,
};
use crate::support::verdict::{Verdict, borrowed, has_finding};

/// Trap 6. The API server says how long it waits. Once that is over, not even `failurePolicy: Ignore` lets anything in.
#[test]
fn a_body_that_comes_too_slowly_is_refused_before_the_api_server_gives_up() {
    let mut webhook = Webhook::new();
    let start = create(&policy(&egress(&[to_dns()]))).to_string();
    for protocol in Protocol::ALL {
        for endpoint in ["/validate", "/mutate"] {
            let mut client = Blocking::connect(&webhook.server, protocol);
            let (_rest, body) = Sent::half(&start[..100]);
            let asked = Instant::now();
            let answer = client.post(&format!("{endpoint}?timeout=1s"), body);
            let took = asked.elapsed();
            assert_eq!(answer.status, 504, "{protocol:?}: {answer}");
            assert!(answer.text.contains("deadline"), "{protocol:?}: {answer}");
            // By its own default it would be ten seconds. How much before the end it is, the server's own tests say.
            assert!(took < Duration::from_secs(5), "{protocol:?}: {took:?}");
        }
    }
    webhook.goes_on();
}

/// Trap 6.
#[test]
fn a_timeout_changes_no_answer() {
    let mut webhook = Webhook::new();
    let review = create(&policy(&egress(&[to_database()]))).to_string();
    for query in ["?timeout=1s", "?timeout=30s", "?timeout=1m0s", "?timeout=", "?timeout=never", "?a=b&timeout=5s", "?"]
    {
        let answer = webhook.post(&format!("/validate{query}"), review.clone());
        Verdict::read("/validate", &answer).denied_by(&[("dns-blocked", "spec.egress")]);
    }
}

/// Trap 9. Warnings beyond the limits are dropped by the API server, and a denial is for a person.
#[test]
fn three_hundred_faults_fit_in_an_answer() {
    let mut webhook = Webhook::new();
    let rules: Vec<Value> = (0..300)
        .map(|n| json!({"from": [{"ipBlock": {"cidr": format!("10.{}.{}.0/24", n / 250, n % 250)}}]}))
        .collect();
    let verdict = webhook.validate(&create(&policy(&ingress(&rules))));
    let places: Vec<String> = (0..300).map(|n| format!("spec.ingress[{n}]")).collect();
    let expected: Vec<(&str, &str)> = places.iter().map(|place| ("any-port", place.as_str())).collect();
    verdict.denied_by(&expected);
    for position in 0..12 {
        assert!(has_finding(&verdict.message, "any-port", &format!("spec.ingress[{position}]")), "{verdict}");
    }
    let last = verdict.message.lines().last().unwrap();
    assert_eq!(last, "and 288 more findings; `portcullis check` shows them all", "{verdict}");

    // How long and how many, and that none would be dropped, is looked at wherever a verdict is read.
    assert!(verdict.warned.len() > 10, "{verdict}");
    for (position, (rule, path)) in borrowed(&verdict.warned).into_iter().enumerate() {
        assert_eq!((rule, path), ("hardcoded-address", &*format!("spec.ingress[{position}].from[0]")), "{verdict}");
    }
}

/// Trap 9. The first warnings are those that are shown.
#[test]
fn what_would_deny_is_warned_about_first() {
    let mut webhook = Webhook::new();
    let address = |n: usize| json!({"from": [{"ipBlock": {"cidr": format!("10.0.{n}.0/24")}}], "ports": [{"protocol": "TCP", "port": 80}]});
    let mut rules: Vec<Value> = (0..100).map(address).collect();
    rules.push(from_on_any_port("batch"));
    let old = policy(&ingress(&rules));
    rules.push(from("frontend"));
    let verdict = webhook.validate(&update(&old, &policy(&ingress(&rules))));
    assert!(verdict.allowed, "{verdict}");
    assert_eq!(borrowed(&verdict.before), [("any-port", "spec.ingress[100]")], "{verdict}");
    assert_eq!(
        borrowed(&verdict.warned[..2]),
        [("any-port", "spec.ingress[100]"), ("hardcoded-address", "spec.ingress[0].from[0]"),],
        "{verdict}"
    );
}

/// Trap 9. One with a line break, a control character or broken UTF-8 is dropped whole.
#[test]
fn what_the_author_wrote_spoils_no_warning() {
    let mut webhook = Webhook::new();
    for label in ["a\nb", "a\u{7}\u{1b}[31mb", "a\u{85}b", &"ü".repeat(500), &"🙂".repeat(500), "\u{0}"] {
        let split = json!({
            "from": [{"namespaceSelector": {"matchLabels": {"team": label}}}, {"podSelector": {"matchLabels": {"app": label}}}],
            "ports": [{"protocol": "TCP", "port": 8080}],
        });
        let verdict = webhook.validate(&create(&policy(&ingress(&[split]))));
        verdict.allowed_with(&[("split-peer", "spec.ingress[0].from")]);
    }
}

/// Trap 21. An object and what it was are larger together than what most servers take. The deadline is the longest of an API
/// server, because an unoptimized build needs seconds to read the largest body. On a busy machine that body may still be
/// late, but it is never too large.
#[test]
fn a_large_body_is_judged() {
    let mut webhook = Webhook::new();
    let bad = policy(&egress(&[to_database()]));
    for protocol in Protocol::ALL {
        let mut client = Blocking::connect(&webhook.server, protocol);
        for size in [3 << 20, 15 << 19, 32 << 20] {
            let mut post = |endpoint: &str| {
                let answer = client.post(&format!("{endpoint}?timeout=30s"), padded(&bad, size));
                let is_late = size == 32 << 20 && answer.status == 504;
                (!is_late).then(|| Verdict::read(endpoint, &answer))
            };
            if let Some(verdict) = post("/validate") {
                verdict.denied_by(&[("dns-blocked", "spec.egress")]);
            }
            if let Some(verdict) = post("/mutate") {
                verdict.allowed_without_a_word();
            }
        }
    }
    webhook.goes_on();
}

/// Trap 21.
#[test]
fn a_body_that_is_too_large_is_refused_with_the_limit() {
    let mut webhook = Webhook::new();
    let good = policy(&egress(&[to_dns()]));
    for protocol in Protocol::ALL {
        let mut client = Blocking::connect(&webhook.server, protocol);
        for endpoint in ["/validate", "/mutate"] {
            let answer = client.post(endpoint, padded(&good, (32 << 20) + 1));
            assert_eq!(answer.status, 413, "{protocol:?}: {answer}");
            assert!(answer.text.contains("33554432"), "{protocol:?}: {answer}");
            client = Blocking::connect(&webhook.server, protocol);
        }
    }
    webhook.goes_on();
}

/// Trap 21. Nobody reads on once the limit is passed. Over HTTP/1.1 a client may see its connection close while it
/// still sends, and then it depends on the client whether it looks for the answer.
#[test]
fn a_body_far_beyond_the_limit_is_not_read_to_its_end() {
    let mut webhook = Webhook::new();
    let good = policy(&egress(&[to_dns()]));
    for protocol in Protocol::ALL {
        let mut client = Blocking::connect(&webhook.server, protocol);
        match client.request(Method::POST, "/validate", padded(&good, 96 << 20)) {
            Ok(answer) => assert_eq!(answer.status, 413, "{protocol:?}: {answer}"),
            Err(error) => assert_eq!(protocol, Protocol::Http1, "{error:?}"),
        }
        webhook.goes_on();
    }
}

/// The creation of the object, padded to this size by an annotation.
fn padded(object: &Value, size: usize) -> Vec<u8> {
    let mut object = object.clone();
    object["metadata"]["annotations"] = json!({"example.com/padding": ""});
    let bare = create(&object).to_string().len();
    object["metadata"]["annotations"]["example.com/padding"] = json!("x".repeat(size - bare));
    let body = create(&object).to_string().into_bytes();
    assert_eq!(body.len(), size);
    body
}

/// Trap 25. The API server puts the name of the webhook and a slash before each key.
#[test]
fn audit_annotations_have_plain_short_keys() {
    let mut webhook = Webhook::new();
    let many: Vec<Value> = (0..300).map(|n| from_on_any_port(&format!("app-{n}"))).collect();
    for spec in [ingress(&many), egress(&[to_database()]), ingress(&[json!({"ports": [{"port": 80}]})])] {
        let verdict = webhook.validate(&create(&policy(&spec)));
        let audit = verdict.audit.as_ref().and_then(Value::as_object).unwrap_or_else(|| panic!("{verdict}"));
        assert!(!audit.is_empty(), "{verdict}");
        for (key, value) in audit {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
            assert!(!key.is_empty() && key.len() <= 30 && key.chars().all(plain), "{key}: {verdict}");
            assert!(value.is_string(), "{value}: {verdict}");
        }
    }
    let verdict = webhook.validate(&create(&policy(&egress(&[to_database()]))));
    assert_eq!(verdict.audit, Some(json!({"rules": "dns-blocked=deny"})), "{verdict}");
}
