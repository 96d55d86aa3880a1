//! The server as its Deployment runs it: the arguments, and the objects that its files come from.

use std::path::Path;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Container, KeyToPath, PodSpec, VolumeMount};

/// The container of the server, in the pod template of its Deployment.
#[derive(Clone, Copy)]
pub(super) struct Server<'a> {
    pod: &'a PodSpec,
    container: &'a Container,
}

/// The object that a file of the container comes from, and its key there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A key of a ConfigMap.
    ConfigMap { name: String, key: String },
    /// A key of a Secret.
    Secret { name: String, key: String },
}

impl<'a> Server<'a> {
    /// Returns the container that runs `portcullis serve`; otherwise the first one.
    pub(super) fn of(deployment: &'a Deployment) -> Option<Self> {
        let pod = deployment.spec.template.spec.as_ref()?;
        let serves = |container: &&Container| {
            container.command.iter().chain(&container.args).flatten().any(|argument| argument == "serve")
        };
        let container = pod.containers.iter().find(serves).or_else(|| pod.containers.first())?;
        Some(Self { pod, container })
    }

    /// Returns the service account of the pods.
    pub(super) fn account(&self) -> &'a str {
        self.pod.service_account_name.as_deref().unwrap_or("default")
    }

    /// Returns the value of a flag, written as `--flag=value` or as `--flag value`.
    pub(super) fn flag(&self, flag: &str) -> Option<&'a str> {
        let mut arguments = self.arguments();
        while let Some(argument) = arguments.next() {
            match argument.strip_prefix(flag) {
                Some("") => return arguments.next(),
                Some(rest) if rest.starts_with('=') => return rest.strip_prefix('='),
                _ => {}
            }
        }
        None
    }

    /// Returns the value of a flag, or of the environment variable that stands for it.
    pub(super) fn flag_or_variable(&self, flag: &str, variable: &str) -> Option<&'a str> {
        let variable = || {
            let mut variables = self.container.env.iter().flatten();
            variables.find(|given| given.name == variable).and_then(|given| given.value.as_deref())
        };
        self.flag(flag).or_else(variable)
    }

    /// Returns true if a flag without a value is set.
    pub(super) fn is_set(&self, flag: &str) -> bool {
        self.arguments().any(|argument| argument == flag)
    }

    fn arguments(&self) -> impl Iterator<Item = &'a str> {
        self.container.command.iter().chain(&self.container.args).flatten().map(String::as_str)
    }

    /// Returns the object that a file of the container comes from. None for a file that no ConfigMap or Secret provides.
    pub(super) fn origin(&self, file: &str) -> Option<Origin> {
        let mounts = self.container.volume_mounts.iter().flatten();
        let below = mounts.filter(|mount| Path::new(file).starts_with(&mount.mount_path));
        // The innermost mount hides the others.
        let mount = below.max_by_key(|mount| Path::new(&mount.mount_path).components().count())?;
        let volume = self.pod.volumes.iter().flatten().find(|volume| volume.name == mount.name)?;
        let path = path_in_volume(mount, file)?;
        if let Some(map) = &volume.config_map {
            let key = key(map.items.as_deref(), &path)?;
            return Some(Origin::ConfigMap { name: map.name.clone(), key });
        }
        let secret = volume.secret.as_ref()?;
        let key = key(secret.items.as_deref(), &path)?;
        Some(Origin::Secret { name: secret.secret_name.clone()?, key })
    }
}

/// Returns the path of a file in the volume that provides it.
fn path_in_volume(mount: &VolumeMount, file: &str) -> Option<String> {
    let below = Path::new(file).strip_prefix(&mount.mount_path).ok()?;
    let start = mount.sub_path.as_deref().unwrap_or_default();
    let parts = Path::new(start).components().chain(below.components());
    let parts: Vec<_> = parts.map(|part| part.as_os_str().to_string_lossy()).collect();
    Some(parts.join("/"))
}

/// Returns the key of a ConfigMap or Secret that a volume provides at a path.
fn key(items: Option<&[KeyToPath]>, path: &str) -> Option<String> {
    match items {
        Some(items) => items.iter().find(|item| item.path == path).map(|item| item.key.clone()),
        None => Some(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn deployment(container: &Value) -> Deployment {
        let containers = json!([{"name": "sidecar", "args": ["--config=/other"]}, container]);
        let volumes = json!([
            {"name": "other", "configMap": {"name": "trust"}},
            {"name": "settings", "configMap": {"name": "gate-configuration"}},
            {"name": "renamed", "configMap": {"name": "renamed", "items": [{"key": "a.yaml", "path": "deep/b.yaml"}]}},
            {"name": "tls", "secret": {"secretName": "gate-serving"}},
            {"name": "scratch", "emptyDir": {}},
        ]);
        let spec = json!({"containers": containers, "volumes": volumes});
        serde_json::from_value(json!({"spec": {"selector": {}, "template": {"spec": spec}}})).unwrap()
    }

    #[test]
    fn a_flag_is_read_in_both_forms_and_from_the_container_that_serves() {
        let deployment = deployment(&json!({
            "name": "portcullis",
            "args": ["serve", "--tls-secret", "gate-serving", "--webhook-name=gate=1", "--controller"],
            "env": [{"name": "PORTCULLIS_CONFIG", "value": "/from/env"}],
        }));
        let server = Server::of(&deployment).unwrap();
        assert_eq!(server.flag("--tls-secret"), Some("gate-serving"));
        assert_eq!(server.flag("--webhook-name"), Some("gate=1"));
        assert_eq!(server.flag("--webhook"), None, "another flag starts with it");
        assert_eq!(server.flag_or_variable("--config", "PORTCULLIS_CONFIG"), Some("/from/env"));
        assert!(server.is_set("--controller") && !server.is_set("--standalone"));
    }

    #[test]
    fn a_file_comes_from_the_innermost_mount() {
        let mount = |name: &str, path: &str| json!({"name": name, "mountPath": path});
        let mut one_file = mount("settings", "/etc/one.yaml");
        one_file["subPath"] = json!("portcullis.yaml");
        let deployment = deployment(&json!({"name": "portcullis", "args": ["serve"], "volumeMounts": [
            mount("other", "/etc"), mount("settings", "/etc/portcullis"), mount("renamed", "/etc/renamed"), one_file,
            mount("tls", "/tls"), mount("scratch", "/etc/portcullis/scratch"),
        ]}));
        let server = Server::of(&deployment).unwrap();
        let map = |name: &str, key: &str| Some(Origin::ConfigMap { name: name.to_owned(), key: key.to_owned() });
        for (file, expected) in [
            ("/etc/portcullis/portcullis.yaml", map("gate-configuration", "portcullis.yaml")),
            ("/etc/portcullis.pem", map("trust", "portcullis.pem")),
            ("/etc/one.yaml", map("gate-configuration", "portcullis.yaml")),
            ("/etc/renamed/deep/b.yaml", map("renamed", "a.yaml")),
            ("/etc/renamed/c.yaml", None),
            ("/etc/portcullis/scratch/portcullis.yaml", None),
            ("/tls/tls.crt", Some(Origin::Secret { name: "gate-serving".to_owned(), key: "tls.crt".to_owned() })),
            ("/nowhere", None),
        ] {
            assert_eq!(server.origin(file), expected, "{file}");
        }
    }
}
