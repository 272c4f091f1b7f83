// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Swap-outs that are copied and acknowledged at once (`stage_pages`): what the guest reads is what it
//! wrote, whatever becomes of the device before it has taken them.

use crate::bed;
use crate::bed::MIB;
use crate::restart;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use std::time::Duration;
use std::time::Instant;
use tmem_e2e::Daemon;
use tmem_e2e::DaemonOptions;
use tmem_e2e::Guest;
use tmem_e2e::protocol::Order;
use tmem_e2e::until;

/// The module's parameter: 16 runs.
const STAGED: &str = "stage_pages=512";

/// Much less than what is swapped out, in bytes; and more.
const SMALL_QUOTA: u64 = 4 << 20;
const LARGE_QUOTA: u64 = 1 << 30;

/// More than a run, and less than what is staged at a time, in bytes.
const SLACK: u64 = 256 << 10;

/// Where files are that can be swapped out, each in a cgroup of its own.
const FILES: &str = "busybox mkdir /files /groups; busybox mount -t tmpfs none /files; \
                     busybox mount -t cgroup2 none /groups; \
                     echo +memory >/groups/cgroup.subtree_control";

/// For the daemon to stay halted while the guest goes on.
const HALTED: Duration = Duration::from_secs(1);

/// For a program that needs no device that answers. Less than the driver waits for an answer.
const AT_ONCE: Duration = Duration::from_secs(8);

/// A file of random bytes in the guest's memory.
struct File {
    name: &'static str,
    sum: String,
}

impl File {
    fn new(guest: &Guest, name: &'static str, mib: u64) -> Result<Self> {
        let kib = mib << 10;
        guest.sh(&format!(
            "busybox mkdir /groups/{name}; echo $$ >/groups/{name}/cgroup.procs; \
             busybox head -c {kib}k /dev/urandom >/files/{name}"
        ))?;
        let sum = guest.sh(&format!("busybox sha256sum /files/{name}"))?;
        Ok(Self { name, sum })
    }

    /// Has the kernel swap out as much of it as the device takes.
    fn reclaim(&self, guest: &Guest) -> Result<()> {
        let name = self.name;
        let script = format!(
            "for i in 1 2 3; do \
                 echo 64M swappiness=max 2>/dev/null >/groups/{name}/memory.reclaim || true; \
             done"
        );
        guest.sh(&script).map(|_| ())
    }

    /// The checksum of it, unless it cannot be read.
    fn read(&self, guest: &Guest) -> Result<Option<String>> {
        let name = self.name;
        let (code, said) = guest.try_run(&format!("busybox sha256sum /files/{name}"))?;
        Ok((code == 0).then_some(said))
    }

    fn is_right(&self, guest: &Guest) -> Result<()> {
        let sum = self.read(guest)?;
        ensure!(sum.as_ref() == Some(&self.sum), "{}: {sum:?}", self.name);
        Ok(())
    }

    /// It is as it was, or cannot be read: the device took a part of it.
    fn is_never_wrong(&self, guest: &Guest) -> Result<()> {
        let sum = self.read(guest)?;
        let is_right = sum.as_ref().is_none_or(|sum| *sum == self.sum);
        ensure!(is_right, "{}: {sum:?}", self.name);
        Ok(())
    }

    /// A page of it at least cannot be read. None is replaced by another.
    fn is_unreadable(&self, guest: &Guest) -> Result<()> {
        let sum = self.read(guest)?;
        ensure!(sum.is_none(), "{} was read: {sum:?}", self.name);
        Ok(())
    }
}

/// Waits until the device has all that is swapped out.
fn all_stored(daemon: &Daemon, guest: &Guest) -> Result<()> {
    let used = (guest.meminfo("SwapTotal")? - guest.meminfo("SwapFree")?) / 4;
    bed::settles(daemon, "/vms/vm0/persistent_pages", |pages| pages >= used)?;
    Ok(())
}

#[test]
fn staged_pages_come_back_as_they_were() -> Result<()> {
    let daemon = bed::daemon(DaemonOptions::default())?;
    let guest = bed::guest("staged", 160, &daemon, "vm0")?;
    guest.swap_on_with(STAGED)?;
    let mut job = guest.workload(176, 1)?;
    job.filled()?;
    job.order(Order::Churn)?;
    job.order(Order::Verify)?;
    job.end()?;
    bed::nothing_lost(&guest)?;
    let (staged, stored) = (
        guest.counter("staged_pages")?,
        guest.counter("succ_stores")?,
    );
    println!("{staged} pages were staged, {stored} stored");
    assert!(stored >= 32 * MIB);
    assert!(staged >= stored / 2, "{staged} of {stored} were staged");

    // All that is out comes back when the disk is swapped off.
    let mut idle = guest.precious_workload(32, 2)?;
    idle.filled()?;
    let mut other = guest.workload(160, 3)?;
    other.filled()?;
    other.end()?;
    let loads = guest.counter("loads")?;
    guest.run("swapoff /dev/tmem0")?;
    assert!(guest.counter("loads")? > loads + 8 * MIB);
    idle.order(Order::Verify)?;
    idle.end()?;
    bed::nothing_lost(&guest)?;
    guest.run("rmmod virtio_tmem")?;
    bed::settles(&daemon, "/vms/vm0/persistent_pages", |pages| pages == 0)?;

    // A device that does not answer has runs that are under way: they are read and freed without it.
    guest.swap_on_with(STAGED)?;
    guest.sh(FILES)?;
    let file = File::new(&guest, "file", 1)?;
    daemon.halt()?;
    file.reclaim(&guest)?;
    assert!(guest.counter("staged_pages")? >= MIB / 2);
    let begin = Instant::now();
    guest.run("swapoff /dev/tmem0")?;
    assert!(begin.elapsed() < AT_ONCE, "{:?}", begin.elapsed());
    file.is_right(&guest)?;
    // Unloading waits for them.
    std::thread::scope(|scope| {
        let unload = scope.spawn(|| guest.run("rmmod virtio_tmem"));
        std::thread::sleep(HALTED);
        let is_over = unload.is_finished();
        daemon.go_on()?;
        let begin = Instant::now();
        let unloaded = unload.join();
        unloaded.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        ensure!(begin.elapsed() < AT_ONCE, "{:?}", begin.elapsed());
        ensure!(!is_over, "the module went with runs under way");
        Ok(())
    })?;
    file.is_right(&guest)?;
    bed::settles(&daemon, "/vms/vm0/pools", |pools| pools == 0)?;
    guest.power_off()?;
    daemon.stop()
}

#[test]
#[ignore = "takes minutes: cargo xtask e2e staged --ignored"]
fn a_guest_that_stages_notices_no_kill() -> Result<()> {
    let with = restart::Module {
        parameters: STAGED,
        check: |guest| {
            let staged = guest.counter("staged_pages")?;
            ensure!(staged >= 64 * MIB, "{staged} pages were staged");
            Ok(())
        },
    };
    restart::kills(&["staged-kills"], with)
}

/// A guest with a file, larger than its quota, that it is to swap out.
fn refused(name: &str) -> Result<(Daemon, Guest, File)> {
    let daemon = bed::daemon(DaemonOptions {
        quota: "4M",
        ..DaemonOptions::default()
    })?;
    let guest = bed::guest(name, 160, &daemon, "vm0")?;
    guest.swap_on_with(STAGED)?;
    guest.sh(FILES)?;
    let file = File::new(&guest, "file", 16)?;
    Ok((daemon, guest, file))
}

/// Kept runs go to the device as soon as it takes them, and so does what comes then; to the end.
fn takes_them(daemon: &Daemon, guest: Guest, file: &File) -> Result<()> {
    let stored = guest.counter("succ_stores")?;
    daemon.set_quota("vm0", LARGE_QUOTA)?;
    until("a kept run to be stored", bed::PROMPT, || {
        Ok((guest.counter("succ_stores")? > stored).then_some(()))
    })?;
    let staged = guest.counter("staged_pages")?;
    bed::swaps(&guest, 224)?;
    assert!(guest.counter("staged_pages")? >= staged + 32 * MIB);
    file.is_right(&guest)?;
    bed::nothing_lost(&guest)?;
    guest.run("swapoff /dev/tmem0")?;
    guest.run("rmmod virtio_tmem")?;
    file.is_right(&guest)?;
    guest.power_off()
}

#[test]
fn staged_pages_that_the_device_refuses_are_read_and_freed() -> Result<()> {
    let (daemon, guest, file) = refused("staged-refused")?;
    file.reclaim(&guest)?;
    assert!(guest.counter("kept_runs")? > 0);
    assert!(daemon.stats()?.number("/vms/vm0/puts_refused_quota")? > 0);

    // What is kept comes back, and does not hold up who swaps off.
    let begin = Instant::now();
    guest.run("swapoff /dev/tmem0")?;
    assert!(begin.elapsed() < AT_ONCE, "{:?}", begin.elapsed());
    file.is_right(&guest)?;
    bed::nothing_lost(&guest)?;
    guest.run("rmmod virtio_tmem")?;
    file.is_right(&guest)?;
    guest.power_off()?;
    daemon.stop()
}

#[test]
fn staged_pages_that_the_device_refuses_stay_until_there_is_room() -> Result<()> {
    let (daemon, guest, file) = refused("staged-kept")?;
    file.reclaim(&guest)?;
    assert!(guest.counter("kept_runs")? > 0);
    takes_them(&daemon, guest, &file)?;
    daemon.stop()
}

#[test]
#[ignore = "takes minutes: cargo xtask e2e staged --ignored"]
fn who_needs_more_than_can_be_staged_learns_of_it() -> Result<()> {
    let (daemon, guest, file) = refused("staged-quota")?;
    let mut greedy = guest.workload(256, 1)?;
    match greedy.outcome()? {
        Err(ended) => assert_eq!(ended.signal, Some(9), "{ended:?}"),
        Ok(account) => bail!("160 MiB and a quota of 4 MiB held 256 MiB: {account:?}"),
    }
    file.is_right(&guest)?;

    // The driver has to find first that there is room again.
    bed::settles(&daemon, "/vms/vm0/held_bytes", |held| held < SMALL_QUOTA)?;
    let kept = guest.counter("kept_runs")?;
    until("a run to be kept", bed::PROMPT, || {
        file.reclaim(&guest)?;
        if guest.counter("kept_runs")? > kept {
            return Ok(Some(()));
        }
        file.is_right(&guest)?;
        Ok(None)
    })?;
    takes_them(&daemon, guest, &file)?;
    daemon.stop()
}

/// Has the device get all of `far`, and the guest keep a part of `near`.
fn divide(daemon: &Daemon, guest: &Guest, far: &File, near: &File) -> Result<()> {
    daemon.set_quota("vm0", LARGE_QUOTA)?;
    far.reclaim(guest)?;
    all_stored(daemon, guest)?;
    // Some of what comes is taken, so that the driver does not hear that the device is full before.
    let held = daemon.stats()?.number("/vms/vm0/held_bytes")?;
    daemon.set_quota("vm0", held + SLACK)?;
    let kept = guest.counter("kept_runs")?;
    near.reclaim(guest)?;
    until("a run to be kept", bed::PROMPT, || {
        Ok((guest.counter("kept_runs")? > kept).then_some(()))
    })
}

#[test]
fn staged_pages_outlast_their_device() -> Result<()> {
    let daemon = bed::daemon(DaemonOptions::default())?;
    let mut guest = bed::guest("staged-lost", 160, &daemon, "vm0")?;
    guest.swap_on_with(&format!("{STAGED} reattach_timeout=2"))?;
    guest.sh(FILES)?;
    let near = File::new(&guest, "near", 2)?;
    let far = File::new(&guest, "far", 16)?;

    // The device comes back late. What is read before fails for good: the kernel remembers it of a file.
    divide(&daemon, &guest, &far, &near)?;
    guest.unplug()?;
    guest.says("has not come back within 2 s", bed::PROMPT)?;
    guest.plug(&daemon.socket("vm0"))?;
    guest.says("the device is back with all pages", bed::PROMPT)?;
    far.is_right(&guest)?;
    near.is_right(&guest)?;

    // Another one comes, without its pages.
    divide(&daemon, &guest, &far, &near)?;
    guest.unplug()?;
    daemon.stop()?;
    let other = bed::daemon(DaemonOptions::default())?;
    guest.plug(&other.socket("vm0"))?;
    guest.says("came back without the pages", bed::PROMPT)?;
    far.is_unreadable(&guest)?;
    near.is_never_wrong(&guest)?;
    guest.run("busybox rm /files/far /files/near")?;
    guest.swap_on_anew()?;
    let file = File::new(&guest, "file", 4)?;
    file.reclaim(&guest)?;
    file.is_right(&guest)?;
    guest.run("swapoff /dev/tmem0")?;
    guest.run("rmmod virtio_tmem")?;
    guest.power_off()?;
    other.stop()
}
