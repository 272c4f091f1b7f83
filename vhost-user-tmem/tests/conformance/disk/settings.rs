// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a disk is set up with.

use super::firecracker::{activate, connect};
use super::memory;
use super::requests::{IO_ERROR, OK, read, write};
use crate::daemon::Daemon;

/// As mkswap(8) writes it, and the kernel reads it.
#[test]
fn a_swap_header_is_there_already_unless_it_is_not_wanted() {
    for (settings, label) in [
        ("", Some("tmem")),
        (",label=cold", Some("cold")),
        (",swapspace=off", None),
    ] {
        let daemon = Daemon::start_with_disk(settings);
        let (mut a, features) = connect(&daemon.socket("a"), memory());
        activate(&mut a, features);
        let (status, header) = read(&mut a, 0);
        assert_eq!(status, OK);
        let Some(label) = label else {
            assert_eq!(header, [0; 4096]);
            continue;
        };
        assert_eq!(header[4086..], *b"SWAPSPACE2");
        assert_eq!(header[1024..1028], 1_u32.to_le_bytes(), "version");
        assert_eq!(header[1028..1032], 2047_u32.to_le_bytes(), "last page");
        assert_ne!(header[1036..1052], [0; 16], "UUID");
        let mut expected = [0; 16];
        expected[..label.len()].copy_from_slice(label.as_bytes());
        assert_eq!(header[1052..1068], expected);
    }
}

/// Nothing else is lost.
#[test]
fn writes_beyond_the_quota_fail() {
    let daemon = Daemon::start_with_disk(",quota=2M,codec=none");
    let (mut a, features) = connect(&daemon.socket("a"), memory());
    activate(&mut a, features);
    let mut random = fastrand::Rng::with_seed(1);
    let mut kept = Vec::new();
    let mut refused = 0;
    for number in 0..2048 {
        let mut content = vec![0; 4096];
        random.fill(&mut content);
        match write(&mut a, number, &content) {
            OK => kept.push((number, content)),
            status => {
                assert_eq!(status, IO_ERROR);
                refused += 1;
            }
        }
    }
    assert!(refused > 1000 && kept.len() > 100, "{refused} refused");
    for (number, content) in kept {
        assert_eq!(read(&mut a, number), (OK, content));
    }
}
