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

/// What is known of the devices above.
#[derive(Default)]
struct Known {
    encrypted: Vec<&'static str>,
    block_sizes: Vec<(&'static str, u64)>,
}

impl Disks for Known {
    fn name(&self, device: Number) -> String {
        name(device)
    }

    fn number(&self, path: &str) -> Option<Number> {
        number(path)
    }

    fn is_encrypted(&self, device: Number) -> bool {
        self.encrypted.contains(&&*name(device))
    }

    fn block_size(&self, _: Number, point: &str) -> Option<u64> {
        let (_, size) = self.block_sizes.iter().find(|(known, _)| *known == point)?;
        Some(*size)
    }
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
    plan_with(system, &Known::default())
}

fn plan_with(system: &System, disks: &impl Disks) -> Vec<(String, String, String)> {
    let candidates = system.candidates(disks);
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
    struct Untouched;

    impl Disks for Untouched {
        fn name(&self, device: Number) -> String {
            panic!("{device} was looked at")
        }

        fn number(&self, path: &str) -> Option<Number> {
            panic!("{path} was looked at")
        }

        fn is_encrypted(&self, device: Number) -> bool {
            panic!("{device} was looked at")
        }

        fn block_size(&self, _: Number, point: &str) -> Option<u64> {
            panic!("{point} was looked at")
        }
    }
    assert_eq!(system.candidates(&Untouched), []);
}

#[test]
fn what_is_encrypted_is_attached_only_by_name() {
    let system = system(
        "1 1 254:1 / / rw - ext4 /dev/vda1 rw\n\
         2 1 0:31 / /data rw - btrfs /dev/vdb rw\n",
        "/dev/vda2 partition 1 0 -1\n",
        &[("0a", "/dev/vdb"), ("0a", "/dev/vdc")],
    );
    let disks = Known {
        encrypted: vec!["/dev/vda1", "/dev/vda2", "/dev/vdc"],
        ..Known::default()
    };
    let plan = plan_with(&system, &disks);
    let skipped: Vec<_> = plan
        .iter()
        .filter(|(_, _, verdict)| verdict.contains("in the clear"))
        .map(|(name, ..)| name.as_str())
        .collect();
    assert_eq!(skipped, ["/dev/vda1", "/dev/vdc", "/dev/vda2"]);
    assert_eq!(
        plan[1],
        line("/dev/vdb", "btrfs on /data", "254:16 Precache")
    );

    let (root, swap) = (number("/dev/vda1").unwrap(), number("/dev/vda2").unwrap());
    for (device, kind) in [(root, Kind::Precache), (swap, Kind::Preswap)] {
        let warnings = system.warnings(device, &name(device), kind, &disks);
        assert!(warnings[0].contains("in the clear"), "{warnings:?}");
        assert_eq!(system.objection(device, &name(device), kind), None);
    }
    let other = number("/dev/vdb").unwrap();
    assert!(
        system
            .warnings(other, "/dev/vdb", Kind::Precache, &disks)
            .is_empty()
    );
}

#[test]
fn file_systems_with_small_blocks_are_attached_only_by_name() {
    let system = system(
        "1 1 254:1 / / rw - ext4 /dev/vda1 rw\n\
         2 1 254:16 / /boot rw - ext4 /dev/vdb rw\n",
        "",
        &[],
    );
    let disks = Known {
        block_sizes: vec![("/", 4096), ("/boot", 1024)],
        ..Known::default()
    };
    let plan = plan_with(&system, &disks);
    assert_eq!(plan[0], line("/dev/vda1", "ext4 on /", "254:1 Precache"));
    assert!(plan[1].2.contains("blocks of 1024 bytes"), "{plan:?}");

    let boot = number("/dev/vdb").unwrap();
    let warnings = |kind| system.warnings(boot, "/dev/vdb", kind, &disks);
    assert!(warnings(Kind::Precache)[0].contains("blocks of 1024 bytes"));
    assert!(warnings(Kind::Preswap).is_empty());
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
