// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How a kernel is started: loaded into memory by its own format, told of the
//! machine in the "zero page", and entered in 64-bit mode (Linux,
//! Documentation/arch/x86/boot.rst, "64-bit Boot Protocol").

mod elf;
mod field;
mod initrd;
mod kernel;
mod kind;
mod params;
pub mod registers;
pub mod reset_vector;

pub use initrd::Initrd;
pub use kernel::Kernel;

use std::path::Path;

use anyhow::{Context, Result, ensure};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::layout;

/// What to boot.
#[derive(Debug)]
pub struct Boot<'a> {
    /// A bzImage or an ELF file.
    pub kernel: &'a Path,
    /// An initial ramdisk.
    pub initrd: Option<&'a Path>,
    /// The kernel's command line.
    pub command_line: &'a str,
    /// Address of the ACPI root pointer.
    pub acpi: u64,
}

/// Loads everything; returns where the first vCPU begins.
///
/// # Errors
/// A sentence about a file that cannot be read, is of another kind, or does
/// not fit.
pub fn load(memory: &GuestMemoryMmap, boot: &Boot<'_>) -> Result<u64> {
    let kernel = Kernel::load(memory, boot.kernel)?;
    let initrd = boot
        .initrd
        .map(|path| Initrd::load(memory, path, &kernel))
        .transpose()?;
    let most = kernel.longest_command_line();
    let size = write_command_line(memory, boot.command_line, most)?;
    params::write(memory, &kernel, initrd, size, boot.acpi)?;
    Ok(kernel.entry)
}

/// Writes the command line; returns its length without the final zero.
fn write_command_line(memory: &GuestMemoryMmap, text: &str, most: usize) -> Result<u32> {
    ensure!(
        text.len() <= most,
        "the kernel command line has {} bytes, and this kernel takes at most {most}; give a \
         shorter --cmdline",
        text.len()
    );
    ensure!(
        !text.contains('\0'),
        "the kernel command line contains a zero byte; leave it out"
    );
    let bytes: Vec<u8> = text.bytes().chain([0]).collect();
    memory
        .write_slice(&bytes, GuestAddress(layout::COMMAND_LINE))
        .context("the kernel command line does not fit into the guest's memory")?;
    Ok(u32::try_from(text.len()).unwrap_or_default())
}

#[cfg(test)]
mod tests;
