//! Requests of users: the labels and annotations of a namespace that choose a profile, grant access or open a hatch.

use jiff::Timestamp;

use crate::model::Labels;
use crate::view::{NamespaceFacts, Site};

/// Returns true if a user changed the request of a namespace. Such a change is reconciled without backoff.
///
/// A hatch label without a valid reason and end time is not a request: the controller removes it. If another client
/// adds it again each time, that is a write conflict and needs the backoff.
pub(crate) fn is_new(site: &Site, before: &NamespaceFacts, after: &NamespaceFacts, now: Timestamp) -> bool {
    let (Some(old), Some(new)) = (&before.labels, &after.labels) else { return false };
    if chosen(site, old) != chosen(site, new) {
        return true;
    }
    let hatch = |labels: &Labels, facts: &NamespaceFacts| {
        let annotation = |key: String| facts.annotations.get(&key).map(str::to_owned);
        let label = labels.get(&site.enforcement_label()).map(str::to_owned);
        (label, annotation(site.reason_annotation()), annotation(site.until_annotation()))
    };
    let (was_open, is_invalid) = (
        site.hatch(old, &before.annotations, now).is_some(),
        matches!(site.hatch(new, &after.annotations, now), Some(Err(_))),
    );
    hatch(old, before) != hatch(new, after) && (was_open || !is_invalid)
}

/// The profile and the access labels of a namespace.
fn chosen<'a>(site: &Site, labels: &'a Labels) -> Vec<(&'a str, &'a str)> {
    let profile = site.profile_label();
    labels.iter().filter(|(label, _)| *label == profile || site.access_name(label).is_some()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Configuration;

    const DOMAIN: &str = "network-policy.portcullis.dev";

    fn facts(labels: &[&str], annotations: &[&str]) -> NamespaceFacts {
        let read = |all: &[&str]| -> Labels {
            all.iter()
                .filter_map(|text| text.split_once('='))
                .map(|(key, value)| (key.replace("D", DOMAIN), value))
                .collect()
        };
        let mut facts = NamespaceFacts::default();
        (facts.labels, facts.annotations) = (Some(read(labels)), read(annotations));
        facts
    }

    #[test]
    fn changes_of_users_are_told_from_those_of_controllers() {
        let site = Configuration::shipped().unwrap().site;
        let now = Timestamp::UNIX_EPOCH;
        let asks = |before: &NamespaceFacts, after: &NamespaceFacts| is_new(&site, before, after, now);
        let plain = facts(&["D/profile=standard", "app=web"], &[]);
        let reason = ["D/reason=x", "D/until=1970-01-01T01:00:00Z"];
        let open = facts(&["D/profile=standard", "D/enforcement=disabled"], &reason);
        assert!(asks(&plain, &open) && asks(&open, &plain), "a hatch");
        assert!(asks(&plain, &facts(&["D/profile=isolated"], &[])), "a profile");
        assert!(asks(&plain, &facts(&["D/profile=standard", "access.D/postgres=true"], &[])), "an access label");
        let longer = ["D/reason=x", "D/until=1970-01-01T02:00:00Z"];
        assert!(asks(&open, &facts(&["D/profile=standard", "D/enforcement=disabled"], &longer)));
        let marked = facts(&["D/profile=standard", "D/baseline=applied"], &["D/baseline-status=applied"]);
        assert!(!asks(&plain, &marked), "the controller wrote it");
        assert!(!asks(&NamespaceFacts::default(), &plain), "it is new itself");
    }

    #[test]
    fn a_hatch_label_without_effect_asks_for_nothing() {
        let site = Configuration::shipped().unwrap().site;
        let asks =
            |before: &NamespaceFacts, after: &NamespaceFacts| is_new(&site, before, after, Timestamp::UNIX_EPOCH);
        let (plain, label) = (facts(&["D/profile=standard"], &[]), ["D/profile=standard", "D/enforcement=disabled"]);
        let over = ["D/reason=x", "D/until=1969-01-01T00:00:00Z"];
        assert!(!asks(&plain, &facts(&label, &over)) && !asks(&plain, &facts(&label, &[])));
        let open = facts(&label, &["D/reason=x", "D/until=1970-01-01T01:00:00Z"]);
        assert!(asks(&open, &facts(&label, &[])), "an open hatch lost its reason, and has to close");
    }
}
