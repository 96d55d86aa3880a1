//! A rule of a policy.

use super::nets::Families;
use super::reader::Reader;
use super::wire;
use crate::budget::{charge, hold};
use crate::dialect::ReadError;
use crate::model::{Action, Direction, Filter, Path, Rule};

const ACTIONS: [(&str, Action); 4] =
    [("Allow", Action::Allow), ("Deny", Action::Deny), ("Log", Action::Log), ("Pass", Action::Pass)];

/// Budget steps and memory in bytes charged per rule, besides those for its text. A rule has four times as many fields
/// as in other dialects.
const STEPS_PER_RULE: usize = 24;
const BYTES_PER_RULE: usize = 1024;

impl Reader {
    pub(super) fn rule(&mut self, rule: &wire::Rule, direction: Direction, path: Path) -> Result<Rule, ReadError> {
        charge(STEPS_PER_RULE);
        hold(BYTES_PER_RULE);
        let action = self.action(rule.action.as_deref(), &path.field("action"))?;
        self.check_rule(rule, action, direction, &path);
        let empty = wire::Entity::default();
        let source = rule.source.as_ref().unwrap_or(&empty);
        let destination = rule.destination.as_ref().unwrap_or(&empty);
        let (source_path, destination_path) = (path.field("source"), path.field("destination"));

        let version = self.version(rule.ip_version, &path.field("ipVersion"));
        let source_nets = self.nets(source, &source_path);
        let destination_nets = self.nets(destination, &destination_path);
        self.check_families(rule.ip_version, &source_nets, &destination_nets);

        let mut conditions = Vec::new();
        let source = (source, &source_nets, &source_path, "source");
        let destination = (destination, &destination_nets, &destination_path, "destination");
        let (near, far) = match direction {
            Direction::Ingress => (destination, source),
            Direction::Egress => (source, destination),
        };
        let peers = self.peers(far.0, far.1, far.2, version, &path.field("ipVersion"));
        let only = self.near(near.0, near.1, near.2, near.3, &mut conditions);
        let within = near.1.addresses(version);
        let ports = self.ports(rule, source.0, destination.0, &path, &mut conditions);
        let filter = rule.http.as_ref().filter(|http| is_narrow(http)).map(|_| Filter::Requests);
        Ok(Rule { path, action, only, within, peers, ports, conditions, filter, proxy: None })
    }

    /// Reads the action. A rule without a valid action is an error: it has no meaning, and the CRD rejects it too.
    fn action(&mut self, written: Option<&str>, path: &Path) -> Result<Action, ReadError> {
        let written = written.unwrap_or_default();
        match ACTIONS.iter().find(|(name, _)| name.eq_ignore_ascii_case(written)) {
            Some((name, action)) => {
                if *name != written {
                    let problem = format!("`{written}` is not an action");
                    self.refuse(path, &problem, "Felix accepts it", &format!("write `{name}`"));
                }
                Ok(*action)
            }
            None if written.is_empty() => Err(ReadError::at(path, "a rule needs an action: Allow, Deny, Log or Pass")),
            None => Err(ReadError::at(path, format!("`{written}` is not one of Allow, Deny, Log, Pass"))),
        }
    }

    fn version(&mut self, written: Option<i64>, path: &Path) -> Families {
        match written {
            None => Families::BOTH,
            Some(4) => Families { v4: true, v6: false },
            Some(6) => Families { v4: false, v6: true },
            Some(other) => {
                let problem = format!("`{other}` is not an IP version");
                self.refuse(path, &problem, super::reader::ASIDE, "write 4 or 6, or omit it for both");
                Families::BOTH
            }
        }
    }
}

/// Returns true if the rule matches only some requests.
fn is_narrow(http: &wire::Http) -> bool {
    [http.methods.as_ref().map(Vec::len), http.paths.as_ref().map(Vec::len)]
        .into_iter()
        .flatten()
        .any(|count| count > 0)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{faults, ingress, try_read};
    use crate::model::{Action, Filter};
    use serde_json::json;

    const KIND: &str = "NetworkPolicy";

    #[test]
    fn a_rule_has_an_action() {
        for (name, action) in super::ACTIONS {
            assert_eq!(ingress(KIND, &json!({"action": name})).action, action);
        }
        assert_eq!(ingress(KIND, &json!({"action": "allow"})).action, Action::Allow);
        assert_eq!(faults(KIND, &json!({"egress": [{"action": "allow"}]})), ["spec.egress[0].action: NeverEnforced"]);
        let error = |rule| try_read("projectcalico.org/v3", KIND, &json!({"ingress": [rule]})).unwrap_err().to_string();
        assert_eq!(
            error(json!({"action": "Drop"})),
            "spec.ingress[0].action: `Drop` is not one of Allow, Deny, Log, Pass"
        );
        for rule in [json!({}), json!(null), json!({"action": ""})] {
            assert_eq!(error(rule), "spec.ingress[0].action: a rule needs an action: Allow, Deny, Log or Pass");
        }
    }

    #[test]
    fn requests_are_a_filter() {
        let rule = |http| ingress(KIND, &json!({"action": "Allow", "protocol": "TCP", "http": http}));
        assert_eq!(rule(json!({"methods": ["GET"], "paths": [{"prefix": "/api"}]})).filter, Some(Filter::Requests));
        assert_eq!(rule(json!({"methods": [], "paths": null})).filter, None);
    }

    #[test]
    fn a_version_of_ip_is_4_or_6() {
        assert_eq!(
            faults(KIND, &json!({"ingress": [{"action": "Allow", "ipVersion": 5}]})),
            ["spec.ingress[0].ipVersion: NeverEnforced"]
        );
    }
}
