//! The history of a cluster, as etcd keeps it: every version of every object, in one order, across restarts of the API
//! server.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

/// The policies that every namespace with a baseline has, besides those of its profile.
const BASELINE: [&str; 4] = [
    "portcullis-baseline-allow-dns",
    "portcullis-baseline-allow-health-probes",
    "portcullis-baseline-allow-prometheus-scrape",
    "portcullis-baseline-default-deny",
];
/// The start of the name of a policy of a profile.
const PROFILE: &str = "portcullis-profile-";
/// The label `<domain>/baseline: applied` as an API server stores it: the end of the key, and the value with its length.
const APPLIED: &[u8] = b"/baseline\x12\x07applied";

/// The managed policies of each namespace, followed through the history.
pub(crate) struct History {
    port: u16,
    /// The first revision that was not read yet.
    next: u64,
    policies: BTreeMap<String, BTreeSet<String>>,
    /// Namespaces that were labelled as `applied` and are not being deleted.
    applied: BTreeSet<String>,
    /// The revisions after which an applied namespace lacked a policy of its baseline.
    pub(crate) gaps: Vec<String>,
    pub(crate) seen: Seen,
}

/// The counts of a history.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// Namespaces that were labelled as `applied`.
    pub(crate) namespaces: usize,
    /// Managed policies that were created or changed.
    pub(crate) written: usize,
    /// Managed policies that were deleted from an applied namespace.
    pub(crate) deleted: usize,
    /// The smallest number of managed policies that an applied namespace had.
    pub(crate) fewest: Option<usize>,
}

impl History {
    /// The history from its beginning.
    pub(crate) fn new(etcd_port: u16) -> Self {
        let (policies, applied) = (BTreeMap::new(), BTreeSet::new());
        Self { port: etcd_port, next: 1, policies, applied, gaps: Vec::new(), seen: Seen::default() }
    }

    /// Reads up to now. An API server has etcd forget what is older than five minutes, so this is called more often.
    pub(crate) fn read(&mut self) {
        // A write of our own is the last event to wait for.
        let marker = json!({"key": BASE64.encode("/marker"), "value": ""});
        let mut answer = String::new();
        self.post("/v3/kv/put", &marker).read_to_string(&mut answer).unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let end = number(&answer["header"]["revision"]);

        let range = json!({"key": BASE64.encode("/"), "range_end": BASE64.encode("0"), "start_revision": self.next.to_string()});
        let mut stream = self.post("/v3/watch", &json!({"create_request": range}));
        let mut line = String::new();
        while self.next <= end {
            line.clear();
            assert!(stream.read_line(&mut line).unwrap() > 0, "etcd ended the watch");
            let message: Value = serde_json::from_str(&line).unwrap();
            let result = &message["result"];
            assert!(result["compact_revision"].is_null(), "the history was compacted before it was read: {line}");
            for event in result["events"].as_array().into_iter().flatten() {
                self.take(event);
            }
        }
    }

    fn take(&mut self, event: &Value) {
        let bytes = |field: &str| BASE64.decode(event["kv"][field].as_str().unwrap_or_default()).unwrap();
        let revision = number(&event["kv"]["mod_revision"]);
        self.next = self.next.max(revision + 1);
        let key = String::from_utf8(bytes("key")).unwrap();
        let is_deleted = event["type"] == "DELETE";
        if let Some(namespace) = key.strip_prefix("/registry/namespaces/") {
            let value = bytes("value");
            let has = |part: &[u8]| value.windows(part.len()).any(|window| window == part);
            if is_deleted || has(b"Terminating") {
                self.applied.remove(namespace);
            } else if has(APPLIED) && self.applied.insert(namespace.to_owned()) {
                self.seen.namespaces += 1;
                self.check(namespace, revision, "it was labelled as applied");
            }
        }
        let Some(policy) = key.strip_prefix("/registry/networkpolicies/") else { return };
        let Some((namespace, name)) = policy.split_once('/') else { return };
        if !name.starts_with("portcullis-") {
            return;
        }
        let policies = self.policies.entry(namespace.to_owned()).or_default();
        if is_deleted {
            policies.remove(name);
            if self.applied.contains(namespace) {
                self.seen.deleted += 1;
                self.check(namespace, revision, &format!("{name} was deleted"));
            }
        } else {
            self.seen.written += 1;
            policies.insert(name.to_owned());
        }
    }

    /// Records a gap if an applied namespace lacks a policy of its baseline.
    fn check(&mut self, namespace: &str, revision: u64, why: &str) {
        let none = BTreeSet::new();
        let policies = self.policies.get(namespace).unwrap_or(&none);
        self.seen.fewest = Some(self.seen.fewest.map_or(policies.len(), |fewest| fewest.min(policies.len())));
        let is_whole = BASELINE.iter().all(|name| policies.contains(*name))
            && policies.iter().any(|name| name.starts_with(PROFILE));
        if !is_whole {
            self.gaps.push(format!("{namespace} at revision {revision}: {why}, and it has {policies:?}"));
        }
    }

    /// Sends a request to the JSON gateway of etcd, and returns its answer from the body on.
    fn post(&self, path: &str, body: &Value) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let body = body.to_string();
        write!(stream, "POST {path} HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            assert!(stream.read_line(&mut line).unwrap() > 0, "etcd does not answer {path}");
        }
        stream
    }
}

/// A number as the gateway writes it: in quotes.
fn number(value: &Value) -> u64 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{value} is no number"))
}
