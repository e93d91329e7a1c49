//! A root file system that holds another engine: `cargo xtask soak engines` makes one for each Debian release and names it
//! in [`VARIABLE`]. An engine runs in a copy of it, as on a host of its own.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{NetNs, process::Daemon, scratch::Scratch};

/// Where the root file system is whose engine is under test; without it that is the machine's own.
pub const VARIABLE: &str = "DFW_ENGINE_ROOT";

const PATIENCE: Duration = Duration::from_secs(10);
/// Where commands are inside.
const COMMANDS: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// Becomes the first process of a mount namespace whose root is a copy of $1, in the directory $2. A container that is entered
/// (`docker exec`) has the root of its namespace: chroot would not do.
const MOUNTS: &str = r#"set -e
cd "$2"
mkdir root upper work
mount -t overlay -o "lowerdir=$1,upperdir=upper,workdir=work" overlay root
for shared in proc sys dev; do
    mount --rbind "/$shared" "root/$shared"
done
mount -t bpf bpf root/sys/fs/bpf
mkdir -p "root$2"
mount --bind . "root$2"
cd root
pivot_root . mnt
umount --lazy mnt
touch "$2/mounted"
exec sleep infinity
"#;

/// A copy that can be written to, in a mount namespace of its own. The scratch is in it at the same place, so that a path in
/// there means the same on both sides.
#[derive(Debug)]
pub struct Root {
    /// Keeps the namespace.
    keeper: Daemon,
}

impl Root {
    /// A copy of the root file system that the environment names, if it names one.
    ///
    /// # Panics
    /// When it cannot be mounted.
    #[track_caller]
    pub fn wanted(scratch: &Scratch) -> Option<Self> {
        let original = env::var_os(VARIABLE).filter(|path| !path.is_empty())?;
        Some(Self::mount(Path::new(&original), scratch))
    }

    /// A copy of a root file system.
    ///
    /// # Panics
    /// When it cannot be mounted.
    #[track_caller]
    pub fn mount(original: &Path, scratch: &Scratch) -> Self {
        let mut keeper = Command::new("unshare");
        keeper.args(["--mount", "sh", "-c", MOUNTS, "sh"]);
        keeper.arg(original).arg(scratch.path());
        let mut keeper = Daemon::start(&mut keeper, &scratch.path().join("root.log"));
        keeper.expect("the root is mounted", PATIENCE, || {
            let mounted = scratch.path().join("mounted");
            mounted.exists().then_some(())
        });
        Self { keeper }
    }

    /// Where a path of this root is for everybody else.
    pub fn inside(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        let root = PathBuf::from(format!("/proc/{}/root", self.keeper.pid()));
        root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// A command that will run inside, in a network namespace, with root's home as its directory.
    pub fn command(&self, netns: &NetNs, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.keeper.pid()));
        command.arg(format!("--net={}", netns.path().display()));
        command.args(["--", "env", "--chdir=/root", program]);
        command.env("PATH", COMMANDS);
        command
    }
}
