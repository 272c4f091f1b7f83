// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! An initial ramdisk in memory: as high as the kernel can take it.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use tmem_cli::size;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

use super::Kernel;
use crate::machine::layout;

const PAGE: u64 = 4 << 10;

/// A loaded ramdisk.
#[derive(Clone, Copy, Debug)]
pub struct Initrd {
    /// Where it begins.
    pub address: u32,
    /// Its bytes.
    pub size: u32,
}

impl Initrd {
    /// Loads the ramdisk in `path` behind `kernel`.
    ///
    /// # Errors
    /// A sentence about a file that cannot be read or does not fit.
    pub fn load(memory: &GuestMemoryMmap, path: &Path, kernel: &Kernel) -> Result<Self> {
        let named = path.display();
        let mut file =
            File::open(path).with_context(|| format!("cannot open the initrd '{named}'"))?;
        let metadata = file
            .metadata()
            .with_context(|| format!("cannot read the initrd '{named}'"))?;
        ensure!(metadata.is_file(), "the initrd '{named}' is not a file");
        let len = metadata.len();
        ensure!(len > 0, "the initrd '{named}' is empty");
        let low = memory
            .find_region(GuestAddress(0))
            .map_or(0, GuestMemoryRegion::len);
        let most = match kernel.header {
            Some(header) if header.initrd_addr_max != 0 => header.initrd_addr_max.into(),
            _ => layout::INITRD_MAX,
        };
        let end = low.min(most + 1);
        let address = end.checked_sub(len).map(|address| address / PAGE * PAGE);
        let address = address.filter(|address| *address >= kernel.end);
        let address = address.with_context(|| {
            format!(
                "the initrd '{named}' of {} does not fit beside the kernel into {} of memory; give \
                 more with --memory",
                size::show(len),
                size::show(low)
            )
        })?;
        let bytes = usize::try_from(len).unwrap_or(usize::MAX);
        memory
            .read_exact_volatile_from(GuestAddress(address), &mut file, bytes)
            .with_context(|| format!("cannot read the initrd '{named}'"))?;
        Ok(Self {
            // Both lie below 4 GiB, where low memory ends.
            address: u32::try_from(address).context("the initrd lies too high")?,
            size: u32::try_from(len).context("the initrd is too large")?,
        })
    }
}
