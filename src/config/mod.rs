//! The configuration: facts about the cluster, and the mode and settings of each rule.
//!
//! The defaults are in `policies/portcullis.yaml`, which is compiled in. A configuration file is merged over them, so
//! it only needs to have the differences.

mod error;
mod installation;
mod namespaces;
mod overrides;
mod preset;
mod rules_schema;
mod schema;
mod written;

pub use error::Error;
pub use installation::NAMESPACE;
pub use namespaces::NamespaceSelector;
pub(crate) use preset::Preset;
pub use schema::schema;

use serde_json::Value;

use crate::model::Labels;
use crate::rules::{ChangeKind, Definition, Mode, RULES, Rule};
use crate::view::{NamePattern, Site};
use crate::yaml::{self, Document};

use error::similar;
use written::Written;

/// The `apiVersion` of a configuration.
pub const API_VERSION: &str = "portcullis.dev/v1alpha1";
/// The `kind` of a configuration.
pub const KIND: &str = "Configuration";

/// The default configuration, as YAML.
pub const SHIPPED: &str = include_str!("../../policies/portcullis.yaml");

/// A valid configuration.
pub struct Configuration {
    /// The facts about the cluster.
    pub site: Site,
    /// The configured rules, in the order of `RULES`.
    rules: Vec<Configured>,
    overrides: Vec<Override>,
    /// True if the response to a policy change names the connections that it cuts or opens.
    pub(crate) previews_connections: bool,
}

/// A rule with its mode and settings.
struct Configured {
    definition: &'static Definition,
    mode: Mode,
    settings: Value,
    rule: Box<dyn Rule>,
}

/// An override for some namespaces.
struct Override {
    namespaces: NamespaceSelector,
    rules: Vec<Changed>,
}

/// The override of one rule.
struct Changed {
    /// The rule's position in `RULES`.
    position: usize,
    mode: Option<Mode>,
    rule: Option<Box<dyn Rule>>,
}

/// A rule to evaluate in one namespace.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// The definition of the rule.
    pub definition: &'static Definition,
    /// The mode, which decides the effect of a finding. Never [`Mode::Off`].
    pub mode: Mode,
    /// The rule with its settings.
    pub rule: &'a dyn Rule,
}

/// The mode and the settings that the configuration gives a rule, in all namespaces or in some.
#[derive(Clone, Copy)]
pub(crate) struct Variant<'a> {
    /// The namespaces. `None` for all.
    pub namespaces: Option<&'a NamespaceSelector>,
    /// The mode, if it is set.
    pub mode: Option<Mode>,
    /// The rule with its settings, if they are set.
    pub rule: Option<&'a dyn Rule>,
}

impl Configuration {
    /// Returns the default configuration.
    ///
    /// # Errors
    /// Only if the build is broken: a test reads the defaults.
    pub fn shipped() -> Result<Self, Error> {
        Self::shipped_with(None)
    }

    /// Returns the default configuration with another preset.
    ///
    /// # Errors
    /// Only if the build is broken: a test reads the defaults.
    pub(crate) fn shipped_with(preset: Option<Preset>) -> Result<Self, Error> {
        Self::from_value(&Document::from_value(Value::Null), defaults()?, preset)
    }

    /// Reads a configuration file and merges it over the defaults.
    ///
    /// # Errors
    /// The first invalid value, with its line.
    pub fn read(text: &str) -> Result<Self, Error> {
        Self::read_with(text, None)
    }

    /// Reads a configuration file like [`Self::read`]. A given preset takes precedence over the preset of the file.
    ///
    /// # Errors
    /// The first invalid value, with its line.
    pub(crate) fn read_with(text: &str, preset: Option<Preset>) -> Result<Self, Error> {
        Self::from_document(&parse(text)?, preset)
    }

    /// Returns the problems of a configuration file, in the order of the file. A problem of a value that other values
    /// depend on can hide other problems, and so can a problem in a list.
    #[must_use]
    pub fn check(text: &str) -> Vec<Error> {
        let mut document = match parse(text) {
            Ok(document) => document,
            Err(error) => return vec![error],
        };
        let mut errors = Vec::new();
        while let Err(error) = Self::from_document(&document, None) {
            let goes_on = errors.len() + 1 < MAX_ERRORS && error.remove_from(&mut document.value);
            errors.push(error);
            if !goes_on {
                break;
            }
        }
        errors.sort_by_key(|error| (error.line, error.column));
        errors
    }

    /// Merges a configuration over the defaults.
    fn from_document(document: &Document, preset: Option<Preset>) -> Result<Self, Error> {
        let mut value = defaults()?;
        installation::adapt(&mut value, document)?;
        lay_over(&mut value, document.value.clone());
        Self::from_value(document, value, preset)
    }

    fn from_value(document: &Document, value: Value, preset: Option<Preset>) -> Result<Self, Error> {
        let written: Written =
            serde_path_to_error::deserialize(value).map_err(|error| Error::from_serde(document, &[], &error))?;
        let preset = preset.unwrap_or(written.preset);
        let mut site = written.site(document)?;
        site.denies_unjudged = preset == Preset::Enforce;
        let mut rules = Vec::with_capacity(RULES.len());
        for name in written.rules.keys() {
            position(document, &["rules"], name)?;
        }
        for definition in RULES {
            let entry = written.rules.get(definition.name);
            let mode = entry.and_then(|entry| entry.mode).unwrap_or(definition.mode);
            // A mode that the file sets takes precedence over the preset. Guards ignore the preset.
            let is_said = document.value.pointer(&format!("/rules/{}/mode", definition.name)).is_some();
            let mode = if is_said || definition.is_guard() { mode } else { preset.limit(mode) };
            let settings = entry.map(|entry| entry.settings.clone()).unwrap_or_default();
            rules.push(Configured {
                definition,
                mode,
                rule: configure(document, &["rules", definition.name, "settings"], definition, settings.clone())?,
                settings,
            });
        }
        let has_own_overrides = document.value.get("overrides").is_some();
        let mut overrides = Vec::with_capacity(written.overrides.len());
        for (at, written) in written.overrides.into_iter().enumerate() {
            let at = at.to_string();
            let mut changed = Vec::with_capacity(written.rules.len());
            for (name, entry) in written.rules {
                let position = position(document, &["overrides", &at, "rules"], &name)?;
                let place = ["overrides", &at, "rules", &name, "settings"];
                let rule = match (entry.settings, rules.get(position)) {
                    (Value::Null, _) | (_, None) => None,
                    (settings, Some(base)) => {
                        let mut merged = base.settings.clone();
                        lay_over(&mut merged, settings);
                        Some(configure(document, &place, base.definition, merged)?)
                    }
                };
                let mode = entry.mode.map(|mode| if has_own_overrides { mode } else { preset.limit(mode) });
                changed.push(Changed { position, mode, rule });
            }
            let labels = match written.namespaces.labels() {
                Ok(labels) => labels,
                Err(problem) => return Err(Error::at(document, &["overrides", &at, "namespaces"], problem)),
            };
            let namespaces =
                NamespaceSelector { names: written.namespaces.names, platform: written.namespaces.platform, labels };
            overrides.push(Override { namespaces, rules: changed });
        }
        // This preset shows nothing to users.
        let previews_connections = written.connection_preview && preset != Preset::Observe;
        Ok(Self { site, rules, overrides, previews_connections })
    }

    /// Every rule, with each mode that it has in some namespace.
    pub fn modes(&self) -> impl Iterator<Item = (&'static str, Mode)> {
        let overridden = self.overrides.iter().flat_map(|one| &one.rules).filter_map(|changed| {
            let rule = self.rules.get(changed.position)?;
            Some((rule.definition.name, changed.mode?))
        });
        self.rules.iter().map(|configured| (configured.definition.name, configured.mode)).chain(overridden)
    }

    /// The variants of a rule: the one for all namespaces first, and then the overrides in order. If several match a
    /// namespace, the last one that sets the mode or the settings applies.
    pub(crate) fn variants(&self, rule: &str) -> impl Iterator<Item = Variant<'_>> {
        let position = RULES.iter().position(|definition| definition.name == rule);
        let everywhere = position.and_then(|position| self.rules.get(position)).map(|configured| Variant {
            namespaces: None,
            mode: Some(configured.mode),
            rule: Some(&*configured.rule),
        });
        let overrides = self.overrides.iter().filter_map(move |one| {
            let changed = one.rules.iter().find(|changed| Some(changed.position) == position)?;
            let rule = changed.rule.as_deref();
            Some(Variant { namespaces: Some(&one.namespaces), mode: changed.mode, rule })
        });
        everywhere.into_iter().chain(overrides)
    }

    /// Returns true if a rule repairs what it finds, in any namespace.
    #[must_use]
    pub fn repairs(&self) -> bool {
        let overridden = self.overrides.iter().flat_map(|one| &one.rules).filter_map(|changed| changed.rule.as_ref());
        self.rules.iter().map(|configured| &configured.rule).chain(overridden).any(|rule| rule.repairs())
    }

    /// Returns true if a rule about this subject may deny in a namespace that the pattern matches, whatever the
    /// namespace's labels.
    #[must_use]
    pub fn may_deny(&self, subject: ChangeKind, namespaces: &NamePattern) -> bool {
        let mut about = self.rules.iter().enumerate().filter(|(_, rule)| rule.definition.is_about(subject));
        about.any(|(position, rule)| {
            let mut denies = rule.mode == Mode::Deny;
            for one in &self.overrides {
                let changed = one.rules.iter().find(|changed| changed.position == position);
                let Some(mode) = changed.and_then(|changed| changed.mode) else { continue };
                match one.namespaces.mean(namespaces, &self.site) {
                    Some(true) => denies = mode == Mode::Deny,
                    None => denies |= mode == Mode::Deny,
                    Some(false) => {}
                }
            }
            denies
        })
    }

    /// The rules to evaluate for an object in this namespace. `labels` are the labels of the namespace, if they are
    /// known.
    pub fn asked<'a>(&'a self, namespace: Option<&str>, labels: Option<&Labels>) -> impl Iterator<Item = Asked<'a>> {
        let applying: Vec<&Override> = match namespace {
            Some(namespace) => {
                self.overrides.iter().filter(|one| one.namespaces.matches(namespace, labels, &self.site)).collect()
            }
            None => Vec::new(),
        };
        self.rules.iter().enumerate().filter_map(move |(position, configured)| {
            let (mut mode, mut rule) = (configured.mode, &configured.rule);
            let changes = applying.iter().flat_map(|one| &one.rules);
            for changed in changes.filter(|changed| changed.position == position) {
                mode = changed.mode.unwrap_or(mode);
                rule = changed.rule.as_ref().unwrap_or(rule);
            }
            let asked = Asked { definition: configured.definition, mode, rule: &**rule };
            (mode != Mode::Off).then_some(asked)
        })
    }
}

/// Maximum number of problems reported for one file.
const MAX_ERRORS: usize = 100;

/// Parses a configuration file and checks its `apiVersion` and `kind`.
fn parse(text: &str) -> Result<Document, Error> {
    let mut documents = yaml::read(text)?.into_iter().filter(|document| !document.value.is_null());
    let Some(mut document) = documents.next() else {
        return Err(Error::new(1, "the file is empty; `apiVersion` and `kind` are required"));
    };
    if let Some(another) = documents.next() {
        return Err(Error::new(another.line, "a configuration must be one document; a second one starts here"));
    }
    if !document.value.is_object() {
        return Err(Error::new(document.line, "a configuration must be a map with `apiVersion` and `kind`"));
    }
    for (field, expected) in [("apiVersion", API_VERSION), ("kind", KIND)] {
        match document.value.get(field).and_then(Value::as_str) {
            Some(found) if found == expected => {}
            Some(found) => {
                let problem = format!("unsupported value `{found}`; expected `{expected}`");
                return Err(Error::at(&document, &[field], problem));
            }
            None => {
                return Err(Error::at(&document, &[field], format!("a value is required; expected `{expected}`")));
            }
        }
    }
    written::normalise(&mut document.value);
    Ok(document)
}

fn defaults() -> Result<Value, Error> {
    let mut value = yaml::read(SHIPPED)?.into_iter().next().map(|document| document.value).unwrap_or_default();
    written::normalise(&mut value);
    Ok(value)
}

/// Merges one value over another: maps are merged, other values are replaced.
fn lay_over(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                lay_over(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}

fn position(document: &Document, place: &[&str], name: &str) -> Result<usize, Error> {
    RULES.iter().position(|rule| rule.name == name).ok_or_else(|| {
        let names = RULES.iter().map(|rule| rule.name);
        let help = similar(name, names).unwrap_or_else(|| "`portcullis rules` lists all rules".to_owned());
        Error::at(document, &[place, &[name]].concat(), format!("unknown rule `{name}`")).with_help(Some(help))
    })
}

fn configure(
    document: &Document,
    place: &[&str],
    definition: &Definition,
    settings: Value,
) -> Result<Box<dyn Rule>, Error> {
    definition.configure(settings).map_err(|error| Error::from_serde(document, place, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\n";

    fn read(rest: &str) -> Result<Configuration, Error> {
        Configuration::read(&format!("{HEAD}{rest}"))
    }

    fn own_mode(configuration: &Configuration, rule: &str) -> Mode {
        configuration.rules.iter().find(|configured| configured.definition.name == rule).unwrap().mode
    }

    #[test]
    fn a_preset_is_the_strictest_mode_of_the_rules_that_the_file_does_not_name() {
        for (preset, any_port, split_peer) in [
            ("enforce", Mode::Deny, Mode::Warn),
            ("warn", Mode::Warn, Mode::Warn),
            ("observe", Mode::Audit, Mode::Audit),
        ] {
            let written = read(&format!("preset: {preset}\n")).unwrap();
            assert_eq!(
                (own_mode(&written, "any-port"), own_mode(&written, "split-peer")),
                (any_port, split_peer),
                "{preset}"
            );
            assert_eq!(own_mode(&written, "managed-policy-change"), Mode::Deny, "a guard");
            assert_eq!(own_mode(&written, "untrusted-change"), Mode::Off, "{preset}");
            assert_eq!(written.site.denies_unjudged, preset == "enforce");
        }
        let explicit = "preset: observe\nrules: {any-port: deny, split-peer: {mode: warn}, host-network: {settings: {policies: false}}}\n";
        let explicit = read(explicit).unwrap();
        assert_eq!(own_mode(&explicit, "any-port"), Mode::Deny);
        assert_eq!(own_mode(&explicit, "split-peer"), Mode::Warn);
        assert_eq!(own_mode(&explicit, "host-network"), Mode::Audit, "settings are no mode");
        let overridden =
            read("preset: observe\noverrides: [{namespaces: {names: [shop]}, rules: {any-port: deny}}]\n").unwrap();
        let of = |namespace| {
            overridden.asked(Some(namespace), None).find(|asked| asked.definition.name == "any-port").unwrap()
        };
        assert_eq!((of("shop").mode, of("other").mode), (Mode::Deny, Mode::Audit));
        assert!(read("preset: observe\n").unwrap().modes().all(|(rule, mode)| {
            matches!(mode, Mode::Audit | Mode::Off) || crate::rules::find(rule).unwrap().is_guard()
        }));
        let again = Configuration::read_with(&format!("{HEAD}preset: observe\n"), Some(Preset::Enforce)).unwrap();
        assert_eq!(own_mode(&again, "any-port"), Mode::Deny);
        assert_eq!(
            fault("preset: strict\n"),
            "line 3: preset: unknown value `strict`; expected one of: observe, warn, enforce"
        );
    }

    fn fault(rest: &str) -> String {
        read(rest).err().expect("a fault").to_string()
    }

    fn mode(configuration: &Configuration, rule: &str, namespace: &str, labels: &[(&str, &str)]) -> Option<Mode> {
        let labels: Labels = labels.iter().copied().collect();
        configuration
            .asked(Some(namespace), Some(&labels))
            .find(|asked| asked.definition.name == rule)
            .map(|asked| asked.mode)
    }

    #[test]
    fn what_ships_says_what_the_rules_say() {
        let shipped = Configuration::shipped().unwrap();
        for (configured, definition) in shipped.rules.iter().zip(RULES) {
            assert_eq!(configured.definition.name, definition.name);
            assert_eq!(configured.mode, definition.mode, "{}", definition.name);
        }
        let written = defaults().unwrap();
        for definition in RULES {
            assert!(
                written["rules"].get(definition.name).is_some(),
                "{} is not in the file that ships",
                definition.name
            );
        }
    }

    #[test]
    fn what_is_left_out_keeps_its_default() {
        let configuration =
            read("labelDomain: network-policy.homelab\nplatformNamespaces: [kube-system, 'mon*']\n").unwrap();
        assert_eq!(configuration.site.profile_label(), "network-policy.homelab/profile");
        assert!(configuration.site.is_platform("monitoring") && !configuration.site.is_platform("kube-public"));
        assert_eq!(configuration.site.profiles.names.len(), 4);
        assert_eq!(configuration.site.cluster_dns[0].port(), 53);
    }

    #[test]
    fn modes_can_be_written_short_and_overridden_by_namespace() {
        let configuration = read(
            "rules: {any-port: warn, open-ingress: {mode: 'off'}}\noverrides:\n- namespaces: {names: [legacy]}\n  rules: {any-port: audit}\n\
             - namespaces: {matchLabels: {team: web}}\n  rules: {any-port: {mode: deny, settings: {sameNamespace: true}}}\n",
        )
        .unwrap();
        assert_eq!(mode(&configuration, "any-port", "shop", &[]), Some(Mode::Warn));
        assert_eq!(mode(&configuration, "any-port", "legacy", &[]), Some(Mode::Audit));
        assert_eq!(
            mode(&configuration, "any-port", "legacy", &[("team", "web")]),
            Some(Mode::Deny),
            "the last one counts"
        );
        assert_eq!(mode(&configuration, "open-ingress", "shop", &[]), None);
        assert!(
            configuration.asked(Some("legacy"), None).any(|asked| asked.mode == Mode::Audit),
            "unknown labels match no selector"
        );
    }

    #[test]
    fn the_word_off_is_a_mode_even_where_yaml_reads_a_boolean() {
        let configuration = read("rules: {open-ingress: off, any-port: {mode: off}}\n").unwrap();
        assert_eq!(mode(&configuration, "open-ingress", "shop", &[]), None);
        assert_eq!(mode(&configuration, "any-port", "shop", &[]), None);
    }

    #[test]
    fn faults_name_line_place_and_what_was_probably_meant() {
        assert_eq!(fault("labelDomian: x.y\n"), "line 3: labelDomian: unknown field; did you mean `labelDomain`?");
        assert_eq!(
            fault("rules:\n  any-prot: warn\n"),
            "line 4: rules.any-prot: unknown rule `any-prot`; did you mean `any-port`?"
        );
        assert_eq!(
            fault("rules:\n  any-port:\n    settings:\n      sameNamespaces: true\n"),
            "line 6: rules.any-port.settings.sameNamespaces: unknown field; did you mean `sameNamespace`?"
        );
        assert!(
            fault("rules:\n  any-port: maybe\n").starts_with("line 4: rules.any-port.mode: unknown value `maybe`;"),
            "{}",
            fault("rules:\n  any-port: maybe\n")
        );
        assert_eq!(
            fault("profiles: {names: [open]}\n"),
            "line 3: profiles.default: `standard` is not one of profiles.names"
        );
        assert!(fault("labelDomain: Not_A_Domain\n").starts_with("line 3: labelDomain: `Not_A_Domain` is not"));
        assert!(
            fault("clusterDNS: [{addresses: []}]\n").starts_with("line 3: clusterDNS[0]: an entry of"),
            "{}",
            fault("clusterDNS: [{addresses: []}]\n")
        );
        assert!(fault("clusterDNS: []\n").contains("at least one"));
        for no_name in ["'*-system'", "Monitoring", "a.b", "''"] {
            let fault = fault(&format!("platformNamespaces: [kube-system, {no_name}]\n"));
            assert!(
                fault.starts_with("line 3: platformNamespaces[1]: `") && fault.contains("is not a namespace name"),
                "{fault}"
            );
        }
        assert!(fault("overrides: [{namespaces: {}, rules: {any-port: warn}}]\n").contains("names, platform"));
        assert_eq!(
            Configuration::read("").err().unwrap().to_string(),
            "line 1: the file is empty; `apiVersion` and `kind` are required"
        );
        assert!(
            Configuration::read("apiVersion: v1\nkind: Configuration\n")
                .err()
                .unwrap()
                .to_string()
                .starts_with("line 1: apiVersion: unsupported value `v1`")
        );
    }
}
