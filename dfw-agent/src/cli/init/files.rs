//! What is written: texts made of the files in deploy/, and each file whole or not at all.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::Way;
use crate::{
    config::{DEFAULT_DOCKER_HOST, Settings},
    exit::{ExitCode, Failure},
};

const CONFIGURATION: &str = include_str!("../../../../deploy/dfw.toml");
const COMPOSE: &str = include_str!("../../../../deploy/compose.yaml");
const UNIT: &str = include_str!("../../../../deploy/dfw.service");

/// Where configuration lies unless somebody says otherwise, on the host and in the agent's container.
pub(super) const DIRECTORY: &str = "/etc/dfw";
/// The policy file in it.
const POLICY: &str = "policy.toml";

/// A file to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) text: String,
    /// The lines that are new, where it only adds them to what is there.
    pub(super) added: Vec<String>,
}

/// Where the files go and what they have to say.
#[derive(Debug)]
pub(super) struct Place<'a> {
    /// Absolute.
    pub(super) directory: &'a Path,
    /// Text of the configuration file that is there.
    pub(super) configuration: Option<&'a str>,
    /// What that file says.
    pub(super) existing: &'a Settings,
    /// What the command line says.
    pub(super) wanted: &'a Settings,
    /// This binary.
    pub(super) binary: &'a Path,
}

impl Place<'_> {
    pub(super) fn policy(&self) -> PathBuf {
        self.directory.join(POLICY)
    }

    pub(super) fn configuration_path(&self) -> PathBuf {
        self.directory.join("dfw.toml")
    }

    /// The policy file as the agent calls it: in a container it lies elsewhere.
    pub(super) fn policy_of(&self, way: Way) -> PathBuf {
        match way {
            Way::Compose => Path::new(DIRECTORY).join(POLICY),
            Way::Unit | Way::None => self.policy(),
        }
    }

    /// The configuration, if it has to say more than it does.
    pub(super) fn configuration(&self, way: Way) -> Option<File> {
        let policy = self.policy_of(way).display().to_string();
        // A container has the socket at its usual place.
        let host = self.wanted.docker_host.as_deref().filter(|host| {
            *host != DEFAULT_DOCKER_HOST && (way != Way::Compose || socket(host).is_none())
        });
        let keys = [
            ("policy", Some(&*policy), self.existing.policy.is_some()),
            ("docker-host", host, self.existing.docker_host.is_some()),
            (
                "label-prefix",
                self.wanted.label_prefix.as_deref(),
                self.existing.label_prefix.is_some(),
            ),
        ];
        let mut text = self.configuration.unwrap_or(CONFIGURATION).to_owned();
        let mut added = Vec::new();
        for (key, value, is_there) in keys {
            if let (Some(value), false) = (value, is_there) {
                let line = format!("{key} = {}", toml::Value::from(value));
                text = with_line(&text, key, &line);
                added.push(line);
            }
        }
        let is_new = self.configuration.is_none();
        (is_new || !added.is_empty()).then(|| File {
            path: self.configuration_path(),
            text,
            added: if is_new { Vec::new() } else { added },
        })
    }

    /// A path that would mean something else in the unit or the compose file.
    pub(super) fn unwritable(&self, way: Way) -> Option<&Path> {
        let engine = self.wanted.docker_host.as_deref();
        let other = match way {
            Way::Unit => Some(self.binary),
            Way::Compose => engine.and_then(socket).map(Path::new),
            Way::None => return None,
        };
        let is_plain = |c: char| c.is_alphanumeric() || "/._+@-".contains(c);
        let mut paths = [self.directory].into_iter().chain(other);
        paths.find(|path| !path.to_str().is_some_and(|text| text.chars().all(is_plain)))
    }

    /// deploy/compose.yaml with this directory and this engine.
    pub(super) fn compose(&self) -> File {
        let mut text = COMPOSE.to_owned();
        let mount = format!("- {DIRECTORY}:");
        text = text.replace(&mount, &format!("- {}:", self.directory.display()));
        if let Some(path) = self.wanted.docker_host.as_deref().and_then(socket) {
            let usual = socket(DEFAULT_DOCKER_HOST).unwrap_or_default();
            text = text.replace(&format!("- {usual}:"), &format!("- {path}:"));
        }
        self.file("compose.yaml", text)
    }

    /// deploy/dfw.service with this binary and this directory.
    pub(super) fn unit(&self) -> File {
        let mut run = format!("ExecStart={} run", self.binary.display());
        if self.directory != Path::new(DIRECTORY) {
            run += &format!(" --config {}", self.configuration_path().display());
        }
        let reload = format!("ExecReload={} reload", self.binary.display());
        let text = UNIT.replace("ExecStart=/usr/bin/dfw run", &run);
        let text = text.replace("ExecReload=/usr/bin/dfw reload", &reload);
        self.file("dfw.service", text)
    }

    pub(super) fn file(&self, name: &str, text: String) -> File {
        File {
            path: self.directory.join(name),
            text,
            added: Vec::new(),
        }
    }
}

fn socket(host: &str) -> Option<&str> {
    host.strip_prefix("unix://")
        .or(Some(host).filter(|host| host.starts_with('/')))
}

/// A text with a line in place of the commented one for this key, else behind everything: the file has no tables.
fn with_line(text: &str, key: &str, line: &str) -> String {
    let commented = format!("# {key} = ");
    let mut lines: Vec<&str> = text.lines().collect();
    match lines.iter_mut().find(|line| line.starts_with(&commented)) {
        Some(place) => *place = line,
        None => lines.push(line),
    }
    lines.join("\n") + "\n"
}

/// Those that are there already and would be written over.
pub(super) fn taken(files: &[File]) -> Option<&File> {
    let mut files = files.iter();
    files.find(|file| file.added.is_empty() && file.path.symlink_metadata().is_ok())
}

/// Writes them all. Each appears whole and under its name at once, in this order, so that none names one that is not there; one that has come meanwhile is
/// left alone unless `over`.
///
/// # Errors
/// One cannot be written, with the remedy. None is half written then.
pub(super) fn write(files: &[File], over: bool) -> Result<(), Failure> {
    for file in files {
        let directory = file.path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(directory).map_err(|error| cannot_write(&error, directory))?;
    }
    let drafts: Vec<PathBuf> = files.iter().map(|file| draft(&file.path)).collect();
    let result = write_all(files, &drafts, over);
    for draft in drafts {
        // Those that have their names are not there any more.
        let _ = fs::remove_file(draft);
    }
    result
}

fn draft(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.new"))
}

fn write_all(files: &[File], drafts: &[PathBuf], over: bool) -> Result<(), Failure> {
    for (file, draft) in files.iter().zip(drafts) {
        let there = fs::metadata(&file.path).map(|there| there.permissions());
        let permissions = there.unwrap_or_else(|_| fs::Permissions::from_mode(0o644));
        let written = fs::write(draft, &file.text)
            .and_then(|()| fs::set_permissions(draft, permissions))
            .and_then(|()| fs::File::open(draft)?.sync_all());
        written.map_err(|error| cannot_write(&error, draft))?;
    }
    for (file, draft) in files.iter().zip(drafts) {
        let flags = if over || !file.added.is_empty() {
            RenameFlags::empty()
        } else {
            RenameFlags::NOREPLACE
        };
        renameat_with(CWD, draft, CWD, &file.path, flags)
            .map_err(|error| cannot_write(&error.into(), &file.path))?;
    }
    Ok(())
}

/// Why a file or directory could not be written.
pub(super) fn cannot_write(error: &io::Error, path: &Path) -> Failure {
    let message = format!("cannot write {}: {error}", path.display());
    if error.kind() == io::ErrorKind::PermissionDenied {
        Failure::new(
            ExitCode::Capability,
            message,
            "run this as root, or with --dry-run, which writes nothing",
        )
    } else {
        Failure::new(
            ExitCode::Failure,
            message,
            "put that right, or name another place with --directory, and run it again",
        )
    }
}

#[cfg(test)]
mod tests;
