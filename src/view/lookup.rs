//! What a decision has to know and no snapshot tells: it is asked of the cluster itself, and only where it matters.
//!
//! A decision never waits. It notes what it lacks ([`Need`]), and is made again when that is known ([`Facts`]).

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;

use crate::model::Object;

/// What has to be asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Need {
    /// A namespace of which the watches have not told yet.
    Namespace(Box<str>),
    /// The policies that are stored now in a namespace, and those of the cluster: before a denial that they could change.
    Stored(Option<Box<str>>),
    /// Whether the requester may list a core resource in a namespace, or in the cluster.
    List {
        /// The resource.
        resource: &'static str,
        /// The namespace.
        namespace: Option<Box<str>>,
        /// The user.
        requester: Requester,
    },
    /// Whether who makes the request may do what this rule forbids.
    Bypass {
        /// The rule.
        rule: &'static str,
        /// Who makes the request.
        requester: Requester,
        /// The namespace of the object, for a Namespace its own name; none for other cluster-scoped objects. A RoleBinding
        /// in it grants the bypass there.
        namespace: Option<Box<str>>,
    },
}

/// Who makes a request, as the API server says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Requester {
    /// The name.
    pub username: Box<str>,
    /// The UID.
    pub uid: Box<str>,
    /// The groups.
    pub groups: Vec<Box<str>>,
    /// What else was found out about them, by name.
    pub extra: Vec<(Box<str>, Vec<Box<str>>)>,
}

/// A core resource, and the namespace in which it is listed; none for the cluster.
pub type Listed = (&'static str, Option<Box<str>>);

/// What was found out.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Namespaces by name; none where there is no such namespace.
    pub namespaces: HashMap<Box<str>, Result<Option<Object>, String>>,
    /// Whether the requester may do what a rule forbids, by rule.
    pub bypasses: HashMap<&'static str, Result<bool, String>>,
    /// Whether the requester may list a resource, by resource and namespace.
    pub lists: HashMap<Listed, Result<bool, String>>,
    /// The objects that are stored now, or why they could not be read.
    pub stored: Option<Result<Vec<Object>, String>>,
}

impl Facts {
    /// Notes that what was needed could not be found out, where it was not.
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

/// Asks the cluster.
pub trait Lookup: Send + Sync + fmt::Debug {
    /// Finds out what is needed, or why it cannot be, and adds it to the facts.
    fn look_up<'a>(&'a self, needs: Vec<Need>, facts: &'a mut Facts) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
}
