// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Which node has which key.

use crate::resp::Answer;
use std::fmt;

/// Slots of a cluster, of which each key has one.
const SLOTS: usize = 16384;

/// Nodes that one knows of, at most: as many as a cluster can have.
const MOST: usize = 1000;

/// Longest name of a host.
const LONGEST: usize = 255;

/// Where a node is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl Address {
    /// One that a node has named. Without a host, it is where `from` is.
    fn named(host: &str, port: i64, from: &Self) -> Option<Self> {
        let is_odd = |it: char| it.is_whitespace() || it.is_control();
        if host.len() > LONGEST || host.contains(is_odd) || host == "?" {
            return None;
        }
        let host = if host.is_empty() { &from.host } else { host };
        let port = u16::try_from(port).ok().filter(|port| *port != 0)?;
        let host = host.to_owned();
        Some(Self { host, port })
    }

    /// As redirections write it: `HOST:PORT`, also if the host is an IPv6 address.
    fn redirected(text: &str, from: &Self) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Self::named(host, port.parse().ok()?, from)
    }
}

/// Where the nodes are that have keys of their own.
#[derive(Debug)]
pub(crate) struct Routes {
    nodes: Vec<Address>,
    /// For each slot, the number of its node.
    slots: Vec<Option<u16>>,
}

impl Routes {
    /// What a node answers to CLUSTER SLOTS: `[[first, last, [host, port, …], …], …]`, with the primary
    /// before its replicas. `None`: something else.
    pub(crate) fn read(answer: &Answer, from: &Address) -> Option<Self> {
        let Answer::Array(ranges) = answer else {
            return None;
        };
        let mut routes = Self {
            nodes: Vec::new(),
            slots: vec![None; SLOTS],
        };
        for range in ranges {
            let Answer::Array(range) = range else {
                return None;
            };
            let [
                Answer::Number(first),
                Answer::Number(last),
                Answer::Array(node),
                ..,
            ] = range.as_slice()
            else {
                return None;
            };
            let [host, Answer::Number(port), ..] = node.as_slice() else {
                return None;
            };
            // A host that is not known is nothing.
            let host = host.text().unwrap_or_default();
            let node = routes.number(Address::named(host, *port, from)?)?;
            let (first, last) = (usize::try_from(*first).ok()?, usize::try_from(*last).ok()?);
            let slots = routes.slots.get_mut(first..last.checked_add(1)?)?;
            slots.fill(Some(node));
        }
        Some(routes)
    }

    fn number(&mut self, node: Address) -> Option<u16> {
        let known = self.nodes.iter().position(|known| *known == node);
        let number = match known {
            Some(number) => number,
            None if self.nodes.len() < MOST => {
                self.nodes.push(node);
                self.nodes.len() - 1
            }
            None => return None,
        };
        u16::try_from(number).ok()
    }

    /// The node that has a key.
    pub(crate) fn node(&self, key: &str) -> Option<&Address> {
        let number = (*self.slots.get(slot(key))?)?;
        self.nodes.get(usize::from(number))
    }

    /// A key has moved.
    pub(crate) fn moved(&mut self, key: &str, to: &Address) {
        let number = self.number(to.clone());
        if let Some(slot) = self.slots.get_mut(slot(key)) {
            *slot = number;
        }
    }

    /// Whether each slot has a node.
    pub(crate) fn is_whole(&self) -> bool {
        self.slots.iter().all(Option::is_some)
    }

    /// All nodes.
    pub(crate) fn nodes(&self) -> &[Address] {
        &self.nodes
    }
}

/// Where a node sends who asks it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Redirect {
    /// The slot is there.
    Moved(Address),
    /// The slot moves there, and the key already has.
    Ask(Address),
}

impl Redirect {
    /// What an error of the node `from` says.
    pub(crate) fn read(error: &str, from: &Address) -> Option<Self> {
        let mut words = error.split(' ');
        let (kind, _slot, address) = (words.next()?, words.next()?, words.next()?);
        let address = Address::redirected(address, from)?;
        match kind {
            "MOVED" => Some(Self::Moved(address)),
            "ASK" => Some(Self::Ask(address)),
            _ => None,
        }
    }
}

/// The slot of a key. Ours have no part in braces that would count alone.
fn slot(key: &str) -> usize {
    usize::from(crc16(key.as_bytes())) % SLOTS
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| {
            let carry = crc & 0x8000 != 0;
            (crc << 1) ^ if carry { 0x1021 } else { 0 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str, port: u16) -> Address {
        let host = host.to_owned();
        Address { host, port }
    }

    fn range(first: i64, last: i64, host: Answer, port: i64) -> Answer {
        let node = Answer::Array(vec![host, Answer::Number(port)]);
        Answer::Array(vec![Answer::Number(first), Answer::Number(last), node])
    }

    fn read(ranges: Vec<Answer>) -> Option<Routes> {
        Routes::read(&Answer::Array(ranges), &at("here", 1))
    }

    fn host(text: &str) -> Answer {
        Answer::Bytes(text.into())
    }

    #[test]
    fn keys_have_the_slots_that_the_specification_gives_them() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot("foo"), 12182);
    }

    #[test]
    fn nodes_are_found_by_keys() {
        let mut routes = read(vec![
            range(0, 12181, host("a"), 7000),
            range(12182, 12182, host(""), 7001),
            range(12183, 16382, Answer::Nothing, 7001),
        ])
        .unwrap();
        assert_eq!(routes.node("foo"), Some(&at("here", 7001)));
        assert_eq!(routes.nodes(), [at("a", 7000), at("here", 7001)]);
        assert!(!routes.is_whole());
        routes.moved("foo", &at("b", 7002));
        assert_eq!(routes.node("foo"), Some(&at("b", 7002)));
        // Nobody has it.
        let nobody = read(Vec::new()).unwrap();
        assert_eq!(nobody.node("foo"), None);
    }

    #[test]
    fn nonsense_is_no_list_of_slots() {
        let long = "h".repeat(256);
        for (first, last, name, port) in [
            (0, 16384, "a", 1),
            (-1, 5, "a", 1),
            (7, 3, "a", 1),
            (0, i64::MAX, "a", 1),
            (0, 5, "a", 0),
            (0, 5, "a", 65536),
            (0, 5, "a", -1),
            (0, 5, "?", 1),
            (0, 5, "a b", 1),
            (0, 5, "a\n", 1),
            (0, 5, &long, 1),
        ] {
            let routes = read(vec![range(first, last, host(name), port)]);
            assert!(routes.is_none(), "{first} {last} {name} {port}");
        }
        let many = (0..2000).map(|nth| range(nth, nth, host("a"), nth + 1));
        assert!(read(many.collect()).is_none());
        assert!(read(vec![Answer::Number(1)]).is_none());
        assert!(read(vec![Answer::Array(vec![Answer::Number(1)])]).is_none());
    }

    #[test]
    fn redirections_are_read() {
        let from = at("here", 1);
        let read = |error: &str| Redirect::read(error, &from);
        assert_eq!(
            read("MOVED 1 10.0.0.1:7"),
            Some(Redirect::Moved(at("10.0.0.1", 7)))
        );
        assert_eq!(read("MOVED 1 :7"), Some(Redirect::Moved(at("here", 7))));
        assert_eq!(read("ASK 99999 ::1:7"), Some(Redirect::Ask(at("::1", 7))));
        for other in [
            "",
            "MOVED",
            "MOVED 1",
            "MOVED 1 a",
            "MOVED 1 a:0",
            "MOVED 1 a:70000",
            "ERR 1 a:1",
        ] {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
