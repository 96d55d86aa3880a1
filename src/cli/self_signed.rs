//! The files of the serving certificate of `portcullis serve`, and the creation of a self-signed certificate.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::NAME;
use super::tls::{TlsArguments, names};
use crate::config::NAMESPACE;
use crate::pki;

/// Returns the files of the serving certificate and its key. With --self-signed, they are created if they are missing,
/// and recreated for the current names if --tls-name is given.
pub(super) fn certificate_files(arguments: &TlsArguments) -> Result<(PathBuf, PathBuf)> {
    match (&arguments.tls_cert, &arguments.tls_key) {
        (Some(certificate), Some(key)) => return Ok((certificate.clone(), key.clone())),
        _ if !arguments.self_signed => {
            bail!(
                "a serving certificate is required; set --tls-cert and --tls-key, --tls-secret (in a cluster) or \
                 --self-signed"
            )
        }
        _ => {}
    }
    let file = |name: &str| arguments.certs.join(name);
    let (certificate, key) = (file("tls.pem"), file("tls.key"));
    if certificate.exists() && key.exists() && arguments.tls_name.is_empty() {
        return Ok((certificate, key));
    }
    std::fs::create_dir_all(&arguments.certs).with_context(|| arguments.certs.display().to_string())?;
    let ca = if file("ca.pem").exists() && file("ca.key").exists() {
        let read = |name: &str| std::fs::read_to_string(file(name)).with_context(|| file(name).display().to_string());
        pki::Pem { certificate: read("ca.pem")?, key: read("ca.key")? }
    } else {
        let ca = pki::new_ca("portcullis CA")?;
        write_private(&file("ca.key"), &ca.key)?;
        std::fs::write(file("ca.pem"), &ca.certificate).with_context(|| file("ca.pem").display().to_string())?;
        ca
    };
    let leaf = pki::new_leaf(&ca, &names(NAMESPACE, NAME, &arguments.tls_name))?;
    write_private(&key, &leaf.key)?;
    std::fs::write(&certificate, &leaf.certificate).with_context(|| certificate.display().to_string())?;
    Ok((certificate, key))
}

/// Writes a file that only its owner can read at any time.
fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let write = || -> std::io::Result<()> {
        // An existing file would keep its mode.
        if path.exists() {
            std::fs::remove_file(path)?;
        }
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(text.as_bytes())
    };
    write().with_context(|| path.display().to_string())
}

/// Prints the caBundle of the self-signed CA, and commands that use the server.
pub(super) fn introduce(arguments: &TlsArguments, address: SocketAddr) -> Result<()> {
    let ca = arguments.certs.join("ca.pem");
    let bundle = std::fs::read(&ca).with_context(|| ca.display().to_string())?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "caBundle: {}\n", STANDARD.encode(bundle))?;
    writeln!(out, "Try it:\n  {}\n", curl(&ca, address, "@review.json"))?;
    writeln!(
        out,
        "For a cluster that reaches this machine as HOST (add --tls-name HOST to this command first):\n  \
         portcullis webhooks --url https://HOST:{} --ca {} | kubectl apply -f -",
        address.port(),
        ca.display()
    )?;
    Ok(())
}

/// Returns a command that sends a review to the server.
pub(super) fn curl(ca: &Path, address: SocketAddr, data: &str) -> String {
    format!(
        "curl --cacert {} -H 'Content-Type: application/json' --data-binary {data} https://localhost:{}/validate",
        ca.display(),
        address.port()
    )
}
