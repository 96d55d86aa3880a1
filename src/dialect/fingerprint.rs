//! A hash of a stored object, to detect changes by other writers.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde_json::Value;

/// Hashes the spec of a stored object, and these of its labels and annotations. Other metadata is left out, because it
/// changes on its own. Hashes are comparable only within one run of the program.
#[must_use]
pub fn fingerprint(object: &Value, labels: &[&str], annotations: &[&str]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for part in ["spec", "specs"] {
        // Map keys are sorted, so equal values have equal texts.
        object.get(part).map(Value::to_string).hash(&mut hasher);
    }
    for (part, keys) in [("labels", labels), ("annotations", annotations)] {
        let map = object.get("metadata").and_then(|metadata| metadata.get(part));
        for key in keys {
            map.and_then(|map| map.get(key)).and_then(Value::as_str).hash(&mut hasher);
        }
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_is_asked_for_counts() {
        let one =
            json!({"metadata": {"labels": {"a": "1", "b": "2"}, "resourceVersion": "1"}, "spec": {"x": [1], "y": 2}});
        let mut other = json!({"spec": {"y": 2, "x": [1]}, "metadata": {"labels": {"a": "1", "b": "3"}}, "status": {}});
        let print = |object: &Value| fingerprint(object, &["a"], &["c"]);
        assert_eq!(print(&one), print(&other));
        other["metadata"]["annotations"] = json!({"c": "x"});
        assert_ne!(print(&one), print(&other));
        other["metadata"]["annotations"] = json!({"d": "x"});
        other["spec"]["x"] = json!([]);
        assert_ne!(print(&one), print(&other));
    }
}
