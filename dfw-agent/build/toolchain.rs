//! Where a Rust compiler for BPF is found. The build script and xtask both read this file.

use std::{
    env,
    ffi::{OsStr, OsString},
    fmt,
    path::{Path, PathBuf},
    process::Command,
};

/// The linker of every Rust program for BPF; its LLVM must be able to read what the compiler wrote.
pub(crate) const LINKER: &str = "bpf-linker";

/// A compiler that can build for `bpfel-unknown-none` or `bpfeb-unknown-none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Toolchain {
    /// rustup's nightly with the component rust-src: builds `core` itself.
    Nightly,
    /// Debian's packaged compiler, which brings a built `core`.
    Debian,
}

impl Toolchain {
    /// The one to use: a nightly that can build `core`, else Debian's, else none.
    pub(crate) fn find(target: &str) -> Option<Self> {
        if nightly_has_source() {
            Some(Self::Nightly)
        } else if debian_has_core(target) {
            Some(Self::Debian)
        } else {
            None
        }
    }

    /// A cargo command of this toolchain, free of what an outer cargo or rustup left in the environment.
    ///
    /// `subcommand` is the first argument, `flags` are for rustc.
    pub(crate) fn cargo(self, subcommand: &str, target: &str, flags: &[OsString]) -> Command {
        let mut command = match self {
            Self::Nightly => {
                let mut command = Command::new("rustup");
                command.args(["run", "nightly", "cargo", subcommand, "-Zbuild-std=core"]);
                command
            }
            Self::Debian => {
                // cargo looks for its external commands in ~/.cargo/bin first, where rustup's proxies are.
                let external = PathBuf::from(format!("/usr/bin/cargo-{subcommand}"));
                let cargo = Path::new("/usr/bin/cargo");
                let mut command = Command::new(if external.exists() { &external } else { cargo });
                command.arg(subcommand);
                command
            }
        };
        for (name, _) in env::vars_os() {
            if is_of_outer_build(&name) {
                command.env_remove(name);
            }
        }
        if self == Self::Debian {
            // rustup's proxies may come first in PATH. BPF wants `asm_experimental_arch`, which a stable compiler
            // only accepts when told so.
            command
                .env("RUSTC", "/usr/bin/rustc")
                .env("RUSTDOC", "/usr/bin/rustdoc");
            command.env("RUSTC_BOOTSTRAP", "1");
        }
        command.env("CARGO_ENCODED_RUSTFLAGS", flags.join(OsStr::new("\x1f")));
        command.args(["--target", target]);
        command
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nightly => f.write_str("rustup nightly with rust-src"),
            Self::Debian => f.write_str("Debian's /usr/bin/rustc"),
        }
    }
}

/// Cargo and rustup tell a build script about the outer build; none of it is true of the BPF build.
fn is_of_outer_build(name: &OsStr) -> bool {
    const EXACT: [&str; 11] = [
        "CARGO",
        "CARGO_TARGET_DIR",
        "RUSTC",
        "RUSTDOC",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_LINKER",
        "RUSTUP_TOOLCHAIN",
        "RUSTFLAGS",
        "TARGET",
        "CLIPPY_ARGS",
    ];
    // CARGO_HOME, and what is set about the network and registries, is the user's own.
    const PREFIXES: [&str; 7] = [
        "CARGO_BUILD_",
        "CARGO_CFG_",
        "CARGO_ENCODED_",
        "CARGO_FEATURE_",
        "CARGO_MANIFEST_",
        "CARGO_PKG_",
        "CARGO_PROFILE_",
    ];
    name.to_str().is_some_and(|name| {
        EXACT.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    })
}

fn nightly_has_source() -> bool {
    let Ok(output) = Command::new("rustup")
        .args(["run", "nightly", "rustc", "--print", "sysroot"])
        .env_remove("RUSTUP_TOOLCHAIN")
        .output()
    else {
        return false;
    };
    let sysroot = String::from_utf8_lossy(&output.stdout);
    output.status.success()
        && Path::new(sysroot.trim())
            .join("lib/rustlib/src/rust/library/core/Cargo.toml")
            .exists()
}

fn debian_has_core(target: &str) -> bool {
    let core = Path::new("/usr/lib/rustlib").join(target).join("lib");
    Path::new("/usr/bin/cargo").exists() && Path::new("/usr/bin/rustc").exists() && core.is_dir()
}

/// [`LINKER`] in PATH, or where `cargo install` puts it.
pub(crate) fn find_linker() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo_home =
        cargo_home.or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    env::split_paths(&path)
        .chain(cargo_home.map(|home| home.join("bin")))
        .map(|directory| directory.join(LINKER))
        .find(|candidate| candidate.is_file())
}

/// Flags for rustc. `arch` is the architecture of the machine whose kernel will run the programs.
pub(crate) fn rustc_flags(linker: &Path, arch: &str) -> Vec<OsString> {
    let mut linker_flag = OsString::from("-Clinker=");
    linker_flag.push(linker);
    vec![
        linker_flag,
        // 32-bit subregisters and jumps: every kernel that has TCX knows them.
        "-Ctarget-cpu=v3".into(),
        // BTF is made from the debug information.
        "-Cdebuginfo=2".into(),
        "-Clink-arg=--btf".into(),
        // Without this each memset is a call of a loop over bytes; with it, a few stores of words.
        "-Clink-arg=--disable-expand-memcpy-in-order".into(),
        format!("--cfg=bpf_target_arch=\"{arch}\"").into(),
    ]
}
