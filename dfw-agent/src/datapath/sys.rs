//! The few bpf(2) commands that aya has no call for: TCX links by ifindex, their update by file descriptor, the query of a
//! hook without CAP_SYS_ADMIN, and arrays read as a whole.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use aya::Pod;
use aya_obj::generated::{bpf_attach_type, bpf_attr, bpf_cmd, bpf_link_info, bpf_map_info};

/// Which of the two TCX hooks of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TcxHook {
    /// What comes into the host by the interface.
    Ingress,
    /// What the host sends out by it.
    Egress,
}

impl TcxHook {
    fn attach_type(self) -> bpf_attach_type {
        match self {
            Self::Ingress => bpf_attach_type::BPF_TCX_INGRESS,
            Self::Egress => bpf_attach_type::BPF_TCX_EGRESS,
        }
    }
}

/// Place before everything that is attached (`BPF_F_BEFORE` without a relative: kernel commit e420bed02507).
const BPF_F_BEFORE: u32 = 1 << 3;

fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i64> {
    // SAFETY: the kernel reads and writes `size_of::<bpf_attr>()` bytes at `attr`, which is ours; every pointer in it
    // was put there by a caller in this file from a live borrow.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as libc::c_int,
            std::ptr::from_mut(attr),
            size_of::<bpf_attr>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn zeroed() -> bpf_attr {
    // SAFETY: a union of plain integers and arrays of them; the kernel wants unused bytes to be zero.
    unsafe { std::mem::zeroed() }
}

fn owned(descriptor: i64) -> OwnedFd {
    // SAFETY: the kernel has just given us this descriptor; nobody else has it.
    unsafe { OwnedFd::from_raw_fd(descriptor as i32) }
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

/// Whether bpf(2) reaches the kernel: asks for a map of no kind, which the kernel itself answers by EINVAL.
///
/// # Errors
/// What a filter before the kernel answers, most often EPERM. Needs CAP_BPF, or the kernel answers so too.
pub(super) fn is_reached() -> io::Result<()> {
    match bpf(bpf_cmd::BPF_MAP_CREATE, &mut zeroed()) {
        Err(error) if error.raw_os_error() != Some(libc::EINVAL) => Err(error),
        _ => Ok(()),
    }
}

/// Attaches a program first in a TCX hook. The interface is named by its number: names are reused.
///
/// # Errors
/// ENODEV when the interface is gone; what bpf(2) says for BPF_LINK_CREATE.
pub fn attach_first(program: BorrowedFd<'_>, ifindex: u32, hook: TcxHook) -> io::Result<OwnedFd> {
    let mut attr = zeroed();
    attr.link_create.__bindgen_anon_1.prog_fd = program.as_raw_fd() as u32;
    attr.link_create.__bindgen_anon_2.target_ifindex = ifindex;
    attr.link_create.attach_type = hook.attach_type() as u32;
    attr.link_create.flags = BPF_F_BEFORE;
    bpf(bpf_cmd::BPF_LINK_CREATE, &mut attr).map(owned)
}

/// Swaps the program of a link: one word, no moment without a program.
///
/// # Errors
/// ENOLINK when the link's interface is gone.
pub fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = zeroed();
    attr.link_update.link_fd = link.as_raw_fd() as u32;
    attr.link_update.__bindgen_anon_1.new_prog_fd = program.as_raw_fd() as u32;
    bpf(bpf_cmd::BPF_LINK_UPDATE, &mut attr).map(drop)
}

/// Detaches a link, whoever else holds it. Returns when no packet meets its program any more.
///
/// # Errors
/// What bpf(2) says for BPF_LINK_DETACH.
pub fn detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = zeroed();
    attr.link_detach.link_fd = link.as_raw_fd() as u32;
    bpf(bpf_cmd::BPF_LINK_DETACH, &mut attr).map(drop)
}

/// Pins an object under a bpffs.
///
/// # Errors
/// EEXIST when the name is taken; EPERM or EINVAL when the directory is not on a bpffs.
pub fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let mut attr = zeroed();
    attr.__bindgen_anon_4.bpf_fd = object.as_raw_fd() as u32;
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    bpf(bpf_cmd::BPF_OBJ_PIN, &mut attr).map(drop)
}

/// Opens a pinned object.
///
/// # Errors
/// ENOENT when nothing is pinned there.
pub fn open_pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let mut attr = zeroed();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    bpf(bpf_cmd::BPF_OBJ_GET, &mut attr).map(owned)
}

/// A TCX link as the kernel describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// Its number, never used twice.
    pub id: u32,
    /// Its interface; 0 when it is detached: by force, or because the interface is gone.
    pub ifindex: u32,
    attach_type: u32,
}

impl LinkInfo {
    /// Whether it is on this hook of this interface.
    pub fn is_on(&self, ifindex: u32, hook: TcxHook) -> bool {
        self.ifindex == ifindex && self.attach_type == hook.attach_type() as u32
    }
}

/// The number of a map.
///
/// # Errors
/// What bpf(2) says for BPF_OBJ_GET_INFO_BY_FD.
pub fn map_id(map: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: plain integers.
    let mut info: bpf_map_info = unsafe { std::mem::zeroed() };
    let mut attr = zeroed();
    attr.info.bpf_fd = map.as_raw_fd() as u32;
    attr.info.info_len = size_of::<bpf_map_info>() as u32;
    attr.info.info = std::ptr::from_mut(&mut info) as u64;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(info.id)
}

/// What a link is.
///
/// # Errors
/// What bpf(2) says for BPF_OBJ_GET_INFO_BY_FD.
pub fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    // SAFETY: plain integers and unions of them.
    let mut info: bpf_link_info = unsafe { std::mem::zeroed() };
    let mut attr = zeroed();
    attr.info.bpf_fd = link.as_raw_fd() as u32;
    attr.info.info_len = size_of::<bpf_link_info>() as u32;
    attr.info.info = std::ptr::from_mut(&mut info) as u64;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    // SAFETY: every arm of the union is plain integers; that of another kind of link reads as a wrong place.
    let tcx = unsafe { info.__bindgen_anon_1.tcx };
    Ok(LinkInfo {
        id: info.id,
        ifindex: tcx.ifindex,
        attach_type: tcx.attach_type,
    })
}

/// What is in a TCX hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HookView {
    /// The link of the first program; 0 when it has none, or when there is no program.
    pub first: u32,
    /// How many programs there are.
    pub programs: u32,
}

/// Looks at a TCX hook. Unlike other queries this needs CAP_NET_ADMIN only.
///
/// # Errors
/// EINVAL on a kernel without TCX; ENODEV when the interface is gone.
pub fn look(ifindex: u32, hook: TcxHook) -> io::Result<HookView> {
    let (mut program, mut link) = (0_u32, 0_u32);
    let mut attr = zeroed();
    attr.query.__bindgen_anon_1.target_ifindex = ifindex;
    attr.query.attach_type = hook.attach_type() as u32;
    attr.query.prog_ids = std::ptr::from_mut(&mut program) as u64;
    attr.query.link_ids = std::ptr::from_mut(&mut link) as u64;
    attr.query.__bindgen_anon_2.count = 1;
    match bpf(bpf_cmd::BPF_PROG_QUERY, &mut attr) {
        // There are more than the first, which it has told (bpf_mprog_query in kernel/bpf/mprog.c).
        Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {}
        other => drop(other?),
    }
    Ok(HookView {
        first: link,
        // SAFETY: the kernel has filled the query arm.
        programs: unsafe { attr.query.__bindgen_anon_2.count },
    })
}

/// Every element of an array map, in order.
///
/// # Errors
/// What bpf(2) says for BPF_MAP_LOOKUP_BATCH; InvalidData when there are fewer than `length`.
pub fn read_array<V: Pod + Default>(map: BorrowedFd<'_>, length: u32) -> io::Result<Vec<V>> {
    let mut keys = vec![0_u32; length as usize];
    let mut values = vec![V::default(); length as usize];
    let mut position = 0_u32;
    let mut attr = zeroed();
    attr.batch.out_batch = std::ptr::from_mut(&mut position) as u64;
    attr.batch.keys = keys.as_mut_ptr() as u64;
    attr.batch.values = values.as_mut_ptr() as u64;
    attr.batch.count = length;
    attr.batch.map_fd = map.as_raw_fd() as u32;
    match bpf(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attr) {
        // The end of the map was reached.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
        other => drop(other?),
    }
    // SAFETY: the kernel has filled the batch arm.
    let read = unsafe { attr.batch.count };
    if read == length {
        Ok(values)
    } else {
        Err(io::ErrorKind::InvalidData.into())
    }
}

/// The magic number of the file system that a path is on.
///
/// # Errors
/// What statfs(2) says.
pub fn file_system(path: &Path) -> io::Result<i64> {
    let path = c_path(path)?;
    // SAFETY: plain integers, filled by the kernel.
    let mut statfs: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live objects of the right type.
    if unsafe { libc::statfs(path.as_ptr(), &raw mut statfs) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(statfs.f_type)
}
