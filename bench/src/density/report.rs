// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The report that is kept beside the documentation.

use crate::density::cold;
use crate::density::member::STALL;
use crate::density::outcome::Outcome;
use crate::density::plan::Plan;
use crate::density::plan::QUOTA;
use crate::density::plot;
use crate::density::quiet;
use crate::density::table;
use tmem_e2e::Host;

/// All that there is to say.
pub(crate) struct Report<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) quick: bool,
    pub(crate) outcomes: &'a [Outcome],
    /// Of the last minute.
    pub(crate) load_before: f64,
    pub(crate) seconds: u64,
}

impl Report<'_> {
    fn emulated(&self) -> bool {
        !Host::is_virtualised()
    }

    /// What is worth seeing at once.
    pub(crate) fn summary(&self) -> String {
        let tables = table::tables(self.plan, self.outcomes, self.emulated());
        let warning = self.warning();
        format!(
            "{tables}\n{warning}every document and every row was right; {} s in all\n",
            self.seconds
        )
    }

    /// The plot.
    ///
    /// # Errors
    /// When it cannot be drawn.
    pub(crate) fn picture(&self) -> anyhow::Result<String> {
        plot::draw(self.plan, self.outcomes, self.emulated())
    }

    /// What makes the metrics worth little.
    fn warning(&self) -> String {
        let mut text = String::new();
        if self.load_before > quiet::BUSY {
            text.push_str(&format!(
                "**Indicative only: the machine was not quiet (its load was {} before).**\n\n",
                self.load_before
            ));
        }
        if self.quick {
            text.push_str("**Indicative only: a quick run.**\n\n");
        }
        text
    }

    /// The report.
    pub(crate) fn text(&self) -> String {
        let plan = self.plan;
        let Plan {
            guests,
            memory_mib,
            budget_mib,
            heap_mib,
            database_mib,
            rounds,
            lull_s,
            ..
        } = plan;
        let cpu = if self.emulated() {
            "The guests' CPUs are emulated (QEMU's TCG), because there is no hardware \
             virtualisation where this was run: times are many times longer than on hardware, and \
             what a guest computes itself, as zram's compression, costs it more than what the host \
             does. Compare ratios only."
        } else {
            "The guests run on hardware virtualisation."
        };
        format!(
            "Made by `cargo xtask bench density`; do not edit. {warning}{cpu}\n\n\
             {guests} guests of {memory_mib} MiB each run within {budget_mib} MiB of the host's \
             memory: a control group's limit over QEMU's processes and the daemon, without swap. \
             Each guest has a service in Python with {heap_mib} MiB of documents in memory, of \
             some KiB each. In a busy phase it uses all of them, a SQLite database of \
             {database_mib} MiB is made in memory, read, checked and thrown away, and all documents \
             are used again. One guest is busy at a time, {lull_s} s pass between two. Busy phases of \
             each guest after its service was filled: {rounds}.\n\n\
             ![Host memory over time](pictures/guests.svg)\n\n\
             {tables}\n\
             * Every byte of documents and rows was compared with what it must be in every use, \
             and once more in the end: all were right, also in variants in which guests were lost.\n\
             * *Held* is what the kernel charges the control group with, twice a second. With \
             virtio-blk some of it is page cache of the swap disk, which the kernel may drop.\n\
             * A guest that does not answer for {stall} s counts as lost, and is ended.\n\
             * *First touch* is the time of finding a document and reading a byte of each of its \
             pages, after the guest was idle; most pages come with a neighbour's fault.\n\
             * *Half back*: after the last busy phase, when the group held less by half of what the \
             guest had got since its boot. *Touched again*: the sum of all first touches after that, \
             beside the sum when it was done once more at once.\n\
             * *Takes* is what pages in swap take of the limit: with virtio-tmem all that the daemon \
             has, with bookkeeping. A swap disk of the host's has room without end outside of the \
             limit.\n\
             * In the last three variants guests look for cold memory in the same way, with the \
             kernel's DAMON: {cold}. `tmemctl give-back on` sets that up for virtio-tmem, and a \
             script for the others; with reporting alone there is nowhere to put cold memory. The \
             defaults of `tmemctl` are for idle times of minutes, not of seconds as here.\n\
             * Free memory is reported to virtio-tmem, or else to QEMU's balloon. zram has the size \
             of the guest's memory and Debian's choice of codec (lz4). The daemon runs with \
             `--quota {QUOTA} --memory-limit {store}`, and the kernel would end it after all \
             guests.\n\n\
             {seconds} s in all.\n",
            warning = self.warning(),
            tables = table::tables(plan, self.outcomes, self.emulated()),
            cold = cold::describe(),
            stall = STALL.as_secs(),
            store = plan.store,
            seconds = self.seconds,
        )
    }
}
