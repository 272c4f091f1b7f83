// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Pages swapped out and in.

use anyhow::{Context as _, Result, ensure};
use tmem_e2e::protocol::Order;

use super::counter::Spent;
use super::{Counted, DISK_MIB, Row, say};
use crate::report::Report;

/// Memory of the program whose pages are swapped, in MiB.
const MIB: u64 = 96;

/// The least part of it that is to be swapped out.
const LEAST: u64 = (MIB << 20 >> 12) / 2;

const TMEM: &str = "virtio-tmem";
const ZRAM: &str = "zram";
const BLOCK: &str = "virtio-blk";

/// The same, with the module loaded with [`STAGES`].
const STAGED: &str = "virtio-tmem, staged";
const STAGES: &str = "stage_pages=512";

/// The disks, what they are called, and what sets them up.
const DISKS: [(&str, &str); 4] = [
    (TMEM, "/dev/tmem0"),
    (ZRAM, "/dev/zram0"),
    (BLOCK, "/dev/vda"),
    (STAGED, "/dev/tmem0"),
];

/// Target: swapping a page out, to virtio-blk.
const OUT_BESIDE_BLOCK: f64 = 1.2;
/// And to zram.
const OUT_BESIDE_ZRAM: f64 = 1.0;

/// Has the kernel reclaim all that it can; what it wrote at first it frees later.
const RECLAIM: &str = "echo 200 >/proc/sys/vm/swappiness; for i in 1 2 3 4; do \
    echo 128M >/groups/memory.reclaim 2>/dev/null || true; busybox sleep 0.2; done";

pub(super) fn count(counted: &Counted, rounds: usize, report: &mut Report) -> Result<Vec<Row>> {
    let zram = format!(
        "modprobe zram; echo {} >/sys/block/zram0/disksize",
        DISK_MIB << 20
    );
    counted.sh(&zram)?;
    counted.sh("busybox mkdir /groups; busybox mount -t cgroup2 none /groups")?;
    let mut out = DISKS.map(|(name, _)| Row::named(name));
    let mut back = DISKS.map(|(name, _)| Row::named(name));
    for round in 0..rounds {
        for ((name, device), (out, back)) in DISKS.iter().zip(out.iter_mut().zip(&mut back)) {
            println!("swap, round {} of {rounds}: {name}", round + 1);
            if *name == STAGED {
                reload(counted, STAGES)?;
            }
            let (to, from) =
                one_round(counted, device).with_context(|| format!("swapping to {name}"))?;
            if *name == STAGED {
                reload(counted, "")?;
            }
            out.push(to);
            back.push(from);
        }
    }
    for (what, rows) in [("page swapped out", &out), ("page swapped in", &back)] {
        let [tmem, others @ ..] = rows;
        say(report, what, tmem, None);
        for other in others {
            say(report, what, other, Some(tmem));
        }
    }
    let [tmem, zram, block, _] = &out;
    let ratio = |other: &Row| tmem.median() / other.median();
    report.target_at_most(
        "page swapped out, beside virtio-blk",
        ratio(block),
        OUT_BESIDE_BLOCK,
    );
    report.target_at_most(
        "page swapped out, beside zram",
        ratio(zram),
        OUT_BESIDE_ZRAM,
    );
    let named = |what: &str, rows: [Row; DISKS.len()]| {
        rows.map(|row| Row {
            name: format!("{what}: {}", row.name),
            ..row
        })
    };
    let rows = [
        named("page swapped out", out),
        named("page swapped in", back),
    ];
    Ok(rows.into_iter().flatten().collect())
}

/// Loads the module anew.
fn reload(counted: &Counted, parameters: &str) -> Result<()> {
    counted.guest.run("rmmod virtio_tmem")?;
    counted.guest.load_module_with(parameters)?;
    counted.guest.disk_appears()
}

/// Instructions for a page that is swapped out, and for one that is swapped in.
fn one_round(counted: &Counted, device: &str) -> Result<(Spent, Spent)> {
    let Counted { guest, counter } = counted;
    guest.run(&format!("mkswap {device}"))?;
    guest.run(&format!("swapon {device}"))?;
    let mut job = guest.workload(MIB, 1)?;
    job.filled()?;
    let pages = |name: &str| vmstat(counted, name);

    let before = pages("pswpout")?;
    let (out, _) = counter.during(|| counted.sh(RECLAIM))?;
    let went = pages("pswpout")?.saturating_sub(before);
    ensure!(went > LEAST, "only {went} pages were swapped out");

    let before = pages("pswpin")?;
    let (back, _) = counter.during(|| job.order(Order::Verify))?;
    let came = pages("pswpin")?.saturating_sub(before);
    ensure!(came > LEAST, "only {came} pages were swapped in");
    // What it takes to look at them.
    let (looks, _) = counter.during(|| job.order(Order::Verify))?;
    job.end()?;
    guest.run(&format!("swapoff {device}"))?;
    Ok((
        out.each(went as f64),
        back.without(&looks).each(came as f64),
    ))
}

fn vmstat(counted: &Counted, name: &str) -> Result<u64> {
    let text = counted.guest.read("/proc/vmstat")?;
    let line = text.lines().find_map(|line| {
        let (key, value) = line.split_once(' ')?;
        (key == name).then_some(value)
    });
    let value = line.with_context(|| format!("/proc/vmstat has no {name}"))?;
    Ok(value.trim().parse()?)
}
