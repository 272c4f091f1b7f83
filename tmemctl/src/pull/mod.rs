// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `tmemctl pull`: what was swapped out is read, by which the kernel brings it back.
//! It keeps the copies in swap until it needs the room or the pages change, so what is
//! brought back costs nothing to let go of again.

mod pace;
mod process;
mod room;

use std::io::Write;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use tmem_cli::size;

use crate::cli;
use crate::give_back;
use crate::progress;
use pace::Pace;
use room::Room;

/// How often it is looked whether the guest has room.
const ROUND: Duration = Duration::from_secs(10);

/// Rounds without a page that was swapped out, after which it has.
const QUIET_ROUNDS: u32 = 3;

/// The part of what is out that is brought back in a round: that of the historic
/// self-shrinking.
const PART: u64 = 20;

/// Brings pages back; says whether all that was wanted.
///
/// # Errors
/// When the kernel does not tell what it needs to know.
pub(crate) fn run(wanted: &cli::Pull, out: &mut impl Write) -> Result<bool> {
    let proc = Path::new("/proc");
    if wanted.auto {
        return always(proc, wanted);
    }
    let shown = progress::is_shown();
    let most = wanted.size.unwrap_or(u64::MAX);
    let mut pace = Pace::new(wanted.rate, |done| {
        if shown {
            progress::draw(&format!("{} brought back", size::show(done)));
        }
    });
    let pulled = pull(proc, most, wanted.keep, &mut pace);
    if shown {
        progress::draw("");
    }
    let Pulled { bytes, is_short } = pulled?;
    let why = if is_short {
        ": there is no room for more"
    } else {
        ""
    };
    writeln!(out, "Brought back {}{why}.", size::show(bytes))?;
    Ok(!is_short || wanted.size.is_none())
}

/// What was brought back.
struct Pulled {
    bytes: u64,
    /// It ended because there was no room for more.
    is_short: bool,
}

/// Brings back at most `most` bytes, while there is room.
fn pull(
    proc: &Path,
    most: u64,
    keep: Option<u64>,
    pace: &mut Pace<impl FnMut(u64)>,
) -> Result<Pulled> {
    let mut bytes = 0;
    let mut is_short = Room::read(proc)?.is_short(keep);
    for process in process::all(proc)? {
        if is_short || bytes >= most {
            break;
        }
        // One that ends meanwhile has nothing to be brought back.
        let _ = process::swapped(&process, |address, memory| {
            if process::touch(memory, address) {
                bytes += crate::terms::PAGE_BYTES;
                pace.keep(bytes);
                if pace.is_due(bytes) {
                    is_short = Room::read(proc)?.is_short(keep);
                }
            }
            Ok(!is_short && bytes < most)
        });
    }
    Ok(Pulled {
        bytes,
        is_short: is_short && bytes < most,
    })
}

/// Brings pages back whenever there is room for a while.
fn always(proc: &Path, wanted: &cli::Pull) -> Result<bool> {
    let mut quiet = Quiet::default();
    loop {
        let room = Room::read(proc)?;
        if quiet.is_long_enough(room.swapped_out) && !room.is_short(wanted.keep) {
            // What is moved out on purpose stays out.
            if !give_back::moves_out() {
                let mut pace = Pace::new(wanted.rate, |_| ());
                pull(proc, room.in_swap / PART, wanted.keep, &mut pace)?;
            }
        }
        thread::sleep(ROUND);
    }
}

/// How long nothing was swapped out.
#[derive(Default)]
struct Quiet {
    last: Option<u64>,
    rounds: u32,
}

impl Quiet {
    /// Another round, after which so many pages were swapped out since boot.
    fn is_long_enough(&mut self, swapped_out: u64) -> bool {
        if self.last.replace(swapped_out) == Some(swapped_out) {
            self.rounds = self.rounds.saturating_add(1);
        } else {
            self.rounds = 0;
        }
        self.rounds >= QUIET_ROUNDS
    }
}

#[cfg(test)]
mod tests;
