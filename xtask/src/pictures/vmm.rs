// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The VMM's threads, and a request's way.

use super::{Area, GUEST, HOST, PART, Picture, SMALL_MIDDLE, STORE};

/// Boxes of one row: the left edge and the width of each.
const COLUMNS: [(i32, i32); 4] = [(40, 200), (256, 200), (472, 200), (688, 200)];

pub(super) fn picture() -> String {
    let mut to = Picture::new(928, 420);
    let whole = |y, h| Area {
        x: 20,
        y,
        w: 888,
        h,
    };
    to.area(whole(16, 92), GUEST);
    to.text(36, 38, "font-weight=\"bold\"", "guest: a stock kernel");
    to.area(whole(152, 252), HOST);
    to.text(36, 174, "font-weight=\"bold\"", "tmem-vmm");
    let cell = |column: usize, y, h| {
        let (x, w) = COLUMNS.get(column).copied().unwrap_or_default();
        Area { x, y, w, h }
    };
    for (column, name) in ["virtio_tmem", "virtio_blk, virtio_net", "ttyS0", "ACPI"]
        .into_iter()
        .enumerate()
    {
        to.labelled(cell(column, 48, 44), PART, name, &[]);
    }
    for (column, title, lines) in [
        (
            0,
            "vcpu0, vcpu1, …",
            &["run the guest, and", "serve its tmem requests"][..],
        ),
        (
            1,
            "disk-vda, net-tap0, rng",
            &["woken by KVM (ioeventfd),", "interrupt by KVM (irqfd)"],
        ),
        (
            2,
            "com1-in, com1-out",
            &["the terminal, a file", "or a socket"],
        ),
        (
            3,
            "main, api",
            &["wait for the end;", "pause, quota, figures"],
        ),
    ] {
        to.labelled(cell(column, 196, 84), PART, title, lines);
        let (x, w) = COLUMNS.get(column).copied().unwrap_or_default();
        to.arrow((x + w / 2, 94), (x + w / 2, 192));
    }
    to.text(228, 128, SMALL_MIDDLE, "exit: the guest waits");
    to.text(452, 128, SMALL_MIDDLE, "no exit to the VMM");
    let store = Area {
        x: 40,
        y: 320,
        w: 200,
        h: 64,
    };
    to.labelled(store, STORE, "tmem-store", &["in this process"]);
    to.arrow((140, 282), (140, 316));
    let front = Area {
        x: 256,
        y: 320,
        w: 300,
        h: 64,
    };
    to.labelled(
        front,
        PART,
        "or: tmem, the vhost-user front end",
        &["the daemon reads the queues itself"],
    );
    let daemon = Area {
        x: 640,
        y: 320,
        w: 248,
        h: 64,
    };
    to.labelled(
        daemon,
        STORE,
        "vhost-user-tmem",
        &["one store for many VMs"],
    );
    to.arrow((558, 352), (636, 352));
    to.end()
}
