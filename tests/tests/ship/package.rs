//! The unit and the Debian package.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, process::Command};

use dfw_agent::{cli::Cli, config::Settings};
use dfw_tests::{process, scratch::Scratch};

use clap::CommandFactory as _;

use crate::{VERSION, deploy, read, stripped, xtask};

/// systemd itself finds nothing to say about the unit, in a root where the binary is.
#[test]
fn systemd_understands_the_unit() {
    let scratch = Scratch::new();
    let unit = read("dfw.service").replace("/usr/bin/dfw", &dfw_tests::agent::binary());
    let unit = scratch.file("dfw.service", &unit);
    let mut verify = Command::new("systemd-analyze");
    // The manual page is not installed here.
    verify.args(["verify", "--man=no"]).arg(unit);
    let output = process::output(&mut verify);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}

#[test]
fn the_shipped_configuration_is_valid_and_says_the_defaults() {
    let shipped = Settings::load(Some(&deploy("dfw.toml"))).and_then(Settings::resolve);
    let defaults = Settings::default().resolve();
    assert_eq!(shipped.expect("valid"), defaults.expect("valid"));
}

/// Builds the package and returns where it is.
pub(crate) fn package(scratch: &Scratch) -> PathBuf {
    let printed = process::run(&mut xtask("deb", &stripped(scratch)));
    let line = printed.lines().last().expect("path and size");
    let path = line.split(' ').next().expect("a path");
    PathBuf::from(path)
}

#[test]
fn the_package_holds_binary_manual_completions_unit_and_configuration() {
    let scratch = Scratch::new();
    let package = package(&scratch);
    let listed = process::run(Command::new("dpkg-deb").arg("--contents").arg(&package));
    let mut wanted = vec![
        "-rwxr-xr-x root/root ./usr/bin/dfw".to_owned(),
        "-rw-r--r-- root/root ./etc/dfw/dfw.toml".to_owned(),
        "-rw-r--r-- root/root ./usr/lib/systemd/system/dfw.service".to_owned(),
        "-rw-r--r-- root/root ./usr/share/bash-completion/completions/dfw".to_owned(),
        "-rw-r--r-- root/root ./usr/share/zsh/vendor-completions/_dfw".to_owned(),
        "-rw-r--r-- root/root ./usr/share/fish/vendor_completions.d/dfw.fish".to_owned(),
        "-rw-r--r-- root/root ./usr/share/man/man1/dfw.1.gz".to_owned(),
        "-rw-r--r-- root/root ./usr/share/doc/dfw/copyright".to_owned(),
        "-rw-r--r-- root/root ./usr/share/doc/dfw/changelog.gz".to_owned(),
    ];
    let commands = Cli::command();
    wanted.extend(commands.get_subcommands().map(|command| {
        let name = command.get_name();
        format!("-rw-r--r-- root/root ./usr/share/man/man1/dfw-{name}.1.gz")
    }));
    let listed: Vec<String> = listed
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            format!("{} {} {}", words[0], words[1], words[words.len() - 1])
        })
        .collect();
    for line in wanted {
        assert!(listed.contains(&line), "{line}\n{listed:#?}");
    }
    let strange = listed.iter().filter(|line| line.starts_with('d'));
    for line in strange {
        assert!(line.starts_with("drwxr-xr-x root/root "), "{line}");
    }
    let field = |name: &str| {
        let mut field = Command::new("dpkg-deb");
        process::run(field.arg("--field").arg(&package).arg(name))
            .trim()
            .to_owned()
    };
    assert_eq!(field("Version"), VERSION);
    // Nothing of any distribution is needed.
    assert_eq!(field("Depends"), "");
}

/// Installed, changed, removed and purged in a root of its own, without the machine's systemd.
#[test]
fn the_package_comes_and_goes() {
    let scratch = Scratch::new();
    let package = package(&scratch);
    let root = scratch.path().join("root");
    for made in [
        "var/lib/dpkg/info",
        "var/lib/dpkg/updates",
        "var/lib/dpkg/triggers",
    ] {
        fs::create_dir_all(root.join(made)).expect("a directory");
    }
    fs::write(root.join("var/lib/dpkg/status"), "").expect("a file");
    let dpkg = |arguments: &[&str]| {
        let mut dpkg = Command::new("dpkg");
        dpkg.arg(format!("--root={}", root.display()));
        // Its scripts find DPKG_ROOT instead of a shell inside.
        dpkg.args(["--force-script-chrootless", "--no-triggers"])
            .args(arguments);
        process::run(&mut dpkg)
    };
    let is_there = |path: &str| root.join(path).exists();
    dpkg(&["--install", &package.display().to_string()]);
    let version = process::run(Command::new(root.join("usr/bin/dfw")).arg("--version"));
    assert_eq!(version.trim(), format!("dfw {VERSION}"));
    let enabled = "etc/systemd/system/multi-user.target.wants/dfw.service";
    let enabled = root.join(enabled);
    assert!(enabled.is_symlink(), "it starts with the machine");

    let configuration = root.join("etc/dfw/dfw.toml");
    fs::write(&configuration, "unlabelled = \"enforce\"\n").expect("a file");
    dpkg(&["--install", &package.display().to_string()]);
    let kept = fs::read_to_string(&configuration).expect("a file");
    assert_eq!(
        kept, "unlabelled = \"enforce\"\n",
        "an upgrade keeps what was changed"
    );

    dpkg(&["--remove", "dfw"]);
    assert!(!is_there("usr/bin/dfw"));
    assert!(is_there("etc/dfw/dfw.toml"), "the user's own stays");
    dpkg(&["--purge", "dfw"]);
    assert!(!is_there("etc/dfw"));
    assert!(!enabled.is_symlink());
}

/// The script that dpkg runs before the files go, among commands that only tell what they were told.
#[test]
fn only_removal_uninstalls() {
    let scratch = Scratch::new();
    for command in ["dfw", "deb-systemd-invoke"] {
        let file = scratch.file(command, "#!/bin/sh\necho \"$(basename \"$0\") $*\"\n");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("it is ours");
    }
    let run = |action: &str| {
        let mut sh = Command::new("sh");
        let path = format!("{}:/usr/bin:/bin", scratch.path().display());
        sh.arg(deploy("deb/prerm")).arg(action).env("PATH", path);
        process::run(&mut sh)
    };
    assert!(run("remove").ends_with("dfw uninstall\n"));
    assert_eq!(run("upgrade"), "");
}
