//! How the agent can run on this host, and starting it.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{Way, files};
use crate::{
    cli::client::Client,
    exit::{ExitCode, Failure},
    source::docker::Survey,
};

/// The first Docker that knows CAP_BPF and CAP_PERFMON.
const KNOWS_BPF: u32 = 23;
/// The image that `cargo xtask image` makes.
pub(super) const IMAGE: &str = concat!("dfw:", env!("CARGO_PKG_VERSION"));
/// Where units lie; the package's is in the last two.
const UNITS: [&str; 3] = [
    "/etc/systemd/system/dfw.service",
    "/usr/lib/systemd/system/dfw.service",
    "/lib/systemd/system/dfw.service",
];
/// Directories that the unit's own restrictions hide from the agent.
const HIDDEN: [&str; 5] = ["/home", "/root", "/run/user", "/tmp", "/var/tmp"];
/// How long a started agent may take to be ready.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(200);

/// What this host has to run an agent with.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) has_systemd: bool,
    pub(super) has_unit: bool,
    /// The words that call compose.
    pub(super) compose: Option<&'static [&'static str]>,
    /// This binary.
    pub(super) binary: PathBuf,
}

impl Host {
    pub(super) fn look() -> Self {
        let answers = |words: &&&[&str]| {
            let mut version = Command::new(words[0]);
            version.args(&words[1..]).arg("version");
            version.stdin(Stdio::null()).stdout(Stdio::null());
            let status = version.stderr(Stdio::null()).status();
            status.is_ok_and(|status| status.success())
        };
        let compose: [&'static [&'static str]; 2] = [&["docker", "compose"], &["docker-compose"]];
        Self {
            has_systemd: Path::new("/run/systemd/system").is_dir(),
            has_unit: UNITS.iter().any(|unit| Path::new(unit).exists()),
            compose: compose.iter().find(answers).copied(),
            binary: std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/usr/bin/dfw")),
        }
    }

    /// The way that fits best.
    pub(super) fn best(&self, survey: &Survey) -> Way {
        let mut ways = [Way::Unit, Way::Compose].into_iter();
        ways.find(|way| self.why_not(*way, survey).is_none())
            .unwrap_or(Way::None)
    }

    /// What is missing for a way.
    pub(super) fn why_not(&self, way: Way, survey: &Survey) -> Option<String> {
        let major = survey.version.split('.').next();
        let major = major.and_then(|major| major.parse::<u32>().ok());
        match way {
            Way::Unit if !self.has_systemd => Some("systemd does not run here".to_owned()),
            Way::Compose if major.is_some_and(|major| major < KNOWS_BPF) => Some(format!(
                "Docker {} does not know CAP_BPF and CAP_PERFMON, which {KNOWS_BPF} and newer do",
                survey.version
            )),
            Way::Compose if !survey.has_image => Some(format!(
                "the engine has no image {IMAGE}: `cargo xtask image` makes it"
            )),
            Way::Compose if self.compose.is_none() => {
                Some("docker compose is not installed".to_owned())
            }
            Way::Unit | Way::Compose | Way::None => None,
        }
    }

    /// Whether a unit has to be written: the package's reads the usual place only.
    pub(super) fn needs_unit(&self, directory: &Path) -> bool {
        !self.has_unit || directory != Path::new(files::DIRECTORY)
    }

    /// Whether the unit could execute this binary.
    pub(super) fn binary_is_hidden(&self) -> bool {
        let mut hidden = HIDDEN.iter();
        hidden.any(|directory| self.binary.starts_with(directory))
    }

    /// The commands that start the agent.
    pub(super) fn commands(&self, way: Way, directory: &Path) -> Vec<Vec<String>> {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let path = |name: &str| directory.join(name).display().to_string();
        match way {
            Way::Unit if self.needs_unit(directory) => vec![
                owned(&["systemctl", "enable", &path("dfw.service")]),
                owned(&["systemctl", "restart", "dfw"]),
            ],
            Way::Unit => vec![
                owned(&["systemctl", "enable", "dfw"]),
                owned(&["systemctl", "restart", "dfw"]),
            ],
            Way::Compose => {
                let compose = self.compose.unwrap_or(&["docker", "compose"]);
                let up = ["--file", &path("compose.yaml"), "up", "--detach"];
                vec![owned(&[compose, &up[..]].concat())]
            }
            Way::None if directory == Path::new(files::DIRECTORY) => {
                vec![owned(&["dfw", "run"])]
            }
            Way::None => vec![owned(&["dfw", "run", "--config", &path("dfw.toml")])],
        }
    }
}

/// Runs the commands; what they print goes where this command's does.
pub(super) fn run(commands: &[Vec<String>], docker_host: Option<&str>) -> Result<(), Failure> {
    for words in commands {
        let line = words.join(" ");
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null());
        command.envs(docker_host.map(|host| ("DOCKER_HOST", host)));
        let why = match command.status() {
            Ok(status) if status.success() => continue,
            Ok(status) => format!("`{line}` failed: {status}"),
            Err(error) => format!("cannot run `{line}`: {error}"),
        };
        return Err(Failure::new(
            ExitCode::Failure,
            format!("the files are written, and the agent was not started: {why}"),
            "put that right and run this command",
        ));
    }
    Ok(())
}

/// Waits until the agent is ready, and returns how many endpoints it has.
pub(super) fn until_ready(client: &Client) -> Result<usize, Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let why = match client.view() {
            Ok(view) => match view.not_ready() {
                None => return Ok(view.endpoints.len()),
                Some(why) => why.to_owned(),
            },
            Err(error) => error.to_string(),
        };
        if Instant::now() >= deadline {
            return Err(Failure::new(
                ExitCode::Unreachable,
                format!(
                    "the agent was started and is not ready after {} s: {why}",
                    PATIENCE.as_secs()
                ),
                "its log says why: journalctl --unit dfw, or docker logs dfw",
            ));
        }
        thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(has_systemd: bool, compose: Option<&'static [&'static str]>) -> Host {
        Host {
            has_systemd,
            has_unit: false,
            compose,
            binary: PathBuf::from("/usr/bin/dfw"),
        }
    }

    fn survey(version: &str, has_image: bool) -> Survey {
        Survey {
            version: version.to_owned(),
            has_image,
            ..Survey::default()
        }
    }

    #[test]
    fn the_way_that_fits() {
        let plugin: Option<&'static [&'static str]> = Some(&["docker", "compose"]);
        let new = survey("28.2.2", true);
        assert_eq!(host(true, plugin).best(&new), Way::Unit);
        assert_eq!(host(false, plugin).best(&new), Way::Compose);
        for (compose, survey) in [
            (None, new),
            (plugin, survey("20.10.24+dfsg1", true)),
            (plugin, survey("28.2.2", false)),
        ] {
            assert_eq!(host(false, compose).best(&survey), Way::None, "{survey:?}");
        }
        // Whoever says no version is believed to be a new one: the engine itself says what it does not know.
        assert_eq!(host(false, plugin).best(&survey("", true)), Way::Compose);
    }

    #[test]
    fn the_packages_unit_is_used_where_it_reads_the_files() {
        let lines = |host: &Host, way, directory: &str| -> Vec<String> {
            let commands = host.commands(way, Path::new(directory));
            commands.iter().map(|words| words.join(" ")).collect()
        };
        let bare = host(true, None);
        let package = Host {
            has_unit: true,
            ..host(true, None)
        };
        let restart = "systemctl restart dfw";
        assert_eq!(
            lines(&package, Way::Unit, "/etc/dfw"),
            ["systemctl enable dfw", restart]
        );
        for host in [&bare, &package] {
            assert_eq!(
                lines(host, Way::Unit, "/srv/d"),
                ["systemctl enable /srv/d/dfw.service", restart]
            );
        }
        assert_eq!(
            lines(&bare, Way::Unit, "/etc/dfw")[0],
            "systemctl enable /etc/dfw/dfw.service"
        );
        assert_eq!(
            lines(&bare, Way::Compose, "/srv/d"),
            ["docker compose --file /srv/d/compose.yaml up --detach"]
        );
        assert_eq!(lines(&bare, Way::None, "/etc/dfw"), ["dfw run"]);
        assert_eq!(
            lines(&bare, Way::None, "/srv/d"),
            ["dfw run --config /srv/d/dfw.toml"]
        );
    }

    #[test]
    fn a_binary_in_a_home_is_hidden_from_a_unit() {
        let at = |binary: &str| Host {
            binary: PathBuf::from(binary),
            ..host(true, None)
        };
        assert!(at("/root/dfw").binary_is_hidden() && at("/home/x/dfw").binary_is_hidden());
        assert!(!at("/usr/bin/dfw").binary_is_hidden() && !at("/homes/dfw").binary_is_hidden());
    }

    #[test]
    fn a_command_that_fails_is_named_and_the_next_is_not_run() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(run(&[words("true"), words("true")], None), Ok(()));
        let failure = run(&[words("false"), words("nonexistent")], None).expect_err("it fails");
        assert!(failure.message.contains("`false` failed"), "{failure}");
        let failure = run(&[words("nonexistent")], None).expect_err("it is not there");
        assert!(failure.message.contains("cannot run"), "{failure}");
    }
}
