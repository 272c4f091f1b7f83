// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A kernel file in memory.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use linux_loader::loader::bootparam::setup_header;
use linux_loader::loader::{BzImage, Elf, KernelLoader};
use tmem_cli::size;
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

use super::elf;
use super::field::word;
use super::kind::{self, Kind};
use crate::machine::layout;
use crate::peek::peek;

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
        let metadata = file
            .metadata()
            .with_context(|| format!("cannot read the kernel '{named}'"))?;
        ensure!(metadata.is_file(), "the kernel '{named}' is not a file");
        let mut head = vec![0; kind::HEAD];
        let head = peek(&file, &mut head, 0)
            .with_context(|| format!("cannot read the kernel '{named}'"))?;
        let loaded = match kind::of(head) {
            Ok(Kind::BzImage) => Self::bzimage(memory, &mut file, head, metadata.len()),
            Ok(Kind::Elf) => Self::elf(memory, &mut file, metadata.len()),
            Err(what) => bail!("'{named}' {what}"),
        };
        // The guest's memory alone has what the guest is.
        head.fill(0);
        std::hint::black_box(head);
        loaded.with_context(|| format!("the kernel '{named}'"))
    }

    fn bzimage(memory: &GuestMemoryMmap, file: &mut File, head: &[u8], len: u64) -> Result<Self> {
        let low = low_memory(memory);
        check_length(head, len)?;
        ensure!(
            layout::KERNEL.saturating_add(len) <= low,
            "it is too large for {} of memory; give more with --memory",
            size::show(low)
        );
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

    fn elf(memory: &GuestMemoryMmap, file: &mut File, len: u64) -> Result<Self> {
        elf::judge(file, len, low_memory(memory)).map_err(Error::msg)?;
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

/// Bytes of memory from address 0 on.
fn low_memory(memory: &GuestMemoryMmap) -> u64 {
    memory
        .find_region(GuestAddress(0))
        .map_or(0, GuestMemoryRegion::len)
}

/// Compares a bzImage's length with what its header says of it (Linux,
/// Documentation/arch/x86/boot.rst: setup_sects, syssize). Signatures may follow.
fn check_length(head: &[u8], len: u64) -> Result<()> {
    let sectors = match head.get(0x1f1) {
        // As before there was this field.
        Some(0) | None => 4,
        Some(sectors) => u64::from(*sectors),
    };
    let paragraphs = word(head, 0x1f4).unwrap_or_default();
    let whole = 512 * (sectors + 1) + 16 * u64::from(paragraphs);
    ensure!(
        // The last paragraph need not be full.
        len + 16 > whole,
        "it is cut off: it has {len} of {whole} bytes"
    );
    Ok(())
}

/// What was looked for before is not the reason.
fn does_not_load(error: &linux_loader::loader::Error) -> Error {
    anyhow!("it cannot be loaded ({error}): it is damaged")
}
