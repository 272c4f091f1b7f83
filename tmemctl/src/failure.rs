// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the module's error numbers mean, with the way out.

use anyhow::{Error, anyhow};
use rustix::io::Errno;

use crate::share::ShareId;

/// Why `disk` could not be attached.
pub(crate) fn attach(disk: &str, errno: Errno) -> Error {
    match errno {
        Errno::EXIST => anyhow!("{disk} is attached already; `tmemctl status` shows it"),
        Errno::BUSY => anyhow!(
            "{disk} is a part of what is attached, or has a part that is: detach that first \
             (`tmemctl status` shows it)"
        ),
        Errno::NXIO => anyhow!("{disk} has just gone away, or was never a disk"),
        Errno::OPNOTSUPP => {
            anyhow!(
                "the module cannot filter {disk}, or the kernel does not tell what it evicts; its log \
                 (dmesg) may say why"
            )
        }
        Errno::INVAL => anyhow!(
            "the module does not know what it should do with {disk}: install the module and the \
             tmemctl that belong together"
        ),
        Errno::FBIG => anyhow!(
            "{disk} is too large for this machine's memory: the module has to know something of each \
             of its pages; the kernel's log (dmesg) has the numbers"
        ),
        Errno::NOMEM => {
            anyhow!("there is not enough memory to attach {disk}: free some, and try again")
        }
        Errno::TIMEDOUT => anyhow!(
            "{disk} did not end its I/O within 10 s, or somebody keeps it from doing any: try again \
             when it answers"
        ),
        Errno::INTR => anyhow!("interrupted: {disk} is not attached"),
        other => anyhow!(other).context(format!("cannot attach {disk}")),
    }
}

/// Why `disk` could not be attached with a share.
pub(crate) fn attach_shared(disk: &str, share: &ShareId, errno: Errno) -> Error {
    match errno {
        Errno::TXTBSY => anyhow!(
            "{disk} can be written to: attach it read-only to this machine, or say --immutable if \
             nobody writes to it"
        ),
        Errno::NOSYS => anyhow!(
            "the host has no shares, so {disk} is not attached: its daemon may be an older one, or \
             have none made (`tmemctl share add` there)"
        ),
        Errno::ACCESS => anyhow!(
            "the host has no share {share} for this machine, so {disk} is not attached: its operator \
             names the machines that have one (`tmemctl share add` there)"
        ),
        Errno::NOTUNIQ => {
            anyhow!("a disk has share {share} already: {disk} cannot have it, too")
        }
        Errno::NOSPC => anyhow!(
            "{disk} is not attached: as many shares are in use as this machine may have; detach one, \
             or have its operator give it more pools (`--max-pools`)"
        ),
        Errno::AGAIN => anyhow!(
            "the host does not answer, so {disk} is not attached: try again when `tmemctl status` says \
             that it is there"
        ),
        Errno::NOTTY => anyhow!(
            "the loaded module virtio_tmem is older than tmemctl and has no shares, so {disk} is not \
             attached: install the one that belongs to it"
        ),
        other => attach(disk, other),
    }
}

/// Why `disk` could not be attached with a verified share.
pub(crate) fn attach_verified(disk: &str, share: &ShareId, errno: Errno) -> Error {
    match errno {
        Errno::NOSYS => anyhow!(
            "the host has no verified shares, so {disk} is not attached: its daemon may be an older one, \
             or have none made (`tmemctl share add --verified` there)"
        ),
        Errno::ACCESS => anyhow!(
            "the host has no verified share {share} for this machine, so {disk} is not attached: its \
             operator names the machines that have one (`tmemctl share add --verified` there)"
        ),
        Errno::NXIO => anyhow!("{disk} or its hash device has just gone away"),
        Errno::INVAL => anyhow!(
            "the hash device is shorter than its superblock says, so {disk} is not attached"
        ),
        Errno::NOTTY => anyhow!(
            "the loaded module virtio_tmem is older than tmemctl and has no verified shares, so {disk} is \
             not attached: install the one that belongs to it"
        ),
        other => attach_shared(disk, share, other),
    }
}

/// Why `disk` could not be detached.
pub(crate) fn detach(disk: &str, errno: Errno) -> Error {
    match errno {
        Errno::NOENT => anyhow!("{disk} is not attached; `tmemctl status` shows what is"),
        Errno::BUSY => anyhow!("{disk} is being detached already, by another tmemctl"),
        Errno::AGAIN => anyhow!(
            "the host is away, and only it has pages of {disk}, which stays attached: detach it \
             again when `tmemctl status` says that the host is there"
        ),
        Errno::IO => anyhow!(
            "some pages of {disk} could not be written back, so it stays attached: the kernel's \
             log (dmesg) says what failed; try again when that is mended"
        ),
        Errno::TIMEDOUT => anyhow!(
            "{disk} did not end its I/O within 10 s, or somebody keeps it from doing any, so it stays \
             attached: try again when it answers"
        ),
        Errno::INTR => interrupted(disk),
        other => anyhow!(other).context(format!("cannot detach {disk}")),
    }
}

/// Why memory cannot be given back.
pub(crate) fn give_back(errno: Errno) -> Error {
    match errno {
        Errno::BUSY => anyhow!(
            "another driver, most likely a balloon, reports free memory to the host already: unload \
             it (`modprobe -r virtio_balloon`), or leave giving back to it"
        ),
        Errno::OPNOTSUPP => anyhow!(
            "this kernel cannot report free memory: it lacks CONFIG_PAGE_REPORTING, or was started \
             with page_poison=1"
        ),
        Errno::NOTTY => anyhow!(
            "the loaded module virtio_tmem is older than tmemctl: install the one that belongs to it"
        ),
        Errno::NOMEM => anyhow!("there is not enough memory to begin: free some, and try again"),
        other => anyhow!(other).context("cannot give memory back"),
    }
}

/// A detach was given up.
pub(crate) fn interrupted(disk: &str) -> Error {
    anyhow!("interrupted: {disk} stays attached, and works as before")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_of_the_interface_has_a_sentence_with_the_disk() {
        let attaching = [
            (Errno::EXIST, "attached already"),
            (Errno::BUSY, "part of what is attached"),
            (Errno::NXIO, "gone away"),
            (Errno::OPNOTSUPP, "cannot filter"),
            (Errno::INVAL, "belong together"),
            (Errno::FBIG, "too large"),
            (Errno::NOMEM, "not enough memory"),
            (Errno::TIMEDOUT, "did not end its I/O"),
            (Errno::INTR, "is not attached"),
            (Errno::PERM, "cannot attach"),
        ]
        .map(|(errno, words)| (attach("/dev/vda1", errno), words));
        let share = "6b1f0c1e-37d5-4a52-9c7e-0d8b2f5a4e11";
        let sharing = [
            (Errno::TXTBSY, "--immutable"),
            (Errno::NOSYS, "has no shares"),
            (Errno::ACCESS, share),
            (Errno::NOTUNIQ, share),
            (Errno::NOSPC, "as many shares"),
            (Errno::AGAIN, "does not answer"),
            (Errno::NOTTY, "older than tmemctl"),
            (Errno::EXIST, "attached already"),
        ]
        .map(|(errno, words)| {
            let share = share.parse().unwrap();
            (attach_shared("/dev/vda1", &share, errno), words)
        });
        let detaching = [
            (Errno::NOENT, "not attached"),
            (Errno::BUSY, "already"),
            (Errno::AGAIN, "host is away"),
            (Errno::IO, "written back"),
            (Errno::TIMEDOUT, "so it stays attached"),
            (Errno::INTR, "stays attached"),
            (Errno::PERM, "cannot detach"),
        ]
        .map(|(errno, words)| (detach("/dev/vda1", errno), words));
        for (errno, words) in [
            (Errno::BUSY, "modprobe -r virtio_balloon"),
            (Errno::OPNOTSUPP, "page_poison"),
            (Errno::NOTTY, "older than tmemctl"),
            (Errno::NOMEM, "not enough memory"),
            (Errno::PERM, "cannot give memory back"),
        ] {
            let sentence = format!("{:#}", give_back(errno));
            assert!(sentence.contains(words), "{sentence}");
        }
        for (error, words) in attaching.into_iter().chain(detaching).chain(sharing) {
            let sentence = format!("{error:#}");
            assert!(sentence.contains("/dev/vda1"), "{sentence}");
            assert!(sentence.contains(words), "{sentence}");
            assert!(!sentence.contains('\n'), "{sentence}");
        }
    }
}
