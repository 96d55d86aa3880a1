//! `portcullis init`.

use std::path::Path;

use crate::support::command::run;
use crate::support::golden;

fn init(arguments: &[&str]) -> String {
    let done = run(&[&["init"], arguments].concat(), "");
    assert_eq!(done.code, 0, "{}", done.err);
    done.out
}

#[test]
fn each_setting_that_does_not_fit_is_recommended_with_its_reason() {
    let printed = init(&["tests/init/openshift.yaml"]);
    golden::compare(Path::new("tests/init/openshift.out.yaml"), &printed).unwrap();
}

#[test]
fn a_recommended_configuration_leaves_nothing_to_recommend() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("portcullis.yaml");
    // The preset is about the stored objects and not about the cluster.
    let recommended = init(&["tests/init/openshift.yaml"]).replace("preset: observe\n", "");
    std::fs::write(&config, recommended).unwrap();
    let printed = init(&["--config", config.to_str().unwrap(), "tests/init/openshift.yaml"]);
    assert!(!printed.contains("clusterDNS"), "{printed}");
    assert!(!printed.contains("platformNamespaces"), "{printed}");
}

#[test]
fn the_usual_cluster_needs_no_settings() {
    assert_eq!(init(&["tests/init/usual.yaml"]), "apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\n");
}

#[test]
fn without_a_cluster_there_is_nothing_to_inspect() {
    let done = run(&["init"], "");
    assert_eq!((done.code, done.out.as_str()), (2, ""));
    assert!(
        done.err.contains("nothing to read; name files or folders with manifests, or set --cluster"),
        "{}",
        done.err
    );
}
