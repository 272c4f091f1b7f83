// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A system call that was not allowed: says which, gives the terminal back,
//! and ends the program.

use std::io;

use libc::{c_int, c_void, siginfo_t};
use vmm_sys_util::signal::register_signal_handler;

/// Exit code: the program could not do what was asked.
const FAILED: c_int = 1;

/// Where siginfo_t has the call's number for SIGSYS (the address of the call
/// is before it; signal(7), sigaction(2)).
const CALL_OFFSET: usize = 24;

/// Has SIGSYS end the program with a sentence.
pub(super) fn catch() -> io::Result<()> {
    register_signal_handler(libc::SIGSYS, trapped).map_err(io::Error::from)
}

extern "C" fn trapped(_: c_int, info: *mut siginfo_t, _: *mut c_void) {
    crate::serial::restore();
    // SAFETY: the kernel hands the handler a whole siginfo_t, of 128 bytes,
    // and for SIGSYS fills in the number at this offset, which is aligned.
    let call = unsafe { info.wrapping_byte_add(CALL_OFFSET).cast::<c_int>().read() };
    let mut sentence = *b"tmem-vmm: a thread made system call 0000, which it has no use for\n";
    let digits = number(call);
    let at = sentence.iter().position(|byte| *byte == b'0');
    for (place, digit) in sentence.iter_mut().skip(at.unwrap_or(0)).zip(digits) {
        *place = digit;
    }
    // One system call and nothing else, as a signal handler must. Nothing can
    // be done if it fails.
    let _ = rustix::io::write(rustix::stdio::stderr(), &sentence);
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
