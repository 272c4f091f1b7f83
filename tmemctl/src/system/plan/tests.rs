// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
use super::*;
use crate::system::btrfs::Member;
use crate::system::{mounts, swaps};

const NAMES: [(&str, &str); 9] = [
    ("254:1", "/dev/vda1"),
    ("254:2", "/dev/vda2"),
    ("254:16", "/dev/vdb"),
    ("254:32", "/dev/vdc"),
    ("254:48", "/dev/vdd"),
    ("254:64", "/dev/vde"),
    ("7:0", "/dev/loop0"),
    ("252:0", "/dev/tmem0"),
    ("251:0", "/dev/zram0"),
];

fn number(name: &str) -> Option<Number> {
    let (number, _) = NAMES.iter().find(|(_, known)| *known == name)?;
    number.parse().ok()
}

fn name(number: Number) -> String {
    let number = number.to_string();
    let known = NAMES.iter().find(|(known, _)| *known == number);
    known.map_or(number.clone(), |(_, name)| (*name).into())
}

fn system(mountinfo: &str, swapped: &str, members: &[(&str, &str)]) -> System {
    System {
        mounts: mounts::parse(mountinfo),
        swaps: swaps::parse(&format!("Filename\n{swapped}"), number),
        members: members
            .iter()
            .map(|(file_system, name)| Member {
                file_system: (*file_system).into(),
                device: number(name).unwrap(),
            })
            .collect(),
    }
}

/// Name, use, and what becomes of each candidate.
fn plan(system: &System) -> Vec<(String, String, String)> {
    let candidates = system.candidates(name, number);
    let verdict = |verdict| match verdict {
        Verdict::Attach(device, kind) => format!("{device} {kind:?}"),
        Verdict::Skip(reason) => reason,
    };
    candidates
        .into_iter()
        .map(|candidate| (candidate.name, candidate.used, verdict(candidate.verdict)))
        .collect()
}

fn line(name: &str, used: &str, verdict: &str) -> (String, String, String) {
    (name.into(), used.into(), verdict.into())
}

#[test]
fn file_systems_and_swap_partitions_are_attached_once() {
    let system = system(
        "1 1 254:1 / / rw - ext4 /dev/vda1 rw\n\
         2 1 254:1 /srv /srv rw - ext4 /dev/vda1 rw\n\
         3 1 0:5 / /proc rw - proc proc rw\n\
         4 1 254:16 / /data rw - xfs /dev/vdb rw\n",
        "/dev/vda2 partition 1 0 -2\n",
        &[],
    );
    assert_eq!(
        plan(&system),
        [
            line("/dev/vda1", "ext4 on /", "254:1 Precache"),
            line("/dev/vdb", "xfs on /data", "254:16 Precache"),
            line("/dev/vda2", "swap", "254:2 Preswap"),
        ]
    );
}

#[test]
fn all_devices_of_a_btrfs_are_attached() {
    let system = system(
        "1 1 0:31 /@ / rw - btrfs /dev/vdb rw\n\
         2 1 0:31 /@home /home rw - btrfs /dev/vdb rw\n\
         3 1 0:44 / /new rw - btrfs /dev/vde rw\n",
        "",
        &[("0a", "/dev/vdb"), ("0a", "/dev/vdc"), ("0b", "/dev/vdd")],
    );
    assert_eq!(
        plan(&system),
        [
            line("/dev/vdb", "btrfs on /", "254:16 Precache"),
            line("/dev/vdc", "btrfs on /", "254:32 Precache"),
            // Not known to sysfs: as far as mountinfo tells.
            line("/dev/vde", "btrfs on /new", "254:64 Precache"),
        ]
    );
}

#[test]
fn what_is_skipped_is_told_with_the_reason() {
    let system = system(
        "1 1 254:16 / /shared rw - gfs2 /dev/vdb rw\n\
         2 1 254:32 / /shared2 rw - ocfs2 /dev/vdc rw\n\
         3 1 7:0 / /image rw - ext4 /dev/loop0 rw\n\
         4 1 254:48 / /boot/efi rw - vfat /dev/vdd rw\n",
        "/swapfile file 1 0 -2\n\
         /dev/tmem0 partition 1 0 100\n\
         /dev/zram0 partition 1 0 50\n\
         /dev/vdz\\040(deleted) partition 1 0 -3\n",
        &[],
    );
    let reasons = [
        ("/dev/vdb", "other machines"),
        ("/dev/vdc", "other machines"),
        ("/dev/loop0", "loop device"),
        ("/dev/vdd", "vfat"),
        ("/swapfile", "swap file"),
        ("/dev/tmem0", "own disk"),
        ("/dev/zram0", "in memory already"),
        ("/dev/vdz (deleted)", "gone"),
    ];
    let plan = plan(&system);
    assert_eq!(plan.len(), reasons.len());
    for ((name, _, verdict), (expected, reason)) in plan.iter().zip(reasons) {
        assert_eq!(name, expected);
        assert!(verdict.contains(reason), "{name}: {verdict}");
    }
}

#[test]
fn sources_of_network_file_systems_are_not_touched() {
    let system = system(
        "1 1 0:50 / /home rw - nfs4 server:/home rw\n\
         2 1 0:51 / /share rw - cifs //server/share rw\n\
         3 1 0:52 / /mnt rw - fuse.sshfs host: rw\n",
        "",
        &[],
    );
    let found = system.candidates(name, |source| panic!("{source} was looked at"));
    assert_eq!(found, []);
}

#[test]
fn an_active_swap_partition_is_preswap_and_all_else_precache() {
    let system = system(
        "",
        "/dev/vda2 partition 1 0 -2\n/swapfile file 1 0 -3\n",
        &[],
    );
    assert_eq!(system.kind(number("/dev/vda2").unwrap()), Kind::Preswap);
    assert_eq!(system.kind(number("/dev/vda1").unwrap()), Kind::Precache);
}

#[test]
fn what_would_lose_data_is_refused_even_by_name() {
    let system = system(
        "1 1 254:1 / / rw - ext4 /dev/vda1 rw\n\
         2 1 254:48 / /shared rw - gfs2 /dev/vdd rw\n\
         3 1 0:31 / /data rw - btrfs /dev/vdb rw\n",
        "",
        &[("0a", "/dev/vdb"), ("0a", "/dev/vdc")],
    );
    let objection = |name: &str, kind| system.objection(number(name).unwrap(), name, kind);
    for (name, kind, words) in [
        ("/dev/vda1", Kind::Preswap, "attach it as precache"),
        ("/dev/vdc", Kind::Preswap, "attach it as precache"),
        ("/dev/vdd", Kind::Precache, "mounted as gfs2"),
        ("/dev/tmem0", Kind::Preswap, "own disk"),
    ] {
        let sentence = objection(name, kind).unwrap();
        assert!(sentence.contains(words), "{sentence}");
    }
    assert_eq!(objection("/dev/vda1", Kind::Precache), None);
    assert_eq!(objection("/dev/vda2", Kind::Preswap), None);
    assert_eq!(objection("/dev/loop0", Kind::Precache), None);
}
