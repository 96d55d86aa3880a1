//! Validation by Calico: the CEL rules of its CRDs, and `libcalico-go/lib/validator/v3/validator.go`.
//!
//! Checks of a single field are next to the code that reads the field. This module has the checks across fields.

use super::reader::{ASIDE, ASIDE_NOT, Reader, repeated};
use super::wire;
use crate::model::{Action, Direction, Path};

/// Maximum number of rules per direction.
const MOST_RULES: usize = 1024;
/// Maximum number of methods, and of paths, per rule.
const MOST_REQUESTS: usize = 20;
/// Maximum length of a path, in characters.
const LONGEST_PATH: usize = 1024;
/// Maximum length of a name, in characters.
const LONGEST_NAME: usize = 253;

impl Reader {
    /// Checks the name of a policy, as only Calico's own API server does.
    pub(super) fn check_name(&mut self, name: &str) {
        let path = Path::root().field("metadata").field("name");
        let labels: Vec<&str> = name.split('.').collect();
        let is_converted = !self.is_global && (name.starts_with("knp.default.") || name.starts_with("ossg.default."));
        let is_valid = labels.iter().all(|label| is_label(label)) && (labels.len() <= 2 || is_converted);
        if !name.is_empty() && (!is_valid || name.len() > LONGEST_NAME) {
            let help = "use lower-case letters, digits and `-`, and at most one dot, after the tier name";
            self.refuse(&path, &format!("`{name}` is not a valid policy name"), ASIDE_NOT, help);
        }
    }

    pub(super) fn check_spec(&mut self, spec: &wire::Spec, path: &Path) {
        if let Some(tier) = spec.tier.as_deref().filter(|tier| !tier.is_empty())
            && (!tier.split('.').all(is_label) || tier.len() > LONGEST_NAME)
        {
            let help = "use lower-case letters, digits and `-`";
            self.refuse(&path.field("tier"), &format!("`{tier}` is not a valid tier name"), ASIDE_NOT, help);
        }
        for (rules, field) in [(&spec.ingress, "ingress"), (&spec.egress, "egress")] {
            self.at_most(rules.as_ref().map_or(0, Vec::len), MOST_RULES, &path.field(field));
        }
        let hints = spec.performance_hints.as_deref().unwrap_or_default();
        for (position, hint) in hints.iter().enumerate() {
            let path = path.field("performanceHints").index(position);
            if &**hint != "AssumeNeededOnEveryNode" {
                self.refuse(
                    &path,
                    &format!("`{hint}` is not a performance hint"),
                    ASIDE,
                    "write AssumeNeededOnEveryNode",
                );
            } else if position > 0 {
                self.refuse(&path, &format!("`{hint}` is repeated"), ASIDE, "write it once");
            }
        }
        self.check_hosts(spec, path);
    }

    /// Checks the fields of global policies for host endpoints.
    fn check_hosts(&mut self, spec: &wire::Spec, path: &Path) {
        let is_set = |field: Option<bool>| field == Some(true);
        let (untracked, early) = (is_set(spec.do_not_track), is_set(spec.pre_dnat));
        if untracked && early {
            let problem = "`doNotTrack` and `preDNAT` are both set";
            self.refuse(&path.field("preDNAT"), problem, "Felix applies doNotTrack", "set one of them");
        }
        if early && spec.egress.as_ref().is_some_and(|rules| !rules.is_empty()) {
            let problem = "a policy with `preDNAT` has egress rules";
            self.refuse(&path.field("egress"), problem, "Felix ignores them", "move them to another policy");
        }
        if early && spec.types.iter().flatten().any(|direction| &**direction == "Egress") {
            let problem = "a policy with `preDNAT` has the type Egress";
            self.refuse(&path.field("types"), problem, "Felix ignores it", "write `types: [Ingress]`");
        }
        if (untracked || early) && !is_set(spec.apply_on_forward) {
            let field = if untracked { "doNotTrack" } else { "preDNAT" };
            let problem = format!("`{field}` is set without `applyOnForward`");
            self.refuse(&path.field(field), &problem, ASIDE_NOT, "write `applyOnForward: true`");
        }
    }

    pub(super) fn check_rule(&mut self, rule: &wire::Rule, action: Action, direction: Direction, path: &Path) {
        for (protocol, field) in [(&rule.protocol, "protocol"), (&rule.not_protocol, "notProtocol")] {
            for (names, version) in [(["ICMP", "1"], 4), (["ICMPv6", "58"], 6)] {
                let is_it = protocol.as_ref().is_some_and(|protocol| names.contains(&protocol.to_string().as_str()));
                if let Some(other) = rule.ip_version.filter(|other| is_it && *other != version) {
                    let problem = format!("{} is an IPv{version} protocol, but the rule is for IPv{other}", names[0]);
                    let help = format!("write `ipVersion: {version}`, or omit it");
                    self.refuse(&path.field(field), &problem, "the rule matches nothing", &help);
                }
            }
        }
        if let Some(http) = &rule.http {
            self.check_http(http, rule, action, direction, &path.field("http"));
        }
        for (entity, end) in [(&rule.source, "source"), (&rule.destination, "destination")] {
            if let Some(entity) = entity {
                self.check_entity(entity, end, direction, &path.field(end));
            }
        }
    }

    fn check_http(&mut self, http: &wire::Http, rule: &wire::Rule, action: Action, direction: Direction, path: &Path) {
        let then = "Felix enforces the rule without it";
        if let Some(protocol) = &rule.protocol
            && !["TCP", "6"].contains(&protocol.to_string().as_str())
        {
            let problem = format!("`http` is set in a rule for {protocol}");
            self.refuse(path, &problem, then, "write `protocol: TCP`, or omit the protocol");
        }
        if action != Action::Allow {
            self.refuse(path, "`http` is set in a rule whose action is not Allow", then, "write `action: Allow`");
        }
        if direction == Direction::Egress {
            self.refuse(
                path,
                "`http` is set in an egress rule",
                then,
                "write it in an ingress rule of the receiving pods",
            );
        }
        let methods = http.methods.as_deref().unwrap_or_default();
        self.at_most(methods.len(), MOST_REQUESTS, &path.field("methods"));
        for (position, method) in repeated(methods) {
            let path = path.field("methods").index(position);
            self.refuse(&path, &format!("`{method}` is repeated"), then, "list each method once");
        }
        let paths = http.paths.as_deref().unwrap_or_default();
        self.at_most(paths.len(), MOST_REQUESTS, &path.field("paths"));
        for (position, written) in paths.iter().enumerate() {
            let path = path.field("paths").index(position);
            let set = |text: &Option<Box<str>>| text.clone().filter(|text| !text.is_empty());
            let (text, problem) = match (set(&written.exact), set(&written.prefix)) {
                (Some(_), Some(_)) => (None, "`exact` and `prefix` are both set".to_owned()),
                (None, None) => (None, "neither `exact` nor `prefix` is set".to_owned()),
                (Some(text), None) | (None, Some(text)) => {
                    let problem =
                        format!("`{text}` is not a path; a path starts with `/` and has no space, `?` or `#`");
                    (Some(text), problem)
                }
            };
            let is_path = |text: &str| {
                text.starts_with('/') && !text.contains(['?', ' ', '#']) && text.chars().nth(LONGEST_PATH).is_none()
            };
            if !text.is_some_and(|text| is_path(&text)) {
                self.refuse(&path, &problem, then, "write one of them, such as `prefix: /api`");
            }
        }
    }

    fn check_entity(&mut self, entity: &wire::Entity, end: &str, direction: Direction, path: &Path) {
        let names = entity.service_accounts.as_ref().and_then(|accounts| accounts.names.as_deref()).unwrap_or_default();
        for (position, name) in names.iter().enumerate().filter(|(_, name)| name.contains('\'')) {
            let path = path.field("serviceAccounts").field("names").index(position);
            let problem = format!("`{name}` is not a valid service account name");
            self.refuse(&path, &problem, "Felix ignores the service accounts", "remove the quote");
        }
        for (position, name) in repeated(names) {
            let path = path.field("serviceAccounts").field("names").index(position);
            self.refuse(&path, &format!("`{name}` is repeated"), ASIDE_NOT, "list each name once");
        }
        let Some(services) = &entity.services else { return };
        let path = path.field("services");
        let is_set = |text: &Option<Box<str>>| text.as_ref().is_some_and(|text| !text.is_empty());
        let has_some = |list: &Option<Vec<Box<str>>>| list.as_ref().is_some_and(|list| !list.is_empty());
        let has_ports = [&entity.ports, &entity.not_ports].into_iter().flatten().any(|list| !list.is_empty());
        let is_near = (direction == Direction::Egress) == (end == "source");
        let beside = [
            (is_set(&entity.namespace_selector), "`namespaceSelector`"),
            (entity.service_accounts.is_some(), "`serviceAccounts`"),
            (is_set(&entity.selector) || is_set(&entity.not_selector), "a selector"),
            (has_some(&entity.nets) || has_some(&entity.not_nets), "`nets`"),
            (has_ports && end == "destination", "ports"),
        ];
        for (_, what) in beside.into_iter().filter(|(is_beside, _)| *is_beside) {
            let problem = format!("`services` is combined with {what}");
            self.refuse(&path, &problem, "Felix requires both to match", "write one rule for each");
        }
        if is_near {
            let problem = format!("`services` is set on the {end} of an {direction} rule");
            let help = "set it on the other end, or select the pods";
            self.refuse(&path, &problem, ASIDE_NOT, help);
        }
        if !is_set(&services.name) {
            self.refuse(&path.field("name"), "the Service has no name", "the rule matches nothing", "write its name");
        }
        if self.is_global && !is_near && !is_set(&services.namespace) {
            let problem = "the Service has no namespace, and the policy is cluster-scoped";
            self.refuse(
                &path.field("namespace"),
                problem,
                "the rule matches nothing",
                "write the namespace of the Service",
            );
        }
        for (name, field) in [(&services.name, "name"), (&services.namespace, "namespace")] {
            if let Some(name) = name.as_deref().filter(|name| !name.is_empty())
                && (!name.split('.').all(is_label) || name.len() > LONGEST_NAME)
            {
                let problem = format!("`{name}` is not a valid name");
                self.refuse(
                    &path.field(field),
                    &problem,
                    "the rule matches nothing",
                    "use lower-case letters, digits and `-`",
                );
            }
        }
    }
}

/// Returns true if the text is a DNS label (RFC 1123) of any length.
pub(super) fn is_label(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(is_inner) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::super::testing::{faults, read};
    use serde_json::{Value, json};

    fn wrong(kind: &str, spec: &Value) -> Vec<String> {
        faults(kind, spec).iter().map(|fault| fault.replace(": NeverEnforced", "")).collect()
    }

    fn rule(kind: &str, direction: &str, mut rule: Value) -> Vec<String> {
        if rule.get("action").is_none() {
            rule["action"] = "Allow".into();
        }
        let way = format!("spec.{direction}[0].");
        wrong(kind, &json!({direction: [rule]})).iter().map(|fault| fault.replace(&way, "")).collect()
    }

    #[test]
    fn names_have_one_dot_at_most() {
        let wrong = |kind: &str, name: &str| {
            let mut reader = super::Reader { namespace: None, is_global: kind.contains("Global"), faults: Vec::new() };
            reader.check_name(name);
            !reader.faults.is_empty()
        };
        for name in ["a", "default.a", "a-1.b", "knp.default.a.b", ""] {
            assert!(!wrong("NetworkPolicy", name), "{name}");
        }
        for name in ["a.b.c", "A", "a_b", ".a", "a-"] {
            assert!(wrong("NetworkPolicy", name), "{name}");
        }
        assert!(wrong("GlobalNetworkPolicy", "knp.default.a"));
    }

    #[test]
    fn policies_for_hosts_hold_together() {
        let wrong = |spec| -> Vec<String> {
            let faults = faults("GlobalNetworkPolicy", &spec);
            faults.iter().filter(|fault| fault.ends_with(": NeverEnforced")).cloned().collect()
        };
        assert_eq!(wrong(json!({"doNotTrack": true, "applyOnForward": true})), Vec::<String>::new());
        assert_eq!(wrong(json!({"doNotTrack": true})), ["spec.doNotTrack: NeverEnforced"]);
        assert_eq!(
            wrong(
                json!({"doNotTrack": true, "preDNAT": true, "applyOnForward": true, "types": ["Egress"], "egress": [{"action": "Deny"}]})
            ),
            ["spec.preDNAT: NeverEnforced", "spec.egress: NeverEnforced", "spec.types: NeverEnforced"]
        );
    }

    #[test]
    fn global_is_for_namespaces_of_rules() {
        let kind = "GlobalNetworkPolicy";
        assert_eq!(wrong(kind, &json!({"selector": "global()"})), ["spec.selector"]);
        assert_eq!(wrong(kind, &json!({"namespaceSelector": "a == 'global('"})), ["spec.namespaceSelector"]);
        let from = |source| rule(kind, "ingress", json!({"source": source}));
        assert_eq!(from(json!({"selector": "global()"})), ["source.selector"]);
        assert_eq!(from(json!({"namespaceSelector": "!global()"})), ["source.namespaceSelector"]);
        assert_eq!(from(json!({"notSelector": "global()"})), Vec::<String>::new());
        let long = format!("a == '{}'", "é".repeat(1100));
        assert_eq!(from(json!({"selector": long})), ["source.selector"]);
        assert_eq!(from(json!({"serviceAccounts": {"selector": long}})), Vec::<String>::new());
    }

    #[test]
    fn services_stand_alone_and_at_the_far_end() {
        let services = json!({"name": "db", "namespace": "data"});
        let to = |destination| rule("NetworkPolicy", "egress", json!({"protocol": "TCP", "destination": destination}));
        assert_eq!(to(json!({"services": services})), Vec::<String>::new());
        assert_eq!(to(json!({"services": services, "ports": [1]})), ["destination.services"]);
        assert_eq!(
            to(
                json!({"services": services, "selector": "all()", "namespaceSelector": "all()", "nets": ["10.0.0.0/8"], "serviceAccounts": {}})
            ),
            ["destination.services"; 4]
        );
        assert_eq!(to(json!({"services": {}})), ["destination.services.name"]);
        assert_eq!(to(json!({"services": {"name": "A"}})), ["destination.services.name"]);
        let near = json!({"source": {"services": services}});
        assert_eq!(rule("NetworkPolicy", "egress", near.clone()), ["source.services"]);
        assert_eq!(rule("NetworkPolicy", "ingress", near), Vec::<String>::new());
        let far = json!({"source": {"services": {"name": "db"}}});
        assert_eq!(rule("GlobalNetworkPolicy", "ingress", far), ["source.services.namespace"]);
    }

    #[test]
    fn requests_are_of_allowed_tcp() {
        let get = json!({"methods": ["GET"], "paths": [{"exact": "/"}]});
        let of = |http: Value| rule("NetworkPolicy", "ingress", json!({"http": http}));
        assert_eq!(of(get.clone()), Vec::<String>::new());
        assert_eq!(rule("NetworkPolicy", "ingress", json!({"http": get, "protocol": "UDP"})), ["http"]);
        assert_eq!(rule("NetworkPolicy", "egress", json!({"http": get, "action": "Deny"})), ["http"; 2]);
        assert_eq!(of(json!({"methods": ["GET", "GET"]})), ["http.methods[1]"]);
        for path in [json!({}), json!({"exact": "/", "prefix": "/"}), json!({"exact": "x"}), json!({"prefix": "/a?b"})]
        {
            assert_eq!(of(json!({"paths": [path]})), ["http.paths[0]"], "{path}");
        }
    }

    #[test]
    fn other_rules_of_the_crds() {
        assert_eq!(rule("NetworkPolicy", "ingress", json!({"protocol": "ICMP", "ipVersion": 6})), ["protocol"]);
        assert_eq!(rule("NetworkPolicy", "ingress", json!({"notProtocol": 58, "ipVersion": 4})), ["notProtocol"]);
        let names = json!({"source": {"serviceAccounts": {"names": ["a", "a", "it's"]}}});
        assert_eq!(
            rule("NetworkPolicy", "ingress", names),
            ["source.serviceAccounts.names[2]", "source.serviceAccounts.names[1]"]
        );
        assert_eq!(
            wrong("NetworkPolicy", &json!({"tier": "A", "performanceHints": ["x"]})),
            ["spec.tier", "spec.performanceHints[0]"]
        );
        let fault = read("NetworkPolicy", &json!({"types": ["ingress"]})).faults.remove(0);
        assert_eq!(
            (fault.path.to_string().as_str(), fault.problem.as_str(), fault.help.as_str()),
            (
                "spec.types[0]",
                "`ingress` is neither Ingress nor Egress; Calico's API server rejects it; if it is stored anyway, \
                 Felix accepts it",
                "write `Ingress`"
            )
        );
    }
}
