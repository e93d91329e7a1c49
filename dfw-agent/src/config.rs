//! Configuration of the agent: flags over `DFW_*` over the file. One struct, [`Settings`], is both the flags and the
//! file, so that the two cannot differ.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use serde::Deserialize;

use crate::{
    model::position,
    policy::Mode,
    telemetry::log::{Format, Level},
};

/// Where the configuration file is looked for when `--config` does not say.
pub const DEFAULT_FILE: &str = "/etc/dfw/dfw.toml";
/// Engine, when neither `--docker-host` nor `DOCKER_HOST` says.
pub const DEFAULT_DOCKER_HOST: &str = "unix:///var/run/docker.sock";
/// Prefix of the labels that are rules.
pub const DEFAULT_LABEL_PREFIX: &str = "dfw.";
/// Address of metrics and health.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:10339";
/// Socket of the commands.
pub const DEFAULT_SOCKET: &str = "/run/dfw/dfw.sock";
/// Directory of the pinned links and maps.
pub const DEFAULT_BPFFS: &str = "/sys/fs/bpf/dfw";

/// One layer of configuration: what the command line and the environment say, or what the file says.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// Docker engine to read containers from [default: unix:///var/run/docker.sock]
    #[arg(long, env = "DOCKER_HOST", hide_env_values = true, value_name = "URL")]
    pub docker_host: Option<String>,

    /// Read endpoints from this file instead of a Docker engine
    #[arg(
        long,
        env = "DFW_INVENTORY",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub inventory: Option<PathBuf>,

    /// What holds for containers without rules [default: audit]
    #[arg(
        long,
        env = "DFW_UNLABELLED",
        hide_env_values = true,
        value_name = "MODE"
    )]
    pub unlabelled: Option<Unlabelled>,

    /// Rules by selector, a ceiling and defaults for the whole node; `dfw reload` reads it anew
    #[arg(long, env = "DFW_POLICY", hide_env_values = true, value_name = "FILE")]
    pub policy: Option<PathBuf>,

    /// Prefix of the labels that are rules [default: dfw.]
    #[arg(
        long,
        env = "DFW_LABEL_PREFIX",
        hide_env_values = true,
        value_name = "PREFIX"
    )]
    pub label_prefix: Option<String>,

    /// Loopback address of /metrics, /healthz and /readyz [default: 127.0.0.1:10339]
    #[arg(
        long,
        env = "DFW_LISTEN",
        hide_env_values = true,
        value_name = "ADDRESS:PORT"
    )]
    pub listen: Option<SocketAddr>,

    /// Unix socket that the other commands ask [default: /run/dfw/dfw.sock]
    #[arg(long, env = "DFW_SOCKET", hide_env_values = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,

    /// Directory on a BPF file system for links and maps [default: /sys/fs/bpf/dfw]
    #[arg(long, env = "DFW_BPFFS", hide_env_values = true, value_name = "DIR")]
    pub bpffs: Option<PathBuf>,

    /// Redirect packets between containers that enforce past their bridge [default: on]
    #[arg(
        long,
        env = "DFW_FAST_PATH",
        hide_env_values = true,
        value_name = "SWITCH"
    )]
    pub fast_path: Option<FastPath>,

    /// Form of the log lines on stderr [default: text]
    #[arg(
        long,
        env = "DFW_LOG_FORMAT",
        hide_env_values = true,
        value_name = "FORMAT"
    )]
    pub log_format: Option<Format>,

    /// Least severe messages that are logged [default: info]
    #[arg(
        long,
        env = "DFW_LOG_LEVEL",
        hide_env_values = true,
        value_name = "LEVEL"
    )]
    pub log_level: Option<Level>,
}

/// Mode of the containers that carry no rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Unlabelled {
    /// Nothing is dropped, every would-be denial is counted
    Audit,
    /// Nothing is allowed to or from them: zero trust for the whole node
    Enforce,
    /// Not judged
    Off,
}

impl From<Unlabelled> for Mode {
    fn from(unlabelled: Unlabelled) -> Self {
        match unlabelled {
            Unlabelled::Audit => Self::Audit,
            Unlabelled::Enforce => Self::Enforce,
            Unlabelled::Off => Self::Off,
        }
    }
}

impl Unlabelled {
    /// The name used in flags, metrics and commands.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Enforce => "enforce",
            Self::Off => "off",
        }
    }
}

/// Whether packets between neighbours may be redirected past their bridge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum FastPath {
    /// Where both ends enforce and nobody else looks at the packets in between
    #[default]
    On,
    /// Every packet takes the bridge
    Off,
}

/// Where endpoints come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A Docker engine.
    Docker {
        /// Its URL.
        host: String,
    },
    /// An inventory file.
    Inventory {
        /// Its path.
        file: PathBuf,
    },
}

/// A complete and valid configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where endpoints come from.
    pub origin: Origin,
    /// Mode of the containers that carry no rules; none leaves it to the policy file.
    pub unlabelled: Option<Unlabelled>,
    /// The node's policy file.
    pub policy: Option<PathBuf>,
    /// Prefix of the labels that are rules, with its final dot.
    pub label_prefix: String,
    /// Loopback address of metrics and health.
    pub listen: SocketAddr,
    /// Socket of the commands.
    pub socket: PathBuf,
    /// Directory of the pinned links and maps.
    pub bpffs: PathBuf,
    /// Whether packets may be redirected past their bridge.
    pub fast_path: FastPath,
    /// Form of the log.
    pub log_format: Format,
    /// Least severe messages that are logged.
    pub log_level: Level,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is missing or cannot be read.
    #[error("cannot read the configuration {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is not TOML, or says what dfw does not know.
    #[error("{}:{line}:{column}: {message}", .path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What is wrong there.
        message: String,
    },
    /// The metrics would be readable from other hosts.
    #[error("listen address {0} is not a loopback address")]
    NotLoopback(SocketAddr),
    /// The prefix of the labels is not one.
    #[error("label prefix {0:?} is not a label prefix")]
    LabelPrefix(String),
}

impl ConfigError {
    /// The remedy.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Read { .. } => {
                "name a file that exists and that this user may read with --config"
            }
            Self::Parse { .. } => {
                "the keys are the flags of `dfw run --help` without the dashes in front, as in label-prefix = \"dfw.\""
            }
            Self::NotLoopback(_) => {
                "metrics are served without TLS or authentication: use 127.0.0.1 or [::1] and let a proxy that has both \
                 publish them"
            }
            Self::LabelPrefix(_) => {
                "write letters, digits, `-` and `_` with dots between and a dot at the end, like dfw."
            }
        }
    }
}

impl Settings {
    /// Reads the file. Without `path` it is [`DEFAULT_FILE`], which may be missing.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let file = path.unwrap_or(Path::new(DEFAULT_FILE));
        match fs::read_to_string(file) {
            Ok(text) => Self::parse(&text, file),
            Err(error) if path.is_none() && error.kind() == io::ErrorKind::NotFound => {
                Ok(Self::default())
            }
            Err(source) => Err(ConfigError::Read {
                path: file.to_owned(),
                source,
            }),
        }
    }

    fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error: toml::de::Error| {
            let (line, column) = position(text, error.span().map_or(0, |span| span.start));
            ConfigError::Parse {
                path: path.to_owned(),
                line,
                column,
                message: error.message().to_owned(),
            }
        })
    }

    /// Each value of `self`, or of `below` where `self` has none.
    pub fn over(self, below: Self) -> Self {
        Self {
            docker_host: self.docker_host.or(below.docker_host),
            inventory: self.inventory.or(below.inventory),
            unlabelled: self.unlabelled.or(below.unlabelled),
            policy: self.policy.or(below.policy),
            label_prefix: self.label_prefix.or(below.label_prefix),
            listen: self.listen.or(below.listen),
            socket: self.socket.or(below.socket),
            bpffs: self.bpffs.or(below.bpffs),
            fast_path: self.fast_path.or(below.fast_path),
            log_format: self.log_format.or(below.log_format),
            log_level: self.log_level.or(below.log_level),
        }
    }

    /// Fills in the defaults and checks what can be checked without touching the system. An inventory goes before an
    /// engine, because `DOCKER_HOST` is often set for other programs.
    pub fn resolve(self) -> Result<Config, ConfigError> {
        let origin = match (self.inventory, self.docker_host) {
            (Some(file), _) => Origin::Inventory { file },
            // Docker's own client takes an empty DOCKER_HOST for an unset one.
            (None, Some(host)) if !host.is_empty() => Origin::Docker { host },
            (None, _) => Origin::Docker {
                host: DEFAULT_DOCKER_HOST.to_owned(),
            },
        };
        let listen = self
            .listen
            .unwrap_or_else(|| DEFAULT_LISTEN.parse().expect("an address"));
        if !listen.ip().to_canonical().is_loopback() {
            return Err(ConfigError::NotLoopback(listen));
        }
        Ok(Config {
            origin,
            unlabelled: self.unlabelled,
            policy: self.policy,
            label_prefix: label_prefix(self.label_prefix)?,
            listen,
            socket: self.socket.unwrap_or_else(|| DEFAULT_SOCKET.into()),
            bpffs: self.bpffs.unwrap_or_else(|| DEFAULT_BPFFS.into()),
            fast_path: self.fast_path.unwrap_or_default(),
            log_format: self.log_format.unwrap_or_default(),
            log_level: self.log_level.unwrap_or_default(),
        })
    }
}

/// A valid label prefix, [`DEFAULT_LABEL_PREFIX`] if none is given.
pub fn label_prefix(given: Option<String>) -> Result<String, ConfigError> {
    let Some(prefix) = given else {
        return Ok(DEFAULT_LABEL_PREFIX.to_owned());
    };
    let is_word = |word: &str| {
        !word.is_empty()
            && word
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    match prefix.strip_suffix('.') {
        Some(words) if words.split('.').all(is_word) => Ok(prefix),
        _ => Err(ConfigError::LabelPrefix(prefix)),
    }
}

#[cfg(test)]
mod tests;
