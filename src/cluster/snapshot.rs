//! One list of everything in a cluster, for commands that answer once.

use std::sync::Arc;

use kube::Api;
use kube::api::ListParams;

use super::decode::{Decoded, Owning, read};
use super::discovery::{Served, discover};
use super::strip::Arriving;
use super::{Cluster, words};
use crate::model::Object;
use crate::view::View;

/// Number of objects per page of a list.
const PAGE: u32 = 500;

/// What a cluster holds, as far as it could be read.
#[derive(Debug)]
pub struct Snapshot {
    /// The view.
    pub view: View,
    /// The objects that the caller wants to keep, since the view holds only a part of each.
    pub objects: Vec<Object>,
    /// Kinds that could not be listed and objects that could not be read, each with the reason.
    pub missing: Vec<String>,
}

impl Cluster {
    /// Lists every object of the kinds that the view knows. A kind that the user may not list, and an object that cannot be
    /// read, is reported and left out.
    ///
    /// # Errors
    /// Fails if the API server does not report which groups it serves.
    pub async fn snapshot(&self) -> Result<Snapshot, String> {
        self.snapshot_keeping(|_| false).await
    }

    /// The same, and keeps the objects for which `is_kept` returns true.
    ///
    /// # Errors
    /// Fails if the API server does not report which groups it serves.
    pub(crate) async fn snapshot_keeping(&self, is_kept: impl Fn(&Object) -> bool) -> Result<Snapshot, String> {
        let served = discover(&self.client, &Served::default()).await?;
        let mut snapshot = Snapshot { view: View::of_cluster(), objects: Vec::new(), missing: Vec::new() };
        for (group, why) in served.unclear() {
            snapshot.missing.push(format!("API group {group}: {why}"));
        }
        for (kind, why) in served.other_versions() {
            snapshot.missing.push(format!("{kind}: {why}"));
        }
        let owning = Owning::default();
        for resource in served.watched() {
            let api: Api<Arriving> = Api::all_with(self.client.clone(), resource);
            let mut page = ListParams::default().limit(PAGE);
            if resource.group.is_empty() && resource.kind == "Pod" {
                page = page.fields(super::watch::LIVE_PODS);
            }
            loop {
                let list = match api.list(&page).await {
                    Ok(list) => list,
                    Err(error) => {
                        snapshot.missing.push(format!("{}: {}", resource.plural, words(&error)));
                        break;
                    }
                };
                for arriving in list.items {
                    match read(resource, &owning, &arriving) {
                        Decoded::Read { object, .. } => {
                            if is_kept(&object) {
                                snapshot.objects.push((*object).clone());
                            }
                            snapshot.view.insert(*object);
                        }
                        Decoded::Unreadable { id, why } => snapshot.missing.push(format!("{id}: {why}")),
                    }
                }
                page.continue_token = list.metadata.continue_.filter(|token| !token.is_empty());
                if page.continue_token.is_none() {
                    break;
                }
            }
        }
        self.served.store(Arc::new(served));
        Ok(snapshot)
    }
}
