//! The policies that still deny traffic while the hatch of a namespace is open.

use super::scope::{NAMED_POLICIES, POLICIES, concerning};
use crate::baseline::{Layer, PolicySet};
use crate::config::Configuration;
use crate::model::{Action, Object, Order, Policy, Precedence, Stage, Surroundings as _};
use crate::view::{Scene, View};

/// Reports the policies that still deny traffic while the hatch is open. They take precedence over the policies of the
/// hatch, which are additive and allow everything.
pub(super) fn what_stays_shut(
    configuration: &Configuration,
    policies: &PolicySet,
    view: &View,
    namespace: &Object,
) -> Vec<String> {
    let scene = Scene::with(view, namespace);
    let hatch = place_of_the_hatch(configuration, policies);
    let denies =
        |policy: &Policy| policy.sides().any(|(_, side)| side.rules.iter().any(|rule| rule.action == Action::Deny));
    let beats = |policy: &&Policy| match &policy.stage {
        Stage::Admin => denies(policy),
        stage @ Stage::Tier(name) => {
            let tier = scene.tier(name);
            let is_earlier = stage.position(tier) < Stage::Policies.position(None);
            is_earlier && (denies(policy) || stage.drops(tier) && policy.sides().any(|(_, side)| side.isolates))
        }
        // In Cilium deny rules take precedence over all allow rules. Of two ordered policies the first one decides.
        Stage::Policies => (policy.order == Order::Additive || policy.order.position() < hatch) && denies(policy),
        Stage::Baseline => false,
    };
    let mut all: Vec<String> =
        concerning(view, namespace).take(POLICIES).filter(beats).map(|policy| policy.object.to_string()).collect();
    all.sort_unstable();
    all.dedup();
    let more = all.len().saturating_sub(NAMED_POLICIES);
    let mut lines: Vec<String> = all
        .into_iter()
        .take(NAMED_POLICIES)
        .map(|name| format!("{name} still denies traffic while the hatch is open"))
        .collect();
    if more > 0 {
        lines.push(format!("and {more} more policies still deny traffic"));
    }
    lines
}

/// The order of the hatch among ordered policies. It is the last of its policies, because the hatch opens only by all
/// of them together.
fn place_of_the_hatch(configuration: &Configuration, policies: &PolicySet) -> Precedence {
    let layers = policies.by_layer(&configuration.site);
    let hatch = layers.into_iter().filter(|(layer, _)| *layer == Layer::Hatch);
    let orders = hatch.flat_map(|(_, template)| template.object.policies()).map(|policy| policy.order.position());
    orders.max().unwrap_or_else(|| Order::Additive.position())
}
