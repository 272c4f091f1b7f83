// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A kernel file in memory.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use linux_loader::loader::bootparam::setup_header;
use linux_loader::loader::{BzImage, Elf, KernelLoader};
use rustix::io::pread;
use tmem_host::size;
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

use crate::machine::layout;

/// The signature of the boot protocol, "HdrS", at its place in the file.
const HEADER: (u64, &[u8; 4]) = (0x202, b"HdrS");

/// First bytes of an ELF file.
const ELF: (u64, &[u8; 4]) = (0, b"\x7fELF");

/// XLF_KERNEL_64: the kernel has a 64-bit entry point, this far into it.
const XLF_KERNEL_64: u16 = 1;
const ENTRY_64: u64 = 0x200;

/// A loaded kernel.
#[derive(Debug)]
pub struct Kernel {
    /// Where the first vCPU begins.
    pub entry: u64,
    /// First address that the kernel does not use while it starts.
    pub end: u64,
    /// The boot protocol's header, if the file has one.
    pub header: Option<setup_header>,
}

impl Kernel {
    /// Loads the kernel in `path`.
    ///
    /// # Errors
    /// A sentence about a file that cannot be read, is no kernel, or does not
    /// fit.
    pub fn load(memory: &GuestMemoryMmap, path: &Path) -> Result<Self> {
        let named = path.display();
        let mut file =
            File::open(path).with_context(|| format!("cannot open the kernel '{named}'"))?;
        let kind = file
            .metadata()
            .with_context(|| format!("cannot read the kernel '{named}'"))?;
        ensure!(kind.is_file(), "the kernel '{named}' is not a file");
        let begins = |(at, magic): (u64, &[u8; 4])| {
            let mut bytes = [0; 4];
            pread(&file, &mut bytes, at) == Ok(4) && bytes == *magic
        };
        if begins(HEADER) {
            Self::bzimage(memory, &mut file).with_context(|| format!("the kernel '{named}'"))
        } else if begins(ELF) {
            Self::elf(memory, &mut file).with_context(|| format!("the kernel '{named}'"))
        } else {
            bail!(
                "'{named}' is no kernel: neither a bzImage (as in /boot/vmlinuz-…) nor an ELF file"
            )
        }
    }

    fn bzimage(memory: &GuestMemoryMmap, file: &mut File) -> Result<Self> {
        let start = Some(GuestAddress(layout::KERNEL));
        let loaded =
            BzImage::load(memory, start, file, start).map_err(|error| does_not_load(&error))?;
        let header = loaded
            .setup_header
            .ok_or_else(|| anyhow!("it has no boot header"))?;
        ensure!(
            header.xloadflags & XLF_KERNEL_64 != 0,
            "it has no 64-bit entry point; give a 64-bit kernel"
        );
        // It unpacks itself to its preferred address, and needs init_size there.
        let unpacked = header.pref_address.saturating_add(header.init_size.into());
        let low = memory
            .find_region(GuestAddress(0))
            .map_or(0, GuestMemoryRegion::len);
        ensure!(
            unpacked <= low,
            "it needs {} of memory to start, of which there are {}; give more with --memory",
            size::show(unpacked),
            size::show(low)
        );
        Ok(Self {
            entry: loaded.kernel_load.0 + ENTRY_64,
            end: loaded.kernel_end.max(unpacked),
            header: Some(header),
        })
    }

    fn elf(memory: &GuestMemoryMmap, file: &mut File) -> Result<Self> {
        let lowest = Some(GuestAddress(layout::KERNEL));
        let loaded =
            Elf::load(memory, None, file, lowest).map_err(|error| does_not_load(&error))?;
        Ok(Self {
            entry: loaded.kernel_load.0,
            end: loaded.kernel_end,
            header: None,
        })
    }
}

impl Kernel {
    /// Most bytes of a command line that the kernel takes.
    pub fn longest_command_line(&self) -> usize {
        let room = layout::COMMAND_LINE_SIZE - 1;
        match self.header {
            // Before version 2.06 of the protocol, which has no 64-bit entry
            // point either, it is not said.
            Some(header) if header.cmdline_size != 0 => {
                usize::try_from(header.cmdline_size).map_or(room, |most| most.min(room))
            }
            _ => room,
        }
    }
}

/// The library's errors are terse; memory that is too small is what happens.
fn does_not_load(error: &linux_loader::loader::Error) -> anyhow::Error {
    anyhow!(
        "it cannot be loaded ({error}): it is damaged, or the guest's memory is too small for it; \
         give more with --memory"
    )
}
