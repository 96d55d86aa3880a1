//! The container image that `deploy/image/build` assembles from a static binary.
//!
//! The test builds no binary: a static one takes too long for CI. It takes the binary of `PORTCULLIS_IMAGE_BINARY`, or one in
//! `target` that was built for a musl target.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so by a panic"
)]

mod support;

use std::env;
use std::fs::{self, Permissions};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::client::{Blocking, Protocol};
use support::free_ports;
use support::pki::Authority;
use support::process::Process;
use support::reviews::good;
use support::server::get;
use tempfile::TempDir;

/// The user of the image.
const USER: &str = "65532";
/// Maximum size of the binary that ships, in bytes.
const MAX_BINARY: u64 = 15 * 1024 * 1024;
/// The time of the files in the image, in seconds since 1970.
const EPOCH: &str = "1764000000";
/// Maximum time until the server is ready.
const START: Duration = Duration::from_secs(30);

/// Returns a static binary, if there is one.
fn binary() -> Option<PathBuf> {
    if let Some(path) = env::var_os("PORTCULLIS_IMAGE_BINARY") {
        return Some(path.into());
    }
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    let of_profile =
        |profile: &&str| target.join(format!("{}-unknown-linux-musl/{profile}/portcullis", env::consts::ARCH));
    ["dist", "release", "debug"].iter().map(of_profile).find(|path| path.is_file())
}

fn has_program(name: &str) -> bool {
    Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// Writes a line that the test harness does not capture.
fn skipped(why: &str) {
    let _ = writeln!(io::stderr(), "SKIPPED: {why}");
}

/// An image in a folder, in the format of OCI.
struct Image {
    dir: TempDir,
    /// The name of the image in the store of buildah, which is removed at the end.
    tag: String,
    manifest: Value,
    config: Value,
    report: Value,
}

impl Image {
    fn build(binary: &Path, name: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("portcullis-image-").tempdir().unwrap();
        let tag = format!("localhost/portcullis-test:{name}-{}", std::process::id());
        let output = dir.path().join("output");
        let build = Command::new("deploy/image/build")
            .args(["--tag", &tag, "--binary"])
            .arg(binary)
            .arg("--output")
            .arg(&output)
            .env("SOURCE_DATE_EPOCH", EPOCH)
            .env("REVISION", "0123abc")
            .env("SOURCE_URL", "https://git.example/portcullis")
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        assert!(build.status.success(), "{}", String::from_utf8_lossy(&build.stderr));
        let layout = dir.path().join("layout");
        run(Command::new("buildah").args(["push", "--quiet", &tag]).arg(format!("oci:{}", layout.display())));
        let index = read_json(&layout.join("index.json"));
        let manifest = read_json(&blob(&layout, &index["manifests"][0]));
        let config = read_json(&blob(&layout, &manifest["config"]));
        Self { report: read_json(&output.join("image.json")), dir, tag, manifest, config }
    }

    /// Extracts the only layer.
    fn extract(&self) -> PathBuf {
        let root = self.dir.path().join("root");
        fs::create_dir(&root).unwrap();
        let layer = blob(&self.dir.path().join("layout"), &self.manifest["layers"][0]);
        run(Command::new("tar").arg("--extract").arg("--file").arg(layer).arg("--directory").arg(&root));
        root
    }

    /// Lists the files of the only layer with modes, owners and times.
    fn listing(&self) -> String {
        let layer = blob(&self.dir.path().join("layout"), &self.manifest["layers"][0]);
        run(Command::new("tar").args(["--list", "--verbose", "--numeric-owner", "--utc", "--file"]).arg(layer))
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = Command::new("buildah").args(["rmi", &self.tag]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn blob(layout: &Path, descriptor: &Value) -> PathBuf {
    layout.join("blobs").join(descriptor["digest"].as_str().unwrap().replace(':', "/"))
}

#[test]
fn the_image_is_one_reproducible_layer_with_one_binary_that_runs_as_a_user_without_rights() {
    let Some(binary) = binary() else {
        return skipped("no static binary; set PORTCULLIS_IMAGE_BINARY");
    };
    if !has_program("buildah") {
        return skipped("there is no buildah");
    }
    let image = Image::build(&binary, "a");

    let layers = image.manifest["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 1, "{layers:?}");
    let listing = image.listing();
    let fields: Vec<&str> = listing.split_whitespace().collect();
    let size = fs::metadata(&binary).unwrap().len();
    assert_eq!(
        fields,
        ["-r-xr-xr-x", "0/0", &size.to_string(), "2025-11-24", "16:00", "portcullis"],
        "one file, which no user can change"
    );

    let config = &image.config["config"];
    assert_eq!((&config["User"], &config["Entrypoint"]), (&json!("65532:65532"), &json!(["/portcullis"])));
    assert_eq!(config.get("Cmd").filter(|command| !command.is_null()), None);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        config["Labels"],
        json!({
            "org.opencontainers.image.title": "portcullis",
            "org.opencontainers.image.description": "Admission control for Kubernetes network policy",
            "org.opencontainers.image.version": version,
            "org.opencontainers.image.revision": "0123abc",
            "org.opencontainers.image.licenses": "Apache-2.0",
            "org.opencontainers.image.source": "https://git.example/portcullis",
        })
    );
    let packed = layers[0]["size"].as_u64().unwrap();
    assert!(packed <= size, "{packed} bytes of image for {size} bytes of binary");
    // Other profiles are larger.
    if binary.components().any(|part| part.as_os_str() == "dist") {
        assert!(size <= MAX_BINARY, "the binary has {size} bytes, more than {MAX_BINARY}");
    }

    let again = Image::build(&binary, "b");
    assert_eq!(image.report["digest"], again.report["digest"]);
    answers_over_tls(&image.extract());
}

#[test]
fn a_binary_that_needs_a_loader_is_rejected() {
    if !cfg!(target_env = "gnu") {
        return skipped("the binary of this build is static");
    }
    let build = Command::new("deploy/image/build")
        .args(["--binary", env!("CARGO_BIN_EXE_portcullis"), "--output", env!("CARGO_TARGET_TMPDIR")])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(!build.status.success());
    let error = String::from_utf8(build.stderr).unwrap();
    assert!(error.ends_with("is not static; build it for a musl target\n"), "{error}");
}

/// Starts the files of the image as a container runtime would: as their user, with nothing else on a read-only root but the
/// mounted certificate.
fn answers_over_tls(root: &Path) {
    if !has_program("bwrap") {
        return skipped("there is no bwrap, so the image is not started");
    }
    let dir = tempfile::Builder::new().prefix("portcullis-container-").tempdir().unwrap();
    let authority = Authority::new(&dir.path().join("certificate"));
    let identity = authority.server("portcullis", &["localhost"]);
    // The user of the image reads a Secret through the group of the volume.
    for path in
        [dir.path(), &dir.path().join("certificate"), &identity.certificate, &identity.key, root.parent().unwrap()]
    {
        let mode = if path.is_dir() { 0o755 } else { 0o644 };
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
    let [port, admin_port] = free_ports();
    let mut command = container(root, &dir.path().join("certificate"));
    command
        .args(["/portcullis", "serve", "--standalone", "--stop-after", "0.1"])
        .args(["--tls-cert", "/certificate/portcullis.crt", "--tls-key", "/certificate/portcullis.key"])
        .args(["--listen", &format!("127.0.0.1:{port}"), "--admin-listen", &format!("127.0.0.1:{admin_port}")]);
    let mut process = Process::start(&mut command, &dir.path().join("log"));
    let deadline = Instant::now() + START;
    let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, admin_port));
    while get(admin, "/readyz").is_none_or(|(status, _)| status != 200) {
        let ended = process.ended();
        assert!(ended.is_none() && Instant::now() < deadline, "{ended:?}: {}", process.log_tail());
        thread::sleep(Duration::from_millis(20));
    }
    if is_root() {
        assert_eq!(users_below(process.id()), [USER], "of all processes");
    }
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut client = Blocking::connect_as(address, &authority.certificate, "localhost", Protocol::Http2);
    let answer = client.post("/validate", good("image"));
    assert!(answer.status == 200 && answer.allowed(), "{answer:?}");
}

fn is_root() -> bool {
    run(Command::new("id").arg("--user")).trim() == "0"
}

/// Returns a command that runs a program of the image. As root it first becomes the user; any other user becomes it inside
/// of a user namespace.
fn container(root: &Path, certificate: &Path) -> Command {
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", USER, "--regid", USER, "--clear-groups", "--no-new-privs", "bwrap"]);
        command
    } else {
        Command::new("bwrap")
    };
    command.args(["--unshare-user", "--uid", USER, "--gid", USER, "--unshare-ipc", "--unshare-uts", "--clearenv"]);
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        command.arg("--ro-bind").arg(&path).arg(Path::new("/").join(path.file_name().unwrap()));
    }
    command.arg("--ro-bind").arg(certificate).arg("/certificate").args(["--remount-ro", "/"]);
    command
}

/// Returns the users of a process and its children, as numbers.
fn users_below(id: u32) -> Vec<String> {
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    let ids = children.split_whitespace().map(str::to_owned).chain([id.to_string()]);
    let mut users: Vec<String> = ids
        .map(|id| {
            let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
            let line = status.lines().find(|line| line.starts_with("Uid:")).unwrap();
            line.split_whitespace().nth(1).unwrap().to_owned()
        })
        .collect();
    users.sort_unstable();
    users.dedup();
    users
}
