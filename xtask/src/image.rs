//! The image: the static binary and nothing else.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use crate::{build, sh, workspace};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Name of the image.
    #[arg(long, default_value = concat!("dfw:", env!("CARGO_PKG_VERSION")))]
    tag: String,
    /// Ship this binary instead of building one; it must be linked statically.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// Builds the image with the engine that `docker` speaks to, and prints its name and size.
pub(crate) fn run(options: &Options) -> Result<()> {
    let binary = build::shipped(options.binary.as_deref())?;
    // All that the engine is sent.
    let context = workspace::target_dir()?.join("image");
    fs::create_dir_all(&context).with_context(|| context.display().to_string())?;
    fs::copy(&binary, context.join("dfw")).with_context(|| binary.display().to_string())?;
    let mut build = Command::new("docker");
    build.args(["build", "--tag", &options.tag, "--file"]);
    sh::run(
        build
            .arg(workspace::root().join("deploy/Dockerfile"))
            .arg(&context),
    )?;
    let mut inspect = Command::new("docker");
    inspect.args(["image", "inspect", "--format", "{{.Size}}", &options.tag]);
    let size: u64 = sh::read(&mut inspect)?.trim().parse().context("a size")?;
    println!("{} {:.1} MB", options.tag, size as f64 / 1e6);
    Ok(())
}
