// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The TCP socket that a process listens on.
#![allow(clippy::unwrap_used)]
#![allow(
    dead_code,
    reason = "each test binary uses what it needs of this module"
)]

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use std::io::{Read, Write};

/// Where the process `pid` listens; `None` if it does not, on IPv4 (proc_net_tcp(5)).
pub(crate) fn listening(pid: u32) -> Option<SocketAddr> {
    let own: BTreeSet<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .ok()?
        .filter_map(|fd| {
            let link = fs::read_link(fd.ok()?.path()).ok()?;
            let inode = link.to_str()?.strip_prefix("socket:[")?;
            Some(inode.trim_end_matches(']').to_owned())
        })
        .collect();
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).ok()?;
    table.lines().skip(1).find_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let [_, local, _, state, .., _] = words.as_slice() else {
            return None;
        };
        let inode = *words.get(9)?;
        // TCP_LISTEN.
        if *state != "0A" || !own.contains(inode) {
            return None;
        }
        let (address, port) = local.split_once(':')?;
        // Memory order.
        let address = u32::from_str_radix(address, 16).ok()?.to_ne_bytes();
        let port = u16::from_str_radix(port, 16).ok()?;
        Some((Ipv4Addr::from(address), port).into())
    })
}

/// Sends `request`; all that is answered.
pub(crate) fn ask(at: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    said
}
