//! The watch of the endpoints of the API server: the EndpointSlices of the Service `default/kubernetes`.
//!
//! It is apart from the other watches, because readiness must not depend on it: without it, only the policies that name
//! the API server wait.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use k8s_openapi::api::discovery::v1::{EndpointPort, EndpointSlice};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::status::WatchStatus;
use super::watch::Pauses;
use super::words;
use crate::model::{ApiServer, PortSet, Protocol};

/// The kind, as metrics, logs and `/readyz` name it.
pub(super) const KIND: &str = "EndpointSlice";
/// The namespace of the Service of the API server.
const NAMESPACE: &str = "default";
/// The label selector of its EndpointSlices.
const SELECTOR: &str = "kubernetes.io/service-name=kubernetes";
/// Maximum time until the first list is complete.
const LIST: Duration = Duration::from_secs(10);
/// Time without a change after which the slices are listed again, in case the connection is dead.
const RELIST: Duration = Duration::from_secs(600);
/// Maximum number of addresses. A policy in every namespace names each of them.
const MAX_ADDRESSES: usize = 100;

/// What is known of the endpoints.
#[derive(Clone, Debug)]
pub(super) struct Endpoints {
    /// The last known endpoints. They stay when the watch is lost and when the list becomes empty.
    pub(super) known: Option<Arc<ApiServer>>,
    pub(super) status: WatchStatus,
    /// True once the API server has answered the first request, or has not answered it in time.
    pub(super) is_asked: bool,
}

/// The reason why a request failed.
struct Failed {
    why: String,
    /// True if the API server was reached, or did not answer in time. Otherwise the connection failed.
    is_asked: bool,
}

impl Default for Endpoints {
    fn default() -> Self {
        Self { known: None, status: WatchStatus::Syncing(None), is_asked: false }
    }
}

/// Watches the endpoints until the receiver is dropped. `doubt` is notified when the connection may be dead.
pub(super) async fn run(client: Client, mut doubt: watch::Receiver<()>, out: watch::Sender<Endpoints>) {
    let api: Api<EndpointSlice> = Api::namespaced(client, NAMESPACE);
    let mut slices = Slices::default();
    let mut pauses = Pauses::default();
    while !out.is_closed() {
        let began = Instant::now();
        if let Err(failed) = slices.follow(&api, &mut doubt, &out).await {
            lost(&out, failed);
        }
        if began.elapsed() > LIST {
            pauses.reset();
        }
        sleep(pauses.next()).await;
    }
}

/// Records that the watch is lost, or does not start.
fn lost(out: &watch::Sender<Endpoints>, Failed { why, is_asked }: Failed) {
    out.send_if_modified(|endpoints| {
        let was_asked = endpoints.is_asked;
        endpoints.is_asked |= is_asked;
        let before = endpoints.status.clone();
        endpoints.status = match &before {
            WatchStatus::Syncing(_) => WatchStatus::Syncing(Some(why.clone())),
            WatchStatus::Synced => WatchStatus::Lost { since: Instant::now(), why: why.clone() },
            WatchStatus::Lost { since, .. } => WatchStatus::Lost { since: *since, why: why.clone() },
        };
        // The watch fails at each attempt. The same reason is logged once.
        let is_other = endpoints.status != before;
        if is_other {
            tracing::warn!(
                kind = KIND,
                %why,
                "the endpoints of the API server cannot be watched; policies that name them are not changed"
            );
        }
        is_other || endpoints.is_asked != was_asked
    });
}

/// The slices, by name.
#[derive(Debug, Default)]
struct Slices {
    listed: BTreeMap<String, EndpointSlice>,
    /// The slices of a list that is not complete yet.
    arriving: BTreeMap<String, EndpointSlice>,
    is_listing: bool,
    /// The reason why the slices are ignored, as it was logged last.
    ignored: Option<String>,
}

impl Slices {
    /// Lists and watches the slices until they have to be listed again.
    ///
    /// # Errors
    /// Returns the reason why a request failed.
    async fn follow(
        &mut self,
        api: &Api<EndpointSlice>,
        doubt: &mut watch::Receiver<()>,
        out: &watch::Sender<Endpoints>,
    ) -> Result<(), Failed> {
        let mut stream = pin!(watcher(api.clone(), watcher::Config::default().labels(SELECTOR)));
        let mut patience = LIST;
        doubt.mark_unchanged();
        loop {
            let event = tokio::select! {
                event = timeout(patience, stream.next()) => event,
                Ok(()) = doubt.changed() => return Ok(()),
            };
            match event {
                Ok(Some(Ok(event))) => {
                    self.take(event);
                    if !self.is_listing {
                        self.publish(out);
                        patience = RELIST;
                    }
                }
                Ok(Some(Err(error))) => return Err(reason(&error)),
                Err(_) if patience == LIST => {
                    return Err(Failed { why: format!("no answer within {} s", LIST.as_secs()), is_asked: true });
                }
                Ok(None) | Err(_) => return Ok(()),
            }
        }
    }

    fn take(&mut self, event: Event<EndpointSlice>) {
        match event {
            Event::Init => {
                self.is_listing = true;
                self.arriving.clear();
            }
            Event::InitApply(slice) => drop(self.arriving.insert(slice.name_any(), slice)),
            Event::InitDone => {
                self.is_listing = false;
                self.listed = std::mem::take(&mut self.arriving);
            }
            Event::Apply(slice) => drop(self.listed.insert(slice.name_any(), slice)),
            Event::Delete(slice) => drop(self.listed.remove(&slice.name_any())),
        }
    }

    /// Publishes the endpoints, unless the slices name none.
    fn publish(&mut self, out: &watch::Sender<Endpoints>) {
        let found = api_server(self.listed.values());
        let ignored = found.as_ref().err().cloned();
        if ignored != self.ignored {
            if let Some(why) = &ignored {
                tracing::warn!(kind = KIND, why, "policies that name the API server are not changed");
            }
            self.ignored = ignored;
        }
        out.send_if_modified(|endpoints| {
            endpoints.is_asked = true;
            let is_synced = std::mem::replace(&mut endpoints.status, WatchStatus::Synced) == WatchStatus::Synced;
            if !is_synced {
                tracing::info!(kind = KIND, "the endpoints of the API server are watched");
            }
            let is_new = found.as_ref().is_ok_and(|found| endpoints.known.as_deref() != Some(found));
            if let Ok(found) = found
                && is_new
            {
                tracing::info!(addresses = found.len(), "the endpoints of the API server have changed");
                endpoints.known = Some(Arc::new(found));
            }
            is_new || !is_synced
        });
    }
}

/// Returns the endpoints of the API server in these slices. Endpoints that are not ready count too: a policy that names
/// them allows nothing more than the API server, and they may become ready before a change of the policy takes effect.
///
/// # Errors
/// Fails if there are none, because a policy without them cuts off the API server, and if there are too many.
fn api_server<'a>(slices: impl Iterator<Item = &'a EndpointSlice>) -> Result<ApiServer, String> {
    let mut found = ApiServer::default();
    for slice in slices.filter(|slice| matches!(&*slice.address_type, "IPv4" | "IPv6")) {
        let ports: PortSet = slice.ports.iter().flatten().filter_map(port).collect();
        let addresses = slice.endpoints.iter().flatten().flat_map(|endpoint| &endpoint.addresses);
        for address in addresses.filter_map(|address| address.parse().ok()) {
            found.insert(address, &ports);
        }
    }
    if found.is_empty() {
        return Err(format!("no EndpointSlice of the Service {NAMESPACE}/kubernetes has an address with a port"));
    }
    if found.len() > MAX_ADDRESSES {
        let (count, service) = (found.len(), format!("{NAMESPACE}/kubernetes"));
        return Err(format!(
            "the EndpointSlices of the Service {service} have {count} addresses (limit {MAX_ADDRESSES})"
        ));
    }
    Ok(found)
}

/// Returns a port with its protocol, if it has a number.
fn port(port: &EndpointPort) -> Option<(Protocol, u16)> {
    let number = port.port.and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0)?;
    let protocol = match port.protocol.as_deref() {
        None | Some("TCP") => Protocol::Tcp,
        Some("UDP") => Protocol::Udp,
        Some("SCTP") => Protocol::Sctp,
        Some(_) => return None,
    };
    Some((protocol, number))
}

fn reason(error: &watcher::Error) -> Failed {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => {
            Failed { why: words(error), is_asked: matches!(error, kube::Error::Api(_)) }
        }
        other => Failed { why: other.to_string(), is_asked: true },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn slice(name: &str, addresses: &[&str], ports: &Value) -> EndpointSlice {
        let kind = if addresses.iter().any(|address| address.contains(':')) { "IPv6" } else { "IPv4" };
        let endpoints: Vec<Value> = addresses.iter().map(|address| json!({"addresses": [address]})).collect();
        let slice = json!({
            "metadata": {"name": name}, "addressType": kind, "endpoints": endpoints, "ports": ports,
        });
        serde_json::from_value(slice).unwrap()
    }

    fn https() -> Value {
        json!([{"name": "https", "port": 6443, "protocol": "TCP"}])
    }

    /// The addresses of the endpoints with their ports, as text.
    fn words_of(api_server: &ApiServer) -> Vec<String> {
        let of_rule = |(ports, addresses): (&PortSet, &std::collections::BTreeSet<std::net::IpAddr>)| {
            let ports: Vec<String> = ports.iter().map(|(protocol, port)| format!("{protocol} {port}")).collect();
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            format!("{} on {}", addresses.join(" "), ports.join(" "))
        };
        api_server.by_ports().map(of_rule).collect()
    }

    #[test]
    fn slices_are_added_up() {
        let both = json!([{"port": 443}, {"port": 6443, "protocol": "TCP"}]);
        let slices = [
            slice("kubernetes", &["10.0.0.2", "10.0.0.1"], &https()),
            slice("kubernetes-v6", &["fd00::1"], &https()),
            slice("front", &["10.0.0.9"], &both),
            // A port without a number, and one that no policy can name.
            slice("odd", &["10.0.0.7"], &json!([{"name": "any"}, {"port": 1, "protocol": "ICMP"}])),
        ];
        let found = api_server(slices.iter()).unwrap();
        assert_eq!(words_of(&found), ["10.0.0.9 on TCP 443 TCP 6443", "10.0.0.1 10.0.0.2 fd00::1 on TCP 6443"]);
    }

    #[test]
    fn what_names_no_address_or_too_many_is_unknown() {
        let why = |slices: &[EndpointSlice]| api_server(slices.iter()).unwrap_err();
        assert!(
            why(&[]).contains("no EndpointSlice") && why(&[slice("kubernetes", &[], &https())]).contains("no Endpoint")
        );
        let mut name = slice("kubernetes", &["example.com"], &https());
        "FQDN".clone_into(&mut name.address_type);
        assert!(why(&[name]).contains("no EndpointSlice"));
        let many: Vec<String> = (0..101).map(|number| format!("10.0.0.{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(why(&[slice("kubernetes", &many, &https())]).contains("have 101 addresses (limit 100)"));
    }

    #[test]
    fn the_last_known_endpoints_stay() {
        let (out, endpoints) = watch::channel(Endpoints::default());
        let mut slices = Slices::default();
        let mut tell = |events: Vec<Event<EndpointSlice>>| {
            for event in events {
                slices.take(event);
            }
            slices.publish(&out);
            endpoints.borrow().known.as_deref().map(words_of)
        };
        let kubernetes = |addresses: &[&str]| slice("kubernetes", addresses, &https());
        assert_eq!(tell(vec![Event::Init, Event::InitDone]), None, "there is no slice yet");
        let first = Some(vec!["10.0.0.1 on TCP 6443".to_owned()]);
        assert_eq!(tell(vec![Event::Apply(kubernetes(&["10.0.0.1"]))]), first);
        assert_eq!(tell(vec![Event::Apply(kubernetes(&[]))]), first);
        assert_eq!(tell(vec![Event::Delete(kubernetes(&[]))]), first);
        assert_eq!(tell(vec![Event::Init, Event::InitDone]), first);
        let second = Some(vec!["10.0.0.2 on TCP 6443".to_owned()]);
        let list = vec![Event::Init, Event::InitApply(kubernetes(&["10.0.0.2"])), Event::InitDone];
        assert_eq!(tell(list), second);

        lost(&out, Failed { why: "the connection broke".to_owned(), is_asked: false });
        let state = endpoints.borrow().clone();
        assert!(state.known.is_some() && matches!(state.status, WatchStatus::Lost { .. }), "{state:?}");
    }
}
