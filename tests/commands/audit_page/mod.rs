//! The HTML page of `portcullis audit`, in a real browser.

mod interaction;
mod readability;
mod safety;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::browser::Browser;
use crate::support::command::run;

const CLUSTER: &str = "tests/commands/audit_page/cluster.yaml";

/// The page over manifests, in a folder of its own.
struct Page {
    folder: TempDir,
}

impl Page {
    fn of(manifests: &Path) -> Self {
        let done = run(&["audit", "--output", "html", manifests.to_str().unwrap()], "");
        assert!(done.code < 2, "{}", done.err);
        let folder = tempfile::Builder::new().prefix("portcullis-page-").tempdir().unwrap();
        fs::write(folder.path().join("page.html"), done.out).unwrap();
        Self { folder }
    }

    /// The page over objects in JSON.
    fn over(name: &str, objects: &[Value]) -> Self {
        let folder = tempfile::Builder::new().prefix("portcullis-objects-").tempdir().unwrap();
        let file = folder.path().join(format!("{name}.json"));
        fs::write(&file, json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string()).unwrap();
        Self::of(&file)
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("page.html")
    }
}

/// A browser. None where Chromium is not installed, which is said in a line that the test harness does not swallow.
fn browser() -> Option<Browser> {
    let browser = Browser::start();
    if browser.is_none() {
        let _ = writeln!(std::io::stderr(), "SKIPPED: there is no chromium");
    }
    browser
}

/// A browser with the page of the cluster open.
fn opened() -> Option<(Browser, Page)> {
    let mut browser = browser()?;
    let page = Page::of(Path::new(CLUSTER));
    browser.open(&page.path());
    Some((browser, page))
}

/// A namespace with one pod. One that exists already is not isolated: it has no profile.
fn namespace(name: &str, label: &str, exists: bool) -> [Value; 2] {
    let labels = json!({"app": "api", "note": label});
    [
        json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": if exists { json!({"name": name, "uid": name}) } else { json!({"name": name}) },
        }),
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "api", "namespace": name},
            "spec": {"selector": {"matchLabels": labels}, "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "api", "ports": [{"containerPort": 8080}]}]}}},
        }),
    ]
}

/// The cell of the matrix at a row and a column of the page, from zero.
fn cell(row: usize, column: usize) -> String {
    format!("#matrix-scroll [data-row='{row}'][data-column='{column}']")
}

/// The cell of the matrix between two names.
fn cell_of(from: &str, to: &str) -> String {
    format!("#matrix-scroll [aria-label^='{from} to {to}: ']")
}

fn focused_label(browser: &mut Browser) -> String {
    browser.text("document.activeElement.getAttribute('aria-label') ?? ''")
}

fn assert_no_sideways_scrolling(browser: &mut Browser) {
    for width in [400, 768, 1280, 2000] {
        browser.resize(width, 900);
        browser.until(&format!("innerWidth === {width}"));
        for level in ["workloads", "namespaces"] {
            browser.evaluate(&format!("document.querySelector('input[value={level}]').click()"));
            browser.evaluate("new Promise((done) => setTimeout(done, 300))");
            let wide = browser.evaluate(
                "document.documentElement.scrollWidth <= innerWidth ? [] : [...document.querySelectorAll('body *')]
                    .filter((part) => part.getBoundingClientRect().right > innerWidth && !part.closest('.scroll'))
                    .map((part) => part.outerHTML.slice(0, 80))",
            );
            assert_eq!(wide, json!([]), "{width} pixels, {level}");
        }
    }
}

/// `UPDATE_DOCS=1` takes the pictures of docs/images.
#[test]
fn the_pictures_of_the_page_are_there() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/images");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let Some((mut browser, _page)) = opened() else { return };
        for theme in ["light", "dark"] {
            browser.prefer("prefers-color-scheme", theme);
            let size = json!({"width": 1180, "height": 1310, "deviceScaleFactor": 0.85, "mobile": false});
            browser.call("Emulation.setDeviceMetricsOverride", &size);
            let picture = STANDARD.decode(browser.picture()).unwrap();
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(format!("audit-{theme}.png")), picture).unwrap();
        }
    }
    for theme in ["light", "dark"] {
        let size = fs::metadata(folder.join(format!("audit-{theme}.png"))).unwrap().len();
        assert!(size < 200_000, "{theme}: {size} bytes");
    }
}
