//! Lookups in the cluster during a request.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec, SubjectAccessReviewStatus,
};
use kube::api::PostParams;
use kube::core::ApiResource;
use kube::{Api, Client};

use super::decode::{Decoded, Owning, read};
use super::discovery::Served;
use super::stored::StoredReads;
use super::strip::Arriving;
use super::words;
use crate::model::Object;
use crate::telemetry::{ClusterMetrics, Lookup as Asked};
use crate::view::{Facts, Lookup, Need, Requester};

/// Maximum time for one answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Time for which the result of an access review is cached.
const HOLDS: Duration = Duration::from_secs(5);
/// Maximum number of cached results.
const KEPT: usize = 1024;

/// A lookup that sends requests to the API server.
pub(crate) struct LiveLookup {
    client: Client,
    metrics: ClusterMetrics,
    served: Arc<ArcSwap<Served>>,
    stored: StoredReads,
    /// The cached results of access reviews, with the time at which each expires. Failures are not cached.
    answers: Mutex<Answers>,
}

type Answers = HashMap<Key, (Instant, bool)>;

/// One access review: the user, the right, and the namespace; none for cluster-scoped objects.
type Key = (Requester, Right, Option<Box<str>>);

/// A right that RBAC grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Right {
    /// To bypass a rule.
    Bypass(&'static str),
    /// To list a resource, with its group if that is not the core group.
    List(&'static str),
}

/// The result of a lookup.
enum Fact {
    Namespace(Box<str>, Result<Option<Object>, String>),
    Bypass(&'static str, Result<bool, String>),
    List((&'static str, Option<Box<str>>), Result<bool, String>),
    Stored(Result<Vec<Object>, String>),
}

impl fmt::Debug for LiveLookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveLookup").finish_non_exhaustive()
    }
}

impl LiveLookup {
    /// Creates a lookup with this client, for the kinds that are served.
    #[must_use]
    pub(crate) fn new(client: Client, served: Arc<ArcSwap<Served>>, metrics: ClusterMetrics) -> Self {
        Self { client, metrics, served, stored: StoredReads::default(), answers: Mutex::default() }
    }

    async fn find_out(&self, need: Need) -> Fact {
        match need {
            Need::Namespace(name) => {
                let found = within(self.namespace(&name)).await;
                self.metrics.looked_up(Asked::Namespace, found.is_ok());
                Fact::Namespace(name, found)
            }
            Need::Stored(namespace) => {
                let found = self.stored.read(&self.client, &self.served.load(), namespace.as_deref()).await;
                self.metrics.looked_up(Asked::Stored, found.is_ok());
                Fact::Stored(found)
            }
            Need::Bypass { rule, requester, namespace } => {
                Fact::Bypass(rule, self.has((requester, Right::Bypass(rule), namespace)).await)
            }
            Need::List { resource, namespace, requester } => {
                let found = self.has((requester, Right::List(resource), namespace.clone())).await;
                Fact::List((resource, namespace), found)
            }
        }
    }

    /// Returns true if a user has a right, according to the cache or to an access review.
    async fn has(&self, key: Key) -> Result<bool, String> {
        if let Some(known) = self.known(&key) {
            return Ok(known);
        }
        let found = within(self.reviewed(&key)).await;
        self.metrics.looked_up(Asked::Access, found.is_ok());
        if let Ok(may) = found {
            self.keep(key, may);
        }
        found
    }

    async fn namespace(&self, name: &str) -> Result<Option<Object>, String> {
        let resource = ApiResource {
            group: String::new(),
            version: "v1".to_owned(),
            api_version: "v1".to_owned(),
            kind: "Namespace".to_owned(),
            plural: "namespaces".to_owned(),
        };
        let api: Api<Arriving> = Api::all_with(self.client.clone(), &resource);
        let found = api.get_opt(name).await.map_err(|error| words(&error))?;
        match found.map(|arriving| read(&resource, &Owning::default(), &arriving)) {
            None => Ok(None),
            Some(Decoded::Read { object, .. }) => Ok(Some(*object)),
            Some(Decoded::Unreadable { why, .. }) => Err(format!("the Namespace cannot be parsed: {why}")),
        }
    }

    async fn reviewed(&self, key: &Key) -> Result<bool, String> {
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answer = api.create(&PostParams::default(), &review(key)).await;
        let status = answer.map_err(|error| words(&error))?.status.ok_or("the SubjectAccessReview has no status")?;
        Ok(is_granted(&status))
    }

    fn known(&self, key: &Key) -> Option<bool> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.get(key).filter(|(until, _)| *until > Instant::now()).map(|(_, may)| *may)
    }

    fn keep(&self, key: Key, may: bool) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= KEPT {
            let now = Instant::now();
            answers.retain(|_, (until, _)| *until > now);
        }
        if answers.len() >= KEPT {
            answers.clear();
        }
        answers.insert(key, (Instant::now() + HOLDS, may));
    }
}

impl Lookup for LiveLookup {
    fn look_up<'a>(&'a self, needs: Vec<Need>, facts: &'a mut Facts) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            for fact in join_all(needs.into_iter().map(|need| self.find_out(need))).await {
                match fact {
                    Fact::Namespace(name, found) => drop(facts.namespaces.insert(name, found)),
                    Fact::Bypass(rule, found) => drop(facts.bypasses.insert(rule, found)),
                    Fact::List(key, found) => drop(facts.lists.insert(key, found)),
                    Fact::Stored(found) => facts.stored = Some(found),
                }
            }
        })
    }
}

/// Returns true if an access review grants the right. An authorizer that denies it overrules the others.
#[must_use]
pub(crate) fn is_granted(status: &SubjectAccessReviewStatus) -> bool {
    status.allowed && status.denied != Some(true)
}

/// Returns the access review for a right.
fn review((requester, right, namespace): &Key) -> SubjectAccessReview {
    let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let (verb, group, resource, name) = match right {
        Right::Bypass(rule) => ("bypass", "portcullis.dev", "rules", *rule),
        Right::List(resource) => {
            let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
            ("list", group, resource, "")
        }
    };
    let all = |texts: &[Box<str>]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
    SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: text(&requester.username),
            uid: text(&requester.uid),
            groups: Some(all(&requester.groups)),
            extra: Some(requester.extra.iter().map(|(name, values)| (name.to_string(), all(values))).collect()),
            resource_attributes: Some(ResourceAttributes {
                verb: text(verb),
                group: text(group),
                resource: text(resource),
                name: text(name),
                // Without a namespace only ClusterRoleBindings grant it.
                namespace: namespace.as_deref().and_then(text),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    }
}

async fn within<T>(answer: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let late = || Err(format!("no answer within {} s", PATIENCE.as_secs()));
    tokio::time::timeout(PATIENCE, answer).await.unwrap_or_else(|_| late())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_denial_overrules_a_grant() {
        let granted = |status: serde_json::Value| is_granted(&serde_json::from_value(status).unwrap());
        assert!(granted(json!({"allowed": true})) && granted(json!({"allowed": true, "denied": false})));
        assert!(!granted(json!({"allowed": true, "denied": true})) && !granted(json!({"allowed": false})));
    }

    fn requester(name: &str) -> Requester {
        let extra = vec![("scopes.example.com/only".into(), vec!["a".into(), "b".into()])];
        Requester {
            username: name.into(),
            uid: "u-1".into(),
            groups: vec!["dev".into(), "system:authenticated".into()],
            extra,
        }
    }

    fn lookup() -> LiveLookup {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        LiveLookup::new(Client::try_from(config).unwrap(), Arc::default(), ClusterMetrics::default())
    }

    #[test]
    fn everything_that_is_known_of_the_requester_is_asked_with() {
        let spec = |namespace: Option<&str>| {
            let key = (requester("alice"), Right::Bypass("any-port"), namespace.map(Box::from));
            serde_json::to_value(review(&key)).unwrap()["spec"].clone()
        };
        let attributes = json!({"verb": "bypass", "group": "portcullis.dev", "resource": "rules", "name": "any-port"});
        assert_eq!(
            spec(None),
            json!({
                "user": "alice", "uid": "u-1", "groups": ["dev", "system:authenticated"],
                "extra": {"scopes.example.com/only": ["a", "b"]}, "resourceAttributes": attributes,
            })
        );
        let namespaced = spec(Some("shop"))["resourceAttributes"].clone();
        assert_eq!(namespaced["namespace"], "shop", "a RoleBinding in it counts");
        assert_eq!(namespaced["name"], "any-port");
    }

    #[test]
    fn the_group_of_a_resource_follows_its_name() {
        let attributes = |resource: &'static str| {
            let review = review(&(requester("alice"), Right::List(resource), None));
            serde_json::to_value(review).unwrap()["spec"]["resourceAttributes"].clone()
        };
        assert_eq!(attributes("pods"), json!({"verb": "list", "resource": "pods"}));
        assert_eq!(
            attributes("ingresses.networking.k8s.io"),
            json!({"verb": "list", "group": "networking.k8s.io", "resource": "ingresses"})
        );
    }

    #[tokio::test]
    async fn an_answer_holds_for_who_asked_and_for_what_was_asked() {
        let lookup = lookup();
        let shop = || Some("shop".into());
        lookup.keep((requester("alice"), Right::Bypass("any-port"), shop()), true);
        lookup.keep((requester("mallory"), Right::Bypass("any-port"), shop()), false);
        assert_eq!(lookup.known(&(requester("alice"), Right::Bypass("any-port"), shop())), Some(true));
        assert_eq!(lookup.known(&(requester("mallory"), Right::Bypass("any-port"), shop())), Some(false));
        assert_eq!(lookup.known(&(requester("alice"), Right::Bypass("dns-blocked"), shop())), None);
        for namespace in [None, Some("market".into())] {
            assert_eq!(
                lookup.known(&(requester("alice"), Right::Bypass("any-port"), namespace)),
                None,
                "a right ends at its namespace"
            );
        }
        let other = Requester { groups: Vec::new(), ..requester("alice") };
        assert_eq!(lookup.known(&(other, Right::Bypass("any-port"), shop())), None, "other groups have other rights");
        for number in 0..KEPT {
            lookup.keep((requester(&number.to_string()), Right::Bypass("any-port"), None), true);
        }
        assert!(lookup.answers.lock().unwrap().len() <= KEPT);
        assert_eq!(lookup.known(&(requester(&(KEPT - 1).to_string()), Right::Bypass("any-port"), None)), Some(true));
    }

    #[tokio::test]
    async fn a_failure_is_told_and_not_kept() {
        let lookup = lookup();
        let mut facts = Facts::default();
        let bypass = Need::Bypass { rule: "any-port", requester: requester("alice"), namespace: Some("shop".into()) };
        let needs = vec![Need::Namespace("shop".into()), bypass];
        lookup.look_up(needs, &mut facts).await;
        assert!(facts.namespaces["shop"].is_err());
        assert!(facts.bypasses["any-port"].is_err());
        assert_eq!(lookup.known(&(requester("alice"), Right::Bypass("any-port"), Some("shop".into()))), None);
    }
}
