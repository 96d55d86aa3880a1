//! What becomes of requests when a real kube-apiserver asks a real Portcullis.
//!
//! One control plane serves all scenarios, since it takes seconds to start; each scenario has namespaces of its own. A
//! scenario never asserts that something was refused without asserting by which webhook and rule, at which place, and
//! what is stored afterwards: an API server has reasons of its own to refuse things.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may"
)]

mod clients;
mod cluster;
mod contract_states;
mod contracts;
mod dialects;
mod drift;
mod gate;
mod live;
mod manifests;
#[path = "../support/mod.rs"]
mod support;

use cluster::{Cluster, accepted};
use dialects::*;
use gate::*;
use manifests::{INJECTS, KNOWN, OLD, PLATFORM, SERVICE};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use support::control_plane::ControlPlane;
use support::installation::Installation;
use support::server::Server;

/// Scenarios, by the names of their functions.
macro_rules! scenarios {
    ($($name:ident),* $(,)?) => { [$((stringify!($name), $name as fn(&mut Cluster))),*] };
}

#[test]
fn an_api_server_asks_portcullis() {
    let Some(plane) = ControlPlane::start() else { return };
    let mut cluster = Cluster { plane, server: Server::new() };
    let mut failed = Vec::new();

    serve(&cluster.plane);
    accepted(&cluster.plane.apply(KNOWN, &[]));
    accepted(&cluster.plane.apply(KNOWN_WIDE, &[]));
    accepted(&cluster.plane.apply(OLD, &[]));
    cluster.server.add_context(KNOWN);
    cluster.server.add_context(KNOWN_WIDE);
    cluster.server.start();
    let url = cluster.server.url();
    cluster.install(&["--url", &url]);
    failed.extend(cluster.run(&scenarios![
        a_good_policy_is_stored_without_a_word,
        a_policy_without_dns_is_denied,
        a_policy_on_any_port_is_denied,
        all_faults_are_named_at_once,
        a_change_for_the_worse_is_denied,
        a_split_peer_is_warned_about,
        server_side_apply_gets_the_same_answers,
        what_was_inferred_is_warned_about,
        a_generated_name_changes_nothing,
        a_policy_as_large_as_etcd_takes_is_judged,
        a_dry_run_of_a_policy_gets_the_same_answers,
        a_dry_run_of_a_namespace_shows_its_labels,
        the_metadata_of_an_old_policy_can_change,
        the_spec_of_an_old_policy_can_change_with_a_warning,
        an_old_policy_cannot_get_worse,
        what_is_being_deleted_can_let_go,
        a_profile_has_to_exist,
        access_has_to_exist,
        a_subresource_is_no_way_to_a_profile,
        a_hatch_is_guarded,
        an_old_namespace_is_left_alone,
        an_outage_stops_no_other_label,
        a_namespace_with_thousands_of_labels_is_asked_about,
        a_new_namespace_gets_labels,
        a_namespace_keeps_the_profile_it_brings,
        a_namespace_with_a_generated_name_gets_labels,
        a_namespace_of_the_platform_has_no_profile,
        an_outage_stops_no_namespace,
        policies_can_be_deleted,
        the_last_way_to_dns_cannot_be_deleted,
        a_namespace_can_be_deleted,
        a_namespace_goes_with_its_last_way_to_dns,
        a_pod_on_the_network_of_the_node_is_denied,
        an_outage_stops_neither_ordinary_pods_nor_the_control_plane,
        an_outage_stops_no_deletion_of_what_is_on_the_network_of_the_node,
        a_template_on_the_network_of_the_node_is_denied,
        a_workload_cannot_move_to_the_network_of_the_node,
        an_old_workload_can_change,
        a_cilium_policy_is_judged,
        each_of_several_specs_is_judged,
        a_policy_of_the_cluster_serves_dns_to_network_policies,
        the_last_way_to_dns_of_a_cluster_cannot_be_deleted,
        a_global_policy_with_a_bad_selector_is_denied,
        a_staged_policy_is_warned_about_and_stored,
        a_cluster_network_policy_on_any_port_is_denied,
        no_condition_of_a_webhook_failed,
    ]));

    cluster.uninstall();
    cluster.restart(Some(INJECTS));
    cluster.install(&["--url", &url]);
    failed.extend(cluster.run(&scenarios![
        dns_is_added_once,
        dns_is_added_where_no_egress_is_written,
        an_old_policy_is_not_put_right_by_a_label,
        other_faults_are_not_put_right,
    ]));

    cluster.uninstall();
    cluster.restart(Some(PLATFORM));
    cluster.install(&["--url", &url]);
    failed.extend(
        cluster
            .run(
                &scenarios![an_outage_stops_nothing_that_runs_the_network_of_nodes, no_condition_of_a_webhook_failed,],
            ),
    );

    cluster.uninstall();
    cluster.restart(None);
    accepted(&cluster.plane.apply(SERVICE, &[]));
    let port = cluster.server.port().to_string();
    cluster.install(&["--service", "portcullis-system/portcullis", "--port", &port]);
    failed.extend(cluster.run(&scenarios![a_service_is_asked_too, an_outage_stops_policies_until_the_way_out]));

    let log = cluster.server.log_tail();
    assert!(failed.is_empty(), "{} scenarios failed: {}\n--- portcullis ---\n{log}", failed.len(), failed.join(", "));
}

/// Scenarios of an installation, by the names of their functions.
macro_rules! live_scenarios {
    ($($name:ident),* $(,)?) => { [$((stringify!($name), live::$name as fn(&mut Installation))),*] };
}

#[test]
fn portcullis_looks_after_a_cluster() {
    let Some(plane) = ControlPlane::start() else { return };
    for namespace in ["before", "before-dns", "before-update", "before-crd", "before-profile"] {
        accepted(&plane.kubectl(&["create", "namespace", namespace]));
    }
    let mut cluster = Installation::new(plane, 2, "baseline: {gate: true}\n");
    let scenarios: &[live::Scenario] = &live_scenarios![
        people_are_given_rights,
        a_new_namespace_gets_its_policies,
        an_old_namespace_is_left_alone_until_it_asks,
        what_an_administrator_deletes_comes_back,
        what_an_administrator_changes_is_put_right,
        nobody_else_changes_what_is_managed,
        a_change_of_profile_leaves_no_moment_without,
        an_access_is_given_and_taken_by_its_label,
        a_label_that_is_lost_takes_nothing_away,
        what_only_looks_managed_is_not_deleted,
        what_changes_nothing_is_not_written,
        a_hatch_needs_a_reason_an_end_and_the_right,
        a_hatch_closes_by_itself,
        a_hatch_is_opened_and_closed_by_command,
        an_exemption_needs_the_right,
        a_role_binding_grants_a_bypass_in_its_namespace_alone,
        less_isolation_needs_the_right,
        what_is_in_the_cluster_counts,
        the_command_in_a_denial_works,
        a_crd_that_comes_later_is_watched,
        a_label_that_takes_dns_away_is_previewed,
        a_crd_that_goes_takes_with_it_what_its_policies_allowed,
        a_change_of_profile_is_previewed,
        a_pod_waits_for_its_baseline,
        a_namespace_that_comes_and_goes_is_no_trouble,
        a_crd_that_is_gone_is_watched_no_more,
        another_replica_takes_over,
        an_api_server_that_goes_and_comes_is_followed,
        a_server_that_knows_nothing_yet_lets_nothing_in,
        its_own_policy_passes_its_own_rules,
        it_is_taken_away_without_a_trace_of_waiting,
    ];
    run_scenarios(&mut cluster, scenarios);
}

/// Scenarios of the webhook configurations, by the names of their functions.
macro_rules! drift_scenarios {
    ($($name:ident),* $(,)?) => { [$((stringify!($name), drift::$name as fn(&mut Installation))),*] };
}

#[test]
fn portcullis_keeps_its_webhook_configurations() {
    let Some(plane) = ControlPlane::start() else { return };
    let mut cluster = Installation::new(plane, 2, "");
    let scenarios: &[live::Scenario] = &drift_scenarios![
        its_rights_are_limited_to_the_two_objects,
        deleted_configurations_come_back,
        changed_configurations_are_reverted,
        a_changed_configuration_file_changes_the_webhooks,
        a_paused_deletion_stays,
        a_replica_without_the_lease_writes_nothing,
        in_report_mode_a_difference_is_only_reported,
        an_uninstallation_beside_running_replicas_stays,
    ];
    run_scenarios(&mut cluster, scenarios);
}

/// Scenarios of contracts, by the names of their functions.
macro_rules! contract_scenarios {
    ($($name:ident),* $(,)?) => { [$((stringify!($name), contracts::$name as fn(&mut Installation))),*] };
}

/// Scenarios of the states of contracts, by the names of their functions.
macro_rules! contract_state_scenarios {
    ($($name:ident),* $(,)?) => { [$((stringify!($name), contract_states::$name as fn(&mut Installation))),*] };
}

#[test]
fn portcullis_keeps_contracts() {
    let Some(plane) = ControlPlane::start() else { return };
    contracts::serve(&plane);
    let mut cluster = Installation::new(plane, 1, contracts::CONFIGURATION);
    let scenarios: &[live::Scenario] = &contract_scenarios![
        contracts_are_installed,
        what_leaves_them_alone_is_not_denied,
        every_way_to_break_them_is_denied,
    ];
    let states: &[live::Scenario] = &contract_state_scenarios![
        a_status_says_since_when_and_by_what_a_contract_is_broken,
        a_restart_keeps_the_time_and_the_object,
        the_status_is_all_that_may_be_written,
        a_counterexample_is_a_connection_between_real_pods,
        the_schema_rejects_what_the_reader_rejects,
        the_schema_accepts_what_the_reader_accepts,
        a_contract_that_cannot_be_read_is_invalid_until_it_can,
        a_recreated_namespace_is_evaluated_anew,
    ];
    let last: &[live::Scenario] = &contract_scenarios![a_deleted_contract_counts_no_more];
    let scenarios = &[scenarios, states, last].concat();
    run_scenarios(&mut cluster, scenarios);
}

fn run_scenarios(cluster: &mut Installation, scenarios: &[live::Scenario]) {
    let mut failed = Vec::new();
    for (name, scenario) in scenarios {
        let start = Instant::now();
        if catch_unwind(AssertUnwindSafe(|| scenario(cluster))).is_err() {
            failed.push(*name);
        }
        let outcome = if failed.last() == Some(name) { "FAILED" } else { "ok" };
        eprintln!("{outcome:6} {:5.1} s  {name}", start.elapsed().as_secs_f64());
    }
    let logs = cluster.logs();
    assert!(failed.is_empty(), "{} scenarios failed: {}\n{logs}", failed.len(), failed.join(", "));
}
