//! What is known of one namespace.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;

use crate::model::{Labels, ObjectRef, Policy, Service, Workload};

/// What is known of one namespace.
#[derive(Clone, Debug, Default)]
pub struct NamespaceFacts {
    /// All of its labels, if they are known.
    pub labels: Option<Labels>,
    /// Those of its annotations that can mean something here.
    pub annotations: Labels,
    /// Which one of all that ever had its name it is. Empty where the API server did not write it.
    pub uid: Box<str>,
    /// Whether it is being deleted.
    pub is_terminating: bool,
    /// When it was made, if that is known.
    pub created: Option<Timestamp>,
    /// Its policies, by object.
    pub policies: Vec<Arc<Policy>>,
    /// True if an operator makes pods in it from a custom resource, of which no labels are known.
    pub has_operator_pods: bool,
    /// Its pods and what makes pods, by kind and name.
    running: Vec<Running>,
    /// Its Services, by name.
    pub services: Vec<(Box<str>, Arc<Service>)>,
    /// Where those that are alike begin in that list, once it was asked for: a namespace may hold tens of thousands.
    starts: OnceLock<Box<[u32]>>,
    /// Which objects in it the baseline controller put there.
    pub owned: Vec<Owned>,
}

/// A pod, or something that makes pods.
#[derive(Clone, Debug)]
pub struct Running {
    /// Its kind.
    pub kind: Arc<str>,
    /// Its name.
    pub name: Box<str>,
    /// What is said of it.
    pub workload: Arc<Workload>,
    /// The first address of the pod, if it has one. It is not a part of the workload, which pods that are alike share.
    pub address: Option<IpAddr>,
}

/// An object that the baseline controller put there, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    /// The object.
    pub object: ObjectRef,
    /// Which one of all that ever had its name.
    pub uid: Box<str>,
    /// For which layer of the folder of policies it is there: `baseline`, `profile.<name>`, `access.<name>`, `hatch`.
    pub layer: Box<str>,
    /// What its spec, and what of its labels and annotations is the controller's, come to.
    pub fingerprint: u64,
    /// Whether the field manager of the controller applied it. A label alone anybody can write.
    pub is_applied: bool,
    /// The domain of its layer label, if that is not the configured `labelDomain`: it was applied before a change of that.
    pub domain: Option<Box<str>>,
}

/// The field manager of the baseline controller.
pub const FIELD_MANAGER: &str = "portcullis-baseline";

impl NamespaceFacts {
    /// Its pods, and what makes pods.
    #[must_use]
    pub fn running(&self) -> &[Running] {
        &self.running
    }

    /// One of each that are alike: pods of one template share what is said of them, and stand next to each other.
    pub fn distinct(&self) -> impl Iterator<Item = &Running> {
        self.alike().filter_map(|alike| alike.first())
    }

    /// Those that are alike, together.
    pub fn alike(&self) -> impl Iterator<Item = &[Running]> {
        let starts = self.starts.get_or_init(|| {
            let is_alike = |a: &Running, b: &Running| a.kind == b.kind && Arc::ptr_eq(&a.workload, &b.workload);
            let mut start = 0_usize;
            let chunks = self.running.chunk_by(is_alike).map(|alike| {
                let own = u32::try_from(start).unwrap_or(u32::MAX);
                start += alike.len();
                own
            });
            chunks.collect()
        });
        let ends = starts.iter().skip(1).copied().chain([u32::try_from(self.running.len()).unwrap_or(u32::MAX)]);
        starts.iter().zip(ends).filter_map(|(start, end)| self.running.get(*start as usize..end as usize))
    }

    pub(super) fn insert_workload(&mut self, kind: &str, name: &str, workload: Arc<Workload>, address: Option<IpAddr>) {
        self.starts = OnceLock::new();
        match self.place(kind, name) {
            Ok(at) => {
                if let Some(running) = self.running.get_mut(at) {
                    running.workload = workload;
                    running.address = address;
                }
            }
            Err(at) => {
                // There are few kinds, and many of each.
                let near = self.running.get(at.saturating_sub(1)).or_else(|| self.running.get(at));
                let kind =
                    near.filter(|near| &*near.kind == kind).map_or_else(|| kind.into(), |near| near.kind.clone());
                self.running.insert(at, Running { kind, name: name.into(), workload, address });
            }
        }
    }

    pub(super) fn insert_service(&mut self, name: Box<str>, service: Service) {
        let service = Arc::new(service);
        match self.services.binary_search_by(|(other, _)| other.cmp(&name)) {
            Ok(at) => {
                if let Some((_, known)) = self.services.get_mut(at) {
                    *known = service;
                }
            }
            Err(at) => self.services.insert(at, (name, service)),
        }
    }

    pub(super) fn remove_workload(&mut self, kind: &str, name: &str) {
        self.starts = OnceLock::new();
        if let Ok(at) = self.place(kind, name) {
            self.running.remove(at);
        }
    }

    fn place(&self, kind: &str, name: &str) -> Result<usize, usize> {
        self.running.binary_search_by(|running| (&*running.kind, &*running.name).cmp(&(kind, name)))
    }

    /// Forgets what its own object says.
    pub(super) fn forget(&mut self) {
        *self = Self {
            policies: std::mem::take(&mut self.policies),
            running: std::mem::take(&mut self.running),
            has_operator_pods: self.has_operator_pods,
            services: std::mem::take(&mut self.services),
            owned: std::mem::take(&mut self.owned),
            ..Self::default()
        };
    }

    pub(super) fn is_nothing(&self) -> bool {
        self.labels.is_none()
            && self.policies.is_empty()
            && self.running.is_empty()
            && self.owned.is_empty()
            && self.services.is_empty()
    }
}
