// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The system calls of a thread.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

/// What every thread does: wait, take memory, tell others, end.
const EVERYBODY: &[c_long] = &[
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // The library looks at a descriptor before it closes it, in debug builds.
    libc::SYS_fcntl,
    libc::SYS_futex,
    libc::SYS_getpgid,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_ppoll,
    libc::SYS_prctl,
    libc::SYS_read,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    libc::SYS_write,
    libc::SYS_writev,
];

/// The same, that newer architectures do without.
#[cfg(target_arch = "x86_64")]
const EVERYBODY_OF_OLD: &[c_long] = &[libc::SYS_getpgrp, libc::SYS_poll];
#[cfg(not(target_arch = "x86_64"))]
const EVERYBODY_OF_OLD: &[c_long] = &[];

/// Signals that a handler, or abort(3), gives back to the kernel.
const FATAL: [u32; 3] = [
    libc::SIGABRT.unsigned_abs(),
    libc::SIGBUS.unsigned_abs(),
    libc::SIGSEGV.unsigned_abs(),
];

/// What an argument has to be, of which a filter sees 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Check {
    argument: u8,
    mask: u32,
    value: u32,
}

/// System calls that a thread may make.
#[derive(Clone, Debug)]
pub struct Allowed {
    /// By number; one of the checks has to hold, if there are any.
    calls: BTreeMap<c_long, Vec<Check>>,
}

impl Allowed {
    pub(super) fn nothing() -> Self {
        Self {
            calls: BTreeMap::new(),
        }
    }

    /// What every thread needs. Memory that it maps holds no code.
    pub fn everybody() -> Self {
        let no_code = (2, libc::PROT_EXEC.unsigned_abs(), 0);
        let mut this = Self::nothing()
            .calls(EVERYBODY)
            .calls(EVERYBODY_OF_OLD)
            .masked(libc::SYS_mmap, no_code)
            .masked(libc::SYS_mprotect, no_code);
        for signal in FATAL {
            this = this
                .with(libc::SYS_rt_sigaction, 0, &[signal])
                .with(libc::SYS_tgkill, 2, &[signal])
                .with(libc::SYS_tkill, 1, &[signal]);
        }
        this
    }

    pub(super) fn call(mut self, call: c_long) -> Self {
        self.calls.insert(call, Vec::new());
        self
    }

    /// These as well, whatever their arguments are.
    #[must_use]
    pub fn calls(self, calls: &[c_long]) -> Self {
        calls.iter().fold(self, |this, call| this.call(*call))
    }

    /// The call as well, if this argument (from 0) is one of `values`.
    #[must_use]
    pub fn with(self, call: c_long, argument: u8, values: &[u32]) -> Self {
        let check = |this: Self, value: &u32| this.masked(call, (argument, u32::MAX, *value));
        values.iter().fold(self, check)
    }

    /// The call as well, if what `mask` leaves of this argument (from 0) is `value`.
    #[must_use]
    pub fn masked(mut self, call: c_long, (argument, mask, value): (u8, u32, u32)) -> Self {
        let check = Check {
            argument,
            mask,
            value,
        };
        match self.calls.get_mut(&call) {
            // It is allowed anyway.
            Some(checks) if checks.is_empty() => {}
            Some(checks) => checks.push(check),
            None => {
                self.calls.insert(call, vec![check]);
            }
        }
        self
    }

    /// Requests of ioctl(2) as well.
    #[must_use]
    pub fn ioctls(self, requests: &[u32]) -> Self {
        self.with(libc::SYS_ioctl, 1, requests)
    }

    /// What `other` may, too.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        for (call, checks) in other.calls {
            if checks.is_empty() {
                self.calls.insert(call, checks);
                continue;
            }
            for check in checks {
                self = self.masked(call, (check.argument, check.mask, check.value));
            }
        }
        self
    }

    /// Whether the call may be made, with some arguments at least.
    pub fn may(&self, call: c_long) -> bool {
        self.calls.contains_key(&call)
    }

    /// A filter that does this about anything else.
    pub(super) fn program(&self, refused: SeccompAction) -> Result<BpfProgram, BackendError> {
        self.compile(refused, SeccompAction::Allow)
    }

    /// A filter that does this about what is allowed, and nothing about anything else.
    pub(super) fn inverse(&self, action: SeccompAction) -> Result<BpfProgram, BackendError> {
        self.compile(SeccompAction::Allow, action)
    }

    fn compile(
        &self,
        others: SeccompAction,
        these: SeccompAction,
    ) -> Result<BpfProgram, BackendError> {
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
        for (call, checks) in &self.calls {
            let each = checks.iter().map(|check| {
                let operator = SeccompCmpOp::MaskedEq(check.mask.into());
                let length = SeccompCmpArgLen::Dword;
                let value = check.value.into();
                let condition = SeccompCondition::new(check.argument, length, operator, value)?;
                SeccompRule::new(vec![condition])
            });
            rules.insert(*call, each.collect::<Result<_, _>>()?);
        }
        let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
        SeccompFilter::new(rules, others, these, architecture)?.try_into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

    /// What becomes of `act` in a thread with this filter: one stays.
    fn within<T: Send + 'static>(allowed: Allowed, act: impl FnOnce() -> T + Send + 'static) -> T {
        let thread = std::thread::spawn(move || {
            let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
            seccompiler::apply_filter(&allowed.program(refused).unwrap()).unwrap();
            act()
        });
        thread.join().unwrap()
    }

    fn map(protection: ProtFlags) -> bool {
        // SAFETY: a new mapping, which nobody uses.
        let mapped =
            unsafe { mmap_anonymous(std::ptr::null_mut(), 4096, protection, MapFlags::PRIVATE) };
        mapped.is_ok()
    }

    #[test]
    fn refused_call_fails_and_others_work() {
        let open = || {
            let flags = rustix::fs::OFlags::RDONLY;
            rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty()).is_ok()
        };
        assert!(!within(Allowed::everybody(), open));
        let allowed = Allowed::everybody().calls(&[libc::SYS_openat, libc::SYS_open]);
        assert!(within(allowed, open));
    }

    #[test]
    fn memory_holds_no_code() {
        let read_write = ProtFlags::READ | ProtFlags::WRITE;
        assert!(within(Allowed::everybody(), move || map(read_write)));
        assert!(!within(Allowed::everybody(), || map(
            ProtFlags::READ | ProtFlags::EXEC
        )));
    }

    #[test]
    fn arguments_are_looked_at() {
        let socket = |family| {
            let kind = rustix::net::SocketType::STREAM;
            move || rustix::net::socket(family, kind, None).is_ok()
        };
        let unix = u32::from(rustix::net::AddressFamily::UNIX.as_raw());
        let allowed = || Allowed::everybody().with(libc::SYS_socket, 0, &[unix]);
        assert!(within(allowed(), socket(rustix::net::AddressFamily::UNIX)));
        assert!(!within(allowed(), socket(rustix::net::AddressFamily::INET)));
    }

    #[test]
    fn what_is_allowed_anyway_stays_so() {
        let some = || Allowed::nothing().with(libc::SYS_socket, 0, &[1]);
        let any = || Allowed::nothing().calls(&[libc::SYS_socket]);
        for allowed in [
            some().and(any()),
            any().and(some()),
            any().with(libc::SYS_socket, 0, &[1]),
        ] {
            assert_eq!(allowed.calls.get(&libc::SYS_socket), Some(&Vec::new()));
        }
    }
}
