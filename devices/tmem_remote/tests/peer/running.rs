// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A node that was good, and has pages.

use crate::node::{Change, Mood, Node};
use crate::pages::{PROMPT, Pages};
use std::thread;
use std::time::{Duration, Instant};

/// Pages that are put: several times what memory has room for.
const PAGES: u64 = 6_000;

/// Of these, those that are read at a time. The coldest, which come first, are remote.
const SOME: usize = 8;
const COUNT: u64 = SOME as u64;

/// A get waits for a second, as is set; an operation for two more before it is given up.
const SOON: Duration = Duration::from_secs(5);

const SECOND: Duration = Duration::from_secs(1);

fn put() -> (Node, Pages) {
    let node = Node::start();
    let pages = Pages::open(node.port);
    pages.put_all(PAGES);
    assert!(pages.remote() > PAGES / 2, "{} are remote", pages.remote());
    (node, pages)
}

fn says(text: &str) -> Mood {
    Mood::Says("GETRANGE", text.into())
}

#[test]
fn reads_become_errors_and_pages_come_back_when_the_node_is_good_again() {
    let (node, mut pages) = put();
    pages.rest();
    let moods = [
        Mood::Silent,
        Mood::Drips("", SECOND),
        Mood::Drips("GETRANGE", SECOND / 10),
        Mood::Hangs(""),
        Mood::Hangs("GETRANGE"),
        says("$9999999999\r\nx"),
        says("*9999999999\r\n"),
        says("nonsense\r\n"),
        says(":1\r\n"),
        says("-ERR no\r\n"),
        says("-CLUSTERDOWN no\r\n"),
        says("-TRYAGAIN no\r\n"),
        says("-MOVED 1 127.0.0.1:1\r\n"),
        says(&format!("-MOVED 1 127.0.0.1:{}\r\n", node.port)),
        says(&format!("-ASK 1 127.0.0.1:{}\r\n", node.port)),
    ];
    for (first, mood) in (0..).step_by(SOME).zip(moods) {
        node.is(mood);
        let begin = Instant::now();
        let (_, failed) = pages.read(first, COUNT);
        assert_eq!(failed, COUNT);
        assert!(begin.elapsed() < SOON, "it took {:?}", begin.elapsed());
        node.is(Mood::Good);
        let begin = Instant::now();
        // What the readers are at ends first.
        while pages.read(first, COUNT) != (COUNT, 0) {
            assert!(begin.elapsed() < PROMPT, "the pages do not come back");
        }
    }
    pages.verify();
}

#[test]
fn all_pages_of_a_request_wait_together() {
    let (node, mut pages) = put();
    pages.rest();
    node.is(Mood::Silent);
    let begin = Instant::now();
    // As many as one request may have.
    assert_eq!(pages.read(0, 128), (0, 128));
    assert!(begin.elapsed() < SOON, "it took {:?}", begin.elapsed());
}

#[test]
fn other_bytes_are_never_a_page() {
    let (node, mut pages) = put();
    pages.rest();
    let changes: [Change; 7] = [
        |_, _, _| Vec::new(),
        |_, _, part| part[..part.len() - 1].to_vec(),
        |_, _, part| [part, vec![0]].concat(),
        |_, _, part| vec![0; part.len()],
        |_, _, mut part| {
            let middle = part.len() / 2;
            part[middle] ^= 1;
            part
        },
        |_, _, mut part| {
            part[0] ^= 0x80;
            part
        },
        // Those of a segment that is another one.
        |values, key, part| {
            let others = values.iter().filter(|(name, _)| name.as_slice() != key);
            let other = others
                .map(|(_, value)| value)
                .find(|value| value.len() >= part.len());
            other.unwrap()[..part.len()].to_vec()
        },
    ];
    for (first, change) in (0..).step_by(SOME).zip(changes) {
        node.is(Mood::Changes(change));
        // Read checks each page.
        let (right, failed) = pages.read(first, COUNT);
        assert_eq!((right, failed), (0, COUNT), "those after {first}");
    }
    node.is(Mood::Good);
    pages.verify();
}

#[test]
fn a_node_that_takes_no_segment_costs_puts_and_no_page() {
    let (node, pages) = put();
    let mut before = pages.write_errors();
    for mood in [
        Mood::Silent,
        Mood::Drips("SET", SECOND),
        Mood::Hangs("SET"),
        Mood::Says("SET", b"+QUEUED\r\n".to_vec()),
        Mood::Says("SET", b"-OOM command not allowed\r\n".to_vec()),
        Mood::Says("WAIT", b":0\r\n".to_vec()),
        Mood::Says("WAIT", b"+OK\r\n".to_vec()),
        Mood::Floods("WAIT", b"$9999999999\r\n", b"x"),
    ] {
        node.is(mood);
        let begin = Instant::now();
        while pages.write_errors() == before {
            pages.put();
            assert!(begin.elapsed() < PROMPT, "no write fails");
        }
        before = pages.write_errors();
        // Somebody who finds no memory waits no longer than for memory.
        while pages.put() {
            assert!(begin.elapsed() < PROMPT, "puts are taken for ever");
        }
        let begin = Instant::now();
        assert!(!pages.put());
        assert!(begin.elapsed() < SOON, "it took {:?}", begin.elapsed());
        node.is(Mood::Good);
        pages.put_all(200);
    }
    pages.verify();
}

#[test]
fn what_is_needed_no_longer_is_removed_together() {
    let (node, mut pages) = put();
    // Until there are some.
    node.is(Mood::Silent);
    pages.drop_all();
    node.is(Mood::Good);
    let begin = Instant::now();
    // Whose namespace it is stays.
    while node.values() > 1 {
        assert!(begin.elapsed() < PROMPT, "{} segments stay", node.values());
        thread::sleep(SECOND / 100);
    }
    let (unlinked, together) = node.unlinked();
    assert!(2 * together > unlinked, "{together} of {unlinked}");
}
