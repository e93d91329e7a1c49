//! The Debian package: put together from deploy/ and from what the binary prints, packed by Debian's own dpkg-deb.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{build, sh, workspace};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Ship this binary instead of building one; it must be linked statically.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

const VERSION: &str = env!("CARGO_PKG_VERSION");
const DOCUMENTS: &str = "usr/share/doc/dfw";

/// Files of the repository, their places in the package and their modes.
const FILES: [(&str, &str, u32); 9] = [
    (
        "deploy/dfw.service",
        "usr/lib/systemd/system/dfw.service",
        0o644,
    ),
    ("deploy/dfw.toml", "etc/dfw/dfw.toml", 0o644),
    ("deploy/deb/copyright", "usr/share/doc/dfw/copyright", 0o644),
    ("LICENSE-MIT", "usr/share/doc/dfw/LICENSE-MIT", 0o644),
    ("README.md", "usr/share/doc/dfw/README.md", 0o644),
    ("CHANGELOG.md", "usr/share/doc/dfw/changelog", 0o644),
    ("deploy/deb/postinst", "DEBIAN/postinst", 0o755),
    ("deploy/deb/prerm", "DEBIAN/prerm", 0o755),
    ("deploy/deb/postrm", "DEBIAN/postrm", 0o755),
];

/// Where each shell looks for completions.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/dfw"),
    ("zsh", "usr/share/zsh/vendor-completions/_dfw"),
    ("fish", "usr/share/fish/vendor_completions.d/dfw.fish"),
];

/// Builds the package and prints its path and size.
pub(crate) fn run(options: &Options) -> Result<()> {
    let binary = build::shipped(options.binary.as_deref())?;
    let directory = workspace::target_dir()?.join("deb");
    let root = Root::new(directory.join("root"))?;
    root.put("usr/bin/dfw", &fs::read(&binary)?, 0o755)?;
    for (from, to, mode) in FILES {
        let content = fs::read(workspace::root().join(from)).context(from)?;
        root.put(to, &content, mode)?;
    }
    root.compress(&format!("{DOCUMENTS}/changelog"))?;
    for (shell, place) in COMPLETIONS {
        let script = sh::read(Command::new(&binary).args(["completions", shell]))?;
        root.put(place, script.as_bytes(), 0o644)?;
    }
    for (name, page) in pages(&sh::read(Command::new(&binary).arg("man"))?)? {
        let place = format!("usr/share/man/man1/{name}.1");
        root.put(&place, page.as_bytes(), 0o644)?;
        root.compress(&place)?;
    }
    root.put("DEBIAN/conffiles", b"/etc/dfw/dfw.toml\n", 0o644)?;
    let architecture = sh::read(Command::new("dpkg").arg("--print-architecture"))?;
    let control = fs::read_to_string(workspace::root().join("deploy/deb/control"))?;
    let control = format!("{control}Version: {VERSION}\nArchitecture: {architecture}");
    root.put("DEBIAN/control", control.as_bytes(), 0o644)?;

    let package = directory.join(format!("dfw_{VERSION}_{}.deb", architecture.trim()));
    let mut pack = Command::new("dpkg-deb");
    pack.args(["--root-owner-group", "--build"]).arg(&root.0);
    sh::run(pack.arg(&package))?;
    let size = fs::metadata(&package)?.len();
    println!("{} {:.1} MB", package.display(), size as f64 / 1e6);
    Ok(())
}

/// The pages that `dfw man` prints one after the other, each with its name.
fn pages(all: &str) -> Result<Vec<(&str, String)>> {
    // The first line of each, which chooses an apostrophe.
    const FIRST: &str = ".ie \\n(.g ";
    let pages = all.split(FIRST).skip(1);
    pages
        .map(|page| {
            let (_, title) = page.split_once("\n.TH ").context("a page has a title")?;
            let name = title.split(' ').next().unwrap_or(title);
            Ok((name, format!("{FIRST}{page}")))
        })
        .collect()
}

/// What becomes `/` on the machine, and DEBIAN beside it.
struct Root(PathBuf);

impl Root {
    /// An empty one.
    fn new(path: PathBuf) -> Result<Self> {
        if path.exists() {
            fs::remove_dir_all(&path).with_context(|| path.display().to_string())?;
        }
        fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }

    fn put(&self, place: &str, content: &[u8], mode: u32) -> Result<()> {
        let path = self.0.join(place);
        let parent = path.parent().context("a place in a directory")?;
        make_directories(&self.0, parent)?;
        fs::write(&path, content).context(path.display().to_string())?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        Ok(())
    }

    /// As Debian wants its manual pages and changelogs; without the name and time that gzip would add.
    fn compress(&self, place: &str) -> Result<()> {
        let mut gzip = Command::new("gzip");
        sh::read(gzip.args(["-9", "--no-name"]).arg(self.0.join(place))).map(drop)
    }
}

/// Makes a directory and those above it, whatever the user's umask is.
fn make_directories(root: &Path, directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    for made in directory
        .ancestors()
        .take_while(|above| above.starts_with(root))
    {
        fs::set_permissions(made, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_told_apart_and_named() {
        let all = ".ie \\n(.g .ds Aq x\n.TH dfw 1 \na\n.ie \\n(.g .ds Aq x\n.TH dfw-run 1 \nb\n";
        let pages = pages(all).expect("two pages");
        let names: Vec<&str> = pages.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["dfw", "dfw-run"]);
        assert!(pages.iter().all(|(_, page)| page.starts_with(".ie")));
        assert!(pages[1].1.ends_with("b\n"));
    }
}
