//! `portcullis serve`: the webhook server.

mod cluster;
mod contract_verifier;
mod webhook_keeper;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use arc_swap::ArcSwap;
use clap::{Args, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use self::cluster::Followers;
use self::webhook_keeper::WebhookArguments;
use super::connection::{connect, own_namespace};
use super::self_signed::{certificate_files, introduce};
use super::sources::{Sources, Texts};
use super::tasks::Tasks;
use super::tls::{self, TlsArguments};
use super::{OK, block_on_all_cores};
use crate::admission::Knowledge;
use crate::server::{Certificates, Limits, Readiness, Server, Shared, Stop};
use crate::telemetry::{self, Metrics};

/// Serve the admission webhooks over TLS.
///
/// The files of the configuration, policies, context and certificate are reloaded when they change. A broken file is
/// reported in the log, in /readyz and in metrics, and the last good state stays in force.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    portcullis serve --self-signed\n  \
    portcullis serve --tls-cert tls.crt --tls-key tls.key --config portcullis.yaml --context namespaces.yaml\n\n\
    Graceful shutdown: on SIGTERM the server reports not ready, serves for --stop-after, closes its connections \
    (GOAWAY, Connection: close) and answers the requests in flight. A second signal ends it at once.")]
pub(super) struct Arguments {
    /// Read the configuration from this file [default: the built-in configuration].
    #[arg(long, value_name = "FILE", env = "PORTCULLIS_CONFIG")]
    config: Option<PathBuf>,
    /// Read the baseline policies from this folder [default: the built-in policies].
    #[arg(long, value_name = "DIR", env = "PORTCULLIS_POLICIES")]
    policies: Option<PathBuf>,
    /// Add manifests of objects in the cluster, if no cluster is watched. Repeatable.
    #[arg(long, value_name = "PATH")]
    context: Vec<PathBuf>,
    /// Read contracts from these files and folders, besides those in the cluster. Repeatable.
    #[arg(long, value_name = "PATH")]
    contracts: Vec<PathBuf>,
    /// Serve the webhooks on this address [default: port 8443 of all addresses].
    #[arg(long, value_name = "ADDR:PORT", env = "PORTCULLIS_LISTEN")]
    listen: Option<SocketAddr>,
    /// Serve /livez, /readyz and /metrics over plain HTTP on this address [default: port 8080 of all addresses].
    #[arg(long, value_name = "ADDR:PORT", env = "PORTCULLIS_ADMIN_LISTEN")]
    admin_listen: Option<SocketAddr>,
    #[command(flatten)]
    tls: TlsArguments,
    #[command(flatten)]
    webhooks: WebhookArguments,
    /// Do not connect to a cluster: use only the manifests of --context.
    #[arg(long)]
    standalone: bool,
    /// Read the kubeconfig from this file [default: $KUBECONFIG; in a pod its service account; otherwise
    /// ~/.kube/config].
    #[arg(long, value_name = "FILE", conflicts_with = "standalone", env = "PORTCULLIS_KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// Use this context of the kubeconfig [default: its current context].
    #[arg(long, value_name = "NAME", conflicts_with = "standalone")]
    kube_context: Option<String>,
    /// Run the controller that applies the baseline policies to namespaces.
    ///
    /// One replica at a time leads, by a Lease in the namespace $POD_NAMESPACE [default: the namespace of the pod].
    #[arg(long, conflicts_with = "standalone")]
    controller: bool,
    /// Limit the number of requests in flight. Further requests are rejected with status 429.
    #[arg(long, value_name = "N", default_value_t = Limits::default().in_flight)]
    max_in_flight: usize,
    /// Limit the memory of the bodies of all requests in flight, in MiB. Further requests are rejected with status 429.
    ///
    /// Each evaluation thread may hold another 64 MiB.
    #[arg(long, value_name = "MIB", default_value_t = Limits::default().memory / MIB, value_parser = memory)]
    max_body_memory: usize,
    /// Keep serving for this time after SIGTERM, in seconds, so that clients can notice that the server is not ready.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    stop_after: Duration,
    /// Check the files for changes at this interval, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    reload_every: Duration,
    /// Write the log in this format.
    #[arg(long, value_enum, default_value_t = LogFormat::Json)]
    log_format: LogFormat,
    /// Log at this level: error, warn, info, debug (one line for each decision), or a filter such as info,hyper=debug.
    #[arg(long, value_name = "LEVEL", default_value = "info", env = "PORTCULLIS_LOG")]
    log_level: String,
}

/// The format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// One JSON object per line.
    Json,
    /// Text for people.
    Text,
}

/// Bytes of a MiB.
const MIB: usize = 1024 * 1024;

/// Parses a number of MiB with room for one body of the maximum size and for small ones beside it.
fn memory(text: &str) -> Result<usize, String> {
    let least = Limits::default().body / MIB * 4 / 3 + 1;
    match text.parse() {
        Ok(number) if number >= least => Ok(number),
        _ => Err(format!("expected a number of MiB, at least {least}")),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "expected a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

pub(super) fn run(arguments: Arguments) -> Result<u8> {
    let format = match arguments.log_format {
        LogFormat::Json => telemetry::Format::Json,
        LogFormat::Text => telemetry::Format::Text,
    };
    telemetry::init(format, &arguments.log_level).map_err(anyhow::Error::msg)?;
    block_on_all_cores(serve(arguments))
}

async fn serve(arguments: Arguments) -> Result<u8> {
    let sources = Sources {
        config: arguments.config.clone(),
        policies: arguments.policies.clone(),
        context: arguments.context.clone(),
        contracts: arguments.contracts.clone(),
    };
    sources.refuse_stdin()?;
    let cluster = match arguments.standalone {
        true => None,
        false => connect(arguments.kubeconfig.as_deref(), arguments.kube_context.as_deref()).await?,
    };
    if cluster.is_some() && !arguments.context.is_empty() {
        bail!("--context cannot be combined with a watched cluster; add --standalone to use no cluster");
    }
    let needs = [("--controller", arguments.controller), ("--tls-secret", arguments.tls.has_secret())];
    if let (None, Some((flag, _))) = (&cluster, needs.iter().find(|(_, is_given)| *is_given)) {
        bail!("{flag} needs a cluster; set --kubeconfig");
    }
    let lease_namespace = arguments.controller.then(|| own_namespace("--controller")).transpose()?;
    let secret = arguments.tls.secret()?;
    let planned = arguments.webhooks.plan(secret.as_ref(), cluster.is_some(), arguments.controller)?;
    let texts = sources.read()?;
    let limits = Limits {
        in_flight: arguments.max_in_flight,
        memory: arguments.max_body_memory.saturating_mul(MIB),
        stop_after: arguments.stop_after,
        ..Limits::default()
    };
    let metrics = Metrics::default();
    let files = Files { sources, lease_namespace: lease_namespace.clone() };
    let mut knowledge = files.understand(&texts)?;
    if cluster.is_some() {
        cluster::forget(&mut knowledge);
    }
    let shared = Arc::new(Shared {
        knowledge: ArcSwap::from_pointee(knowledge),
        lookup: cluster.as_ref().map(|cluster| cluster::lookup(cluster, &metrics)),
        readiness: Readiness::default(),
        metrics,
        limits,
    });
    let certificates = match &secret {
        Some(_) => Certificates::awaited(&shared)?,
        None => {
            let (certificate, key) = certificate_files(&arguments.tls)?;
            Certificates::from_files(&certificate, &key, &shared)?
        }
    };
    let certificates = Arc::new(match arguments.tls.clients() {
        Some(clients) => certificates.for_clients(clients, &shared)?,
        None => certificates,
    });
    let listen = arguments.listen.unwrap_or_else(|| everywhere(8443));
    let admin_listen = arguments.admin_listen.unwrap_or_else(|| everywhere(8080));
    let server = Server::bind(Arc::clone(&shared), Arc::clone(&certificates), listen, admin_listen).await?;
    let (address, admin) = server.addresses()?;
    if arguments.tls.self_signed {
        introduce(&arguments.tls, address)?;
    }
    tracing::info!(%address, %admin, version = env!("CARGO_PKG_VERSION"), "serving");

    let mut tasks = Tasks::new();
    let records = contract_verifier::start(&shared, &mut tasks);
    let mut followers =
        cluster.as_ref().map(|cluster| cluster::start(cluster, &shared, lease_namespace, records, &mut tasks));
    if followers.is_none() {
        tracing::info!("no cluster is watched; decisions use only the manifests of --context");
    }
    if let Some(cluster) = &cluster {
        let keeper = match &secret {
            Some(secret) => {
                let names = arguments.webhooks.certificate_names(&secret.namespace, &arguments.tls.tls_name)?;
                Some(tls::keeper(cluster.client.clone(), secret, &arguments.webhooks.webhook_name, names))
            }
            None => None,
        };
        if let (Some(planned), Some(followers)) = (planned, &mut followers) {
            let leads = followers.leads.clone();
            followers.webhooks = Some(planned.start(cluster, &shared, keeper.as_ref(), leads, &mut tasks)?);
        }
        if let Some(keeper) = keeper {
            let (certificates, shared, end) = (Arc::clone(&certificates), Arc::clone(&shared), tasks.ending());
            let keeping = async move { tls::keep(keeper, &certificates, &shared, &end).await };
            tasks.spawn("certificate keeper", keeping);
        }
    }
    let every = arguments.reload_every.max(Duration::from_millis(50));
    let watching = {
        let (shared, end) = (Arc::clone(&shared), tasks.ending());
        async move { certificates.watch(every, &shared, end).await }
    };
    tasks.spawn("certificate reload", watching);
    let reloading = {
        let (shared, end) = (Arc::clone(&shared), tasks.ending());
        async move { reload(&files, texts, every, &shared, followers.as_ref(), end).await }
    };
    tasks.spawn("file reload", reloading);
    run_beside(server, tasks).await
}

/// Runs the server until a signal arrives or one of the tasks ends. A task that ends is an error.
async fn run_beside(server: Server, mut tasks: Tasks) -> Result<u8> {
    let mut fault = None;
    let broken = async { fault = Some(tasks.broken().await) };
    server.run(stop(broken)?).await;
    tasks.end().await;
    fault.map_or(Ok(OK), Err)
}

/// Returns this port on all addresses of IPv6 and IPv4, or of IPv4 alone if the host has no IPv6.
fn everywhere(port: u16) -> SocketAddr {
    let both = (Ipv6Addr::UNSPECIFIED, port);
    match std::net::TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)) {
        Ok(_) => both.into(),
        Err(_) => (Ipv4Addr::UNSPECIFIED, port).into(),
    }
}

/// The files of the server.
struct Files {
    sources: Sources,
    /// The namespace in which the controller runs. The configuration has to name it.
    lease_namespace: Option<String>,
}

impl Files {
    fn understand(&self, texts: &Texts) -> Result<Knowledge> {
        let knowledge = texts.understand()?;
        if let Some(namespace) = &self.lease_namespace {
            cluster::expect_namespace(&knowledge.configuration.site, namespace)?;
        }
        Ok(knowledge)
    }
}

/// Reads the files again at an interval, and puts changes in force if they are valid.
async fn reload(
    files: &Files,
    mut seen: Texts,
    every: Duration,
    shared: &Shared,
    followers: Option<&Followers>,
    end: CancellationToken,
) {
    let mut unreadable = false;
    while end.run_until_cancelled(tokio::time::sleep(every)).await.is_some() {
        let understood = match files.sources.read() {
            Ok(texts) if texts == seen && !unreadable => continue,
            Ok(texts) => {
                unreadable = false;
                let understood = files.understand(&texts);
                seen = texts;
                understood
            }
            // A missing file is reported once, and read again when it is back.
            Err(_) if unreadable => continue,
            Err(error) => {
                unreadable = true;
                Err(error)
            }
        };
        shared.metrics.configuration_reloaded(understood.is_ok());
        match understood {
            Ok(knowledge) => {
                // The view of a watched cluster stays: only the parts from files are replaced here.
                shared.knowledge.rcu(|known| known.with_files(&knowledge));
                if let Some(followers) = followers {
                    followers.tell(&knowledge);
                }
                shared.readiness.configuration(None);
                tracing::info!("reloaded changed files");
            }
            Err(error) => {
                let fault = format!("{error:#}");
                tracing::error!(%fault, "failed to reload changed files; the last good state stays in force");
                shared.readiness.configuration(Some(fault));
            }
        }
    }
}

/// Completes on the first signal or when a task is broken. A second signal ends the process at once.
fn stop(broken: impl Future<Output = ()>) -> Result<impl Future<Output = Stop>> {
    let mut terminate = signal(SignalKind::terminate()).context("failed to install a signal handler")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to install a signal handler")?;
    Ok(async move {
        let stop = tokio::select! {
            _ = terminate.recv() => Stop::Gracefully,
            _ = interrupt.recv() => Stop::Soon,
            // The current view is good enough to keep serving until the clients have noticed the shutdown.
            () = broken => Stop::Gracefully,
        };
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {},
                _ = interrupt.recv() => {},
            }
            tracing::warn!("second signal received; exiting at once");
            #[allow(clippy::exit, reason = "a second signal means that the user does not want to wait")]
            std::process::exit(130);
        });
        stop
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_beside_which_something_is_broken_ends_and_says_so() {
        let sources = Sources::default();
        let shared = Arc::new(Shared {
            knowledge: ArcSwap::from_pointee(sources.read().unwrap().understand().unwrap()),
            lookup: None,
            readiness: Readiness::default(),
            metrics: Metrics::default(),
            limits: Limits { stop_after: Duration::from_millis(1), ..Limits::default() },
        });
        let certificates = Arc::new(Certificates::awaited(&shared).unwrap());
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        let server = Server::bind(Arc::clone(&shared), certificates, any, any).await.unwrap();
        let mut tasks = Tasks::new();
        tasks.spawn("cluster watches", async { panic!("no such thing") });
        let fault = run_beside(server, tasks).await.unwrap_err().to_string();
        assert!(fault.starts_with("task `cluster watches` failed: ") && fault.contains("no such thing"), "{fault}");
        assert!(shared.readiness.is_stopping(), "in order");
    }
}
