// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What should be attached, and as what.

use super::mounts::Mount;
use super::swaps::Place;
use super::{Disks, System};
use crate::disk::Number;
use crate::terms::PAGE_BYTES;
use crate::uapi::Kind;

/// File systems that are attached without being asked for by name.
const SUITABLE: [&str; 6] = ["ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs"];

/// File systems on disks that other machines write to.
const SHARED: [&str; 2] = ["gfs2", "ocfs2"];

/// Why nothing is attached in a confidential guest without being asked for by
/// name.
pub(crate) const CONFIDENTIAL: &str = "this guest's memory is encrypted (SEV, TDX), and the host \
    would get its pages in the clear; name the device to attach it nevertheless";

/// Why a disk is not attached on which there is dm-crypt.
const ENCRYPTED: &str = "encrypted (dm-crypt), and the host would get its pages in the clear; \
    name it to attach it nevertheless";

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

    /// What one who attaches `device`, by its `name`, as `kind` has to know.
    pub(crate) fn warnings(
        &self,
        device: Number,
        name: &str,
        kind: Kind,
        disks: &impl Disks,
    ) -> Vec<String> {
        let mut warnings = Vec::new();
        if disks.is_encrypted(device) {
            warnings.push(format!(
                "{name} is encrypted (dm-crypt), and the host gets its pages in the clear"
            ));
        }
        if let (Kind::Precache | Kind::Victim | Kind::Shared, Some(size)) =
            (kind, self.small_blocks(device, disks))
        {
            warnings.push(format!("the file system on {name} has {}", small(size)));
        }
        warnings
    }

    /// Bytes in a block of the file system on `device`, if they are fewer than a
    /// page has.
    pub(crate) fn small_blocks(&self, device: Number, disks: &impl Disks) -> Option<u64> {
        let mount = self.mounts.iter().find(|mount| mount.device == device)?;
        small_blocks(mount, disks)
    }

    /// What the disks are used for, each once: first the file systems, then
    /// swap.
    pub(crate) fn candidates(&self, disks: &impl Disks) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        let mut seen = Vec::new();
        for mount in &self.mounts {
            for device in self.devices(mount, disks) {
                // Bind mounts and subvolumes.
                if !seen.contains(&device) {
                    seen.push(device);
                    candidates.push(mounted(mount, device, disks));
                }
            }
        }
        for swap in &self.swaps {
            let (name, verdict) = match swap.place {
                Place::Device(Some(device)) => {
                    let name = disks.name(device);
                    let verdict = if let Some(what) = not_a_disk(&name) {
                        Verdict::Skip(what.into())
                    } else if disks.is_encrypted(device) {
                        Verdict::Skip(ENCRYPTED.into())
                    } else {
                        Verdict::Attach(device, Kind::Preswap)
                    };
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
    fn devices(&self, mount: &Mount, disks: &impl Disks) -> Vec<Number> {
        if mount.kind != "btrfs" {
            let is_block = mount.device.major != 0;
            return is_block.then_some(mount.device).into_iter().collect();
        }
        let Some(source) = disks.number(&mount.source) else {
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

/// Bytes in a block of a mounted file system, if they are fewer than a page has.
fn small_blocks(mount: &Mount, disks: &impl Disks) -> Option<u64> {
    let size = disks.block_size(mount.device, &mount.point)?;
    (size < PAGE_BYTES).then_some(size)
}

/// What blocks that are smaller than pages are good for.
fn small(size: u64) -> String {
    format!(
        "blocks of {size} bytes, and precache serves reads of whole pages of {PAGE_BYTES}: it \
         has next to nothing to do"
    )
}

fn mounted(mount: &Mount, device: Number, disks: &impl Disks) -> Candidate {
    let name = disks.name(device);
    let kind = mount.kind.as_str();
    let verdict = if SHARED.contains(&kind) {
        Verdict::Skip("other machines write to the same disk".into())
    } else if let Some(what) = not_a_disk(&name) {
        Verdict::Skip(what.into())
    } else if !SUITABLE.contains(&kind) {
        Verdict::Skip(format!("{kind} is attached only when its device is named"))
    } else if disks.is_encrypted(device) {
        Verdict::Skip(ENCRYPTED.into())
    } else if let Some(size) = small_blocks(mount, disks) {
        Verdict::Skip(format!("it has {}", small(size)))
    } else {
        Verdict::Attach(device, Kind::Precache)
    };
    Candidate {
        name,
        used: format!("{kind} on {}", mount.point),
        verdict,
    }
}

#[cfg(test)]
mod tests;
