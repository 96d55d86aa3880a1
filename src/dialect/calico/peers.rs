//! The source and destination of a rule (`getEndpointSelector` in
//! `libcalico-go/lib/backend/syncersv1/updateprocessors/rules.go`).
//!
//! All fields of a side have to match. The remote side becomes the peers. The local side, that of the selected pods,
//! narrows the subject of the rule.

use super::labels::{account_in, conjunction, of_accounts, of_namespaces, of_pods, pods};
use super::nets::{Families, Net, Nets, described};
use super::reader::{Parsed, Reader, Role};
use super::selector::not;
use super::wire;
use crate::budget::{charge, hold};
use crate::model::{Block, FaultKind, Namespaces, Owner, Path, Peer, Peers, Pods, Selector, ServicePeer, Sets, Who};

/// The selectors of one side.
struct Selectors<'a> {
    namespaces: Parsed<'a>,
    /// Selectors of the pods and of their service accounts. All of them have to match.
    labels: Vec<Selector>,
    /// The selector of excluded pods (`notSelector`).
    except: Option<Selector>,
    /// A selector that does not parse.
    broken: Option<&'a str>,
}

/// The label of pods of Kubernetes.
const ORCHESTRATOR: &str = "projectcalico.org/orchestrator";

/// Memory charged for one requirement of a selector, with its key and one value, in bytes.
const BYTES_PER_REQUIREMENT: usize = 128;

impl Reader {
    /// Reads the peers from the remote side. `version` is the path of `ipVersion`, used for a rule with one address
    /// family.
    pub(super) fn peers(
        &mut self,
        entity: &wire::Entity,
        nets: &Nets<'_>,
        path: &Path,
        families: Families,
        version: &Path,
    ) -> Peers {
        let mut parts: Vec<Who> = self.endpoints(entity, path).into_iter().collect();
        let sets = if parts.is_empty() { Sets::None } else { self.sets(entity) };
        parts.extend(entity.services.as_ref().map(|services| {
            let namespace = services.namespace.clone().filter(|namespace| !namespace.is_empty());
            // Without a namespace, Felix finds no Service.
            let name = services.name.clone().filter(|_| namespace.is_some());
            Who::Service(ServicePeer { namespace, name, words: service(services) })
        }));
        let left = nets.families(families);
        let single = |who: Block, path: &Path| Peer::new(path.clone(), Who::Addresses(who));
        let addresses: Vec<Peer> = if !nets.nets.is_empty() {
            let of_family = |net: &&Net<'_>| net.net.is_none_or(|net| left.has(&net));
            let read = |net: &Net<'_>| match net.net {
                Some(block) => single(nets.block(block), &net.path),
                None => {
                    let words = format!("`{}`, which is not a CIDR", net.text);
                    Peer::new(net.path.clone(), Who::Unclear(words.into()))
                }
            };
            nets.nets.iter().filter(of_family).map(read).collect()
        } else if !nets.not_nets.is_empty() {
            left.everywhere().map(|net| single(nets.block(net), &path.field("notNets"))).collect()
        } else if left == Families::BOTH {
            return match one(parts) {
                Some(who) => Peers::Only(vec![Peer { path: path.clone(), who, sets }]),
                None => Peers::Any,
            };
        } else {
            left.everywhere().map(|net| single(Block::whole(net), version)).collect()
        };
        // Each block is stored with its own copy of the other parts.
        let copied = addresses.len().saturating_mul(parts.iter().map(weight).sum());
        charge(copied / 4);
        hold(copied.saturating_mul(BYTES_PER_REQUIREMENT));
        let together = |peer: Peer| {
            let who =
                if parts.is_empty() { peer.who } else { Who::All(parts.iter().cloned().chain([peer.who]).collect()) };
            Peer { who, sets, ..peer }
        };
        Peers::Only(addresses.into_iter().map(together).collect())
    }

    /// Reads the local side: the part of the subject that the rule applies to. Other constraints are added to
    /// `conditions`.
    pub(super) fn near(
        &mut self,
        entity: &wire::Entity,
        nets: &Nets<'_>,
        path: &Path,
        end: &str,
        conditions: &mut Vec<Box<str>>,
    ) -> Option<Selector> {
        if nets.nets.iter().chain(&nets.not_nets).any(|net| net.net.is_none()) {
            let all = described(nets.nets.iter().chain(&nets.not_nets));
            conditions.push(format!("the {end} address is in {all}, which contains invalid CIDRs").into());
        }
        if let Some(services) = &entity.services {
            conditions.push(format!("the {end} is {}", service(services)).into());
        }
        let Selectors { namespaces, labels, except, broken } = self.selectors(entity, path);
        if let Some(text) = broken {
            conditions.push(format!("the {end} matches `{text}`, which does not parse").into());
        }
        let namespaces = match namespaces {
            Parsed::Is(selector) => Some(of_namespaces(selector).on(Owner::Namespace)),
            // Every pod is in a namespace, so `global()` matches no pod.
            Parsed::Global => Some(Selector::Any(Vec::new())),
            Parsed::Absent | Parsed::Broken(_) => None,
        };
        conjunction(namespaces.into_iter().chain(labels).chain(except.map(not))).filter(|only| !only.is_empty())
    }

    /// The pods that the selectors of the remote side match. None if it has no selectors.
    fn endpoints(&mut self, entity: &wire::Entity, path: &Path) -> Option<Who> {
        let Selectors { namespaces, labels, except, broken } = self.selectors(entity, path);
        if let Some(text) = broken {
            return Some(Who::Unclear(format!("endpoints with the invalid selector `{text}`").into()));
        }
        let namespaces = match namespaces {
            Parsed::Global => {
                let place = path.field("namespaceSelector");
                let problem = "`global()` matches host endpoints and global network sets, which Portcullis does not \
                               read; it is treated as matching no pod";
                let help = "no change is needed; to match pods, select them by labels";
                self.fault(&place, FaultKind::NotUnderstood, problem.into(), help);
                return Some(Who::All(vec![
                    Who::Not(Box::new(Who::Pods(Pods {
                        namespaces: Namespaces::Matching(Selector::everything()),
                        labels: None,
                    }))),
                    Who::Unclear("host endpoints or global network sets".into()),
                ]));
            }
            Parsed::Is(selector) => Some(Namespaces::Matching(of_namespaces(selector))),
            Parsed::Absent | Parsed::Broken(_) => None,
        };
        match (namespaces, except) {
            (None, None) if labels.is_empty() => None,
            // A lone `notSelector` means "not from a matching endpoint", so the rule also matches every other address.
            (None, Some(except)) if self.is_global && labels.is_empty() => {
                Some(Who::Not(Box::new(Who::Pods(pods(self.own(), Some(except))))))
            }
            (namespaces, except) => {
                let namespaces = namespaces.unwrap_or_else(|| self.own());
                Some(Who::Pods(pods(namespaces, conjunction(labels.into_iter().chain(except.map(not))))))
            }
        }
    }

    /// The network sets that the selectors of the remote side match: with a namespace those in that namespace, without
    /// one in a GlobalNetworkPolicy those in any and global ones.
    fn sets(&self, entity: &wire::Entity) -> Sets {
        let is_written = |text: &Option<Box<str>>| text.as_ref().is_some_and(|text| !text.is_empty());
        // Only pods have this label. Its requirements are left out of the selector, because every pod meets them.
        let is_for_pods =
            [&entity.selector, &entity.not_selector].into_iter().flatten().any(|text| text.contains(ORCHESTRATOR));
        match (is_for_pods, is_written(&entity.namespace_selector)) {
            (true, _) => Sets::None,
            (false, false) if self.is_global => Sets::All,
            (false, _) => Sets::Namespaced,
        }
    }

    fn selectors<'a>(&mut self, entity: &'a wire::Entity, path: &Path) -> Selectors<'a> {
        let namespaces =
            self.selector(entity.namespace_selector.as_deref(), &path.field("namespaceSelector"), Role::Namespaces);
        let own = self.selector(entity.selector.as_deref(), &path.field("selector"), Role::Pods);
        let negated = self.selector(entity.not_selector.as_deref(), &path.field("notSelector"), Role::Not);
        let accounts = entity.service_accounts.as_ref();
        let by_label = self.selector(
            accounts.and_then(|accounts| accounts.selector.as_deref()),
            &path.field("serviceAccounts").field("selector"),
            Role::Accounts,
        );
        let mut read = Selectors { namespaces, labels: Vec::new(), except: None, broken: None };
        for parsed in [by_label.map(of_accounts), own.map(of_pods)] {
            match parsed {
                Parsed::Is(selector) => read.labels.push(selector),
                Parsed::Broken(text) => read.broken = Some(text),
                Parsed::Absent | Parsed::Global => {}
            }
        }
        let names = accounts.and_then(|accounts| accounts.names.as_deref()).unwrap_or_default();
        if !names.is_empty() {
            read.labels.push(account_in(names));
        }
        match negated {
            Parsed::Is(selector) => read.except = Some(of_pods(selector)),
            Parsed::Broken(text) => read.broken = Some(text),
            Parsed::Absent | Parsed::Global => {}
        }
        if let Parsed::Broken(text) = read.namespaces {
            read.broken = Some(text);
        }
        read
    }
}

/// Describes a Service.
fn service(services: &wire::Services) -> Box<str> {
    let name = services.name.as_deref().unwrap_or_default();
    match services.namespace.as_deref().filter(|namespace| !namespace.is_empty()) {
        Some(namespace) => format!("the Service {namespace}/{name}").into(),
        None => format!("the Service {name}").into(),
    }
}

/// The number of requirements and values in the selectors of a part.
fn weight(part: &Who) -> usize {
    match part {
        Who::Pods(pods) => {
            let of_namespaces = match &pods.namespaces {
                Namespaces::Matching(selector) => selector.size(),
                Namespaces::Own(_) => 0,
            };
            1 + of_namespaces + pods.labels.as_ref().map_or(0, Selector::size)
        }
        Who::Not(part) => weight(part),
        _ => 1,
    }
}

/// Combines the parts, all of which have to match. None if there are none.
fn one(mut parts: Vec<Who>) -> Option<Who> {
    if parts.len() > 1 { Some(Who::All(parts)) } else { parts.pop() }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{egress, faults, ingress};
    use serde_json::{Value, json};

    const NAMESPACED: &str = "NetworkPolicy";
    const GLOBAL: &str = "GlobalNetworkPolicy";

    /// The peers of an ingress rule with this source.
    fn from(kind: &str, source: &Value) -> String {
        ingress(kind, &json!({"action": "Allow", "source": source})).peers.to_string()
    }

    fn paths(kind: &str, source: &Value) -> Vec<String> {
        let rule = ingress(kind, &json!({"action": "Allow", "source": source}));
        rule.peers.listed().iter().map(|peer| peer.path.to_string()).collect()
    }

    #[test]
    fn selectors_mean_the_own_namespace_or_all_of_them() {
        let selector = json!({"selector": "app == 'web'"});
        assert_eq!(from(NAMESPACED, &selector), "pods with app=web in namespace shop");
        assert_eq!(from(GLOBAL, &selector), "pods with app=web in every namespace");
        let namespaces = json!({"selector": "app == 'web'", "namespaceSelector": "projectcalico.org/name == 'x'"});
        let there = "pods with app=web in namespaces with kubernetes.io/metadata.name=x";
        assert_eq!((from(NAMESPACED, &namespaces), from(GLOBAL, &namespaces)), (there.into(), there.into()));
        let all = json!({"namespaceSelector": "all()"});
        assert_eq!(from(NAMESPACED, &all), "all pods in every namespace");
        for nothing in [json!({}), json!(null), json!({"selector": ""}), json!({"serviceAccounts": {}})] {
            assert_eq!(from(NAMESPACED, &nothing), "anywhere", "{nothing}");
        }
        assert_eq!(paths(NAMESPACED, &selector), ["spec.ingress[0].source"]);
    }

    #[test]
    fn what_is_not_selected_is_in_the_namespace_or_anywhere() {
        let not = json!({"notSelector": "app == 'web'"});
        assert_eq!(from(NAMESPACED, &not), "pods with app!=web in namespace shop");
        assert_eq!(from(GLOBAL, &not), "anything but pods with app=web in every namespace");
        let both = json!({"selector": "has(app)", "notSelector": "app == 'web'"});
        assert_eq!(from(GLOBAL, &both), "pods with app,app!=web in every namespace");
        let elsewhere = json!({"namespaceSelector": "env == 'prod'", "notSelector": "pcns.a == '1' || app == 'web'"});
        assert_eq!(
            from(GLOBAL, &elsewhere),
            "pods with not ((namespace label a=1 or app=web)) in namespaces with env=prod"
        );
    }

    #[test]
    fn service_accounts_are_labels_of_their_own() {
        let accounts = json!({"serviceAccounts": {"names": ["a", "b"], "selector": "role == 'x'"}});
        assert_eq!(
            from(NAMESPACED, &accounts),
            "pods with service account label role=x,service account name in (a,b) in namespace shop"
        );
    }

    #[test]
    fn blocks_are_peers_and_hold_together_with_selectors() {
        let blocks = json!({"nets": ["10.0.0.0/8", "192.168.0.0/16"], "notNets": ["10.1.0.0/16"]});
        assert_eq!(from(NAMESPACED, &blocks), "10.0.0.0/8 except 10.1.0.0/16 or 192.168.0.0/16");
        assert_eq!(paths(NAMESPACED, &blocks), ["spec.ingress[0].source.nets[0]", "spec.ingress[0].source.nets[1]"]);
        let both = json!({"nets": ["10.0.0.0/8"], "selector": "app == 'web'"});
        assert_eq!(from(NAMESPACED, &both), "pods with app=web in namespace shop and 10.0.0.0/8");
        let not = json!({"notNets": ["10.0.0.0/8"]});
        assert_eq!(from(GLOBAL, &not), "0.0.0.0/0 except 10.0.0.0/8", "not IPv6: there the rule is not");
        assert_eq!(paths(GLOBAL, &not), ["spec.ingress[0].source.notNets"]);
        let mixed = json!({"nets": ["10.0.0.0/8", "fd00::/8"], "notNets": ["10.1.0.0/16"]});
        assert_eq!(from(GLOBAL, &mixed), "10.0.0.0/8 except 10.1.0.0/16");
    }

    #[test]
    fn a_rule_for_one_family_has_peers_of_it() {
        let to = |rule: Value| egress(NAMESPACED, &rule).peers.to_string();
        assert_eq!(to(json!({"action": "Allow", "ipVersion": 4})), "0.0.0.0/0");
        assert_eq!(to(json!({"action": "Allow", "ipVersion": 6})), "::/0");
        let pods = json!({"action": "Allow", "ipVersion": 4, "destination": {"selector": "all()"}});
        assert_eq!(to(pods), "all pods in namespace shop and 0.0.0.0/0");
        let other = json!({"action": "Allow", "ipVersion": 6, "destination": {"nets": ["10.0.0.0/8"]}});
        assert_eq!(to(other), "nowhere");
    }

    #[test]
    fn global_means_no_pod() {
        let source = json!({"namespaceSelector": "global()", "selector": "role == 'x'"});
        assert_eq!(
            from(NAMESPACED, &source),
            "anything but all pods in every namespace and host endpoints or global network sets"
        );
        assert_eq!(
            faults(NAMESPACED, &json!({"ingress": [{"action": "Allow", "source": source}]})),
            ["spec.ingress[0].source.namespaceSelector: NotUnderstood"]
        );
    }

    #[test]
    fn services_are_words() {
        let rule = egress(
            NAMESPACED,
            &json!({"action": "Allow", "protocol": "TCP", "destination": {"services": {"name": "db", "namespace": "data"}}}),
        );
        assert_eq!(
            (rule.peers.to_string(), rule.ports.to_string()),
            ("the Service data/db".into(), "the TCP ports of the Service".into())
        );
        assert!(rule.conditions.is_empty());
        assert_eq!(from(NAMESPACED, &json!({"services": {"name": "db"}})), "the Service db");
    }

    #[test]
    fn the_near_end_narrows_the_subject() {
        let near = |destination: Value| ingress(GLOBAL, &json!({"action": "Allow", "destination": destination}));
        let rule = near(
            json!({"selector": "app == 'web'", "namespaceSelector": "projectcalico.org/name != 'x'", "notSelector": "has(y)"}),
        );
        assert_eq!(rule.only.unwrap().to_string(), "namespace label kubernetes.io/metadata.name!=x,app=web,!y");
        assert_eq!(rule.peers.to_string(), "anywhere");
        let rule =
            near(json!({"serviceAccounts": {"names": ["bot"]}, "nets": ["10.0.0.0/8"], "notNets": ["10.1.0.0/16"]}));
        assert_eq!(rule.only.unwrap().to_string(), "service account name=bot");
        let within = rule.within.unwrap();
        let contains = |address: &str| within.contains(address.parse().unwrap());
        assert!(contains("10.0.0.1") && !contains("10.1.0.1") && !contains("11.0.0.1") && !contains("fd00::1"));
        assert_eq!(near(json!({"namespaceSelector": "all()"})).only, None);
        assert_eq!(near(json!({"namespaceSelector": "global()"})).only.unwrap().to_string(), "nothing");
        let rule = egress(GLOBAL, &json!({"action": "Deny", "source": {"selector": "app == 'web'"}}));
        assert_eq!((rule.only.unwrap().to_string(), rule.peers.to_string()), ("app=web".into(), "anywhere".into()));
    }

    #[test]
    fn what_does_not_parse_is_unclear_and_a_fault() {
        for (field, fault) in [
            ("selector", "InvalidSelector"),
            ("notSelector", "InvalidSelector"),
            ("namespaceSelector", "InvalidSelector"),
        ] {
            let source = json!({field: "a = 'b'"});
            assert_eq!(from(GLOBAL, &source), "endpoints with the invalid selector `a = 'b'`");
            let spec = json!({"ingress": [{"action": "Allow", "source": source}]});
            assert_eq!(faults(GLOBAL, &spec), [format!("spec.ingress[0].source.{field}: {fault}")]);
        }
        let accounts = json!({"ingress": [{"action": "Allow", "source": {"serviceAccounts": {"selector": "a"}}}]});
        assert_eq!(faults(GLOBAL, &accounts), ["spec.ingress[0].source.serviceAccounts.selector: InvalidSelector"]);
        assert_eq!(from(GLOBAL, &json!({"nets": ["garbage"]})), "`garbage`, which is not a CIDR");
    }
}
