//! `dfw init`.

mod ask;
mod draft;
mod files;
mod show;
mod start;

use std::{
    collections::BTreeMap,
    fs, io,
    io::{IsTerminal as _, Write},
    path::{self, Path, PathBuf},
};

use clap::ValueEnum;
use tokio::runtime::Builder;

use self::{
    ask::{Answers, given_up},
    draft::Proposal,
    files::{File, Place, cannot_write},
    start::Host,
};
use super::{Error, client::Client};
use crate::{
    config::{self, DEFAULT_SOCKET, Settings},
    datapath::load,
    exit::{ExitCode, Failure},
    source::docker::{self, Survey},
};

/// Set dfw up on this host: look at the containers, write the files, start in audit
///
/// Reads containers, images and networks from the engine and makes a policy file: the node in audit, and a draft of rules by
/// images and published ports. Asks how the agent shall run, shows what it is going to do, and writes everything at the
/// end. Files that are there stay as they are.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dfw init                           ask, then write and start
  dfw init --dry-run                 show what that would come to
  dfw init --yes                     take every proposal
  dfw init --yes --agent compose --no-start --directory ./dfw")]
pub(super) struct Args {
    /// Take what is proposed, and ask nothing
    #[arg(short, long)]
    yes: bool,

    /// Show what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,

    /// Where the files go
    #[arg(long, value_name = "DIR", default_value = files::DIRECTORY)]
    directory: PathBuf,

    /// How the agent shall run [default: what fits this host]
    #[arg(long, value_name = "WAY")]
    agent: Option<Way>,

    /// Put the draft of rules in force, in audit; else it stands in the policy file as comments
    #[arg(long)]
    draft: bool,

    /// Write the files, and leave the start to you
    #[arg(long)]
    no_start: bool,

    /// Write over files that are there
    #[arg(long)]
    force: bool,

    /// Docker engine to read containers from [default: unix:///var/run/docker.sock]
    #[arg(long, env = "DOCKER_HOST", hide_env_values = true, value_name = "URL")]
    docker_host: Option<String>,

    /// Prefix of the labels that are rules [default: dfw.]
    #[arg(
        long,
        env = "DFW_LABEL_PREFIX",
        hide_env_values = true,
        value_name = "PREFIX"
    )]
    label_prefix: Option<String>,
}

/// How an agent runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Way {
    /// A unit of systemd: with any Docker from 20.10 on
    Unit,
    /// A container that docker compose keeps: with Docker 23 or newer, and the image on it
    Compose,
    /// By something else that starts `dfw run`
    None,
}

impl Way {
    const ALL: [Self; 3] = [Self::Unit, Self::Compose, Self::None];

    const fn name(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Compose => "compose",
            Self::None => "none",
        }
    }
}

impl Args {
    pub(super) fn perform(self, out: &mut impl Write) -> Result<ExitCode, Error> {
        let mut answers = self.answers()?;
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        load::check_kernel(release.trim()).map_err(Failure::from)?;
        let directory = path::absolute(&self.directory)
            .map_err(|error| cannot_write(&error, &self.directory))?;
        let (configuration, existing) = configuration(&directory.join("dfw.toml"))?;
        let wanted = Settings {
            docker_host: self.docker_host.clone().filter(|host| !host.is_empty()),
            label_prefix: self.label_prefix.clone(),
            ..Settings::default()
        };
        let engine = wanted.clone().over(existing.clone());
        let prefix = config::label_prefix(engine.label_prefix.clone())?;
        let host = Host::look();
        let place = Place {
            directory: &directory,
            configuration: configuration.as_deref(),
            existing: &existing,
            wanted: &wanted,
            binary: &host.binary,
        };
        self.may_write(&[place.file("policy.toml", String::new())])?;
        if !self.dry_run {
            writable(&directory)?;
        }

        let survey = look(engine.docker_host.as_deref(), &prefix)?;
        show::survey(out, &survey, &prefix)?;
        let way = self.way(out, &mut answers, &host, &survey)?;
        self.fits(way, &place, &host)?;
        let proposals = draft::proposals(&survey, &prefix);
        let in_force = self.drafts(out, &mut answers, &proposals)?;

        let policy = draft::policy(&proposals, in_force);
        let mut files = vec![place.file("policy.toml", policy)];
        files.extend(place.configuration(way));
        match way {
            Way::Unit if host.needs_unit(&directory) => files.push(place.unit()),
            Way::Compose => files.push(place.compose()),
            Way::Unit | Way::None => {}
        }
        self.may_write(&files)?;
        show::files(out, &files, self.force)?;
        if self.dry_run {
            writeln!(out, "\n{}", files[0].path.display())?;
            for line in files[0].text.lines() {
                writeln!(out, "  {line}")?;
            }
            return Ok(ExitCode::Success);
        }
        let commands = host.commands(way, &directory);
        let starts = !self.no_start && way != Way::None && host.why_not(way, &survey).is_none();
        let lines: Vec<String> = commands.iter().map(|words| words.join(" ")).collect();
        let question = if starts {
            format!(
                "Write these files and start the agent (`{}`)?",
                lines.join("`, `")
            )
        } else {
            "Write these files?".to_owned()
        };
        if !answers.agree(out, &question, true)? {
            return Err(given_up("as you say"));
        }
        files::write(&files, self.force)?;
        if starts {
            out.flush()?;
            start::run(&commands, engine.docker_host.as_deref())?;
            let socket = existing.socket.unwrap_or_else(|| DEFAULT_SOCKET.into());
            let endpoints = start::until_ready(&Client::new(socket))?;
            writeln!(
                out,
                "the agent runs: {}, in audit",
                super::count(endpoints, "endpoint")
            )?;
        } else {
            writeln!(out, "\nwritten; start the agent:")?;
            for line in lines {
                writeln!(out, "  {line}")?;
            }
        }
        show::next(out, proposals.keys().next())?;
        Ok(ExitCode::Success)
    }

    /// Who answers the questions.
    fn answers(&self) -> Result<Answers<io::StdinLock<'static>>, Failure> {
        if self.yes || self.dry_run {
            return Ok(Answers::Proposed);
        }
        let input = io::stdin();
        if input.is_terminal() {
            return Ok(Answers::Of(input.lock()));
        }
        Err(Failure::new(
            ExitCode::Usage,
            "there is nobody to ask: standard input is no terminal",
            "`dfw init --dry-run` shows what is proposed, `dfw init --yes` takes it",
        ))
    }

    fn may_write(&self, files: &[File]) -> Result<(), Failure> {
        match files::taken(files).filter(|_| !self.force) {
            None => Ok(()),
            Some(file) => Err(Failure::new(
                ExitCode::Failure,
                format!(
                    "{} is there already, and stays as it is",
                    file.path.display()
                ),
                "change that file and use `dfw reload`, name another place with --directory, or write over it with --force",
            )),
        }
    }

    fn way(
        &self,
        out: &mut impl Write,
        answers: &mut Answers<io::StdinLock<'static>>,
        host: &Host,
        survey: &Survey,
    ) -> Result<Way, Error> {
        writeln!(out)?;
        let way = match self.agent {
            Some(way) => way,
            None => {
                for way in Way::ALL {
                    if let Some(why) = host.why_not(way, survey) {
                        writeln!(out, "not as {}: {why}", way.name())?;
                    }
                }
                let names = Way::ALL.map(Way::name);
                let best = host.best(survey).name();
                let chosen = answers.choose(out, "How shall the agent run:", &names, best)?;
                let mut ways = Way::ALL.into_iter();
                ways.find(|way| way.name() == chosen).unwrap_or(Way::None)
            }
        };
        match host.why_not(way, survey) {
            Some(why) if self.agent.is_some() => {
                writeln!(out, "the agent as {} cannot start here: {why}", way.name())?;
            }
            _ if way == Way::None => writeln!(out, "the agent is started by you: `dfw run`")?,
            _ => writeln!(out, "the agent runs as: {}", way.name())?,
        }
        Ok(way)
    }

    /// Whether files that are there let the agent run so.
    fn fits(&self, way: Way, place: &Place<'_>, host: &Host) -> Result<(), Failure> {
        let policy = place.policy_of(way);
        if let Some(other) = place
            .existing
            .policy
            .as_ref()
            .filter(|other| **other != policy)
        {
            return Err(Failure::new(
                ExitCode::Failure,
                format!(
                    "{} names the policy file {} already",
                    place.configuration_path().display(),
                    other.display()
                ),
                "write rules there and use `dfw reload`, or take that line out and run this again",
            ));
        }
        let writes = way != Way::Unit || host.needs_unit(place.directory);
        if let Some(path) = place.unwritable(way).filter(|_| writes) {
            return Err(Failure::new(
                ExitCode::Usage,
                format!(
                    "{} cannot stand in a unit or compose file as it is",
                    path.display()
                ),
                "use a path of letters, digits and / . _ + @ -, or --agent none",
            ));
        }
        if way == Way::Unit && host.needs_unit(place.directory) && host.binary_is_hidden() {
            let binary = host.binary.display();
            return Err(Failure::new(
                ExitCode::Failure,
                format!(
                    "a unit does not see {binary}: it is kept from home and temporary directories"
                ),
                format!("install {binary} /usr/local/bin/dfw && /usr/local/bin/dfw init"),
            ));
        }
        Ok(())
    }

    /// Whether the draft shall count.
    fn drafts(
        &self,
        out: &mut impl Write,
        answers: &mut Answers<io::StdinLock<'static>>,
        proposals: &BTreeMap<String, Proposal>,
    ) -> Result<bool, Error> {
        if proposals.is_empty() {
            return Ok(false);
        }
        show::proposals(out, proposals)?;
        // What is learned from traffic is exact, and must not be widened by a guess.
        let question = "Shall this draft count, in audit? Else it stands in the file as comments";
        Ok(self.draft || answers.agree(out, question, false)?)
    }
}

/// The configuration file that is there, and what it says.
fn configuration(path: &Path) -> Result<(Option<String>, Settings), Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok((Some(text), Settings::load(Some(path))?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((None, Settings::default())),
        Err(error) => Err(cannot_write(&error, path).into()),
    }
}

/// Before anything is asked: whether this user may write there at all.
fn writable(directory: &Path) -> Result<(), Failure> {
    let mut above = directory.ancestors();
    let there = above.find(|place| place.exists()).unwrap_or(Path::new("/"));
    rustix::fs::access(there, rustix::fs::Access::WRITE_OK)
        .map_err(|error| cannot_write(&error.into(), there))
}

fn look(host: Option<&str>, prefix: &str) -> Result<Survey, Failure> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        Failure::new(
            ExitCode::Failure,
            format!("cannot start the runtime: {error}"),
            "see the limits of processes and descriptors (ulimit -a)",
        )
    })?;
    let survey = runtime.block_on(docker::survey(host, prefix, start::IMAGE));
    survey.map_err(|error| Failure {
        hint: "this looks at running containers, so it needs their engine; nothing was written"
            .to_owned(),
        ..Failure::from(error)
    })
}
