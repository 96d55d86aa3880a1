//! Compares a webhook configuration with the desired one. Pure.
//!
//! Fields that the API server defaults count as written with their default, and `caBundle` does not count: the
//! certificate keeper writes it. Unknown fields count, because a new field may exempt requests.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

/// Maximum length of a value in a message; longer values are left out.
const MAX_SHOWN_CHARS: usize = 60;

/// Returns the first difference between two webhook configurations, or none if API servers treat them alike.
#[must_use]
pub fn difference(wanted: &Value, live: &Value) -> Option<String> {
    let (wanted, live) = (webhooks(wanted), webhooks(live));
    let names: BTreeSet<&String> = wanted.keys().chain(live.keys()).collect();
    names.into_iter().find_map(|name| match (wanted.get(name), live.get(name)) {
        (Some(wanted), Some(live)) => first(&format!("webhooks[{name}]"), Some(wanted), Some(live)),
        (Some(_), None) => Some(format!("webhook {name} is missing")),
        (None, _) => Some(format!("webhook {name} is not part of the configuration in force")),
    })
}

/// The webhooks of a configuration by name, with defaults filled in.
fn webhooks(configuration: &Value) -> BTreeMap<String, Value> {
    let webhooks = configuration.get("webhooks").and_then(Value::as_array).into_iter().flatten();
    webhooks
        .filter_map(|webhook| {
            let name = webhook.get("name")?.as_str()?.to_owned();
            Some((name, canonical(webhook.as_object()?)))
        })
        .collect()
}

fn canonical(webhook: &Map<String, Value>) -> Value {
    let mut webhook = webhook.clone();
    webhook.retain(|_, value| !value.is_null());
    for (field, default) in [
        ("failurePolicy", json!("Fail")),
        ("matchPolicy", json!("Equivalent")),
        ("namespaceSelector", json!({})),
        ("objectSelector", json!({})),
        ("reinvocationPolicy", json!("Never")),
        ("timeoutSeconds", json!(10)),
    ] {
        webhook.entry(field).or_insert(default);
    }
    if let Some(client) = webhook.get_mut("clientConfig").and_then(Value::as_object_mut) {
        client.remove("caBundle");
        if let Some(service) = client.get_mut("service").and_then(Value::as_object_mut) {
            service.entry("port").or_insert(json!(443));
        }
    }
    for rule in webhook.get_mut("rules").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(rule) = rule.as_object_mut() {
            rule.entry("scope").or_insert(json!("*"));
        }
    }
    // All conditions have to hold, so their order has no effect.
    let conditions = webhook.remove("matchConditions");
    let conditions = conditions.as_ref().and_then(Value::as_array).into_iter().flatten();
    let by_name: Map<String, Value> = conditions
        .filter_map(|condition| {
            Some((condition.get("name")?.as_str()?.to_owned(), condition.get("expression")?.clone()))
        })
        .collect();
    webhook.insert("matchConditions".to_owned(), Value::Object(by_name));
    Value::Object(webhook)
}

/// Returns the first place at which two values differ.
fn first(path: &str, wanted: Option<&Value>, live: Option<&Value>) -> Option<String> {
    if wanted == live {
        return None;
    }
    if let (Some(Value::Object(wanted)), Some(Value::Object(live))) = (wanted, live) {
        let keys: BTreeSet<&String> = wanted.keys().chain(live.keys()).collect();
        return keys.into_iter().find_map(|key| first(&format!("{path}.{key}"), wanted.get(key), live.get(key)));
    }
    let shown = |value: Option<&Value>| match value {
        None => Some("not set".to_owned()),
        Some(value) => Some(value.to_string()).filter(|text| text.chars().count() <= MAX_SHOWN_CHARS),
    };
    Some(match (shown(live), shown(wanted)) {
        (Some(live), Some(wanted)) => format!("{path} is {live}, expected {wanted}"),
        _ => format!("{path} differs"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Value {
        json!({"webhooks": [
            {
                "name": "policies.portcullis.dev",
                "clientConfig": {"service": {"namespace": "portcullis-system", "name": "portcullis", "path": "/validate", "port": 443}},
                "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Fail", "timeoutSeconds": 5,
                "matchConditions": [{"name": "a", "expression": "1"}, {"name": "b", "expression": "2"}],
                "rules": [{"apiGroups": [""], "apiVersions": ["*"], "operations": ["CREATE"], "resources": ["pods"]}],
            },
            {"name": "pods.portcullis.dev", "clientConfig": {"url": "https://10.0.0.7"}, "sideEffects": "None"},
        ]})
    }

    /// The configuration as an API server stores it.
    fn stored() -> Value {
        let mut stored = wanted();
        stored["metadata"] = json!({"name": "portcullis", "resourceVersion": "7"});
        for webhook in stored["webhooks"].as_array_mut().unwrap() {
            webhook["clientConfig"]["caBundle"] = json!("YQ==");
            for (field, default) in
                [("matchPolicy", json!("Equivalent")), ("namespaceSelector", json!({})), ("objectSelector", json!({}))]
            {
                webhook[field] = default;
            }
        }
        stored["webhooks"][0]["rules"][0]["scope"] = json!("*");
        stored["webhooks"][1]["failurePolicy"] = json!("Fail");
        stored["webhooks"][1]["timeoutSeconds"] = json!(10);
        stored["webhooks"].as_array_mut().unwrap().reverse();
        stored["webhooks"][1]["matchConditions"].as_array_mut().unwrap().reverse();
        stored
    }

    #[test]
    fn defaults_order_and_the_bundle_are_no_difference() {
        assert_eq!(difference(&wanted(), &stored()), None);
        let mut without_port = stored();
        without_port["webhooks"][1]["clientConfig"]["service"].as_object_mut().unwrap().remove("port");
        assert_eq!(difference(&wanted(), &without_port), None);
    }

    #[test]
    fn every_other_change_is_named_with_its_field() {
        let changed = |change: &dyn Fn(&mut Value)| {
            let mut live = stored();
            change(&mut live["webhooks"]);
            difference(&wanted(), &live).expect("it differs")
        };
        let policies = "webhooks[policies.portcullis.dev]";
        assert_eq!(
            changed(&|webhooks| webhooks[1]["failurePolicy"] = json!("Ignore")),
            format!("{policies}.failurePolicy is \"Ignore\", expected \"Fail\"")
        );
        assert_eq!(
            changed(&|webhooks| webhooks[1]["objectSelector"] = json!({"matchLabels": {"a": "b"}})),
            format!("{policies}.objectSelector.matchLabels is {{\"a\":\"b\"}}, expected not set")
        );
        assert_eq!(
            changed(&|webhooks| webhooks[1]["matchConditions"][0]["expression"] = json!("x".repeat(100))),
            format!("{policies}.matchConditions.b differs")
        );
        assert_eq!(
            changed(&|webhooks| {
                let condition = json!({"name": "never", "expression": "false"});
                webhooks[1]["matchConditions"].as_array_mut().unwrap().push(condition);
            }),
            format!("{policies}.matchConditions.never is \"false\", expected not set")
        );
        assert!(changed(&|webhooks| webhooks[1]["rules"][0]["operations"] = json!(["UPDATE"])).contains(".rules"));
        assert_eq!(
            changed(&|webhooks| webhooks[0]["clientConfig"]["url"] = json!("https://10.0.0.8")),
            "webhooks[pods.portcullis.dev].clientConfig.url is \"https://10.0.0.8\", expected \"https://10.0.0.7\""
        );
        assert_eq!(
            changed(&|webhooks| webhooks[0]["unheardOf"] = json!(1)),
            "webhooks[pods.portcullis.dev].unheardOf is 1, expected not set"
        );
        assert_eq!(
            changed(&|webhooks| drop(webhooks.as_array_mut().unwrap().remove(0))),
            "webhook pods.portcullis.dev is missing"
        );
        assert_eq!(
            changed(&|webhooks| webhooks[0]["name"] = json!("other.portcullis.dev")),
            "webhook other.portcullis.dev is not part of the configuration in force"
        );
    }
}
