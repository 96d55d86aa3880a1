//! What the API server makes of the policies of the folder: asked before anything is compared with what is stored.

use std::time::Duration;

use super::catalogue::Catalogue;
use super::executor::{Executor, in_time};
use super::objects::Learnt;

/// Finds out what the API server makes of each policy, and says whether that is known of all of them now.
pub(super) async fn learn(executor: &Executor, patience: Duration, catalogue: &mut Catalogue) -> bool {
    let mut known = true;
    for position in 0..catalogue.entries().len() {
        let Some(entry) = catalogue.entries().get(position).filter(|entry| !entry.is_learnt()) else { continue };
        match in_time(patience, executor.learn(entry)).await {
            Ok(stored) => catalogue.learn(position, &stored),
            Err(error) => {
                known = false;
                let object = &entry.id;
                tracing::warn!(%object, %error, "the API server cannot be asked what it makes of a policy: changes of it are not noticed");
            }
        }
    }
    known
}

/// The catalogue with what the API server makes of a policy by now, if that is news.
pub(super) fn with(catalogue: &Catalogue, learnt: &Learnt) -> Option<Catalogue> {
    // The folder may be another one since.
    let entry = catalogue.entries().get(learnt.position).filter(|entry| entry.manifest == learnt.manifest)?;
    if entry.is_learnt() && entry.comes_to(catalogue.fingerprint(&learnt.stored)) {
        return None;
    }
    let mut fresh = catalogue.clone();
    fresh.learn(learnt.position, &learnt.stored);
    Some(fresh)
}
