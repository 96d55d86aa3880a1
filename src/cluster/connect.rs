//! The connection to the API server, by a kubeconfig or by the service account of the pod.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use kube::Client;
use kube::config::{Config, InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};

use super::{Cluster, Served};

/// Maximum time to connect.
const CONNECT: Duration = Duration::from_secs(5);
/// Maximum time to write a request. Each caller limits the time of the response, because a watch may be silent for
/// minutes.
const WRITE: Duration = Duration::from_secs(30);

/// An error in the settings of the connection to a cluster.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kubeconfig cannot be used.
    #[error("failed to load kubeconfig {file}")]
    Kubeconfig {
        /// The file, or the variable that names it.
        file: String,
        /// The cause.
        #[source]
        source: Box<KubeconfigError>,
    },
    /// A context was requested, but no kubeconfig was found.
    #[error("no kubeconfig found for context `{0}`; set --kubeconfig")]
    NoKubeconfig(String),
    /// The process runs in a pod, and its service account cannot be used.
    #[error("failed to load the service account of this pod; to run without a cluster, set --standalone")]
    ServiceAccount(#[source] InClusterError),
    /// A certificate, a key or an address of the cluster cannot be used.
    #[error("failed to create a client for the API server at {server}")]
    Client {
        /// The address.
        server: String,
        /// The cause.
        #[source]
        source: Box<kube::Error>,
    },
}

impl Cluster {
    /// Returns the cluster of the first source that exists: `kubeconfig`, `$KUBECONFIG`, the service account of this
    /// pod, `~/.kube/config`. Returns none if no source exists. The service account is skipped if a context is given.
    /// No request is sent.
    ///
    /// # Errors
    /// Fails if the source cannot be used, or if a context is given and no kubeconfig exists.
    pub async fn connect(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Option<Self>, Error> {
        let Some(mut config) = configuration(kubeconfig, context).await? else { return Ok(None) };
        config.connect_timeout = Some(CONNECT);
        config.write_timeout = Some(WRITE);
        config.read_timeout = None;
        // Callers have their own backoff, and report the error.
        config.default_retry = false;
        let agent = concat!("portcullis/", env!("CARGO_PKG_VERSION"));
        if let (Ok(name), Ok(value)) = ("user-agent".parse(), agent.parse()) {
            config.headers.push((name, value));
        }
        let server = config.cluster_url.to_string();
        let client = Client::try_from(config)
            .map_err(|source| Error::Client { server: server.clone(), source: source.into() })?;
        Ok(Some(Self { client, server, served: Arc::new(ArcSwap::from_pointee(Served::default())) }))
    }
}

async fn configuration(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Option<Config>, Error> {
    let read = |file: &Path| Kubeconfig::read_from(file).map_err(|source| fault(file.display().to_string(), source));
    if let Some(file) = kubeconfig {
        return chosen(read(file)?, &file.display().to_string(), context).await.map(Some);
    }
    let variable = std::env::var_os("KUBECONFIG").unwrap_or_default();
    let named = format!("$KUBECONFIG ({})", variable.display());
    if let Some(found) = Kubeconfig::from_env().map_err(|source| fault(named.clone(), source))? {
        return chosen(found, &named, context).await.map(Some);
    }
    if context.is_none() && std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
        return Config::incluster().map(Some).map_err(Error::ServiceAccount);
    }
    let home = std::env::home_dir().unwrap_or_default();
    let file: PathBuf = home.join(".kube").join("config");
    if file.is_file() {
        return chosen(read(&file)?, &file.display().to_string(), context).await.map(Some);
    }
    match context {
        Some(context) => Err(Error::NoKubeconfig(context.to_owned())),
        None => Ok(None),
    }
}

async fn chosen(kubeconfig: Kubeconfig, file: &str, context: Option<&str>) -> Result<Config, Error> {
    let has_proxy = kubeconfig
        .clusters
        .iter()
        .any(|named| named.cluster.as_ref().is_some_and(|cluster| cluster.proxy_url.is_some()));
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let mut config =
        Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|source| fault(file.to_owned(), source))?;
    // Proxies are not supported. A proxy from the environment is meant for other traffic, and is ignored. A proxy from
    // the kubeconfig is meant for the API server, and is an error.
    if !has_proxy {
        config.proxy_url = None;
    }
    Ok(config)
}

fn fault(file: String, source: KubeconfigError) -> Error {
    Error::Kubeconfig { file, source: Box::new(source) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the error for a kubeconfig, with its causes.
    async fn error(text: &str, context: Option<&str>) -> String {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("kubeconfig");
        std::fs::write(&file, text).unwrap();
        let Err(error) = Cluster::connect(Some(&file), context).await else { panic!("{text} was taken") };
        let mut words = error.to_string();
        assert!(words.contains(&file.display().to_string()), "{words}");
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            words += &format!(": {error}");
            cause = error.source();
        }
        words
    }

    #[tokio::test]
    async fn a_broken_kubeconfig_is_named() {
        assert!(error("a: [", None).await.contains("YAML"));
        let empty = "apiVersion: v1\nkind: Config\nclusters: []\nusers: []\ncontexts: []\n";
        assert!(error(empty, None).await.contains("current context"));
        assert!(error(empty, Some("other")).await.contains("other"));
    }

    #[tokio::test]
    async fn a_kubeconfig_that_is_not_there_is_an_error() {
        let Err(error) = Cluster::connect(Some(Path::new("/nowhere/kubeconfig")), None).await else { panic!("taken") };
        assert_eq!(error.to_string(), "failed to load kubeconfig /nowhere/kubeconfig");
    }
}
