//! What is not deployed: compose files, what Docker's commands print, and labels as lines.

mod compose;
mod input;
mod inspect;
mod invent;
mod lines;
mod ports;

pub(super) use self::{
    input::{Input, read},
    invent::inventory,
};
use crate::model::{Container, LABEL_PROJECT, Network};

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Offline {
    /// Their attachments have addresses only where the text gives them.
    pub(super) containers: Vec<Container>,
    /// Networks of compose projects.
    pub(super) networks: Vec<Network>,
    /// Whether all of it is compose projects: whoever may talk to whom inside one is known.
    pub(super) is_whole: bool,
}

impl Offline {
    /// Puts whoever is in no project into this one.
    pub(super) fn put_into(&mut self, project: &str) {
        for container in &mut self.containers {
            if container.project().is_none() {
                let label = (LABEL_PROJECT.to_owned(), project.to_owned());
                container.labels.extend([label]);
            }
        }
    }
}

/// Whether the container may change addresses and routes in its namespace.
fn is_net_admin(capabilities: &[String]) -> bool {
    let names = ["NET_ADMIN", "CAP_NET_ADMIN", "ALL"];
    capabilities
        .iter()
        .any(|given| names.iter().any(|name| given.eq_ignore_ascii_case(name)))
}
