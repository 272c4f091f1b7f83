// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Drivers that go on with a disk whose blocks are gone get errors, and never zeros.

use super::firecracker::{activate, connect};
use super::memory;
use super::requests::{IO_ERROR, OK, block, read, write};
use crate::daemon::Daemon;
use crate::front_end::FrontEnd;
use crate::restart::host::wait_for;

/// The grace period is over when nobody connects in it.
const NO_GRACE: &str = ",grace=0";

/// Connects for a machine that goes on.
fn come_back(daemon: &Daemon, memory: &std::fs::File) -> FrontEnd {
    let (mut a, features) = connect(&daemon.socket("a"), memory.try_clone().unwrap());
    a.turn_to(0, 0);
    activate(&mut a, features);
    a
}

#[test]
fn a_driver_that_goes_on_after_its_blocks_are_gone_gets_errors() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let daemon = Daemon::start_with_disk_and_log(NO_GRACE, log.reopen().unwrap().into());
    let freed = |pages: u64| {
        let says = format!("no front end for 0 s, freed {pages} pages");
        wait_for(|| std::fs::read_to_string(log.path()).unwrap().contains(&says));
    };
    let memory = memory();
    let (mut a, features) = connect(&daemon.socket("a"), memory.try_clone().unwrap());
    activate(&mut a, features);
    for number in 0..10 {
        assert_eq!(write(&mut a, number, &block(1, number)), OK);
    }
    drop(a);
    freed(10);

    let mut a = come_back(&daemon, &memory);
    for number in 0..20 {
        assert_eq!(read(&mut a, number).0, IO_ERROR, "{number}");
    }
    // What it writes from now on is there, zeros too.
    assert_eq!(write(&mut a, 3, &block(2, 3)), OK);
    assert_eq!(write(&mut a, 4, &[0; 4096]), OK);
    assert_eq!(read(&mut a, 3), (OK, block(2, 3)));
    assert_eq!(read(&mut a, 4), (OK, vec![0; 4096]));
    assert_eq!(read(&mut a, 5).0, IO_ERROR);
    drop(a);
    freed(2);

    // A new driver has a new disk.
    let (mut a, features) = connect(&daemon.socket("a"), super::memory());
    activate(&mut a, features);
    assert_eq!(read(&mut a, 5), (OK, vec![0; 4096]));
}

/// A snapshot that is restored to other memory knows older blocks.
#[test]
fn a_machine_that_was_restored_does_not_meet_its_future() {
    let daemon = Daemon::start_with_disk("");
    let memory = memory();
    let (mut a, features) = connect(&daemon.socket("a"), memory.try_clone().unwrap());
    activate(&mut a, features);
    assert_eq!(write(&mut a, 3, &block(1, 3)), OK);
    let snapshot = super::memory();
    std::io::copy(
        &mut std::io::Read::take(&memory, super::MEMORY),
        &mut &snapshot,
    )
    .unwrap();
    assert_eq!(write(&mut a, 3, &block(2, 3)), OK);
    drop(a);

    let mut a = come_back(&daemon, &snapshot);
    assert_eq!(read(&mut a, 3).0, IO_ERROR);
}
