//! Installs what is missing: looks (needs), decides (plan), acts (here).

mod apt;
mod needs;
mod plan;

use std::{fs, process::Command};

use anyhow::{Result, bail};

pub(crate) use needs::Scope;
use plan::{Crate, Machine, System};

use crate::{sh, workspace};

/// The compiler for BPF, found in the same way as the agent's build script finds it.
#[path = "../../../dfw-agent/build/toolchain.rs"]
pub(crate) mod toolchain;

/// Installs what is missing for these scopes. Silent and quick when nothing is.
///
/// # Errors
/// What to install by hand, where this cannot be done here.
pub(crate) fn run(scopes: &[Scope]) -> Result<()> {
    let missing = needs::missing(scopes);
    if missing.is_empty() {
        return Ok(());
    }
    for need in &missing {
        eprintln!("setup: missing: {}", need.name);
    }
    let plan = match plan::plan(&missing, &machine()) {
        Ok(plan) => plan,
        Err(refusal) => bail!("{refusal}"),
    };
    if !plan.packages.is_empty() {
        apt::install(&plan.packages)?;
    }
    for wanted in &plan.crates {
        install_crate(wanted)?;
    }
    let still = needs::missing(scopes);
    if !still.is_empty() {
        let names: Vec<_> = still.iter().map(|need| need.name).collect();
        bail!(
            "installed what should bring them, but still missing: {}",
            names.join(", ")
        );
    }
    eprintln!("setup: nothing is missing now");
    Ok(())
}

fn machine() -> Machine {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    Machine {
        system: System::parse(&release),
        root: is_root(),
    }
}

/// Whether this process may do what root may.
pub(crate) fn is_root() -> bool {
    sh::read(Command::new("id").arg("-u")).is_ok_and(|uid| uid.trim() == "0")
}

fn install_crate(wanted: &Crate) -> Result<()> {
    let mut cargo = workspace::cargo("install");
    cargo
        .args(["--locked", "--force", "--version", wanted.version])
        .args(wanted.arguments);
    cargo
        .arg(wanted.name)
        .envs(wanted.environment.iter().copied());
    cargo.env("CARGO_TARGET_DIR", workspace::target_dir()?.join("tools"));
    sh::run(&mut cargo)
}
