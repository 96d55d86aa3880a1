//! The overrides of a configuration file with one more: the next step of a rollout.

use serde_json::{Map, Value, json};

use super::{API_VERSION, Configuration, Error, KIND, Preset, defaults, installation, parse};
use crate::rules::Mode;
use crate::yaml::Document;

impl Configuration {
    /// Reads a configuration file, or the defaults, with one more override: this mode of a rule in these namespaces.
    ///
    /// Also returns all overrides as the file has to list them, because its list replaces the default one.
    ///
    /// # Errors
    /// The first invalid value of the file, with its line.
    pub fn with_override(
        text: Option<&str>,
        rule: &str,
        mode: Mode,
        namespaces: &[String],
    ) -> Result<(Self, Vec<Value>), Error> {
        let mut document = match text {
            Some(text) => parse(text)?,
            None => Document::from_value(json!({"apiVersion": API_VERSION, "kind": KIND})),
        };
        let mut overrides = match document.value.get("overrides").and_then(Value::as_array) {
            Some(own) => own.clone(),
            None => default_overrides(&document)?,
        };
        overrides.iter_mut().for_each(shorten);
        extend(&mut overrides, rule, mode, namespaces);
        if let Some(fields) = document.value.as_object_mut() {
            fields.insert("overrides".into(), overrides.clone().into());
        }
        super::written::normalise(&mut document.value);
        Ok((Self::from_document(&document, None)?, overrides))
    }
}

/// Returns the default overrides, with the modes that the preset of the file gives them.
fn default_overrides(document: &Document) -> Result<Vec<Value>, Error> {
    let mut value = defaults()?;
    installation::adapt(&mut value, document)?;
    let preset = document.value.get("preset").cloned().and_then(|preset| serde_json::from_value::<Preset>(preset).ok());
    let preset = preset.unwrap_or_default();
    let mut overrides = value.get("overrides").and_then(Value::as_array).cloned().unwrap_or_default();
    for mode in overrides.iter_mut().flat_map(rules).filter_map(|(_, entry)| entry.get_mut("mode")) {
        if let Ok(written) = serde_json::from_value::<Mode>(mode.clone()) {
            *mode = preset.limit(written).name().into();
        }
    }
    Ok(overrides)
}

/// The rules of an override.
fn rules(entry: &mut Value) -> impl Iterator<Item = (&String, &mut Value)> {
    entry.get_mut("rules").and_then(Value::as_object_mut).into_iter().flatten()
}

/// Writes the modes of an override in the short form, `any-port: warn`.
fn shorten(entry: &mut Value) {
    for (_, entry) in rules(entry) {
        let mode = entry.as_object().filter(|fields| fields.len() == 1).and_then(|fields| fields.get("mode"));
        if let Some(mode) = mode.cloned() {
            *entry = mode;
        }
    }
}

/// Adds an override. If the last one differs only in its names, it gets the new names: then the waves of a rollout are
/// one entry.
fn extend(overrides: &mut Vec<Value>, rule: &str, mode: Mode, namespaces: &[String]) {
    let rules = Value::Object(Map::from_iter([(rule.to_owned(), mode.name().into())]));
    if let Some(names) = overrides.last_mut().and_then(|last| names_of_same(last, &rules)) {
        names.extend(namespaces.iter().map(|name| Value::from(name.as_str())));
        names.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
        names.dedup();
        return;
    }
    overrides.push(json!({"namespaces": {"names": namespaces}, "rules": rules}));
}

/// Returns the names of an override that selects namespaces only by names and sets exactly these rules.
fn names_of_same<'a>(entry: &'a mut Value, rules: &Value) -> Option<&'a mut Vec<Value>> {
    if entry.get("rules") != Some(rules) {
        return None;
    }
    let namespaces = entry.get_mut("namespaces")?.as_object_mut().filter(|fields| fields.len() == 1)?;
    namespaces.get_mut("names")?.as_array_mut()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\n";

    fn overrides(fields: &str, names: &[&str]) -> Value {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let text = format!("{HEAD}{fields}");
        Configuration::with_override(Some(&text), "any-port", Mode::Deny, &names).unwrap().1.into()
    }

    #[test]
    fn the_default_overrides_are_listed_with_the_modes_of_the_preset() {
        let platform = |mode: &str| json!({"namespaces": {"platform": true}, "rules": {"host-network": mode}});
        let added = json!({"namespaces": {"names": ["shop"]}, "rules": {"any-port": "deny"}});
        for (preset, mode) in [("enforce", "warn"), ("warn", "warn"), ("observe", "audit")] {
            let all = overrides(&format!("preset: {preset}\n"), &["shop"]);
            assert_eq!(all[0], platform(mode), "{preset}");
            assert_eq!(all.as_array().unwrap().last().unwrap(), &added, "{preset}");
        }
        let renamed = overrides("installation: {namespace: guard}\n", &["shop"]);
        assert_eq!(renamed[1]["namespaces"]["names"], json!(["guard"]));
    }

    #[test]
    fn a_second_wave_joins_the_first() {
        let first = "overrides: [{namespaces: {names: [shop]}, rules: {any-port: deny}}]\n";
        assert_eq!(
            overrides(first, &["legacy", "shop"]),
            json!([{"namespaces": {"names": ["legacy", "shop"]}, "rules": {"any-port": "deny"}}])
        );
        let other = "overrides: [{namespaces: {names: [shop]}, rules: {any-port: warn, open-ingress: off}}]\n";
        assert_eq!(
            overrides(other, &["legacy"]),
            json!([
                {"namespaces": {"names": ["shop"]}, "rules": {"any-port": "warn", "open-ingress": "off"}},
                {"namespaces": {"names": ["legacy"]}, "rules": {"any-port": "deny"}}
            ])
        );
    }

    #[test]
    fn a_broken_file_is_an_error() {
        let read = Configuration::with_override(Some("kind: Configuration\n"), "any-port", Mode::Deny, &[]);
        assert!(read.err().unwrap().to_string().contains("apiVersion"));
    }
}
