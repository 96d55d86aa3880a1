//! A memory limit for a process, as the kubelet sets it for a container.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

/// The memory limit in deploy/deployment.yaml, in bytes.
pub(crate) const DEPLOYMENT_LIMIT: u64 = 512 * 1024 * 1024;

/// The folders in which cgroups with a memory controller are created, and the names of their files.
const VERSIONS: [Version; 2] = [
    Version {
        root: "/sys/fs/cgroup/memory",
        limit: "memory.limit_in_bytes",
        peak: "memory.max_usage_in_bytes",
        events: "memory.oom_control",
    },
    Version { root: "/sys/fs/cgroup", limit: "memory.max", peak: "memory.peak", events: "memory.events" },
];

#[derive(Clone, Copy)]
struct Version {
    root: &'static str,
    limit: &'static str,
    peak: &'static str,
    /// Holds the line `oom_kill`.
    events: &'static str,
}

/// A cgroup with a memory limit. It is removed when this is dropped, after its process has ended.
pub(crate) struct MemoryLimit {
    folder: PathBuf,
    version: Version,
}

impl MemoryLimit {
    /// Creates a cgroup with this limit, in bytes. None, with one line on stderr, on a machine that does not allow it: that
    /// takes root, and the memory controller in the root cgroup.
    pub(crate) fn new(bytes: u64) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("portcullis-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        for version in VERSIONS {
            let limit = Self { folder: Path::new(version.root).join(&name), version };
            if fs::create_dir(&limit.folder).is_ok() && limit.write(version.limit, bytes).is_ok() {
                return Some(limit);
            }
        }
        let _ = writeln!(io::stderr(), "no cgroup can be created: the memory limit is compared with peaks only");
        None
    }

    /// The start of a command line that runs what follows within the limit. Its first allocation is already charged.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", r#"echo $$ > "$0" && exec "$@""#]).arg(self.folder.join("cgroup.procs"));
        command
    }

    /// The largest number of bytes that were charged at once, with the page cache of the log.
    pub(crate) fn peak(&self) -> u64 {
        self.read(self.version.peak).trim().parse().unwrap_or_default()
    }

    /// The number of processes that the kernel killed for exceeding the limit.
    pub(crate) fn oom_kills(&self) -> u64 {
        let text = self.read(self.version.events);
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.and_then(|count| count.trim().parse().ok()).unwrap_or_default()
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.folder.join(file)).unwrap_or_default()
    }

    fn write(&self, file: &str, bytes: u64) -> io::Result<()> {
        // `fs::write` would create a file where the folder is none of a cgroup.
        fs::OpenOptions::new().write(true).open(self.folder.join(file))?.write_all(bytes.to_string().as_bytes())
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        // The kernel takes a moment to forget a process that has ended.
        for _ in 0..50 {
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A number of kB in /proc/ID/status, in bytes.
pub(crate) fn status_bytes(id: u32, field: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    Some(line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()? * 1024)
}
