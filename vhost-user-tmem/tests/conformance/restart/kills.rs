// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Kills at random moments under verifying load. The front end never connects anew.
//!
//! `cargo xtask soak --kills` sets TMEM_KILLS, TMEM_SEED and TMEM_OLDER.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::host::{Host, Outside};
use super::lane::{Lane, Pools};
use crate::front_end::FrontEnd;
use crate::request::{EPHEMERAL, OK, create_pool, create_pool_of};
use crate::slots::BYTES;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn no_page_is_lost_and_no_connection_ends() {
    load_over_kills(&[], 256);
}

/// As above, with memory for a tenth of the pages. Others are in the spill area.
#[test]
fn no_spilled_page_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let spill = folder.path().join("spill");
    let spill = format!("{},size=64M", spill.display());
    let limit = ["--memory-limit", "1536K", "--spill", &spill];
    let host = load_over_kills(&limit, 8192);
    assert!(host.logged().contains("spill area"), "{}", host.logged());
}

/// Verifies a load on so many pages of each pool while the daemon is killed again and again.
fn load_over_kills(options: &[&str], pages: u64) -> Host {
    let kills = number("TMEM_KILLS").unwrap_or(40);
    let seed = number("TMEM_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
    eprintln!("{kills} kills, seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut host = Host::start_with(Outside::Holder, options);
    if let Some(older) = std::env::var_os("TMEM_OLDER") {
        eprintln!("each other daemon is {}", older.display());
        host.alternate_with(older.into());
    }
    let mut a = FrontEnd::connect(&host.socket(), 2 * BYTES);
    assert_eq!(a.share_memory(2 * BYTES), Some(0));
    let pools = [(0, 1), (2, 3)].map(|(persistent, ephemeral)| Pools {
        persistent,
        ephemeral,
    });
    a.turn_to(1, 0);
    a.start();
    for pools in pools {
        assert_eq!(create_pool(&mut a, pools.persistent), OK);
        assert_eq!(create_pool_of(&mut a, pools.ephemeral, EPHEMERAL), OK);
    }
    // The pools were made on the first queue.
    let made = 2 * u16::try_from(pools.len()).unwrap();
    a.stop_queue();
    let mut lanes = [(1, made), (2, 0)].map(|(queue, next)| {
        let pools = *pools.get(queue as usize - 1).unwrap();
        let lane = Lane::start(&mut a, queue, pools, random.u64(..));
        lane.with_next(next).with_pages(pages)
    });
    let (over, answers) = (AtomicBool::new(false), AtomicU64::new(0));
    let began = Instant::now();
    std::thread::scope(|scope| {
        let loads = lanes.each_mut().map(|lane| {
            let (over, answers) = (&over, &answers);
            scope.spawn(move || {
                while !over.load(Relaxed) {
                    let before = lane.answered;
                    lane.round();
                    answers.fetch_add(lane.answered - before, Relaxed);
                }
            })
        });
        let mut said = Instant::now();
        for kill in 0..kills {
            if said.elapsed() > Duration::from_secs(10) {
                said = Instant::now();
                let answers = answers.load(Relaxed);
                eprintln!("{kill} of {kills} kills, {answers} requests answered");
            }
            if loads.iter().any(|load| load.is_finished()) {
                break;
            }
            // At any moment of its work, or of its start.
            if kill % 4 == 3 {
                host.end(Signal::KILL);
                host.spawn_daemon();
                std::thread::sleep(Duration::from_micros(random.u64(..30_000)));
                let is_kind = random.bool();
                host.end(if is_kind { Signal::TERM } else { Signal::KILL });
                host.start_daemon();
            } else {
                std::thread::sleep(Duration::from_micros(random.u64(..40_000)));
                let signal = if kill % 16 == 1 {
                    Signal::TERM
                } else {
                    Signal::KILL
                };
                host.restart(signal);
            }
        }
        over.store(true, Relaxed);
    });
    for lane in &mut lanes {
        lane.check_all();
    }
    assert!(a.is_connected());
    assert!(!host.logged().contains("the connection ended"));
    let answered: u64 = lanes.iter().map(|lane| lane.answered).sum();
    let seconds = began.elapsed().as_secs();
    eprintln!("{answered} requests answered in {seconds} s, none wrong");
    host
}
