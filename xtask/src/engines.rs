//! Engines newer than Debian 12's: root file systems of later releases, each with the Docker and Compose of its own. Made
//! once and kept in target/engines; to remove one is to have it made anew.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{sh, workspace};

/// Names a root to the tests; read by tests/src/root.rs.
pub(crate) const VARIABLE: &str = "DFW_ENGINE_ROOT";

/// The release that does not change any more: Docker 26.
pub(crate) const STABLE: &str = "trixie";

/// Every release: Docker 26, and 28 or what has followed it.
pub(crate) const RELEASES: [&str; 2] = [STABLE, "forky"];

/// What runs on each of them: test binaries (tests/tests), and parts of the names of their tests.
pub(crate) const TESTS: [(&str, &[&str]); 7] = [
    ("truth_table", &["on_an_engine"]),
    ("paths", &[]),
    ("docker_source", &[]),
    ("starts", &["with_rules_of_its_own"]),
    ("latency", &[]),
    ("ship", &["image::an_", "manifests::"]),
    SHIPPED,
];

/// Of these, what no older engine can do: the files of deploy/ as they are.
pub(crate) const SHIPPED: (&str, &[&str]) =
    ("ship", &["booted::", "compose::", "reading::", "swarm::"]);

/// What the tests want of a host: an engine with its commands, something that proxies, an init.
const PACKAGES: &str = "dbus,docker-cli,docker-compose,docker.io,haproxy,systemd-sysv";
/// Says which of them a root was made with.
const STAMP: &str = "etc/dfw-packages";
/// A third of it, and of no use here.
const DROPPED: [&str; 6] = [
    "usr/share/doc",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/man",
    "var/cache/apt",
    "var/lib/apt/lists",
];
/// What every release is installed by; debootstrap knows those later than itself by no other name.
const SCRIPT: &str = "/usr/share/debootstrap/scripts/sid";

/// The root file system of a release; makes it if there is none: a minute, and some 420 MB.
///
/// # Errors
/// Debian's archive cannot be reached; no room.
pub(crate) fn root(release: &str) -> Result<PathBuf> {
    let directory = workspace::target_dir()?.join("engines");
    let root = directory.join(release);
    if fs::read_to_string(root.join(STAMP)).is_ok_and(|stamp| stamp == PACKAGES) {
        return Ok(root);
    }
    let unfinished = directory.join(format!("{release}.unfinished"));
    for old in [&root, &unfinished] {
        remove(old)?;
    }
    fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    let mut debootstrap = Command::new("debootstrap");
    debootstrap.args(["--variant=minbase", &format!("--include={PACKAGES}")]);
    // No mirror: its own choice.
    sh::run(debootstrap.arg(release).arg(&unfinished).args(["", SCRIPT]))?;
    for dropped in DROPPED {
        remove(&unfinished.join(dropped))?;
    }
    fs::write(unfinished.join(STAMP), PACKAGES).context(STAMP)?;
    fs::rename(&unfinished, &root).with_context(|| root.display().to_string())?;
    Ok(root)
}

fn remove(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory).with_context(|| directory.display().to_string())?;
    }
    Ok(())
}
