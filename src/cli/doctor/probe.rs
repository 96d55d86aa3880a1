//! The probe: a dry run of a NetworkPolicy that Portcullis has to answer.

use std::time::Duration;

use http_body_util::BodyExt as _;
use kube::api::PostParams;
use kube::client::Body;
use kube::core::Request;
use serde_json::{Value, json};

use super::Check;
use super::installation::Installation;
use crate::cli::NAME;
use crate::model::Labels;
use crate::rules::{self, Mode};

/// Maximum time for the answer.
const PATIENCE: Duration = Duration::from_secs(30);
const CHECK: &str = "probe";
/// The rule that fires on the probe.
const RULE: &str = "any-port";

/// Sends the probe and looks for an answer of Portcullis: a denial or a warning.
pub(super) async fn check(installation: &Installation, namespace: &str) -> Check {
    match tokio::time::timeout(PATIENCE, send(installation, namespace)).await {
        Ok(Ok(answer)) => judge(installation, namespace, &answer),
        Ok(Err(why)) => Check::unknown(CHECK, why),
        Err(_) => Check::unknown(CHECK, format!("the API server did not answer within {} s", PATIENCE.as_secs())),
    }
}

/// The answer of the API server.
struct Answer {
    status: u16,
    warnings: Vec<String>,
    /// The message of the status, if the request failed.
    message: String,
}

async fn send(installation: &Installation, namespace: &str) -> Result<Answer, String> {
    let policy = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": format!("{NAME}-doctor-probe")},
        "spec": {
            "podSelector": {"matchLabels": {"portcullis.dev/doctor": "probe"}},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"portcullis.dev/doctor": "probe"}}}]}],
        },
    });
    let url = format!("/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies");
    let parameters = PostParams { dry_run: true, field_manager: Some(format!("{NAME}-doctor")) };
    let body = policy.to_string().into_bytes();
    let request = Request::new(url).create(&parameters, body).map_err(|error| error.to_string())?;
    let response =
        installation.client.send(request.map(Body::from)).await.map_err(|error| crate::cluster::words(&error))?;
    let status = response.status().as_u16();
    let warnings = response.headers().get_all("warning").iter();
    let warnings = warnings.filter_map(|warning| warning.to_str().ok().map(str::to_owned)).collect();
    let body = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let message = body.get("message").and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(Answer { status, warnings, message })
}

fn judge(installation: &Installation, namespace: &str, answer: &Answer) -> Check {
    let Answer { status, warnings, message } = answer;
    let is_ours = |text: &str| rules::RULES.iter().any(|rule| text.contains(rule.name));
    if message.contains("denied the request") && message.contains(".portcullis.dev") {
        return Check::ok(CHECK, format!("the API server reaches Portcullis, which denied a dry run in {namespace}"));
    }
    if message.contains("failed calling webhook") {
        let why = message.strip_prefix("Internal error occurred: ").unwrap_or(message);
        let fix = installation.kubectl(format_args!("get endpointslices,pods --namespace {}", installation.namespace));
        return Check::fault(CHECK, format!("the API server cannot reach Portcullis: {why}"), fix);
    }
    if let Some(warning) = warnings.iter().find(|warning| warning.contains("failed calling webhook")) {
        let fix = installation.kubectl(format_args!("get endpointslices,pods --namespace {}", installation.namespace));
        return Check::fault(CHECK, format!("the API server cannot reach Portcullis: {warning}"), fix);
    }
    if (200..300).contains(status) && warnings.iter().any(|warning| is_ours(warning)) {
        return Check::ok(
            CHECK,
            format!("the API server reaches Portcullis, which warned about a dry run in {namespace}"),
        );
    }
    if !(200..300).contains(status) {
        return Check::unknown(
            CHECK,
            format!("the dry run of a NetworkPolicy in {namespace} failed: {message} ({status})"),
        );
    }
    let asked = installation.configuration.asked(Some(namespace), None::<&Labels>);
    let mode = asked.into_iter().find(|asked| asked.definition.name == RULE).map_or(Mode::Off, |asked| asked.mode);
    match mode {
        Mode::Deny | Mode::Warn => Check::fault(
            CHECK,
            format!("Portcullis did not answer a dry run in {namespace}, although `{RULE}` is set to {}", mode.name()),
            installation.kubectl(format_args!(
                "get validatingwebhookconfiguration {} --output yaml",
                installation.webhook_name
            )),
        ),
        Mode::Audit | Mode::Off => Check::unknown(
            CHECK,
            format!("`{RULE}` is set to {}, so an answer of Portcullis does not show", mode.name()),
        ),
    }
}
