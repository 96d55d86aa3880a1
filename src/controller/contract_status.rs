//! The status of a Contract, as a function of its state and of the stored status.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::contract::{Counterexample, Doubt, Record, State, Status};
use crate::model::{Extent, ObjectRef};

/// Maximum length of a text in the status, in characters.
const MAX_TEXT: usize = 2000;

/// Returns the status of a contract of this generation. The time of the last transition and the object that broke the
/// contract are kept from the stored status while they are valid, so that they outlive this process.
pub(super) fn status(record: &Record, stored: &Value, generation: Option<i64>, now: Timestamp) -> Value {
    let (status, reason, message) = condition(&record.state);
    let before = holds(stored);
    let since =
        before.filter(|before| before["status"] == status).and_then(|before| before["lastTransitionTime"].as_str());
    let mut condition = json!({
        "type": "Holds",
        "status": status,
        "reason": reason,
        "message": shortened(&message),
        "lastTransitionTime": since.map_or_else(|| format!("{now:.0}"), str::to_owned),
    });
    if let (Some(generation), Some(condition)) = (generation, condition.as_object_mut()) {
        condition.insert("observedGeneration".into(), json!(generation));
    }
    let mut new = Map::new();
    new.insert("state".into(), json!(record.state.name()));
    if let State::Verified(contract, Status::Broken(found)) = &record.state {
        new.insert("connection".into(), json!(shortened(&found.sentence(contract))));
        new.insert("because".into(), json!(shortened(&found.why())));
        new.insert("policies".into(), policies(found));
        let is_same_contract = before.is_some_and(|before| before["observedGeneration"].as_i64() == generation);
        let known = || is_same_contract.then(|| stored.get("brokenBy").cloned()).flatten();
        if let Some(broken_by) = record.broken_by.as_ref().map(reference).or_else(known) {
            new.insert("brokenBy".into(), broken_by);
        }
    }
    new.insert("conditions".into(), json!([condition]));
    Value::Object(new)
}

/// The condition `Holds` of a stored status.
fn holds(stored: &Value) -> Option<&Value> {
    stored.get("conditions")?.as_array()?.iter().find(|condition| condition["type"] == "Holds")
}

/// The status, the reason and the message of the condition.
fn condition(state: &State) -> (&'static str, &'static str, String) {
    match state {
        State::Verified(contract, Status::Holds) => {
            let pods = match contract.extent {
                Extent::Any => "every pod that could be created",
                Extent::Existing => "the pods that exist",
            };
            ("True", "Proved", format!("proved for {pods}: {contract}"))
        }
        State::Verified(contract, Status::Broken(found)) => {
            ("False", "ConnectionFound", format!("{}, because {}", found.sentence(contract), found.why()))
        }
        State::Verified(_, Status::Undecided(doubt @ Doubt::TooComplex)) => {
            ("Unknown", "TooComplex", doubt.to_string())
        }
        State::Verified(_, Status::Undecided(doubt @ Doubt::Facts(_))) => {
            ("Unknown", "UnknownFacts", doubt.to_string())
        }
        State::Invalid(why) => ("Unknown", "Invalid", why.to_string()),
    }
}

/// The policies that decide the connection.
fn policies(found: &Counterexample) -> Value {
    let mut policies: Vec<&ObjectRef> = found.causes.iter().filter_map(|cause| cause.policy.as_ref()).collect();
    policies.dedup();
    policies.into_iter().map(reference).collect()
}

fn reference(object: &ObjectRef) -> Value {
    let mut reference = json!({"apiVersion": object.api_version, "kind": object.kind, "name": object.name});
    if let (Some(namespace), Some(reference)) = (&object.namespace, reference.as_object_mut()) {
        reference.insert("namespace".into(), json!(namespace));
    }
    reference
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::contract::{Cause, Effect, Witness};
    use crate::model::{Contract, Demand, Direction, Enforcement, Party, Protocol};

    fn object(kind: &str, name: &str) -> ObjectRef {
        let api_version = "networking.k8s.io/v1".into();
        ObjectRef { api_version, kind: kind.into(), namespace: Some("shop".into()), name: name.into() }
    }

    fn record(status: Status, broken_by: Option<ObjectRef>) -> Record {
        let contract = Contract {
            name: "db".into(),
            demand: Demand::MustNotReach,
            extent: Extent::Any,
            from: vec![Party::ClusterDns],
            to: vec![Party::ClusterDns],
            ports: Vec::new(),
            enforcement: Enforcement::Deny,
            reason: "".into(),
            owner: "".into(),
        };
        Record { name: "db".into(), is_object: true, state: State::Verified(Arc::new(contract), status), broken_by }
    }

    fn broken() -> Status {
        let cause = Cause {
            direction: Direction::Ingress,
            effect: Effect::Allows,
            policy: Some(object("NetworkPolicy", "wide")),
            path: None,
        };
        let [from, to] = ["a", "b"].map(|end| Witness::Other(end.to_owned()));
        let found =
            Counterexample { from, to, protocol: Protocol::Tcp, port: 80, port_names: Vec::new(), causes: vec![cause] };
        Status::Broken(Box::new(found))
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_broken_contract_keeps_its_time_and_its_object() {
        let changed = object("NetworkPolicy", "other");
        let first = status(&record(broken(), Some(changed)), &Value::Null, Some(3), at(100));
        assert_eq!(
            first,
            json!({
                "state": "Broken",
                "connection": "a could reach b on TCP 80",
                "because": "NetworkPolicy shop/wide allows it",
                "policies": [{
                    "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "namespace": "shop", "name": "wide",
                }],
                "brokenBy": {
                    "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "namespace": "shop", "name": "other",
                },
                "conditions": [{
                    "type": "Holds", "status": "False", "reason": "ConnectionFound", "observedGeneration": 3,
                    "message": "a could reach b on TCP 80, because NetworkPolicy shop/wide allows it",
                    "lastTransitionTime": "1970-01-01T00:01:40Z",
                }],
            })
        );
        // Another process does not know the object.
        assert_eq!(status(&record(broken(), None), &first, Some(3), at(200)), first);
        // A changed contract has not been broken by that object.
        let changed = status(&record(broken(), None), &first, Some(4), at(200));
        assert_eq!((changed.get("brokenBy"), &changed["conditions"][0]["observedGeneration"]), (None, &json!(4)));
        assert_eq!(changed["conditions"][0]["lastTransitionTime"], first["conditions"][0]["lastTransitionTime"]);

        let holds = status(&record(Status::Holds, None), &first, Some(3), at(300));
        assert_eq!(holds["state"], "Holds");
        assert_eq!((holds.get("connection"), holds.get("brokenBy")), (None, None));
        let condition = &holds["conditions"][0];
        assert_eq!(
            (&condition["status"], &condition["lastTransitionTime"]),
            (&json!("True"), &json!("1970-01-01T00:05:00Z"))
        );
    }

    #[test]
    fn an_unknown_state_has_a_reason() {
        let undecided = record(Status::Undecided(Doubt::TooComplex), None);
        let invalid = Record { state: State::Invalid("spec: no".into()), ..undecided.clone() };
        for (record, state, reason, message) in [
            (undecided, "Undecided", "TooComplex", "the proof exceeds the limit for one contract"),
            (invalid, "Invalid", "Invalid", "spec: no"),
        ] {
            let status = status(&record, &Value::Null, None, at(0));
            assert_eq!(
                status,
                json!({"state": state, "conditions": [{
                    "type": "Holds", "status": "Unknown", "reason": reason, "message": message,
                    "lastTransitionTime": "1970-01-01T00:00:00Z",
                }]})
            );
        }
    }
}
