// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Where a guest's pages go when it does not need them: the variants that are
//! compared.

use serde::Serialize;

/// A variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Way {
    /// Nowhere.
    Nothing,
    /// Free memory is reported to QEMU's balloon.
    Reporting,
    /// And the guest has a swap disk in its own memory, compressed.
    Zram,
    /// And the guest has a swap disk that is a file of the host's.
    Disk,
    /// The guest has virtio-tmem, for swap and for what is free.
    Tmem,
}

impl Way {
    /// All, in the order of the report.
    pub(crate) const ALL: [Self; 5] = [
        Self::Nothing,
        Self::Reporting,
        Self::Zram,
        Self::Disk,
        Self::Tmem,
    ];

    /// For the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Reporting => "free page reporting",
            Self::Zram => "zram, reporting",
            Self::Disk => "virtio-blk swap, reporting",
            Self::Tmem => "virtio-tmem",
        }
    }

    /// On the command line.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Reporting => "reporting",
            Self::Zram => "zram",
            Self::Disk => "disk",
            Self::Tmem => "tmem",
        }
    }

    /// Whether QEMU's balloon is told of free memory.
    pub(crate) fn has_balloon(self) -> bool {
        matches!(self, Self::Reporting | Self::Zram | Self::Disk)
    }

    /// The guest's swap disk.
    pub(crate) fn swap(self) -> Option<&'static str> {
        match self {
            Self::Nothing | Self::Reporting => None,
            Self::Zram => Some("/dev/zram0"),
            Self::Disk => Some("/dev/vda"),
            Self::Tmem => Some("/dev/tmem0"),
        }
    }
}

impl std::str::FromStr for Way {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|way| way.word() == text)
            .ok_or_else(|| format!("'{text}' is none of nothing, reporting, zram, disk, tmem"))
    }
}
