//! Changes and deletions of policies in every dialect: what they take away, what was there before, and what counts for
//! nothing because it is not in force.

use crate::objects::objects;
use crate::shipped::CONFIGURATION;
use portcullis::engine::{Spared, Verdict, judge};
use portcullis::model::Finding;
use portcullis::rules::{Change, Mode, Occasion};
use portcullis::view::View;

/// The denials of a change from `old` to `new`, or of the deletion of `old`, with other objects around it: rule and path.
/// The texts are in `tests/texts`.
fn denied(others: &[&str], old: &str, new: Option<&str>) -> Vec<String> {
    denials(others, old, new).iter().map(|finding| format!("{} {}", finding.rule, finding.path)).collect()
}

/// The findings that deny a change.
fn denials(others: &[&str], old: &str, new: Option<&str>) -> Vec<Finding> {
    let old = objects(old).remove(0);
    let view = View::of(others.iter().flat_map(|yaml| objects(yaml)).chain([old.clone()]));
    let new = new.map(|new| objects(new).remove(0));
    let change = match &new {
        Some(new) => Change::Write { new, old: Some(&old) },
        None => Change::Delete { old: &old },
    };
    let verdict = judge(&CONFIGURATION, &view, change, Occasion::default());
    record(change, others, &verdict);
    let denials = verdict.judgements.into_iter().filter(|judgement| judgement.action == Mode::Deny);
    denials.map(|judgement| judgement.finding).collect()
}

/// Checks the texts for a change with other objects around it.
fn record(change: Change<'_>, others: &[&str], verdict: &Verdict) {
    let verb = match change {
        Change::Write { old: None, .. } => "create",
        Change::Write { .. } => "change",
        Change::Delete { .. } => "delete",
    };
    let others = others.iter().flat_map(|yaml| objects(yaml)).take(3).map(|object| object.id.to_string());
    let others = others.collect::<Vec<_>>().join(", ");
    let input = format!("{verb} {}, with: {others}", change.object().id);
    crate::texts::check("tests/rules/changes_across_dialects.rs", "changes", &input, &verdict.judgements);
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

const TAKES: &str = "dns-blocked spec";

#[test]
fn the_last_way_to_dns_is_not_taken_away() {
    for dns in [CILIUM, CALICO, ADMIN] {
        assert_eq!(denied(&[ISOLATES], dns, None), [TAKES], "{dns}");
        assert!(denied(&[], dns, None).is_empty(), "nobody is isolated: {dns}");
        let moved = dns.replace("53", "54");
        let found = denied(&[ISOLATES], dns, Some(&moved));
        assert!(found.contains(&TAKES.to_owned()), "{found:?}: {moved}");
        let wider = dns.replace("name: dns", "name: dns, labels: {a: b}");
        assert!(denied(&[ISOLATES], dns, Some(&wider)).is_empty());
    }
    // By another policy of another dialect it is still there.
    assert!(denied(&[ISOLATES, CALICO], CILIUM, None).is_empty());
    // A policy that concerns no pods any more takes away as well.
    let nodes = CILIUM.replace("endpointSelector", "nodeSelector");
    assert_eq!(denied(&[ISOLATES], CILIUM, Some(&nodes)), [TAKES]);
    let untracked = CALICO.replace("types: [Egress]", "types: [Egress]\n  doNotTrack: true\n  applyOnForward: true");
    assert_eq!(denied(&[ISOLATES], CALICO, Some(&untracked)), [TAKES]);
}

/// Among policies whose selectors are hard to compare, and among many of the cluster for namespaces apart from each other: a
/// decision does not take minutes, and what is plain is found.
#[test]
fn the_last_way_to_dns_is_looked_for_as_long_as_it_may_take() {
    let hard = |number: usize, action: &str| {
        let parts: Vec<String> =
            (0..12).map(|part| format!("(a{part} == 'x{number}' || b{} == 'y')", part + number)).collect();
        format!(
            "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {{name: p{number}, namespace: shop}}\nspec:\n  order: \
             {number}\n  selector: \"{}\"\n  types: [Egress]\n  egress: [{{action: {action}, protocol: UDP, destination: {{ports: \
             [53]}}}}]\n",
            parts.join(" && ")
        )
    };
    let others: Vec<String> = (0..400).map(|number| hard(number, ["Allow", "Deny", "Pass"][number % 3])).collect();
    let others: Vec<&str> = others.iter().map(String::as_str).collect();
    let _ = denied(&others, &hard(400, "Allow"), None);

    let team = |number: usize| {
        CILIUM.replace("name: dns", &format!("name: dns-{number}")).replace(
            "endpointSelector: {}",
            &format!("endpointSelector: {{matchLabels: {{io.cilium.k8s.namespace.labels.team: t{number}}}}}"),
        )
    };
    let mut others: Vec<String> = (1..1500).map(team).collect();
    assert!(denied(&others.iter().map(String::as_str).collect::<Vec<_>>(), &team(0), None).is_empty());
    others.push(team(0).replace("name: dns-0", "name: other").replace("port: '53'", "port: '443'"));
    let found = denials(&others.iter().map(String::as_str).collect::<Vec<_>>(), &team(0), None);
    assert!(found.len() == 1 && found[0].message.contains("CiliumClusterwideNetworkPolicy other"), "{found:?}");
}

#[test]
fn who_neither_isolates_nor_denies_dns_is_not_blamed() {
    let tier = "{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: security}, spec: {order: 10, defaultAction: Pass}}\n";
    let blocks = "
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: security.blocks, namespace: shop}
spec: {tier: security, types: [Egress], egress: [{action: Deny, destination: {nets: [192.0.2.1/32]}}]}
";
    let denied = denied(&[ISOLATES, tier, blocks], CILIUM, None);
    assert_eq!(denied, [TAKES]);
}

#[test]
fn hosts_lose_no_dns_that_pods_need() {
    let hosts = "
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: hosts}
spec: {selector: has(kubernetes-host), types: [Egress]}
";
    let denials = |others: &[&str]| {
        let dns = objects(CALICO).remove(0);
        let mut view = View::of_cluster();
        for object in others.iter().flat_map(|yaml| objects(yaml)).chain([dns.clone()]) {
            view.insert(object);
        }
        judge(&CONFIGURATION, &view, Change::Delete { old: &dns }, Occasion::default()).judgements.len()
    };
    assert_eq!(denials(&[hosts]), 0);
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: shop, labels: {kubernetes-host: ''}}}\n";
    assert_eq!(denials(&[hosts, pod]), 1, "it is for a pod too");
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
    assert_eq!(found[0], TAKES);
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
    assert!(found.contains(&TAKES.to_owned()), "{found:?}");
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

/// A rule lets more through when what came before it comes before it no more.
#[test]
fn an_old_fault_denies_where_it_weighs_more_than_before() {
    let calico = |order: u16, rules: &str| {
        format!(
            "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {{name: wide, namespace: shop}}\nspec: {{order: \
             {order}, types: [Ingress], ingress: [{rules}]}}\n"
        )
    };
    let (all, other) = ("{action: Allow}", "{action: Allow, protocol: TCP, destination: {ports: [80]}}");
    let deny = |net: &str| format!("{{action: Deny, source: {{nets: [{net}]}}}}");
    let is_denied = |old: &str, new: &str| {
        let found = denied(&[], old, Some(new));
        assert!(found.iter().all(|found| found.starts_with("any-port ")), "{found:?}");
        !found.is_empty()
    };
    let old = calico(5000, &format!("{}, {all}", deny("10.0.0.0/8")));
    for (new, is_worse) in [
        (calico(5000, all), true),
        (calico(5000, &format!("{all}, {}", deny("10.0.0.0/8"))), true),
        (calico(5000, &format!("{}, {all}", deny("10.0.0.0/16"))), true),
        (calico(1, &format!("{}, {all}", deny("10.0.0.0/8"))), true),
        (calico(5000, &format!("{}, {other}, {all}", deny("10.0.0.0/8"))), false),
        (calico(5000, &format!("{}, {}, {all}", deny("192.0.2.0/24"), deny("10.0.0.0/8"))), false),
        (calico(5000, &format!("{}, {all}", deny("0.0.0.0/0"))), false),
        (calico(6000, &format!("{}, {all}", deny("10.0.0.0/8"))), false),
    ] {
        assert_eq!(is_denied(&old, &new), is_worse, "{new}");
    }
    let cilium = |denials: &str| {
        format!(
            "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: wide, namespace: shop}}\nspec:\n  \
             endpointSelector: {{}}\n  ingress: [{{fromEntities: [cluster]}}]\n  ingressDeny: [{denials}]\n"
        )
    };
    let old = cilium("{fromEndpoints: [{matchLabels: {app: a}}]}");
    assert!(is_denied(&old, &cilium("")), "what was denied comes in now");
    assert!(!is_denied(&old, &old.replace("  ingress:", "  description: x\n  ingress:")));
}

#[test]
fn a_staged_policy_warns_and_says_why() {
    let staged = CALICO
        .replace("kind: GlobalNetworkPolicy", "kind: StagedGlobalNetworkPolicy")
        .replace("ports: [53]", "ports: [54]");
    let object = objects(&staged).remove(0);
    let verdict =
        judge(&CONFIGURATION, &View::default(), Change::Write { new: &object, old: None }, Occasion::default());
    record(Change::Write { new: &object, old: None }, &[], &verdict);
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
    let found: Vec<String> = denials(&others, CILIUM, None).into_iter().map(|finding| finding.message).collect();
    assert_eq!(found.len(), 20);
    assert!(found[0].contains("NetworkPolicy shop00/isolates") && found[19].contains("shop19/"), "{found:#?}");
}

/// A policy that a change of another takes DNS from, though it was never the only one.
#[test]
fn some_of_the_pods_losing_dns_is_enough() {
    let web = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: dns-web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Egress]
  egress:
  - to: [{namespaceSelector: {}}]
    ports: [{protocol: UDP, port: 53}]
";
    let found = denied(&[ISOLATES], web, None);
    assert_eq!(found, [TAKES]);
}

/// Calico up to v3.31 stores all policies of a tier with its name before theirs, and asks them in the order of what is left.
#[test]
fn what_is_stored_stands_where_it_stands_as_it_is_shown() {
    let policy = |version: &str, name: &str, action: &str| {
        format!(
            "apiVersion: {version}\nkind: GlobalNetworkPolicy\nmetadata: {{name: {name}}}\nspec: {{types: [Egress], egress: [{{action: \
             {action}}}]}}\n"
        )
    };
    let denies = policy("projectcalico.org/v3", "c", "Deny");
    for (version, first) in [("projectcalico.org/v3", "b"), ("crd.projectcalico.org/v1", "default.b")] {
        let found = denied(&[ISOLATES, &denies], &policy(version, first, "Allow"), None);
        assert!(found.contains(&TAKES.to_owned()), "{first}: {found:?}");
    }
}

fn cluster(name: &str, priority: u16, tier: &str, action: &str, to: &str) -> String {
    format!(
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{name: {name}}}\nspec: {{tier: {tier}, \
         priority: {priority}, subject: {{namespaces: {{}}}}, egress: [{{action: {action}, to: [{to}]}}]}}\n"
    )
}

const SYSTEM: &str = "{namespaces: {matchLabels: {kubernetes.io/metadata.name: kube-system}}}";

#[test]
fn a_denial_that_comes_to_light_is_the_fault_of_the_change() {
    let deny = cluster("deny", 10, "Admin", "Deny", "{namespaces: {}}");
    let accept = |priority| cluster("accept", priority, "Admin", "Accept", SYSTEM);
    let lost = TAKES.to_owned();
    assert!(denied(&[&deny], &accept(5), None).contains(&lost));
    assert!(denied(&[&deny], &accept(5), Some(&accept(50))).contains(&lost));
    assert!(!denied(&[&deny], &accept(5), Some(&accept(6))).iter().any(|found| found.starts_with("dns-blocked")));
    // A Baseline denial is met once the NetworkPolicy that decided before it is gone.
    let baseline = cluster("deny", 10, "Baseline", "Deny", "{namespaces: {}}");
    let dns = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: dns, namespace: shop}
spec: {podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {}}], ports: [{protocol: UDP, port: 53}]}]}
";
    let found = denied(&[&baseline], dns, None);
    assert!(found.contains(&lost), "{found:?}");
}

#[test]
fn a_pass_that_jumps_ahead_and_a_tier_that_drops_are_changes_too() {
    let accept = cluster("accept", 10, "Admin", "Accept", SYSTEM);
    let pass = objects(&cluster("pass", 1, "Admin", "Pass", SYSTEM)).remove(0);
    let view = View::of(objects(&accept).into_iter().chain(objects(ISOLATES)));
    let verdict = judge(&CONFIGURATION, &view, Change::Write { new: &pass, old: None }, Occasion::default());
    record(Change::Write { new: &pass, old: None }, &[&accept, ISOLATES], &verdict);
    let found: Vec<_> = verdict.judgements.iter().map(|judgement| &judgement.finding).collect();
    let found: Vec<String> = found.iter().map(|finding| format!("{} {}", finding.rule, finding.path)).collect();
    assert_eq!(found, [TAKES]);

    let tier = |action: &str| {
        format!(
            "{{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {{name: security}}, spec: {{order: 10, defaultAction: \
             {action}}}}}\n"
        )
    };
    let guard = "
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: security.metadata}
spec: {tier: security, types: [Egress], egress: [{action: Deny, destination: {nets: [169.254.169.254/32]}}]}
";
    let found = denied(&[guard], &tier("Pass"), Some(&tier("Deny")));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0], TAKES);
}

#[test]
fn what_never_worked_can_be_removed() {
    let broken = CILIUM.replace("  egress:\n", "  egressDeny: [{toEntities: [cluster]}]\n  egress:\n");
    assert!(denied(&[ISOLATES], &broken, None).is_empty());
    // And a policy that is bad already may be for fewer pods.
    let narrow = ISOLATES.replace("podSelector: {}", "podSelector: {matchLabels: {app: web}}");
    assert!(denied(&[], ISOLATES, Some(&narrow)).is_empty());
    assert_eq!(denied(&[], &narrow, Some(ISOLATES)).len(), 1);
}

#[test]
fn whoever_isolates_the_dns_pods_lets_everybody_ask() {
    let found = |yaml: &str| -> Vec<String> {
        let object = objects(yaml).remove(0);
        let verdict =
            judge(&CONFIGURATION, &View::default(), Change::Write { new: &object, old: None }, Occasion::default());
        record(Change::Write { new: &object, old: None }, &[], &verdict);
        let of_dns = verdict.judgements.into_iter().filter(|judgement| judgement.finding.rule == "dns-blocked");
        of_dns.map(|judgement| judgement.finding.path.to_string()).collect()
    };
    let gnp = |rest: &str| {
        format!(
            "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {{name: all}}\nspec: {{types: [Ingress]{rest}}}\n"
        )
    };
    let to_dns = "{action: Allow, protocol: UDP, source: {namespaceSelector: all()}, destination: {ports: [53]}}";
    assert_eq!(found(&gnp("")), ["spec.ingress"]);
    assert!(found(&gnp(", namespaceSelector: \"projectcalico.org/name not in {'kube-system'}\"")).is_empty());
    assert!(found(&gnp(", namespaceSelector: \"has(team)\"")).is_empty(), "not known to be for them");
    assert!(found(&gnp(&format!(", ingress: [{to_dns}]"))).is_empty());
    let deny =
        cluster("deny", 1, "Admin", "Deny", "{namespaces: {}}").replace("egress", "ingress").replace(" to:", " from:");
    assert_eq!(found(&deny), ["spec.ingress[0]"]);
    let cilium = "
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: deny}
spec:
  endpointSelector: {}
  enableDefaultDeny: {ingress: false}
  ingress: [{fromEntities: [all], toPorts: [{ports: [{port: '53'}]}]}]
  ingressDeny: [{fromEntities: [cluster]}]
";
    assert_eq!(found(cilium), ["spec.ingressDeny[0]"]);
    assert_eq!(found(&deny.replace("Admin", "Baseline")), ["spec.ingress[0]"]);
    // The DNS pods themselves ask others.
    let own = ISOLATES
        .replace("shop", "kube-system")
        .replace("{podSelector: {}", "{podSelector: {matchLabels: {k8s-app: kube-dns}}");
    assert!(found(&own).is_empty());
}

#[test]
fn a_dns_rule_that_names_depend_on_is_not_taken_away() {
    let seen = CILIUM.replace("protocol: ANY}]}]", "protocol: ANY}], rules: {dns: [{matchPattern: '*'}]}}]");
    let names = "
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: names, namespace: shop}
spec:
  endpointSelector: {}
  egress: [{toFQDNs: [{matchName: a.example.com}], toPorts: [{ports: [{port: '443'}]}]}]
";
    let lost = "fqdn-without-dns spec".to_owned();
    assert!(denied(&[names], &seen, None).contains(&lost));
    assert_eq!(denied(&[names], &seen, Some(CILIUM)), std::slice::from_ref(&lost));
    assert!(denied(&[names], &seen, Some(&seen.replace("protocol: ANY", "protocol: TCP"))).contains(&lost));
    assert!(denied(&[names], CILIUM, Some(&seen)).is_empty());
}
