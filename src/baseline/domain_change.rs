//! Keeps cluster-wide policies of an earlier `labelDomain` while namespaces still depend on them.
//!
//! A cluster-wide policy selects namespaces by labels of one domain. Once it is applied with the labels of another
//! domain, it no longer selects the namespaces that lack those labels. So the old policies stay until each namespace
//! has the new profile label.

use std::sync::Arc;

use super::catalogue::Catalogue;
use super::plan::{Plan, Step};
use super::policy_set::Layer;
use crate::view::{NamespaceFacts, Owned};

/// Maximum number of namespaces that the reason names.
const MAX_NAMES: usize = 3;

/// Removes the steps that would replace or delete policies of an earlier domain from a plan for the cluster, if
/// namespaces still depend on these policies. Returns the reason in that case.
pub(crate) fn hold<'a>(
    catalogue: &Catalogue,
    owned: &[Owned],
    namespaces: impl Iterator<Item = (&'a Arc<str>, &'a Arc<NamespaceFacts>)>,
    plan: &mut Plan,
) -> Option<Box<str>> {
    let earlier: Vec<&Owned> =
        owned.iter().filter(|owned| owned.is_applied && *owned.layer != *Layer::Hatch.label()).collect();
    let mut domains: Vec<&str> = earlier.iter().filter_map(|owned| owned.domain.as_deref()).collect();
    domains.sort_unstable();
    domains.dedup();
    if domains.is_empty() {
        return None;
    }
    let label = catalogue.site.profile_label();
    let depends = |facts: &NamespaceFacts| {
        let Some(labels) = &facts.labels else { return false };
        labels.get(&label).is_none() && domains.iter().any(|domain| labels.get(&format!("{domain}/profile")).is_some())
    };
    let names: Vec<&str> = namespaces.filter(|(_, facts)| depends(facts)).map(|(name, _)| &**name).collect();
    if names.is_empty() {
        return None;
    }
    plan.steps.retain(|step| match step {
        Step::Apply(position) => {
            let entry = catalogue.entries().get(*position);
            !entry.is_some_and(|entry| earlier.iter().any(|owned| owned.domain.is_some() && entry.is(&owned.object)))
        }
        Step::Delete { owned, .. } => owned.domain.is_none() || *owned.layer == *Layer::Hatch.label(),
        _ => true,
    });
    let more = if names.len() > MAX_NAMES { ", ..." } else { "" };
    let sample = names.iter().take(MAX_NAMES).copied().collect::<Vec<_>>().join(", ");
    Some(
        format!(
            "labelDomain {} stays in use, because {} namespaces lack label {label}: {sample}{more}",
            domains.join(", "),
            names.len()
        )
        .into(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline::PolicySet;
    use crate::baseline::plan::plan_cluster;
    use crate::config::Configuration;
    use crate::model::Labels;

    /// Returns the reason to wait and the number of steps that are left, if a namespace has profile labels of these
    /// domains.
    fn held(labels: &[&str]) -> (Option<Box<str>>, usize) {
        let text = "apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\npolicySet: cilium\n";
        let site = Arc::new(Configuration::read(text).unwrap().site);
        let catalogue = Catalogue::of(Arc::clone(&site), &PolicySet::shipped(&site.label_domain).unwrap());
        let owned: Vec<Owned> = catalogue
            .entries()
            .iter()
            .map(|entry| Owned {
                object: entry.id.clone(),
                uid: entry.id.name.clone(),
                layer: entry.layer.label().into(),
                fingerprint: 0,
                is_applied: true,
                domain: Some("old.example".into()),
            })
            .collect();
        let mut facts = NamespaceFacts::default();
        let labels: Labels = labels.iter().map(|domain| (format!("{domain}/profile"), "standard")).collect();
        facts.labels = Some(labels);
        let namespaces = [(Arc::from("shop"), Arc::new(facts))];
        let mut plan = plan_cluster(&catalogue, &owned);
        assert_eq!(plan.steps.len(), owned.len());
        let reason = hold(&catalogue, &owned, namespaces.iter().map(|(name, facts)| (name, facts)), &mut plan);
        (reason, plan.steps.len())
    }

    #[test]
    fn cluster_wide_policies_stay_until_every_namespace_has_the_new_label() {
        let (reason, left) = held(&["old.example"]);
        let reason = reason.unwrap();
        assert!(
            reason.starts_with("labelDomain old.example stays in use, because 1 namespaces lack label "),
            "{reason}"
        );
        assert!(reason.ends_with(": shop"), "{reason}");
        assert_eq!(left, 1, "the hatch policy is replaced, because nothing would close the old one");
        let (reason, left) = held(&["old.example", "network-policy.portcullis.dev"]);
        assert!(reason.is_none() && left > 10, "the namespace has both labels");
        assert!(held(&[]).0.is_none(), "it depends on neither");
    }
}
