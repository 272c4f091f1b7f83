// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Verified shares: guests of no trust domain read an image once, below dm-verity. One that puts what is not
//! of the image is refused.

use super::shared::FILE;
use super::shared::FILES;
use super::shared::comes_to;
use super::shared::guest;
use super::shared::read_tree;
use super::shared::served;
use super::shared::sums;
use super::shared::sums_here;
use super::shared::tree;
use super::shared::usage;
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
use tmem_e2e::Daemon;
use tmem_e2e::DaemonOptions;
use tmem_e2e::Drive;
use tmem_e2e::Guest;
use tmem_e2e::Image;
use tmem_e2e::Verity;
use tmem_e2e::until;

/// The machines, the last of which is hostile.
const VMS: [&str; 3] = ["vm0", "vm1", "vm2"];

/// What attaches the share to the data device, whose hashes are on the other one.
const HASHES: &str = "--verity /dev/vdb /dev/vda";

/// A share for the image that the operator has given to all machines, and its UUID.
fn share(daemon: &Daemon, verity: &Verity) -> Result<String> {
    let image = json!({ "salt": verity.salt, "root_hash": verity.root_hash });
    let wanted = json!({ "name": "golden", "verified": image, "vms": VMS });
    let made = daemon.ask("POST", "/v1/shares", &wanted)?;
    let uuid = made.get("uuid").and_then(Value::as_str);
    Ok(uuid.context("the share has no UUID")?.to_owned())
}

/// Pages in the share.
fn pages(daemon: &Daemon) -> Result<u64> {
    let share = daemon.ask("GET", "/v1/shares/golden", &Value::Null)?;
    share
        .get("pages")
        .and_then(Value::as_u64)
        .context("no pages")
}

/// A guest with the disk and the hash device, and dm-verity on them. Neither can be written to.
fn verified_guest(daemon: &Daemon, vm: &str, data: &Path, verity: &Verity) -> Result<Guest> {
    let drives = [data, &verity.hashes].map(|image| Drive {
        read_only: true,
        ..Drive::new(image)
    });
    let guest = guest(daemon, vm, drives.to_vec())?;
    open(&guest, &verity.table("/dev/vda", "/dev/vdb", 0))?;
    Ok(guest)
}

/// Opens dm-verity.
fn open(guest: &Guest, table: &str) -> Result<()> {
    guest.run("modprobe dm_verity")?;
    guest.sh(&format!(
        "dmsetup create --readonly --noudevsync golden --table '{table}'"
    ))?;
    Ok(())
}

/// Reads that the guest's disk has served so far.
fn requests(guest: &Guest) -> Result<u64> {
    let text = guest.read("/sys/block/vda/stat")?;
    let reads = text.split_whitespace().next();
    Ok(reads.context("no reads")?.parse()?)
}

/// What dm-verity says of the blocks that it has seen: `V` or `C`.
fn verdict(guest: &Guest) -> Result<String> {
    let status = guest.run("dmsetup status golden")?;
    let verdict = status.split_whitespace().nth(3);
    Ok(verdict
        .with_context(|| format!("no verdict in {status:?}"))?
        .into())
}

/// The same disk with other bytes.
fn forgery(image: &Image) -> Result<Image> {
    let forgery = image.copy()?;
    let file = fs::OpenOptions::new().write(true).open(forgery.path())?;
    let mut random = fastrand::Rng::with_seed(filter::seed().into());
    let mut bytes = vec![0; 1 << 20];
    for mib in 0..file.metadata()?.len() >> 20 {
        random.fill(&mut bytes);
        file.write_all_at(&bytes, mib << 20)?;
    }
    Ok(forgery)
}

#[test]
fn guests_that_do_not_trust_each_other_read_an_image_once() -> Result<()> {
    let (dir, image) = tree()?;
    let verity = image.verity(&bed::assets()?)?;
    let (copy, forgery) = (image.copy()?, forgery(&image)?);
    let wanted = sums_here(dir.path(), "part*/*")?;
    let all = FILES * (FILE as u64) * bed::MIB;
    let daemon = bed::daemon(DaemonOptions {
        vms: VMS.into(),
        ..DaemonOptions::default()
    })?;
    let uuid = share(&daemon, &verity)?;

    // What it reads from its disk it puts under the hashes of the image.
    let hostile = verified_guest(&daemon, VMS[2], &forgery.path(), &verity)?;
    control::hold(&hostile, "/dev/vda")?;
    hostile.run(&format!("tmemctl attach --shared {uuid} {HASHES}"))?;
    until("puts that are refused", bed::PROMPT, || {
        sums(&hostile, "/dev", "vda")?;
        Ok((control::total(&hostile, "refused")? > all).then_some(()))
    })?;
    ensure!(control::total(&hostile, "puts")? == 0, "it has put pages");
    ensure!(pages(&daemon)? == 0, "the share has wrong pages");
    let wrong = r#"tmem_device_faults_total{vm="vm2",fault="hash_mismatch"}"#;
    let metrics = daemon.metrics()?;
    let counted = metrics.lines().find_map(|line| line.strip_prefix(wrong));
    ensure!(
        counted.is_some_and(|count| count.trim() != "0"),
        "nobody is told of it:\n{metrics}"
    );

    let start = |vm: &str, image: &Image| -> Result<Guest> {
        let guest = verified_guest(&daemon, vm, &image.path(), &verity)?;
        guest.sh("mkdir /tree; busybox mount -t ext4 -o ro,noload /dev/dm-0 /tree")?;
        guest.run(&format!("tmemctl attach --shared {uuid} {HASHES}"))?;
        ensure!(usage(&guest)? == "used", "{vm} does not use the share");
        Ok(guest)
    };
    let read = |guest: &Guest| read_tree(guest, &wanted);
    let one = start(VMS[0], &image)?;
    let before = requests(&one)?;
    let first = read(&one)?;
    let asked = requests(&one)? - before;
    ensure!(
        first >= all,
        "{first} pages of {all} were read from the disk"
    );
    // Pages are asked for one by one, but the disk is not.
    ensure!(asked < first / 4, "{asked} requests for {first} pages");
    // What there was no room to copy, or no hash for, is put now.
    for _ in 0..2 {
        read(&one)?;
    }
    let two = start(VMS[1], &copy)?;
    let second = read(&two)?;
    ensure!(
        second < first / 4,
        "{second} pages came from the second disk, {first} from the first"
    );
    ensure!(control::total(&two, "hits")? > all / 2, "hits are few");

    // Now it is given what the others have put, and can change nothing about it.
    sums(&hostile, "/dev", "vda")?;
    hostile.run("tmemctl detach /dev/vda")?;
    for guest in [&one, &two] {
        ensure!(read(guest)? < first / 4, "the share is empty");
        ensure!(verdict(guest)? == "V", "dm-verity has found a wrong block");
    }

    // Taken away from one, and given again.
    let give = |vms: &[&str]| daemon.ask("PATCH", "/v1/shares/golden", &json!({ "vms": vms }));
    give(&VMS[..1])?;
    let without = read(&two)?;
    ensure!(without >= all, "only {without} pages came from the disk");
    comes_to(&two, "waiting")?;
    give(&VMS)?;
    comes_to(&two, "used")?;
    ensure!(read(&two)? < first / 4, "nothing came from the share again");

    for guest in [one, two] {
        guest.run("tmemctl detach /dev/vda")?;
        read(&guest)?;
        ensure!(verdict(&guest)? == "V", "dm-verity has found a wrong block");
        guest.sh("busybox umount /tree; dmsetup remove --noudevsync golden")?;
        bed::nothing_lost(&guest)?;
        guest.run("rmmod virtio_tmem")?;
        guest.power_off()?;
    }
    daemon.stop()
}

#[test]
fn what_is_no_verified_share_or_not_below_dm_verity_is_not_attached() -> Result<()> {
    let (_dir, image) = tree()?;
    let verity = image.verity(&bed::assets()?)?;
    let daemon = bed::daemon(DaemonOptions {
        vms: VMS.into(),
        ..DaemonOptions::default()
    })?;
    let uuid = share(&daemon, &verity)?;
    let guest = verified_guest(&daemon, VMS[0], &image.path(), &verity)?;
    let refused = |what: &str, reason: &str| -> Result<()> {
        let (code, said) = guest.try_run(&format!("tmemctl attach --shared {what}"))?;
        ensure!(code != 0 && said.contains(reason), "{what}: {said}");
        ensure!(control::attached(&guest)? == 0, "{what} has a filter");
        Ok(())
    };
    refused(&format!("{uuid} /dev/vda"), "has no share")?;
    let other = "6b1f0c1e-37d5-4a52-9c7e-0d8b2f5a4e11";
    refused(&format!("{other} {HASHES}"), "has no verified share")?;
    refused(
        &format!("{uuid} --verity /dev/vda /dev/vdb"),
        "no superblock",
    )?;
    refused(
        &format!("{uuid} --hash-offset 4096 {HASHES}"),
        "no superblock",
    )?;
    guest.sh("dmsetup remove --noudevsync golden")?;
    refused(&format!("{uuid} {HASHES}"), "no dm-verity")?;
    guest.power_off()?;
    daemon.stop()
}

/// The tree is behind the data. The module has the device open for its hashes, too, and yet sees when nobody
/// else does.
#[test]
fn hashes_may_be_on_the_disk_itself() -> Result<()> {
    let (dir, image) = tree()?;
    let verity = image.verity(&bed::assets()?)?;
    let wanted = sums_here(dir.path(), "part*/*")?;
    let all = FILES * (FILE as u64) * bed::MIB;
    let offset = fs::metadata(image.path())?.len();
    let both = Image::empty((offset >> 20) + 1)?;
    let file = fs::OpenOptions::new().write(true).open(both.path())?;
    file.write_all_at(&fs::read(image.path())?, 0)?;
    file.write_all_at(&fs::read(&verity.hashes)?, offset)?;
    let daemon = bed::daemon(DaemonOptions {
        vms: VMS.into(),
        ..DaemonOptions::default()
    })?;
    let uuid = share(&daemon, &verity)?;
    let drive = Drive {
        read_only: true,
        ..Drive::new(both.path())
    };
    let guest = guest(&daemon, VMS[0], vec![drive])?;
    open(&guest, &verity.table("/dev/vda", "/dev/vda", offset))?;
    guest.sh("mkdir /tree; busybox mount -t ext4 -o ro,noload /dev/dm-0 /tree")?;
    guest.run(&format!(
        "tmemctl attach --shared {uuid} --verity /dev/vda --hash-offset {offset} /dev/vda"
    ))?;
    until("reads from the share", bed::PROMPT, || {
        let before = served(&guest)?;
        ensure!(sums(&guest, "/tree", "part*/*")? == wanted, "wrong bytes");
        Ok((served(&guest)? - before < all / 4).then_some(()))
    })?;
    ensure!(verdict(&guest)? == "V", "dm-verity has found a wrong block");
    guest.sh("busybox umount /tree; dmsetup remove --noudevsync golden")?;
    until("the filter to go", bed::PROMPT, || {
        Ok((control::attached(&guest)? == 0).then_some(()))
    })?;
    bed::nothing_lost(&guest)?;
    guest.run("rmmod virtio_tmem")?;
    guest.power_off()?;
    daemon.stop()
}
