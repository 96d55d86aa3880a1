//! Turns the events of the watches into the view. It needs no API server.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use kube::core::ApiResource;

use super::decode::Decoded;
use super::status::WatchStatus;
use crate::model::{ApiServer, Body, Object, ObjectRef, Workload};
use crate::view::{Owned, View};

/// Maximum number of unreadable objects of a kind that are recorded.
const REMEMBERED: usize = 100;

/// An event of a watch.
#[derive(Clone, Debug)]
pub enum Event {
    /// A list of all objects begins.
    Begin,
    /// An object of the list.
    Listed(Decoded),
    /// The list is complete. Objects that were known before and are not in the list are gone.
    End,
    /// An object was created or changed.
    Applied(Decoded),
    /// An object was deleted.
    Removed(ObjectRef),
    /// The watch continues where it was lost.
    Resumed,
    /// The watch is lost, or does not start.
    Lost(String),
}

/// The view, and the watches that update it.
#[derive(Debug)]
pub struct Feed {
    view: View,
    watches: BTreeMap<String, Watched>,
    /// All distinct workloads, so that the equal pods of a ReplicaSet share one.
    workloads: HashSet<Arc<Workload>>,
    /// The number of workloads after unused ones were last dropped.
    in_use: usize,
}

/// A kind that is watched.
#[derive(Debug)]
struct Watched {
    resource: ApiResource,
    status: WatchStatus,
    /// The objects that were known when the list began and that it has not contained yet.
    before: HashSet<ObjectRef>,
    /// The objects that cannot be parsed, with the reason.
    unreadable: BTreeMap<ObjectRef, String>,
}

impl Default for Feed {
    fn default() -> Self {
        Self { view: View::of_cluster(), watches: BTreeMap::new(), workloads: HashSet::new(), in_use: 0 }
    }
}

impl Feed {
    /// Returns the current view.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Replaces the endpoints of the API server in the view.
    pub(crate) fn set_api_server(&mut self, api_server: Arc<ApiServer>) {
        self.view.set_api_server(api_server);
    }

    /// Returns the status of each watch, by the name of the kind.
    pub fn statuses(&self) -> impl Iterator<Item = (&str, &WatchStatus)> {
        self.watches.iter().map(|(name, watched)| (&**name, &watched.status))
    }

    /// Returns the numbers of known and of unreadable objects of each watched kind, by the name of the kind.
    #[must_use]
    pub fn counts(&self) -> Vec<(&str, usize, usize)> {
        let census = self.view.census();
        let known = |resource: &ApiResource| {
            let (group, kind) = (&*resource.group, &*resource.kind);
            census.get(&(group, kind)).or_else(|| census.get(&("", kind))).copied().unwrap_or_default()
        };
        self.watches
            .iter()
            .map(|(name, watched)| (&**name, known(&watched.resource), watched.unreadable.len()))
            .collect()
    }

    /// Returns the number of unreadable objects and one of them with its problem, for each kind that has any.
    #[must_use]
    pub fn unreadable(&self) -> BTreeMap<String, (usize, String)> {
        let all = self.watches.iter().filter_map(|(name, watched)| {
            let (id, why) = watched.unreadable.first_key_value()?;
            Some((name.clone(), (watched.unreadable.len(), format!("{id}: {why}"))))
        });
        all.collect()
    }

    /// Adds a kind that is watched, or changes its version.
    pub fn watch(&mut self, name: &str, resource: ApiResource) {
        if let Some(watched) = self.watches.get_mut(name) {
            watched.resource = resource;
            return;
        }
        let (before, unreadable) = (HashSet::new(), BTreeMap::new());
        let watched = Watched { resource, status: WatchStatus::Syncing(None), before, unreadable };
        self.watches.insert(name.to_owned(), watched);
    }

    /// Removes a kind that is no longer served, and its objects.
    pub fn unwatch(&mut self, name: &str) {
        if let Some(watched) = self.watches.remove(name) {
            for id in self.view.objects_of(&watched.resource.api_version, &watched.resource.kind) {
                self.view.remove(&id);
            }
        }
    }

    /// Handles an event of the watch of a kind. Returns true if the view has changed.
    pub fn take(&mut self, name: &str, event: Event) -> bool {
        let Some(watched) = self.watches.get_mut(name) else { return false };
        match event {
            Event::Begin => {
                let known = self.view.objects_of(&watched.resource.api_version, &watched.resource.kind);
                watched.before = known.into_iter().collect();
                // The list contains unreadable objects again.
                watched.before.extend(watched.unreadable.keys().cloned());
                false
            }
            Event::Listed(arrival) | Event::Applied(arrival) => {
                self.arrive(name, arrival);
                true
            }
            Event::End => {
                watched.status = WatchStatus::Synced;
                let gone = std::mem::take(&mut watched.before);
                watched.unreadable.retain(|id, _| !gone.contains(id));
                let mut gone: Vec<ObjectRef> = gone.into_iter().collect();
                gone.sort_unstable();
                for id in &gone {
                    self.view.remove(id);
                }
                true
            }
            Event::Removed(id) => {
                watched.before.remove(&id);
                watched.unreadable.remove(&id);
                self.view.remove(&id);
                true
            }
            Event::Resumed => {
                if matches!(watched.status, WatchStatus::Lost { .. }) {
                    tracing::info!(kind = name, "watch resumed");
                    watched.status = WatchStatus::Synced;
                }
                false
            }
            Event::Lost(why) => {
                // The watch fails at each attempt. The same reason is logged once.
                match &watched.status {
                    WatchStatus::Syncing(Some(before)) | WatchStatus::Lost { why: before, .. } if *before == why => {}
                    _ => tracing::warn!(kind = name, %why, "watch lost"),
                }
                watched.status = match &watched.status {
                    WatchStatus::Syncing(_) => WatchStatus::Syncing(Some(why)),
                    WatchStatus::Synced => WatchStatus::Lost { since: Instant::now(), why },
                    WatchStatus::Lost { since, .. } => WatchStatus::Lost { since: *since, why },
                };
                false
            }
        }
    }

    /// Drops unused workloads. Calling it at intervals is enough.
    pub fn tidy(&mut self) {
        if self.workloads.len() > 2 * self.in_use + 1000 {
            self.workloads.retain(|workload| Arc::strong_count(workload) > 1);
            self.in_use = self.workloads.len();
        }
    }

    fn arrive(&mut self, name: &str, arrival: Decoded) {
        let Some(watched) = self.watches.get_mut(name) else { return };
        match arrival {
            Decoded::Read { object, owned } => {
                watched.before.remove(&object.id);
                watched.unreadable.remove(&object.id);
                self.insert(*object, owned);
            }
            Decoded::Unreadable { id, why } => {
                watched.before.remove(&id);
                // The known state of the object is outdated.
                self.view.remove(&id);
                let is_news = watched.unreadable.get(&id) != Some(&why);
                if is_news && watched.unreadable.len() < REMEMBERED {
                    tracing::warn!(object = %id, %why, "ignoring an object that cannot be parsed");
                    watched.unreadable.insert(id.clone(), why);
                }
                if &*id.kind == "Contract"
                    && let Some(why) = watched.unreadable.get(&id)
                {
                    self.view.insert_unreadable_contract(&id.name, why);
                }
            }
        }
    }

    fn insert(&mut self, object: Object, owned: Option<Owned>) {
        let Object { id, body, faults, annotations } = object;
        match body {
            Body::Workload(mut workload) => {
                let address = workload.address.take();
                let shared = if let Some(known) = self.workloads.get(&workload) {
                    Arc::clone(known)
                } else {
                    let new = Arc::new(workload);
                    self.workloads.insert(Arc::clone(&new));
                    new
                };
                self.view.insert_workload(&id, shared, address);
            }
            Body::Policies(_) => {
                self.view.insert(Object { id: id.clone(), body, faults, annotations });
                self.view.own(&id, owned);
            }
            Body::Namespace(_) | Body::Tier(_) | Body::Service(_) | Body::Backends(_) | Body::Contract(_) => {
                self.view.insert(Object { id, body, faults, annotations });
            }
        }
    }
}
