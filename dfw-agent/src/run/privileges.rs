//! What the agent may do from the moment it serves: three capabilities, and the system calls that it uses.
//!
//! Taken from the whole process before its second thread exists, so that every thread inherits it. Nothing gives it back:
//! capabilities leave the permitted set, and no program can be executed.

use std::collections::BTreeMap;

use caps::{CapSet, CapsHashSet};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};
use thiserror::Error;

use crate::{
    datapath::load,
    exit::{ExitCode, Failure},
};

/// What could not be given up.
#[derive(Debug, Error)]
pub(super) enum PrivilegeError {
    #[error("cannot give up capabilities: {0}")]
    Capabilities(#[from] caps::errors::CapsError),
    #[error("cannot build the system call filter: {0}")]
    Filter(#[from] seccompiler::BackendError),
    #[error("cannot install the system call filter: {0}")]
    Install(#[from] seccompiler::Error),
}

/// Gives up everything but [`load::CAPABILITIES`] and the system calls below. A call that is not on the list fails with
/// EPERM, as under a container engine's own filter.
///
/// # Errors
/// The kernel refuses, or has no seccomp.
pub(super) fn give_up() -> Result<(), PrivilegeError> {
    // What is missing is told by the datapath's preflight, which names the remedy.
    let permitted = caps::read(None, CapSet::Permitted)?;
    let kept: CapsHashSet = load::CAPABILITIES
        .into_iter()
        .filter(|capability| permitted.contains(capability))
        .collect();
    caps::clear(None, CapSet::Ambient)?;
    caps::clear(None, CapSet::Inheritable)?;
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)?;
    // Also sets no_new_privs.
    seccompiler::apply_filter(&filter()?)?;
    Ok(())
}

fn filter() -> Result<BpfProgram, PrivilegeError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        CALLS.iter().map(|call| (*call, Vec::new())).collect();
    // Neither packet sockets nor any other family.
    let families = [
        libc::AF_UNIX,
        libc::AF_INET,
        libc::AF_INET6,
        libc::AF_NETLINK,
    ];
    let families: Result<Vec<SeccompRule>, seccompiler::BackendError> =
        families.into_iter().map(first_argument).collect();
    rules.insert(libc::SYS_socket, families?);
    let errno = SeccompAction::Errno(libc::EPERM as u32);
    let arch = std::env::consts::ARCH.try_into()?;
    Ok(SeccompFilter::new(rules, errno, SeccompAction::Allow, arch)?.try_into()?)
}

fn first_argument(value: libc::c_int) -> Result<SeccompRule, seccompiler::BackendError> {
    let equals = SeccompCondition::new(
        0,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::Eq,
        u64::from(value as u32),
    )?;
    SeccompRule::new(vec![equals])
}

/// What the agent, its runtime and the C library use, by what it is for.
const CALLS: &[i64] = &[
    // The kernel's part of dfw.
    libc::SYS_bpf,
    // Memory.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // Threads.
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_gettid,
    libc::SYS_membarrier,
    libc::SYS_prctl,
    libc::SYS_rseq,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    // Signals, and how a panic ends the process.
    libc::SYS_getpid,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
    // Time and chance.
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_getrandom,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    // Waiting.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    // Sockets; which is below.
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_listen,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_socketpair,
    // Files: pins, inventory and policy, what is written beside the socket, /proc and /sys.
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_faccessat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_ioctl,
    libc::SYS_lseek,
    libc::SYS_mkdirat,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_pread64,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_renameat2,
    libc::SYS_statfs,
    libc::SYS_statx,
    libc::SYS_unlinkat,
    libc::SYS_write,
    libc::SYS_writev,
    // Who and where we are.
    libc::SYS_capget,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getuid,
    libc::SYS_prlimit64,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    // What only this architecture still has.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rmdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
];

impl From<PrivilegeError> for Failure {
    fn from(error: PrivilegeError) -> Self {
        Self::new(
            ExitCode::Capability,
            error.to_string(),
            "dfw needs a kernel with CONFIG_SECCOMP_FILTER and an engine that lets it use seccomp(2) and capset(2)",
        )
    }
}
