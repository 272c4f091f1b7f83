// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Which system calls each kind of thread needs. A call that is not listed is one that
//! nothing here makes.
//!
//! The process begins with what all of its threads need together ([`begin`]). Threads are
//! made while it runs, and each inherits the filters of the one that makes it, so that one
//! must be allowed what its threads need. Only the first thread, until it serves, those
//! that wait for front ends and for kicks, and the one for images make others.

use std::io;
use std::sync::LazyLock;

use libc::{
    SYS_accept4, SYS_bind, SYS_capget, SYS_capset, SYS_clone, SYS_clone3, SYS_connect,
    SYS_epoll_create1, SYS_epoll_ctl, SYS_epoll_pwait, SYS_eventfd2, SYS_faccessat, SYS_fallocate,
    SYS_fchmod, SYS_fchmodat, SYS_fchown, SYS_fchownat, SYS_fdatasync, SYS_flock, SYS_fstat,
    SYS_fstatfs, SYS_fsync, SYS_ftruncate, SYS_getcwd, SYS_getdents64, SYS_getegid, SYS_geteuid,
    SYS_getgid, SYS_getgroups, SYS_getpeername, SYS_getpriority, SYS_getsockname, SYS_getsockopt,
    SYS_getuid, SYS_kill, SYS_listen, SYS_lseek, SYS_membarrier, SYS_memfd_create, SYS_mkdirat,
    SYS_mlock, SYS_mlock2, SYS_mlockall, SYS_munlock, SYS_newfstatat, SYS_openat, SYS_pipe2,
    SYS_pread64, SYS_prlimit64, SYS_pwrite64, SYS_readlinkat, SYS_readv, SYS_recvfrom, SYS_recvmsg,
    SYS_renameat, SYS_renameat2, SYS_rt_sigaction, SYS_seccomp, SYS_sendmsg, SYS_sendto,
    SYS_set_tid_address, SYS_setpriority, SYS_setsockopt, SYS_shutdown, SYS_socket, SYS_socketpair,
    SYS_splice, SYS_statfs, SYS_statx, SYS_sysinfo, SYS_tgkill, SYS_umask, SYS_uname, SYS_unlinkat,
    c_long,
};
use tmem_host::confine::{self, Allowed, Filter, Level};

/// What a thread is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The process, until it serves.
    Start,
    /// The first thread, once it serves: looks after the machines, and waits for the end.
    Main,
    /// Answers at the control socket; adds machines, and begins to remove them.
    Control,
    /// Makes threads that save and restore the pages of machines, or remove these.
    Images,
    /// Waits for the end of a machine that is removed, and has it forgotten.
    Removal,
    /// Saves or restores those of one, over the control socket or for its front end.
    Image,
    /// Answers who asks for metrics, over the network perhaps.
    Scrape,
    /// Waits for front ends, and makes threads when there is something to do for them.
    Doors,
    /// Accepts a front end and takes its messages.
    Connection,
    /// Waits for kicks of idle queues, and makes threads for them.
    Watcher,
    /// Works on a queue.
    Queue,
    /// Compresses and tidies pages, or moves them to a spill area.
    Store,
    /// Speaks to the cluster that has remote memory, and moves pages there.
    Remote,
    /// Writes the log.
    Log,
    /// Keeps what daemons leave.
    Holder,
}

/// AF_UNIX, AF_INET and AF_INET6 (linux/socket.h).
const UNIX: u32 = 1;
const NETWORK: [u32; 2] = [2, 10];

/// What the C library makes sockets of to connect to a host by its name: besides, AF_NETLINK.
const RESOLVING: [u32; 4] = [UNIX, NETWORK[0], NETWORK[1], 16];

/// TCGETS, FIONREAD and FIONBIO (asm-generic/ioctls.h).
const IOCTLS: &[u32] = &[0x5401, 0x541b, 0x5421];

/// What kcmp(2) may compare (linux/kcmp.h): descriptors.
const KCMP_FILE: u32 = 0;

/// O_ACCMODE and O_CREAT of open(2): what is opened to be read only has none of them.
const WRITES: u32 = 0o103;

/// The store grows and shrinks its memory's file, and writes zeros to what it cannot give
/// back; pages are written to the spill area, and read from there; the device gives back parts of
/// the guest's, and looks which file system that is in.
const STORE: &[c_long] = &[
    SYS_fallocate,
    SYS_fstat,
    SYS_fstatfs,
    SYS_ftruncate,
    SYS_newfstatat,
    SYS_pread64,
    SYS_pwrite64,
    SYS_statx,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
];

/// Waiting for queues; pages of a run in the spill area, which are read together; the end of a connection.
const QUEUE: &[c_long] = &[
    libc::SYS_io_uring_enter,
    // The room of the control group.
    SYS_pread64,
    SYS_epoll_ctl,
    SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    SYS_shutdown,
];

/// Descriptors that are left to the keeper.
const KEEPING: &[c_long] = &[SYS_pipe2, SYS_recvmsg, SYS_sendmsg];

/// A front end, its messages and what they name: events, files of guest memory. The machine's
/// note.
const CONNECTION: &[c_long] = &[
    SYS_accept4,
    SYS_eventfd2,
    SYS_fallocate,
    SYS_fstat,
    SYS_lseek,
    SYS_pread64,
    SYS_readlinkat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    SYS_recvfrom,
    SYS_sendto,
    SYS_shutdown,
    SYS_splice,
];

/// Sockets, and what is in the file system of them.
const SOCKETS: &[c_long] = &[
    libc::SYS_accept,
    SYS_accept4,
    SYS_bind,
    SYS_connect,
    SYS_getpeername,
    SYS_getsockname,
    SYS_getsockopt,
    SYS_listen,
    SYS_mkdirat,
    SYS_recvfrom,
    SYS_sendto,
    SYS_setsockopt,
    SYS_shutdown,
    SYS_unlinkat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rmdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
];

/// Clients of a listening socket.
const ANSWERING: &[c_long] = &[
    SYS_accept4,
    SYS_getsockopt,
    SYS_recvfrom,
    SYS_sendto,
    SYS_setsockopt,
    SYS_shutdown,
];

/// Sockets that are removed.
const ENDING: &[c_long] = &[
    SYS_shutdown,
    SYS_unlinkat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
];

/// Threads that confine themselves.
const THREADS: &[c_long] = &[
    SYS_seccomp,
    SYS_capget,
    SYS_capset,
    // What a filter without clone3 answers; without that it is the one that is made.
    SYS_clone3,
    SYS_set_tid_address,
    SYS_membarrier,
];

/// Looking at files of the system.
const LOOKING: &[c_long] = &[
    SYS_getdents64,
    SYS_lseek,
    SYS_pread64,
    SYS_readv,
    SYS_sysinfo,
];

/// Files of settings, notes of machines.
const FILES: &[c_long] = &[
    SYS_eventfd2,
    SYS_fchmod,
    SYS_fchmodat,
    SYS_fchownat,
    SYS_fdatasync,
    SYS_flock,
    SYS_fsync,
    SYS_geteuid,
    SYS_getpeername,
    SYS_memfd_create,
    SYS_renameat,
    SYS_renameat2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lchown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
];

/// Nodes of a cluster, by their names: the C library asks name servers, and the kernel for addresses
/// of this host.
const REMOTE: &[c_long] = &[
    SYS_bind,
    SYS_connect,
    SYS_getpeername,
    SYS_getsockname,
    SYS_getsockopt,
    SYS_lseek,
    SYS_recvfrom,
    SYS_recvmsg,
    SYS_sendmsg,
    libc::SYS_sendmmsg,
    SYS_sendto,
    SYS_setsockopt,
    SYS_shutdown,
    SYS_uname,
];

/// What is only done while the process starts. The ring that is made then can do nothing but read the
/// spill area.
const START: &[c_long] = &[
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    SYS_epoll_create1,
    SYS_faccessat,
    libc::SYS_faccessat2,
    SYS_fchown,
    SYS_getcwd,
    SYS_getegid,
    SYS_getgid,
    SYS_getgroups,
    SYS_getpriority,
    SYS_getuid,
    SYS_kill,
    SYS_mlock,
    SYS_mlock2,
    SYS_mlockall,
    SYS_munlock,
    SYS_prlimit64,
    SYS_rt_sigaction,
    SYS_setpriority,
    SYS_statfs,
    SYS_tgkill,
    SYS_umask,
    SYS_uname,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_getrlimit,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_pipe,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_setrlimit,
];

/// What it takes to make threads, and nothing but threads.
fn threads() -> Allowed {
    let thread = libc::CLONE_THREAD.unsigned_abs();
    Allowed::everybody()
        .calls(THREADS)
        .masked(SYS_clone, (0, thread, thread))
}

/// What a kind of thread may.
fn allowed(role: Role) -> Allowed {
    let all = Allowed::everybody();
    let unix = |allowed: Allowed| allowed.with(SYS_socket, 0, &[UNIX]);
    let reading = |allowed: Allowed| {
        let allowed = allowed.masked(SYS_openat, (2, WRITES, 0));
        #[cfg(target_arch = "x86_64")]
        let allowed = allowed.masked(libc::SYS_open, (1, WRITES, 0));
        allowed
    };
    match role {
        Role::Start => [
            Role::Main,
            Role::Control,
            Role::Images,
            Role::Scrape,
            Role::Doors,
            Role::Watcher,
            Role::Log,
            Role::Holder,
            Role::Remote,
        ]
        .into_iter()
        .fold(all, |all, role| all.and(allowed(role)))
        .calls(START)
        .with(SYS_socket, 0, &NETWORK)
        .ioctls(IOCTLS),
        Role::Main => reading(all)
            .calls(STORE)
            .calls(LOOKING)
            .calls(KEEPING)
            .calls(ENDING),
        Role::Control => unix(all)
            .calls(STORE)
            .calls(LOOKING)
            .calls(KEEPING)
            .calls(SOCKETS)
            .calls(FILES)
            .calls(&[
                SYS_openat,
                #[cfg(target_arch = "x86_64")]
                libc::SYS_open,
            ]),
        Role::Images => threads()
            .and(allowed(Role::Image))
            .and(allowed(Role::Removal)),
        // Its socket, its note, and what others keep of it.
        Role::Removal => all
            .calls(STORE)
            .calls(ANSWERING)
            .calls(KEEPING)
            .calls(ENDING)
            .calls(&[
                SYS_renameat,
                SYS_renameat2,
                #[cfg(target_arch = "x86_64")]
                libc::SYS_rename,
            ]),
        // A pipe of the front end's, and one of its own before it.
        Role::Image => all
            .calls(STORE)
            .calls(ANSWERING)
            .calls(&[SYS_pipe2, SYS_splice]),
        Role::Scrape => all.calls(STORE).calls(LOOKING).calls(ANSWERING),
        Role::Doors => threads().and(allowed(Role::Connection)),
        Role::Watcher => threads().and(allowed(Role::Queue)),
        // It ends queues as well, and may be the last that has a machine and its socket.
        Role::Connection => allowed(Role::Queue)
            .calls(CONNECTION)
            .calls(KEEPING)
            .calls(ENDING)
            .with(SYS_socketpair, 0, &[UNIX])
            // Whether queues have the same kick.
            .with(libc::SYS_kcmp, 2, &[KCMP_FILE])
            .ioctls(IOCTLS),
        Role::Queue => all.calls(STORE).calls(QUEUE),
        Role::Store => all.calls(STORE),
        Role::Remote => reading(all)
            .calls(STORE)
            .calls(REMOTE)
            .with(SYS_socket, 0, &RESOLVING)
            .ioctls(IOCTLS),
        Role::Log => all,
        Role::Holder => all.calls(KEEPING).calls(ENDING).calls(&[
            SYS_accept4,
            SYS_geteuid,
            SYS_getsockopt,
            SYS_setsockopt,
        ]),
    }
}

/// Sets what happens at calls that are not allowed, and begins with those that are not made
/// at all. To be called before there are threads. `before` is called when there is one, by a
/// signal handler.
///
/// # Errors
/// When the kernel does not take a filter.
pub fn begin(level: Level, before: fn()) -> io::Result<()> {
    confine::begin("vhost-user-tmem", level, before)?;
    confine::without_clone3()?;
    confine::install(&allowed(Role::Start))
}

/// Confines the calling thread, and those that it starts, to what `role` needs. If the
/// kernel does not take that, the program ends: it is not what was asked for.
pub fn enter(role: Role) {
    if !confine::is_asked_for() {
        return;
    }
    if let Err(error) = privileges(role).and_then(|()| install(role)) {
        eprintln!(
            "vhost-user-tmem: cannot confine a thread: {error}; --seccomp off does without the filter"
        );
        std::process::exit(1);
    }
}

fn install(role: Role) -> io::Result<()> {
    /// Threads of these come and go.
    static QUEUE: LazyLock<io::Result<Filter>> =
        LazyLock::new(|| Filter::new(&allowed(Role::Queue)));
    static CONNECTION: LazyLock<io::Result<Filter>> =
        LazyLock::new(|| Filter::new(&allowed(Role::Connection)));
    let made = match role {
        Role::Queue => QUEUE.as_ref().ok(),
        Role::Connection => CONNECTION.as_ref().ok(),
        _ => None,
    };
    match made {
        Some(filter) => filter.install(),
        None => confine::install(&allowed(role)),
    }
}

/// Sockets may have to be given to a group; other threads need no privileges.
fn privileges(role: Role) -> io::Result<()> {
    match role {
        // They make sockets, or have none since the thread that made them dropped them.
        Role::Start | Role::Main | Role::Control | Role::Connection | Role::Queue => Ok(()),
        Role::Images
        | Role::Image
        | Role::Removal
        | Role::Scrape
        | Role::Doors
        | Role::Watcher
        | Role::Store
        | Role::Remote
        | Role::Log
        | Role::Holder => confine::drop_privileges(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLES: [Role; 15] = [
        Role::Start,
        Role::Main,
        Role::Control,
        Role::Images,
        Role::Image,
        Role::Removal,
        Role::Scrape,
        Role::Doors,
        Role::Connection,
        Role::Watcher,
        Role::Queue,
        Role::Store,
        Role::Remote,
        Role::Log,
        Role::Holder,
    ];

    #[test]
    fn numbers_are_what_the_c_library_says() {
        assert_eq!(UNIX, libc::AF_UNIX.unsigned_abs());
        assert_eq!(
            NETWORK,
            [libc::AF_INET, libc::AF_INET6].map(i32::unsigned_abs)
        );
        let resolving = [
            libc::AF_UNIX,
            libc::AF_INET,
            libc::AF_INET6,
            libc::AF_NETLINK,
        ];
        assert_eq!(RESOLVING, resolving.map(i32::unsigned_abs));
        let same = [libc::TCGETS, libc::FIONREAD, libc::FIONBIO];
        assert_eq!(
            IOCTLS.iter().copied().map(u64::from).collect::<Vec<_>>(),
            same
        );
        assert_eq!(WRITES, (libc::O_ACCMODE | libc::O_CREAT).unsigned_abs());
    }

    #[test]
    fn no_thread_starts_programs_or_reaches_into_others() {
        for role in ROLES {
            let allowed = allowed(role);
            for call in [
                libc::SYS_execve,
                libc::SYS_execveat,
                libc::SYS_fork,
                libc::SYS_vfork,
                libc::SYS_ptrace,
                libc::SYS_process_vm_readv,
                libc::SYS_process_vm_writev,
                libc::SYS_setuid,
                libc::SYS_mount,
                libc::SYS_bpf,
                libc::SYS_userfaultfd,
            ] {
                assert!(!allowed.may(call), "{role:?}: {call}");
            }
        }
    }

    #[test]
    fn no_thread_makes_a_ring_once_the_process_serves() {
        for role in ROLES {
            let allowed = allowed(role);
            for call in [libc::SYS_io_uring_setup, libc::SYS_io_uring_register] {
                assert_eq!(allowed.may(call), role == Role::Start, "{role:?}: {call}");
            }
            let reads_runs = [
                Role::Start,
                Role::Doors,
                Role::Connection,
                Role::Watcher,
                Role::Queue,
            ];
            let may = allowed.may(libc::SYS_io_uring_enter);
            assert_eq!(may, reads_runs.contains(&role), "{role:?}");
        }
    }

    #[test]
    fn threads_that_guests_and_front_ends_reach_open_no_files_and_make_no_threads() {
        for role in [
            Role::Image,
            Role::Removal,
            Role::Connection,
            Role::Queue,
            Role::Store,
            Role::Log,
            Role::Holder,
        ] {
            let allowed = allowed(role);
            for call in [
                libc::SYS_open,
                SYS_openat,
                SYS_socket,
                SYS_connect,
                SYS_clone,
                SYS_clone3,
                SYS_memfd_create,
            ] {
                assert!(!allowed.may(call), "{role:?}: {call}");
            }
        }
    }

    #[test]
    fn only_the_start_and_three_more_make_threads() {
        for role in ROLES {
            let makes = allowed(role).may(SYS_clone);
            assert_eq!(
                makes,
                [Role::Start, Role::Images, Role::Doors, Role::Watcher].contains(&role),
                "{role:?}"
            );
        }
    }
}
