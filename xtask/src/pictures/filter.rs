// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a live filter does with reads and writes.

use super::{Area, GUEST, HOST, PART, Picture, SMALL_MIDDLE, STORE};

pub(super) fn picture() -> String {
    let mut to = Picture::new(920, 420);
    to.area(area(20, 16, 880, 288), GUEST);
    to.text(
        36,
        38,
        "font-weight=\"bold\"",
        "guest: a disk in use, mounted or swapped on",
    );
    to.labelled(
        area(40, 52, 840, 48),
        PART,
        "file systems, swap",
        &["as if nothing had happened"],
    );
    to.area(area(40, 140, 840, 84), PART);
    to.text(
        460,
        162,
        "text-anchor=\"middle\" font-weight=\"bold\" fill=\"#222\"",
        "the filter, in front of the disk: a bit for each page",
    );
    for (x, line) in [
        (130, "bit set: from the host"),
        (350, "bit clear: from the disk,"),
        (590, "write: clear the bit,"),
        (790, "swap-out: to the host"),
    ] {
        to.text(x, 188, SMALL_MIDDLE, line);
    }
    for (x, line) in [
        (130, "not there any more: disk"),
        (350, "a copy is put (ticket good?)"),
        (590, "then to the disk"),
        (790, "refused: to the disk"),
    ] {
        to.text(x, 206, SMALL_MIDDLE, line);
    }
    for (x, name) in [
        (130, "read"),
        (350, "read"),
        (590, "write, discard"),
        (790, "swap"),
    ] {
        to.arrow((x, 102), (x, 136));
        to.text(
            x + 16 + 3 * i32::try_from(name.len()).unwrap_or_default(),
            124,
            SMALL_MIDDLE,
            name,
        );
    }
    to.labelled(
        area(250, 248, 440, 44),
        PART,
        "the disk: virtio-blk, NVMe, SCSI, device mapper, loop",
        &[],
    );
    to.arrow((350, 226), (350, 244));
    to.arrow((590, 226), (590, 244));
    to.area(area(20, 340, 880, 64), HOST);
    to.labelled(
        area(40, 350, 840, 44),
        STORE,
        "tmem store: ephemeral pool for blocks, persistent pool for swap",
        &[],
    );
    to.arrow((130, 226), (130, 346));
    to.arrow((240, 226), (240, 346));
    to.arrow((790, 226), (790, 346));
    to.text(170, 324, SMALL_MIDDLE, "get");
    to.text(280, 324, SMALL_MIDDLE, "put, later");
    to.text(838, 324, SMALL_MIDDLE, "put, get");
    to.end()
}

fn area(x: i32, y: i32, w: i32, h: i32) -> Area {
    Area { x, y, w, h }
}
