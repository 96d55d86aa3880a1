//! Policies for host endpoints: they do not select pods.

use crate::case::{calico, deployment, findings, found_live, gnp, namespace, pod};

#[test]
fn policies_of_calico_for_hosts_are_none_for_pods() {
    let around = [namespace("shop", ""), pod("shop", "a", "app: web"), deployment("app: web", "")];
    for (rule, egress) in [
        ("any-port", "[{action: Allow}]"),
        ("dns-blocked", "[{action: Allow, protocol: TCP, destination: {ports: [22]}}]"),
    ] {
        let judged = |more: &[String], selector: &str, is_whole| {
            let spec = format!("{{selector: \"{selector}\", applyOnForward: true, types: [Egress], egress: {egress}}}");
            let yaml: Vec<String> = around.iter().chain(more).cloned().chain([gnp(&spec)]).collect();
            findings(rule, &yaml, is_whole).len()
        };
        for host in [
            "has(host-endpoint)",
            "has(kubernetes-host) && environment == 'dev'",
            "kubernetes-host == ''",
            "has(node-role.kubernetes.io/control-plane)",
            "projectcalico.org/created-by == 'calico-kube-controllers'",
        ] {
            assert_eq!(judged(&[], host, true), 0, "{rule} {host}");
            assert_eq!(judged(&[], host, false), 0, "in files too: {rule} {host}");
        }
        let marked = pod("shop", "b", "kubernetes-host: x");
        assert_eq!(judged(&[marked], "has(kubernetes-host)", true), 1, "{rule}: it is for a pod too");
        for pods in [
            "all()",
            "role == 'webserver'",
            "has(kubernetes-host) || app == 'web'",
            "!has(kubernetes-host)",
            "has(kubernetes-host) && projectcalico.org/namespace == 'shop'",
        ] {
            assert_eq!(judged(&[], pods, true), 1, "{rule} {pods}");
        }
        let sure = "role == 'webserver' && !has(projectcalico.org/namespace)";
        assert_eq!(judged(&[], sure, false), 0, "{rule}: no pod is without a namespace");
    }
    let own = calico("{selector: has(kubernetes-host), types: [Egress], egress: [{action: Allow}]}");
    assert_eq!(found_live("any-port", &[namespace("shop", ""), own]).len(), 1, "no host is in a namespace");
}
