//! The policies that ship pass the rules that ship, and are what the API takes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so by a panic"
)]

use std::process::Command;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use portcullis::baseline::PolicySet;
use portcullis::config::Configuration;
use portcullis::dialect::{self, Manifest, Origin};
use portcullis::engine::judge;
use portcullis::model::{Labels, Object};
use portcullis::rules::Change;
use portcullis::view::View;

#[test]
fn what_ships_gets_no_finding_as_a_folder() {
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["check", "policies"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.ends_with("0 denied, 0 warnings\n"), "{text}");
}

#[test]
fn what_a_namespace_is_due_gets_no_finding_whatever_it_asks_for() {
    let configuration = Configuration::shipped().unwrap();
    let site = &configuration.site;
    let policies = PolicySet::shipped(&site.label_domain).unwrap();
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
                let verdict = judge(&configuration, &view, Change::Write { new: object, old: None });
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
