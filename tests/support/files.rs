//! Files that a test changes while a server reads them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use tempfile::TempDir;

use super::client::serial;
use super::server::{Portcullis, until};

/// A detail of /readyz, and the first part of the names of its metrics.
pub(crate) const CERTIFICATE: &str = "certificate";
/// The same for configuration, policies and context.
pub(crate) const CONFIGURATION: &str = "configuration";
/// What is in a detail whose files are not in use.
pub(crate) const LAST_GOOD: &str = "using the last good ";
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

/// An authority whose certificates expire when the test says so.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate.
    pub(crate) pem: String,
}

/// A certificate and its key, with what tells it from others.
pub(crate) struct Leaf {
    pub(crate) certificate: String,
    pub(crate) key: String,
    pub(crate) serial: Vec<u8>,
    pub(crate) expires: u64,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate that expires at this time, to the second.
    pub(crate) fn leaf(&self, expires: SystemTime) -> Leaf {
        let expires = expires.duration_since(UNIX_EPOCH).unwrap().as_secs();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_before = (SystemTime::now() - 30 * DAY).into();
        params.not_after = (UNIX_EPOCH + Duration::from_secs(expires)).into();
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        Leaf { certificate: signed.pem(), key: key.serialize_pem(), serial: serial(signed.der()), expires }
    }

    /// A certificate that expires in so many days.
    pub(crate) fn days(&self, days: u32) -> Leaf {
        self.leaf(SystemTime::now() + days * DAY)
    }
}

/// A folder with the pair of a server.
pub(crate) struct Files {
    pub(crate) dir: TempDir,
    pub(crate) authority: Authority,
}

impl Files {
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("portcullis-reload-").tempdir().unwrap();
        Self { dir, authority: Authority::new() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // As editors do it: nobody sees half a file.
        let new = path.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, &path).unwrap();
        path
    }

    pub(crate) fn write_pair(&self, leaf: &Leaf) -> (PathBuf, PathBuf) {
        (self.write("tls.crt", &leaf.certificate), self.write("tls.key", &leaf.key))
    }

    /// Starts a server on `tls.crt` and `tls.key`.
    pub(crate) async fn serve(&self, arguments: &[&str]) -> Portcullis {
        let pair = (self.path("tls.crt"), self.path("tls.key"));
        let arguments = [&["--reload-every", "0.1"], arguments].concat();
        Portcullis::launch(self.dir.path(), (&pair.0, &pair.1), &self.authority.pem, &arguments).await
    }

    /// Starts a server that has a good pair, on other files.
    pub(crate) async fn serve_with_pair(&self, arguments: &[&str]) -> Portcullis {
        self.write_pair(&self.authority.days(90));
        let server = self.serve(arguments).await;
        server.until_ready().await;
        server
    }
}

/// A folder as a kubelet mounts a Secret or a ConfigMap: names that link to `..data`, which links to a folder.
pub(crate) struct Mount {
    pub(crate) path: PathBuf,
    versions: u32,
}

impl Mount {
    pub(crate) fn new(path: PathBuf, files: &[(&str, &str)]) -> Self {
        fs::create_dir_all(&path).unwrap();
        let mut mount = Self { path, versions: 0 };
        mount.swap(files);
        for (name, _) in files {
            symlink(Path::new("..data").join(name), mount.path.join(name)).unwrap();
        }
        mount
    }

    /// Puts another version in place, all of it at once.
    pub(crate) fn swap(&mut self, files: &[(&str, &str)]) {
        let old = fs::read_link(self.path.join("..data")).ok();
        self.versions += 1;
        let version = format!("..2026_11_21_{}", self.versions);
        fs::create_dir(self.path.join(&version)).unwrap();
        for (name, text) in files {
            fs::write(self.path.join(&version).join(name), text).unwrap();
        }
        symlink(&version, self.path.join("..data_tmp")).unwrap();
        fs::rename(self.path.join("..data_tmp"), self.path.join("..data")).unwrap();
        if let Some(old) = old {
            fs::remove_dir_all(self.path.join(old)).unwrap();
        }
    }
}

/// Waits until a detail of /readyz has this in it, and says it whole. The server is ready all the time.
pub(crate) async fn until_detail(server: &Portcullis, of: &str, has: &str) -> String {
    until(&format!("{has} in the detail of the {of}"), async || {
        let (status, answer) = server.readyz()?;
        let detail = answer["detail"][of].as_str().unwrap().to_owned();
        assert_eq!((status, &answer["state"]), (200, &"serving".into()), "the last good state is in force: {answer}");
        detail.contains(has).then_some(detail)
    })
    .await
}

/// The series that counts how often files were read again.
pub(crate) fn reloads(of: &str, result: &str) -> String {
    format!(r#"portcullis_{of}_reloads_total{{result="{result}"}}"#)
}
