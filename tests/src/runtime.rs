//! A runtime for `docker run --runtime` that does by runc what Docker 23 does and Docker 20.10 cannot: it gives CAP_BPF and
//! CAP_PERFMON, and lets bpf(2) through the engine's filter for that (moby pull request 43987).

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
};

use crate::scratch::Scratch;

/// Its name in the engine, and that of its file.
pub const NAME: &str = "with-bpf";
/// The capability to ask the engine for instead; no rule of the engine's filter depends on it.
pub const STANDS_FOR_BPF: &str = "BLOCK_SUSPEND";

/// Changes what containerd wrote for runc, then lets runc do the rest.
const SCRIPT: &str = r#"#!/bin/sh
before=
for word; do
    if [ "$before" = --bundle ]; then
        sed -i 's/"CAP_BLOCK_SUSPEND"/"CAP_BPF","CAP_PERFMON"/g; s/"accept4"/"accept4","bpf"/' "$word/config.json"
    fi
    before=$word
done
exec runc "$@"
"#;

/// Writes it where the engine's configuration says it is.
pub(crate) fn install(scratch: &Scratch) {
    let file = scratch.file(NAME, SCRIPT);
    fs::set_permissions(&file, Permissions::from_mode(0o755)).expect("it is ours");
}
