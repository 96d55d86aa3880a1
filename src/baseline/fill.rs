//! Policies of the policies folder that the controller completes with addresses of the cluster.
//!
//! A NetworkPolicy with the annotation `<labelDomain>/fill: kube-apiserver-endpoints` gets egress rules to the endpoints
//! of the API server. Without them it allows only what its own rules allow.

use serde_json::Value;

use crate::dialect::kubernetes::{allow_api_server, can_allow_api_server};
use crate::model::ApiServer;
use crate::view::Site;

/// The value of the annotation for egress to the endpoints of the API server.
const API_SERVER: &str = "kube-apiserver-endpoints";
/// The end of the annotation, in every domain.
const ANNOTATION: &str = "/fill";

/// Fills in a manifest. Returns false if it has the annotation and the endpoints are unknown, so that it is incomplete.
pub(super) fn fill(site: &Site, manifest: &mut Value, api_server: Option<&ApiServer>) -> bool {
    let annotations = manifest.pointer("/metadata/annotations");
    let value = annotations.and_then(|annotations| annotations.get(site.fill_annotation())).and_then(Value::as_str);
    match (value, api_server) {
        (Some(API_SERVER), Some(api_server)) => {
            allow_api_server(manifest, api_server);
            true
        }
        (Some(API_SERVER), None) => false,
        _ => true,
    }
}

/// Checks the annotation of a manifest. A mistake in it would leave the policy closed.
///
/// # Errors
/// Returns the description of the mistake.
pub(super) fn check(site: &Site, manifest: &Value) -> Result<(), String> {
    let annotations = manifest.pointer("/metadata/annotations").and_then(Value::as_object);
    let wanted = site.fill_annotation();
    for (key, value) in annotations.into_iter().flatten() {
        if *key == wanted {
            if value.as_str() != Some(API_SERVER) {
                return Err(format!(
                    "metadata.annotations: unknown value `{}` of `{key}`; expected `{API_SERVER}`",
                    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
                ));
            }
            if !can_allow_api_server(manifest) {
                return Err(format!(
                    "metadata.annotations: `{key}: {API_SERVER}` needs a NetworkPolicy with `Egress` in `policyTypes`"
                ));
            }
        } else if key.ends_with(ANNOTATION) && value == API_SERVER {
            return Err(format!(
                "metadata.annotations: `{key}: {API_SERVER}` has no effect; `labelDomain` of the configuration \
                 requires `{wanted}`"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Configuration;
    use serde_json::json;

    const FILL: &str = "network-policy.portcullis.dev/fill";

    fn policy(annotations: &Value) -> Value {
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"annotations": annotations},
            "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": []},
        })
    }

    #[test]
    fn mistakes_in_the_annotation_are_named() {
        let site = Configuration::shipped().unwrap().site;
        let checked = |manifest: &Value| check(&site, manifest).err().unwrap_or_default();
        assert_eq!(checked(&policy(&json!({FILL: API_SERVER, "example.com/fill": "colour"}))), "");
        assert_eq!(checked(&policy(&Value::Null)), "");
        assert_eq!(
            checked(&policy(&json!({FILL: "kube-apiserver"}))),
            format!("metadata.annotations: unknown value `kube-apiserver` of `{FILL}`; expected `{API_SERVER}`")
        );
        assert!(checked(&policy(&json!({FILL: 1}))).contains("unknown value `1`"));
        assert!(checked(&policy(&json!({"other.example/fill": API_SERVER}))).contains(&format!("requires `{FILL}`")));
        let mut ingress = policy(&json!({FILL: API_SERVER}));
        ingress["spec"]["policyTypes"] = json!(["Ingress"]);
        assert!(checked(&ingress).contains("needs a NetworkPolicy with `Egress`"));
    }

    #[test]
    fn a_policy_is_complete_with_the_endpoints_or_without_the_annotation() {
        let site = Configuration::shipped().unwrap().site;
        let api_server = ApiServer::default();
        let (marked, plain) = (policy(&json!({FILL: API_SERVER})), policy(&Value::Null));
        for (manifest, api_server, is_complete) in [
            (&marked, None, false),
            (&marked, Some(&api_server), true),
            (&plain, None, true),
            (&plain, Some(&api_server), true),
        ] {
            let mut filled = manifest.clone();
            assert_eq!(fill(&site, &mut filled, api_server), is_complete);
            assert_eq!(filled, *manifest, "there is no address to fill in");
        }
    }
}
