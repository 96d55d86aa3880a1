//! The parts of an entry of `toPorts` that a proxy enforces: L7 rules, and conditions on connections
//! (`pkg/policy/api/l4.go`, `http.go`).

use super::element::List;
use super::number::number;
use super::validity::{Faults, regex_problem};
use super::{names, wire};
use crate::json::Unread;
use crate::model::{Direction, Filter, Parser, Path, Proxy};

/// The L7 rules of an entry. An empty list counts as no rules.
#[derive(Debug, Default)]
pub(super) struct L7<'a> {
    pub(super) http: &'a [wire::HttpRule],
    pub(super) dns: &'a [wire::FqdnSelector],
    /// The protocol of L7 rules that Cilium 1.20 no longer supports.
    other: Option<&'a str>,
    /// True if the entry has lists for more than one protocol.
    has_several: bool,
}

impl<'a> L7<'a> {
    pub(super) fn of(rules: &'a wire::L7Rules) -> Self {
        Self {
            http: rules.http.as_deref().unwrap_or_default(),
            dns: rules.dns.as_deref().unwrap_or_default(),
            other: other(rules),
            has_several: [rules.http.is_some(), rules.dns.is_some(), other(rules).is_some()]
                .into_iter()
                .filter(|is_there| *is_there)
                .nth(1)
                .is_some(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.http.is_empty() && self.dns.is_empty() && self.other.is_none()
    }

    /// Reports what the agent rejects.
    pub(super) fn check(
        &self,
        rule: &wire::PortRule,
        list: List,
        is_for_nodes: bool,
        path: &Path,
        faults: &mut Faults,
    ) {
        let rules = || path.field("rules");
        if self.has_several {
            let problem = "rules for several L7 protocols are combined";
            faults.never(rules(), problem, "write a separate entry of `toPorts`, with other ports, for each of them");
        }
        let is_ingress = list.direction == Direction::Ingress;
        if is_for_nodes && (!self.http.is_empty() || is_ingress && !self.dns.is_empty()) {
            faults.never(rules(), "a policy for nodes must not have L7 rules", "remove them");
        }
        if is_ingress && !self.dns.is_empty() {
            let help = "write rules for DNS in `egress` of the client pods";
            faults.never(rules().field("dns"), "rules for DNS are not allowed in `ingress`", help);
        }
        let ports = rule.ports.as_deref().unwrap_or_default();
        if !self.dns.is_empty() && ports.is_empty() {
            faults.never(rules().field("dns"), "rules for DNS require a port", "write `ports` with port \"53\"");
        }
        if !self.is_empty() && ports.iter().any(|port| port.port.as_deref().is_some_and(|port| number(port) == Some(0)))
        {
            faults.never(rules(), "L7 rules must not be combined with port `0`", "write the ports");
        }
        for (position, http) in self.http.iter().enumerate() {
            let path = || rules().field("http").index(position);
            for (field, text) in [("path", &http.path), ("method", &http.method)] {
                let Some(text) = text else { continue };
                if let Some(why) = regex_problem(text) {
                    let problem = format!("`{text}` is not a regular expression: it {why}");
                    faults.never(path().field(field), &problem, "write an RE2 expression");
                }
            }
            for (position, header) in http.header_matches.iter().flatten().enumerate() {
                let path = || path().field("headerMatches").index(position);
                if header.name.as_deref().is_none_or(str::is_empty) {
                    faults.never(path(), "the header has no `name`", "write its name");
                }
                if header.secret.as_ref().is_some_and(|secret| secret.name.as_deref().is_none_or(str::is_empty)) {
                    faults.never(path().field("secret"), "the secret has no `name`", "write its name");
                }
                match header.mismatch.as_deref() {
                    None | Some("" | "LOG" | "ADD" | "DELETE" | "REPLACE") => {}
                    Some(other) => {
                        let problem = format!("`{other}` is not one of LOG, ADD, DELETE, REPLACE");
                        faults.never(path().field("mismatch"), &problem, "write one of them");
                    }
                }
            }
        }
    }

    /// The conditions on connections that a proxy checks.
    pub(super) fn conditions(
        &self,
        rule: &wire::PortRule,
        list: List,
        path: &Path,
        faults: &mut Faults,
    ) -> Vec<Box<str>> {
        let mut conditions: Vec<Box<str>> = Vec::new();
        let names = rule.server_names.as_deref().unwrap_or_default();
        if !names.is_empty() {
            if names.iter().any(|name| name.is_empty()) {
                faults.never(path.field("serverNames"), "a server name is empty", "write the name, or remove it");
            }
            if !self.is_empty() && rule.terminating_tls.is_none() {
                let problem = "`serverNames` requires `terminatingTLS` to be combined with L7 rules";
                faults.never(path.field("serverNames"), problem, "remove one of them, or add `terminatingTLS`");
            }
            conditions.push(format!("the TLS server name is {}", names.join(" or ")).into());
        }
        if let Some(listener) = &rule.listener {
            let name = listener.name.as_deref().unwrap_or_default();
            let problem = match (list.direction, self.is_empty()) {
                (Direction::Ingress, _) => Some(format!("listener `{name}` is set in `ingress`")),
                (Direction::Egress, false) => Some(format!("listener `{name}` must not be combined with L7 rules")),
                (Direction::Egress, true) => None,
            };
            if let Some(problem) = problem {
                faults.never(path.field("listener"), &problem, "remove one of them");
            }
            conditions.push(format!("the Envoy listener {name} allows it").into());
        }
        if rule.terminating_tls.is_some() {
            conditions.push("the connection uses TLS, which the agent terminates".into());
        }
        if rule.originating_tls.is_some() {
            conditions.push("the agent can reach the other side over TLS".into());
        }
        conditions
    }

    /// The proxy that handles the entry (`createL4Filter` in `pkg/policy/l4.go`).
    pub(super) fn proxy(&self, rule: &wire::PortRule) -> Option<Proxy> {
        let checks_server_names = rule.server_names.as_ref().is_some_and(|names| !names.is_empty());
        let terminates_tls = rule.terminating_tls.is_some();
        let is_tls = terminates_tls || rule.originating_tls.is_some() || checks_server_names;
        let parser = match (&rule.listener, self.other) {
            (Some(listener), _) => {
                let priority = listener.priority.and_then(|priority| u8::try_from(priority).ok());
                let priority = priority.filter(|priority| *priority > 0).unwrap_or(LISTENER_PRIORITY);
                Parser::Listener { name: listener.name.clone().unwrap_or_default(), priority }
            }
            (None, _) if !self.dns.is_empty() => Parser::Dns,
            (None, _) if !self.http.is_empty() => Parser::Http,
            (None, Some(name)) => Parser::Other(name.into()),
            (None, None) if is_tls => Parser::Tls,
            (None, None) => return None,
        };
        Some(Proxy { parser, terminates_tls, checks_server_names })
    }

    /// The filter on single requests.
    pub(super) fn filter(&self, path: &Path, faults: &mut Faults) -> Option<Filter> {
        if !self.dns.is_empty() {
            let path = path.field("rules").field("dns");
            let dns = self.dns.iter().enumerate();
            let patterns =
                dns.flat_map(|(position, selector)| names::patterns(selector, true, &path.index(position), faults));
            return Some(Filter::Lookups(patterns.collect()));
        }
        (!self.is_empty()).then_some(Filter::Requests)
    }
}

/// The priority of a listener without a priority of its own (`ListenerPriorityCRD`).
const LISTENER_PRIORITY: u8 = 126;

/// The protocol of L7 rules that Cilium 1.20 no longer supports.
fn other(rules: &wire::L7Rules) -> Option<&str> {
    let is_filled = |list: &Option<Vec<Unread>>| list.as_ref().is_some_and(|list| !list.is_empty());
    match rules.l7proto.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => Some(name),
        None if is_filled(&rules.kafka) => Some("kafka"),
        None if is_filled(&rules.l7) => Some("l7"),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{fault, faults, rules};
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn requests_are_filtered_by_rules_that_are_there() {
        let filter = |l7: Value| {
            let ports = json!([{"port": "53", "protocol": "TCP"}]);
            rules("egress", &json!({"toPorts": [{"ports": ports, "rules": l7}]})).remove(0).filter
        };
        let Some(Filter::Lookups(names)) = filter(json!({"dns": [{"matchPattern": "*"}, {"matchName": "a.com"}]}))
        else {
            panic!("lookups")
        };
        assert_eq!(names.iter().map(ToString::to_string).collect::<Vec<_>>(), ["*", "a.com"]);
        assert_eq!(
            filter(json!({"http": [{"path": "/a.*", "method": "GET", "host": "a", "headers": ["X: y"]}]})),
            Some(Filter::Requests)
        );
        assert_eq!(filter(json!({"http": []})), None);
        assert_eq!(filter(json!({"dns": []})), None);
        assert_eq!(filter(json!({"kafka": [{"topic": "a"}]})), Some(Filter::Requests));
        assert_eq!(filter(json!({"l7proto": "r2d2", "l7": [{"cmd": "READ"}]})), Some(Filter::Requests));
    }

    #[test]
    fn what_a_proxy_decides_is_a_condition() {
        let conditions = |entry: Value| {
            let mut entry = entry;
            entry["ports"] = json!([{"port": "443", "protocol": "TCP"}]);
            rules("egress", &json!({"toPorts": [entry]})).remove(0).conditions.join("; ")
        };
        assert_eq!(conditions(json!({"serverNames": ["a.com", "*.b.com"]})), "the TLS server name is a.com or *.b.com");
        let listener = json!({"listener": {"envoyConfig": {"kind": "CiliumEnvoyConfig", "name": "e"}, "name": "l", "priority": 1}});
        assert_eq!(conditions(listener), "the Envoy listener l allows it");
        let tls = json!({"secret": {"name": "s", "namespace": "n"}, "trustedCA": "ca"});
        assert_eq!(
            conditions(json!({"terminatingTLS": tls, "originatingTLS": tls, "rules": {"http": [{}]}})),
            "the connection uses TLS, which the agent terminates; the agent can reach the other side over TLS"
        );
    }

    #[test]
    fn rules_for_requests_that_the_agent_refuses() {
        let place = "spec.egress[0].toPorts[0]";
        let tcp = json!([{"port": "80", "protocol": "TCP"}]);
        let of = |entry: Value| fault("egress", &json!({"toPorts": [entry]}));
        assert_eq!(
            of(json!({"ports": [{"port": "80"}], "rules": {"http": [{}]}})),
            format!("{place}.ports[0].protocol: rules for HTTP are set for any protocol; they require TCP")
        );
        assert_eq!(
            of(json!({"ports": tcp, "rules": {"http": [{"path": "*"}]}})),
            format!(
                "{place}.rules.http[0].path: `*` is not a regular expression: it has a repetition without an operand"
            )
        );
        assert_eq!(
            of(json!({"ports": tcp, "rules": {"http": [{"headerMatches": [{"name": "a", "mismatch": "KEEP"}]}]}})),
            format!("{place}.rules.http[0].headerMatches[0].mismatch: `KEEP` is not one of LOG, ADD, DELETE, REPLACE")
        );
        let headers = json!([{"name": "a", "secret": {"namespace": "n"}}, {"value": "b"}]);
        assert_eq!(
            faults(
                &json!({"egress": [{"toPorts": [{"ports": tcp, "rules": {"http": [{"headerMatches": headers}]}}]}]})
            ),
            [
                format!("{place}.rules.http[0].headerMatches[0].secret: the secret has no `name`"),
                format!("{place}.rules.http[0].headerMatches[1]: the header has no `name`"),
            ]
        );
        assert_eq!(
            of(json!({"ports": tcp, "rules": {"http": [], "dns": []}})),
            format!("{place}.rules: rules for several L7 protocols are combined")
        );
        assert_eq!(
            of(json!({"ports": tcp, "rules": {"http": [{}], "kafka": [{"topic": "a"}]}})),
            format!("{place}.rules: rules for several L7 protocols are combined")
        );
        assert_eq!(
            of(json!({"ports": [{"port": "0"}], "rules": {"dns": [{"matchPattern": "*"}]}})),
            format!("{place}.rules: L7 rules must not be combined with port `0`")
        );
        assert_eq!(
            of(json!({"ports": [{"port": "53", "endPort": 54}], "rules": {"dns": [{"matchPattern": "*"}]}})),
            format!("{place}.ports[0].endPort: rules for DNS are combined with a port range from `53`")
        );
        assert_eq!(
            of(json!({"rules": {"dns": [{"matchPattern": "*"}]}})),
            format!("{place}.rules.dns: rules for DNS require a port")
        );
        assert_eq!(
            of(json!({"ports": tcp, "serverNames": ["a"], "rules": {"http": [{}]}})),
            format!("{place}.serverNames: `serverNames` requires `terminatingTLS` to be combined with L7 rules")
        );
        let dns =
            json!({"ingress": [{"toPorts": [{"ports": [{"port": "53"}], "rules": {"dns": [{"matchName": "a"}]}}]}]});
        assert_eq!(faults(&dns), ["spec.ingress[0].toPorts[0].rules.dns: rules for DNS are not allowed in `ingress`"]);
        assert_eq!(
            fault("ingress", &json!({"toPorts": [{"ports": tcp, "listener": {"name": "l"}}]})),
            "spec.ingress[0].toPorts[0].listener: listener `l` is set in `ingress`"
        );
        assert_eq!(
            fault("egress", &json!({"icmps": [{"fields": [{"type": 8}]}], "toPorts": [{"ports": tcp}]})),
            "spec.egress[0]: `icmps` and `toPorts` are combined in one rule"
        );
    }
}
