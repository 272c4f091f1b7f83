// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The daemon with a spill area on a block device that is slow, fails, or goes away. To be run as
//! root where device-mapper is: it makes a device above another one, has the daemon spill to it,
//! and changes what the device does while two machines put and get pages.
//!
//! It panics when a page is wrong, or lost other than by a read that has failed.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

mod area;
mod daemon;
mod machine;
mod scenes;

#[path = "../../../../vhost-user-tmem/tests/conformance/front_end.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod front_end;
#[path = "../../../../vhost-user-tmem/tests/conformance/request.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod request;
#[path = "../../../../vhost-user-tmem/tests/conformance/slots.rs"]
mod slots;

use clap::Parser;
use scenes::World;
use std::path::PathBuf;
use std::time::Instant;

#[derive(Parser)]
struct Options {
    /// The device below, all of which is used.
    #[arg(long)]
    disk: PathBuf,
    /// The daemon's program.
    #[arg(long)]
    daemon: PathBuf,
    /// Where sockets and logs go.
    #[arg(long)]
    dir: PathBuf,
    /// From which its choices follow.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only those scenes whose name contains a word.
    #[arg(long)]
    only: Option<String>,
}

fn main() {
    let options = Options::parse();
    let start = Instant::now();
    let mut world = World::new(&options.disk, &options.daemon, &options.dir, options.seed);
    for (name, scene) in scenes::ALL {
        let is_first = *name == "healthy";
        if !is_first
            && options
                .only
                .as_ref()
                .is_some_and(|only| !name.contains(only.as_str()))
        {
            continue;
        }
        let begun = Instant::now();
        let said = scene(&mut world);
        println!("{name}: {said} ({:.1} s)", begun.elapsed().as_secs_f32());
    }
    world.end();
    println!("all was right, in {:.1} s", start.elapsed().as_secs_f32());
}
