//! Checks the policies folder against the configuration.

use super::super::fill;
use super::{Error, Layer, PolicySet, Template};
use crate::model::{Namespaces, Operator, Selector};
use crate::view::Site;

impl PolicySet {
    /// Checks the policy set that the configuration chooses:
    ///
    /// - It has a folder for each configured profile and access name.
    /// - Its cluster-wide policies select only namespaces with the label of their layer.
    /// - Every policy name starts with the reserved prefix.
    /// - The fill annotation has a known value, and is on a policy that can be filled in.
    /// - No two policies would be the same object.
    ///
    /// # Errors
    /// Returns the first folder that is missing, or the first policy that fails a check.
    pub fn check(&self, site: &Site) -> Result<(), Error> {
        let (folder, layers) = self.chosen(site);
        for (layer, names, known) in
            [("profiles", &site.profiles.names, &layers.profiles), ("access", &site.access, &layers.access)]
        {
            if let Some(name) = names.iter().find(|name| !known.contains_key(*name)) {
                let problem = format!("the configuration lists `{name}`, but the folder has no policies");
                return Err(Error { file: format!("{folder}{layer}/{name}"), problem });
            }
        }
        let profile = site.profile_label();
        for template in &layers.baseline {
            asks_for(template, &profile, None)?;
        }
        for (name, templates) in &layers.profiles {
            templates.iter().try_for_each(|template| asks_for(template, &profile, Some(name)))?;
        }
        for (name, templates) in &layers.access {
            let label = site.access_label(name);
            templates.iter().try_for_each(|template| asks_for(template, &label, Some("true")))?;
        }
        let enforcement = site.enforcement_label();
        layers.hatch.iter().try_for_each(|template| asks_for(template, &enforcement, Some("disabled")))?;
        let all = self.by_layer(site);
        all.iter().try_for_each(|(_, template)| {
            let (name, prefix) = (&template.object.id.name, &site.baseline.reserved_prefix);
            if name.starts_with(&**prefix) {
                return Ok(());
            }
            let problem = format!("metadata.name: `{name}` must start with `{prefix}` (`baseline.reservedPrefix`)");
            Err(Error { file: template.file.clone(), problem })
        })?;
        all.iter().try_for_each(|(_, template)| {
            let checked = fill::check(site, &template.value);
            checked.map_err(|problem| Error { file: template.file.clone(), problem })
        })?;
        all.iter().enumerate().try_for_each(|(position, later)| {
            let Some((_, earlier)) = all.iter().take(position).find(|earlier| collide(earlier, later)) else {
                return Ok(());
            };
            let (_, template) = later;
            let problem = format!(
                "metadata.name: {} is also defined in {}; the two would overwrite each other",
                template.object.id, earlier.file
            );
            Err(Error { file: template.file.clone(), problem })
        })
    }
}

/// Returns true if two policies would be the same object. Namespaced policies of two profiles never are, because a
/// namespace has one profile at a time.
fn collide((one_layer, one): &(Layer, &Template), (other_layer, other): &(Layer, &Template)) -> bool {
    let group = |template: &Template| template.object.id.api_version.split_once('/').map(|(group, _)| group.to_owned());
    let (id, other_id) = (&one.object.id, &other.object.id);
    let is_same = id.name == other_id.name && id.kind == other_id.kind && group(one) == group(other);
    let are_profiles = matches!((one_layer, other_layer), (Layer::Profile(one), Layer::Profile(other)) if one != other);
    is_same && (!are_profiles || one.is_of_cluster() || other.is_of_cluster())
}

/// Checks that a cluster-wide policy selects only namespaces with a label, and with this value if one is given.
fn asks_for(template: &Template, label: &str, value: Option<&str>) -> Result<(), Error> {
    let (wanted, words) = match value {
        Some(value) => (Selector::equals(label, value), format!("{label}: {value}")),
        None => (Selector::label(label, Operator::Exists), label.to_owned()),
    };
    let Some(namespaces) = template.namespaces().find(|namespaces| !wanted.covers(namespaces)) else { return Ok(()) };
    let problem = format!(
        "{} selects pods {}; it must select only namespaces with the label `{words}`",
        template.object.id,
        Namespaces::Matching(namespaces.clone())
    );
    Err(Error { file: template.file.clone(), problem })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Configuration;

    fn policy(name: &str) -> String {
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}}}\nspec: {{podSelector: {{}}}}\n"
        )
    }

    #[test]
    fn two_that_would_be_one_object_are_named() {
        let text = "apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\n\
                    profiles: {names: [a, b], default: null}\naccess: [c]\n";
        let site = Configuration::read(text).unwrap().site;
        let checked = |names: [&str; 5]| {
            let files =
                ["baseline/x.yaml", "profiles/a/x.yaml", "profiles/b/x.yaml", "access/c/x.yaml", "hatch/x.yaml"];
            let files = files.into_iter().zip(names);
            let files = files.map(|(file, name)| (file.to_owned(), policy(&format!("portcullis-{name}"))));
            PolicySet::read(files).unwrap().check(&site).map_err(|error| error.to_string())
        };
        assert_eq!(checked(["v", "w", "w", "y", "z"]), Ok(()), "no namespace has two profiles");
        assert_eq!(
            checked(["v", "w", "x", "v", "z"]).unwrap_err(),
            "access/c/x.yaml: metadata.name: NetworkPolicy portcullis-v is also defined in baseline/x.yaml; the two \
             would overwrite each other"
        );
        for names in [["v", "v", "x", "y", "z"], ["v", "w", "x", "x", "z"], ["v", "w", "x", "y", "y"]] {
            assert!(checked(names).is_err(), "{names:?}");
        }
        let twice = policy("portcullis-v") + "---\n" + &policy("portcullis-v");
        let files = ["profiles/a/x.yaml", "profiles/b/x.yaml", "access/c/x.yaml"];
        let files = files.map(|file| (file.to_owned(), policy(&format!("portcullis-{}", file.len()))));
        let files = files
            .into_iter()
            .map(|(file, text)| if file.contains("access") { (file, twice.clone()) } else { (file, text) });
        assert!(PolicySet::read(files).unwrap().check(&site).is_err(), "two in one file");
    }
}
