// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The store's rooms, and which may know which.

use super::modules::arrows;
use crate::project;
use std::collections::BTreeSet;

/// Its rooms, and the modules of each. What is in none is either below them all
/// ([`BELOW`]) or may know them all.
const ROOMS: &[(&str, &[&str])] = &[
    ("index", &["index"]),
    ("tier", &["tier", "codec"]),
    ("budget", &["budget"]),
    ("pool", &["pool"]),
    ("reclaim", &["reclaim"]),
];

/// What each room may know, apart from itself and what is below.
const MAY: &[(&str, &[&str])] = &[
    ("index", &["tier"]),
    ("tier", &[]),
    ("budget", &["tier"]),
    ("pool", &["index", "tier", "budget"]),
    ("reclaim", &["pool", "index", "tier", "budget"]),
];

/// What every room may know.
const BELOW: &[&str] = &[
    "types", "words", "area", "config", "stats", "counters", "sync",
];

fn room(module: &str) -> Option<&'static str> {
    let (room, _) = ROOMS
        .iter()
        .find(|(_, modules)| modules.contains(&module))?;
    Some(room)
}

#[test]
fn a_room_of_the_store_knows_only_those_that_it_may() {
    let arrows = arrows(&project::root().join("devices/tmem_store/src"));
    let rooms: BTreeSet<_> = arrows.keys().filter_map(|module| room(module)).collect();
    assert_eq!(rooms.len(), ROOMS.len(), "a room is empty");
    for (from, known) in &arrows {
        for to in known {
            let below = |module: &String| BELOW.contains(&module.as_str());
            let allowed = match (room(from), room(to)) {
                _ if below(to) => true,
                (Some(from), Some(to)) if from == to => true,
                (Some(from), Some(to)) => MAY
                    .iter()
                    .any(|(room, may)| *room == from && may.contains(&to)),
                // What is above knows what it likes; what is below, or a room, not what is above.
                (None, _) => !below(from),
                (Some(_), None) => false,
            };
            assert!(allowed, "{from} must not name {to}");
        }
    }
}
