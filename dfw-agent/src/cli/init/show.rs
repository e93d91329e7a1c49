//! What is there and what will happen, for people.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    io::{self, Write},
    path::Path,
};

use super::{
    draft::{self, Proposal, Stance},
    files::File,
};
use crate::{
    cli::{count, findings, table},
    model::{Container, Level},
    policy::{self, Mode},
    source::docker::Survey,
    telemetry::text,
};

/// The containers, and what becomes of each when the agent starts.
pub(super) fn survey(out: &mut impl Write, survey: &Survey, prefix: &str) -> io::Result<()> {
    let containers = &survey.snapshot.containers;
    let (there, networks) = (containers.len(), survey.snapshot.networks.len());
    writeln!(
        out,
        "Docker {}: {}, {}",
        text::escape(&survey.version),
        count(there, "container"),
        count(networks, "bridge network")
    )?;
    if there > 0 {
        writeln!(out)?;
        let rows = containers.iter().map(|one| row(survey, one, prefix));
        table::write(
            out,
            ["CONTAINER", "IMAGE", "PUBLISHED", "WITH AN AGENT"],
            rows,
        )?;
    }
    let enforced: Vec<String> = containers
        .iter()
        .filter(|one| draft::stance(one, prefix) == Stance::Labelled(Mode::Enforce))
        .map(|one| one.display_name())
        .collect();
    if !enforced.is_empty() {
        writeln!(
            out,
            "\nLabels enforce as soon as an agent runs: {}",
            text::escape(&enforced.join(", "))
        )?;
    }
    let open = containers
        .iter()
        .filter(|one| one.published.iter().any(draft::is_beyond_loopback));
    let open: Vec<String> = open.map(|one| one.display_name()).collect();
    if !open.is_empty() {
        writeln!(
            out,
            "\nPublished beyond this host, whatever its own firewall says: {}",
            text::escape(&open.join(", "))
        )?;
    }
    let wrong = containers
        .iter()
        .flat_map(|one| policy::check_container(one, prefix));
    for finding in wrong.filter(|finding| finding.level == Level::Error) {
        writeln!(out)?;
        findings::print(out, &finding)?;
    }
    Ok(())
}

fn row<'a>(survey: &'a Survey, container: &'a Container, prefix: &str) -> [Cow<'a, str>; 4] {
    let mut stance = match draft::stance(container, prefix) {
        Stance::Open => "audited".to_owned(),
        Stance::Labelled(Mode::Enforce) => "enforced, by its labels".to_owned(),
        Stance::Labelled(Mode::Audit) => "audited, by its labels".to_owned(),
        Stance::Labelled(Mode::Off) => "not judged, by its labels".to_owned(),
        Stance::Beyond => "not governed".to_owned(),
    };
    let why: Vec<&str> = container.unprotected.iter().map(|why| why.name()).collect();
    if !why.is_empty() {
        stance += &format!(", {}", why.join(", "));
    }
    let ports: Vec<String> = container.published.iter().map(draft::shown).collect();
    [
        container.display_name().into(),
        draft::image(survey, container).into(),
        ports.join(" ").into(),
        stance.into(),
    ]
}

/// The draft.
pub(super) fn proposals(
    out: &mut impl Write,
    proposals: &BTreeMap<String, Proposal>,
) -> io::Result<()> {
    writeln!(out)?;
    let rows = proposals
        .iter()
        .map(|(selector, proposal)| [Cow::from(selector), proposal.shown().into()]);
    table::write(out, ["FOR", "MAY BE REACHED, IN THE DRAFT"], rows)
}

/// What will be written.
pub(super) fn files(out: &mut impl Write, files: &[File], over: bool) -> io::Result<()> {
    writeln!(out)?;
    for file in files {
        let path = file.path.display().to_string();
        let what = if file.added.is_empty() {
            let is_there = over && Path::new(&path).exists();
            if is_there { "written over" } else { "new" }.to_owned()
        } else {
            format!("one more line: {}", file.added.join(", "))
        };
        writeln!(out, "{}  {}", text::escape(&path), text::escape(&what))?;
    }
    writeln!(
        out,
        "\nNothing is dropped that no label forbids: the node is in audit, and so is the draft."
    )
}

/// What to do next.
pub(super) fn next(out: &mut impl Write, selector: Option<&String>) -> io::Result<()> {
    let selector = selector.map_or("any", String::as_str);
    let suggest = format!("dfw suggest {selector} --mode audit");
    let switch = format!("dfw mode {selector} enforce --for 10m");
    writeln!(out, "\nNext:")?;
    for (command, what) in [
        (
            "dfw status",
            "the node at a glance, and what is not protected",
        ),
        (
            "dfw observe --verdict audit",
            "what would be denied, as it happens",
        ),
        (
            &suggest,
            "after a while: the labels that allow what was seen",
        ),
        (&switch, "try it, and go back by itself"),
    ] {
        writeln!(out, "  {command:<52}  {what}")?;
    }
    Ok(())
}
