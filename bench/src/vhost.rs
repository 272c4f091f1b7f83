// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The daemon through its vhost-user socket, beside QEMU's storage daemon.
//!
//! One driver, one ring layout, one page per request for both: what differs is
//! the device behind the socket, and the few bytes of a request's header.

mod blk;
mod costs;
mod disk;
mod driver;
mod neighbour;
mod peer;
mod ring;
mod tmem;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, bail};
use tmem_store::{PAGE_SIZE, Page};

use crate::corpus::Corpus;
use crate::report::Report;
use crate::samples::{Samples, median};

use self::blk::Blk;

pub(crate) use self::driver::Driver;
pub(crate) use self::neighbour::Neighbour;
pub(crate) use self::peer::Peer;
pub(crate) use self::tmem::Tmem;

/// Depths that are measured: one request at a time, and a busy guest.
const DEPTHS: [usize; 2] = [1, 32];

/// How the peer's operations are called.
const PEER: [&str; 2] = ["vhost-user-blk write", "vhost-user-blk read"];

/// Times the whole set is put and got, ours and the peer's in turn.
const ROUNDS: usize = 5;

#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    /// Our daemon.
    #[arg(long, value_name = "PATH", default_value = "vhost-user-tmem")]
    daemon: PathBuf,
    /// QEMU's storage daemon; once for each word of the command, if it takes
    /// some before its options. Without it, ours is measured alone.
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    storage_daemon: Vec<OsString>,
    /// An older build of our daemon, which is measured beside it.
    #[arg(long, value_name = "PATH")]
    older: Option<PathBuf>,
    /// Of costs: our daemon, built with the feature 'untimed'.
    #[arg(long, value_name = "PATH")]
    untimed: Option<PathBuf>,
    /// Only this many requests at a time.
    #[arg(long, value_name = "REQUESTS", value_parser = clap::value_parser!(u16).range(1..=64))]
    depth: Option<u16>,
}

impl Args {
    /// Our daemon.
    pub(crate) fn daemon(&self) -> &Path {
        &self.daemon
    }

    /// QEMU's storage daemon, if there is one: the program and its first words.
    pub(crate) fn storage_daemon(&self) -> Option<(&OsString, &[OsString])> {
        self.storage_daemon.split_first()
    }
}

/// How a device spells "write this page" and "read this page".
pub(crate) trait Protocol {
    /// Features to accept beside VERSION_1 and EVENT_IDX, as far as offered.
    fn features(&self) -> u64;
    /// Queues to set up, and which of them takes requests.
    fn queues(&self) -> (usize, usize);
    /// What the driver sends before the first page, if anything.
    fn setup(&self) -> Option<Request>;
    /// A request for page `index`; `write` says in which direction.
    fn request(&self, index: u64, write: bool) -> Request;
    /// Whether the answer says that all went well.
    fn is_ok(&self, answer: &[u8]) -> bool;
}

/// A request without its page.
pub(crate) struct Request {
    /// Device-readable, before the page.
    header: Vec<u8>,
    /// Bytes of the answer.
    answer: usize,
    /// Whether the answer stands before a page that is read, or behind it.
    answer_first: bool,
    /// The page's direction, if the request has one.
    page: Option<Direction>,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Direction {
    /// Device-readable.
    Write,
    /// Device-writable.
    Read,
}

/// What was measured of one device at one depth.
#[derive(Default)]
struct Measured {
    write_rate: Vec<f64>,
    read_rate: Vec<f64>,
    write_latency: Samples,
    read_latency: Samples,
}

pub(crate) fn run(args: &Args, corpus: &Corpus, report: &mut Report) -> Result<()> {
    let pages = corpus.mixed();
    let mut ours = Driver::connect(Peer::daemon(&args.daemon, &[])?, Tmem)?;
    let size = (pages.len() * PAGE_SIZE) as u64;
    let mut peer = match args.storage_daemon.split_first() {
        Some((program, words)) => Some(Driver::connect(
            Peer::storage_daemon(program, words, size)?,
            Blk,
        )?),
        None => None,
    };
    let mut disk = match args.older {
        // One thing at a time is compared.
        Some(_) => None,
        None => Some(Driver::connect(Peer::disk(&args.daemon, size)?, Blk)?),
    };
    let mut older = match &args.older {
        Some(older) => Some(Driver::connect(Peer::daemon(older, &[])?, Tmem)?),
        None => None,
    };
    for depth in args
        .depth
        .map_or(DEPTHS.to_vec(), |depth| vec![depth.into()])
    {
        let [
            mut our_metrics,
            mut disk_metrics,
            mut older_metrics,
            mut peer_metrics,
        ] = [(); 4].map(|()| Measured::default());
        for _ in 0..ROUNDS {
            one_round(&mut ours, &pages, depth, &mut our_metrics)?;
            if let Some(disk) = &mut disk {
                one_round(disk, &pages, depth, &mut disk_metrics)?;
            }
            if let Some(older) = &mut older {
                one_round(older, &pages, depth, &mut older_metrics)?;
            }
            if let Some(peer) = &mut peer {
                one_round(peer, &pages, depth, &mut peer_metrics)?;
            }
        }
        if older.is_some() {
            let names = ["the older build's put", "the older build's get"];
            say(
                depth,
                &our_metrics,
                Some((names, &older_metrics)),
                None,
                report,
            );
        }
        if peer.is_some() || older.is_none() {
            let beside = peer.is_some().then_some((PEER, &peer_metrics));
            say(depth, &our_metrics, beside, Some(2.0), report);
        }
        if disk.is_some() {
            let peer = peer.is_some().then_some(&peer_metrics);
            disk::say(depth, &disk_metrics, &our_metrics, peer, report);
        }
    }
    if args.storage_daemon.is_empty() {
        report.note("no storage daemon given: nothing stands beside these metrics");
    }
    Ok(())
}

/// What parts of our daemon cost that it can do without.
pub(crate) fn run_costs(args: &Args, corpus: &Corpus, report: &mut Report) -> Result<()> {
    let untimed = args.untimed.as_deref();
    costs::run(&args.daemon, untimed, &corpus.mixed(), report)
}

fn one_round<P: Protocol>(
    driver: &mut Driver<P>,
    pages: &[Page],
    depth: usize,
    measured: &mut Measured,
) -> Result<()> {
    let rate = |start: Instant| pages.len() as f64 / start.elapsed().as_secs_f64();
    let start = Instant::now();
    driver.write_all(pages, depth, &mut measured.write_latency)?;
    measured.write_rate.push(rate(start));
    let start = Instant::now();
    let wrong = driver.read_all(pages, depth, &mut measured.read_latency)?;
    measured.read_rate.push(rate(start));
    if wrong > 0 {
        bail!("{wrong} pages came back other than they were put");
    }
    Ok(())
}

fn median_of(rates: &[f64]) -> f64 {
    median(rates.iter().copied()).unwrap_or(f64::NAN)
}

/// Says how we did, and what it is beside others, whose operations have `names`; at depths above
/// 1 the rate is to be `target` times theirs.
fn say(
    depth: usize,
    ours: &Measured,
    beside: Option<([&str; 2], &Measured)>,
    target: Option<f64>,
    report: &mut Report,
) {
    let rows = [
        ("put", &ours.write_rate, &ours.write_latency),
        ("get", &ours.read_rate, &ours.read_latency),
    ];
    let peers = beside.map(|([write, read], other)| {
        [
            (write, &other.write_rate, &other.write_latency),
            (read, &other.read_rate, &other.read_latency),
        ]
    });
    for (row, (name, rates, latency)) in rows.iter().enumerate() {
        let name = format!("depth {depth}: {name}");
        let Some((other, other_rates, other_latency)) = peers.as_ref().and_then(|p| p.get(row))
        else {
            report.metric(format!("{name}, pages per second"), median_of(rates), "1/s");
            report.metric(format!("{name}, latency median"), latency.median(), "us");
            report.metric(format!("{name}, latency p99"), latency.p99(), "us");
            continue;
        };
        let (rate, other_rate) = (median_of(rates), median_of(other_rates));
        report.against(
            format!("{name}, pages per second"),
            rate,
            "1/s",
            *other,
            other_rate,
        );
        let pairs = [
            ("median", latency.median(), other_latency.median()),
            ("p99", latency.p99(), other_latency.p99()),
        ];
        for (what, value, beside) in pairs {
            report.against(
                format!("{name}, latency {what}"),
                value,
                "us",
                *other,
                beside,
            );
        }
        if let Some(target) = target.filter(|_| depth > 1) {
            report.target_at_least(
                &format!("{name}, pages per second beside {other}"),
                rate / other_rate,
                target,
            );
        }
    }
}
