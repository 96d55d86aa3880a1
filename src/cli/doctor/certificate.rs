//! The serving certificate in its Secret.

use std::time::{Duration, SystemTime};

use k8s_openapi::ByteString;

use super::{Check, Installation, NAME};
use crate::pki::Facts;

/// Remaining validity below which a certificate is a fault. Portcullis renews it a month before its end.
const MIN_VALIDITY: Duration = Duration::from_secs(7 * DAY);
const DAY: u64 = 24 * 3600;

/// Returns the serving certificate of the Secret.
pub(super) fn leaf(installation: &Installation) -> Result<String, String> {
    let (namespace, name) = &installation.secret_name;
    let secret = match &installation.secret {
        Ok(Some(secret)) => secret,
        Ok(None) => return Err(format!("Secret {namespace}/{name} does not exist")),
        Err(why) => return Err(why.clone()),
    };
    let leaf = secret.data.as_ref().and_then(|data| data.get("tls.crt"));
    let leaf = leaf.and_then(|ByteString(leaf)| String::from_utf8(leaf.clone()).ok());
    leaf.ok_or_else(|| format!("Secret {namespace}/{name} has no tls.crt"))
}

/// Checks that the certificate covers the Service and does not expire soon.
pub(super) fn check(installation: &Installation) -> Option<Check> {
    const CHECK: &str = "certificate";
    let (namespace, name) = &installation.secret_name;
    let restart = format!("kubectl rollout restart deployment/{NAME} --namespace {}", installation.namespace);
    let leaf = match leaf(installation) {
        Ok(leaf) => leaf,
        Err(why) if matches!(installation.secret, Ok(None)) => return Some(Check::fault(CHECK, why, restart)),
        Err(why) => return Some(Check::unknown(CHECK, why)),
    };
    let facts = match Facts::of(&leaf) {
        Ok(facts) => facts,
        Err(error) => {
            let message = format!("tls.crt of Secret {namespace}/{name} cannot be read: {error}");
            return Some(Check::fault(CHECK, message, restart));
        }
    };
    let service = format!("{NAME}.{}.svc", installation.namespace);
    let now = SystemTime::now();
    Some(match facts.not_after.duration_since(now) {
        Err(_) => Check::fault(CHECK, format!("the certificate in Secret {namespace}/{name} has expired"), restart),
        Ok(_) if !facts.names.contains(&service) => {
            Check::fault(CHECK, format!("the certificate does not cover {service}"), restart)
        }
        Ok(left) if left < MIN_VALIDITY => {
            Check::fault(CHECK, format!("the certificate expires in {} days", left.as_secs() / DAY), restart)
        }
        Ok(left) => Check::ok(CHECK, format!("covers {service} and expires in {} days", left.as_secs() / DAY)),
    })
}
