// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A daemon that is killed, and the next one: what was written is on the disk, and the front
//! end does not connect anew.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use rustix::process::Signal;

use super::firecracker::{activate, connect};
use super::lane::Lane;
use super::memory;
use super::requests::{OK, block, discard, read, write};
use crate::front_end::{AVAILABLE, FrontEnd, SET_VRING_NUM, USED, pair};
use crate::restart::crash_points::kill_at_each_stop;
use crate::restart::host::{Host, Outside, wait_for};
use crate::slots::BYTES;

/// No daemon is there yet.
fn new_host(outside: Outside) -> Host {
    let mut host = Host::new(outside, &[]);
    host.machine = Some("personality=blk,size=8M,swapspace=off".to_owned());
    host
}

fn host(outside: Outside) -> Host {
    let mut host = new_host(outside);
    host.start_daemon();
    host
}

/// As Firecracker, which never connects anew.
#[test]
fn a_front_end_goes_on_with_the_next_daemon() {
    for outside in [Outside::Holder, Outside::Manager] {
        let mut host = host(outside);
        let (mut a, features) = connect(&host.socket(), memory());
        // Nothing is answered that has no answer: what asks for one shows that all before it is
        // noted. A daemon that is killed within a message leaves a connection that ends.
        let settled = |a: &mut FrontEnd| assert_eq!(a.config(60, 1).len(), 60);
        settled(&mut a);
        host.restart(Signal::KILL);
        activate(&mut a, features);
        settled(&mut a);
        for round in 0..6u8 {
            assert_eq!(write(&mut a, round.into(), &block(round, 1)), OK);
            let signals = [Signal::KILL, Signal::TERM];
            host.restart(signals[usize::from(round % 2)]);
            for number in 0..=round {
                assert_eq!(read(&mut a, number.into()), (OK, block(number, 1)));
            }
        }
        assert!(a.is_connected());
        assert_eq!(a.config(60, 1).len(), 60);
        assert!(!host.logged().contains("the connection ended"));
        assert!(!host.logged().contains("another machine"));
    }
}

/// A driver whose blocks are gone gets errors from the next daemon as well.
#[test]
fn blocks_that_are_gone_stay_so() {
    let mut host = new_host(Outside::Holder);
    host.machine = Some("personality=blk,size=8M,swapspace=off,grace=0".to_owned());
    host.start_daemon();
    let memory = memory();
    let (mut a, features) = connect(&host.socket(), memory.try_clone().unwrap());
    activate(&mut a, features);
    assert_eq!(write(&mut a, 1, &block(1, 1)), OK);
    drop(a);
    wait_for(|| host.logged().contains("freed 1 pages"));
    let (mut a, features) = connect(&host.socket(), memory);
    a.turn_to(0, 0);
    activate(&mut a, features);
    assert_eq!(a.config(60, 1).len(), 60);
    assert_ne!(read(&mut a, 1).0, OK);
    host.restart(Signal::KILL);
    assert_ne!(read(&mut a, 1).0, OK);
    assert_ne!(read(&mut a, 2).0, OK);
}

/// Some blocks are in a part of a spill area that cannot be read any more. No block is read as zeros
/// that had something else.
#[test]
fn a_disk_that_would_lack_blocks_is_lost_as_a_whole() {
    const BLOCKS: u64 = 1024;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spill");
    let spill = format!("{},size=8M", path.display());
    let mut host = Host::new(
        Outside::Holder,
        &["--memory-limit", "1M", "--spill", &spill],
    );
    host.machine = Some("personality=blk,size=8M,swapspace=off".to_owned());
    host.start_daemon();
    let memory = memory();
    let (mut a, features) = connect(&host.socket(), memory.try_clone().unwrap());
    activate(&mut a, features);
    for number in 0..BLOCKS {
        let content = noise(number);
        assert_eq!(write(&mut a, number, &content), OK);
    }
    host.end(Signal::KILL);
    let area = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    // The first slot in use.
    area.write_all_at(&[0xa5; 4096], 128 << 10).unwrap();
    host.start_daemon();
    // Its driver goes on.
    drop(a);
    let (mut a, features) = connect(&host.socket(), memory);
    a.turn_to(0, 0);
    activate(&mut a, features);
    for number in 0..BLOCKS {
        assert_ne!(read(&mut a, number).0, OK, "block {number}");
    }
    let logged = host.logged();
    assert!(logged.contains("1 segments of 128 KiB"), "{logged}");
    // It can be used again.
    assert_eq!(write(&mut a, 1, &noise(7)), OK);
    assert_eq!(read(&mut a, 1), (OK, noise(7)));
}

/// A block that does not compress.
fn noise(seed: u64) -> Vec<u8> {
    let mut block = vec![0; 4096];
    fastrand::Rng::with_seed(seed).fill(&mut block);
    block
}

/// What the machine had before is gone, and nobody reads it.
#[test]
fn a_machine_that_gets_another_device_begins_anew() {
    let mut host = host(Outside::Store);
    let (mut a, features) = connect(&host.socket(), memory());
    activate(&mut a, features);
    assert_eq!(write(&mut a, 1, &block(1, 1)), OK);
    drop(a);
    host.end(Signal::TERM);
    host.machine = None;
    host.start_daemon();
    wait_for(|| host.logged().contains("what it had as blk is gone"));
    host.end(Signal::TERM);
    host.machine = Some("personality=blk,size=8M".to_owned());
    host.start_daemon();
    let (mut a, features) = connect(&host.socket(), memory());
    activate(&mut a, features);
    assert_eq!(read(&mut a, 1), (OK, vec![0; 4096]));
}

/// A driver that is reset: its rings are empty, and of this size once they are started.
fn reset(a: &mut FrontEnd, size: u16) {
    let rings = usize::try_from(USED + 0x1000 - AVAILABLE).unwrap();
    a.write(AVAILABLE, &vec![0; rings]);
    a.turn_to(0, 0);
    a.set_size(size);
}

/// Its queue is stopped by one daemon or the next, and gets its size from either.
#[test]
fn a_queue_has_another_size_with_the_next_daemon() {
    let mut host = host(Outside::Holder);
    let mut a = FrontEnd::connect(&host.socket(), BYTES);
    assert_eq!(a.share_memory(BYTES), Some(0));
    reset(&mut a, 256);
    a.start();
    let mut blocks = 0..;
    let mut check = |a: &mut FrontEnd| {
        // Around each ring at least once.
        for number in blocks.by_ref().take(70) {
            assert_eq!(write(a, number, &block(3, number)), OK);
        }
        for number in 0..blocks.start {
            assert_eq!(read(a, number), (OK, block(3, number)), "{number}");
        }
    };
    check(&mut a);
    for (size, killed) in [(64, 0), (128, 1), (32, 2), (256, 3)] {
        let restart_at = |host: &mut Host, moment| {
            if killed == moment {
                host.restart(Signal::KILL);
            }
        };
        restart_at(&mut host, 0);
        a.stop_queue();
        restart_at(&mut host, 1);
        reset(&mut a, size);
        assert_eq!(a.ask(SET_VRING_NUM, &pair(0, size.into()), &[]), Some(0));
        restart_at(&mut host, 2);
        a.start();
        restart_at(&mut host, 3);
        check(&mut a);
        host.restart(Signal::KILL);
        check(&mut a);
    }
    assert!(a.is_connected());
    assert!(!host.logged().contains("another machine"));
}

/// Kills at random moments. `cargo xtask soak --kills` sets TMEM_KILLS and TMEM_SEED.
#[test]
fn no_block_is_lost_and_no_connection_ends() {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    let kills = number("TMEM_KILLS").unwrap_or(40);
    let seed = number("TMEM_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
    eprintln!("{kills} kills, seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut host = host(Outside::Holder);
    let mut a = FrontEnd::connect(&host.socket(), 2 * BYTES);
    assert_eq!(a.share_memory(2 * BYTES), Some(0));
    let mut lanes = [0, 1].map(|queue| Lane::start(&mut a, queue, random.u64(..)));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let loads = lanes.each_mut().map(|lane| {
            scope.spawn(|| {
                while !over.load(Relaxed) {
                    lane.round();
                }
            })
        });
        for kill in 0..kills {
            if loads.iter().any(|load| load.is_finished()) {
                break;
            }
            std::thread::sleep(Duration::from_micros(random.u64(..40_000)));
            let is_kind = kill % 16 == 1;
            host.end(if is_kind { Signal::TERM } else { Signal::KILL });
            if kill % 4 == 3 {
                // Within its start.
                host.spawn_daemon();
                std::thread::sleep(Duration::from_micros(random.u64(..30_000)));
                host.end(Signal::KILL);
            }
            host.start_daemon();
        }
        over.store(true, Relaxed);
    });
    for lane in &mut lanes {
        lane.check_all();
    }
    assert!(a.is_connected());
    assert!(!host.logged().contains("the connection ended"));
    let answered: u64 = lanes.iter().map(|lane| lane.answered).sum();
    eprintln!("{answered} requests answered, none wrong");
}

/// Goes through a session; how often its connection ended, and of these, after there was an
/// answer.
fn session(socket: &Path) -> (u32, u32) {
    let mut a = FrontEnd::connect_and_again(socket, memory(), 0);
    for number in 0..4 {
        assert_eq!(write(&mut a, number, &block(1, number)), OK);
    }
    assert_eq!(write(&mut a, 2, &block(2, 2)), OK);
    a.turn();
    for (number, byte) in [(0, 1), (1, 1), (2, 2), (3, 1)] {
        assert_eq!(read(&mut a, number), (OK, block(byte, number)), "{number}");
    }
    assert_eq!(discard(&mut a, 1), OK);
    assert_eq!(read(&mut a, 1), (OK, vec![0; 4096]));
    assert_eq!(write(&mut a, 1, &block(3, 1)), OK);
    assert_eq!(read(&mut a, 1), (OK, block(3, 1)));
    assert_eq!(read(&mut a, 9), (OK, vec![0; 4096]));
    assert_eq!(a.ends_unasked, 0, "a request ended the connection");
    (a.ends, a.ends_later)
}

#[test]
fn what_was_written_is_there_wherever_the_daemon_is_killed() {
    kill_at_each_stop(|| new_host(Outside::Holder), session);
}
