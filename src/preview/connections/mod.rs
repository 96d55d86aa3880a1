//! The connections that a change of one policy cuts or opens, as warnings.
//!
//! The pods that the old or the new policy selects are grouped, and so are their counterparts: the pods of their
//! namespaces, the pods that a rule of the policy names, and the internet. Each pair is evaluated before and after the
//! change. `portcullis diff` compares all pods of two clusters; this is the part of it that fits into a request.
//!
//! **Limits**: [`STEPS`] steps, 16 groups of subjects and 16 of counterparts; nothing for a policy with more than 256
//! rules and peers, and for a request that has used more than 50,000 steps. The steps are not those of the request, so its
//! decision does not depend on them.

mod comparison;
mod effect;
mod group;
mod wording;

pub use effect::{Effect, Flow, STEPS, compare};
pub use group::Group;

use crate::budget;
use crate::config::Configuration;
use crate::rules::{Change, Occasion};
use crate::view::View;

/// Maximum number of steps that a request has used if it still gets a preview.
const MAX_SPENT: usize = 50_000;

/// The lines about the connections that the change of a policy cuts or opens. Empty for other objects, and if the
/// configuration disables them.
pub(super) fn lines(
    configuration: &Configuration,
    view: &View,
    change: Change<'_>,
    occasion: Occasion<'_>,
) -> Vec<String> {
    let (object, site) = (change.object(), &configuration.site);
    let is_excluded = !configuration.previews_connections
        || !effect::is_comparable(object)
        // The baseline controller previews its policies by namespace.
        || site.is_reserved(&object.id)
        || budget::spent().steps > MAX_SPENT;
    if is_excluded {
        return Vec::new();
    }
    let effect = compare(site, view, change);
    wording::lines(&effect, object.namespace(), occasion.author)
}
