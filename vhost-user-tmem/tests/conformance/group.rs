// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The daemon in a control group that is smaller than what its guests may have.

use std::io::Write;

use tmem_host::group::Made;

use crate::daemon::Daemon;
use crate::front_end::FrontEnd;
use crate::request::{EPHEMERAL, GET, OK, PERSISTENT, PUT, create_pool_of, header, wait};

const MIB: u64 = 1 << 20;

/// For the group.
const LIMIT: u64 = 128 * MIB;

/// A machine's memory: the rings and requests, pages to put, and frames that nobody has
/// touched.
const MEMORY: u64 = 256 * MIB;
const PAGES: u64 = MIB;
const FRAMES: u64 = 4 * MIB;

/// Pages of a request.
const COUNT: u32 = 256;
const RUN: u64 = COUNT as u64;

const ALL_OK: [u8; 256] = [OK; 256];
const MISS: u8 = 0x10;
const NO_MEMORY: u8 = 0x21;

/// A group, or a line that says why there is none.
fn group(name: &str) -> Option<Made> {
    let name = format!("tmem-{name}-{}", std::process::id());
    let made = Made::new(&name, LIMIT);
    if let Err(why) = &made {
        // Past the test's capture.
        let _ = std::io::stderr().write_all(format!("skipped {name}: {why:#}\n").as_bytes());
    }
    made.ok()
}

fn machine(daemon: &Daemon, name: &str, kind: u32) -> FrontEnd {
    let mut machine = FrontEnd::connect(&daemon.socket(name), MEMORY);
    assert_eq!(machine.share_memory(MEMORY), Some(0));
    machine.start();
    assert_eq!(create_pool_of(&mut machine, 0, kind), OK);
    // Pages that do not compress.
    let mut word = 0x9e37_79b9_7f4a_7c15u64;
    let words = (0..RUN * 512).flat_map(|_| {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        word.to_le_bytes()
    });
    machine.write(PAGES, &words.collect::<Vec<u8>>());
    machine
}

/// The statuses of a request that was answered.
fn statuses(machine: &FrontEnd) -> Vec<u8> {
    assert_eq!(machine.read(0x4000), OK);
    (0..RUN).map(|nth| machine.read(0x4010 + nth)).collect()
}

fn put(machine: &mut FrontEnd, run: u64) -> Vec<u8> {
    machine.write(0x3000, &header(PUT, 0, run * RUN, COUNT));
    let answer = (0x4000, 16 + 256, true);
    machine.offer(&[(0x3000, 48, false), (PAGES, 1 << 20, false), answer]);
    wait(machine);
    statuses(machine)
}

fn get(machine: &mut FrontEnd, run: u64, to: u64) -> Vec<u8> {
    machine.write(0x3000, &header(GET, 0, run * RUN, COUNT));
    let answer = (0x4000, 16 + 256, true);
    machine.offer(&[(0x3000, 48, false), answer, (to, 1 << 20, true)]);
    wait(machine);
    statuses(machine)
}

#[test]
fn puts_are_refused_before_the_kernel_has_to_kill() {
    let Some(group) = group("puts") else {
        return;
    };
    let mut daemon = Daemon::start_in(&group.members(), "512M");
    let mut b = machine(&daemon, "b", EPHEMERAL);
    for run in 0..32 {
        assert_eq!(put(&mut b, run), ALL_OK);
    }
    let mut a = machine(&daemon, "a", PERSISTENT);
    let taken = (0..256).take_while(|run| !put(&mut a, *run).contains(&NO_MEMORY));
    let taken = taken.count() as u64;
    assert!((64..128).contains(&taken), "{taken} MiB were taken");
    assert!(daemon.is_running());
    assert_eq!(group.group().held().unwrap().kills.unwrap_or(0), 0);
    // What was taken is there; what need not be kept has made room.
    assert_eq!(get(&mut a, 0, PAGES), ALL_OK);
    assert!(get(&mut b, 0, PAGES).contains(&MISS));
}

/// Frames that the daemon is the first to write to are charged to its group.
#[test]
fn ephemeral_pages_are_given_back_before_the_kernel_has_to_kill() {
    let Some(group) = group("gets") else {
        return;
    };
    let mut daemon = Daemon::start_in(&group.members(), "512M");
    let mut b = machine(&daemon, "b", EPHEMERAL);
    for run in 0..80 {
        assert_eq!(put(&mut b, run), ALL_OK);
    }
    let mut a = machine(&daemon, "a", PERSISTENT);
    assert_eq!(put(&mut a, 0), ALL_OK);
    for run in 0..80 {
        assert_eq!(get(&mut a, 0, FRAMES + run * MIB), ALL_OK);
    }
    assert!(daemon.is_running());
    assert_eq!(group.group().held().unwrap().kills.unwrap_or(0), 0);
    assert!(get(&mut b, 0, PAGES).contains(&MISS));
}
