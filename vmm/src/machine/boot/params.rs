// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the kernel is told: the "zero page" (Linux,
//! Documentation/arch/x86/zero-page.rst).

use anyhow::{Context, Result};
use linux_loader::loader::bootparam::{boot_e820_entry, boot_params};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

use super::{Initrd, Kernel};
use crate::machine::layout;

/// A boot loader without a number of its own.
const UNDEFINED_LOADER: u8 = 0xff;
const BOOT_FLAG: u16 = 0xaa55;
const HEADER_MAGIC: u32 = u32::from_le_bytes(*b"HdrS");

/// Types of address ranges.
const RAM: u32 = 1;
const RESERVED: u32 = 2;

/// Writes the zero page.
pub(super) fn write(
    memory: &GuestMemoryMmap,
    kernel: &Kernel,
    initrd: Option<Initrd>,
    command_line: u32,
    acpi: u64,
) -> Result<()> {
    let mut params = boot_params {
        acpi_rsdp_addr: acpi,
        ..boot_params::default()
    };
    if let Some(header) = kernel.header {
        params.hdr = header;
    } else {
        params.hdr.boot_flag = BOOT_FLAG;
        params.hdr.header = HEADER_MAGIC;
        params.hdr.kernel_alignment = 16 << 20;
    }
    params.hdr.type_of_loader = UNDEFINED_LOADER;
    params.hdr.cmd_line_ptr = u32::try_from(layout::COMMAND_LINE).unwrap_or_default();
    params.hdr.cmdline_size = command_line;
    if let Some(initrd) = initrd {
        params.hdr.ramdisk_image = initrd.address;
        params.hdr.ramdisk_size = initrd.size;
    }
    let map = memory_map(memory);
    params.e820_entries = u8::try_from(map.len()).unwrap_or_default();
    for (entry, (addr, end, kind)) in params.e820_table.iter_mut().zip(map) {
        *entry = boot_e820_entry {
            addr,
            size: end - addr,
            r#type: kind,
        };
    }
    memory
        .write_obj(params, GuestAddress(layout::BOOT_PARAMS))
        .context("the guest's memory has no room for the boot parameters")
}

/// The ranges of memory: begin, end, type.
fn memory_map(memory: &GuestMemoryMmap) -> Vec<(u64, u64, u32)> {
    let mut map = vec![
        (0, layout::BASE_MEMORY_END, RAM),
        (layout::BASE_MEMORY_END, layout::KERNEL, RESERVED),
    ];
    for region in memory.iter() {
        let start = region.start_addr().0;
        map.push((start.max(layout::KERNEL), start + region.len(), RAM));
    }
    map
}
