//! The facts about one namespace.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;

use crate::model::{Backend, Labels, ObjectRef, Policy, Service, Workload};

/// The facts about one namespace.
#[derive(Clone, Debug, Default)]
pub struct NamespaceFacts {
    /// All of its labels, if they are known.
    pub labels: Option<Labels>,
    /// The annotations that Portcullis reads.
    pub annotations: Labels,
    /// The UID. Empty if the API server has not set one.
    pub uid: Box<str>,
    /// True if it is being deleted.
    pub is_terminating: bool,
    /// The creation time, if it is known.
    pub created: Option<Timestamp>,
    /// The policies in the namespace, by object.
    pub policies: Vec<Arc<Policy>>,
    /// True if an operator creates pods in it from a custom resource. The labels of those pods are unknown.
    pub(crate) has_operator_pods: bool,
    /// The pods and workloads, sorted by kind and name.
    running: Vec<Running>,
    /// The Services, by name.
    pub services: Vec<(Box<str>, Arc<Service>)>,
    /// The connections that other objects send to its Services, by object.
    pub backends: Vec<Arc<Backend>>,
    /// The index of the first pod of each group in `running` that shares one workload. It is computed on first use and
    /// cached, because a namespace may hold tens of thousands of pods.
    starts: OnceLock<Box<[u32]>>,
    /// The objects in it that belong to the baseline controller.
    pub owned: Vec<Owned>,
}

/// A pod or a workload.
#[derive(Clone, Debug)]
pub struct Running {
    /// The kind.
    pub kind: Arc<str>,
    /// The name.
    pub name: Box<str>,
    /// The labels, ports and other facts, shared by pods of one template.
    pub workload: Arc<Workload>,
    /// The first address of the pod, if it has one. It is kept out of the workload so that pods of one template can
    /// share that.
    pub address: Option<IpAddr>,
}

/// An object of the baseline controller, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    /// The object.
    pub object: ObjectRef,
    /// The UID.
    pub uid: Box<str>,
    /// The layer of the policy set that it belongs to: `baseline`, `profile.<name>`, `access.<name>`, `hatch`.
    pub layer: Box<str>,
    /// The hash of its spec, and of those labels and annotations that the controller writes.
    pub fingerprint: u64,
    /// True if the controller's field manager applied it. The label alone proves nothing: any user can set it.
    pub is_applied: bool,
    /// The domain of its layer label if that is not the configured `labelDomain`, because the object was applied before
    /// the domain was changed.
    pub domain: Option<Box<str>>,
}

/// The field manager of the baseline controller.
pub const FIELD_MANAGER: &str = "portcullis-baseline";

impl NamespaceFacts {
    /// The pods and workloads.
    #[must_use]
    pub fn running(&self) -> &[Running] {
        &self.running
    }

    /// One pod of each group that shares a kind and a workload.
    pub(crate) fn distinct(&self) -> impl Iterator<Item = &Running> {
        self.alike().filter_map(|alike| alike.first())
    }

    /// The pods and workloads, in groups that share a kind and a workload.
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
                // Namespaces hold many pods of a few kinds, so the name of the kind is shared with a neighbour.
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

    pub(super) fn remove_backends(&mut self, object: &ObjectRef) {
        self.backends.retain(|backend| !backend.object.is_same_entry(object));
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

    /// Forgets the facts from the Namespace object itself, and keeps the facts about its contents.
    pub(super) fn forget(&mut self) {
        *self = Self {
            policies: std::mem::take(&mut self.policies),
            running: std::mem::take(&mut self.running),
            has_operator_pods: self.has_operator_pods,
            services: std::mem::take(&mut self.services),
            backends: std::mem::take(&mut self.backends),
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
            && self.backends.is_empty()
    }
}
