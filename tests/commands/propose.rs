//! `portcullis contracts propose`: what it proposes holds, and what it leaves out.

use std::path::{Path, PathBuf};

use crate::support::command::{Done, run};
use crate::support::golden;

/// States with policies, each a list of files or folders.
const STATES: [&[&str]; 11] = [
    &["tests/contracts/platform.yaml"],
    &["tests/contracts/cluster.yaml"],
    &["tests/audit/rich"],
    &["tests/audit/clean"],
    &["tests/trace/shop.yaml"],
    &["docs/examples/plugin-migration/workloads.yaml", "docs/examples/plugin-migration/before.yaml"],
    &["docs/examples/plugin-migration/workloads.yaml", "docs/examples/plugin-migration/calico.yaml"],
    &["docs/examples/layered-baseline"],
    &["docs/examples/monitoring-cut-off"],
    &["docs/examples/profiles-and-access"],
    &["docs/examples/pull-request"],
];

fn propose(state: &[&str], arguments: &[&str]) -> Done {
    run(&[&["contracts", "propose"], arguments, state].concat(), "")
}

/// The names of the contracts in an output.
fn names(out: &str) -> Vec<&str> {
    out.lines().filter_map(|line| line.strip_prefix("  name: ")).collect()
}

#[test]
fn every_proposal_holds_and_is_not_proposed_again() {
    let mut number = 0;
    for state in STATES {
        let proposed = propose(state, &["--limit", "1000"]);
        assert!(proposed.code == 0 || proposed.err.contains("not read"), "{state:?}: {}", proposed.err);
        let all = names(&proposed.out);
        let mut unique = all.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(all.len(), unique.len(), "{state:?}: two contracts of one name: {all:?}");
        assert!(!proposed.out.contains("pod-template-hash") && !proposed.out.contains("controller-revision-hash"));
        if all.is_empty() {
            continue;
        }
        number += all.len();
        let tested = run(&[&["test"], state, &["-"]].concat(), &proposed.out);
        for name in &all {
            let holds = tested.out.lines().any(|line| line.starts_with(&format!("holds: {name}:")));
            assert!(holds, "{state:?}: {name}: {}{}", tested.out, tested.err);
        }

        let again = run(&[&["contracts", "propose"], state, &["-"]].concat(), &proposed.out);
        assert_eq!(names(&again.out), [""; 0], "{state:?}: {}", again.out);
        assert!(again.err.contains("implied by existing contracts"), "{}", again.err);
    }
    assert!(number >= 25, "only {number} proposals");
}

#[test]
fn proposals_are_as_recorded() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/contracts/proposed.yaml");
    let proposed = propose(&["tests/contracts/platform.yaml"], &[]);
    assert_eq!(proposed.code, 0, "{}", proposed.err);
    golden::compare(&file, &proposed.out).unwrap();
}

/// The proposals about the example with these arguments.
fn proposals(arguments: &[&str]) -> (Vec<String>, String) {
    let proposed = propose(&["tests/contracts/platform.yaml"], arguments);
    assert_eq!(proposed.code, 0, "{}", proposed.err);
    (names(&proposed.out).into_iter().map(str::to_owned).collect(), proposed.err)
}

#[test]
fn the_limit_takes_from_each_kind_in_turn() {
    let (all, _) = proposals(&[]);
    let (few, err) = proposals(&["--limit", "6"]);
    assert_eq!(few.len(), 6);
    assert!(err.contains(&format!("6 contracts proposed, {} more left out by --limit 6", all.len() - 6)), "{err}");
    for kind in ["-sources-tcp-", "-no-internet-ingress", "-no-internet-egress", "-dns", "-from-ingress-nginx-"] {
        assert!(few.iter().any(|name| name.contains(kind)), "{kind}: {few:?}");
    }
    let (none, err) = proposals(&["--limit", "0"]);
    assert!(none.is_empty() && err.contains("0 contracts proposed"), "{err}");
}

#[test]
fn open_and_empty_namespaces_get_no_proposal() {
    let (all, _) = proposals(&[]);
    assert!(all.iter().all(|name| !name.starts_with("legacy") && !name.starts_with("empty")), "{all:?}");
    let (jobs, _) = proposals(&["--namespace", "jobs"]);
    assert!(!jobs.is_empty() && jobs.iter().all(|name| name.starts_with("jobs-")), "{jobs:?}");
    let unknown = propose(&["tests/contracts/platform.yaml"], &["--namespace", "nowhere"]);
    assert_eq!(unknown.code, 2);
    assert!(unknown.err.contains("namespace `nowhere` is unknown"), "{}", unknown.err);
    let nothing = propose(&[], &[]);
    assert_eq!(nothing.code, 2);
    assert!(nothing.err.contains("nothing to read"), "{}", nothing.err);
}

#[test]
fn a_name_that_another_contract_has_is_not_taken() {
    let contract = "apiVersion: portcullis.dev/v1alpha1\nkind: Contract\nmetadata: {name: shop-dns}\nspec:\n  mustReach:\n    \
                    from: [{namespaces: [monitoring]}]\n    to: [{entity: ClusterDNS}]\n";
    let done = run(&["contracts", "propose", "tests/contracts/platform.yaml", "-"], contract);
    let found: Vec<&str> = names(&done.out).into_iter().filter(|name| name.starts_with("shop-dns")).collect();
    assert!(matches!(found.as_slice(), [name] if name.len() == "shop-dns-00000000".len()), "{found:?}");
}

#[test]
fn labels_cannot_add_lines() {
    let policy = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a, namespace: shop}\nspec:\n  \
                  podSelector: {matchLabels: {app: \"x\\nkind: Secret\"}}\n  policyTypes: [Ingress]\n---\napiVersion: \
                  v1\nkind: Pod\nmetadata: {name: x, namespace: shop, labels: {app: \"x\\nkind: Secret\"}}\nspec: {}\n";
    let done = run(&["contracts", "propose", "tests/contracts/platform.yaml", "-"], policy);
    assert!(done.out.contains("app=x kind: Secret"), "{}", done.out);
    assert!(done.out.lines().all(|line| !line.starts_with("kind: Secret")), "{}", done.out);
}

#[test]
fn what_cannot_be_read_is_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let file: PathBuf = folder.path().join("broken.yaml");
    std::fs::write(&file, "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a}\nspec: 5\n")
        .unwrap();
    let done = propose(&["tests/contracts/platform.yaml", file.to_str().unwrap()], &[]);
    assert_eq!(done.code, 2, "the policy could open what a contract forbids");
    assert!(done.err.contains("not read") && !done.out.is_empty(), "{}", done.err);
}
