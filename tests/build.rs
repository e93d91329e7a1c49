//! Builds `dfw-probe` as a static binary, so that it runs in a container that holds nothing else.

use std::{
    env,
    path::PathBuf,
    process::{Command, ExitCode},
};

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
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

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|_| format!("cargo did not set {name}"))
}
