//! The author of a request, as rules see it, and the lookups that the decision requires.

use std::cell::{OnceCell, RefCell};
use std::fmt;

use jiff::Timestamp;

use super::Knowledge;
use super::review::Request;
use crate::baseline;
use crate::model::Object;
use crate::rules::{Author, Named, Occasion};
use crate::view::{Facts, Need, Requester, View};

/// One attempt to decide a request with the known facts. It collects the missing lookups.
pub(super) struct Attempt<'a> {
    knowledge: &'a Knowledge,
    facts: &'a Facts,
    request: &'a Request<'a>,
    requester: OnceCell<Requester>,
    needs: RefCell<Vec<Need>>,
    now: Timestamp,
}

impl fmt::Debug for Attempt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt").field("username", &self.request.user_info.username).finish_non_exhaustive()
    }
}

impl<'a> Attempt<'a> {
    pub(super) fn new(knowledge: &'a Knowledge, facts: &'a Facts, request: &'a Request<'a>) -> Self {
        let (requester, needs) = (OnceCell::new(), RefCell::default());
        Self { knowledge, facts, request, requester, needs, now: Timestamp::now() }
    }

    pub(super) fn occasion(&self) -> Occasion<'_> {
        Occasion { author: self, now: self.now }
    }

    /// The lookups that the decision still requires. If there are any, the decision is not valid yet.
    pub(super) fn into_needs(self) -> Vec<Need> {
        self.needs.into_inner()
    }

    fn requester(&self) -> &Requester {
        self.requester.get_or_init(|| self.request.user_info.requester())
    }

    fn need(&self, need: Need) {
        let mut needs = self.needs.borrow_mut();
        if !needs.contains(&need) {
            needs.push(need);
        }
    }

    /// A view that also contains the namespace of the request, the objects read for this decision that the watches have
    /// not reported yet, and the baseline policies that are not stored yet. None if the view of the server needs no
    /// additions.
    ///
    /// # Errors
    /// Fails if the request cannot be decided, with the reason.
    pub(super) fn view(&self) -> Result<Option<View>, String> {
        let mut view = self.watched()?;
        if let Some(Ok(stored)) = &self.facts.stored {
            self.insert(&mut view, stored.iter().cloned());
        }
        let due = self.due(view.as_ref().unwrap_or(&self.knowledge.view));
        if !due.is_empty() {
            self.insert(&mut view, due);
        }
        Ok(view)
    }

    /// Adds objects to a copy of the view.
    fn insert(&self, view: &mut Option<View>, objects: impl IntoIterator<Item = Object>) {
        let view = view.get_or_insert_with(|| View::clone(&self.knowledge.view));
        for object in objects {
            view.insert(object);
        }
    }

    /// The baseline policies that the controller has not written into the namespace of the request yet.
    fn due(&self, view: &View) -> Vec<Object> {
        let Knowledge { policies, configuration, applies_baselines, .. } = self.knowledge;
        match self.request.namespace.as_deref() {
            Some(name) if *applies_baselines => baseline::missing(policies, &configuration.site, view, name),
            _ => Vec::new(),
        }
    }

    fn watched(&self) -> Result<Option<View>, String> {
        let Knowledge { view, unsynced, .. } = self.knowledge;
        if let Some(why) = unsynced {
            return Err(format!("the state of the cluster is not known yet: {why}"));
        }
        let is_namespace = self.request.is_about_a_namespace();
        let Some(name) = self.request.namespace.as_deref().filter(|name| !name.is_empty() && !is_namespace) else {
            return Ok(None);
        };
        if !view.is_whole() || view.all_labels(name).is_some() {
            return Ok(None);
        }
        match self.facts.namespaces.get(name) {
            Some(Ok(Some(namespace))) => {
                let mut view = View::clone(view);
                view.insert(namespace.clone());
                Ok(Some(view))
            }
            // The policies of a deleted namespace are deleted with it.
            Some(Ok(None)) if self.request.operation == "DELETE" => Ok(None),
            Some(Ok(None)) => Err(format!("namespace {name} does not exist")),
            Some(Err(why)) => Err(format!("the lookup of namespace {name} failed: {why}")),
            None => {
                self.need(Need::Namespace(name.into()));
                Ok(None)
            }
        }
    }
}

impl Author for Attempt<'_> {
    fn username(&self) -> Option<&str> {
        Some(&self.request.user_info.username)
    }

    fn is_in(&self, group: &str) -> bool {
        self.requester().groups.iter().any(|own| &**own == group)
    }

    fn may_list(&self, resource: &'static str, namespace: Option<&str>) -> bool {
        let key = (resource, namespace.map(Box::from));
        if !self.knowledge.view.is_whole() {
            return true;
        }
        match self.facts.lists.get(&key) {
            Some(answer) => *answer == Ok(true),
            None => {
                let (resource, namespace) = key;
                self.need(Need::List { resource, namespace, requester: self.requester().clone() });
                false
            }
        }
    }

    fn may_bypass(&self, rule: &'static str) -> Result<(), String> {
        let site = &self.knowledge.configuration.site;
        let username = &*self.request.user_info.username;
        if !self.knowledge.view.is_whole() {
            let groups: Vec<String> = self.requester().groups.iter().map(ToString::to_string).collect();
            return Named { username, groups: &groups, bypass: &site.bypass }.may_bypass(rule);
        }
        match self.facts.bypasses.get(rule) {
            Some(Ok(true)) => Ok(()),
            Some(Ok(false)) => Err(format!("cluster RBAC does not allow {username} to bypass {rule}")),
            Some(Err(_)) if !site.denies_unknown => Ok(()),
            Some(Err(why)) => Err(format!("the access review for {username} to bypass {rule} failed: {why}")),
            None => {
                let namespace = self.request.namespace.as_deref().filter(|namespace| !namespace.is_empty());
                let (requester, namespace) = (self.requester().clone(), namespace.map(Box::from));
                self.need(Need::Bypass { rule, requester, namespace });
                Err("the access review is pending".to_owned())
            }
        }
    }
}
