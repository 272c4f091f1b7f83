// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Which system calls each role needs. A call that is not listed is one that
//! nothing here makes.

use std::collections::BTreeMap;
use std::io;

use libc::{
    SYS_accept4, SYS_brk, SYS_clock_gettime, SYS_clock_nanosleep, SYS_close, SYS_connect,
    SYS_epoll_ctl, SYS_exit, SYS_exit_group, SYS_fallocate, SYS_fcntl, SYS_fdatasync, SYS_fstat,
    SYS_fstatfs, SYS_fsync, SYS_ftruncate, SYS_futex, SYS_geteuid, SYS_getpgid, SYS_getpgrp,
    SYS_getpid, SYS_getrandom, SYS_getsockopt, SYS_gettid, SYS_ioctl, SYS_lseek, SYS_lstat,
    SYS_madvise, SYS_mmap, SYS_mprotect, SYS_mremap, SYS_munmap, SYS_nanosleep, SYS_newfstatat,
    SYS_poll, SYS_ppoll, SYS_prctl, SYS_pread64, SYS_preadv, SYS_preadv2, SYS_pwrite64,
    SYS_pwritev, SYS_pwritev2, SYS_read, SYS_readv, SYS_recvfrom, SYS_restart_syscall, SYS_rseq,
    SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_sched_getaffinity, SYS_sched_yield,
    SYS_sendmsg, SYS_sendto, SYS_set_robust_list, SYS_setsockopt, SYS_shutdown, SYS_sigaltstack,
    SYS_socket, SYS_statx, SYS_sysinfo, SYS_tgkill, SYS_unlink, SYS_unlinkat, SYS_write,
    SYS_writev, c_long,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::{Level, Role};

/// What every thread does: wait, take memory, tell others, end.
const EVERYBODY: &[c_long] = &[
    SYS_brk,
    SYS_clock_gettime,
    SYS_clock_nanosleep,
    SYS_close,
    SYS_exit,
    SYS_exit_group,
    // The library looks at a descriptor before it closes it, in debug builds.
    SYS_fcntl,
    SYS_futex,
    SYS_getpgid,
    SYS_getpgrp,
    SYS_getpid,
    SYS_getrandom,
    SYS_gettid,
    SYS_madvise,
    SYS_mmap,
    SYS_mprotect,
    SYS_mremap,
    SYS_munmap,
    SYS_nanosleep,
    SYS_poll,
    SYS_ppoll,
    SYS_prctl,
    SYS_read,
    SYS_restart_syscall,
    SYS_rseq,
    SYS_rt_sigprocmask,
    SYS_rt_sigreturn,
    SYS_sched_getaffinity,
    SYS_sched_yield,
    SYS_set_robust_list,
    SYS_sigaltstack,
    SYS_write,
    SYS_writev,
];

/// The store grows and shrinks its memory's file; the device gives back parts of
/// the guest's, and looks which file system that is in.
const STORE: &[c_long] = &[
    SYS_fallocate,
    SYS_fstat,
    SYS_fstatfs,
    SYS_ftruncate,
    SYS_statx,
];

const MAIN: &[c_long] = &[
    SYS_epoll_ctl,
    SYS_lstat,
    SYS_newfstatat,
    SYS_recvfrom,
    SYS_rt_sigaction,
    SYS_shutdown,
    SYS_statx,
    SYS_tgkill,
    SYS_unlink,
    SYS_unlinkat,
];

const API: &[c_long] = &[
    SYS_accept4,
    // Who is at the other end, beside whose process this is.
    SYS_geteuid,
    SYS_getsockopt,
    SYS_recvfrom,
    SYS_sendto,
    SYS_setsockopt,
    SYS_shutdown,
    SYS_sysinfo,
    SYS_tgkill,
];

const CONSOLE: &[c_long] = &[SYS_readv, SYS_recvfrom, SYS_sendto, SYS_shutdown];

const DEVICE: &[c_long] = &[
    SYS_fallocate,
    SYS_fdatasync,
    SYS_fsync,
    SYS_fstat,
    SYS_lseek,
    SYS_pread64,
    SYS_preadv,
    SYS_preadv2,
    SYS_pwrite64,
    SYS_pwritev,
    SYS_pwritev2,
    SYS_readv,
];

const WATCH: &[c_long] = &[SYS_pread64];

const FRONT_END: &[c_long] = &[SYS_connect, SYS_recvfrom, SYS_sendmsg, SYS_socket];

/// Gives the terminal back (a trap does that in any thread), and looks whose
/// it is.
const TERMINAL_IOCTLS: &[u64] = &[
    libc::TCGETS,
    libc::TCGETS2,
    libc::TCSETS,
    libc::TCSETS2,
    libc::TIOCGPGRP,
];

/// KVM_RUN, KVM_GET_REGS and KVM_KVMCLOCK_CTRL (linux/kvm.h).
const VCPU_IOCTLS: &[u64] = &[0xae80, 0x8090_ae81, 0xaead];

/// BLKDISCARD, BLKZEROOUT (linux/fs.h); TUNSETOFFLOAD, TUNSETVNETHDRSZ
/// (linux/if_tun.h).
const DEVICE_IOCTLS: &[u64] = &[0x1277, 0x127f, 0x4004_54d0, 0x4004_54d8];

/// The calls of a role, and the requests that its ioctl may make.
fn allowed(role: Role) -> (Vec<&'static [c_long]>, Vec<u64>) {
    let mut ioctls = TERMINAL_IOCTLS.to_vec();
    let calls: Vec<&[c_long]> = match role {
        Role::Main => vec![MAIN, STORE],
        Role::Vcpu => {
            ioctls.extend(VCPU_IOCTLS);
            vec![STORE]
        }
        Role::Console => vec![CONSOLE],
        // It changes quotas, which may evict pages, and reads counters of the process.
        Role::Api => vec![API, STORE, WATCH],
        Role::Device => {
            ioctls.extend(DEVICE_IOCTLS);
            vec![DEVICE]
        }
        Role::Store => vec![STORE],
        Role::FrontEnd => vec![FRONT_END],
        Role::Watch => vec![WATCH],
        Role::Care => vec![WATCH, STORE],
    };
    (calls, ioctls)
}

/// Installs the filter of `role` in the calling thread.
pub(super) fn install(role: Role, level: Level) -> io::Result<()> {
    let refused = match level {
        Level::Off => return Ok(()),
        Level::Log => SeccompAction::Log,
        Level::On => SeccompAction::Trap,
    };
    let program = program(role, refused).map_err(io::Error::other)?;
    // Sets "no new privileges" as well.
    seccompiler::apply_filter(&program).map_err(io::Error::other)
}

fn program(role: Role, refused: SeccompAction) -> Result<BpfProgram, seccompiler::BackendError> {
    let (calls, ioctls) = allowed(role);
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for call in std::iter::once(EVERYBODY).chain(calls).flatten() {
        rules.insert(*call, Vec::new());
    }
    let mut requests = Vec::new();
    for request in ioctls {
        // The kernel looks at 32 bits of it.
        let (length, equal) = (SeccompCmpArgLen::Dword, SeccompCmpOp::Eq);
        let condition = SeccompCondition::new(1, length, equal, request)?;
        requests.push(SeccompRule::new(vec![condition])?);
    }
    rules.insert(SYS_ioctl, requests);
    SeccompFilter::new(rules, refused, SeccompAction::Allow, TargetArch::x86_64)?.try_into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLES: [Role; 9] = [
        Role::Main,
        Role::Vcpu,
        Role::Console,
        Role::Api,
        Role::Device,
        Role::Store,
        Role::FrontEnd,
        Role::Watch,
        Role::Care,
    ];

    #[test]
    fn every_role_has_a_filter() {
        for role in ROLES {
            assert!(program(role, SeccompAction::Trap).is_ok(), "{role:?}");
        }
    }

    #[test]
    fn no_role_opens_files_starts_programs_or_makes_threads() {
        let never = [
            libc::SYS_open,
            libc::SYS_openat,
            libc::SYS_execve,
            libc::SYS_fork,
            libc::SYS_clone,
            libc::SYS_clone3,
            libc::SYS_ptrace,
            libc::SYS_process_vm_writev,
            libc::SYS_setuid,
        ];
        for role in ROLES {
            let (calls, _) = allowed(role);
            let mut all = std::iter::once(EVERYBODY).chain(calls).flatten();
            assert!(!all.any(|call| never.contains(call)), "{role:?}");
        }
    }

    #[test]
    fn a_refused_call_fails_and_others_work() {
        // In a thread of its own: a filter stays.
        let thread = std::thread::spawn(|| {
            let errno = u32::try_from(libc::EPERM).unwrap();
            let program = program(Role::Device, SeccompAction::Errno(errno)).unwrap();
            seccompiler::apply_filter(&program).unwrap();
            let opened = rustix::fs::open(
                "/dev/null",
                rustix::fs::OFlags::RDONLY,
                rustix::fs::Mode::empty(),
            );
            (
                opened.err(),
                rustix::thread::gettid().as_raw_nonzero().get(),
            )
        });
        let (refused, tid) = thread.join().unwrap();
        assert_eq!(refused, Some(rustix::io::Errno::PERM));
        assert!(tid > 0);
    }
}
