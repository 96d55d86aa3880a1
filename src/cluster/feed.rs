//! What watches tell, turned into the view. No API server is needed for it, and no clock.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use kube::core::ApiResource;

use super::arrival::Arrival;
use super::status::WatchStatus;
use crate::model::{Body, Object, ObjectRef, Workload};
use crate::view::{Owned, View};

/// Of how many unreadable objects of a kind it is remembered which they are.
const REMEMBERED: usize = 100;

/// What a watch tells.
#[derive(Clone, Debug)]
pub enum Event {
    /// From here on everything is told that there is.
    Begin,
    /// Something that there is.
    Listed(Arrival),
    /// That was everything that there is. What was known before and was not told is gone.
    End,
    /// Something that is new, or has changed.
    Applied(Arrival),
    /// Something that is gone.
    Removed(ObjectRef),
    /// The watch goes on where it was lost.
    Resumed,
    /// The watch is lost, or does not begin.
    Lost(String),
}

/// The view, as it grows, and the watches that feed it.
#[derive(Debug)]
pub struct Feed {
    view: View,
    watches: BTreeMap<String, Watched>,
    /// What is said of pods, each once: those of one ReplicaSet are alike.
    workloads: HashSet<Arc<Workload>>,
    /// How many there were after those that nobody uses were dropped.
    in_use: usize,
}

/// A kind that is watched.
#[derive(Debug)]
struct Watched {
    resource: ApiResource,
    status: WatchStatus,
    /// What was known when everything began to be told, and was not told again yet.
    before: HashSet<ObjectRef>,
    /// What cannot be read, and why.
    unreadable: BTreeMap<ObjectRef, String>,
}

impl Default for Feed {
    fn default() -> Self {
        Self { view: View::of_cluster(), watches: BTreeMap::new(), workloads: HashSet::new(), in_use: 0 }
    }
}

impl Feed {
    /// The view as it is now.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// How the watches are, by the name of the kind.
    pub fn statuses(&self) -> impl Iterator<Item = (&str, &WatchStatus)> {
        self.watches.iter().map(|(name, watched)| (&**name, &watched.status))
    }

    /// How many objects of a kind are known, and how many cannot be read; for every kind that is watched, by name.
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

    /// Something that cannot be read, with what is wrong, for every kind of which there is anything; and how much there is.
    #[must_use]
    pub fn unreadable(&self) -> BTreeMap<String, (usize, String)> {
        let all = self.watches.iter().filter_map(|(name, watched)| {
            let (id, why) = watched.unreadable.first_key_value()?;
            Some((name.clone(), (watched.unreadable.len(), format!("{id}: {why}"))))
        });
        all.collect()
    }

    /// A kind is watched from now on, or in another version.
    pub fn watch(&mut self, name: &str, resource: ApiResource) {
        if let Some(watched) = self.watches.get_mut(name) {
            watched.resource = resource;
            return;
        }
        let (before, unreadable) = (HashSet::new(), BTreeMap::new());
        let watched = Watched { resource, status: WatchStatus::Syncing(None), before, unreadable };
        self.watches.insert(name.to_owned(), watched);
    }

    /// A kind is not served any more: there is nothing of it in the cluster.
    pub fn unwatch(&mut self, name: &str) {
        if let Some(watched) = self.watches.remove(name) {
            for id in self.view.objects_of(&watched.resource.api_version, &watched.resource.kind) {
                self.view.remove(&id);
            }
        }
    }

    /// Takes in what the watch of a kind tells, and says whether the view has changed.
    pub fn take(&mut self, name: &str, event: Event) -> bool {
        let Some(watched) = self.watches.get_mut(name) else { return false };
        match event {
            Event::Begin => {
                let known = self.view.objects_of(&watched.resource.api_version, &watched.resource.kind);
                watched.before = known.into_iter().collect();
                // What cannot be read is told again.
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
                    tracing::info!(kind = name, "the watch goes on");
                    watched.status = WatchStatus::Synced;
                }
                false
            }
            Event::Lost(why) => {
                // It fails again and again; the reason is worth a line once.
                match &watched.status {
                    WatchStatus::Syncing(Some(before)) | WatchStatus::Lost { why: before, .. } if *before == why => {}
                    _ => tracing::warn!(kind = name, %why, "the watch is lost"),
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

    /// Drops what nobody uses any more. It is enough to do that now and then.
    pub fn tidy(&mut self) {
        if self.workloads.len() > 2 * self.in_use + 1000 {
            self.workloads.retain(|workload| Arc::strong_count(workload) > 1);
            self.in_use = self.workloads.len();
        }
    }

    fn arrive(&mut self, name: &str, arrival: Arrival) {
        let Some(watched) = self.watches.get_mut(name) else { return };
        match arrival {
            Arrival::Read { object, owned } => {
                watched.before.remove(&object.id);
                watched.unreadable.remove(&object.id);
                self.insert(*object, owned);
            }
            Arrival::Unreadable { id, why } => {
                watched.before.remove(&id);
                // It is not what it was.
                self.view.remove(&id);
                let is_news = watched.unreadable.get(&id) != Some(&why);
                if is_news && watched.unreadable.len() < REMEMBERED {
                    tracing::warn!(object = %id, %why, "an object of the cluster cannot be read, and counts for nothing");
                    watched.unreadable.insert(id, why);
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
            Body::Namespace(_) | Body::Tier(_) | Body::Service(_) => {
                self.view.insert(Object { id, body, faults, annotations });
            }
        }
    }
}
