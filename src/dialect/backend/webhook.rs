//! `admissionregistration.k8s.io` ValidatingWebhookConfiguration and MutatingWebhookConfiguration.

use serde::Deserialize;

use super::{CalledService, Found};
use crate::budget::charge;
use crate::dialect::error::parse_value;
use crate::dialect::{Manifest, ReadError};
use crate::json::{objects, optional};
use crate::model::Path;

#[derive(Debug, Deserialize)]
#[serde(transparent)]
struct Webhooks {
    #[serde(deserialize_with = "objects")]
    listed: Option<Vec<Webhook>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Webhook {
    #[serde(deserialize_with = "optional")]
    client_config: Option<ClientConfig>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ClientConfig {
    #[serde(deserialize_with = "optional")]
    service: Option<CalledService>,
}

pub(super) fn read(manifest: &Manifest<'_>, found: &mut Found<'_>) -> Result<(), ReadError> {
    let path = Path::root().field("webhooks");
    let Some(written) = manifest.written.webhooks else { return Ok(()) };
    let Webhooks { listed } = parse_value(written, &path)?;
    for (position, webhook) in listed.into_iter().flatten().enumerate() {
        charge(1);
        // A webhook with a URL is not in the cluster, as far as is known.
        if let Some(service) = webhook.client_config.and_then(|config| config.service) {
            service.add_to(found, || path.index(position).field("clientConfig").field("service"));
        }
    }
    Ok(())
}
