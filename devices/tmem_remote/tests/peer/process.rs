// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a node costs the process: memory, threads, and file descriptors.

use crate::node::{Mood, Node, slots};
use crate::pages::{self, PROMPT, Pages};
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

/// Most memory that floods may cost: 16 MiB, and as much again while an array grows, for each of six
/// threads.
const MEMORY: u64 = 256 << 20;

/// Runs one of these tests in a process of its own; whether this is that process.
fn is_alone(test: &str) -> bool {
    const ALONE: &str = "TMEM_TEST_ALONE";
    if env::var_os(ALONE).is_some() {
        return true;
    }
    let name = format!("process::{test}");
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", &name, "--nocapture"])
        .env(ALONE, "1");
    assert!(command.status().unwrap().success(), "{test} has failed");
    false
}

/// A number of bytes of this process.
fn status(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .unwrap();
    let number = line.trim_start_matches(':').trim().trim_end_matches(" kB");
    number.parse::<u64>().unwrap() << 10
}

/// Threads of this process that speak to a cluster.
fn threads() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names
        .filter(|name| ["remote", "leftovers"].contains(&name.trim()))
        .count()
}

fn becomes(what: &str, is_so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PROMPT, "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_flood_takes_no_more_memory_than_is_set() {
    if !is_alone("a_flood_takes_no_more_memory_than_is_set") {
        return;
    }
    let node = Node::start();
    let pages = Pages::open(node.port);
    pages.put_all(3_000);
    let before = status("VmHWM");
    for (first, then) in [
        (b"$9999999999\r\n".as_slice(), b"x".as_slice()),
        (b"*9999999999\r\n", b":1\r\n"),
        (b"*9999999999\r\n", b"*1\r\n"),
        (b"*9999999999\r\n", b"$-1\r\n"),
        (b"*9999999999\r\n", b"$0\r\n\r\n"),
        (b"+", b"x"),
        (b"-", b"x"),
        (b"", b"*9999999999\r\n"),
        (b"", b":1\r\n"),
    ] {
        for some in ["GETRANGE", "CLUSTER", "SET", ""] {
            node.is(Mood::Floods(some, first, then));
            pages.read(0, 8);
            let other = pages::open(&[node.port]);
            assert!(other.is_err() || some == "GETRANGE", "{some}");
        }
    }
    let more = status("VmHWM").saturating_sub(before);
    println!("floods took {} MiB", more >> 20);
    assert!(more < MEMORY, "{} MiB more", more >> 20);
    node.is(Mood::Good);
    becomes("pages come back", || pages.read(0, 8) == (8, 0));
    pages.verify();
}

#[test]
fn threads_end_whatever_a_node_does() {
    if !is_alone("threads_end_whatever_a_node_does") {
        return;
    }
    for mood in [
        Mood::Silent,
        Mood::Drips("", Duration::from_secs(1)),
        Mood::Floods("", b"", b"*1\r\n"),
        Mood::Good,
    ] {
        let node = Node::start();
        // It has no end.
        node.is(Mood::Says("SCAN", b"*2\r\n$1\r\n7\r\n*0\r\n".to_vec()));
        let pages = Pages::open(node.port);
        pages.put_all(3_000);
        node.is(mood.clone());
        // All of them are at it.
        pages.read(0, 64);
        assert!(threads() >= 5, "{} threads", threads());
        drop(pages);
        becomes("the threads end", || threads() == 0);
    }
}

#[test]
fn a_cluster_of_many_nodes_takes_no_more_connections_than_are_set() {
    if !is_alone("a_cluster_of_many_nodes_takes_no_more_connections_than_are_set") {
        return;
    }
    let node = Node::start_everywhere();
    let hosts: Vec<String> = (0..900)
        .map(|nth| format!("127.0.{}.{}", nth / 200, nth % 200 + 1))
        .collect();
    let ranges: Vec<_> = (0..)
        .zip(&hosts)
        .map(|(nth, host)| {
            let last = if nth == 899 { 16383 } else { nth * 18 + 17 };
            (nth * 18, last, host.as_str(), node.port)
        })
        .collect();
    node.is(Mood::Says("CLUSTER", slots(&ranges)));
    let fds = || fs::read_dir("/proc/self/fd").unwrap().count();
    let most = thread::scope(|scope| {
        let puts = scope.spawn(|| {
            let pages = Pages::open(node.port);
            pages.put_all(6_000);
            for _ in 0..20 {
                pages.read(0, 2_000);
            }
        });
        let mut most = 0;
        while !puts.is_finished() {
            most = most.max(fds());
            thread::sleep(Duration::from_millis(1));
        }
        puts.join().unwrap();
        most
    });
    println!("{most} file descriptors");
    // Both ends, of six threads with 64 nodes each.
    assert!(most < 2 * 6 * 64 + 64, "{most} file descriptors");
}
