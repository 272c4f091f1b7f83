// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What is kept beside the documentation.

use crate::aging::row::Row;
use crate::aging::table;
use crate::machine;

/// The machine and what it was given.
pub(super) struct About {
    machine: String,
    pub(super) seed: u64,
    pub(super) content: String,
}

impl About {
    /// To be called before the machine is busy with it.
    pub(super) fn new(seed: u64, content: String) -> Self {
        Self {
            machine: machine::describe(),
            seed,
            content,
        }
    }

    /// The section. `verdicts` say which targets were met.
    pub(super) fn text(&self, rows: &[Row], verdicts: &[String]) -> String {
        let Self {
            machine,
            seed,
            content,
        } = self;
        let (missed, met): (Vec<_>, Vec<_>) = verdicts
            .iter()
            .partition(|verdict| verdict.ends_with("MISSED"));
        let mut targets = format!(
            "Targets: with LZ4 alone at most 1.03x zram after compaction; with the cold tier at most 0.75x for \
             file pages, 0.60x for heap pages. {} of {} were met",
            met.len(),
            verdicts.len()
        );
        if missed.is_empty() {
            targets.push_str(".\n");
        } else {
            targets.push_str("; these were not:\n\n");
            for verdict in missed {
                targets.push_str(&format!("* {verdict}\n"));
            }
        }
        format!(
            "Made by `cargo xtask bench aging --out docs`, in one run; do not edit. {machine}; seed {seed}; \
             {content}.\n\n\
             The same pages are put and freed in the store and in zram (lz4). What each holds is divided \
             by the pages that are live, so these are bytes for a page of 4096. The store's bookkeeping \
             is included; zram's table, about 16 bytes for each page of its size, is not.\n\n\
             ![Bytes for each live page after each step](pictures/aging.svg)\n\n\
             {tables}\
             * **Steps**: all slots are filled in order. 40 % are freed in clusters of 8 neighbours. As many \
             pages as that are put to slots at random, where some replace a page and some of the freed \
             slots stay free. 70 % of the pages that are left are freed one by one.\n\
             * **Store**: `held_bytes`, once it has not changed for a second and at most one page in a \
             hundred is deferred, or else 5 s after the step's last operation. Memory is never short.\n\
             * **Cold tier**: pages are recompressed with zstd once they were not used for 300 ms (30 s unless \
             said otherwise), with up to a whole CPU (a tenth), and the store is waited for until nothing has \
             changed for 3 s. Else the codec is LZ4 alone.\n\
             * **zram**: `mem_used_total` of `mm_stat`, before and after `compact`. It is compacted after each \
             step, so that each but the first begins compacted. It is one device for all clients.\n\
             * **Patterns**: files or heap alone are in one persistent pool. Else heap is in a persistent pool \
             and files in an ephemeral one, as many of each, of one client or dealt to eight.\n\
             * **Moved** is what the cleaner and the recompression moved during the step; **background CPU** \
             is what their thread took, by the kernel's count.\n\
             * Every page that was left was read back and was right.\n\n\
             {targets}",
            tables = table::tables(rows),
        )
    }
}
