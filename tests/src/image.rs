//! The image of every test container: nothing can be pulled, so it is made of a static busybox and `dfw-probe`.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use crate::process;

/// Its name in the engine.
pub const NAME: &str = "dfwt";

/// Writes the root file system as a tar file in `directory`, and returns where it is.
///
/// # Panics
/// When it cannot be written, or busybox is not installed.
pub fn tar(directory: &Path) -> PathBuf {
    let root = directory.join("image");
    let bin = root.join("bin");
    for made in [&bin, &root.join("tmp"), &root.join("etc")] {
        fs::create_dir_all(made).unwrap_or_else(|error| panic!("{}: {error}", made.display()));
    }
    copy(&busybox(), &bin.join("busybox"));
    copy(Path::new(env!("DFW_PROBE")), &bin.join("dfw-probe"));
    for applet in ["sh", "ip", "ping", "sleep", "nc"] {
        symlink("busybox", bin.join(applet)).expect("the directory is new");
    }
    let tar = directory.join("image.tar");
    process::run(
        Command::new("tar")
            .arg("-C")
            .arg(&root)
            .arg("-cf")
            .arg(&tar)
            .arg("."),
    );
    tar
}

fn busybox() -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|directory| directory.join("busybox"));
    found
        .into_iter()
        .find(|file| file.is_file())
        .expect("busybox-static is installed: cargo xtask setup")
}

fn copy(from: &Path, to: &Path) {
    fs::copy(from, to).unwrap_or_else(|error| panic!("copy {}: {error}", from.display()));
}
