//! Reads the DaemonSets of network plugins, and the ConfigMaps with their settings.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Container};
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};

use crate::audit::{Agent, Plugin};
use crate::cluster::{Cluster, words};

/// Reads the network plugin. What may not be read is recorded.
pub(super) async fn read(cluster: &Cluster) -> Plugin {
    let mut unread = Vec::new();
    let all: Api<DaemonSet> = Api::all(cluster.client.clone());
    let found = match all.list(&ListParams::default()).await {
        Ok(found) => found.items,
        Err(error) => return Plugin::of(&[], vec![format!("daemonsets: {}", words(&error))]),
    };
    let mut agents = Vec::new();
    for daemon_set in found.into_iter().filter(|found| Agent::is_known(&found.name_any())) {
        let mut agent = agent(daemon_set);
        if let Some(name) = Agent::settings_name(&agent.name) {
            let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), &agent.namespace);
            match maps.get_opt(name).await {
                Ok(map) => agent.settings = Some(map.and_then(|map| map.data).unwrap_or_default()),
                Err(error) => unread.push(format!("configmap {}/{name}: {}", agent.namespace, words(&error))),
            }
        }
        agents.push(agent);
    }
    Plugin::of(&agents, unread)
}

fn agent(daemon_set: DaemonSet) -> Agent {
    let (namespace, name) = (daemon_set.namespace().unwrap_or_default(), daemon_set.name_any());
    let containers: Vec<Container> = daemon_set.spec.template.spec.map(|spec| spec.containers).unwrap_or_default();
    let status = daemon_set.status.unwrap_or_default();
    let number = |number: i32| usize::try_from(number).unwrap_or_default();
    let words = |container: &Container| {
        let (command, arguments) = (container.command.clone(), container.args.clone());
        command.unwrap_or_default().into_iter().chain(arguments.unwrap_or_default()).collect::<Vec<_>>()
    };
    Agent {
        namespace,
        name,
        images: containers.iter().filter_map(|container| container.image.clone()).collect(),
        arguments: containers.iter().flat_map(words).collect(),
        desired: number(status.desired_number_scheduled),
        ready: number(status.number_ready),
        settings: None,
    }
}
