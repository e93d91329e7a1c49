//! What is proposed to whoever has only running containers: presets by image, published ports, all in audit. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::IpAddr,
};

use crate::{
    model::{Container, Published, Snapshot, Unprotected},
    policy::{
        Mode, Select,
        preset::{self, Preset},
    },
    source::docker::Survey,
    telemetry::text,
};

/// What is proposed for the containers that a selector selects.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Proposal {
    /// Images of those, as people call them.
    pub(super) images: BTreeSet<String>,
    /// What the images serve, for `inside`.
    pub(super) presets: BTreeSet<&'static str>,
    /// Peers that share a project or a network with them.
    pub(super) inside: BTreeSet<String>,
    /// Published ports, as rules.
    pub(super) published: BTreeSet<String>,
}

/// Who is left to themselves: what the draft is about.
pub(super) fn proposals(survey: &Survey, prefix: &str) -> BTreeMap<String, Proposal> {
    let mut proposals: BTreeMap<String, Proposal> = BTreeMap::new();
    for container in &survey.snapshot.containers {
        let is_open = stance(container, prefix) == Stance::Open;
        let Some(selector) = selector(container).filter(|_| is_open) else {
            continue;
        };
        let image = image(survey, container);
        let presets = preset::of_image(image).map(|preset: &Preset| preset.name);
        let published = published(&container.published);
        let mut presets = presets.peekable();
        if presets.peek().is_none() && published.is_empty() {
            continue;
        }
        let proposal = proposals.entry(selector).or_default();
        proposal.images.insert(image.to_owned());
        proposal.presets.extend(presets);
        proposal.inside.extend(inside(container, &survey.snapshot));
        proposal.published.extend(published);
    }
    proposals
}

/// What becomes of a container when the agent starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stance {
    /// It has no rules of its own.
    Open,
    /// Its labels say a mode, or rules, which mean enforce.
    Labelled(Mode),
    /// None of its networks is dfw's to govern.
    Beyond,
}

pub(super) fn stance(container: &Container, prefix: &str) -> Stance {
    if container.attachments.is_empty() || container.unprotected.contains(&Unprotected::Shared) {
        return Stance::Beyond;
    }
    let own = |key: &String| key.strip_prefix(prefix).map(str::to_owned);
    let keys: Vec<String> = container.labels.keys().filter_map(own).collect();
    let mode = container.labels.get(&format!("{prefix}mode"));
    match mode.and_then(|mode| mode.trim_ascii().parse().ok()) {
        Some(mode) => Stance::Labelled(mode),
        None if keys.iter().any(|key| key != "group") => Stance::Labelled(Mode::Enforce),
        None => Stance::Open,
    }
}

/// The image as it was called when the container was made.
pub(super) fn image<'a>(survey: &'a Survey, container: &Container) -> &'a str {
    let image = survey.images.get(&container.id);
    image.map(String::as_str).unwrap_or_default()
}

/// Whether others than this host reach it.
pub(super) fn is_beyond_loopback(port: &Published) -> bool {
    !port.host_ip.is_loopback()
}

/// The words by which a file selects it; none where its name cannot be written.
fn selector(container: &Container) -> Option<String> {
    let service = container.project().zip(container.service());
    let service = service.map(|(project, service)| format!("service:{project}/{service}"));
    let name = format!("container:{}", container.name);
    service
        .into_iter()
        .chain([name])
        .find_map(|text| written(&text))
}

/// A selector, if it can be read again as one word.
fn written(text: &str) -> Option<String> {
    let select = Select::parse(text).ok()?.to_string();
    (select == text).then_some(select)
}

fn inside(container: &Container, snapshot: &Snapshot) -> Vec<String> {
    let project = container.project().map(|name| format!("project:{name}"));
    if let Some(project) = project.and_then(|text| written(&text)) {
        return vec![project];
    }
    let networks = container.attachments.iter().filter_map(|place| {
        let mut networks = snapshot.networks.iter();
        let network = networks.find(|network| network.id == place.network)?;
        written(&format!("net:{}", network.name))
    });
    networks.collect()
}

fn published(ports: &[Published]) -> BTreeSet<String> {
    let mut peers: BTreeMap<(u8, u16), bool> = BTreeMap::new();
    for port in ports {
        let is_beyond = peers
            .entry((port.protocol, port.container_port))
            .or_default();
        *is_beyond |= is_beyond_loopback(port);
    }
    let rules = peers.into_iter().map(|((protocol, port), is_beyond)| {
        let from = if is_beyond { "world,host" } else { "host" };
        format!("{}/{port} from {from}", protocol_name(protocol))
    });
    rules.collect()
}

/// `tcp`, as the language of rules has it.
fn protocol_name(number: u8) -> String {
    match number {
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        132 => "sctp".to_owned(),
        other => format!("proto-{other}"),
    }
}

/// `127.0.0.1:8080->80/tcp`, as Docker writes it.
pub(super) fn shown(port: &Published) -> String {
    let host = match port.host_ip {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    let (outside, inside) = (port.host_port, port.container_port);
    format!(
        "{host}:{outside}->{inside}/{}",
        protocol_name(port.protocol)
    )
}

impl Proposal {
    /// The rules in short, for the table.
    pub(super) fn shown(&self) -> String {
        let mut words = Vec::new();
        if self.has_preset() {
            let (presets, inside) = (joined(&self.presets, ","), joined(&self.inside, ","));
            words.push(format!("{presets} from {inside}"));
        }
        words.extend(self.published.iter().cloned());
        words.join("; ")
    }

    fn has_preset(&self) -> bool {
        !self.presets.is_empty() && !self.inside.is_empty()
    }
}

/// The policy file: the node in audit, and the draft, in force or behind `#`.
pub(super) fn policy(proposals: &BTreeMap<String, Proposal>, in_force: bool) -> String {
    let mut file = HEAD.to_owned();
    if !proposals.is_empty() {
        file += DRAFT;
    }
    let mark = if in_force { "" } else { "#" };
    for (selector, proposal) in proposals {
        let images: Vec<_> = proposal
            .images
            .iter()
            .map(|image| text::escape(image))
            .collect();
        // Writing to a String cannot fail.
        let _ = writeln!(file, "\n# {}\n{mark}[[rules]]", images.join(", "));
        let mut line = |key: &str, value: &str| {
            let _ = writeln!(file, "{mark}{key} = {}", toml::Value::from(value));
        };
        line("for", selector);
        line("mode", "audit");
        if proposal.has_preset() {
            line("preset", &joined(&proposal.presets, ","));
            line("from", &joined(&proposal.inside, ","));
        }
        if !proposal.published.is_empty() {
            line("ingress", &joined(&proposal.published, "; "));
        }
    }
    file
}

fn joined<T: AsRef<str>>(words: &BTreeSet<T>, with: &str) -> String {
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    words.join(with)
}

const HEAD: &str = "\
# Made by `dfw init` from what ran on this host. `dfw check` reads it before you use it, `dfw reload` takes over what you change;
# docs/policy-file.md has every key.

# Containers without rules: \"audit\" drops nothing and counts what would be denied, \"enforce\" allows them nothing.
unlabelled = \"audit\"
";

const DRAFT: &str = "
# A draft from images and published ports: who may come in, in audit. A line counts without the `#` in front. What these containers
# dial is not drafted: write egress, or to, before mode = \"enforce\". Rules add up with those of labels: an entry that is wider
# than the labels of a service keeps it as wide.
";

#[cfg(test)]
mod tests;
