//! The engine that adds policies up, held against an oracle: an evaluator of its own for each dialect, written from the
//! specifications, that knows nothing of the crate (`oracle/`). Thousands of generated clusters, and the cases of the
//! upstream conformance tests of NetworkPolicy.
//!
//! `PROPTEST_CASES` says how many clusters of each kind are generated; what once failed is tried again first
//! (`proptest-regressions/`).

/// Once: other tests use the oracle too.
use crate::comparison::{Cluster, Hidden, agrees, holds_for_each, unknown_is_not_no};
use crate::oracle::generate::{
    flow, world, world_of_calico, world_of_cilium, world_of_cluster_policies, world_of_kubernetes,
};
use proptest::prelude::*;

#[test]
fn the_conformance_tests_of_network_policy_pass() {
    let mut expectations = 0;
    for case in crate::oracle::conformance::cases() {
        let cluster = Cluster::of(&case.world);
        for expected in &case.expected {
            let answer = cluster.answer(&case.flow(expected));
            assert_eq!(answer.connected(), expected.connected, "{}: {expected:?}", case.name);
            expectations += 1;
        }
    }
    assert!(expectations > 20_000, "{expectations}");
}

macro_rules! held_against_the_oracle {
    ($($name:ident: $worlds:expr,)+) => {$(
        mod $name {
            use super::*;

            proptest! {
                #![proptest_config(ProptestConfig::with_cases(cases()))]

                #[test]
                fn every_flow_fares_as_the_oracle_says(
                    world in $worlds,
                    picks in prop::collection::vec(flow(), 12),
                ) {
                    agrees(&world, &picks)?;
                }

                #[test]
                fn what_is_answered_without_assumptions_is_true_whatever_is_hidden(
                    world in $worlds,
                    picks in prop::collection::vec(flow(), 6),
                    hide in any::<[bool; 5]>(),
                ) {
                    let [labels_of_namespaces, labels_of_pods, addresses, accounts, ports] = hide;
                    let hidden = Hidden { labels_of_namespaces, labels_of_pods, addresses, accounts, ports };
                    unknown_is_not_no(&world, &picks, hidden)?;
                }

                #[test]
                fn what_is_said_of_all_pods_of_a_policy_holds_for_each(
                    world in $worlds,
                    picks in prop::collection::vec(flow(), 3),
                ) {
                    holds_for_each(&world, &picks)?;
                }
            }
        }
    )+};
}

/// How many clusters of each kind.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(1000)
}

held_against_the_oracle! {
    kubernetes: world_of_kubernetes(),
    cilium: world_of_cilium(),
    calico: world_of_calico(),
    cluster_policies: world_of_cluster_policies(),
    everything: world(),
}
