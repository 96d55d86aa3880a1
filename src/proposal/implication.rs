//! Contracts that follow from others.

use crate::model::{BUDGET, Contract, Extent, Party, Pods, PortSpan};
use crate::view::View;

/// Returns true if it is proved that a contract holds whenever another one does.
pub(super) fn implies(stronger: &Contract, weaker: &Contract, view: &View) -> bool {
    let cover =
        |own: &[Party], other: &[Party]| other.iter().all(|other| own.iter().any(|own| covers(own, other, view)));
    stronger.demand == weaker.demand
        && (stronger.extent == Extent::Any || stronger.extent == weaker.extent)
        && cover(&stronger.from, &weaker.from)
        && cover(&stronger.to, &weaker.to)
        && cover_ports(&stronger.ports, &weaker.ports)
}

fn cover_ports(own: &[PortSpan], other: &[PortSpan]) -> bool {
    let covers = |own: &PortSpan, other: &PortSpan| {
        own.protocol == other.protocol && own.first <= other.first && other.last <= own.last
    };
    // Without a list, every port counts.
    own.is_empty() || !other.is_empty() && other.iter().all(|other| own.iter().any(|own| covers(own, other)))
}

/// Returns true if it is proved that a party has every end of another one.
fn covers(own: &Party, other: &Party, view: &View) -> bool {
    match (own, other) {
        (Party::Pods { pods, except }, Party::Pods { pods: others, except: other_except }) => {
            let is_left_out = |left_out: &Pods| {
                left_out.are_covered(other_except, view, &mut { BUDGET })
                    || left_out.excludes(others, view, &mut { BUDGET })
            };
            pods.covers(others, view, &mut { BUDGET }) && except.iter().all(is_left_out)
        }
        (Party::Addresses { set, .. }, Party::Addresses { set: other, .. }) => set.covers(other),
        _ => own == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Demand, Enforcement, Labels, Protocol, Selector};
    use crate::proposal::groups::pods;

    fn some(labels: &[(&str, &str)]) -> Party {
        let labels: Labels = labels.iter().copied().collect();
        Party::Pods { pods: pods("shop", &labels), except: Vec::new() }
    }

    fn all_but(names: &[&str]) -> Party {
        let everything = Pods { namespaces: crate::model::Namespaces::Matching(Selector::everything()), labels: None };
        let except = names.iter().map(|name| pods(name, &Labels::default())).collect();
        Party::Pods { pods: everything, except }
    }

    fn contract(from: Party, to: Party, ports: &[u16]) -> Contract {
        let span = |port: &u16| PortSpan { protocol: Protocol::Tcp, first: *port, last: *port };
        Contract {
            name: "c".into(),
            demand: Demand::MustNotReach,
            extent: Extent::Any,
            from: vec![from],
            to: vec![to],
            ports: ports.iter().map(span).collect(),
            enforcement: Enforcement::Deny,
            reason: "".into(),
            owner: "".into(),
        }
    }

    #[test]
    fn a_contract_implies_those_about_fewer_ends() {
        let view = View::default();
        let db = || some(&[("app", "db")]);
        let base = contract(all_but(&["pay"]), some(&[]), &[]);
        for (weaker, expected) in [
            (contract(all_but(&["pay"]), some(&[]), &[]), true),
            (contract(all_but(&["pay", "web"]), db(), &[5432]), true),
            (contract(some(&[]), db(), &[]), true),
            (contract(all_but(&[]), db(), &[]), false),
            (contract(all_but(&["web"]), db(), &[]), false),
            (Contract { demand: Demand::MustReach, ..base.clone() }, false),
            (Contract { extent: Extent::Existing, ..base.clone() }, true),
        ] {
            assert_eq!(implies(&base, &weaker, &view), expected, "{weaker}");
        }
        let of_port = contract(all_but(&["pay"]), db(), &[5432]);
        assert!(!implies(&of_port, &contract(all_but(&["pay"]), db(), &[]), &view), "it is about one port");
        assert!(!implies(&of_port, &contract(all_but(&["pay"]), db(), &[80]), &view));
        let existing = Contract { extent: Extent::Existing, ..base.clone() };
        assert!(!implies(&existing, &base, &view), "it is about fewer pods");
    }
}
