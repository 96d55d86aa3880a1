//! The states of contracts while a cluster changes, and the object to which a broken contract is traced.

use std::sync::Arc;

use portcullis::config::Configuration;
use portcullis::contract::{Ledger, Record};
use portcullis::model::{Body, Object, ObjectRef};
use portcullis::view::{Site, View};

use crate::objects::objects;

/// A contract about pods of the namespace payments.
fn contract(name: &str, pods: &str) -> String {
    format!(
        "apiVersion: portcullis.dev/v1alpha1\nkind: Contract\nmetadata: {{name: {name}}}\nspec:\n  pods: {pods}\n  \
         mustNotReach:\n    from: [{{namespaces: [shop]}}]\n    to: [{{namespaces: [payments], podSelector: {{matchLabels: \
         {{app: db}}}}}}]\n    ports: [{{port: 5432}}]\n---\n"
    )
}

fn namespace(name: &str, labels: &str) -> String {
    format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{{labels}}}}}\n---\n")
}

/// A policy of payments for ingress from namespaces.
fn policy(name: &str, from: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: payments}}\nspec: \
         {{podSelector: {{}}, policyTypes: [Ingress], ingress: [{{from: [{{namespaceSelector: {{matchLabels: {from}}}}}]}}]}}\n---\n"
    )
}

fn pod(namespace: &str, name: &str, app: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{app: {app}}}}}\nspec: \
         {{containers: [{{name: c, image: c}}]}}\n---\n"
    )
}

/// A cluster, and the ledger that follows it.
struct Followed {
    view: View,
    site: Site,
    ledger: Ledger,
}

impl Followed {
    fn new(yaml: &[String]) -> Self {
        let site = Configuration::shipped().unwrap().site;
        let mut followed = Self { view: View::of_cluster(), site, ledger: Ledger::default() };
        followed.apply(yaml);
        followed
    }

    /// Applies manifests, and updates the ledger once.
    fn apply(&mut self, yaml: &[String]) -> Vec<Record> {
        for object in objects(&yaml.concat()) {
            self.view.insert(object);
        }
        self.update()
    }

    fn remove(&mut self, yaml: &str) -> Vec<Record> {
        let object: Object = objects(yaml).remove(0);
        self.view.remove(&object.id);
        self.update()
    }

    fn update(&mut self) -> Vec<Record> {
        assert!(!self.ledger.update(&Arc::new(self.view.clone()), &self.site, false), "none waits");
        self.ledger.records()
    }
}

/// The name, the state, and the object that broke it.
fn states(records: &[Record]) -> Vec<(&str, &'static str, Option<String>)> {
    let each = |record: &Record| record.broken_by.as_ref().map(ToString::to_string);
    records.iter().map(|record| (&*record.name, record.state.name(), each(record))).collect()
}

/// A cluster in which the contract `db` holds.
fn holding(pods: &str) -> Followed {
    let all =
        [namespace("payments", ""), namespace("shop", ""), policy("closed", "{team: none}"), contract("db", pods)];
    let followed = Followed::new(&all);
    assert_eq!(states(&followed.ledger.records()), [("db", "Holds", None)]);
    followed
}

#[test]
fn a_contract_is_broken_by_the_one_object_that_changed() {
    let mut followed = holding("Any");
    let wide = policy("wide", "{kubernetes.io/metadata.name: shop}");
    let broken = [("db", "Broken", Some("NetworkPolicy payments/wide".to_owned()))];
    assert_eq!(states(&followed.apply(std::slice::from_ref(&wide))), broken);
    // Changes while it is broken do not change what broke it.
    assert_eq!(states(&followed.apply(&[namespace("other", ""), policy("more", "{team: x}")])), broken);
    assert_eq!(states(&followed.remove(&wide)), [("db", "Holds", None)]);

    // A label of a namespace for an existing rule.
    followed.apply(&[policy("by-label", "{team: shop}")]);
    let by_label = [("db", "Broken", Some("Namespace shop".to_owned()))];
    assert_eq!(states(&followed.apply(&[namespace("shop", "team: shop")])), by_label);
    // The loss of the policy that isolates.
    let mut followed = holding("Any");
    let lost = [("db", "Broken", Some("NetworkPolicy payments/closed".to_owned()))];
    assert_eq!(states(&followed.remove(&policy("closed", "{team: none}"))), lost);
}

#[test]
fn of_several_changed_objects_the_deciding_one_broke_it_or_none_is_named() {
    let wide = policy("wide", "{kubernetes.io/metadata.name: shop}");
    let mut followed = holding("Any");
    let broken = followed.apply(&[policy("other", "{team: x}"), wide.clone(), namespace("third", "")]);
    assert_eq!(states(&broken), [("db", "Broken", Some("NetworkPolicy payments/wide".to_owned()))]);

    // The rule that decides is an old one, and two namespaces have changed.
    let mut followed = holding("Any");
    followed.apply(&[policy("by-label", "{team: shop}")]);
    let broken = followed.apply(&[namespace("shop", "team: shop"), namespace("third", "")]);
    assert_eq!(states(&broken), [("db", "Broken", None)]);

    // Broken from the start, and broken by an edit of the contract.
    assert_eq!(
        states(
            &Followed::new(&[namespace("payments", ""), namespace("shop", ""), wide, contract("db", "Any")])
                .ledger
                .records()
        ),
        [("db", "Broken", None)]
    );
    let mut followed = holding("Existing");
    followed.apply(&[policy("wide", "{kubernetes.io/metadata.name: shop}")]);
    assert_eq!(states(&followed.apply(&[contract("db", "Any")])), [("db", "Broken", None)]);
}

#[test]
fn only_a_contract_about_existing_pods_follows_the_pods() {
    let mut followed = holding("Existing");
    followed.apply(&[policy("wide", "{kubernetes.io/metadata.name: shop}"), pod("payments", "db", "db")]);
    assert_eq!(states(&followed.ledger.records()), [("db", "Holds", None)], "no pod in shop");
    assert_eq!(states(&followed.apply(&[pod("shop", "web", "web")])), [("db", "Broken", None)]);
    assert_eq!(states(&followed.remove(&pod("shop", "web", "web"))), [("db", "Holds", None)]);
}

#[test]
fn contracts_come_and_go_and_an_unreadable_one_is_invalid() {
    let mut followed = holding("Any");
    let given = objects(&contract("db", "Any")).into_iter().filter_map(|object| match object.body {
        Body::Contract(contract) => Some(Arc::new(contract)),
        _ => None,
    });
    followed.view = followed.view.clone().with_given_contracts(given.collect());
    followed.view.insert_unreadable_contract("typo", "spec: no");
    let records = followed.update();
    assert_eq!(states(&records), [("db", "Holds", None), ("db", "Holds", None), ("typo", "Invalid", None)]);
    assert_eq!(records.iter().filter(|record| record.is_object).count(), 2);

    followed.apply(&[contract("typo", "Any")]);
    assert_eq!(states(&followed.ledger.records()).last(), Some(&("typo", "Holds", None)));
    followed.view.insert_unreadable_contract("typo", "spec: no");
    assert_eq!(states(&followed.update()).last(), Some(&("typo", "Invalid", None)));
    followed.remove(&contract("typo", "Any"));
    assert_eq!(followed.remove(&contract("db", "Any")).len(), 1, "that of the file is left");
}

#[test]
fn the_difference_of_views_names_each_object_that_decides_connections() {
    let tier = |order| {
        format!(
            "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {{name: high}}\nspec: {{order: {order}}}\n---\n"
        )
    };
    let wide = "apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: {name: wide}\nspec: \
                {endpointSelector: {}, ingress: [{}]}\n---\n";
    let [shop, closed] = [namespace("shop", ""), policy("closed", "{team: none}")];
    let view = |yaml: &[&str]| {
        let mut view = View::of_cluster();
        objects(&yaml.concat()).into_iter().for_each(|object| view.insert(object));
        view
    };
    let differ = |old: &View, new: &View| new.changed_objects(old).iter().map(ObjectRef::to_string).collect::<Vec<_>>();
    let old = view(&[&shop, &closed, &tier(1), wide]);
    assert_eq!(differ(&old, &view(&[&shop, &closed, &tier(1), wide])), [""; 0], "read again");
    assert!(!old.shares_namespaces(&view(&[&shop, &closed, &tier(1), wide])) && old.shares_namespaces(&old.clone()));
    let mut pods = old.clone();
    objects(&pod("shop", "web", "web")).into_iter().for_each(|object| pods.insert(object));
    assert_eq!(differ(&old, &pods), [""; 0]);
    assert!(!pods.shares_namespaces(&old));

    let all = ["CiliumClusterwideNetworkPolicy wide", "NetworkPolicy payments/closed", "Tier high", "Namespace shop"];
    let sorted = |mut names: Vec<String>| {
        names.sort();
        names
    };
    let expected = sorted(all.map(str::to_owned).to_vec());
    assert_eq!(sorted(differ(&old, &View::of_cluster())), expected);
    assert_eq!(sorted(differ(&View::of_cluster(), &old)), expected);
    let changed =
        view(&[&namespace("shop", "team: a"), &policy("closed", "{team: a}"), &tier(2), &wide.replace("[{}]", "[]")]);
    assert_eq!(sorted(differ(&old, &changed)), expected);
}
