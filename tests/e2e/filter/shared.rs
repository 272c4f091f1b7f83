// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Shares: what one guest has read from its disk, another one with the same disk reads from the
//! host, until one of the disks changes or the operator takes the share away.

use crate::bed;
use crate::filter;
use crate::filter::control;
use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use serde_json::Value;
use serde_json::json;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;
use tmem_e2e::Daemon;
use tmem_e2e::DaemonOptions;
use tmem_e2e::DaemonPlace;
use tmem_e2e::Drive;
use tmem_e2e::Filesystem;
use tmem_e2e::Guest;
use tmem_e2e::Host;
use tmem_e2e::Image;
use tmem_e2e::until;

/// Size of a disk in MiB.
const SIZE: u64 = 24;

/// Files in the tree, and MiB in each.
pub(super) const FILES: u64 = 6;
pub(super) const FILE: usize = 1;

/// Sectors in a page.
const SECTORS: u64 = 8;

/// The two machines.
const VMS: [&str; 2] = ["vm0", "vm1"];

/// A share that the operator has given to both machines, and its UUID.
fn share(daemon: &Daemon) -> Result<String> {
    share_as(
        daemon,
        &json!({ "name": "golden", "domain": "team-a", "vms": VMS }),
    )
}

fn share_as(daemon: &Daemon, wanted: &Value) -> Result<String> {
    for vm in VMS {
        let domain = json!({ "domain": "team-a" });
        daemon.ask("PATCH", &format!("/v1/vms/{vm}"), &domain)?;
    }
    let made = daemon.ask("POST", "/v1/shares", wanted)?;
    let uuid = made.get("uuid").and_then(Value::as_str);
    Ok(uuid.context("the share has no UUID")?.to_owned())
}

/// Says who has the share.
fn give(daemon: &Daemon, vms: &[&str]) -> Result<()> {
    let vms = json!({ "vms": vms });
    daemon.ask("PATCH", "/v1/shares/golden", &vms).map(|_| ())
}

/// A guest whose device is `vm`, with disks.
pub(super) fn guest(daemon: &Daemon, vm: &str, drives: Vec<Drive>) -> Result<Guest> {
    let mut guest = filter::guest(vm, 288, drives)?;
    guest.load_module()?;
    guest.plug(&daemon.socket(vm))?;
    guest.disk_appears()?;
    Ok(guest)
}

/// Checksums of what `list` names in `dir`, with nothing of it in memory before.
pub(super) fn sums(guest: &Guest, dir: &str, list: &str) -> Result<String> {
    guest.sh(&format!(
        "echo 3 >/proc/sys/vm/drop_caches; cd {dir}; busybox sha256sum {list}"
    ))
}

/// The same of this machine.
pub(super) fn sums_here(dir: &Path, list: &str) -> Result<String> {
    let script = format!("sha256sum {list}");
    let output = Command::new("sh")
        .args(["-euc", &script])
        .current_dir(dir)
        .output()
        .context("cannot start sha256sum")?;
    ensure!(output.status.success(), "{script}: {output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

/// Reads all files of the tree, which should be as they were `wanted`; how many pages of them the disk
/// has served.
pub(super) fn read_tree(guest: &Guest, wanted: &str) -> Result<u64> {
    let before = served(guest)?;
    let found = sums(guest, "/tree", "part*/*")?;
    ensure!(found == wanted, "{} has read:\n{found}", guest.name());
    Ok(served(guest)? - before)
}

/// Pages that the guest's disk has served so far.
pub(super) fn served(guest: &Guest) -> Result<u64> {
    let text = guest.read("/sys/block/vda/stat")?;
    let sectors = text.split_whitespace().nth(2);
    let sectors: u64 = sectors.context("no sectors")?.parse()?;
    Ok(sectors / SECTORS)
}

/// What becomes of the share.
pub(super) fn usage(guest: &Guest) -> Result<String> {
    let status = bed::json(guest, "tmemctl status --json")?;
    let usage = status.pointer("/filters/0/share/use");
    let usage = usage.and_then(Value::as_str);
    Ok(usage.with_context(|| format!("no use in {status}"))?.into())
}

pub(super) fn comes_to(guest: &Guest, wanted: &str) -> Result<()> {
    until(wanted, bed::PROMPT, || {
        Ok((usage(guest)? == wanted).then_some(()))
    })
}

/// A file system with some files, of which nothing repeats.
pub(super) fn tree() -> Result<(TempDir, Image)> {
    let dir = tempfile::tempdir()?;
    let mut random = fastrand::Rng::with_seed(filter::seed().into());
    for number in 0..FILES {
        let place = dir.path().join(format!("part{}", number % 2));
        fs::create_dir_all(&place)?;
        let mut bytes = vec![0; FILE << 20];
        random.fill(&mut bytes);
        fs::write(place.join(format!("file{number}")), bytes)?;
    }
    let mut image = Image::empty(SIZE)?;
    let from = dir.path().display().to_string();
    image.format_with(&bed::assets()?, Filesystem::Ext4, &["-d", &from])?;
    Ok((dir, image))
}

#[test]
fn a_guest_reads_what_another_one_has_read_as_long_as_it_has_the_share() -> Result<()> {
    let (dir, image) = tree()?;
    let copy = image.copy()?;
    let wanted = sums_here(dir.path(), "part*/*")?;
    let all = FILES * (FILE as u64) * bed::MIB;
    let daemon = bed::daemon(DaemonOptions {
        vms: VMS.into(),
        ..DaemonOptions::default()
    })?;
    let uuid = share(&daemon)?;
    let start = |vm: &str, image: &Image| -> Result<Guest> {
        let drive = Drive {
            read_only: true,
            ..Drive::new(image.path())
        };
        let guest = guest(&daemon, vm, vec![drive])?;
        guest.sh("mkdir /tree; busybox mount -t ext4 -o ro,noload /dev/vda /tree")?;
        guest.run(&format!("tmemctl attach --shared {uuid} /dev/vda"))?;
        ensure!(usage(&guest)? == "used", "{vm} does not use the share");
        Ok(guest)
    };
    let read = |guest: &Guest| read_tree(guest, &wanted);

    let one = start(VMS[0], &image)?;
    let first = read(&one)?;
    ensure!(
        first >= all,
        "{first} pages of {all} were read from the disk"
    );
    // What there was no room to copy is put now.
    read(&one)?;
    let two = start(VMS[1], &copy)?;
    let second = read(&two)?;
    ensure!(
        second < first / 4,
        "{second} pages came from the second disk, {first} from the first"
    );
    ensure!(control::total(&two, "hits")? > all / 2, "hits are few");

    // Taken away from one, and given again.
    give(&daemon, &VMS[..1])?;
    let without = read(&two)?;
    ensure!(without >= all, "only {without} pages came from the disk");
    comes_to(&two, "waiting")?;
    ensure!(usage(&one)? == "used", "the other has lost it");
    give(&daemon, &VMS)?;
    comes_to(&two, "used")?;
    ensure!(read(&two)? < all / 4, "nothing came from the share again");

    // Removed altogether.
    daemon.ask("DELETE", "/v1/shares/golden", &Value::Null)?;
    for guest in [&one, &two] {
        ensure!(read(guest)? >= all, "pages of a share that is gone");
        comes_to(guest, "waiting")?;
    }
    for guest in [one, two] {
        guest.run("tmemctl detach /dev/vda")?;
        read(&guest)?;
        bed::nothing_lost(&guest)?;
        guest.run("rmmod virtio_tmem")?;
        guest.power_off()?;
    }
    daemon.stop()
}

/// A disk full of bytes, of which nothing repeats.
fn disk() -> Result<Image> {
    let image = Image::empty(SIZE)?;
    let file = fs::OpenOptions::new().write(true).open(image.path())?;
    let mut random = fastrand::Rng::with_seed(filter::seed().into());
    let mut bytes = vec![0; 1 << 20];
    for mib in 0..SIZE {
        random.fill(&mut bytes);
        file.write_all_at(&bytes, mib << 20)?;
    }
    Ok(image)
}

/// Checksum of a guest's disk.
fn sum(guest: &Guest) -> Result<String> {
    let line = sums(guest, "/dev", "vda")?;
    Ok(line.split(' ').next().unwrap_or_default().to_owned())
}

#[test]
fn a_write_ends_the_use_of_a_share_and_others_never_read_it() -> Result<()> {
    let image = disk()?;
    let copy = image.copy()?;
    let line = sums_here(image.path().parent().context("no directory")?, "disk.raw")?;
    let wanted = line.split(' ').next().unwrap_or_default().to_owned();
    let daemon = bed::daemon(DaemonOptions {
        vms: VMS.into(),
        ..DaemonOptions::default()
    })?;
    let uuid = share(&daemon)?;
    let attach = |guest: &Guest, uuid: &str, more: &str| {
        guest.try_run(&format!("tmemctl attach --shared {uuid} {more} /dev/vda"))
    };
    let one = guest(&daemon, VMS[0], vec![Drive::new(image.path())])?;
    control::hold(&one, "/dev/vda")?;
    let (code, said) = attach(&one, &uuid, "")?;
    ensure!(code != 0 && said.contains("--immutable"), "{said}");
    let (code, said) = attach(&one, "6b1f0c1e-37d5-4a52-9c7e-0d8b2f5a4e11", "--immutable")?;
    ensure!(code != 0 && said.contains("has no share"), "{said}");
    ensure!(control::attached(&one)? == 0, "a filter is there");

    let (code, said) = attach(&one, &uuid, "--immutable")?;
    ensure!(code == 0, "{said}");
    for _ in 0..2 {
        ensure!(sum(&one)? == wanted, "wrong bytes before the write");
    }
    ensure!(
        control::total(&one, "puts")? > SIZE * bed::MIB / 2,
        "puts are few"
    );
    // The last page that was read is the first that would be put again.
    one.sh("busybox head -c 4096 /dev/zero | \
         busybox dd of=/dev/vda bs=4096 seek=1000 conv=notrunc,fsync 2>/dev/null")?;
    ensure!(usage(&one)? == "written", "the share is used after a write");
    let status = one.run("tmemctl status")?;
    ensure!(status.contains("was written to"), "{status}");
    let before = served(&one)?;
    let written = sum(&one)?;
    ensure!(written != wanted, "what was written is not read");
    ensure!(
        served(&one)? - before >= SIZE * bed::MIB,
        "pages came from elsewhere than the disk"
    );
    ensure!(sum(&one)? == written, "other bytes the second time");

    let two = guest(&daemon, VMS[1], vec![Drive::new(copy.path())])?;
    control::hold(&two, "/dev/vda")?;
    let (code, said) = attach(&two, &uuid, "--immutable")?;
    ensure!(code == 0, "{said}");
    for _ in 0..2 {
        ensure!(sum(&two)? == wanted, "the other guest's write is read");
    }
    ensure!(
        control::total(&two, "hits")? > SIZE * bed::MIB / 2,
        "hits are few"
    );

    for guest in [one, two] {
        guest.run("tmemctl detach /dev/vda")?;
        control::let_go(&guest)?;
        bed::nothing_lost(&guest)?;
        guest.run("rmmod virtio_tmem")?;
        guest.power_off()?;
    }
    daemon.stop()
}

/// The daemon keeps neither the share nor who may have it: there is no state directory. So the guest is
/// without it at first, and has it again when the operator has made it anew.
#[test]
fn a_share_comes_back_after_the_daemon_was_killed() -> Result<()> {
    let (dir, image) = tree()?;
    let wanted = sums_here(dir.path(), "part*/*")?;
    let all = FILES * (FILE as u64) * bed::MIB;
    let place = DaemonPlace::new(
        &Host::here(&bed::assets()?)?,
        DaemonOptions {
            vms: VMS.into(),
            kept: true,
            ..DaemonOptions::default()
        },
    )?;
    let daemon = place.start()?;
    let uuid = share(&daemon)?;
    let drive = Drive {
        read_only: true,
        ..Drive::new(image.path())
    };
    let guest = guest(&daemon, VMS[0], vec![drive])?;
    guest.sh("mkdir /tree; busybox mount -t ext4 -o ro,noload /dev/vda /tree")?;
    guest.run(&format!("tmemctl attach --shared {uuid} /dev/vda"))?;
    let read = || read_tree(&guest, &wanted);
    for _ in 0..2 {
        read()?;
    }
    ensure!(read()? < all / 4, "nothing comes from the share");
    daemon.kill()?;
    let daemon = place.start()?;
    ensure!(read()? >= all, "pages of a share that is gone");
    comes_to(&guest, "waiting")?;

    let again = json!({ "name": "golden", "domain": "team-a", "vms": VMS, "uuid": uuid });
    share_as(&daemon, &again)?;
    comes_to(&guest, "used")?;
    for _ in 0..2 {
        read()?;
    }
    ensure!(read()? < all / 4, "nothing comes from the new share");
    ensure!(guest.counter("reattaches")? == 0, "the device was reset");
    bed::nothing_lost(&guest)?;
    guest.power_off()?;
    daemon.stop()
}
