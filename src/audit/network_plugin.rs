//! The network plugin of a cluster, from its DaemonSets and their settings.

use std::collections::BTreeMap;

use super::report::{FoundPlugin, Item, Plugin, Report};
use super::section::{Items, Question};

/// A DaemonSet, as far as it shows a network plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agent {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The images of its containers.
    pub images: Vec<String>,
    /// The commands and arguments of its containers.
    pub arguments: Vec<String>,
    /// Number of pods that are to run.
    pub desired: usize,
    /// Number of pods that are ready.
    pub ready: usize,
    /// The ConfigMap with its settings. None if it does not exist, could not be read, or is not needed.
    pub settings: Option<BTreeMap<String, String>>,
}

/// A network plugin by the name of its DaemonSet.
struct Known {
    agent: &'static str,
    name: &'static str,
    /// The ConfigMap that its enforcement depends on.
    settings: Option<&'static str>,
    enforces: fn(&Agent) -> Enforcement,
}

/// Whether an agent enforces NetworkPolicy, and why it does not or may not.
type Enforcement = (Option<bool>, Option<&'static str>);

/// The network plugins that are recognized. Sources: the manifests of their projects.
const KNOWN: &[Known] = &[
    Known { agent: "calico-node", name: "Calico", settings: None, enforces: always },
    Known { agent: "canal", name: "Canal", settings: None, enforces: always },
    Known { agent: "cilium", name: "Cilium", settings: Some("cilium-config"), enforces: cilium },
    Known { agent: "anetd", name: "GKE Dataplane V2", settings: None, enforces: always },
    Known { agent: "antrea-agent", name: "Antrea", settings: None, enforces: always },
    Known { agent: "aws-node", name: "Amazon VPC CNI", settings: Some("amazon-vpc-cni"), enforces: vpc_cni },
    Known { agent: "azure-npm", name: "Azure Network Policy Manager", settings: None, enforces: always },
    Known { agent: "kube-flannel-ds", name: "Flannel", settings: None, enforces: flannel },
    Known { agent: "kube-flannel", name: "Flannel", settings: None, enforces: flannel },
    Known { agent: "kube-network-policies", name: "kube-network-policies", settings: None, enforces: always },
    Known { agent: "kube-router", name: "kube-router", settings: None, enforces: kube_router },
    Known { agent: "kindnet", name: "kindnet", settings: None, enforces: kindnet },
    Known { agent: "ovnkube-node", name: "OVN-Kubernetes", settings: None, enforces: always },
    Known { agent: "weave-net", name: "Weave Net", settings: None, enforces: always },
];

fn always(_: &Agent) -> Enforcement {
    (Some(true), None)
}

fn cilium(agent: &Agent) -> Enforcement {
    let Some(settings) = &agent.settings else {
        return (None, Some("ConfigMap cilium-config could not be read; `policy-audit-mode` may be on"));
    };
    match (settings.get("policy-audit-mode").map(String::as_str), settings.get("enable-policy").map(String::as_str)) {
        (Some("true"), _) => (Some(false), Some("`policy-audit-mode: true`: policies are logged and not enforced")),
        (_, Some("never")) => (Some(false), Some("`enable-policy: never` switches enforcement off")),
        _ => (Some(true), None),
    }
}

fn vpc_cni(agent: &Agent) -> Enforcement {
    const SWITCH: &str = "--enable-network-policy";
    let by_argument = |argument: &String| argument == SWITCH || *argument == format!("{SWITCH}=true");
    let by_settings = agent.settings.as_ref().and_then(|settings| settings.get("enable-network-policy-controller"));
    if agent.arguments.iter().any(by_argument) || by_settings.is_some_and(|value| value == "true") {
        return (Some(true), None);
    }
    (
        Some(false),
        Some("network policy is off: neither `enable-network-policy-controller` nor `--enable-network-policy` is true"),
    )
}

fn flannel(agent: &Agent) -> Enforcement {
    if agent.images.iter().any(|image| image.contains("kube-network-policies")) {
        return (Some(true), None);
    }
    (Some(false), Some("Flannel does not enforce NetworkPolicy"))
}

fn kube_router(agent: &Agent) -> Enforcement {
    if agent.arguments.iter().any(|argument| argument == "--run-firewall=false") {
        return (Some(false), Some("`--run-firewall=false` switches network policy off"));
    }
    (Some(true), None)
}

fn kindnet(_: &Agent) -> Enforcement {
    (None, Some("kindnet enforces NetworkPolicy only in later versions of kind"))
}

impl Agent {
    /// Returns true if a DaemonSet of this name is the agent of a known network plugin.
    #[must_use]
    pub fn is_known(name: &str) -> bool {
        KNOWN.iter().any(|known| known.agent == name)
    }

    /// The ConfigMap in its namespace that its enforcement depends on.
    #[must_use]
    pub fn settings_name(name: &str) -> Option<&'static str> {
        KNOWN.iter().find(|known| known.agent == name)?.settings
    }

    fn found(&self) -> Option<FoundPlugin> {
        let known = KNOWN.iter().find(|known| known.agent == self.name)?;
        let (enforces, note) = (known.enforces)(self);
        Some(FoundPlugin {
            name: known.name.to_owned(),
            object: format!("DaemonSet {}/{}", self.namespace, self.name),
            version: self.images.first().and_then(|image| tag(image)).map(str::to_owned),
            desired: self.desired,
            ready: self.ready,
            enforces,
            note: note.map(str::to_owned),
        })
    }
}

/// The tag of an image. A digest is no version.
fn tag(image: &str) -> Option<&str> {
    let image = image.split('@').next().unwrap_or_default();
    image.rsplit('/').next()?.split_once(':').map(|(_, tag)| tag)
}

impl Plugin {
    /// The network plugin that these DaemonSets show.
    #[must_use]
    pub fn of(agents: &[Agent], unread: Vec<String>) -> Self {
        let found: Vec<FoundPlugin> = agents.iter().filter_map(Agent::found).collect();
        let is = |enforces: Option<bool>| found.iter().any(|plugin| plugin.enforces == enforces);
        let enforces = match (is(Some(true)), is(None) || found.is_empty()) {
            (true, _) => Some(true),
            (false, true) => None,
            (false, false) => Some(false),
        };
        let mut notes = Vec::new();
        if found.is_empty() {
            notes.push("no known network plugin was found; whether policies are enforced is unknown".to_owned());
        }
        for plugin in &found {
            if let Some(note) = &plugin.note {
                notes.push(format!("{} ({}): {note}", plugin.name, plugin.object));
            }
            if plugin.ready < plugin.desired {
                let FoundPlugin { name, object, ready, desired, .. } = plugin;
                notes.push(format!("{name} ({object}): {ready} of {desired} agents are ready"));
            }
        }
        let enforcing: Vec<&str> =
            found.iter().filter(|plugin| plugin.enforces == Some(true)).map(|plugin| &*plugin.name).collect();
        if enforcing.len() > 1 {
            notes.push(format!("{} network plugins enforce policies: {}", enforcing.len(), enforcing.join(", ")));
        }
        Self { found, enforces, notes, unread }
    }
}

impl Report {
    /// Adds the network plugin, and the section on it.
    #[must_use]
    pub fn with_plugin(mut self, plugin: Plugin) -> Self {
        let question = Question { id: "plugin", title: "Doubts about the network plugin", is_finding: true };
        let mut items = Items::default();
        for note in &plugin.notes {
            items.add(Item::of("network plugin", None, &**note));
        }
        let mut section = items.section(&question, "Reasons why policies may not be enforced.", None);
        if plugin.found.is_empty() && !plugin.unread.is_empty() {
            section.unanswered = Some(plugin.unread.join("; "));
            (section.items, section.count) = (Vec::new(), 0);
        }
        self.sections.push(section);
        self.plugin = Some(plugin);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(name: &str, image: &str) -> Agent {
        let (namespace, name, images) = ("kube-system".into(), name.into(), vec![image.into()]);
        Agent { namespace, name, images, desired: 3, ready: 3, ..Agent::default() }
    }

    fn with(agent: Agent, settings: &[(&str, &str)]) -> Agent {
        let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Agent { settings: Some(settings), ..agent }
    }

    #[test]
    fn a_version_is_the_tag_of_an_image() {
        let of = |image: &str| Plugin::of(&[agent("calico-node", image)], Vec::new()).found.remove(0).version;
        assert_eq!(of("quay.io/calico/node:v3.30.1").as_deref(), Some("v3.30.1"));
        assert_eq!(of("localhost:5000/calico/node:v3.30.1@sha256:abc").as_deref(), Some("v3.30.1"));
        assert_eq!(of("localhost:5000/calico/node@sha256:abc"), None);
    }

    #[test]
    fn enforcement_follows_the_settings() {
        let cilium = || agent("cilium", "quay.io/cilium/cilium:v1.18.0");
        let aws = || agent("aws-node", "amazon-k8s-cni:v1.20.0");
        let argument = |argument: &str, agent: Agent| Agent { arguments: vec![argument.into()], ..agent };
        for (agent, expected) in [
            (with(cilium(), &[]), Some(true)),
            (with(cilium(), &[("policy-audit-mode", "true")]), Some(false)),
            (with(cilium(), &[("enable-policy", "never")]), Some(false)),
            (cilium(), None),
            (aws(), Some(false)),
            (with(aws(), &[("enable-network-policy-controller", "true")]), Some(true)),
            (argument("--enable-network-policy=true", aws()), Some(true)),
            (argument("--enable-network-policy=false", aws()), Some(false)),
            (agent("kube-flannel-ds", "flannel:v0.27.0"), Some(false)),
            (agent("kube-router", "kube-router:v2"), Some(true)),
            (argument("--run-firewall=false", agent("kube-router", "kube-router:v2")), Some(false)),
            (agent("node-exporter", "node-exporter:v1"), None),
        ] {
            assert_eq!(Plugin::of(std::slice::from_ref(&agent), Vec::new()).enforces, expected, "{agent:?}");
        }
    }

    #[test]
    fn doubts_are_listed() {
        let calico = Agent { ready: 1, ..agent("calico-node", "calico/node:v3") };
        let plugin = Plugin::of(&[calico, agent("antrea-agent", "antrea:v2")], Vec::new());
        assert_eq!(
            plugin.notes,
            [
                "Calico (DaemonSet kube-system/calico-node): 1 of 3 agents are ready",
                "2 network plugins enforce policies: Calico, Antrea",
            ]
        );
        let report = Report::default().with_plugin(plugin);
        assert_eq!(report.sections[0].count, 2);
        let unread = Report::default().with_plugin(Plugin::of(&[], vec!["daemonsets: forbidden".into()]));
        assert_eq!(
            (unread.sections[0].count, unread.sections[0].unanswered.as_deref()),
            (0, Some("daemonsets: forbidden"))
        );
    }
}
