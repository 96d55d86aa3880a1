//! The serving certificate in its Secret.

use std::time::{Duration, SystemTime};

use k8s_openapi::ByteString;
use kube::ResourceExt;

use super::Check;
use super::installation::{Certificate, Installation};
use crate::pki::Facts;

/// Remaining validity below which a certificate is a fault. Portcullis renews it a month before its end.
const MIN_VALIDITY: Duration = Duration::from_secs(7 * DAY);
const DAY: u64 = 24 * 3600;

/// The serving certificate, with its chain.
pub(super) struct Leaf {
    pub(super) pem: String,
    /// The namespace and the name of its Secret.
    pub(super) secret: String,
}

/// Returns the serving certificate of the Secret.
pub(super) fn leaf(installation: &Installation) -> Result<Leaf, String> {
    let Some((namespace, name, key)) = installation.certificate.secret() else {
        return Err("the Deployment names no Secret with the serving certificate".to_owned());
    };
    let secret = format!("{namespace}/{name}");
    let data = match &installation.secret {
        Ok(Some(found)) => found.data.as_ref(),
        Ok(None) => return Err(format!("Secret {secret} does not exist")),
        Err(why) => return Err(why.clone()),
    };
    let pem = data.and_then(|data| data.get(key)).and_then(|ByteString(pem)| String::from_utf8(pem.clone()).ok());
    let pem = pem.ok_or_else(|| format!("Secret {secret} has no {key}"))?;
    Ok(Leaf { pem, secret })
}

/// Returns the command that renews the certificate.
fn renew(installation: &Installation) -> String {
    let Certificate::Mounted { namespace, name, .. } = &installation.certificate else { return installation.restart() };
    let annotations = installation.secret.iter().flatten().map(ResourceExt::annotations).next();
    match annotations.and_then(|annotations| annotations.get("cert-manager.io/certificate-name")) {
        Some(certificate) => {
            installation.kubectl(format_args!("describe certificate {certificate} --namespace {namespace}"))
        }
        None => {
            let files = "--cert=tls.crt --key=tls.key --dry-run=client --output yaml";
            let create = installation.kubectl(format_args!("create secret tls {name} --namespace {namespace} {files}"));
            format!("{create} | {}", installation.kubectl("apply -f -"))
        }
    }
}

/// Checks that the certificate covers the address of the webhooks and does not expire soon.
pub(super) fn check(installation: &Installation) -> Check {
    const CHECK: &str = "certificate";
    let fix = renew(installation);
    let Leaf { pem, secret } = match leaf(installation) {
        Ok(leaf) => leaf,
        Err(why) if matches!(installation.secret, Ok(None)) && installation.certificate != Certificate::Unknown => {
            return Check::fault(CHECK, why, fix);
        }
        Err(why) => return Check::unknown(CHECK, why),
    };
    let facts = match Facts::of(&pem) {
        Ok(facts) => facts,
        Err(error) => {
            return Check::fault(CHECK, format!("the certificate in Secret {secret} cannot be read: {error}"), fix);
        }
    };
    let server = installation.address.server_name();
    let now = SystemTime::now();
    match facts.not_after.duration_since(now) {
        Err(_) => Check::fault(CHECK, format!("the certificate in Secret {secret} has expired"), fix),
        Ok(_) if !facts.covers(&server) => Check::fault(CHECK, format!("the certificate does not cover {server}"), fix),
        Ok(left) if left < MIN_VALIDITY => {
            Check::fault(CHECK, format!("the certificate expires in {} days", left.as_secs() / DAY), fix)
        }
        Ok(left) => Check::ok(CHECK, format!("covers {server} and expires in {} days", left.as_secs() / DAY)),
    }
}
