//! Maps the label keys of Calico's selectors to their owner: the pod, its namespace or its service account.
//!
//! A pod carries its own labels. It also carries the names of its namespace and service account under keys of Calico's
//! own, and the labels of both under the prefixes `pcns.` and `pcsa.`
//! (`libcalico-go/lib/backend/k8s/conversion/workload_endpoint_default.go`, `apis/projectcalico/v3/constants.go`).

use super::selector::not;
use crate::model::{NAME_LABEL, Namespaces, Operator, Owner, Pods, Requirement, Selector};

/// The label that holds the name: of a namespace after `pcns.`, of a service account after `pcsa.`.
const NAME: &str = "projectcalico.org/name";

/// Converts a pod selector, as written in `selector` and `notSelector`.
pub(super) fn of_pods(selector: Selector) -> Selector {
    each(selector, &|mut label| {
        let (owner, key): (Owner, &str) = match &*label.key {
            "projectcalico.org/namespace" => (Owner::Namespace, NAME_LABEL),
            "projectcalico.org/serviceaccount" => (Owner::Account, NAME_LABEL),
            // All pods of a Kubernetes cluster have the same value.
            "projectcalico.org/orchestrator" => return constant(label.operator.accepts(Some("k8s"))),
            key => match (key.strip_prefix("pcns."), key.strip_prefix("pcsa.")) {
                (Some(NAME | NAME_LABEL), _) => (Owner::Namespace, NAME_LABEL),
                (Some(key), _) => (Owner::Namespace, key),
                (_, Some(NAME)) => (Owner::Account, NAME_LABEL),
                (_, Some(key)) => (Owner::Account, key),
                (None, None) => return Selector::Label(label),
            },
        };
        (label.owner, label.key) = (owner, key.into());
        named(label)
    })
}

/// Converts a namespace selector, as written in `namespaceSelector`.
pub(super) fn of_namespaces(selector: Selector) -> Selector {
    each(selector, &|mut label| {
        if *label.key == *NAME {
            label.key = NAME_LABEL.into();
        }
        named(label)
    })
}

/// Converts a service account selector, as written in `serviceAccountSelector` and `serviceAccounts.selector`. The
/// result selects the pods that run as these accounts.
pub(super) fn of_accounts(selector: Selector) -> Selector {
    each(selector, &|mut label| {
        if *label.key == *NAME {
            label.key = NAME_LABEL.into();
        }
        label.owner = Owner::Account;
        named(label)
    })
}

/// The pods that run as one of these service accounts.
pub(super) fn account_in(names: &[Box<str>]) -> Selector {
    Selector::Label(Requirement {
        owner: Owner::Account,
        key: NAME_LABEL.into(),
        operator: Operator::In(names.to_vec()),
    })
}

/// Joins the parts into one flat conjunction. Returns None if there are no parts.
pub(super) fn conjunction(parts: impl IntoIterator<Item = Selector>) -> Option<Selector> {
    let parts: Vec<Selector> = parts.into_iter().collect();
    (!parts.is_empty()).then(|| all(parts))
}

/// The pods in these namespaces with these labels. If `namespaces` is a selector, requirements of `labels` that concern
/// only the namespace are moved into it.
pub(super) fn pods(namespaces: Namespaces, labels: Option<Selector>) -> Pods {
    let (Namespaces::Matching(selector), Some(written)) = (&namespaces, &labels) else {
        return Pods { namespaces, labels };
    };
    let parts = match written {
        Selector::All(parts) => parts.as_slice(),
        single => std::slice::from_ref(single),
    };
    let (theirs, own): (Vec<&Selector>, Vec<&Selector>) = parts.iter().partition(|part| is_of_namespace(part));
    if theirs.is_empty() {
        return Pods { namespaces, labels };
    }
    let theirs = theirs.into_iter().map(|part| part.on(Owner::Itself));
    let selector = all(std::iter::once(selector.clone()).chain(theirs).collect());
    Pods { namespaces: Namespaces::Matching(selector), labels: conjunction(own.into_iter().cloned()) }
}

/// Returns true if the selector checks only labels of the namespace.
fn is_of_namespace(selector: &Selector) -> bool {
    match selector {
        Selector::All(parts) | Selector::Any(parts) => !parts.is_empty() && parts.iter().all(is_of_namespace),
        Selector::Not(part) => is_of_namespace(part),
        Selector::Label(label) => label.owner == Owner::Namespace,
    }
}

/// Resolves checks for the presence of a name: every namespace and every service account has one.
fn named(label: Requirement) -> Selector {
    match label.operator {
        Operator::Exists if *label.key == *NAME_LABEL => constant(true),
        Operator::Absent if *label.key == *NAME_LABEL => constant(false),
        _ => Selector::Label(label),
    }
}

fn constant(holds: bool) -> Selector {
    if holds { Selector::everything() } else { Selector::Any(Vec::new()) }
}

/// Replaces each label of the selector and drops the parts that have no effect.
fn each(selector: Selector, replace: &dyn Fn(Requirement) -> Selector) -> Selector {
    match selector {
        Selector::Label(label) => replace(label),
        Selector::Not(part) => not(each(*part, replace)),
        Selector::All(parts) => all(parts.into_iter().map(|part| each(part, replace)).collect()),
        Selector::Any(parts) => any(parts.into_iter().map(|part| each(part, replace)).collect()),
    }
}

fn all(parts: Vec<Selector>) -> Selector {
    let mut flat = Vec::with_capacity(parts.len());
    for part in parts {
        match part {
            Selector::All(inner) => flat.extend(inner),
            Selector::Any(inner) if inner.is_empty() => return Selector::Any(inner),
            other => flat.push(other),
        }
    }
    Selector::all(flat)
}

fn any(parts: Vec<Selector>) -> Selector {
    let mut flat = Vec::with_capacity(parts.len());
    for part in parts {
        match part {
            Selector::Any(inner) => flat.extend(inner),
            Selector::All(inner) if inner.is_empty() => return Selector::All(inner),
            other => flat.push(other),
        }
    }
    match <[Selector; 1]>::try_from(flat) {
        Ok([only]) => only,
        Err(flat) => Selector::Any(flat),
    }
}

#[cfg(test)]
mod tests {
    use super::super::selector::parse;
    use super::*;

    fn pods_meant(text: &str) -> String {
        of_pods(parse(text).unwrap()).to_string()
    }

    #[test]
    fn keys_of_calico_are_those_of_others() {
        assert_eq!(
            pods_meant("projectcalico.org/namespace == 'shop' && pcns.team == 'web'"),
            "namespace label kubernetes.io/metadata.name=shop,namespace label team=web"
        );
        assert_eq!(
            pods_meant("projectcalico.org/serviceaccount == 'bot' && pcsa.role in {'a', 'b'} && app == 'x'"),
            "service account name=bot,service account label role in (a,b),app=x"
        );
        assert_eq!(pods_meant("pcns.projectcalico.org/name != 'x'"), "namespace label kubernetes.io/metadata.name!=x");
        assert_eq!(pods_meant("pcsa.projectcalico.org/name == 'x'"), "service account name=x");
        let namespaces = of_namespaces(parse("projectcalico.org/name == 'shop' || env == 'prod'").unwrap());
        assert_eq!(namespaces.to_string(), "(kubernetes.io/metadata.name=shop or env=prod)");
        let accounts = of_accounts(parse("projectcalico.org/name == 'bot' || role == 'x'").unwrap());
        assert_eq!(accounts.to_string(), "(service account name=bot or service account label role=x)");
    }

    #[test]
    fn what_all_pods_have_is_folded() {
        assert_eq!(pods_meant("projectcalico.org/orchestrator == 'k8s' && app == 'x'"), "app=x");
        assert_eq!(pods_meant("projectcalico.org/orchestrator != 'k8s' || app == 'x'"), "app=x");
        assert_eq!(pods_meant("!has(projectcalico.org/namespace) && app == 'x'"), "nothing");
        assert_eq!(pods_meant("!(has(projectcalico.org/orchestrator) || app == 'x')"), "nothing");
        assert!(of_namespaces(parse("has(projectcalico.org/name)").unwrap()).is_empty());
    }

    #[test]
    fn a_conjunction_is_split_and_nothing_else() {
        let split = |text: &str| {
            let pods = pods(Namespaces::Matching(Selector::equals("env", "prod")), Some(of_pods(parse(text).unwrap())));
            (pods.namespaces.to_string(), pods.labels.map(|labels| labels.to_string()))
        };
        assert_eq!(
            split("app == 'x' && (pcns.a == '1' || !(pcns.b == '2' && has(pcns.c)))"),
            ("in namespaces with env=prod,(a=1 or not (b=2,c))".into(), Some("app=x".into()))
        );
        assert_eq!(
            split("projectcalico.org/namespace == 'shop'"),
            ("in namespaces with env=prod,kubernetes.io/metadata.name=shop".into(), None)
        );
        assert_eq!(
            split("app == 'x' || pcns.a == '1'"),
            ("in namespaces with env=prod".into(), Some("(app=x or namespace label a=1)".into()))
        );
    }
}
