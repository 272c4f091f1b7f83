// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The spill area, as the command line names it.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use tmem_cli::size;
use tmem_store::{SpillArea, StoreStats};

/// Where persistent pages go that memory has no room for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spill {
    /// The file or block device.
    pub path: PathBuf,
    /// Bytes of it.
    pub size: Option<u64>,
}

/// Reads `PATH[,size=SIZE]`.
///
/// # Errors
/// A sentence about the mistake.
pub fn parse(text: &str) -> Result<Spill, String> {
    let (path, size) = match text.rsplit_once(",size=") {
        None => (text, None),
        Some((path, size)) => (path, Some(size::parse(size)?)),
    };
    if path.is_empty() {
        return Err(
            "give the path of a file or a block device, as in /var/lib/virtio-tmem/spill,size=64G"
                .into(),
        );
    }
    Ok(Spill {
        path: path.into(),
        size,
    })
}

impl Spill {
    /// Opens it, and says in the log how pages of a run are read.
    ///
    /// # Errors
    /// A sentence, when it cannot be used.
    pub fn open(&self) -> Result<SpillArea> {
        let area = SpillArea::open(&self.path, self.size)?;
        let place = self.path.display();
        match area.reads_together() {
            Ok(()) => {
                log::info!("{place} is read with io_uring where a guest asks for several pages");
            }
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                log::info!("{place} is read page by page: it cannot be read past the page cache");
            }
            Err(error) => log::warn!("{place} is read page by page, for want of io_uring: {error}"),
        }
        Ok(area)
    }
}

/// Says in the log when the area fails, or answers nothing.
#[derive(Debug)]
pub struct Watch {
    errors: [u64; 2],
    stalls: u64,
    line: Option<Instant>,
}

impl Watch {
    /// Between two lines in the log, at least.
    const QUIET: Duration = Duration::from_secs(10);

    /// For a store that was just made.
    pub fn new(stats: &StoreStats) -> Self {
        Self {
            errors: errors(stats),
            stalls: stats.spill_stalls,
            line: None,
        }
    }

    /// To be called every so often.
    pub fn look(&mut self, stats: &StoreStats) {
        let now = errors(stats);
        let is_quiet = self.line.is_none_or(|line| line.elapsed() >= Self::QUIET);
        let stalls = stats.spill_stalls.saturating_sub(self.stalls);
        if (now == self.errors && stalls == 0) || !is_quiet {
            return;
        }
        if now != self.errors {
            let [reads, writes] = now;
            let [reads_before, writes_before] = self.errors;
            log::error!(
                "the spill area fails: {} reads and {} writes since this was last said; pages that cannot be read are lost to their guests, what cannot be written stays in memory",
                reads.saturating_sub(reads_before),
                writes.saturating_sub(writes_before)
            );
        }
        if stalls > 0 {
            log::error!(
                "the spill area had answered nothing for a second: until it does, reads of it wait, and puts that find no memory are refused"
            );
        }
        self.errors = now;
        self.stalls = stats.spill_stalls;
        self.line = Some(Instant::now());
    }
}

fn errors(stats: &StoreStats) -> [u64; 2] {
    [stats.spill_read_errors, stats.spill_write_errors]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_sizes_are_read() {
        let spill = |path: &str, size| {
            Ok(Spill {
                path: path.into(),
                size,
            })
        };
        assert_eq!(parse("/dev/nvme0n1p4"), spill("/dev/nvme0n1p4", None));
        assert_eq!(parse("/a,b,size=2M"), spill("/a,b", Some(2 << 20)));
        assert!(parse("/a,size=much").is_err());
        assert!(parse("").is_err());
        assert!(parse(",size=1G").is_err());
    }
}
