// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `tmemctl reclaim`: the kernel's memory.reclaim, in parts.

mod snapshot;

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::io::Errno;
use tmem_cli::size;

use crate::cli::Reclaim;
use crate::module::Kernel;
use crate::progress;
use snapshot::Snapshot;

/// What is asked for at a time: so that it can be interrupted, and what could be
/// done is known.
const PART: u64 = 16 << 20;

/// Below this it is not worth asking again.
const LEAST: u64 = 1 << 20;

/// Moves memory out; says whether all that was wanted.
///
/// # Errors
/// When the kernel does not offer it; when it is for a snapshot, and nothing is given back.
pub(crate) fn run(wanted: &Reclaim, out: &mut impl Write) -> Result<bool> {
    let module = wanted.snapshot.then(Kernel::open).transpose()?;
    let snapshot = module.as_ref().map(Snapshot::begin).transpose()?;
    let is_all = move_out(wanted, out)?;
    if let (Some(module), Some(snapshot)) = (&module, snapshot) {
        snapshot.end(module, out)?;
    }
    Ok(is_all)
}

fn move_out(wanted: &Reclaim, out: &mut impl Write) -> Result<bool> {
    let group = match &wanted.cgroup {
        Some(group) => group.clone(),
        None => root(Path::new("/proc/self/mounts"))?,
    };
    let file = group.join("memory.reclaim");
    if !file.exists() {
        bail!(
            "there is no {}: it needs the memory controller of version 2 control groups, and \
             Linux 5.19",
            file.display()
        );
    }
    let shown = progress::is_shown();
    let done = in_parts(wanted.size, |part, done| {
        if shown {
            let (done, wanted) = (size::show(done), size::show(wanted.size));
            progress::draw(&format!("{done} of {wanted}"));
        }
        ask(&file, part)
    });
    if shown {
        progress::draw("");
    }
    let done = done?;
    if done < wanted.size {
        writeln!(
            out,
            "Moved out {} of {}: the rest is in use, or swap is full.",
            size::show(done),
            size::show(wanted.size)
        )?;
        return Ok(false);
    }
    writeln!(out, "Moved out {}.", size::show(done))?;
    Ok(true)
}

/// Asks for all in parts, and for smaller ones where a part is too much. Gives what
/// was done.
fn in_parts(size: u64, mut ask: impl FnMut(u64, u64) -> Result<bool>) -> Result<u64> {
    let mut done = 0;
    let mut part = PART;
    while done < size {
        let next = part.min(size - done);
        if ask(next, done)? {
            done += next;
        } else if next <= LEAST {
            break;
        } else {
            part = next / 2;
        }
    }
    Ok(done)
}

/// Asks the kernel; says whether it did all of it.
fn ask(file: &Path, bytes: u64) -> Result<bool> {
    let written = File::options()
        .write(true)
        .open(file)
        .and_then(|mut file| file.write_all(bytes.to_string().as_bytes()));
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(Errno::AGAIN.raw_os_error()) => Ok(false),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            bail!("{} is for root only: run tmemctl as root", file.display())
        }
        Err(error) => Err(error).with_context(|| format!("cannot write {}", file.display())),
    }
}

/// Where the control groups are.
fn root(mounts: &Path) -> Result<PathBuf> {
    let text = std::fs::read_to_string(mounts).context("cannot read what is mounted")?;
    find(&text).context(
        "no control groups of version 2 are mounted; `mount -t cgroup2 none /sys/fs/cgroup` does \
         that",
    )
}

fn find(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let place = fields.next()?;
        (fields.next()? == "cgroup2").then(|| place.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_asked_for_in_smaller_parts() {
        let mut asked = Vec::new();
        let mut left: u64 = 21 << 20;
        let done = in_parts(64 << 20, |part, done| {
            asked.push((part >> 20, done >> 20));
            let fits = part <= left;
            left -= if fits { part } else { 0 };
            Ok(fits)
        });
        assert_eq!(done.unwrap(), 21 << 20);
        assert_eq!(asked[..2], [(16, 0), (16, 16)]);
        assert_eq!(asked.last(), Some(&(1, 21)));
    }

    #[test]
    fn no_more_is_asked_for_than_wanted() {
        let mut asked = Vec::new();
        let done = in_parts((16 << 20) + 5, |part, _| {
            asked.push(part);
            Ok(true)
        });
        assert_eq!(done.unwrap(), (16 << 20) + 5);
        assert_eq!(asked, [16 << 20, 5]);
    }

    #[test]
    fn the_groups_of_version_2_are_found() {
        let mounts = "cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(find(mounts).unwrap(), Path::new("/sys/fs/cgroup/unified"));
        assert_eq!(find("proc /proc proc rw 0 0\n"), None);
    }
}
