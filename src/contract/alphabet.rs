//! The label values, port numbers and port names that policies distinguish.
//!
//! Policies look at labels only through the operators of their selectors. So two values of a label that satisfy the same
//! operators are the same to every policy, and one sample of each class stands for all of its values.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::budget::charge;
use crate::model::{
    AddressSet, Block, Fact, NAME_LABEL, Namespaces, Numbers, Operator, Owner, Peers, Pods, Policy, Ports, Rule,
    Selector, Traffic, Who,
};

/// The name of a namespace that no selector names. No real namespace has this name.
pub(super) const ELSEWHERE: &str = "*";

/// The same for the other end of a connection from or to a pod in [`ELSEWHERE`], because its namespace may have other
/// labels.
pub(super) const FURTHER: &str = "**";

/// What policies and a contract distinguish.
#[derive(Debug, Default)]
pub(super) struct Alphabet<'a> {
    /// The operators that ask for each label.
    labels: BTreeMap<(Owner, &'a str), Vec<&'a Operator>>,
    /// The port lists of rules.
    ports: Vec<&'a Ports>,
    /// The CIDRs of rules.
    blocks: Vec<&'a Block>,
    /// Names of namespaces that policies refer to without a selector.
    namespaces: BTreeSet<&'a str>,
    /// The names of container ports.
    pub(super) port_names: BTreeSet<&'a str>,
    /// The first ports of ranges that no rule divides.
    pub(super) starts: BTreeSet<u16>,
}

/// One sample of each class of values of a label.
#[derive(Debug)]
pub(super) struct Samples {
    /// The samples. The last one stands for all values that no selector lists.
    pub(super) values: Vec<Box<str>>,
    /// True if there may be classes without a sample, because selectors also compare parts of values.
    pub(super) is_open: bool,
}

impl<'a> Alphabet<'a> {
    pub(super) fn add_policy(&mut self, policy: &'a Policy) {
        self.add_pods(&policy.subject);
        for (_, side) in policy.sides() {
            side.rules.iter().for_each(|rule| self.add_rule(rule));
        }
    }

    fn add_rule(&mut self, rule: &'a Rule) {
        charge(1);
        if let Some(only) = &rule.only {
            self.add_selector(only, None);
        }
        if let Peers::Only(peers) = &rule.peers {
            peers.iter().for_each(|peer| self.add_who(&peer.who));
        }
        self.add_ports(&rule.ports);
    }

    fn add_who(&mut self, who: &'a Who) {
        charge(1);
        match who {
            Who::Pods(pods) => self.add_pods(pods),
            Who::All(parts) => parts.iter().for_each(|part| self.add_who(part)),
            Who::Not(part) => self.add_who(part),
            Who::Addresses(block) => self.blocks.push(block),
            Who::Entity(_) | Who::Nodes(_) | Who::Domain(_) | Who::Service(_) | Who::Unclear(_) => {}
        }
    }

    pub(super) fn add_pods(&mut self, pods: &'a Pods) {
        match &pods.namespaces {
            Namespaces::Own(name) => self.namespaces.extend(name.as_deref()),
            Namespaces::Matching(selector) => self.add_selector(selector, Some(Owner::Namespace)),
        }
        if let Some(labels) = &pods.labels {
            self.add_selector(labels, None);
        }
    }

    /// Adds the operators of a selector. `owner` replaces the owner of its labels.
    fn add_selector(&mut self, selector: &'a Selector, owner: Option<Owner>) {
        charge(1);
        match selector {
            Selector::All(parts) | Selector::Any(parts) => {
                parts.iter().for_each(|part| self.add_selector(part, owner));
            }
            Selector::Not(part) => self.add_selector(part, owner),
            Selector::Label(label) => {
                let key = (owner.unwrap_or(label.owner), &*label.key);
                self.labels.entry(key).or_default().push(&label.operator);
            }
        }
    }

    fn add_ports(&mut self, ports: &'a Ports) {
        if *ports != Ports::Any {
            self.ports.push(ports);
        }
        ports.for_each(&mut |port| {
            charge(1);
            match &port.numbers {
                Numbers::Range(first, last) => self.add_range(*first, *last),
                Numbers::Named(name) => {
                    self.port_names.insert(name);
                }
                Numbers::All | Numbers::Messages(..) => {}
            }
        });
    }

    pub(super) fn add_range(&mut self, first: u16, last: u16) {
        self.starts.insert(first.max(1));
        self.starts.extend(last.checked_add(1));
    }

    /// The answers of all port lists for this traffic. Two ports with the same answers are the same to every policy.
    pub(super) fn class_of_port(&self, traffic: Traffic<'_>) -> Vec<Option<bool>> {
        self.ports.iter().map(|ports| ports.mean(traffic)).collect()
    }

    /// The sets of addresses that rules tell apart.
    pub(super) fn blocks(&self) -> impl Iterator<Item = AddressSet> {
        self.blocks.iter().map(|block| block.addresses())
    }

    /// The samples of the values of a label.
    pub(super) fn samples(&self, owner: Owner, key: &str) -> Samples {
        let classes = self.classes(owner, key);
        // The first value of each class, in order of the values.
        let mut seen = HashSet::new();
        let values = classes.of.iter().filter(|(_, class)| seen.insert(*class)).map(|(value, _)| Box::from(*value));
        let mut values: Vec<Box<str>> = values.collect();
        // A value that no selector lists.
        let other = (0..)
            .map(|number| if number == 0 { "other".to_owned() } else { format!("other-{number}") })
            .find(|other| !classes.of.contains_key(&**other))
            .unwrap_or_default();
        values.push(other.into());
        Samples { values, is_open: classes.is_open }
    }

    /// The names of namespaces that selectors list. `None` if selectors also compare parts of names, so that more
    /// namespaces differ from all others.
    pub(super) fn named_namespaces(&self) -> Option<Vec<&'a str>> {
        let classes = self.classes(Owner::Namespace, NAME_LABEL);
        let is_listed = classes.of.contains_key(ELSEWHERE);
        let names = classes.of.into_keys().collect();
        (!classes.is_open && !is_listed).then_some(names)
    }

    /// The classes of namespaces: two namespaces of one class are the same to every policy.
    pub(super) fn namespaces(&self) -> NamespaceClasses<'a> {
        let keys = self.labels.keys().filter(|(owner, _)| *owner == Owner::Namespace).map(|(_, key)| *key);
        let keys: BTreeSet<&str> = keys.chain([NAME_LABEL]).collect();
        NamespaceClasses { keys: keys.into_iter().map(|key| (key, self.classes(Owner::Namespace, key))).collect() }
    }

    /// The operators that each listed value of a label satisfies.
    fn classes(&self, owner: Owner, key: &str) -> Classes<'a> {
        let operators = self.labels.get(&(owner, key)).map(Vec::as_slice).unwrap_or_default();
        let mut classes = Classes::default();
        let mut parts = Vec::new();
        for (number, operator) in operators.iter().enumerate() {
            match operator {
                Operator::In(values) | Operator::NotIn(values) => {
                    charge(1 + values.len());
                    for value in values {
                        let class = classes.of.entry(value).or_default();
                        if class.last() != Some(&number) {
                            class.push(number);
                        }
                    }
                }
                Operator::Contains(text) | Operator::StartsWith(text) | Operator::EndsWith(text) => {
                    classes.of.entry(text).or_default();
                    parts.push((operators.len() + number, *operator));
                }
                Operator::Exists | Operator::Absent => {}
            }
        }
        if owner == Owner::Namespace && key == NAME_LABEL {
            // Each name is a class of its own.
            for (number, name) in self.namespaces.iter().enumerate() {
                classes.of.entry(name).or_default().push(2 * operators.len() + number);
            }
        }
        for (number, operator) in &parts {
            charge(1 + classes.of.len());
            for (value, class) in &mut classes.of {
                if operator.accepts(Some(value)) {
                    class.push(*number);
                }
            }
        }
        classes.is_open = !parts.is_empty();
        classes
    }
}

/// The classes of the values of one label.
#[derive(Debug, Default)]
struct Classes<'a> {
    /// For each listed value, the numbers of the operators that it satisfies.
    of: BTreeMap<&'a str, Vec<usize>>,
    /// True if there may be further classes, because operators also compare parts of values.
    is_open: bool,
}

/// The classes of namespaces.
#[derive(Debug)]
pub(super) struct NamespaceClasses<'a> {
    keys: Vec<(&'a str, Classes<'a>)>,
}

/// The class of a label value of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum NamespaceClass {
    /// The label is absent.
    Absent,
    /// No selector lists the value.
    Unlisted,
    /// The value satisfies these operators.
    Listed(Vec<usize>),
    /// The value is a class of its own.
    Value(Box<str>),
    /// The label is unknown.
    Unknown,
}

impl NamespaceClasses<'_> {
    /// The class of a namespace.
    pub(super) fn class<'f>(&self, label: impl Fn(&str) -> Fact<'f>) -> Vec<NamespaceClass> {
        charge(self.keys.len());
        let each = |(key, classes): &(&str, Classes<'_>)| match label(key) {
            Fact::Absent => NamespaceClass::Absent,
            Fact::Present | Fact::Unknown => NamespaceClass::Unknown,
            Fact::Value(value) if classes.is_open => NamespaceClass::Value(value.into()),
            Fact::Value(value) => {
                classes.of.get(value).map_or(NamespaceClass::Unlisted, |class| NamespaceClass::Listed(class.clone()))
            }
        };
        self.keys.iter().map(each).collect()
    }
}
