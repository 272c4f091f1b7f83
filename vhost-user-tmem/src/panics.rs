// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A panic ends the process, whichever thread it is on: what that thread was changing may be
//! half done, and locks that it held are open. Nobody is served from such a state. Pages
//! and connections are with the keeper; the next daemon checks all that it takes over.

use std::fmt::Write as _;
use std::panic;
use std::process::abort;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::stdio::stderr;

use crate::blame;

/// How long whoever reads the log has, until the process ends without a word.
const READS_WITHIN: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 500_000_000,
};

/// Most bytes of what is said: as much as a pipe takes at once.
const MOST: usize = 4096;

/// Has a panic end the process. To be called before there are threads.
pub fn end() {
    panic::set_hook(Box::new(|panic| {
        static HAS_BEGUN: AtomicBool = AtomicBool::new(false);
        if !HAS_BEGUN.swap(true, SeqCst) {
            // First of all: nothing of this may fail.
            blame::count();
            say(panic);
        }
        abort();
    }));
}

/// Not over the log, whose thread may be the one.
fn say(panic: &panic::PanicHookInfo<'_>) {
    let current = thread::current();
    let name = current.name().unwrap_or_default();
    let mut said = String::new();
    let written = writeln!(
        said,
        "vhost-user-tmem: the thread '{name}' {panic}; the daemon ends here, and the next one goes \
         on with pages and connections that are kept; please report this"
    );
    let mut fds = [PollFd::from_borrowed_fd(stderr(), PollFlags::OUT)];
    if written.is_ok() && poll(&mut fds, Some(&READS_WITHIN)).is_ok_and(|ready| ready > 0) {
        let bytes = said.as_bytes();
        // There is nowhere to complain.
        let _ = rustix::io::write(stderr(), bytes.get(..MOST).unwrap_or(bytes));
    }
}
