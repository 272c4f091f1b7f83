// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Disks that cut bios and submit their rest again, to themselves: device
//! mapper and md. The rest of what a filter has passed on is not a new bio.

use crate::bed;
use crate::filter;
use crate::filter::control;
use anyhow::Result;
use anyhow::ensure;
use tmem_e2e::DaemonOptions;
use tmem_e2e::Drive;
use tmem_e2e::Guest;
use tmem_e2e::Image;
use tmem_e2e::until;

/// Sizes in MiB: of each disk below, and of what is written above.
const SIZE: u64 = 64;
const WRITTEN: u64 = 8;

/// A disk above others.
struct Stack {
    name: &'static str,
    /// Makes it.
    make: String,
    /// Where it is then.
    disk: &'static str,
    /// Other disks that get a filter, too.
    also: &'static [&'static str],
    /// Takes it away again.
    remove: &'static str,
}

fn stacks() -> Vec<Stack> {
    let sectors = SIZE << 11;
    let striped = |chunk: u64| {
        let length = 2 * sectors / (2 * chunk) * (2 * chunk);
        format!("0 {length} striped 2 {chunk} /dev/vda 0 /dev/vdb 0")
    };
    let key = "00112233445566778899aabbccddeeff".repeat(2);
    let table =
        |name: &str, table: &str| format!("dmsetup create --noudevsync {name} --table '{table}'");
    let remove = "dmsetup remove --noudevsync top";
    let plain = |name, make| Stack {
        name,
        make,
        disk: "/dev/dm-0",
        also: &[],
        remove,
    };
    vec![
        // The chunk of LVM, and the smallest: 1,024 rests of one bio.
        plain("striped", table("top", &striped(128))),
        plain("striped finely", table("top", &striped(8))),
        // dm-crypt cuts what is larger than it has pages for.
        plain(
            "crypt",
            table(
                "top",
                &format!("0 {sectors} crypt aes-xts-plain64 {key} 0 /dev/vda 0"),
            ),
        ),
        Stack {
            name: "snapshot",
            make: table(
                "top",
                &format!("0 {sectors} snapshot /dev/vda /dev/vdb N 8"),
            ),
            disk: "/dev/dm-0",
            also: &["/dev/vda"],
            remove,
        },
        Stack {
            name: "thin",
            make: format!(
                "busybox dd if=/dev/zero of=/dev/vda bs=4k count=1 && {} && \
                 dmsetup message pool 0 'create_thin 0' && {}",
                table(
                    "pool",
                    &format!("0 {sectors} thin-pool /dev/vda /dev/vdb 128 0")
                ),
                table("top", &format!("0 {sectors} thin /dev/dm-0 0")),
            ),
            disk: "/dev/dm-1",
            also: &[],
            remove: "dmsetup remove --noudevsync top; dmsetup remove --noudevsync pool",
        },
        // md passes the very bio that it gets on to the disks below.
        Stack {
            name: "raid0",
            make: "mdadm --create /dev/md9 --run --level=0 --chunk=4 -n2 /dev/vda /dev/vdb".into(),
            disk: "/dev/md9",
            also: &["/dev/vda", "/dev/vdb"],
            remove: "mdadm --stop /dev/md9; mdadm --zero-superblock /dev/vda /dev/vdb",
        },
        Stack {
            name: "raid5",
            make: "mdadm --create /dev/md9 --run --assume-clean --level=5 --chunk=64 -n3 \
                   /dev/vda /dev/vdb /dev/vdc"
                .into(),
            disk: "/dev/md9",
            also: &["/dev/vdb"],
            remove: "mdadm --stop /dev/md9; mdadm --zero-superblock /dev/vda /dev/vdb /dev/vdc",
        },
    ]
}

/// Writes with bios as large as they get, and reads twice what is there then.
fn use_disk(guest: &Guest, stack: &Stack, how: &str) -> Result<()> {
    let disk = stack.disk;
    let sum = |file: &str| -> Result<String> {
        let line = guest.sh(&format!(
            "echo 3 >/proc/sys/vm/drop_caches; \
             busybox dd if={file} bs=4M count={} 2>/dev/null | busybox sha256sum",
            WRITTEN / 4
        ))?;
        Ok(line.split(' ').next().unwrap_or_default().to_owned())
    };
    guest.sh(&format!(
        "busybox head -c {} /dev/urandom >/content; \
         busybox dd if=/content of={disk} bs=4M {how}; busybox sync",
        WRITTEN << 20
    ))?;
    let want = sum("/content")?;
    for nth in 1..=3 {
        let got = sum(disk)?;
        ensure!(
            got == want,
            "{} {how}: other bytes at reading {nth}",
            stack.name
        );
    }
    guest.healthy()
}

/// The host is asked for what was read before. Of large reads not all blocks are
/// put when the machine is busy, and the host is asked for whole bios only.
fn is_served(guest: &Guest, stack: &Stack) -> Result<()> {
    let what = format!("{}: the host to be asked", stack.name);
    until(&what, bed::PROMPT, || {
        guest.sh(&format!(
            "echo 3 >/proc/sys/vm/drop_caches; \
             busybox dd if={} of=/dev/null bs=16k count=1 2>/dev/null",
            stack.disk
        ))?;
        Ok((control::total(guest, "hits")? > 0).then_some(()))
    })
}

#[test]
fn disks_that_cut_bios_have_filters() -> Result<()> {
    let images = [
        Image::empty(SIZE)?,
        Image::empty(SIZE)?,
        Image::empty(SIZE)?,
    ];
    let drives = images
        .iter()
        .map(|image| Drive::new(image.path()))
        .collect();
    let daemon = bed::daemon(DaemonOptions::default())?;
    let mut guest = filter::guest("split", 352, drives)?;
    guest.load_module_with("precache_eager=1 settle_seconds=0")?;
    guest.plug(&daemon.socket("vm0"))?;
    guest.disk_appears()?;
    for module in [
        "dm_mod",
        "dm_crypt",
        "dm_snapshot",
        "dm_thin_pool",
        "raid0",
        "raid456",
    ] {
        guest.run(&format!("modprobe {module}"))?;
    }
    for stack in stacks() {
        guest.sh(&stack.make)?;
        // In use all the time: filters leave disks that are not.
        control::hold(&guest, stack.disk)?;
        let all: Vec<_> = std::iter::once(&stack.disk).chain(stack.also).collect();
        for disk in &all {
            control::attach(&guest, disk, "precache")?;
        }
        use_disk(&guest, &stack, "conv=fsync")?;
        use_disk(&guest, &stack, "oflag=direct")?;
        let puts = control::total(&guest, "puts")?;
        ensure!(puts > 0, "{}: the host was given nothing", stack.name);
        is_served(&guest, &stack)?;
        for disk in all {
            control::detach(&guest, disk)?;
        }
        control::let_go(&guest)?;
        guest.sh(stack.remove)?;
    }
    guest.run("rmmod virtio_tmem")?;
    guest.power_off()?;
    daemon.stop()
}
