// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The pages of a machine whose front end connects anew.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::process::Signal;

use super::host::{Host, Outside, wait_for};
use crate::front_end::FrontEnd;
use crate::request::{EPHEMERAL, EXISTS, OK, create_pool, create_pool_of, get, put};

const MEMORY: u64 = 1 << 20;
const ALL: [Outside; 3] = [Outside::Store, Outside::Holder, Outside::Manager];
/// The pool is not there.
const NO_POOL: u8 = 0x42;
/// A page is not there.
const MISS: u8 = 16;

fn connect(host: &Host) -> FrontEnd {
    let mut a = FrontEnd::connect(&host.socket(), MEMORY);
    assert_eq!(a.share_memory(MEMORY), Some(0));
    a.start();
    a
}

fn connect_again(host: &Host, memory: &File) -> FrontEnd {
    let memory = memory.try_clone().unwrap();
    let mut a = FrontEnd::connect_with(&host.socket(), memory);
    assert_eq!(a.share_memory(MEMORY), Some(0));
    a.start();
    a
}

#[test]
fn pages_and_pools_outlive_the_daemon() {
    for outside in ALL {
        let mut host = Host::start(outside);
        let mut a = connect(&host);
        let memory = a.memory.try_clone().unwrap();
        assert_eq!(create_pool(&mut a, 0), OK);
        assert_eq!(create_pool_of(&mut a, 1, EPHEMERAL), OK);
        assert_eq!(create_pool(&mut a, 2), OK, "one without pages");
        for round in 0..4u8 {
            for index in 0..100u64 {
                let byte = round
                    .wrapping_mul(7)
                    .wrapping_add(u8::try_from(index).unwrap());
                assert_eq!(put(&mut a, 0, index, byte), OK);
            }
            assert_eq!(put(&mut a, 1, 5, round), OK);
            drop(a);
            let signals = [Signal::KILL, Signal::TERM];
            host.restart(*signals.get(usize::from(round % 2)).unwrap());
            a = connect_again(&host, &memory);
            for index in 0..100u64 {
                let byte = round
                    .wrapping_mul(7)
                    .wrapping_add(u8::try_from(index).unwrap());
                assert_eq!(get(&mut a, 0, index), (OK, OK, byte), "{outside:?} {index}");
            }
            assert_eq!(get(&mut a, 0, 100).1, MISS);
            assert_eq!(get(&mut a, 1, 5), (OK, OK, round));
            assert_eq!(create_pool(&mut a, 2), EXISTS);
        }
    }
}

/// While no daemon is there, a snapshot is restored to the same memory.
#[test]
fn a_machine_that_was_restored_meanwhile_does_not_meet_its_future() {
    for outside in ALL {
        for (signal, in_place) in [
            (Signal::KILL, true),
            (Signal::TERM, true),
            (Signal::KILL, false),
        ] {
            let mut host = Host::start(outside);
            let mut a = connect(&host);
            let mut memory = a.memory.try_clone().unwrap();
            assert_eq!(create_pool(&mut a, 0), OK);
            assert_eq!(put(&mut a, 0, 3, 1), OK);
            let mut snapshot = vec![0; usize::try_from(MEMORY).unwrap()];
            memory.read_exact_at(&mut snapshot, 0).unwrap();
            for _ in 0..3 {
                assert_eq!(put(&mut a, 0, 3, 2), OK);
            }
            drop(a);
            host.end(signal);
            if !in_place {
                memory = tempfile::tempfile().unwrap();
            }
            memory.write_all_at(&snapshot, 0).unwrap();
            host.start_daemon();
            let mut a = connect_again(&host, &memory);
            assert_eq!(
                get(&mut a, 0, 3).0,
                NO_POOL,
                "{outside:?} {signal:?} {in_place}"
            );
        }
    }
}

/// How often the daemon could not take pages over, as it exports that.
fn failures(host: &Host) -> u64 {
    let mut stream = host.control();
    stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix("tmem_host_recovery_failures_total "));
    value.unwrap().parse().unwrap()
}

/// A file that is no page memory, and one of a page of which something is not as it was.
#[test]
fn pages_of_a_damaged_store_are_lost_and_never_wrong() {
    for (at, bytes, says) in [
        (
            0,
            [0xff; 8].as_slice(),
            "one is damaged: all pages are lost",
        ),
        (
            4,
            [3, 0, 0, 0].as_slice(),
            "has layout version 3, and this daemon reads versions up to 2",
        ),
        (3000, [0x5a; 64].as_slice(), "its pages are damaged"),
    ] {
        let mut host = Host::watched();
        host.start_daemon();
        assert_eq!(failures(&host), 0);
        let mut a = connect(&host);
        let memory = a.memory.try_clone().unwrap();
        assert_eq!(create_pool(&mut a, 0), OK);
        for index in 0..20 {
            a.write(crate::request::DATA, &noise(index));
            assert_eq!(crate::request::put_there(&mut a, 0, index), OK);
        }
        drop(a);
        host.end(Signal::KILL);
        let pages = host.path("store/pages");
        let file = File::options().write(true).open(pages).unwrap();
        file.write_all_at(bytes, at).unwrap();
        host.start_daemon();
        wait_for(|| host.logged().contains(says));
        assert_eq!(failures(&host), 1, "{says}");
        let mut a = connect_again(&host, &memory);
        assert_eq!(get(&mut a, 0, 3).0, NO_POOL);
        assert_eq!(create_pool(&mut a, 0), OK);
        assert_eq!(get(&mut a, 0, 3).1, MISS);
        assert_eq!(put(&mut a, 0, 3, 9), OK);
        assert_eq!(get(&mut a, 0, 3), (OK, OK, 9));
    }
}

/// Replaces a text in the content of a record that counts, as its layout says: two copies, each
/// with a number, its length and a checksum before it.
fn edit_record(path: &Path, old: &str, new: &str) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut copies = Vec::new();
    for at in [4096, 4096 + (512 << 10)] {
        let mut header = [0; 16];
        file.read_exact_at(&mut header, at).unwrap();
        let number = u64::from_le_bytes(header[..8].try_into().unwrap());
        let bytes = u32::from_le_bytes(header[8..12].try_into().unwrap());
        copies.push((number, at, bytes));
    }
    let (number, at, bytes) = copies.into_iter().max().unwrap();
    let mut content = vec![0; bytes as usize];
    file.read_exact_at(&mut content, at + 16).unwrap();
    let content = String::from_utf8(content).unwrap();
    assert!(content.contains(old), "{content}");
    let content = content.replacen(old, new, 1);
    assert_eq!(content.len(), bytes as usize);
    let mut check = crc32fast::Hasher::new();
    check.update(&number.to_le_bytes());
    check.update(&u64::from(bytes).to_le_bytes());
    check.update(content.as_bytes());
    file.write_all_at(content.as_bytes(), at + 16).unwrap();
    file.write_all_at(&check.finalize().to_le_bytes(), at + 12)
        .unwrap();
}

/// The note of one machine is of another version: its pages are lost, and the other's are not.
#[test]
fn note_of_another_version_is_told_and_costs_one_machine_its_pages() {
    let mut host = Host::new(Outside::Store, &[]);
    let b_socket = host.path("b.sock");
    host.options.push("--socket-path".to_owned());
    host.options.push(b_socket.to_str().unwrap().to_owned());
    host.start_daemon();
    let connect_b = |memory: File| {
        let mut b = FrontEnd::connect_with(&b_socket, memory);
        assert_eq!(b.share_memory(MEMORY), Some(0));
        b.start();
        b
    };
    let mut a = connect(&host);
    let mut b = FrontEnd::connect(&b_socket, MEMORY);
    assert_eq!(b.share_memory(MEMORY), Some(0));
    b.start();
    for machine in [&mut a, &mut b] {
        assert_eq!(create_pool(machine, 0), OK);
        assert_eq!(put(machine, 0, 3, 2), OK);
    }
    let memories = [&a, &b].map(|machine| machine.memory.try_clone().unwrap());
    let [of_a, of_b] = memories;
    drop((a, b));
    host.end(Signal::KILL);
    edit_record(&host.path("store/vm+a"), "\"version\":1", "\"version\":7");
    host.start_daemon();
    let says = "a: the note of the daemon before this one is damaged or of another version";
    wait_for(|| host.logged().contains(says));
    assert!(!host.logged().contains("b: the note"));
    let mut a = connect_again(&host, &of_a);
    assert_eq!(get(&mut a, 0, 3).0, NO_POOL);
    assert_eq!(create_pool(&mut a, 0), OK);
    assert_eq!(get(&mut a, 0, 3).1, MISS);
    let mut b = connect_b(of_b);
    assert_eq!(get(&mut b, 0, 3), (OK, OK, 2));
    // What it notes from now on is its own again.
    assert_eq!(put(&mut a, 0, 3, 5), OK);
    drop(a);
    host.restart(Signal::KILL);
    let mut a = connect_again(&host, &of_a);
    assert_eq!(get(&mut a, 0, 3), (OK, OK, 5));
}

/// A page that cannot be compressed.
pub(crate) fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).take(512).flatten().collect()
}

#[test]
fn a_store_is_one_daemons_at_a_time() {
    for outside in [Outside::Store, Outside::Holder] {
        let mut host = Host::start(outside);
        let mut a = connect(&host);
        assert_eq!(create_pool(&mut a, 0), OK);
        let program = Path::new(env!("CARGO_BIN_EXE_vhost-user-tmem"));
        let mut other = host.command(program);
        other
            .arg("--vm")
            .arg(format!("socket={}", host.path("b.sock").display()));
        assert!(!other.status().unwrap().success());
        assert_eq!(put(&mut a, 0, 3, 2), OK);
        assert_eq!(get(&mut a, 0, 3), (OK, OK, 2));
    }
}

#[test]
fn the_holders_end_is_the_end_of_the_pages() {
    let mut host = Host::start(Outside::Holder);
    let mut a = connect(&host);
    assert_eq!(create_pool(&mut a, 0), OK);
    host.end_holder();
    // The daemon goes on without it.
    assert_eq!(put(&mut a, 0, 3, 2), OK);
    assert_eq!(get(&mut a, 0, 3), (OK, OK, 2));
}
