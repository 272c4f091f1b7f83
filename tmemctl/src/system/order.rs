// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! In which order swap areas are used, and where `/dev/tmem0` may be among them.
//!
//! The kernel does not take another area when a device refuses a page: the page
//! keeps its slot, and stays in memory. So what is used after `/dev/tmem0`, or in
//! turns with it, is not used for what the host refuses, and a guest at its quota
//! runs out of memory beside it.

use super::System;
use super::swaps::{Place, Swap};

/// The swap disk.
const DISK: &str = "/dev/tmem0";

impl System {
    /// Swap areas of others.
    fn others(&self) -> impl Iterator<Item = &Swap> {
        self.swaps.iter().filter(|swap| swap.path != DISK)
    }

    /// Why `/dev/tmem0` must not be swapped on. Without a priority of its own it
    /// has -1, as all others that have none, and none is lower.
    pub(crate) fn swap_objection(&self) -> Option<String> {
        if self.swaps.iter().any(|swap| swap.path == DISK) {
            return Some(format!("{DISK} is swapped on already"));
        }
        let first = self.others().find(|swap| swap.priority < 0)?;
        let path = &first.path;
        let way = match first.place {
            Place::Device(Some(_)) => {
                "; with a filter it swaps to the host itself (`tmemctl attach`)"
            }
            _ => "",
        };
        Some(format!(
            "{DISK} stays off: {path} has no priority of its own{way}, so both would be used in \
             turns, and pages that the host refuses would stay in memory and not go to {path}. To \
             have both, give {path} one (pri=10 in /etc/fstab)"
        ))
    }

    /// What is wrong with the order, when the host takes `quota` bytes at most.
    pub(crate) fn swap_warning(&self, quota: u64) -> Option<String> {
        let disk = self.swaps.iter().find(|swap| swap.path == DISK)?;
        // One that is no larger is full before the host refuses for the quota.
        if disk.bytes <= quota {
            return None;
        }
        let other = self.others().find(|swap| swap.priority <= disk.priority)?;
        Some(format!(
            "{DISK} has priority {}, and {} has {}: pages that the host refuses, as at the quota, \
             stay in memory and do not go there. Swap {DISK} off; to have both, give all others \
             a priority (pri=10 in /etc/fstab) and {DISK} none",
            disk.priority, other.path, other.priority
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::swaps;

    fn system(swaps: &[(&str, &str, u64, i32)]) -> System {
        let lines = swaps.iter().map(|(path, kind, mib, priority)| {
            let kib = mib << 10;
            format!("{path} {kind} {kib} 0 {priority}\n")
        });
        let text = format!("Filename\n{}", lines.collect::<String>());
        System {
            swaps: swaps::parse(&text, |_| "254:2".parse().ok()),
            ..System::default()
        }
    }

    #[test]
    fn alone_or_below_all_others_the_disk_may_be_swapped_on() {
        for swaps in [
            &[][..],
            &[("/dev/vda2", "partition", 1024, 0)],
            &[
                ("/dev/zram0", "partition", 512, 100),
                ("/swapfile", "file", 1024, 10),
            ],
        ] {
            assert_eq!(system(swaps).swap_objection(), None, "{swaps:?}");
        }
    }

    #[test]
    fn beside_swap_without_a_priority_it_stays_off() {
        let partition = ("/dev/vda2", "partition", 1024, -1);
        let file = ("/swapfile", "file", 1024, -2);
        for (swaps, words) in [
            (&[partition][..], "tmemctl attach"),
            (&[file], "give /swapfile one (pri=10"),
            (
                &[("/dev/zram0", "partition", 512, 100), partition],
                "/dev/vda2 has no priority",
            ),
            (&[("/dev/tmem0", "partition", 1024, 100)], "already"),
        ] {
            let said = system(swaps).swap_objection().unwrap();
            assert!(said.contains(words), "{said}");
        }
        let said = system(&[file]).swap_objection().unwrap();
        assert!(!said.contains("filter"), "{said}");
    }

    #[test]
    fn what_is_used_after_the_disk_or_in_turns_with_it_is_warned_of() {
        let disk = |mib, priority| ("/dev/tmem0", "partition", mib, priority);
        let quota = 32 << 20;
        for priority in [-1, 10, 100] {
            let said = system(&[disk(1024, 100), ("/dev/vda2", "partition", 1024, priority)])
                .swap_warning(quota)
                .unwrap();
            assert!(said.contains("/dev/tmem0 has priority 100"), "{said}");
            assert!(
                said.contains(&format!("/dev/vda2 has {priority}")),
                "{said}"
            );
        }
        for well in [
            &[][..],
            &[disk(1024, 100)],
            &[("/dev/vda2", "partition", 1024, -1)],
            &[disk(1024, 100), ("/dev/vda2", "partition", 1024, 200)],
            // Full before the quota is reached.
            &[disk(32, 100), ("/swapfile", "file", 1024, -1)],
        ] {
            assert_eq!(system(well).swap_warning(quota), None, "{well:?}");
        }
    }
}
