// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Guest memory that is not there when a thread of the VMM touches it: the host has
//! no huge page for it, or its memory is broken. The kernel raises SIGBUS.
//!
//! The guest is lost then: what it had there is gone, or cannot be had. So the program
//! ends at once, with a sentence, before anything else can be made of it: there is
//! one guest in a process.

use std::io;
use std::sync::OnceLock;

use anyhow::{Context, Result};
use libc::{c_int, c_void, siginfo_t};
use vm_memory::{GuestMemoryBackend, GuestMemoryMmap};
use vmm_sys_util::signal::{register_signal_handler, unblock_signal};

/// Exit codes: the guest crashed; the program itself failed.
const CRASHED: c_int = 4;
const FAILED: c_int = 1;

const NO_PAGE: &[u8] = b"the host has no page for memory of the guest: huge pages that it gave \
    back are in use elsewhere; raise vm.nr_hugepages, or leave out give-back=any";
const BROKEN: &[u8] = b"memory of the host that the guest uses is broken";
const ELSEWHERE: &[u8] = b"a file that this program uses was truncated, or its memory is broken";
const SENT: &[u8] = b"somebody has sent SIGBUS";

/// First and last address of each region of the guest's memory.
static GUEST: OnceLock<Vec<(usize, usize)>> = OnceLock::new();

/// From now on, an access that meets a missing page of `memory` ends the program with
/// a sentence. To be called once; the first memory counts.
///
/// # Errors
/// When the system does not take the handler.
pub fn catch(memory: &GuestMemoryMmap) -> Result<()> {
    let ranges = memory.iter().map(|region| {
        let start = region.as_ptr().addr();
        (start, start.saturating_add(region.size()))
    });
    // A second call is a mistake without a consequence.
    let _ = GUEST.set(ranges.collect());
    register_signal_handler(libc::SIGBUS, caught).context("cannot handle a signal")?;
    // Blocked, it would end the program without a word.
    let unblocked = unblock_signal(libc::SIGBUS).map_err(|_| io::Error::last_os_error());
    unblocked.context("cannot unblock a signal")
}

extern "C" fn caught(_: c_int, info: *mut siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel hands the handler a whole siginfo_t.
    let info = unsafe { &*info };
    // SAFETY: for SIGBUS that the kernel raises it has filled in the address; for
    // others the bytes are those of other numbers, and any are an address.
    let address = unsafe { info.si_addr() }.addr();
    let (what, code) = told(info.si_code, address);
    crate::terminal::restore();
    // The system calls of a signal handler: they neither lock nor allocate. Nothing
    // can be done if they fail.
    let words: [&[u8]; 3] = [b"tmem-vmm: ", what, b"\n"];
    let words = words.map(io::IoSlice::new);
    let _ = rustix::io::writev(rustix::stdio::stderr(), &words);
    // SAFETY: may be called by a signal handler.
    unsafe { libc::_exit(code) }
}

/// The sentence and the exit code.
fn told(code: c_int, address: usize) -> (&'static [u8], c_int) {
    let is_guests = || {
        let guest = GUEST.get().map(Vec::as_slice).unwrap_or_default();
        guest
            .iter()
            .any(|(start, end)| (*start..*end).contains(&address))
    };
    match code {
        libc::BUS_ADRERR if is_guests() => (NO_PAGE, CRASHED),
        libc::BUS_MCEERR_AR | libc::BUS_MCEERR_AO if is_guests() => (BROKEN, CRASHED),
        ..=0 => (SENT, FAILED),
        _ => (ELSEWHERE, FAILED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::process::Command;
    use vm_memory::{Bytes, FileOffset, GuestAddress};

    /// Says to [`child`] that it is one.
    const CHILD: &str = "TMEM_VMM_GONE";

    /// Runs in a process of its own, which it ends.
    #[test]
    fn child() {
        let Ok(what) = std::env::var(CHILD) else {
            return;
        };
        let file = File::from(
            rustix::fs::memfd_create("memory", rustix::fs::MemfdFlags::CLOEXEC).unwrap(),
        );
        let part = || Some(FileOffset::new(file.try_clone().unwrap(), 0));
        file.set_len(1 << 16).unwrap();
        let memory = || {
            GuestMemoryMmap::<()>::from_ranges_with_files([(GuestAddress(0), 1 << 16, part())])
                .unwrap()
        };
        let (guest, other) = (memory(), memory());
        catch(&guest).unwrap();
        file.set_len(4096).unwrap();
        guest.write_obj(1u8, GuestAddress(0)).unwrap();
        match &*what {
            "guest" => guest.write_obj(1u8, GuestAddress(4096)).unwrap(),
            "other" => other.write_obj(1u8, GuestAddress(4096)).unwrap(),
            _ => signal_hook::low_level::raise(libc::SIGBUS).unwrap(),
        }
        unreachable!("the access went well");
    }

    #[test]
    fn the_program_ends_with_a_sentence() {
        for (what, code, sentence) in [
            ("guest", CRASHED, NO_PAGE),
            ("other", FAILED, ELSEWHERE),
            ("sent", FAILED, SENT),
        ] {
            let ended = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "machine::memory::gone::tests::child"])
                .arg("--nocapture")
                .env(CHILD, what)
                .output()
                .unwrap();
            let said = String::from_utf8(ended.stderr).unwrap();
            assert_eq!(ended.status.code(), Some(code), "{said}");
            let sentence = std::str::from_utf8(sentence).unwrap();
            assert_eq!(said, format!("tmem-vmm: {sentence}\n"));
        }
    }

    #[test]
    fn broken_memory_is_told_from_memory_that_is_not_there() {
        // No address belongs to a guest here.
        assert_eq!(told(libc::BUS_MCEERR_AR, 0), (ELSEWHERE, FAILED));
        assert_eq!(told(libc::BUS_ADRALN, 0), (ELSEWHERE, FAILED));
    }
}
