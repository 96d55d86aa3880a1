//! The policies that ship pass the rules that ship, and are what the API takes.

use crate::objects::object;
use crate::shipped::{CONFIGURATION, POLICIES};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use portcullis::baseline::{Catalogue, PolicySet};
use portcullis::config::Configuration;
use portcullis::dialect::{self, Manifest, Origin};
use portcullis::engine::judge;
use portcullis::model::Direction::{Egress, Ingress};
use portcullis::model::{
    AddressSet, Direction, End, Endpoint, Labels, Names, Object, Protocol, Question, Subject, Traffic,
};
use portcullis::rules::{Change, Occasion};
use portcullis::view::{Scene, Site, View};
use serde_json::{Value, json};

/// The manifests that the controller applies once, for all the namespaces that they select.
fn due_to_the_cluster(policies: &PolicySet, site: &Site) -> Vec<Value> {
    let catalogue = Catalogue::of(Arc::new(site.clone()), policies);
    let of_cluster = catalogue.entries().iter().filter(|entry| entry.of_cluster);
    of_cluster.map(|entry| entry.manifest.clone()).collect()
}

#[test]
fn what_ships_gets_no_finding_as_folders() {
    for set in ["", "cilium/", "calico/"] {
        let folders = ["baseline", "profiles", "access"].map(|folder| format!("policies/{set}{folder}"));
        let (passes, text) = check(&folders);
        assert!(passes && text.contains("no findings in "), "{text}");
    }
}

/// Whoever applies it by hand is told what it is.
#[test]
fn the_hatch_is_denied_to_people() {
    for set in ["", "cilium/", "calico/"] {
        let (passes, text) = check(&[format!("policies/{set}hatch")]);
        assert!(!passes && text.contains("any-port") && text.contains("ingress"), "{set}: {text}");
    }
}

/// Whether these paths pass, and what is said.
fn check(paths: &[String]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .arg("check")
        .args(paths)
        .output()
        .unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn what_a_namespace_is_due_gets_no_finding_whatever_it_asks_for() {
    let (site, policies) = (&CONFIGURATION.site, &*POLICIES);
    policies.check(site).unwrap();
    for profile in &site.profiles.names {
        for chosen in 0..(1u32 << site.access.len()) {
            let access = site.access.iter().enumerate().filter(|(bit, _)| chosen & (1 << bit) != 0);
            let labels: Labels = access
                .map(|(_, name)| (site.access_label(name), "true".to_owned()))
                .chain([(site.profile_label(), profile.clone())])
                .collect();
            let due = policies.due(site, "shop", &labels);
            let objects: Vec<Object> = due
                .iter()
                .map(|value| {
                    let json = value.to_string();
                    let manifest =
                        Manifest::read("networking.k8s.io/v1", "NetworkPolicy", &json, Origin::Author).unwrap();
                    dialect::read(&manifest).unwrap().unwrap()
                })
                .collect();
            let view = View::of(objects.clone());
            for object in &objects {
                let verdict =
                    judge(&CONFIGURATION, &view, Change::Write { new: object, old: None }, Occasion::default());
                assert!(verdict.judgements.is_empty(), "{labels}: {:#?}", verdict.judgements);
            }
            for value in due {
                let typed: NetworkPolicy = serde_json::from_value(value.clone()).unwrap();
                assert_eq!(
                    serde_json::to_value(typed).unwrap()["spec"],
                    value["spec"],
                    "a field that the API does not have"
                );
            }
        }
    }
}

/// The configuration that ships, with another set of policies and another domain.
fn configured(set: &str, domain: &str) -> Configuration {
    let text = format!(
        "apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\npolicySet: {set}\nlabelDomain: {domain}\nplatformNamespaces: \
         [kube-system, monitoring, istio-system, istio-gateway, database]\n"
    );
    Configuration::read(&text).unwrap()
}

#[test]
fn policies_of_the_cluster_get_no_finding_and_follow_the_domain_of_the_labels() {
    for set in ["cilium", "calico"] {
        let configuration = configured(set, "policy.example.com");
        let site = &configuration.site;
        let policies = PolicySet::shipped(&site.label_domain).unwrap();
        policies.check(site).unwrap();
        let labels: Labels = [(site.profile_label(), "standard".to_owned())].into_iter().collect();
        assert!(policies.due(site, "shop", &labels).is_empty(), "there is nothing for each namespace");
        let due = due_to_the_cluster(&policies, site);
        assert_eq!(due.len(), 4 + site.profiles.names.len() + site.access.len() + 1, "{set}");
        // All but the hatch, which is a hole on purpose.
        let objects = due.iter().map(object).filter(|object| !object.id.name.starts_with("portcullis-hatch"));
        let objects: Vec<Object> = objects.collect();
        let view = View::of(objects.clone());
        for object in &objects {
            assert!(object.id.namespace.is_none() && object.faults.is_empty(), "{:?}", object.faults);
            let verdict = judge(&configuration, &view, Change::Write { new: object, old: None }, Occasion::default());
            assert!(verdict.judgements.is_empty(), "{set}: {:#?}", verdict.judgements);
            assert!(object.policies().iter().all(|policy| policy.subject.to_string().contains("policy.example.com/")));
        }
        // Policies for a domain that nobody's labels have would select nothing.
        let stale = PolicySet::shipped("network-policy.portcullis.dev").unwrap().check(site).unwrap_err().to_string();
        assert!(stale.contains("must select only namespaces with the label `policy.example.com/profile`"), "{stale}");
    }
}

/// What a pod of a namespace wants, and the profiles (or the access) that let it.
struct Wish {
    direction: Direction,
    /// Namespace and label of the pod at the other end, or its address.
    other: Result<(&'static str, &'static str, &'static str), &'static str>,
    protocol: Protocol,
    port: u16,
    profiles: &'static [&'static str],
    access: Option<&'static str>,
}

const EVERY: &[&str] = &["isolated", "internal", "internal-egress", "standard"];

const fn wish(
    direction: Direction,
    other: Result<(&'static str, &'static str, &'static str), &'static str>,
    port: u16,
    profiles: &'static [&'static str],
) -> Wish {
    Wish { direction, other, protocol: Protocol::Tcp, port, profiles, access: None }
}

/// The address from which the mesh sends IPv6 probes.
const MESH_PROBES_V6: &str = "fd16:9254:7127:1337:ffff:ffff:ffff:ffff";
const GATEWAY: &str = "gateway.networking.k8s.io/gateway-name";
const WISHES: &[Wish] = &[
    wish(Egress, Ok(("kube-system", "k8s-app", "kube-dns")), 53, EVERY),
    Wish { protocol: Protocol::Udp, ..wish(Egress, Ok(("kube-system", "k8s-app", "kube-dns")), 53, EVERY) },
    wish(Egress, Ok(("kube-system", "k8s-app", "other")), 53, &[]),
    wish(Egress, Err("203.0.113.9"), 443, &["internal-egress", "standard"]),
    wish(Egress, Err("203.0.113.9"), 80, &[]),
    wish(Egress, Err("169.254.169.254"), 443, &[]),
    wish(Egress, Err("169.254.169.254"), 80, &[]),
    wish(Egress, Ok(("shop", "app", "other")), 8080, &[]),
    wish(Ingress, Ok(("istio-gateway", GATEWAY, "internal")), 8080, &["internal", "internal-egress", "standard"]),
    wish(Ingress, Ok(("istio-gateway", GATEWAY, "external")), 8080, &["standard"]),
    wish(Ingress, Ok(("istio-gateway", GATEWAY, "external")), 5432, &[]),
    wish(Ingress, Ok(("monitoring", "app.kubernetes.io/name", "prometheus")), 9090, EVERY),
    wish(Ingress, Ok(("monitoring", "app.kubernetes.io/name", "grafana")), 9090, &[]),
    wish(Ingress, Err("169.254.7.127"), 8080, EVERY),
    wish(Ingress, Err("203.0.113.9"), 8080, &[]),
    wish(Ingress, Ok(("shop", "app", "other")), 8080, &[]),
    wish(Ingress, Ok(("istio-system", "app", "ztunnel")), 15_008, &[]),
    wish(Egress, Ok(("istio-system", "app", "ztunnel")), 15_008, &[]),
    wish(Ingress, Ok(("meshed", "app", "other")), 15_008, &[]),
    wish(Ingress, Err(MESH_PROBES_V6), 8080, &[]),
    Wish { access: Some("mesh"), ..wish(Ingress, Ok(("istio-system", "app", "ztunnel")), 15_008, EVERY) },
    Wish { access: Some("mesh"), ..wish(Egress, Ok(("istio-system", "app", "ztunnel")), 15_008, EVERY) },
    Wish { access: Some("mesh"), ..wish(Ingress, Ok(("meshed", "app", "other")), 15_008, EVERY) },
    Wish { access: Some("mesh"), ..wish(Egress, Ok(("meshed", "app", "other")), 15_008, EVERY) },
    Wish { access: Some("mesh"), ..wish(Egress, Ok(("meshed", "app", "other")), 8080, &[]) },
    Wish { access: Some("mesh"), ..wish(Ingress, Ok(("plain", "app", "other")), 15_008, &[]) },
    Wish { access: Some("mesh"), ..wish(Egress, Ok(("plain", "app", "other")), 15_008, &[]) },
    Wish { access: Some("mesh"), ..wish(Ingress, Err(MESH_PROBES_V6), 8080, EVERY) },
    Wish { access: Some("mesh"), ..wish(Ingress, Err("203.0.113.9"), 15_008, &[]) },
    wish(Egress, Ok(("database", "cnpg.io/podRole", "instance")), 5432, &[]),
    Wish { access: Some("postgres"), ..wish(Egress, Ok(("database", "cnpg.io/podRole", "instance")), 5432, EVERY) },
    Wish { access: Some("postgres"), ..wish(Egress, Ok(("database", "cnpg.io/podRole", "instance")), 5433, &[]) },
];

/// The three sets say the same, each in its dialect: for every profile and for every wish the engine gives the same answer.
#[test]
fn the_sets_of_all_dialects_mean_the_same() {
    let mut asked = 0;
    for set in ["kubernetes", "cilium", "calico"] {
        let configuration = configured(set, "network-policy.portcullis.dev");
        let site = &configuration.site;
        let policies = PolicySet::shipped(&site.label_domain).unwrap();
        for profile in EVERY {
            for wish in WISHES {
                let access = wish.access.map(|name| (site.access_label(name), "true".to_owned()));
                let labels: Vec<(String, String)> =
                    [(site.profile_label(), (*profile).to_owned())].into_iter().chain(access).collect();
                let namespace = json!({
                    "apiVersion": "v1",
                    "kind": "Namespace",
                    "metadata": {"name": "shop", "labels": labels.iter().cloned().collect::<BTreeMap<_, _>>()},
                });
                let other = |name: &str, labels: Value| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
                let others = [
                    other("meshed", json!({"istio.io/dataplane-mode": "ambient"})),
                    other("plain", json!({})),
                    other("istio-system", json!({})),
                ];
                let due = policies.due(site, "shop", &labels.into_iter().collect());
                let of_cluster = due_to_the_cluster(&policies, site);
                let all = due.into_iter().chain(of_cluster).chain([namespace]).chain(others);
                let view = View::of(all.map(|value| object(&value)));

                let own = [("app", "web")].into_iter().collect();
                let pod = |namespace, labels, addresses| Endpoint {
                    labels,
                    complete: true,
                    account: Some("default"),
                    addresses,
                    ..Endpoint::unknown(namespace)
                };
                let (here, there) = ([IpAddr::from([10, 0, 0, 1])], [IpAddr::from([10, 0, 0, 2])]);
                let (labels, set_of);
                let other = match wish.other {
                    Ok((namespace, key, value)) => {
                        labels = [(key, value)].into_iter().collect::<Labels>();
                        End::Pod(pod(namespace, &labels, &there))
                    }
                    Err(address) => {
                        set_of = AddressSet::from(address.parse::<IpAddr>().unwrap());
                        End::Addresses { set: &set_of, outside: true }
                    }
                };
                let traffic = Traffic::Port { protocol: wish.protocol, number: wish.port, names: Names::Exactly(&[]) };
                let subject = Subject::One(pod("shop", &own, &here));
                let question = Question { subject, direction: wish.direction, other, traffic };
                let scene = Scene::of(&view);
                let answer = scene.ask(scene.policies("shop"), &question);
                let told = format!("{set}, {profile}: {} {:?} {}: {answer:#?}", wish.direction, wish.other, wish.port);
                // A network set that is not known may match what Calico selects by labels.
                let may_be_in_set = set == "calico" && wish.other.is_err();
                assert!(answer.assumed.is_empty() || may_be_in_set, "{told}");
                assert_eq!(answer.passes(), wish.profiles.contains(profile), "{told}");
                asked += 1;
            }
        }
    }
    assert_eq!(asked, 3 * EVERY.len() * WISHES.len());
}
