//! Changes and deletions of policies in every dialect: what they take away, what was there before, and what counts for
//! nothing because it is not in force.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so by a panic"
)]

use portcullis::config::Configuration;
use portcullis::dialect::{self, Manifest, Origin};
use portcullis::engine::{Spared, judge};
use portcullis::manifest;
use portcullis::model::Object;
use portcullis::rules::{Change, Mode};
use portcullis::view::View;

fn objects(yaml: &str) -> Vec<Object> {
    let documents = manifest::read(yaml).unwrap_or_else(|error| panic!("{error}:\n{yaml}"));
    let read = |document: manifest::Document| {
        let value = document.value;
        let [api_version, kind] = ["apiVersion", "kind"].map(|field| value[field].as_str().unwrap().to_owned());
        let json = value.to_string();
        let manifest = Manifest::read(&api_version, &kind, &json, Origin::Author).unwrap();
        dialect::read(&manifest).unwrap_or_else(|error| panic!("{error}:\n{yaml}")).expect("a kind that is known")
    };
    documents.into_iter().map(read).collect()
}

/// What denies a change from `old` to `new` (or the deletion of `old`) where the others are there too, as `rule: message`.
fn denied(others: &[&str], old: &str, new: Option<&str>) -> Vec<String> {
    let old = objects(old).remove(0);
    let view = View::of(others.iter().flat_map(|yaml| objects(yaml)).chain([old.clone()]));
    let new = new.map(|new| objects(new).remove(0));
    let change = match &new {
        Some(new) => Change::Write { new, old: Some(&old) },
        None => Change::Delete { old: &old },
    };
    let verdict = judge(&Configuration::shipped().unwrap(), &view, change);
    let denials = verdict.judgements.into_iter().filter(|judgement| judgement.action == Mode::Deny);
    denials.map(|judgement| format!("{}: {}", judgement.finding.rule, judgement.finding.message)).collect()
}

const ISOLATES: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: isolates, namespace: shop}
spec: {podSelector: {}, policyTypes: [Egress]}
";
const CILIUM: &str = "
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: dns}
spec:
  endpointSelector: {}
  egress:
  - toEndpoints: [{matchLabels: {k8s:io.kubernetes.pod.namespace: kube-system, k8s:k8s-app: kube-dns}}]
    toPorts: [{ports: [{port: '53', protocol: ANY}]}]
";
const CALICO: &str = "
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: dns}
spec:
  types: [Egress]
  egress:
  - {action: Allow, protocol: UDP, destination: {namespaceSelector: \"projectcalico.org/name == 'kube-system'\", ports: [53]}}
";
const ADMIN: &str = "
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: dns}
spec:
  tier: Admin
  priority: 10
  subject: {namespaces: {}}
  egress:
  - action: Accept
    to: [{namespaces: {matchLabels: {kubernetes.io/metadata.name: kube-system}}}]
    protocols: [{udp: {destinationPort: {number: 53}}}]
";

const TAKES: &str = "it takes the last way to the cluster's DNS from all pods in namespace shop, which NetworkPolicy shop/isolates \
                     isolates for egress";

#[test]
fn the_last_way_to_dns_is_not_taken_away() {
    for dns in [CILIUM, CALICO, ADMIN] {
        assert_eq!(denied(&[ISOLATES], dns, None), [format!("dns-blocked: deleting {TAKES}")], "{dns}");
        assert!(denied(&[], dns, None).is_empty(), "nobody is isolated: {dns}");
        let moved = dns.replace("53", "54");
        let found = denied(&[ISOLATES], dns, Some(&moved));
        assert!(found.contains(&format!("dns-blocked: changing {TAKES}")), "{found:?}: {moved}");
        let wider = dns.replace("name: dns", "name: dns, labels: {a: b}");
        assert!(denied(&[ISOLATES], dns, Some(&wider)).is_empty());
    }
    // By another policy of another dialect it is still there.
    assert!(denied(&[ISOLATES, CALICO], CILIUM, None).is_empty());
    // A policy that concerns no pods any more takes away as well.
    let nodes = CILIUM.replace("endpointSelector", "nodeSelector");
    assert_eq!(denied(&[ISOLATES], CILIUM, Some(&nodes)), [format!("dns-blocked: changing {TAKES}")]);
    let untracked = CALICO.replace("types: [Egress]", "types: [Egress]\n  doNotTrack: true\n  applyOnForward: true");
    assert_eq!(denied(&[ISOLATES], CALICO, Some(&untracked)), [format!("dns-blocked: changing {TAKES}")]);
}

#[test]
fn what_lets_dns_through_a_tier_is_a_way_too() {
    let tier = "{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: security}, spec: {order: 10}}\n";
    let policy = |name: &str, rest: &str| {
        format!(
            "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {{name: security.{name}}}\nspec: {{tier: \
             security, types: [Egress]{rest}}}\n"
        )
    };
    let isolates = policy("isolates", "");
    let passes = policy("passes", ", egress: [{action: Pass}]");
    let found = denied(&[tier, &isolates], &passes, None);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("dns-blocked: deleting it takes the last way"), "{found:?}");
}

#[test]
fn what_is_not_in_force_can_go() {
    let staged = CALICO.replace("kind: GlobalNetworkPolicy", "kind: StagedGlobalNetworkPolicy");
    let refused = CILIUM.replace("  egress:\n", "  egress:\n  - toFQDNs: [{matchName: '*.a.b'}]\n");
    for dns in [staged, refused] {
        let found = denied(&[ISOLATES], &dns, None);
        assert!(found.is_empty(), "{found:?}: {dns}");
    }
}

#[test]
fn what_becomes_refused_takes_away_what_it_gave() {
    let refused = CILIUM.replace("  egress:\n", "  egress:\n  - toFQDNs: [{matchName: '*.a.b'}]\n");
    let found = denied(&[ISOLATES], CILIUM, Some(&refused));
    assert!(found.contains(&format!("dns-blocked: changing {TAKES}")), "{found:?}");
}

#[test]
fn an_old_fault_does_not_deny_where_fewer_are_concerned() {
    let wide = |selector: &str| {
        format!(
            "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {{name: wide}}\nspec:\n  namespaceSelector: \
             {selector}\n  types: [Ingress]\n  ingress: [{{action: Allow, source: {{selector: app == 'web'}}}}]\n"
        )
    };
    let (teams, one) = (wide("has(team)"), wide("team == 'a'"));
    assert!(denied(&[], &teams, Some(&one)).is_empty(), "narrowed");
    assert_eq!(denied(&[], &one, Some(&teams)).len(), 1, "widened");
}

#[test]
fn a_staged_policy_warns_and_says_why() {
    let staged = CALICO
        .replace("kind: GlobalNetworkPolicy", "kind: StagedGlobalNetworkPolicy")
        .replace("ports: [53]", "ports: [54]");
    let object = objects(&staged).remove(0);
    let verdict =
        judge(&Configuration::shipped().unwrap(), &View::default(), Change::Write { new: &object, old: None });
    let found: Vec<_> = verdict
        .judgements
        .iter()
        .map(|judgement| (judgement.finding.rule, judgement.action, judgement.spared))
        .collect();
    assert_eq!(found, [("dns-blocked", Mode::Warn, Some(Spared::Staged))]);
}

#[test]
fn the_same_is_said_in_the_same_order() {
    let many: Vec<String> = (0..30).map(|n| ISOLATES.replace("shop", &format!("shop{n:02}"))).collect();
    let others: Vec<&str> = many.iter().map(String::as_str).collect();
    let found = denied(&others, CILIUM, None);
    assert_eq!(found.len(), 20);
    assert!(found[0].contains("NetworkPolicy shop00/isolates") && found[19].contains("shop19/"), "{found:#?}");
}
