//! The effect of a change on the pods and the traffic of a namespace, before the change is made.
//!
//! A preview is a list of lines for the user. It does not affect the decision.

mod affected_pods;
pub mod connections;
mod dns_loss;
mod hatch;
mod namespace_change;
mod profile_diff;
mod scope;

pub(crate) use scope::is_only_previewed;

use crate::baseline::PolicySet;
use crate::budget;
use crate::config::Configuration;
use crate::rules::{Change, Occasion};
use crate::view::View;

/// The lines of the preview of a change, the most important first, each with the prefix `preview: `. Empty for a change
/// without an effect to preview.
#[must_use]
pub fn preview(
    configuration: &Configuration,
    policies: &PolicySet,
    view: &View,
    change: Change<'_>,
    occasion: Occasion<'_>,
) -> Vec<String> {
    // The preview does not affect the decision, so a preview that exceeds the budget is omitted.
    let about_namespace =
        budget::attempt(|| namespace_change::lines(configuration, policies, view, change, occasion.now));
    let about_connections = connections::lines(configuration, view, change, occasion);
    let lines = about_namespace.unwrap_or_default().into_iter().chain(about_connections);
    lines.map(|line| format!("preview: {line}")).collect()
}
