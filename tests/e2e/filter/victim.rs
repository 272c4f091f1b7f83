// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the kernel evicts goes to the host, and comes back when it is read again.

use crate::bed;
use crate::filter;
use crate::filter::control;
use anyhow::Result;
use anyhow::ensure;
use fastrand::Rng;
use tmem_e2e::Daemon;
use tmem_e2e::DaemonOptions;
use tmem_e2e::Drive;
use tmem_e2e::Guest;
use tmem_e2e::Image;
use tmem_e2e::until;

const DISK: &str = "/dev/vda";

/// Size of the disk, in MiB.
const MIB: u64 = 24;

/// More than the disk has.
const QUOTA: &str = "64M";

/// All clean pages go.
const EVICT: &str = "echo 1 >/proc/sys/vm/drop_caches";

/// What a script needs to run with less memory than the disk has pages.
fn confine(guest: &Guest) -> Result<()> {
    let script = "busybox mkdir /groups; busybox mount -t cgroup2 none /groups; \
                  echo +memory >/groups/cgroup.subtree_control; busybox mkdir /groups/small; \
                  echo 12M >/groups/small/memory.max";
    guest.sh(script).map(|_| ())
}

/// Has a script run so.
fn confined(script: &str) -> String {
    format!("echo $$ >/groups/small/cgroup.procs; {script}")
}

fn sum(guest: &Guest) -> Result<String> {
    guest.sh(&format!("busybox sha256sum <{DISK}"))
}

/// Waits until all that was evicted has come to the host, or will not.
fn settles(guest: &Guest) -> Result<()> {
    until("what is evicted to be put", bed::PROMPT, || {
        let total = |name| control::total(guest, name);
        let done = total("puts")? + total("refused")? + total("skipped")? + total("changed")?;
        Ok((total("evicted")? <= done).then_some(()))
    })
}

/// A guest with a disk of random bytes, which is in use.
fn bed(name: &str, parameters: &str, quota: &'static str) -> Result<(Image, Daemon, Guest)> {
    let image = Image::empty(MIB)?;
    let mut content = vec![0; usize::try_from(MIB << 20)?];
    Rng::with_seed(3).fill(&mut content);
    std::fs::write(image.path(), content)?;
    let daemon = bed::daemon(DaemonOptions {
        quota,
        ..DaemonOptions::default()
    })?;
    let mut guest = filter::guest(name, 256, vec![Drive::new(image.path())])?;
    guest.load_module_with(parameters)?;
    guest.plug(&daemon.socket("vm0"))?;
    guest.disk_appears()?;
    control::hold(&guest, DISK)?;
    Ok((image, daemon, guest))
}

#[test]
fn what_is_evicted_comes_back_and_is_held_once() -> Result<()> {
    let (_image, daemon, guest) = bed("evicted", "", QUOTA)?;
    let right = sum(&guest)?;
    guest.sh(EVICT)?;
    control::attach(&guest, DISK, "victim")?;
    let total = |name| control::total(&guest, name);

    // Nothing is put while it is in the page cache.
    ensure!(sum(&guest)? == right);
    ensure!(total("puts")? == 0, "a page was put that the guest has");
    guest.sh(EVICT)?;
    settles(&guest)?;
    let pages = total("pages")?;
    ensure!(pages > 0, "nothing of what was evicted was put");

    // What is read again is the guest's again, and the host has it no more.
    ensure!(sum(&guest)? == right, "other bytes after an eviction");
    let (hits, left) = (total("hits")?, total("pages")?);
    // But for a few between others that the host did not have.
    ensure!(
        hits > 0 && hits + left == pages,
        "of {pages} pages {hits} came back, and the host has {left}"
    );

    // By reclaim, a little at a time.
    confine(&guest)?;
    guest.sh(EVICT)?;
    for round in 0..4 {
        let script = confined(&format!("busybox sha256sum <{DISK}"));
        let read = guest.sh(&script)?;
        ensure!(read == right, "other bytes in round {round}: {read}");
    }
    let hits = total("hits")? - hits;
    println!("{}", guest.run("tmemctl status --json")?);
    ensure!(
        hits > MIB * 256 / 2,
        "of four rounds {hits} pages came back"
    );

    // Nobody is told of evictions any more, and the module can go.
    control::detach(&guest, DISK)?;
    guest.sh(EVICT)?;
    ensure!(sum(&guest)? == right);
    guest.run("rmmod virtio_tmem")?;
    guest.sh(EVICT)?;
    ensure!(sum(&guest)? == right);
    guest.power_off()?;
    daemon.stop()
}

#[test]
fn what_is_written_is_never_read_as_it_was() -> Result<()> {
    let (_image, daemon, guest) = bed("overwritten", "", QUOTA)?;
    control::attach(&guest, DISK, "victim")?;
    let mut random = Rng::with_seed(u64::from(filter::seed()));
    for _ in 0..12 {
        sum(&guest)?;
        guest.sh(EVICT)?;
        // Through the page cache and past it, before and after what was there was evicted.
        for _ in 0..random.u32(1..6) {
            let (at, count) = (random.u64(0..MIB * 16 - 4), random.u64(1..4));
            let how = random.choice(["oflag=direct", "conv=fsync", "conv=notrunc"]);
            let how = how.unwrap_or_default();
            guest.sh(&format!(
                "busybox dd if=/dev/urandom of=/new bs=64k count={count} 2>/dev/null; \
                 busybox dd if=/new of={DISK} bs=64k seek={at} {how} 2>/dev/null"
            ))?;
        }
        if random.bool() {
            let at = random.u64(0..MIB) << 20;
            guest.sh(&format!(
                "busybox blkdiscard -o {at} -l 65536 {DISK} || true"
            ))?;
        }
        guest.sh("busybox sync")?;
        let cached = sum(&guest)?;
        guest.sh(EVICT)?;
        let filtered = sum(&guest)?;
        ensure!(filtered == cached, "other bytes after an eviction");
    }
    ensure!(control::total(&guest, "hits")? > 0, "nothing came back");
    let through = sum(&guest)?;
    control::detach(&guest, DISK)?;
    guest.sh(EVICT)?;
    ensure!(sum(&guest)? == through, "the disk has other bytes");
    guest.power_off()?;
    daemon.stop()
}

/// Counts for docs/measurements.md: the same reads in a guest that has memory for a part of them.
#[test]
#[ignore = "measures: cargo xtask e2e filter::victim::counts --ignored"]
fn counts() -> Result<()> {
    let ways = [
        ("precache", ""),
        ("precache", "precache_eager=1"),
        ("victim", ""),
        ("victim", "victim_workingset=1"),
    ];
    println!(
        "| quota | kind | parameters | reads | from the host | from the disk | puts | skipped |"
    );
    let quotas = [QUOTA, "12M"].into_iter();
    for (quota, (kind, parameters)) in quotas.flat_map(|quota| ways.map(|way| (quota, way))) {
        let (_image, daemon, guest) = bed("counts", parameters, quota)?;
        guest.sh(EVICT)?;
        control::attach(&guest, DISK, kind)?;
        let reads = 40_000;
        let script = format!("load reads {DISK} --seed 1 --reads {reads} --hot-mib 16");
        confine(&guest)?;
        guest.sh(&confined(&script))?;
        let total = |name| control::total(&guest, name);
        println!(
            "| {quota} | {kind} | {parameters} | {reads} | {} | {} | {} | {} |",
            total("hits")?,
            total("misses")?,
            total("puts")?,
            total("skipped")?
        );
        guest.power_off()?;
        daemon.stop()?;
    }
    Ok(())
}
