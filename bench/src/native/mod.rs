// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The module in a guest whose kernel runs at this machine's speed: pages of raw disks and files,
//! beside other disks of the same guest.
//!
//! Page faults are many times slower there than on any other machine, so no program swaps.

mod guest;
mod samples;
mod say;
mod subject;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tmem_probe::order::Order;

use self::guest::{Guest, Machine};
use self::subject::{MEASURES, Subject};
use crate::corpus::Corpus;
use crate::machine;
use crate::vhost::{self, Peer};

/// Pages of each sort that disks are filled with; there are as many of files as of processes.
const PAGES: usize = 2048;

/// Pages of a disk that are read; as many behind them are written meanwhile.
const READ: u64 = 4096;

/// Rounds, and how much less of everything there is when it is to be quick.
const ROUNDS: u64 = 7;
const QUICK_ROUNDS: u64 = 2;
const QUICK_SHARE: u64 = 8;

/// virtio's numbers of devices.
const BLOCK_DEVICE: u32 = 2;
const TMEM_DEVICE: u32 = 60;

/// Size of zram, and of disks of other back ends.
const MIB: u64 = 64;

#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    /// Of native: the guest's kernel, a program.
    #[arg(long, value_name = "PATH", default_value = "linux")]
    linux: PathBuf,
    /// Of native: the guest's initramfs.
    #[arg(long, value_name = "PATH", default_value = "native.cpio")]
    guest_initramfs: PathBuf,
    /// Of native: a module in the initramfs and its parameters, as NAME=PATH[:PARAMETERS]; each is
    /// measured, and the first compared with.
    #[arg(long, value_name = "VARIANT")]
    variant: Vec<String>,
    /// Of native: rounds.
    #[arg(long)]
    rounds: Option<u64>,
    /// Of native: an option of our daemon.
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    daemon_option: Vec<String>,
}

/// A build of the module, and how it is loaded.
#[derive(Clone, Debug, PartialEq)]
struct Variant {
    name: String,
    module: PathBuf,
    parameters: String,
}

impl Variant {
    fn parse(text: &str) -> Result<Self> {
        let (name, rest) = text
            .split_once('=')
            .with_context(|| format!("{text}: a variant is NAME=PATH[:PARAMETERS]"))?;
        let (module, parameters) = rest.split_once(':').unwrap_or((rest, ""));
        Ok(Self {
            name: name.into(),
            module: module.into(),
            parameters: parameters.into(),
        })
    }
}

/// Measures it.
pub(crate) fn run(
    args: &Args,
    peers: &vhost::Args,
    quick: bool,
    json: Option<&Path>,
) -> Result<()> {
    let work = tempfile::tempdir().context("cannot make a directory")?;
    let measured = measure(args, peers, quick, json, work.path());
    if measured.is_err() {
        // For the consoles that it tells of.
        let _ = work.keep();
    }
    measured
}

fn measure(
    args: &Args,
    peers: &vhost::Args,
    quick: bool,
    json: Option<&Path>,
    work: &Path,
) -> Result<()> {
    println!("{}", machine::describe());
    let corpus = Corpus::collect(PAGES)?;
    println!("{}", corpus.describe());
    let content = work.join("content");
    let pages = corpus.mixed();
    std::fs::write(&content, pages.as_flattened()).context("cannot write the content")?;
    let variants: Result<Vec<_>> = args
        .variant
        .iter()
        .map(|text| Variant::parse(text))
        .collect();
    let mut bench = Bench {
        guests: Vec::new(),
        peers: Vec::new(),
        subjects: Vec::new(),
    };
    for variant in variants? {
        bench
            .add(&variant, args, peers, work, &content, pages.len())
            .with_context(|| {
                format!(
                    "{}: {} {}",
                    variant.name,
                    variant.module.display(),
                    variant.parameters
                )
            })?;
    }
    let (rounds, share) = match quick {
        true => (args.rounds.unwrap_or(QUICK_ROUNDS), QUICK_SHARE),
        false => (args.rounds.unwrap_or(ROUNDS), 1),
    };
    bench.measure(rounds, share)?;
    let report = say::raw(&bench.subjects);
    for guest in bench.guests {
        guest.end()?;
    }
    report.print_verdicts();
    if let Some(json) = json {
        report.write_json(json)?;
    }
    Ok(())
}

struct Bench {
    guests: Vec<Guest>,
    peers: Vec<Peer>,
    subjects: Vec<Subject>,
}

impl Bench {
    /// Starts a guest with this build of the module; the first also has all that it is compared
    /// with.
    fn add(
        &mut self,
        variant: &Variant,
        args: &Args,
        others: &vhost::Args,
        work: &Path,
        content: &Path,
        pages: usize,
    ) -> Result<()> {
        let number = self.guests.len();
        let mut devices = Vec::new();
        let mut subjects = Vec::new();
        let daemon = others.daemon();
        let peer = Peer::default_daemon(daemon, &args.daemon_option)?;
        devices.push((self.listen(peer)?, TMEM_DEVICE));
        subjects.push(Subject::new(
            &variant.name,
            number,
            "/dev/tmem0",
            Some(self.peers.len() - 1),
        ));
        if number == 0 {
            subjects.push(Subject::new("zram", number, "/dev/zram0", None));
            let mut names = ["/dev/vda", "/dev/vdb"].iter();
            let size = MIB << 20;
            if let Some((program, words)) = others.storage_daemon() {
                let peer = Peer::storage_daemon(program, words, size)?;
                devices.push((self.listen(peer)?, BLOCK_DEVICE));
                let disk = names.next().context("no name")?;
                subjects.push(Subject::new(
                    "virtio-blk",
                    number,
                    disk,
                    Some(self.peers.len() - 1),
                ));
            }
            let peer = Peer::disk(daemon, size)?;
            devices.push((self.listen(peer)?, BLOCK_DEVICE));
            let disk = names.next().context("no name")?;
            subjects.push(Subject::new(
                "plain disk",
                number,
                disk,
                Some(self.peers.len() - 1),
            ));
            subjects.push(Subject::new("RAM disk", number, "/dev/ram0", None));
        }
        let mut guest = Guest::start(&Machine {
            linux: &args.linux,
            initramfs: &args.guest_initramfs,
            devices,
            disks: vec![content.to_path_buf()],
            log: work.join(format!("console-{number}")),
        })?;
        guest.order(&Order::Content {
            from: "/dev/ubda".into(),
            pages,
        })?;
        guest.order(&Order::Insert {
            module: variant.module.clone(),
            parameters: variant.parameters.clone(),
            device: Some("/dev/tmem0".into()),
        })?;
        if number == 0 {
            guest.order(&Order::Zram { mib: MIB })?;
        }
        self.guests.push(guest);
        for subject in &subjects {
            subject
                .fill(&mut self.guests, READ)
                .with_context(|| subject.name.clone())?;
        }
        self.subjects.extend(subjects);
        Ok(())
    }

    fn listen(&mut self, mut peer: Peer) -> Result<PathBuf> {
        let socket = peer.listening()?.to_path_buf();
        self.peers.push(peer);
        Ok(socket)
    }

    /// All measures, and all subjects of each in turn; again and again.
    fn measure(&mut self, rounds: u64, share: u64) -> Result<()> {
        for round in 0..rounds {
            println!("round {} of {rounds}", round + 1);
            for which in 0..MEASURES.len() {
                for subject in &mut self.subjects {
                    let how = (READ, round, share);
                    subject.measure(which, &mut self.guests, &self.peers, how)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variant_has_a_name_a_module_and_maybe_parameters() {
        let variant = Variant::parse("no polling=/lib/tmem.ko:poll_us=0 eager=1").unwrap();
        assert_eq!(variant.name, "no polling");
        assert_eq!(variant.module, Path::new("/lib/tmem.ko"));
        assert_eq!(variant.parameters, "poll_us=0 eager=1");
        assert_eq!(Variant::parse("tmem=/a.ko").unwrap().parameters, "");
        assert!(Variant::parse("/a.ko").is_err());
    }

    #[test]
    fn pages_that_are_read_fit_twice() {
        assert!(READ * 2 * tmem_store::PAGE_SIZE as u64 <= MIB << 20);
    }
}
