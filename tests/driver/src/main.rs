// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The front end and the driver of the daemon's conformance tests as a program, for where those
//! tests do not run: it connects once, puts, gets and flushes pages, and compares each with a
//! model. It panics when a page is wrong or lost.

#![expect(clippy::unwrap_used, reason = "a load that cannot go on has failed")]

use clap::Parser;
use front_end::FrontEnd;
use lane::Lane;
use lane::Pools;
use request::EPHEMERAL;
use request::OK;
use request::create_pool;
use request::create_pool_of;
use slots::BYTES;
use std::path::PathBuf;

#[path = "../../../vhost-user-tmem/tests/conformance/front_end.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod front_end;
#[path = "../../../vhost-user-tmem/tests/conformance/restart/lane.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod lane;
#[path = "../../../vhost-user-tmem/tests/conformance/request.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod request;
#[path = "../../../vhost-user-tmem/tests/conformance/slots.rs"]
mod slots;

#[derive(Parser)]
struct Options {
    /// Where the daemon serves the machine.
    socket: PathBuf,
    /// The load goes on until this file is there; then all pages are compared.
    #[arg(long)]
    until: PathBuf,
    /// From which its choices follow.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() {
    let options = Options::parse();
    let mut front_end = FrontEnd::connect(&options.socket, BYTES);
    assert_eq!(front_end.share_memory(BYTES), Some(0));
    front_end.turn_to(1, 0);
    front_end.start();
    let pools = Pools {
        persistent: 0,
        ephemeral: 1,
    };
    assert_eq!(create_pool(&mut front_end, pools.persistent), OK);
    let ephemeral = create_pool_of(&mut front_end, pools.ephemeral, EPHEMERAL);
    assert_eq!(ephemeral, OK);
    front_end.stop_queue();
    // Two requests came before.
    let mut lane = Lane::start(&mut front_end, 1, pools, options.seed)
        .with_next(2)
        .with_pages(256);
    while !options.until.exists() {
        lane.round();
    }
    lane.check_all();
    assert!(front_end.is_connected(), "the connection ended");
    println!("{} requests answered, none wrong", lane.answered);
}
