// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Nobody starts with a node that is none, and nobody waits long for it.

use crate::node::{Mood, Node, slots};
use crate::pages;
use std::thread;
use std::time::{Duration, Instant};

/// An operation has 2 s; a machine with other things to do may be slow.
const SOON: Duration = Duration::from_secs(8);

const SECOND: Duration = Duration::from_secs(1);

/// Tries to start with a node of this mood. What it says of it.
fn starts(mood: &Mood) -> Result<(), String> {
    let node = Node::start();
    node.is(mood.clone());
    let begin = Instant::now();
    let opened = pages::open(&[node.port]);
    assert!(begin.elapsed() < SOON, "it took {:?}", begin.elapsed());
    opened.map(|_| ()).map_err(|error| error.to_string())
}

fn says(some: &'static str, text: &str) -> Mood {
    Mood::Says(some, text.into())
}

#[test]
fn a_node_that_does_not_speak_or_drips_keeps_nobody_from_ending() {
    thread::scope(|scope| {
        for mood in [
            Mood::Silent,
            Mood::Drips("", SECOND),
            Mood::Drips("SET", SECOND),
            Mood::Drips("", SECOND / 20),
        ] {
            scope.spawn(move || {
                let error = starts(&mood).unwrap_err();
                assert!(error.contains("does not serve"), "{error}");
                assert!(error.contains("too long"), "{error}");
            });
        }
    });
    starts(&Mood::Drips("", SECOND / 1000)).unwrap();
}

#[test]
fn what_is_no_answer_is_an_error() {
    let deep = "*1\r\n".repeat(1 << 20);
    let long = "x".repeat(1 << 20);
    for text in [
        "\0\u{1}\u{2}\r\n",
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "$9999999999\r\nx",
        "*9999999999\r\n:1\r\n",
        "$-5\r\n",
        "%1\r\n+a\r\n+b\r\n",
        ">9999999999\r\n",
        ":7\r\n",
        "$-1\r\n",
        "+OK\r\n",
        "*0\r\n",
        "-ERR no\r\n",
        "-MOVED 0 127.0.0.1:1\r\n",
        "-\r\n",
        "*1\r\n$-1\r\n",
        &deep,
        &long,
    ] {
        let error = starts(&says("", text)).unwrap_err();
        assert!(error.contains("does not serve"), "{text:.20?}: {error}");
        assert!(!error.contains(char::is_control), "{error:?}");
    }
    for some in ["", "CLUSTER", "SET"] {
        starts(&Mood::Hangs(some)).unwrap_err();
    }
}

#[test]
fn a_claim_is_answered_as_a_claim_is() {
    for text in [
        "+OK\r\n",
        ":1\r\n",
        "*0\r\n",
        "-READONLY no\r\n",
        "$3\r\n\x1b[2\r\n",
    ] {
        let error = starts(&says("SET", text)).unwrap_err();
        assert!(!error.contains(char::is_control), "{error:?}");
    }
}

#[test]
fn slots_that_are_nonsense_are_refused() {
    let many: Vec<_> = (0..5000)
        .map(|nth| (nth, nth, "127.0.0.1", nth + 1))
        .collect();
    for ranges in [
        vec![(0, 16384, "127.0.0.1", 1)],
        vec![(7, 3, "127.0.0.1", 1)],
        vec![(0, 16383, "127.0.0.1", 0)],
        vec![(0, 16383, "a b", 1)],
        vec![(0, 16383, "\n", 1)],
        // Nobody is there.
        vec![(0, 16383, "127.0.0.1", 1)],
        many,
        Vec::new(),
    ] {
        starts(&Mood::Says("CLUSTER", slots(&ranges))).unwrap_err();
    }
    let none = "*1\r\n*3\r\n:0\r\n:16383\r\n*0\r\n";
    starts(&says("CLUSTER", none)).unwrap_err();
}

#[test]
fn nobody_starts_with_a_part_of_a_cluster() {
    let (one, other) = (Node::start(), Node::start());
    let half = [(0, 8191, "127.0.0.1", one.port)];
    let both = [half[0], (8192, 16383, "127.0.0.1", other.port)];
    // Whichever of them has the key by which it is claimed.
    one.is(Mood::Says("CLUSTER", slots(&both)));
    pages::open(&[one.port]).unwrap();
    for part in [slots(&half), slots(&both)] {
        one.is(Mood::Says("CLUSTER", part));
        other.is(Mood::Silent);
        pages::open(&[one.port]).unwrap_err();
    }
}

#[test]
fn redirections_in_circles_and_to_nowhere_end() {
    let (one, other) = (Node::start(), Node::start());
    for kind in ["MOVED", "ASK"] {
        for (from, to) in [(&one, &other), (&other, &one)] {
            let to = format!("-{kind} 1 127.0.0.1:{}\r\n", to.port);
            from.is(says("SET", &to));
        }
        let begin = Instant::now();
        let error = pages::open(&[one.port]).unwrap_err().to_string();
        // Of "ASKING" these nodes know nothing.
        assert!(
            error.contains("circles") || error.contains("unknown"),
            "{error}"
        );
        assert!(begin.elapsed() < SOON);
    }
    for to in [
        "127.0.0.1:1",
        "127.0.0.1:0",
        "x",
        ":",
        "",
        "127.0.0.1:99999",
    ] {
        starts(&says("SET", &format!("-MOVED 1 {to}\r\n"))).unwrap_err();
        starts(&says("SET", &format!("-ASK 1 {to}\r\n"))).unwrap_err();
    }
    // To where it should be.
    other.is(Mood::Good);
    one.is(says(
        "SET",
        &format!("-MOVED 1 127.0.0.1:{}\r\n", other.port),
    ));
    pages::open(&[one.port]).unwrap();
    assert_eq!((one.values(), other.values()), (0, 1));
}

#[test]
fn another_node_that_is_named_serves_instead() {
    let (bad, good) = (Node::start(), Node::start());
    for mood in [
        Mood::Silent,
        Mood::Hangs(""),
        says("", "no\r\n"),
        Mood::Says("CLUSTER", slots(&[(0, 16383, "127.0.0.1", 1)])),
    ] {
        bad.is(mood);
        pages::open(&[bad.port, good.port]).unwrap();
    }
}
