//! The rules, one file each, and their ordered list.
//!
//! A rule is a value whose fields are its settings. It checks a [`Case`] and adds its results to [`Findings`]. Rules
//! use only the model; none of them depends on the syntax of a dialect. `rule/` says what a rule is, and `shared/` has the helpers
//! of several rules.

#[macro_use]
mod rule;
mod shared;

pub(crate) mod any_port;
mod baseline_pending;
mod broken_contract;
mod dangling_selector;
mod dissolved_baseline;
mod dns_blocked;
mod dns_udp_only;
mod explicit_default_deny;
mod fqdn_without_dns;
mod hardcoded_address;
pub(crate) mod host_network;
mod implicit_policy_types;
mod invalid_fqdn;
mod invalid_profile;
mod invalid_selector;
mod isolation_downgrade;
mod managed_policy_change;
mod metadata_egress;
mod monitoring_blocked;
mod never_enforced;
mod open_ingress;
mod platform_flow_missing;
mod port_without_protocol;
mod redundant_policy;
mod service_port;
mod split_peer;
mod too_complex;
mod unguarded_hatch;
mod unknown_field;
mod unknown_port_name;
mod unreachable_backend;
mod untrusted_change;

pub use dns_blocked::DNS_BLOCKED;
pub use rule::{Anonymous, Author, Case, Change, ChangeKind, Definition, Findings, Mode, Named, Occasion, Old, Rule};
pub(crate) use rule::{Defined, SettingsError};
pub(crate) use shared::bypass::ask_for_bypass;
pub(crate) use shared::cluster_dns::assumed_for_dns;
pub(crate) use too_complex::{TOO_COMPLEX, too_complex};
pub(crate) use unguarded_hatch::ON;
pub use unguarded_hatch::opener;

/// All rules, in the order in which they are listed and reported. Rules that deny come before rules that warn.
pub const RULES: &[Definition] = &[
    Definition::of::<dns_blocked::DnsBlocked>(),
    Definition::of::<dns_udp_only::DnsUdpOnly>(),
    Definition::of::<any_port::AnyPort>(),
    Definition::of::<host_network::HostNetwork>(),
    Definition::of::<invalid_profile::InvalidProfile>(),
    Definition::of::<unguarded_hatch::UnguardedHatch>(),
    Definition::of::<isolation_downgrade::IsolationDowngrade>(),
    Definition::of::<managed_policy_change::ManagedPolicyChange>(),
    Definition::of::<platform_flow_missing::PlatformFlowMissing>(),
    Definition::of::<dissolved_baseline::DissolvedBaseline>(),
    Definition::of::<broken_contract::BrokenContract>(),
    Definition::of::<too_complex::TooComplex>(),
    Definition::of::<never_enforced::NeverEnforced>(),
    Definition::of::<invalid_selector::InvalidSelector>(),
    Definition::of::<port_without_protocol::PortWithoutProtocol>(),
    Definition::of::<invalid_fqdn::InvalidFqdn>(),
    Definition::of::<fqdn_without_dns::FqdnWithoutDns>(),
    Definition::of::<split_peer::SplitPeer>(),
    Definition::of::<open_ingress::OpenIngress>(),
    Definition::of::<metadata_egress::MetadataEgress>(),
    Definition::of::<hardcoded_address::HardcodedAddress>(),
    Definition::of::<implicit_policy_types::ImplicitPolicyTypes>(),
    Definition::of::<dangling_selector::DanglingSelector>(),
    Definition::of::<service_port::ServicePort>(),
    Definition::of::<unknown_port_name::UnknownPortName>(),
    Definition::of::<unreachable_backend::UnreachableBackend>(),
    Definition::of::<monitoring_blocked::MonitoringBlocked>(),
    Definition::of::<redundant_policy::RedundantPolicy>(),
    Definition::of::<unknown_field::UnknownField>(),
    Definition::of::<baseline_pending::BaselinePending>(),
    Definition::of::<untrusted_change::UntrustedChange>(),
    Definition::of::<explicit_default_deny::ExplicitDefaultDeny>(),
];

/// The rule with this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Definition> {
    RULES.iter().find(|rule| rule.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_name_the_bad_thing() {
        for (position, rule) in RULES.iter().enumerate() {
            assert!(RULES.iter().skip(position + 1).all(|other| other.name != rule.name), "{} twice", rule.name);
            for cure in ["no-", "require-", "disallow-", "must-", "enforce-", "check-", "missing-"] {
                assert!(!rule.name.starts_with(cure), "\"allow {}\" has to read right", rule.name);
            }
            assert!(rule.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{}", rule.name);
        }
    }

    #[test]
    fn every_rule_is_documented() {
        for rule in RULES {
            for heading in ["## Why", "## What it checks", "## Fires", "## Passes", "## Settings"] {
                assert!(rule.doc().contains(heading), "{} has no {heading}", rule.name);
            }
            assert!(rule.summary().ends_with('.') && rule.summary().len() <= 110, "{}: {}", rule.name, rule.summary());
        }
    }

    #[test]
    fn a_rule_can_be_found_by_its_name() {
        assert!(RULES.iter().all(|rule| find(rule.name).is_some_and(|found| found.name == rule.name)));
        assert!(find("any-prot").is_none());
    }
}
