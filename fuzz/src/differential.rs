//! The engine against the oracle of `tests/oracle`: small clusters, every dialect, many flows.
//!
//! Four bytes of input are the seed of one part: the pods and namespaces, one policy, the flows. So a mutation changes one
//! part of a cluster and leaves the others as they are.

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::Value;

use crate::comparison::{Hidden, agrees, holds_for_each, unknown_is_not_no};
use crate::oracle::generate::{
    assemble, calico_policy, calico_tier, cilium_policy, cluster, cluster_policy, flow, kubernetes_policy,
};

/// Flows that one input asks about.
const FLOWS: usize = 24;
/// Policies and tiers of one cluster.
const MAX_POLICIES: usize = 8;

/// Holds the engine against the oracle in one cluster.
pub fn run(data: &[u8]) {
    let Some(([hide, seeds @ ..], rest)) = data.split_first_chunk::<9>() else { return };
    let Some((world, flows)) = seeds.split_first_chunk::<4>() else { return };
    let Some(world) = draw(cluster(), world) else { return };
    let (parts, _) = rest.as_chunks::<5>();
    let manifests: Vec<Value> = parts.iter().take(MAX_POLICIES).filter_map(manifest).collect();
    let world = assemble(world, manifests);
    let Some(picks) = draw(proptest::collection::vec(flow(), FLOWS), flows) else { return };
    let told = |outcome: Result<(), _>, what| {
        if let Err(difference) = outcome {
            panic!(
                "{what}: {difference}\n{:#?}\n{:#?}\n{}",
                world.namespaces,
                world.pods,
                serde_json::json!(world.manifests)
            );
        }
    };
    told(agrees(&world, &picks), "the engine and the oracle disagree");
    let bit = |at: u8| hide >> at & 1 == 1;
    let hidden = Hidden {
        labels_of_namespaces: bit(0),
        labels_of_pods: bit(1),
        addresses: bit(2),
        accounts: bit(3),
        ports: bit(4),
    };
    told(unknown_is_not_no(&world, &picks, hidden), "an answer without assumptions is wrong");
    told(holds_for_each(&world, &picks[..FLOWS / 6]), "what holds for all pods of a policy does not hold for one");
}

/// One policy, or one tier: the first byte is the dialect.
fn manifest([dialect, seed @ ..]: &[u8; 5]) -> Option<Value> {
    match dialect % 8 {
        0 | 1 => draw(kubernetes_policy(), seed),
        2 | 3 => draw(cilium_policy(), seed),
        4 | 5 => draw(calico_policy(), seed),
        6 => draw(calico_tier(), seed),
        _ => draw(cluster_policy(), seed),
    }
}

/// The value of a strategy that belongs to a seed.
fn draw<S: Strategy>(strategy: S, seed: &[u8]) -> Option<S::Value> {
    let mut long = [0; 32];
    long[..seed.len()].copy_from_slice(seed);
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &long);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    strategy.new_tree(&mut runner).ok().map(|tree| tree.current())
}
