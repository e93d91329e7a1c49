//! What the tasks need, how it is seen to be there, and what brings it.

use std::{env, path::Path, process::Command};

use super::{
    plan::{Crate, Fix, Need},
    toolchain::{self, Toolchain},
};
use crate::sh;

/// A group of tasks with the same needs. Lint and test need what build needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// To build the binary.
    Build,
    /// To lint the BPF programs.
    Lint,
    /// To run the tests and the demo.
    Test,
}

impl Scope {
    pub(crate) const ALL: [Self; 3] = [Self::Build, Self::Lint, Self::Test];
}

const BPF_LINKER: Crate = Crate {
    name: toolchain::LINKER,
    version: "0.13.0",
    arguments: &["--no-default-features", "--features", "llvm-22"],
    environment: &[("LLVM_PREFIX", "/usr/lib/llvm-22")],
    packages: &[
        "g++",
        "llvm-22-dev",
        "libpolly-22-dev",
        "libzstd-dev",
        "zlib1g-dev",
    ],
};

const CARGO_FUZZ: Crate = Crate {
    name: "cargo-fuzz",
    version: "0.13.2",
    arguments: &[],
    environment: &[],
    packages: &["g++"],
};

/// A need, the tasks that have it, and how it is seen to be met.
type Row = (Scope, Need, fn() -> bool);

const ROWS: &[Row] = &[
    (
        Scope::Build,
        Need {
            name: "a Rust toolchain for BPF",
            fix: Fix::Packages(&["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"]),
            by_hand: "rustup toolchain install nightly --component rust-src",
        },
        || Toolchain::find("bpfel-unknown-none").is_some(),
    ),
    (
        Scope::Build,
        Need {
            name: "bpf-linker 0.13",
            fix: Fix::Crate(&BPF_LINKER),
            by_hand: "cargo install --locked bpf-linker --version 0.13.0 --no-default-features --features llvm-N, \
                      with N as in `rustc +nightly -vV`",
        },
        || bpf_linker_fits(),
    ),
    (
        Scope::Build,
        Need {
            name: "a static C library",
            fix: Fix::Packages(&["libc6-dev"]),
            by_hand: "your system's package of libc.a: glibc-static, say",
        },
        || has_static_libc(),
    ),
    (
        Scope::Lint,
        Need {
            name: "clippy for BPF",
            fix: Fix::Packages(&["rust-web-clippy"]),
            by_hand: "rustup component add --toolchain nightly clippy",
        },
        || toolchain_has_clippy(),
    ),
    (Scope::Test, tool("a C++ compiler", &["g++"]), || {
        in_path("g++")
    }),
    (
        Scope::Test,
        Need {
            name: "cargo-fuzz",
            fix: Fix::Crate(&CARGO_FUZZ),
            by_hand: "cargo install --locked cargo-fuzz --version 0.13.2",
        },
        || in_path("cargo-fuzz"),
    ),
    (
        Scope::Test,
        tool("dockerd and docker", &["docker.io"]),
        || in_path("dockerd") && in_path("docker"),
    ),
    (
        Scope::Test,
        tool("containerd and runc", &["containerd", "runc"]),
        || in_path("containerd") && in_path("runc"),
    ),
    (
        Scope::Test,
        tool("environments for Python", &["python3-venv"]),
        || sh::succeeds(Command::new("python3").args(["-c", "import ensurepip"])),
    ),
    (Scope::Test, tool("debootstrap", &["debootstrap"]), || {
        in_path("debootstrap")
    }),
    (
        Scope::Test,
        tool("a static busybox", &["busybox-static"]),
        || in_path("busybox"),
    ),
    (Scope::Test, tool("systemd-analyze", &["systemd"]), || {
        in_path("systemd-analyze")
    }),
    (Scope::Test, tool("ip and bridge", &["iproute2"]), || {
        in_path("ip") && in_path("bridge")
    }),
    (Scope::Test, tool("iptables", &["iptables"]), || {
        in_path("iptables")
    }),
    (Scope::Test, tool("nft", &["nftables"]), || in_path("nft")),
    (Scope::Test, tool("bpftool", &["bpftool"]), || {
        in_path("bpftool")
    }),
    (Scope::Test, tool("tcpdump", &["tcpdump"]), || {
        in_path("tcpdump")
    }),
    (
        Scope::Test,
        tool("prometheus and promtool", &["prometheus"]),
        || in_path("prometheus") && in_path("promtool"),
    ),
    // Services of real software, for `dfw suggest`.
    (Scope::Test, tool("nginx", &["nginx"]), || in_path("nginx")),
    (
        Scope::Test,
        tool("PostgreSQL 15", &["postgresql-15"]),
        || Path::new("/usr/lib/postgresql/15/bin/postgres").exists(),
    ),
    (Scope::Test, tool("redis-server", &["redis-server"]), || {
        in_path("redis-server")
    }),
    (
        Scope::Test,
        tool(
            "Python 3 with psycopg2 and redis",
            &["python3", "python3-psycopg2", "python3-redis"],
        ),
        || {
            let modules = Path::new("/usr/lib/python3/dist-packages");
            ["psycopg2", "redis"]
                .iter()
                .all(|name| modules.join(name).exists())
        },
    ),
];

/// What these scopes need and this machine has not.
pub(crate) fn missing(scopes: &[Scope]) -> Vec<&'static Need> {
    let wanted = |scope: &Scope| *scope == Scope::Build || scopes.contains(scope);
    let rows = ROWS
        .iter()
        .filter(|(scope, _, met)| wanted(scope) && !met());
    rows.map(|(_, need, _)| need).collect()
}

const fn tool(name: &'static str, packages: &'static [&'static str]) -> Need {
    Need {
        name,
        fix: Fix::Packages(packages),
        by_hand: "your system's package",
    }
}

fn bpf_linker_fits() -> bool {
    toolchain::find_linker().is_some_and(|linker| {
        sh::read(Command::new(linker).arg("--version"))
            .is_ok_and(|version| version.trim().starts_with("bpf-linker 0.13."))
    })
}

fn has_static_libc() -> bool {
    // A path where there is one, else the name as it was asked for.
    let answer = sh::read(Command::new("cc").arg("-print-file-name=libc.a"));
    answer.is_ok_and(|path| Path::new(path.trim()).is_absolute())
}

fn toolchain_has_clippy() -> bool {
    match Toolchain::find("bpfel-unknown-none") {
        Some(Toolchain::Nightly) => sh::succeeds(Command::new("rustup").args([
            "run",
            "nightly",
            "cargo-clippy",
            "--version",
        ])),
        // Where there is none yet, the packaged one is what will be installed.
        Some(Toolchain::Debian) | None => Path::new("/usr/bin/cargo-clippy").exists(),
    }
}

/// A command in PATH, or in a directory where Debian keeps root's commands.
fn in_path(command: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/sbin", "/sbin"].map(Into::into);
    env::split_paths(&path)
        .chain(sbin)
        .any(|directory| directory.join(command).is_file())
}
