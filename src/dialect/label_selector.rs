//! `metav1.LabelSelector`, which most dialects share.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ReadError;
use super::label_map::LabelMap;
use crate::json::{objects, values};
use crate::model::{Operator, Owner, Path, Selector};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct LabelSelector {
    match_labels: Option<LabelMap>,
    #[serde(deserialize_with = "objects")]
    match_expressions: Option<Vec<Expression>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Expression {
    key: Box<str>,
    operator: Box<str>,
    #[serde(deserialize_with = "values")]
    values: Option<Vec<Box<str>>>,
}

impl LabelSelector {
    /// Reads the selector. All its requirements have to match. An empty selector matches everything.
    pub(super) fn read(&self, path: &Path) -> Result<Selector, ReadError> {
        let labels = self.match_labels.iter().flat_map(|LabelMap(labels)| labels.iter());
        let mut parts: Vec<Selector> = labels.map(|(key, value)| Selector::equals(key, value)).collect();
        for (position, expression) in self.match_expressions.iter().flatten().enumerate() {
            let place = || path.field("matchExpressions").index(position);
            let values = expression.values.clone().unwrap_or_default();
            let operator = match &*expression.operator {
                "In" | "NotIn" if values.is_empty() => {
                    return Err(ReadError::at(&place().field("values"), "`In` and `NotIn` require at least one value"));
                }
                "In" => Operator::In(values),
                "NotIn" => Operator::NotIn(values),
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::Absent,
                other => {
                    let problem = format!("`{other}` is not one of In, NotIn, Exists, DoesNotExist");
                    return Err(ReadError::at(&place().field("operator"), problem));
                }
            };
            parts.push(Selector::label(&expression.key, operator));
        }
        Ok(Selector::all(parts))
    }
}

/// A LabelSelector to write.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Written<'a> {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    match_labels: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    match_expressions: Vec<WrittenExpression<'a>>,
}

#[derive(Serialize)]
struct WrittenExpression<'a> {
    key: &'a str,
    operator: &'static str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    values: &'a [Box<str>],
}

/// Writes a selector as a LabelSelector. None if a LabelSelector cannot express it.
pub(super) fn write(selector: &Selector) -> Option<Written<'_>> {
    let parts = match selector {
        Selector::All(parts) => parts.as_slice(),
        Selector::Label(_) => std::slice::from_ref(selector),
        Selector::Any(_) | Selector::Not(_) => return None,
    };
    let mut written = Written { match_labels: BTreeMap::new(), match_expressions: Vec::new() };
    for part in parts {
        let Selector::Label(label) = part else { return None };
        if label.owner != Owner::Itself {
            return None;
        }
        let key = &*label.key;
        let (operator, values): (_, &[Box<str>]) = match &label.operator {
            Operator::In(values) => match values.as_slice() {
                [value] if !written.match_labels.contains_key(key) => {
                    written.match_labels.insert(key, value);
                    continue;
                }
                _ => ("In", values),
            },
            Operator::NotIn(values) => ("NotIn", values),
            Operator::Exists => ("Exists", &[]),
            Operator::Absent => ("DoesNotExist", &[]),
            Operator::Contains(_) | Operator::StartsWith(_) | Operator::EndsWith(_) => return None,
        };
        written.match_expressions.push(WrittenExpression { key, operator, values });
    }
    Some(written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(json: &Value) -> Result<Selector, ReadError> {
        serde_json::from_value::<LabelSelector>(json.clone()).unwrap().read(&Path::root().field("podSelector"))
    }

    #[test]
    fn what_is_written_reads_as_the_same() {
        for json in [
            json!({}),
            json!({"matchLabels": {"a": "1", "b": "2"}}),
            json!({"matchLabels": {"a": "1"}, "matchExpressions": [
                {"key": "b", "operator": "In", "values": ["x", "y"]},
                {"key": "c", "operator": "NotIn", "values": ["z"]},
                {"key": "d", "operator": "Exists"},
                {"key": "e", "operator": "DoesNotExist"},
            ]}),
        ] {
            let selector = read(&json).unwrap();
            assert_eq!(serde_json::to_value(write(&selector).unwrap()).unwrap(), json);
        }
    }

    #[test]
    fn faults_name_their_place() {
        let fault = |json: Value| read(&json).unwrap_err().to_string();
        assert_eq!(
            fault(json!({"matchExpressions": [{"key": "a", "operator": "Exists"}, {"key": "a", "operator": "Is"}]})),
            "podSelector.matchExpressions[1].operator: `Is` is not one of In, NotIn, Exists, DoesNotExist"
        );
        assert_eq!(
            fault(json!({"matchExpressions": [{"key": "a", "operator": "In"}]})),
            "podSelector.matchExpressions[0].values: `In` and `NotIn` require at least one value"
        );
    }
}
