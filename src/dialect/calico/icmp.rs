//! ICMP messages in rules.

use super::ports::Named;
use super::reader::{ASIDE, Reader};
use super::wire;
use crate::model::{Numbers, Path, Port, Ports, Protocol};

impl Reader {
    /// Reads `icmp` and `notICMP`, which match messages by type and code.
    pub(super) fn messages(
        &mut self,
        rule: &wire::Rule,
        protocol: Named,
        path: &Path,
        ports: &mut Ports,
        conditions: &mut Vec<Box<str>>,
    ) {
        let is_icmp = matches!(protocol, Named::Known(Protocol::Icmp | Protocol::Icmpv6));
        for (icmp, field) in [(&rule.icmp, "icmp"), (&rule.not_icmp, "notICMP")] {
            let Some(icmp) = icmp else { continue };
            let path = path.field(field);
            self.check_icmp(icmp, &path);
            if field == "icmp" && !is_icmp {
                let help = "write `protocol: ICMP` or `protocol: ICMPv6`";
                self.refuse(&path, "`icmp` is set without an ICMP protocol", "Felix does not check it", help);
            }
            let Some(kind) = icmp.kind else { continue };
            let number = |number: i64| u8::try_from(number).ok();
            match (number(kind), icmp.code.map(number), protocol) {
                (Some(kind), code @ (None | Some(Some(_))), Named::Known(protocol)) if is_icmp && field == "icmp" => {
                    let numbers = Numbers::Messages(kind, code.flatten());
                    *ports = Ports::Only(vec![Port { path, protocol: Some(protocol), numbers }]);
                }
                _ => {
                    let holds = if field == "icmp" { "is" } else { "is not" };
                    let code = icmp.code.map(|code| format!(" and code {code}")).unwrap_or_default();
                    conditions.push(format!("the ICMP message {holds} of type {kind}{code}").into());
                }
            }
        }
    }

    fn check_icmp(&mut self, icmp: &wire::Icmp, path: &Path) {
        let help = "write a type from 0 to 254 and a code from 0 to 255";
        if let Some(kind) = icmp.kind.filter(|kind| !(0..=254).contains(kind)) {
            self.refuse(&path.field("type"), &format!("`{kind}` is not an ICMP type"), ASIDE, help);
        }
        if let Some(code) = icmp.code {
            if icmp.kind.is_none() {
                self.refuse(
                    &path.field("code"),
                    &format!("ICMP code `{code}` is set without a type"),
                    "Felix ignores it",
                    help,
                );
            }
            if !(0..=255).contains(&code) {
                self.refuse(&path.field("code"), &format!("`{code}` is not an ICMP code"), ASIDE, help);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{faults, ingress};
    use serde_json::{Value, json};

    const KIND: &str = "NetworkPolicy";

    fn conditions(mut rule: Value) -> (String, Vec<Box<str>>) {
        rule["action"] = "Allow".into();
        let rule = ingress(KIND, &rule);
        (rule.ports.to_string(), rule.conditions)
    }

    fn ports(rule: Value) -> String {
        conditions(rule).0
    }

    /// The faults of an ingress rule, without the path of the rule.
    fn wrong(mut rule: Value) -> Vec<String> {
        rule["action"] = "Allow".into();
        faults(KIND, &json!({"ingress": [rule]})).iter().map(|fault| fault.replace("spec.ingress[0].", "")).collect()
    }

    #[test]
    fn messages_are_of_icmp() {
        assert_eq!(ports(json!({"protocol": "ICMP", "icmp": {"type": 8}})), "ICMP type 8");
        assert_eq!(ports(json!({"protocol": 58, "icmp": {"type": 1, "code": 3}})), "ICMPv6 type 1 code 3");
        assert_eq!(ports(json!({"protocol": "ICMP", "icmp": {}})), "ICMP (every port)");
        assert_eq!(
            conditions(json!({"protocol": "ICMP", "notICMP": {"type": 8, "code": 0}})),
            ("ICMP (every port)".into(), vec!["the ICMP message is not of type 8 and code 0".into()])
        );
        assert_eq!(wrong(json!({"icmp": {"type": 8}})), ["icmp: NeverEnforced"]);
        assert_eq!(wrong(json!({"notICMP": {"code": 300}})), ["notICMP.code: NeverEnforced"; 2]);
        assert_eq!(wrong(json!({"protocol": "ICMP", "icmp": {"type": 255}})), ["icmp.type: NeverEnforced"]);
    }
}
