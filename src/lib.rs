//! Admission control for Kubernetes network policy: parses policies of four dialects, evaluates their combined effect, and
//! reports or denies changes that break workloads or open them.
//!
//! The crate is the library of the `portcullis` binary. Its decision modules are pure: they do no I/O, read no clock and
//! start no thread, so a tool or a test can call them without a cluster.
//!
//! # From a manifest to a verdict
//!
//! 1. [`yaml::read`] parses a file into documents as `kubectl` does, with the line of each part.
//! 2. [`dialect::read_value`] converts a manifest into a [`model::Object`], independent of its dialect.
//! 3. [`view::View`] holds the other objects of the cluster: namespaces, policies, workloads and Services.
//! 4. [`engine::judge_within_budget`] evaluates the [`rules`] of a [`config::Configuration`] for one
//!    [`Change`](rules::Change) of an object.
//! 5. The [`Verdict`](engine::Verdict) lists the findings, each with its [action](engine::Judgement::action).
//!
//! A webhook uses [`admission::validate`] and [`admission::mutate`] instead. They map the bytes of an AdmissionReview to
//! the bytes of its response.
//!
//! # Check a policy
//!
//! The policy isolates its pods for egress and allows port 443 only, so the pods cannot resolve names:
//!
//! ```
//! use portcullis::{config::Configuration, dialect, engine, rules, view::View, yaml};
//!
//! let manifest = "
//! apiVersion: networking.k8s.io/v1
//! kind: NetworkPolicy
//! metadata: {name: web, namespace: shop}
//! spec:
//!   podSelector: {matchLabels: {app: web}}
//!   policyTypes: [Egress]
//!   egress: [{ports: [{port: 443}]}]
//! ";
//! let document = &yaml::read(manifest)?[0];
//! let policy = dialect::read_value(&document.value)?.ok_or("the kind is not supported")?;
//! let change = rules::Change::Write { new: &policy, old: None };
//! let occasion = rules::Occasion::default();
//! let verdict = engine::judge_within_budget(&Configuration::shipped()?, &View::default(), change, occasion);
//!
//! for judgement in &verdict.judgements {
//!     let finding = &judgement.finding;
//!     println!("{}: {}\n  at {}\n  help: {}", finding.rule, finding.message, finding.path, finding.help);
//! }
//! assert!(verdict.denies());
//! assert_eq!(verdict.judgements[0].finding.rule, "dns-blocked");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Evaluate a connection
//!
//! [`trace::resolve`] finds the ends of a connection in a view, and [`trace::explain`] evaluates the policies of both ends
//! and names the deciding rule:
//!
//! ```
//! use portcullis::{dialect, trace, view::{Scene, View}, yaml};
//!
//! let manifests = "
//! {apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop, labels: {app: web}}}
//! ---
//! {apiVersion: v1, kind: Pod, metadata: {name: api, namespace: shop, labels: {app: api}}}
//! ---
//! apiVersion: networking.k8s.io/v1
//! kind: NetworkPolicy
//! metadata: {name: api, namespace: shop}
//! spec:
//!   podSelector: {matchLabels: {app: api}}
//!   ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 8080}]}]
//! ";
//! let mut view = View::default();
//! for document in yaml::read(manifests)? {
//!     view.insert(dialect::read_value(&document.value)?.ok_or("the kind is not supported")?);
//! }
//! let from = trace::resolve(&view, "shop/web", None, "default")?;
//! let verdict = |target: &str| -> Result<_, Box<dyn std::error::Error>> {
//!     let target = trace::parse_target(target)?;
//!     let to = trace::resolve(&view, &target.end, target.port.as_ref(), "default")?;
//!     Ok(trace::explain(Scene::of(&view), &from[0], &to[0])[0].verdict)
//! };
//! assert_eq!(verdict("shop/api:8080")?, trace::Verdict::Allowed);
//! assert_eq!(verdict("shop/api:9090")?, trace::Verdict::Blocked);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`model::connect`] is the function below it: it returns the policies and rules themselves.
//!
//! # Modules
//!
//! | modules | task |
//! |---|---|
//! | [`yaml`], [`dialect`], [`model`] | manifests and their meaning |
//! | [`view`], [`config`], [`rules`], [`engine`], [`budget`] | the evaluation of one change |
//! | [`admission`] | AdmissionReview requests and responses |
//! | [`trace`], [`contract`], [`preview`], [`audit`] | connections: one, all that a contract covers, those that a change affects, all of a cluster |
//! | [`baseline`], [`backstop`] | generated policies: of a namespace, and as ValidatingAdmissionPolicies |
//! | [`cli`], [`server`], [`cluster`], [`controller`], [`telemetry`], [`pki`] | the binary: commands, TLS listener, watches, writes, metrics, certificates |
//!
//! `docs/architecture.md` in the repository describes the design.
//!
//! # Features
//!
//! | feature | default | effect |
//! |---|---|---|
//! | `mimalloc` | yes | the allocator of the binary. The library never sets an allocator |
//!
//! # Stability
//!
//! The crate is not published, and its Rust API may change with every commit, so pin one. The name of a rule never changes.
//! The modules of the binary are public only for the tests and benchmarks in this repository.
//!
//! # Limits
//!
//! - Minimum supported Rust version: 1.89.
//! - [`engine::judge`] without a [`budget`] has no bound on time; [`engine::judge_within_budget`] stops after
//!   [`budget::MAX_STEPS`] steps or [`budget::MAX_BYTES`] bytes, with the finding `too-complex`.
//! - Kinds and fields: `docs/dialects` in the repository. [`dialect::read_value`] returns `None` for other kinds.
//! - A missing object in the view is unknown, not absent. [`view::View::of_cluster`] creates a view of a whole cluster.

#[macro_use]
mod json;

pub mod admission;
pub mod audit;
pub mod backstop;
pub mod baseline;
pub mod budget;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod contract;
pub mod controller;
pub mod dialect;
pub mod engine;
pub mod model;
pub mod pki;
pub mod preview;
pub mod proposal;
pub mod recommendation;
pub mod rules;
pub mod server;
pub mod telemetry;
pub mod trace;
pub mod view;
pub mod yaml;
