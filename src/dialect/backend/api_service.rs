//! `apiregistration.k8s.io` APIService.

use serde::Deserialize;

use super::{CalledService, Found};
use crate::dialect::{Manifest, ReadError};
use crate::json::optional;
use crate::model::Path;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Spec {
    /// Missing for the APIs that the API server serves itself.
    #[serde(deserialize_with = "optional")]
    service: Option<CalledService>,
}

pub(super) fn read(manifest: &Manifest<'_>, found: &mut Found<'_>) -> Result<(), ReadError> {
    let Spec { service } = manifest.spec()?;
    if let Some(service) = service {
        service.add_to(found, || Path::root().field("spec").field("service"));
    }
    Ok(())
}
