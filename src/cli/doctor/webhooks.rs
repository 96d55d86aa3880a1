//! The webhook configurations: present, as this version writes them, trusted, and not bypassed.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{DynamicObject, ListParams};
use kube::core::{ApiResource, GroupVersionKind, Selector, SelectorExt as _};
use kube::{Api, ResourceExt};
use serde_json::Value;

use super::Check;
use super::certificate::leaf;
use super::installation::{Certificate, Found, Installation, get};
use crate::cluster::{PAUSE_ANNOTATION, WantedWebhooks, webhook_difference, words};
use crate::pki;

/// Maximum number of names in a message.
const MAX_NAMED: usize = 5;

/// A webhook configuration as it is wanted and as it is stored.
struct Pair<'a> {
    kind: &'static str,
    wanted: &'a Value,
    live: Found<Value>,
}

/// Checks both webhook configurations.
pub(super) async fn checks(installation: &Installation, wanted: &WantedWebhooks) -> Vec<Check> {
    let mut pairs = Vec::new();
    for (kind, wanted) in
        [("ValidatingWebhookConfiguration", &wanted.validating), ("MutatingWebhookConfiguration", &wanted.mutating)]
    {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", kind));
        let api: Api<DynamicObject> = Api::all_with(installation.client.clone(), &resource);
        let live = get(api, &installation.webhook_name).await;
        pairs.push(Pair { kind, wanted, live: live.map(|live| live.map(|live| live.data)) });
    }
    let mut checks: Vec<Check> = pairs.iter().map(|pair| content(installation, pair)).collect();
    checks.push(failure_policies(installation, &pairs));
    checks.push(bundles(installation, &pairs));
    checks.push(bypassed(installation, &pairs).await);
    checks.push(pause(installation));
    checks
}

/// Compares a configuration with the one that this version writes.
fn content(installation: &Installation, Pair { kind, wanted, live }: &Pair<'_>) -> Check {
    let check = if kind.starts_with('V') { "validating-webhooks" } else { "mutating-webhooks" };
    let name = &installation.webhook_name;
    let live = match live {
        Ok(Some(live)) => live,
        Ok(None) => return Check::fault(check, format!("{kind} {name} does not exist"), installation.rewrite()),
        Err(why) => return Check::unknown(check, why.clone()),
    };
    match webhook_difference(wanted, live) {
        None => Check::ok(check, format!("{kind} {name} has the {} webhooks of this version", by_name(live).len())),
        Some(difference) => Check::fault(
            check,
            format!("{kind} {name} differs from what this version writes: {difference}"),
            installation.rewrite(),
        ),
    }
}

/// The webhooks of a configuration by name.
fn by_name(configuration: &Value) -> BTreeMap<&str, &Value> {
    let webhooks = configuration.get("webhooks").and_then(Value::as_array).into_iter().flatten();
    webhooks.filter_map(|webhook| Some((webhook.get("name")?.as_str()?, webhook))).collect()
}

/// Each wanted webhook with the stored one of its name.
fn webhooks<'a>(pairs: &'a [Pair<'a>]) -> impl Iterator<Item = (&'a str, &'a Value, &'a Value)> {
    pairs.iter().flat_map(|pair| {
        let live = pair.live.as_ref().ok().and_then(Option::as_ref);
        let live = live.map(by_name).unwrap_or_default();
        by_name(pair.wanted).into_iter().filter_map(move |(name, wanted)| Some((name, wanted, *live.get(name)?)))
    })
}

/// Reports the first configuration that is missing or could not be read. Its own check names the fix.
fn unread(check: &'static str, pairs: &[Pair<'_>]) -> Option<Check> {
    pairs.iter().find_map(|pair| match &pair.live {
        Ok(Some(_)) => None,
        Ok(None) => Some(Check::unknown(check, format!("the {} does not exist", pair.kind))),
        Err(why) => Some(Check::unknown(check, why.clone())),
    })
}

fn failure_policies(installation: &Installation, pairs: &[Pair<'_>]) -> Check {
    const CHECK: &str = "failure-policies";
    let policy = |webhook: &Value| webhook.get("failurePolicy").and_then(Value::as_str).unwrap_or("Fail").to_owned();
    let wrong = webhooks(pairs).find(|(_, wanted, live)| policy(wanted) != policy(live));
    if let Some((name, wanted, live)) = wrong {
        let message = format!("webhook {name} has failurePolicy {}, expected {}", policy(live), policy(wanted));
        return Check::fault(CHECK, message, installation.rewrite());
    }
    if let Some(unread) = unread(CHECK, pairs) {
        return unread;
    }
    let failing: Vec<&str> = webhooks(pairs)
        .filter(|(_, _, live)| policy(live) == "Fail")
        .map(|(name, ..)| name.strip_suffix(".portcullis.dev").unwrap_or(name))
        .collect();
    let failing = if failing.is_empty() { "none".to_owned() } else { failing.join(", ") };
    Check::ok(CHECK, format!("requests of these webhooks are rejected during an outage: {failing}"))
}

/// Checks that every webhook trusts the serving certificate in the Secret.
fn bundles(installation: &Installation, pairs: &[Pair<'_>]) -> Check {
    const CHECK: &str = "ca-bundle";
    let leaf = match leaf(installation) {
        Ok(leaf) => leaf,
        Err(why) => return Check::unknown(CHECK, why),
    };
    let fix = match &installation.certificate {
        Certificate::Kept { .. } => installation.restart(),
        Certificate::Mounted { .. } | Certificate::Unknown => installation.rewrite(),
    };
    for (name, _, live) in webhooks(pairs) {
        let bundle = live.pointer("/clientConfig/caBundle").and_then(Value::as_str).unwrap_or_default();
        let bundle = STANDARD.decode(bundle).ok().and_then(|bundle| String::from_utf8(bundle).ok()).unwrap_or_default();
        if bundle.is_empty() {
            return Check::fault(CHECK, format!("webhook {name} has no caBundle"), fix);
        }
        if !pki::is_trusted_by(&bundle, &leaf.pem) {
            let message = format!(
                "the caBundle of webhook {name} does not trust the serving certificate in Secret {}",
                leaf.secret
            );
            return Check::fault(CHECK, message, fix);
        }
    }
    unread(CHECK, pairs).unwrap_or_else(|| Check::ok(CHECK, "every webhook trusts the serving certificate"))
}

/// Finds namespaces for which the API server calls no webhook although it should.
async fn bypassed(installation: &Installation, pairs: &[Pair<'_>]) -> Check {
    const CHECK: &str = "namespace-selectors";
    let namespaces: Api<Namespace> = Api::all(installation.client.clone());
    let namespaces = match namespaces.list(&ListParams::default()).await {
        Ok(list) => list.items,
        Err(error) => return Check::unknown(CHECK, words(&error)),
    };
    for (name, wanted, live) in webhooks(pairs) {
        let (Some(wanted), Some(live)) = (selector(wanted), selector(live)) else {
            return Check::unknown(CHECK, format!("the namespaceSelector of webhook {name} cannot be evaluated"));
        };
        let is_bypassed =
            |namespace: &&Namespace| wanted.matches(namespace.labels()) && !live.matches(namespace.labels());
        let names: Vec<String> = namespaces.iter().filter(is_bypassed).map(ResourceExt::name_any).collect();
        if !names.is_empty() {
            let more = names.len().saturating_sub(MAX_NAMED);
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            let names = names.iter().take(MAX_NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
            let message = format!("the namespaceSelector of webhook {name} excludes namespaces: {names}{more}");
            return Check::fault(CHECK, message, installation.rewrite());
        }
    }
    unread(CHECK, pairs)
        .unwrap_or_else(|| Check::ok(CHECK, format!("no namespace of {} bypasses the webhooks", namespaces.len())))
}

fn selector(webhook: &Value) -> Option<Selector> {
    let selector = webhook.get("namespaceSelector").cloned().unwrap_or_default();
    let selector: LabelSelector =
        if selector.is_null() { LabelSelector::default() } else { serde_json::from_value(selector).ok()? };
    Selector::try_from(selector).ok()
}

fn pause(installation: &Installation) -> Check {
    const CHECK: &str = "pause";
    let namespace = &installation.namespace;
    match &installation.home {
        Ok(Some(home)) => match home.annotations().get(PAUSE_ANNOTATION) {
            Some(reason) => Check::fault(
                CHECK,
                format!("writes of webhook configurations are paused: {reason}"),
                installation.kubectl(format_args!("annotate namespace {namespace} {PAUSE_ANNOTATION}-")),
            ),
            None => Check::ok(CHECK, "writes of webhook configurations are not paused"),
        },
        Ok(None) => Check::fault(CHECK, format!("namespace {namespace} does not exist"), installation.restore()),
        Err(why) => Check::unknown(CHECK, why.clone()),
    }
}
