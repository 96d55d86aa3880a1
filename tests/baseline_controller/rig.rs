//! A control plane with controllers that work on it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::ApiResource;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use portcullis::baseline::PolicySet;
use portcullis::cluster::{Cluster, Served};
use portcullis::config::Configuration;
use portcullis::controller::{self, Controller, Limits, RemovalLimits, Terms, Wanted};
use portcullis::telemetry::Metrics;
use portcullis::view::{Site, View};
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::feed;
use crate::support::control_plane::{ControlPlane, Output};

/// How long what is waited for may take.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const DOMAIN: &str = "network-policy.portcullis.dev";

/// A control plane, and what controllers are told.
pub(crate) struct Rig {
    pub(crate) plane: ControlPlane,
    pub(crate) runtime: Runtime,
    pub(crate) client: Client,
    pub(crate) site: Arc<Site>,
    pub(crate) wanted: watch::Sender<Wanted>,
    views: watch::Receiver<Arc<View>>,
}

/// A controller that runs.
pub(crate) struct Replica {
    metrics: Metrics,
    stop: CancellationToken,
    task: JoinHandle<()>,
    pub(crate) running: watch::Receiver<bool>,
    served: Arc<ArcSwap<Served>>,
}

impl Rig {
    pub(crate) fn start() -> Option<Self> {
        let plane = ControlPlane::start()?;
        let runtime = Runtime::new().unwrap();
        let text = std::fs::read_to_string(plane.kubeconfig()).unwrap();
        let kubeconfig = Kubeconfig::from_yaml(&text).unwrap();
        let client = runtime.block_on(async {
            let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
            Client::try_from(config).unwrap()
        });
        let text = "apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\nbaseline: {gate: true}\n";
        let site = Arc::new(Configuration::read(text).unwrap().site);
        let policies = Arc::new(PolicySet::shipped(&site.label_domain).unwrap());
        let (wanted, _) = watch::channel(Wanted { site: Arc::clone(&site), policies });
        let (sender, views) = watch::channel(Arc::default());
        runtime.spawn(feed::run(client.clone(), wanted.subscribe(), sender));
        Some(Self { plane, runtime, client, site, wanted, views })
    }

    /// Starts a controller.
    pub(crate) fn replica(&self, identity: &str) -> Replica {
        self.replica_that_sees(identity, self.views.clone())
    }

    /// Starts a controller that has watches of its own.
    pub(crate) fn replica_that_sees(&self, identity: &str, views: watch::Receiver<Arc<View>>) -> Replica {
        self.replica_of("default", identity, views)
    }

    /// Starts a controller of the installation in this namespace.
    pub(crate) fn replica_in(&self, namespace: &str, identity: &str) -> Replica {
        self.replica_of(namespace, identity, self.views.clone())
    }

    fn replica_of(&self, namespace: &str, identity: &str, views: watch::Receiver<Arc<View>>) -> Replica {
        let mut served = Served::default();
        served.insert(ApiResource::erase::<NetworkPolicy>(&()), true);
        served.insert(feed::resource("cilium.io", "v2", "CiliumNetworkPolicy", "ciliumnetworkpolicies"), true);
        let served = Arc::new(ArcSwap::from_pointee(served));
        let (metrics, stop) = (Metrics::default(), CancellationToken::new());
        let (told, running) = watch::channel(false);
        let controller = Controller {
            cluster: Cluster { client: self.client.clone(), server: String::new(), served: Arc::clone(&served) },
            namespace: namespace.into(),
            identity: identity.into(),
            terms: Terms {
                lease: Duration::from_millis(1500),
                renew: Duration::from_millis(300),
                give_up: Duration::from_millis(900),
                retry: Duration::from_millis(200),
            },
            limits: Limits {
                resync: Duration::from_millis(500),
                settle: Duration::from_millis(150),
                brake: RemovalLimits { notice: Duration::from_secs(1), every: Duration::from_secs(1), percent: 100 },
                ..Limits::default()
            },
            views,
            wanted: self.wanted.subscribe(),
            metrics: metrics.baseline.clone(),
            running: told,
            leads: watch::channel(false).0,
        };
        let task = self.runtime.spawn(controller::run(controller, stop.clone()));
        Replica { metrics, stop, task, running, served }
    }

    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Output {
        let output = self.plane.kubectl(arguments);
        assert!(output.ok, "{arguments:?}: {output}");
        output
    }

    /// Makes a namespace as `/mutate` would: its baseline is pending.
    pub(crate) fn namespace(&self, name: &str, labels: &[&str]) {
        let all = labels.iter().map(|label| format!("    {label}\n")).collect::<String>();
        let manifest = format!(
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n  labels:\n    {DOMAIN}/baseline: pending\n{all}"
        );
        let output = self.plane.run_create(&manifest);
        assert!(output.ok, "{output}");
    }

    /// Says that other things are said about the cluster from now on.
    pub(crate) fn configure(&self, change: impl FnOnce(&mut Site)) {
        let mut site = Site::clone(&self.site);
        change(&mut site);
        self.wanted.send_modify(|wanted| wanted.site = Arc::new(site));
    }

    /// Lets nobody add policies to a namespace.
    pub(crate) fn fill(&self, namespace: &str) {
        let count = "count/networkpolicies.networking.k8s.io";
        let hard = format!("--hard={count}=0");
        self.kubectl(&["create", "quota", "none", "--namespace", namespace, &hard]);
        // Nobody else keeps count of quotas here.
        let status = serde_json::json!({"status": {"hard": {count: "0"}, "used": {count: "0"}}}).to_string();
        let patch =
            ["patch", "quota", "none", "--namespace", namespace, "--subresource=status", "--type=merge", "--patch"];
        self.kubectl(&[&patch[..], &[&status]].concat());
    }

    /// Lets policies be added to a namespace again.
    pub(crate) fn clear(&self, namespace: &str) {
        self.kubectl(&["delete", "quota", "none", "--namespace", namespace]);
        // Nobody watches quotas, and what failed often waits long.
        self.kubectl(&["annotate", "namespace", namespace, "example.com/news=some"]);
    }

    /// The names of the policies in a namespace, with their resourceVersions.
    pub(crate) fn policies(&self, namespace: &str) -> BTreeMap<String, String> {
        // kubectl prints nothing where there is none.
        let list = self.plane.stored(&["networkpolicies", "--namespace", namespace]).unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let items = list["items"].as_array().into_iter().flatten();
        items.map(|item| (text(&item["metadata"]["name"]), text(&item["metadata"]["resourceVersion"]))).collect()
    }

    /// A policy as it is stored.
    pub(crate) fn policy(&self, namespace: &str, name: &str) -> Option<Value> {
        self.plane.stored(&["networkpolicy", name, "--namespace", namespace])
    }

    /// A namespace as it is stored.
    pub(crate) fn stored(&self, namespace: &str) -> Value {
        self.plane.stored(&["namespace", namespace]).unwrap()
    }

    /// What the status annotation of a namespace says.
    pub(crate) fn status(&self, namespace: &str) -> String {
        let stored = self.stored(namespace);
        stored["metadata"]["annotations"][self.site.status_annotation()].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until everything is applied to a namespace.
    pub(crate) fn until_applied(&self, namespace: &str, layers: &str) {
        let expected = format!("applied: {layers}");
        until(&format!("{namespace} is {expected}"), || {
            let stored = self.stored(namespace);
            stored["metadata"]["labels"][self.site.baseline_label()] == "applied"
                && stored["metadata"]["annotations"][self.site.status_annotation()] == *expected
        });
    }

    /// The notes of the Events on a namespace for a reason.
    pub(crate) fn events(&self, namespace: &str, reason: &str) -> Vec<String> {
        let list = self.plane.stored(&["events.events.k8s.io", "--namespace", "default"]).unwrap_or_default();
        let items = list["items"].as_array().into_iter().flatten();
        let ours = items.filter(|event| event["regarding"]["name"] == namespace && event["reason"] == reason);
        ours.map(|event| event["note"].as_str().unwrap_or_default().to_owned()).collect()
    }
}

impl Replica {
    /// Tells it that the API server serves cluster-wide policies by now.
    pub(crate) fn serve_cluster_wide(&self) {
        let mut served = Served::clone(&self.served.load());
        for (group, version, kind, plural) in feed::CLUSTER_WIDE {
            served.insert(feed::resource(group, version, kind, plural), false);
        }
        self.served.store(Arc::new(served));
    }

    /// A number among its metrics.
    pub(crate) fn metric(&self, series: &str) -> Option<f64> {
        let text = self.metrics.text();
        text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    }

    pub(crate) fn leads(&self) -> bool {
        self.metric("portcullis_leader") == Some(1.0)
    }

    /// How many requests it has sent that write.
    pub(crate) fn writes(&self) -> f64 {
        let what = ["apply", "replace", "delete", "mark", "lift", "hatch"];
        what.iter()
            .filter_map(|what| self.metric(&format!("portcullis_baseline_writes_total{{what=\"{what}\"}}")))
            .sum()
    }

    /// Waits until it has looked at namespaces so many times more, and found nothing to do.
    pub(crate) fn until_quiet(&self, times: f64) {
        let unchanged = || self.metric("portcullis_baseline_reconciles_total{result=\"unchanged\"}").unwrap();
        let before = unchanged();
        until("resyncs without work", || unchanged() >= before + times);
    }

    /// Ends it as SIGTERM would.
    pub(crate) fn stop(mut self, runtime: &Runtime) {
        self.stop.cancel();
        runtime.block_on(&mut self.task).unwrap();
        self.has_ended();
    }

    /// Ends it as a crash would: the lease is not given back.
    pub(crate) fn crash(mut self, runtime: &Runtime) {
        self.task.abort();
        assert!(runtime.block_on(&mut self.task).is_err_and(|error| error.is_cancelled()));
        self.has_ended();
    }

    /// Whoever does not work says so, whatever it was that ended the work.
    fn has_ended(&self) {
        assert_eq!(self.metric("portcullis_leader"), Some(0.0));
        assert!(!*self.running.borrow(), "it does not know whether others work");
    }
}

/// Waits until something holds.
#[track_caller]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not in {} s: {what}", PATIENCE.as_secs());
        thread::sleep(Duration::from_millis(30));
    }
}
