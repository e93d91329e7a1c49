//! Builds `dfw-probe` as a static binary, so that it runs in a container that holds nothing else; and the BPF object that dfw
//! is measured against.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

#[path = "../dfw-agent/build/toolchain.rs"]
mod toolchain;

use toolchain::Toolchain;

fn main() -> ExitCode {
    match probe().and_then(|()| rival()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn probe() -> Result<(), String> {
    let target_dir = PathBuf::from(variable("OUT_DIR")?).join("probe");
    let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("probe/Cargo.toml");
    let target = variable("TARGET")?;
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=probe");

    // A target directory of its own keeps the inner cargo off the outer one's lock.
    let output = Command::new(variable("CARGO")?)
        .args([
            "build",
            "--quiet",
            "--release",
            "--locked",
            "--bin",
            "dfw-probe",
        ])
        .arg("--manifest-path")
        .arg(&manifest)
        .args(["--target", &target, "--target-dir"])
        .arg(&target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .output()
        .map_err(|error| format!("cannot start cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!(
            "dfw-probe does not build:\n{}",
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    let binary = target_dir.join(&target).join("release/dfw-probe");
    println!("cargo::rustc-env=DFW_PROBE={}", binary.display());
    Ok(())
}

/// The programs of dfw-ebpf/src/rival.rs.
fn rival() -> Result<(), String> {
    let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let root = manifest.parent().ok_or("the package lies in a workspace")?;
    for source in [
        "dfw-ebpf/Cargo.toml",
        "dfw-ebpf/src/rival.rs",
        "dfw-agent/build",
    ] {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }
    let target = match variable("CARGO_CFG_TARGET_ENDIAN")?.as_str() {
        "big" => "bpfeb-unknown-none",
        _ => "bpfel-unknown-none",
    };
    let missing = "the toolchain for BPF is missing: run `cargo xtask setup`";
    let toolchain = Toolchain::find(target).ok_or(missing)?;
    let linker = toolchain::find_linker().ok_or(missing)?;
    let target_dir = Path::new(&variable("OUT_DIR")?).join("rival");
    let flags = toolchain::rustc_flags(&linker, &variable("CARGO_CFG_TARGET_ARCH")?);
    let output = toolchain
        .cargo("build", target, &flags)
        .current_dir(root)
        .args(["--quiet", "--release", "--locked", "--package", "dfw-ebpf"])
        .args(["--bin", "rival", "--features", "rival", "--target-dir"])
        .arg(&target_dir)
        .output()
        .map_err(|error| format!("cannot start {toolchain}: {error}"))?;
    if !output.status.success() {
        let messages = String::from_utf8_lossy(&output.stderr);
        return Err(format!(
            "the rival does not build with {toolchain}:\n{messages}"
        ));
    }
    let object = target_dir.join(target).join("release/rival");
    println!("cargo::rustc-env=DFW_RIVAL={}", object.display());
    Ok(())
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|_| format!("cargo did not set {name}"))
}
