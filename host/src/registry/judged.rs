// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Which device is asked for, and whether what is said goes with it.

use super::disk::Disk;
use super::settings::{LEAST_SWAP, MOST, Said};

/// Most bytes of a swap disk's label.
const LABEL: usize = 16;

/// The label of a disk about which nothing is said.
const NAME: &str = "tmem";

impl Said {
    /// The disk that is asked for, if it is one; of `size` unless something else is said.
    pub(super) fn disk(&self, size: u64) -> Result<Option<Disk>, String> {
        match self.personality.as_deref() {
            None | Some(Disk::NOT_ONE) => return Ok(None),
            Some(Disk::PERSONALITY) => {}
            Some(other) => {
                return Err(format!(
                    "'{other}' is not a personality; write {} or {}",
                    Disk::NOT_ONE,
                    Disk::PERSONALITY
                ));
            }
        }
        let size = match self.size.as_ref() {
            None => size,
            Some(said) => said.bytes()?,
        };
        if !(LEAST_SWAP..=MOST).contains(&size) {
            return Err(format!(
                "a disk of {size} bytes is not possible; give {LEAST_SWAP} to {MOST} bytes, or a size like 8G"
            ));
        }
        match self.on_full.as_deref() {
            None | Some(Disk::ON_FULL) => {}
            Some("spill") => {
                return Err(
                    "on_full cannot be spill: this store has nowhere to spill to, and refuses what is beyond the quota with an I/O error"
                        .into(),
                );
            }
            Some(other) => return Err(format!("'{other}' is not a value of on_full; write error")),
        }
        let label = self.label.as_deref().unwrap_or(NAME);
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if label.len() > LABEL || !label.chars().all(is_plain) {
            return Err(format!(
                "the label of a disk has at most {LABEL} letters, digits, '.', '_' and '-'"
            ));
        }
        Ok(Some(Disk {
            size,
            swapspace: self.swapspace.unwrap_or(true),
            label: label.to_owned(),
        }))
    }

    /// Whether all that is said goes with a disk, or with what is none.
    pub(super) fn goes_with(&self, is_disk: bool) -> Result<(), String> {
        let of_disks = [
            (self.size.is_some(), "size"),
            (self.swapspace.is_some(), "swapspace"),
            (self.label.is_some(), "label"),
            (self.on_full.is_some(), "on_full"),
        ];
        let of_others = [
            (self.ephemeral_quota.is_some(), "ephemeral_quota"),
            (self.max_pools.is_some(), "max_pools"),
            (self.swap_size.is_some(), "swap_size"),
            (self.give_back.is_some(), "give_back"),
        ];
        let said = |all: &[(bool, &'static str)]| {
            let found = all.iter().find(|(is_said, _)| *is_said);
            found.map(|(_, name)| *name)
        };
        if !is_disk && let Some(name) = said(&of_disks) {
            return Err(format!(
                "{name} is a setting of disks: it needs personality blk"
            ));
        }
        if is_disk && let Some(name) = said(&of_others) {
            return Err(format!(
                "a disk has no {name}: that is a setting of personality tmem"
            ));
        }
        if is_disk && self.frozen == Some(true) {
            return Err(
                "a disk cannot be frozen: its guest would see writes fail; lower its quota to keep it from growing"
                    .into(),
            );
        }
        Ok(())
    }
}
