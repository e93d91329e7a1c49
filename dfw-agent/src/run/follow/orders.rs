//! Orders carried out: the policy file read anew, modes switched.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read as _},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use super::Follower;
use crate::{
    exit::{ExitCode, Failure},
    model::{Done, Finding, Level, Refused, SwitchOrder, View},
    policy::{Blocks, MAX_FILE_BYTES, Mode, NodePolicy, Options, Override, Select},
    reconcile::Edge,
    run::modes::Modes,
    source::{Source, deny, netlink::LinkWatcher},
    telemetry::orders::{Asked, Order},
};

/// Longest time that a mode may be switched for; a year is for good.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Where orders arrive, and what they change.
pub(in crate::run) struct Desk {
    pub(in crate::run) orders: mpsc::Receiver<Asked>,
    pub(in crate::run) modes: Modes,
    /// `--policy`.
    pub(in crate::run) file: Option<PathBuf>,
    /// Mode of endpoints without rules where the command line or the configuration says it.
    pub(in crate::run) unlabelled: Option<Mode>,
    pub(in crate::run) prefix: String,
    pub(in crate::run) node: Arc<NodePolicy>,
    /// Uplinks, and whose packets they drop.
    pub(in crate::run) edge: Edge,
    /// What is wrong with the file as it is now.
    pub(in crate::run) findings: Vec<Finding>,
}

/// A policy file that is not taken over.
#[derive(Debug, thiserror::Error)]
pub(in crate::run) enum PolicyError {
    #[error("cannot read the policy file {}: {source}", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the policy file {} has mistakes", .path.display())]
    Mistakes {
        path: PathBuf,
        mistakes: Vec<Finding>,
    },
    #[error("the deny lists of the policy file {} have mistakes", .path.display())]
    Lists {
        path: PathBuf,
        mistakes: Vec<Finding>,
    },
}

/// Reads the policy file, and the deny lists that it names: a mistake in one of these is none of the rules'.
pub(in crate::run) fn read(path: PathBuf) -> Result<(NodePolicy, Lists), PolicyError> {
    let node = read_policy(path.clone())?;
    let lists = deny::read(&node, &path);
    Ok((
        node,
        lists.map_err(|mistakes| PolicyError::Lists { path, mistakes }),
    ))
}

/// The deny lists of a policy file.
type Lists = Result<Arc<Blocks>, PolicyError>;

fn read_policy(path: PathBuf) -> Result<NodePolicy, PolicyError> {
    let mut text = String::new();
    // A byte too many is told; no more are taken into memory.
    let most = MAX_FILE_BYTES as u64 + 1;
    let read = File::open(&path).and_then(|file| file.take(most).read_to_string(&mut text));
    match read {
        Ok(_) => NodePolicy::parse(&path.display().to_string(), &text)
            .map_err(|mistakes| PolicyError::Mistakes { path, mistakes }),
        Err(source) => Err(PolicyError::Read { path, source }),
    }
}

impl PolicyError {
    /// What is wrong, each with its place; the rest of the sentence is in the error.
    pub(in crate::run) fn findings(&self) -> Vec<Finding> {
        match self {
            Self::Read { .. } => {
                vec![Finding::new(
                    Level::Error,
                    "bad-policy-file",
                    "",
                    self.to_string(),
                )]
            }
            Self::Mistakes { mistakes, .. } | Self::Lists { mistakes, .. } => mistakes.clone(),
        }
    }
}

const REMEDY: &str = "name a file that exists and that the agent may read with --policy; README.md, \"A file for the node\", has a whole one";

impl From<PolicyError> for Failure {
    fn from(error: PolicyError) -> Self {
        let mut message = error.to_string();
        let hint = match &error {
            PolicyError::Read { .. } => REMEDY,
            PolicyError::Mistakes { mistakes, .. } | PolicyError::Lists { mistakes, .. } => {
                let lines = mistakes
                    .iter()
                    .map(|Finding { label, message, .. }| format!("{label}: {message}"));
                message = lines.collect::<Vec<_>>().join("; ");
                "put that right; what was in force stays so meanwhile"
            }
        };
        Self::new(ExitCode::Config, message, hint)
    }
}

impl Desk {
    /// What the policy is compiled with at present.
    pub(in crate::run) fn options(&self) -> Options {
        let file = self.node.unlabelled;
        Options {
            unlabelled: self.unlabelled.or(file).unwrap_or(Mode::Audit),
            prefix: self.prefix.clone(),
            node: Arc::clone(&self.node),
            overrides: self.modes.overrides(),
        }
    }

    /// What people are told besides what the policy itself comes to.
    pub(in crate::run) fn notes(&self) -> Vec<Finding> {
        let mut notes = self.findings.clone();
        if let (Some(given), Some(file)) = (self.unlabelled, self.node.unlabelled)
            && given != file
        {
            let what = format!(
                "the policy file says unlabelled = \"{file}\", and --unlabelled {given} goes before it: leave one of the two out"
            );
            notes.push(Finding::new(Level::Warning, "unlabelled-twice", "", what));
        }
        notes
    }

    fn reload(&mut self) -> Result<Done, Refused> {
        let Some(path) = self.file.clone() else {
            return Err(refused(
                true,
                "there is no policy file to read anew",
                "start the agent with --policy FILE",
            ));
        };
        let name = path.display().to_string();
        match read(path).and_then(|(node, lists)| Ok((node, lists?))) {
            Ok((node, denied)) => {
                self.node = Arc::new(node);
                self.edge.denied = Some(denied);
                self.findings.clear();
                tracing::info!(file = name, "policy file read");
                Ok(Done {
                    message: format!("{name} is in force"),
                    ..Done::default()
                })
            }
            Err(error) => {
                tracing::error!(%error, "the policy file is not taken over; the last good one stays in force");
                self.findings = error.findings();
                Err(Refused {
                    findings: self.findings.clone(),
                    ..refused(
                        true,
                        &format!("{error}; the last good one stays in force"),
                        "put that right and reload again",
                    )
                })
            }
        }
    }
}

fn refused(is_config: bool, message: &str, hint: &str) -> Refused {
    Refused {
        is_config,
        message: message.to_owned(),
        hint: hint.to_owned(),
        findings: Vec::new(),
    }
}

impl Follower {
    /// Carries an order out and answers when it is in force. Returns when the next pass is due by time alone.
    pub(super) async fn obey<S: Source>(
        &mut self,
        asked: Asked,
        source: &S,
        links: &mut LinkWatcher,
    ) -> Option<Instant> {
        let before = Arc::clone(&self.published.view.borrow());
        let (node, modes) = (Arc::clone(&self.desk.node), self.desk.modes.clone());
        let edge = self.desk.edge.clone();
        let outcome = match &asked.order {
            _ if !source.status().synced => Err(refused(
                false,
                "the containers were not read in full yet",
                "wait until `dfw status` says ready",
            )),
            Order::Reload => self.desk.reload(),
            Order::Switch(order) => self.switch(order),
        };
        let mut due = self.settle(source, links).await;
        let after = Arc::clone(&self.published.view.borrow());
        let outcome = match (outcome, &after.error) {
            (Ok(_), Some(error)) => {
                // What does not fit must not keep containers that come later from their policy.
                self.desk.node = node;
                self.desk.edge = edge;
                self.desk.modes.restore(modes);
                due = self.settle(source, links).await;
                let hint = "what was in force stays so; put that right and try again";
                Err(refused(false, error, hint))
            }
            (Ok(done), _) => Ok(Done {
                findings: new_findings(&before, &after),
                ..done
            }),
            (Err(refused), _) => Err(refused),
        };
        // Whoever asked may have gone.
        let _ = asked.answer.send(outcome);
        due
    }

    /// Makes what the desk says the policy. What puts right a policy that did not fit is in force after a second pass only,
    /// for the first one still makes room for what was compiled before.
    async fn settle<S: Source>(&mut self, source: &S, links: &mut LinkWatcher) -> Option<Instant> {
        self.reconciler.set_options(self.desk.options());
        self.reconciler.set_edge(self.desk.edge.clone());
        let due = self.pass(source, links).await;
        if self.published.view.borrow().error.is_none() {
            return due;
        }
        self.pass(source, links).await
    }

    fn switch(&mut self, order: &SwitchOrder) -> Result<Done, Refused> {
        let select = Select::parse(&order.selector).map_err(|problems| {
            let first = problems.first().map(ToString::to_string);
            refused(false, &first.unwrap_or_default(), "see `dfw mode --help`")
        })?;
        let not_written = |error: io::Error| {
            let what = format!("the mode cannot be written down, so it is not switched: {error}");
            refused(
                false,
                &what,
                "let the agent write to the directory of its socket",
            )
        };
        let Some(word) = &order.mode else {
            let cleared = self.desk.modes.clear(&select).map_err(not_written)?;
            if !cleared {
                let what = format!("nothing is switched for `{select}`");
                return Err(refused(false, &what, "`dfw mode` lists what is"));
            }
            tracing::info!(selector = %select, "labels and file hold again");
            return Ok(Done {
                message: format!("labels and file hold again for {select}"),
                ..Done::default()
            });
        };
        let mode: Mode = word.parse().map_err(|hint| {
            refused(false, &format!("unknown mode `{word}`"), &format!("{hint}"))
        })?;
        let lasts = order.seconds.map(Duration::from_secs);
        if lasts.is_some_and(|lasts| lasts.is_zero() || lasts > LONGEST) {
            return Err(refused(
                false,
                "that is no time to switch a mode for",
                "choose one second to a year",
            ));
        }
        let containers = self
            .reconciler
            .selected(&select)
            .map_err(|why| refused(false, &why, "`dfw ls` shows who there is"))?;
        let what = Override { select, mode };
        let message = format!("{mode} for {}", what.select);
        tracing::info!(selector = %what.select, %mode, seconds = order.seconds, "mode switched by a command");
        self.desk.modes.switch(what, lasts).map_err(not_written)?;
        Ok(Done {
            message,
            containers: containers.into_iter().collect(),
            findings: Vec::new(),
        })
    }
}

fn new_findings(before: &View, after: &View) -> Vec<Finding> {
    let known: BTreeSet<&Finding> = before.findings.iter().collect();
    let new = after.findings.iter();
    new.filter(|finding| !known.contains(finding))
        .cloned()
        .collect()
}
