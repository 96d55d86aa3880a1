//! Lookups: facts that a decision needs and the caches do not hold. They are looked up only if they change the
//! decision.
//!
//! A decision never waits. It records what it lacks ([`Need`]) and is evaluated again with the answers ([`Facts`]).

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;

use crate::model::Object;

/// A fact to look up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Need {
    /// A namespace that the watches have not reported yet.
    Namespace(Box<str>),
    /// The policies that are stored now, in a namespace and cluster-wide. They are read before a denial that they could
    /// change.
    Stored(Option<Box<str>>),
    /// A check that the requester may list a resource, in a namespace or in the whole cluster.
    List {
        /// The resource. Outside of the core group its group follows, as in `ingresses.networking.k8s.io`.
        resource: &'static str,
        /// The namespace.
        namespace: Option<Box<str>>,
        /// The user.
        requester: Requester,
    },
    /// A check that the requester may bypass this rule.
    Bypass {
        /// The rule.
        rule: &'static str,
        /// The user.
        requester: Requester,
        /// The namespace of the object; for a Namespace, its own name. `None` for other cluster-scoped objects. A
        /// RoleBinding in this namespace grants the bypass there.
        namespace: Option<Box<str>>,
    },
}

/// The user of a request, as the API server reports it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Requester {
    /// The name.
    pub username: Box<str>,
    /// The UID.
    pub uid: Box<str>,
    /// The groups.
    pub groups: Vec<Box<str>>,
    /// Extra attributes from authentication, by name.
    pub extra: Vec<(Box<str>, Vec<Box<str>>)>,
}

/// A resource and the namespace to list it in; `None` for the whole cluster.
pub type Listed = (&'static str, Option<Box<str>>);

/// The answers to lookups.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The namespaces by name; `None` if the namespace does not exist.
    pub namespaces: HashMap<Box<str>, Result<Option<Object>, String>>,
    /// True for each rule that the requester may bypass.
    pub bypasses: HashMap<&'static str, Result<bool, String>>,
    /// True for each resource and namespace that the requester may list.
    pub lists: HashMap<Listed, Result<bool, String>>,
    /// The objects that are stored now, or the reason why the lookup failed.
    pub stored: Option<Result<Vec<Object>, String>>,
}

impl Facts {
    /// Records that a lookup failed, unless its answer is already known.
    pub fn fail(&mut self, need: Need, why: &str) {
        match need {
            Need::Namespace(name) => drop(self.namespaces.entry(name).or_insert_with(|| Err(why.to_owned()))),
            Need::Stored(_) => drop(self.stored.get_or_insert_with(|| Err(why.to_owned()))),
            Need::List { resource, namespace, .. } => {
                self.lists.entry((resource, namespace)).or_insert_with(|| Err(why.to_owned()));
            }
            Need::Bypass { rule, .. } => drop(self.bypasses.entry(rule).or_insert_with(|| Err(why.to_owned()))),
        }
    }
}

/// A client that looks up facts in the cluster.
pub trait Lookup: Send + Sync + fmt::Debug {
    /// Looks up the needed facts, and adds each answer or the reason of its failure to `facts`.
    fn look_up<'a>(&'a self, needs: Vec<Need>, facts: &'a mut Facts) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
}
