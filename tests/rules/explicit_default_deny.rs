//! The rule explicit-default-deny: only where a baseline is due.

use crate::case::{PROFILE, calico, cnp, found, namespace, np, object};
use crate::objects::objects;
use portcullis::config::Configuration;
use portcullis::engine::judge;
use portcullis::rules::{Change, Occasion};
use portcullis::view::View;

const RULE: &str = "explicit-default-deny";
const DENY: &str = "{podSelector: {}, policyTypes: [Ingress, Egress]}";

#[test]
fn only_where_a_baseline_is_due() {
    assert_eq!(found(RULE, &[namespace("shop", PROFILE), np("p", DENY)]), ["spec"]);
    let applied = namespace("shop", "network-policy.portcullis.dev/baseline: applied");
    assert_eq!(found(RULE, &[applied, np("p", DENY)]), ["spec"]);
    assert!(found(RULE, &[namespace("shop", ""), np("p", DENY)]).is_empty());
    assert!(found(RULE, &[np("p", DENY)]).is_empty());
    let unknown = namespace("shop", "network-policy.portcullis.dev/profile: other");
    assert!(found(RULE, &[unknown, np("p", DENY)]).is_empty());
    assert!(found(RULE, &[namespace("shop", PROFILE), np("portcullis-default-deny", DENY)]).is_empty());
}

#[test]
fn only_what_does_nothing_else() {
    let judged = |policy: String| found(RULE, &[namespace("shop", PROFILE), policy]);
    assert!(judged(np("p", "{podSelector: {}, ingress: [{ports: [{port: 80}]}]}")).is_empty());
    assert!(judged(cnp("p", "{endpointSelector: {}, ingressDeny: [{fromEntities: [world]}]}")).is_empty());
    assert_eq!(judged(cnp("p", "{endpointSelector: {}, ingress: [{}]}")), ["spec"]);
    assert!(judged(calico("{selector: all(), types: [Ingress], ingress: [{action: Deny}]}")).is_empty());
    assert_eq!(judged(calico("{selector: all(), types: [Ingress]}")), ["spec"]);
}

#[test]
fn what_stops_more_than_the_baseline_or_nothing_is_another_matter() {
    let security = object("projectcalico.org/v3", "Tier", "name: security", "{order: 100}");
    let quarantine = object(
        "projectcalico.org/v3",
        "NetworkPolicy",
        "name: security.quarantine, namespace: shop",
        "{tier: security, selector: \"quarantined == 'true'\", types: [Ingress, Egress]}",
    );
    assert!(found(RULE, &[namespace("shop", PROFILE), security, quarantine]).is_empty());
    let staged = calico("{selector: all(), types: [Ingress]}").replace("kind: Network", "kind: StagedNetwork");
    assert!(found(RULE, &[namespace("shop", PROFILE), staged]).is_empty());
}

#[test]
fn it_is_off_as_shipped() {
    let configuration = Configuration::shipped().unwrap();
    let view = View::of(objects(&namespace("shop", PROFILE)));
    let new = objects(&np("p", "{podSelector: {}, policyTypes: [Ingress]}")).remove(0);
    let verdict = judge(&configuration, &view, Change::Write { new: &new, old: None }, Occasion::default());
    assert!(verdict.judgements.iter().all(|judgement| judgement.finding.rule != RULE));
}
