// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Benchmarks of virtio-tmem beside its peers, on real page content.
//!
//! Peers run in the same process or beside it, in turn with ours and on the
//! same pages, so that the ratios hold on a noisy machine; the times do so less.

mod aging;
mod clones;
mod codecs;
mod corpus;
mod density;
mod document;
mod guest;
mod image;
mod instructions;
mod machine;
mod native;
mod noisy;
mod overwrites;
mod process;
mod remote;
mod report;
mod restart;
mod samples;
mod saved;
mod scale;
mod shared;
mod spill;
mod store;
mod vhost;
mod vmm;
mod zram;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, ValueEnum};

use crate::corpus::Corpus;
use crate::report::Report;

/// Pages of each sort, if nothing else is said.
const PAGES: u64 = 8192;

/// Measure virtio-tmem beside its peers.
#[derive(Parser)]
#[command(name = "tmem-bench", version)]
struct Args {
    /// Pages of each sort (process memory, files) to take [default: 8192; of aging:
    /// 24576].
    #[arg(long, value_parser = clap::value_parser!(u64).range(64..=1_000_000))]
    pages: Option<u64>,
    /// Also write the metrics to this file, as a JSON list.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// What to measure; if not given, everything but aging, costs,
    /// noisy, guest, restart and density.
    #[arg(long, value_enum)]
    only: Option<What>,
    /// Less of everything, to see that it works: of aging, noisy, guest, restart and
    /// density.
    #[arg(long)]
    quick: bool,
    /// Of aging and density: the directory of the document, density.md, in which a section
    /// is made anew, and of its pictures. Of restart: that of restart.md.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    aging: aging::Args,
    #[command(flatten)]
    peers: vhost::Args,
    #[command(flatten)]
    restart: restart::Args,
    #[command(flatten)]
    vmm: vmm::Args,
    #[command(flatten)]
    guest: guest::Args,
    #[command(flatten)]
    density: density::Args,
    #[command(flatten)]
    native: native::Args,
    #[command(flatten)]
    instructions: instructions::Args,
    #[command(flatten)]
    remote: remote::Args,
    #[command(flatten)]
    spill: spill::Args,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum What {
    /// The store in this process, beside lz4, memcpy and zram.
    Store,
    /// Of the store's, only overwrites of what is nearly full; only if named.
    Overwrites,
    /// A store that spills to a file, beside one that has memory; only if named.
    Spill,
    /// A store with a Valkey cluster, beside one that has memory; only if named.
    Remote,
    /// All pages of a client, saved and restored; only if named.
    Saved,
    /// Guests that read copies of one image; only if named.
    Shared,
    /// A store with thousands of clients; only if named.
    Scale,
    /// What a page costs as the store ages, beside zram; only if named.
    Aging,
    /// The daemon through its socket, beside QEMU's storage daemon.
    Vhost,
    /// The VMM, beside QEMU.
    Vmm,
    /// What filters, histograms and a keeper cost the daemon; only if named.
    Costs,
    /// A machine beside a noisy and a hostile one; only if named.
    Noisy,
    /// The daemon is killed and the next one takes over; only if named.
    Restart,
    /// Filters on the disks of guests; only if named.
    Guest,
    /// Guests in too little memory; only if named.
    Density,
    /// A guest whose kernel runs at this machine's speed; only if named.
    Native,
    /// What a guest executes for a page; only if named.
    Instructions,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if args.only == Some(What::Aging) {
        let (out, json) = (args.out.as_deref(), args.json.as_deref());
        return aging::run(&args.aging, args.pages, args.quick, out, json);
    }
    if args.only == Some(What::Restart) {
        let (out, json) = (args.out.as_deref(), args.json.as_deref());
        return restart::run(&args.restart, &args.peers, args.quick, out, json);
    }
    if args.only == Some(What::Guest) {
        return guest::run(&args.guest, args.quick, args.json.as_deref());
    }
    if args.only == Some(What::Density) {
        let (out, json) = (args.out.as_deref(), args.json.as_deref());
        return density::run(&args.density, args.quick, out, json);
    }
    if args.only == Some(What::Native) {
        return native::run(&args.native, &args.peers, args.quick, args.json.as_deref());
    }
    if args.only == Some(What::Instructions) {
        return instructions::run(&args.instructions, args.quick, args.json.as_deref());
    }
    let mut report = Report::default();
    let wants = |what| args.only.is_none_or(|only| only == what);
    if args.only.is_none_or(|only| {
        use What::{Costs, Noisy, Overwrites, Remote, Saved, Scale, Shared, Spill, Store, Vhost};
        [
            Store, Overwrites, Spill, Remote, Saved, Shared, Scale, Vhost, Costs, Noisy,
        ]
        .contains(&only)
    }) {
        let corpus = Corpus::collect(usize::try_from(args.pages.unwrap_or(PAGES))?)?;
        println!("{}", corpus.describe());
        if wants(What::Store) {
            store::run(&corpus, &mut report)?;
        }
        if args.only == Some(What::Overwrites) {
            store::run_overwrites(&corpus, &mut report)?;
        }
        if args.only == Some(What::Spill) {
            spill::run(&args.spill, &corpus, &mut report)?;
        }
        if args.only == Some(What::Remote) {
            remote::run(&args.remote, &corpus, &mut report)?;
        }
        if args.only == Some(What::Saved) {
            saved::run(&corpus, &mut report)?;
        }
        if args.only == Some(What::Shared) {
            shared::run(&corpus, &mut report)?;
        }
        if args.only == Some(What::Scale) {
            scale::run(&corpus, &mut report)?;
        }
        if args.only == Some(What::Costs) {
            vhost::run_costs(&args.peers, &corpus, &mut report)?;
        }
        if args.only == Some(What::Noisy) {
            noisy::run(args.peers.daemon(), &corpus, args.quick, &mut report)?;
        }
        if wants(What::Vhost) {
            vhost::run(&args.peers, &corpus, &mut report)?;
        }
    }
    if wants(What::Vmm) {
        vmm::run(&args.vmm, &mut report)?;
    }
    report.print();
    if let Some(path) = args.json {
        report.write_json(&path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory as _;

        super::Args::command().debug_assert();
    }
}
