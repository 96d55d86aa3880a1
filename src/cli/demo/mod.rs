//! `portcullis demo`: the real server, real TLS, and reviews recorded from an API server.

mod client;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde_json::Value;
use tokio::sync::oneshot;

use super::self_signed::curl;
use super::{BOLD, FAINT, GREEN, OK, RED, YELLOW, block_on_all_cores};
use crate::admission::Knowledge;
use crate::baseline::PolicySet;
use crate::config::Configuration;
use crate::dialect::{self, Manifest, Origin};
use crate::pki;
use crate::server::{Certificates, Limits, Readiness, Server, Shared, Stop};
use crate::telemetry::Metrics;
use crate::view::View;

use client::Client;

/// Start a server on loopback, send it recorded reviews and show its decisions.
///
/// Needs no cluster and installs nothing. The server keeps running for your own requests until Ctrl-C.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Exit after the recorded reviews.
    #[arg(long)]
    once: bool,
    /// Listen on this loopback port [default: a free port].
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    port: u16,
}

/// One review of the demo.
struct Act {
    title: &'static str,
    endpoint: &'static str,
    review: &'static str,
}

macro_rules! review {
    ($name:literal) => {
        include_str!(concat!("../../../tests/admission-reviews/", $name, ".json"))
    };
}

/// The reviews, recorded from a kube-apiserver.
const ACTS: &[Act] = &[
    Act {
        title: "A policy allows `backend` to reach its database, but not DNS",
        endpoint: "/validate",
        review: review!("networkpolicy-create"),
    },
    Act {
        title: "A policy selects a peer but no port",
        endpoint: "/validate",
        review: review!("networkpolicy-create-port-any"),
    },
    Act {
        title: "A hostNetwork pod in a namespace with the profile `isolated`",
        endpoint: "/validate",
        review: review!("pod-create-host-network"),
    },
    Act {
        title: "An update adds a label to an existing policy and changes no rule",
        endpoint: "/validate",
        review: review!("networkpolicy-update-label"),
    },
    Act { title: "A new namespace without a profile label", endpoint: "/mutate", review: review!("namespace-create") },
    Act { title: "An ordinary Deployment", endpoint: "/validate", review: review!("deployment-create") },
];

/// The namespace in the view of the demo server.
const CONTEXT: &str =
    r#"{"metadata": {"name": "shop", "labels": {"network-policy.portcullis.dev/profile": "isolated"}}}"#;

pub(super) fn run(arguments: &Arguments) -> Result<u8> {
    block_on_all_cores(show(arguments))
}

async fn show(arguments: &Arguments) -> Result<u8> {
    let namespace = Manifest::read("v1", "Namespace", CONTEXT, Origin::Author)?;
    let configuration = Configuration::shipped()?;
    let policies = PolicySet::shipped(&configuration.site.label_domain)?;
    let knowledge = Knowledge::new(configuration, View::of(dialect::read(&namespace)?), policies);
    let shared = Arc::new(Shared {
        knowledge: ArcSwap::from_pointee(knowledge),
        lookup: None,
        readiness: Readiness::default(),
        metrics: Metrics::default(),
        limits: Limits::default(),
    });
    let ca = pki::new_ca("portcullis demo")?;
    let leaf = pki::new_leaf(&ca, &["localhost".into(), "127.0.0.1".into()])?;
    let certificates = Arc::new(Certificates::from_pem(&leaf, &shared)?);
    let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let server = Server::bind(shared, certificates, loopback(arguments.port), loopback(0)).await?;
    let (address, admin) = server.addresses()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(server.run(async move {
        let _ = stopped.await;
        Stop::Soon
    }));

    anstream::println!("{BOLD}Portcullis {}{BOLD:#} on https://{address}, loopback only.", env!("CARGO_PKG_VERSION"));
    anstream::println!("Recorded reviews of a kube-apiserver, sent over TLS, with the built-in configuration:\n");
    let client = Client::new(&ca.certificate, address)?;
    for (number, act) in ACTS.iter().enumerate() {
        let started = Instant::now();
        let (status, body) = client.post(act.endpoint, act.review.as_bytes()).await?;
        describe(number + 1, act, status, &body, started.elapsed().as_secs_f64() * 1000.0)?;
    }
    if !arguments.once {
        let files = Files::write(&ca.certificate)?;
        anstream::println!("{BOLD}Your turn.{BOLD:#} The server runs until Ctrl-C:\n");
        let review = format!("@{}", files.review().display());
        anstream::println!("  {}\n", curl(&files.ca(), address, &review));
        anstream::println!("{FAINT}Metrics: http://{admin}/metrics{FAINT:#}");
        tokio::signal::ctrl_c().await.context("failed to listen for Ctrl-C")?;
    }
    let _ = stop.send(());
    serving.await.context("the server failed")?;
    Ok(OK)
}

fn describe(number: usize, act: &Act, status: u16, body: &[u8], millis: f64) -> Result<()> {
    let request: Value = serde_json::from_str(act.review)?;
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let asked = |pointer: &str| text(request.pointer(pointer));
    let (kind, namespace, name) = (asked("/request/kind/kind"), asked("/request/namespace"), asked("/request/name"));
    // In a review of a Namespace, the API server sets `namespace` to the name of the object.
    let object = if kind == "Namespace" { name } else { format!("{namespace}/{name}") };
    anstream::println!("{BOLD}{number}. {}{BOLD:#}", act.title);
    anstream::println!("   {FAINT}POST {}: {} {kind} {object}{FAINT:#}", act.endpoint, asked("/request/operation"));
    let answer: Value = serde_json::from_slice(body).with_context(|| format!("HTTP {status}"))?;
    let response = answer.get("response").context("the response is not an AdmissionReview")?;
    let patch = response.get("patch").and_then(Value::as_str);
    let (style, word) = match (response.get("allowed"), patch) {
        (Some(Value::Bool(true)), Some(_)) => (YELLOW, "allowed, with a patch"),
        (Some(Value::Bool(true)), None) => (GREEN, "allowed"),
        _ => (RED, "denied"),
    };
    anstream::println!("   {style}{word}{style:#} {FAINT}({millis:.1} ms with the TLS handshake){FAINT:#}");
    for line in text(response.pointer("/status/message")).lines() {
        anstream::println!("     {line}");
    }
    for warning in response.get("warnings").and_then(Value::as_array).into_iter().flatten() {
        anstream::println!("     warning: {}", text(Some(warning)));
    }
    if let Some(patch) = patch {
        anstream::println!("     {}", String::from_utf8_lossy(&STANDARD.decode(patch)?));
    }
    anstream::println!();
    Ok(())
}

/// Files for requests of the user. They are deleted when the demo ends.
struct Files(PathBuf);

impl Files {
    fn write(ca: &str) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("portcullis-demo-{}", std::process::id()));
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let files = Self(folder);
        let write = |path: &Path, text: &str| std::fs::write(path, text).with_context(|| path.display().to_string());
        write(&files.ca(), ca)?;
        write(&files.review(), ACTS.first().map(|act| act.review).unwrap_or_default())?;
        Ok(files)
    }

    fn ca(&self) -> PathBuf {
        self.0.join("ca.pem")
    }

    fn review(&self) -> PathBuf {
        self.0.join("review.json")
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
