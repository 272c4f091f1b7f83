// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A system call that was not allowed: says which, and ends the program.

#![expect(unsafe_code, reason = "a signal handler")]

use std::io;
use std::sync::OnceLock;

use libc::{c_int, c_void, siginfo_t};
use vmm_sys_util::signal::register_signal_handler;

/// Exit code: the program could not do what was asked.
const FAILED: c_int = 1;

/// Where siginfo_t has the call's number for SIGSYS (the address of the call
/// is before it; signal(7), sigaction(2)).
const CALL_OFFSET: usize = 24;

/// Most bytes of a thread's name (prctl(2)).
const NAME_SIZE: usize = 16;

/// The program's name, and what is to be called first.
static AT_TRAP: OnceLock<(&'static str, fn())> = OnceLock::new();

/// Has SIGSYS end the program with a sentence.
pub(super) fn catch(program: &'static str, before: fn()) -> io::Result<()> {
    // The first is as good as any.
    let _ = AT_TRAP.set((program, before));
    register_signal_handler(libc::SIGSYS, trapped).map_err(io::Error::from)
}

extern "C" fn trapped(_: c_int, info: *mut siginfo_t, _: *mut c_void) {
    let program = AT_TRAP.get().map_or("", |(program, before)| {
        before();
        program
    });
    // SAFETY: the kernel hands the handler a whole siginfo_t, of 128 bytes,
    // and for SIGSYS fills in the number at this offset, which is aligned.
    let call = unsafe { info.wrapping_byte_add(CALL_OFFSET).cast::<c_int>().read() };
    let number = number(call);
    // The system calls of a signal handler: they neither lock nor allocate.
    // Nothing can be done if they fail.
    let mut name = [0; NAME_SIZE];
    // SAFETY: writes at most as many bytes, a final zero included.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    let words: [&[u8]; 6] = [
        program.as_bytes(),
        b": the thread '",
        name,
        b"' made system call ",
        &number,
        b", which it has no use for; please report this, and start with --seccomp off\n",
    ];
    let words = words.map(io::IoSlice::new);
    let _ = rustix::io::writev(rustix::stdio::stderr(), &words);
    // SAFETY: may be called by a signal handler.
    unsafe { libc::_exit(FAILED) }
}

/// Four digits.
fn number(call: c_int) -> [u8; 4] {
    let digit = |unit: c_int| u8::try_from(call / unit % 10).map_or(b'?', |digit| b'0' + digit);
    [digit(1000), digit(100), digit(10), digit(1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_four_digits() {
        assert_eq!(&number(257), b"0257");
        assert_eq!(&number(-1111), b"????");
    }
}
