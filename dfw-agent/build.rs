//! Builds the BPF object from source and leaves it in `OUT_DIR` as `dfw.bpf.o`, for the agent to embed.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use toolchain::Toolchain;

#[path = "build/toolchain.rs"]
mod toolchain;

/// The package, its binary, and what is watched for changes: paths from the root of the workspace.
const PACKAGE: &str = "dfw-ebpf";
const SOURCES: [&str; 6] = [
    "dfw-ebpf/Cargo.toml",
    "dfw-ebpf/src",
    "dfw-common/Cargo.toml",
    "dfw-common/src",
    "Cargo.toml",
    "Cargo.lock",
];

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), Box<dyn Error>> {
    let out_dir = PathBuf::from(variable("OUT_DIR")?);
    let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let root = manifest.parent().ok_or("the package lies in a workspace")?;
    for source in SOURCES {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build/toolchain.rs");

    let target = match variable("CARGO_CFG_TARGET_ENDIAN")?.as_str() {
        "big" => "bpfeb-unknown-none",
        _ => "bpfel-unknown-none",
    };
    let toolchain = Toolchain::find(target).ok_or_else(|| {
        format!("no Rust toolchain for {target}: run `cargo xtask setup`, or `rustup toolchain install nightly --component rust-src`")
    })?;
    let linker = toolchain::find_linker().ok_or_else(|| {
        format!(
            "{} is not installed: run `cargo xtask setup`",
            toolchain::LINKER
        )
    })?;
    let object = compile(toolchain, target, root, &out_dir, &linker)?;
    fs::copy(&object, out_dir.join("dfw.bpf.o"))
        .map_err(|error| format!("cannot copy {}: {error}", object.display()))?;
    Ok(())
}

/// Runs an inner cargo; its own target directory keeps it off the outer cargo's lock.
fn compile(
    toolchain: Toolchain,
    target: &str,
    root: &Path,
    out_dir: &Path,
    linker: &Path,
) -> Result<PathBuf, Box<dyn Error>> {
    let target_dir = out_dir.join("bpf");
    let flags = toolchain::rustc_flags(linker, bpf_arch(&variable("CARGO_CFG_TARGET_ARCH")?));
    let mut command = toolchain.cargo("build", target, &flags);
    command.current_dir(root);
    command.args([
        "--quiet",
        "--release",
        "--locked",
        "--package",
        PACKAGE,
        "--target-dir",
    ]);
    command.arg(&target_dir);
    // A scratch object in which one check can be left out, for `cargo xtask mutate`.
    if env::var_os("CARGO_FEATURE_MUTANTS").is_some() {
        command.args(["--features", "mutants"]);
    }
    let output = command
        .output()
        .map_err(|error| format!("cannot start {toolchain}: {error}"))?;
    let messages = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{PACKAGE} does not build with {toolchain}:\n{messages}").into());
    }
    for line in messages.lines() {
        println!("cargo::warning={line}");
    }
    Ok(target_dir.join(target).join("release").join(PACKAGE))
}

/// aya-ebpf's name for an architecture: the register layout that probes would read.
fn bpf_arch(arch: &str) -> &str {
    if arch.starts_with("riscv64") {
        "riscv64"
    } else {
        arch
    }
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|_| format!("cargo did not set {name}"))
}
