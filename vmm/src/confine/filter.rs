// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Which system calls each role needs. A call that is not listed is one that
//! nothing here makes.

use libc::{
    SYS_accept4, SYS_connect, SYS_epoll_ctl, SYS_fallocate, SYS_fdatasync, SYS_fstat, SYS_fstatfs,
    SYS_fsync, SYS_ftruncate, SYS_geteuid, SYS_getsockopt, SYS_lseek, SYS_lstat, SYS_newfstatat,
    SYS_pread64, SYS_preadv, SYS_preadv2, SYS_pwrite64, SYS_pwritev, SYS_pwritev2, SYS_readv,
    SYS_recvfrom, SYS_rt_sigaction, SYS_sendmsg, SYS_sendto, SYS_setsockopt, SYS_shutdown,
    SYS_socket, SYS_statx, SYS_sysinfo, SYS_tgkill, SYS_unlink, SYS_unlinkat, c_long,
};
use tmem_host::confine::Allowed;

use super::Role;

/// The store grows and shrinks its memory's file, and writes zeros to what it cannot give
/// back; the device gives back parts of the guest's, and looks which file system that is in.
const STORE: &[c_long] = &[
    SYS_fallocate,
    SYS_fstat,
    SYS_fstatfs,
    SYS_ftruncate,
    SYS_pwrite64,
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

const FRONT_END: &[c_long] = &[SYS_connect, SYS_recvfrom, SYS_sendmsg];

/// AF_UNIX (linux/socket.h).
const UNIX: u32 = 1;

/// Gives the terminal back (a trap does that in any thread), and looks whose
/// it is: TCGETS, TCSETS, TIOCGPGRP, TCGETS2, TCSETS2 (asm-generic/ioctls.h).
const TERMINAL_IOCTLS: &[u32] = &[0x5401, 0x5402, 0x540f, 0x802c_542a, 0x402c_542b];

/// KVM_RUN, KVM_GET_REGS and KVM_KVMCLOCK_CTRL (linux/kvm.h).
const VCPU_IOCTLS: &[u32] = &[0xae80, 0x8090_ae81, 0xaead];

/// BLKDISCARD, BLKZEROOUT (linux/fs.h); TUNSETOFFLOAD, TUNSETVNETHDRSZ
/// (linux/if_tun.h).
const DEVICE_IOCTLS: &[u32] = &[0x1277, 0x127f, 0x4004_54d0, 0x4004_54d8];

/// What a role may.
pub(super) fn allowed(role: Role) -> Allowed {
    let all = Allowed::everybody().ioctls(TERMINAL_IOCTLS);
    match role {
        Role::Main => all.calls(MAIN).calls(STORE),
        Role::Vcpu => all.ioctls(VCPU_IOCTLS).calls(STORE),
        Role::Console => all.calls(CONSOLE),
        // It changes quotas, which may evict pages, and reads counters of the process.
        Role::Api => all.calls(API).calls(STORE).calls(WATCH),
        Role::Device => all.ioctls(DEVICE_IOCTLS).calls(DEVICE),
        Role::Store => all.calls(STORE),
        Role::FrontEnd => all.calls(FRONT_END).with(SYS_socket, 0, &[UNIX]),
        Role::Watch => all.calls(WATCH),
        Role::Care => all.calls(WATCH).calls(STORE),
    }
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
    fn requests_are_what_the_c_library_says() {
        let same = [
            libc::TCGETS,
            libc::TCSETS,
            libc::TIOCGPGRP,
            libc::TCGETS2,
            libc::TCSETS2,
        ];
        let ours: Vec<_> = TERMINAL_IOCTLS.iter().copied().map(u64::from).collect();
        assert_eq!(ours, same);
        assert_eq!(UNIX, libc::AF_UNIX.unsigned_abs());
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
            let allowed = allowed(role);
            for call in never {
                assert!(!allowed.may(call), "{role:?}: {call}");
            }
        }
    }
}
