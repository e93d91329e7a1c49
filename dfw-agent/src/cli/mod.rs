//! The commands: one file each. They ask the agent over its Unix socket, or work offline; none of them touches the
//! kernel but `run` and `uninstall`. Printers write into `impl Write`.

mod check;
mod client;
mod completions;
mod doctor;
mod duration;
mod explain;
mod findings;
mod init;
mod ls;
mod man;
mod mode;
mod observe;
mod offline;
mod reload;
mod run;
mod status;
mod suggest;
mod table;
mod top;
mod uninstall;

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    config::{ConfigError, DEFAULT_BPFFS, DEFAULT_SOCKET, Settings},
    exit::{ExitCode, Failure},
};

/// Zero-trust networking for any Docker host
///
/// Labels on containers become allow rules that the kernel enforces on every packet. Exit codes: 0 done, 1 failure, 2 wrong
/// command line, 3 findings or denied, 69 no agent answers, 77 a permission or kernel feature is missing, 78 wrong configuration.
#[derive(Debug, Parser)]
#[command(
    name = "dfw",
    version,
    after_help = "Examples:
  dfw init                         set it up on this host, in audit
  dfw run                          start the agent on this Docker host
  dfw status                       the node at a glance
  dfw ls                           every container port that is managed
  dfw observe --denied             what is dropped, as it happens
  dfw check compose.yaml           check labels before they are deployed
  dfw explain web db tcp/5432      what becomes of a connection, and why
  dfw suggest project:shop         labels that allow what was seen"
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Args),
    Run(run::Args),
    Status(status::Args),
    Ls(ls::Args),
    Observe(observe::Args),
    Top(top::Args),
    Check(check::Args),
    Explain(explain::Args),
    Suggest(suggest::Args),
    Doctor(doctor::Args),
    Reload(reload::Args),
    Mode(mode::Args),
    Uninstall(uninstall::Args),
    Completions(completions::Args),
    Man(man::Args),
}

impl Cli {
    /// Does what the command says; results go to stdout, an error and its remedy to stderr.
    pub fn execute(self) -> ExitCode {
        let mut out = anstream::stdout();
        let result = self.command.perform(&mut out).and_then(|code| {
            out.flush()?;
            Ok(code)
        });
        let failure = match result {
            Ok(code) => return code,
            // Whoever read has read enough.
            Err(Error::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                return ExitCode::Success;
            }
            Err(Error::Output(error)) => Failure::new(
                ExitCode::Failure,
                format!("cannot write the output: {error}"),
                "make room where standard output goes",
            ),
            Err(Error::Failure(failure)) => failure,
        };
        // Where stderr is closed there is only the code to tell.
        let _ = write!(anstream::stderr(), "{failure}");
        failure.code
    }
}

impl Command {
    fn perform(self, out: &mut impl Write) -> Result<ExitCode, Error> {
        match self {
            Self::Init(args) => args.perform(out),
            Self::Run(args) => args.perform(),
            Self::Status(args) => args.perform(out),
            Self::Ls(args) => args.perform(out),
            Self::Observe(args) => args.perform(out),
            Self::Top(args) => args.perform(out),
            Self::Check(args) => args.perform(out),
            Self::Explain(args) => args.perform(out),
            Self::Suggest(args) => args.perform(out),
            Self::Doctor(args) => args.perform(out),
            Self::Reload(args) => args.perform(out),
            Self::Mode(args) => args.perform(out),
            Self::Uninstall(args) => args.perform(out),
            Self::Completions(args) => args.perform(out),
            Self::Man(args) => args.perform(out),
        }
    }
}

/// Why a command ended early.
#[derive(Debug)]
enum Error {
    /// It could not do its work.
    Failure(Failure),
    /// Nobody could read the result.
    Output(io::Error),
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        Self::Failure(error.into())
    }
}

impl From<client::ClientError> for Error {
    fn from(error: client::ClientError) -> Self {
        Self::Failure(error.into())
    }
}

/// Form of a result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    #[default]
    Table,
    /// One JSON document
    Json,
}

#[derive(Args, Debug)]
struct OutputArgs {
    /// Form of the result
    #[arg(
        short,
        long,
        env = "DFW_OUTPUT",
        hide_env_values = true,
        value_name = "FORMAT",
        default_value = "table"
    )]
    output: Format,
}

#[derive(Args, Debug)]
struct FileArgs {
    /// Configuration file [default: /etc/dfw/dfw.toml, which may be missing]
    #[arg(long, env = "DFW_CONFIG", hide_env_values = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct AgentArgs {
    /// Unix socket of the agent [default: /run/dfw/dfw.sock]
    #[arg(long, env = "DFW_SOCKET", hide_env_values = true, value_name = "PATH")]
    socket: Option<PathBuf>,

    #[command(flatten)]
    file: FileArgs,
}

#[derive(Args, Debug)]
struct BpffsArgs {
    /// Directory of the links and maps [default: /sys/fs/bpf/dfw]
    #[arg(long, env = "DFW_BPFFS", hide_env_values = true, value_name = "DIR")]
    bpffs: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct StateArgs {
    /// Directory of what is learned in audit [default: /var/lib/dfw]
    #[arg(long, env = "DFW_STATE", hide_env_values = true, value_name = "DIR")]
    state: Option<PathBuf>,
}

impl BpffsArgs {
    /// The directory that is meant: this flag's, else the file's.
    fn over(self, file: Settings) -> PathBuf {
        self.bpffs
            .or(file.bpffs)
            .unwrap_or_else(|| DEFAULT_BPFFS.into())
    }
}

impl FileArgs {
    fn load(&self) -> Result<Settings, ConfigError> {
        Settings::load(self.config.as_deref())
    }
}

impl AgentArgs {
    /// The agent that is meant, and the rest of the file.
    fn load(self) -> Result<(client::Client, Settings), ConfigError> {
        let mut file = self.file.load()?;
        let socket = self
            .socket
            .or(file.socket.take())
            .unwrap_or_else(|| DEFAULT_SOCKET.into());
        Ok((client::Client::new(socket), file))
    }
}

/// Writes one JSON document and a newline.
fn write_json(out: &mut impl Write, value: &impl serde::Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    writeln!(out)
}

/// `1 error`, `2 errors`.
fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples_and_a_description() {
        let mut command = Cli::command();
        command.build();
        let mut seen = 0;
        for sub in command
            .get_subcommands_mut()
            .filter(|sub| sub.get_name() != "help")
        {
            let help = sub.render_long_help().to_string();
            assert!(help.contains("Examples:\n  dfw "), "{help}");
            assert!(sub.get_about().is_some(), "{help}");
            seen += 1;
        }
        assert_eq!(seen, 15);
    }

    #[test]
    fn the_help_tells_the_real_defaults() {
        let mut command = Cli::command();
        let help = command
            .find_subcommand_mut("run")
            .expect("there")
            .render_long_help()
            .to_string();
        let defaults = [
            crate::config::DEFAULT_FILE,
            crate::config::DEFAULT_DOCKER_HOST,
            crate::config::DEFAULT_LABEL_PREFIX,
            crate::config::DEFAULT_LISTEN,
            crate::config::DEFAULT_SOCKET,
            crate::config::DEFAULT_BPFFS,
            crate::config::DEFAULT_STATE,
        ];
        for default in defaults {
            assert!(
                help.contains(&format!("[default: {default}")),
                "{default}\n{help}"
            );
        }
    }
}
