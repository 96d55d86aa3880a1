//! Patches of a namespace, with the warnings of the API server.

use http_body_util::BodyExt as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Patch, PatchParams};
use kube::client::Body;
use kube::core::Status;
use kube::core::request::Request;
use kube::{Client, Error, Resource as _};
use serde::Serialize;

use super::super::YELLOW;

/// Patches a namespace and prints the warnings in the response, as kubectl does.
pub(super) async fn patch_namespace<P: Serialize + std::fmt::Debug>(
    client: &Client,
    name: &str,
    parameters: &PatchParams,
    patch: &Patch<P>,
) -> Result<(), Error> {
    let request = Request::new(Namespace::url_path(&(), None)).patch(name, parameters, patch);
    let request = request.map_err(Error::BuildRequest)?;
    let response = client.send(request.map(Body::from)).await?;
    for warning in response.headers().get_all("warning") {
        if let Some(text) = warning.to_str().ok().and_then(text) {
            anstream::eprintln!("{YELLOW}warning{YELLOW:#}: {text}");
        }
    }
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let body = response.into_body().collect().await?.to_bytes();
    let said = serde_json::from_slice::<Status>(&body)
        .unwrap_or_else(|_| Status::failure(&String::from_utf8_lossy(&body), "Unknown").with_code(status.as_u16()));
    Err(Error::Api(Box::new(said)))
}

/// Returns the text of a header `Warning`: `299 - "text"`, with a backslash before each quote and backslash (RFC 7234,
/// section 5.5).
fn text(warning: &str) -> Option<String> {
    let quoted = warning.splitn(3, ' ').nth(2)?.strip_prefix('"')?.strip_suffix('"')?;
    let mut text = String::with_capacity(quoted.len());
    let mut letters = quoted.chars();
    while let Some(letter) = letters.next() {
        text.push(if letter == '\\' { letters.next()? } else { letter });
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn a_warning_is_read_as_the_api_server_writes_it() {
        assert_eq!(text(r#"299 - "a \"b\" \\ c""#).as_deref(), Some(r#"a "b" \ c"#));
        for bad in ["", "299 -", "299 - plain", r#"299 - "open"#] {
            assert_eq!(text(bad), None, "{bad}");
        }
    }
}
