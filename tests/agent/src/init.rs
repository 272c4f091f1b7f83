// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What process 1 does before it serves.

use crate::root;
use anyhow::Context;
use anyhow::Result;
use rustix::mm::MlockAllFlags;
use rustix::mount::MountFlags;

/// File systems of a guest, by type and place, that go along to a root on a
/// disk. /dev comes first: the rest is of no use if nobody can be told that it
/// failed.
const EARLY: [(&str, &str); 3] = [("devtmpfs", "/dev"), ("proc", "/proc"), ("sysfs", "/sys")];

/// Those of the last root.
const LATE: [(&str, &str); 2] = [("debugfs", "/sys/kernel/debug"), ("tmpfs", "/run")];

/// Mounts what programs expect to be there, and goes on to the root that the
/// kernel's command line names.
pub(crate) fn prepare() -> Result<()> {
    mount(&EARLY)?;
    root::switch(&EARLY.map(|(_, place)| place))?;
    mount(&LATE)
}

fn mount(places: &[(&str, &str)]) -> Result<()> {
    for (kind, place) in places {
        std::fs::create_dir_all(place).with_context(|| format!("cannot make {place}"))?;
        rustix::mount::mount(*kind, *place, *kind, MountFlags::empty(), None)
            .or_else(|error| match error {
                // The kernel mounts /dev by itself when it is built so, and
                // what was mounted in the initramfs stays so.
                rustix::io::Errno::BUSY => Ok(()),
                other => Err(other),
            })
            .with_context(|| format!("cannot mount {kind} on {place}"))?;
    }
    Ok(())
}

/// Keeps out of swap what this process has now.
pub(crate) fn lock_what_is_there() {
    lock(MlockAllFlags::CURRENT);
}

fn lock(what: MlockAllFlags) {
    // Without this the agent still serves, only less surely.
    if let Err(error) = rustix::mm::mlockall(what) {
        eprintln!("tmem-agent: cannot lock itself in memory: {error}");
    }
}

/// Keeps this process out of swap and away from the OOM killer: it must be
/// able to tell what happens when swap does not answer.
pub(crate) fn stay_in_memory() {
    lock(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE);
    // As above.
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", "-1000") {
        eprintln!("tmem-agent: cannot hide from the OOM killer: {error}");
    }
}
