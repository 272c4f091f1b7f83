// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What should be attached, and as what.

use super::System;
use super::mounts::Mount;
use super::swaps::Place;
use crate::disk::Number;
use crate::uapi::Kind;

/// File systems that are attached without being asked for by name.
const SUITABLE: [&str; 6] = ["ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs"];

/// File systems on disks that other machines write to.
const SHARED: [&str; 2] = ["gfs2", "ocfs2"];

/// A block device in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Its name.
    pub(crate) name: String,
    /// What for, as `ext4 on /home`.
    pub(crate) used: String,
    /// Whether it is to be attached.
    pub(crate) verdict: Verdict,
}

/// Whether something is to be attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is.
    Attach(Number, Kind),
    /// It is not, because of this.
    Skip(String),
}

/// What the device at `name` is, if its content should not be kept in the host
/// a second time.
fn not_a_disk(name: &str) -> Option<&'static str> {
    let name = name.strip_prefix("/dev/")?;
    let numbered = |prefix: &str| {
        name.strip_prefix(prefix)
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    if numbered("tmem") {
        Some("the module's own disk, whose pages are in the host anyway")
    } else if numbered("zram") || numbered("ram") {
        Some("in memory already")
    } else if numbered("loop") {
        Some(
            "a loop device: its file is in a file system that can be attached; name it to attach it nevertheless",
        )
    } else {
        None
    }
}

impl System {
    /// The kind of what is on `device`.
    pub(crate) fn kind(&self, device: Number) -> Kind {
        let here = Place::Device(Some(device));
        if self.swaps.iter().any(|swap| swap.place == here) {
            Kind::Preswap
        } else {
            Kind::Precache
        }
    }

    /// Why `device`, by its `name`, must not be attached as `kind`, even when it
    /// was asked for.
    pub(crate) fn objection(&self, device: Number, name: &str, kind: Kind) -> Option<String> {
        if name.starts_with("/dev/tmem") {
            return not_a_disk(name).map(|what| format!("{name} is {what}"));
        }
        let mount = self.mounts.iter().find(|mount| mount.device == device);
        let is_member = self.members.iter().any(|member| member.device == device);
        match mount {
            Some(mount) if SHARED.contains(&mount.kind.as_str()) => Some(format!(
                "{name} is mounted as {}: other machines write to the same disk, which the host's \
                 copies would not show",
                mount.kind
            )),
            _ if kind == Kind::Preswap && (mount.is_some() || is_member) => Some(format!(
                "{name} is mounted: what is written to it must reach the disk; attach it as \
                 precache"
            )),
            _ => None,
        }
    }

    /// What the disks are used for, each once: first the file systems, then
    /// swap. `name` knows their names, `number` the numbers of sources.
    pub(crate) fn candidates(
        &self,
        name: impl Fn(Number) -> String,
        number: impl Fn(&str) -> Option<Number>,
    ) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        let mut seen = Vec::new();
        for mount in &self.mounts {
            for device in self.devices(mount, &number) {
                // Bind mounts and subvolumes.
                if !seen.contains(&device) {
                    seen.push(device);
                    candidates.push(mounted(mount, device, name(device)));
                }
            }
        }
        for swap in &self.swaps {
            let (name, verdict) = match swap.place {
                Place::Device(Some(device)) => {
                    let name = name(device);
                    let verdict = not_a_disk(&name)
                        .map_or(Verdict::Attach(device, Kind::Preswap), |what| {
                            Verdict::Skip(what.into())
                        });
                    (name, verdict)
                }
                Place::Device(None) => (
                    swap.path.clone(),
                    Verdict::Skip("its device file is gone".into()),
                ),
                Place::File => (
                    swap.path.clone(),
                    Verdict::Skip("a swap file: only swap partitions can be attached".into()),
                ),
            };
            candidates.push(Candidate {
                name,
                used: "swap".into(),
                verdict,
            });
        }
        candidates
    }

    /// The block devices of a mount; none for those without, as of networks,
    /// whose sources are not touched.
    fn devices(&self, mount: &Mount, number: impl Fn(&str) -> Option<Number>) -> Vec<Number> {
        if mount.kind != "btrfs" {
            let is_block = mount.device.major != 0;
            return is_block.then_some(mount.device).into_iter().collect();
        }
        let Some(source) = number(&mount.source) else {
            return Vec::new();
        };
        let of = self.members.iter().find(|member| member.device == source);
        let Some(file_system) = of.map(|member| &member.file_system) else {
            return vec![source];
        };
        self.members
            .iter()
            .filter(|member| member.file_system == *file_system)
            .map(|member| member.device)
            .collect()
    }
}

fn mounted(mount: &Mount, device: Number, name: String) -> Candidate {
    let kind = mount.kind.as_str();
    let verdict = if SHARED.contains(&kind) {
        Verdict::Skip("other machines write to the same disk".into())
    } else if let Some(what) = not_a_disk(&name) {
        Verdict::Skip(what.into())
    } else if SUITABLE.contains(&kind) {
        Verdict::Attach(device, Kind::Precache)
    } else {
        Verdict::Skip(format!("{kind} is attached only when its device is named"))
    };
    Candidate {
        name,
        used: format!("{kind} on {}", mount.point),
        verdict,
    }
}

#[cfg(test)]
mod tests;
