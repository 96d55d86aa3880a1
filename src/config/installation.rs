//! The namespace and the service account of Portcullis, which the defaults name in several places.

use serde_json::{Value, json};

use super::Error;
use crate::yaml::Document;

/// The namespace of Portcullis in the built-in configuration and in `deploy/`.
pub const NAMESPACE: &str = "portcullis-system";

/// Puts the namespace and the service account of a file into the defaults: into the lists that contain the namespace of
/// Portcullis, and into the username of the controller.
///
/// # Errors
/// A name that no namespace or service account can have.
pub(super) fn adapt(defaults: &mut Value, document: &Document) -> Result<(), Error> {
    let name = |field: &str| -> Result<Option<String>, Error> {
        // Other types are errors of the deserializer, which names the expected one.
        let Some(name) = document.value.pointer(&format!("/installation/{field}")).and_then(Value::as_str) else {
            return Ok(None);
        };
        if is_name(name) {
            return Ok(Some(name.to_owned()));
        }
        let problem = format!("`{name}` is not a valid name: expected lower-case letters, digits and hyphens");
        Err(Error::at(document, &["installation", field], problem))
    };
    let (namespace, account) = (name("namespace")?, name("serviceAccount")?);
    if namespace.is_none() && account.is_none() {
        return Ok(());
    }
    let namespace = namespace.as_deref().unwrap_or(NAMESPACE);
    rename(defaults, namespace);
    let username = format!("system:serviceaccount:{namespace}:{}", account.as_deref().unwrap_or("portcullis"));
    if let Some(written) = defaults.pointer_mut("/baseline/username") {
        *written = json!(username);
    }
    Ok(())
}

/// Replaces the namespace of the defaults.
fn rename(value: &mut Value, namespace: &str) {
    match value {
        Value::String(text) if text == NAMESPACE => namespace.clone_into(text),
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, namespace)),
        Value::Object(fields) => fields.values_mut().for_each(|field| rename(field, namespace)),
        _ => {}
    }
}

/// Returns true for a DNS subdomain. A namespace has no dots, which the API server checks.
fn is_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let part =
        |part: &str| !part.is_empty() && part.bytes().all(inner) && !part.starts_with('-') && !part.ends_with('-');
    text.len() <= 253 && text.split('.').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Configuration;
    use crate::rules::Mode;

    fn read(rest: &str) -> Result<Configuration, Error> {
        Configuration::read(&format!("apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\n{rest}"))
    }

    fn fault(rest: &str) -> String {
        read(rest).err().expect("a fault").to_string()
    }

    #[test]
    fn the_defaults_follow_the_namespace_and_the_service_account() {
        let moved = read("installation: {namespace: guard}\n").unwrap();
        assert_eq!(moved.site.namespace, "guard");
        assert_eq!(moved.site.baseline.username, "system:serviceaccount:guard:portcullis");
        assert!(moved.site.is_platform("guard") && !moved.site.is_platform("portcullis-system"));
        let open_ingress = |namespace: &str| {
            let mut asked = moved.asked(Some(namespace), None);
            asked.find(|asked| asked.definition.name == "open-ingress").map(|asked| asked.mode)
        };
        assert_eq!((open_ingress("guard"), open_ingress("portcullis-system")), (None, Some(Mode::Warn)));

        let renamed = read("installation: {serviceAccount: gate.keeper}\n").unwrap();
        assert_eq!(renamed.site.namespace, "portcullis-system");
        assert_eq!(renamed.site.baseline.username, "system:serviceaccount:portcullis-system:gate.keeper");
        let explicit = read("installation: {namespace: guard}\nbaseline: {username: ada}\n").unwrap();
        assert_eq!(explicit.site.baseline.username, "ada", "the file takes precedence");
    }

    #[test]
    fn a_name_that_cannot_be_is_an_error() {
        assert_eq!(
            fault("installation: {namespace: Guard}\n"),
            "line 3: installation.namespace: `Guard` is not a valid name: expected lower-case letters, digits and hyphens"
        );
        assert!(fault("installation: {namespace: [a]}\n").starts_with("line 3: installation.namespace: "));
        assert!(fault("installation: {name: a}\n").starts_with("line 3: installation.name: unknown field"));
    }
}
