// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a file is that was given as a kernel.

use super::field::{half, word};
use crate::compression;

/// Bytes at the begin of a file that are looked at: an EFI program's table of
/// sections lies there.
pub(super) const HEAD: usize = 4096;

/// What can be booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Has the header of Linux's boot protocol.
    BzImage,
    /// An ELF file, of whatever sort.
    Elf,
}

/// What other files are: where a magic number is, and the rest of a sentence that
/// begins with "it is".
const OTHERS: [(usize, &[u8], &str); 9] = [
    // Linux, Documentation/arch/arm64/booting.rst and riscv/boot-image-header.rst.
    (56, b"ARM\x64", "a kernel for arm64"),
    (56, b"RSC\x05", "a kernel for RISC-V"),
    (48, b"RISCV", "a kernel for RISC-V"),
    // Its zImage.
    (36, b"\x18\x28\x6f\x01", "a kernel for 32-bit ARM"),
    (0, b"\x27\x05\x19\x56", "an image for U-Boot"),
    (
        0,
        b"\xd0\x0d\xfe\xed",
        "a device tree, or an image for U-Boot",
    ),
    (0, b"ANDROID!", "an image for Android's boot loader"),
    (0, b"070701", "an initial ramdisk; give it as --initrd"),
    (0, b"QFI\xfb", "a disk image; give a raw one as --disk"),
];

/// The kind of a file that begins with `head`.
///
/// # Errors
/// The end of a sentence that begins with the file's name.
pub(super) fn of(head: &[u8]) -> Result<Kind, String> {
    if head.get(0x202..0x206) == Some(b"HdrS") {
        return Ok(Kind::BzImage);
    }
    if head.starts_with(b"\x7fELF") {
        return Ok(Kind::Elf);
    }
    let other = OTHERS.iter().find(|(at, magic, _)| {
        head.get(*at..)
            .is_some_and(|bytes| bytes.starts_with(magic))
    });
    let what = if let Some(packed) = compression::of(head) {
        format!(
            "a file packed with {}; unpack it with '{}' first",
            packed.name, packed.unpack
        )
    } else if let Some((_, _, what)) = other {
        (*what).into()
    } else if head.starts_with(b"MZ") {
        efi(head)
    } else {
        return Err(
            "is no kernel: neither a bzImage (as in /boot/vmlinuz-…) nor an ELF file".into(),
        );
    };
    Err(format!("is no kernel for this machine: it is {what}"))
}

/// Programs for EFI (PE format, "Microsoft Portable Executable"): a bzImage is one,
/// too, but has the boot protocol's header.
fn efi(head: &[u8]) -> String {
    let program = program(head);
    let machine = match program.as_ref().and_then(|program| half(program, 4)) {
        Some(0x8664) => "",
        Some(0x14c) => " for 32-bit x86",
        Some(0xaa64) => " for arm64",
        Some(0x1c0 | 0x1c2 | 0x1c4) => " for 32-bit ARM",
        Some(0x5064) => " for RISC-V",
        Some(0x6264) => " for LoongArch",
        _ => " for another machine",
    };
    // Linux, drivers/firmware/efi/libstub/zboot-header.S.
    if head.get(4..8) == Some(b"zimg") {
        return format!("a kernel that EFI has to unpack (zboot){machine}");
    }
    match program {
        Some(program) if has_section(program, b".linux\0\0") => format!(
            "a unified kernel image{machine}, which only EFI can start; take the kernel out of it \
             with 'objcopy -O binary -j .linux'"
        ),
        _ => format!(
            "a program for EFI{machine}; this machine starts a bzImage (as in /boot/vmlinuz-…) or \
             an ELF file"
        ),
    }
}

/// From the PE header on.
fn program(head: &[u8]) -> Option<&[u8]> {
    let at = usize::try_from(word(head, 0x3c)?).ok()?;
    head.get(at..)
        .filter(|program| program.starts_with(b"PE\0\0"))
}

fn has_section(program: &[u8], name: &[u8; 8]) -> bool {
    let sections = half(program, 6).unwrap_or_default();
    let optional = half(program, 20).unwrap_or_default();
    let table = program.get(24 + usize::from(optional)..);
    let sections = table
        .unwrap_or_default()
        .chunks_exact(40)
        .take(sections.into());
    sections
        .into_iter()
        .any(|section| section.starts_with(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program for EFI with a section.
    fn pe(machine: u16, section: &[u8; 8]) -> Vec<u8> {
        let mut file = vec![0; 1024];
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"MZ");
        put(0x3c, &0x80u32.to_le_bytes());
        put(0x80, b"PE\0\0");
        put(0x84, &machine.to_le_bytes());
        put(0x86, &2u16.to_le_bytes());
        put(0x94, &240u16.to_le_bytes());
        put(0x98 + 240, b".text\0\0\0");
        put(0x98 + 240 + 40, section);
        file
    }

    fn at(place: usize, magic: &[u8]) -> Vec<u8> {
        let mut file = vec![0; 4096];
        file[place..place + magic.len()].copy_from_slice(magic);
        file
    }

    #[test]
    fn what_is_no_kernel_is_named() {
        let mut zboot = pe(0xaa64, b".data\0\0\0");
        zboot[4..8].copy_from_slice(b"zimg");
        for (file, words) in [
            (at(56, b"ARM\x64"), "a kernel for arm64"),
            (at(48, b"RISCV\0\0\0"), "a kernel for RISC-V"),
            (at(36, b"\x18\x28\x6f\x01"), "32-bit ARM"),
            (at(0, b"\x1f\x8b\x08"), "packed with gzip; unpack it"),
            (at(0, b"\x02\x21\x4c\x18"), "packed with LZ4"),
            (at(0, b"070701"), "--initrd"),
            (at(0, b"\x27\x05\x19\x56"), "U-Boot"),
            (pe(0x8664, b".linux\0\0"), "unified kernel image, which"),
            (pe(0xaa64, b".linux\0\0"), "kernel image for arm64"),
            (pe(0x8664, b".data\0\0\0"), "a program for EFI; this"),
            (pe(0, b".data\0\0\0"), "EFI for another machine"),
            (zboot, "(zboot) for arm64"),
            (b"MZ".to_vec(), "a program for EFI"),
            (at(0x3c, b"\xff\xff\xff\xff"), "neither a bzImage"),
            (Vec::new(), "neither a bzImage"),
        ] {
            let told = of(&file).unwrap_err();
            assert!(told.contains(words), "{told}");
        }
    }

    #[test]
    fn a_kernel_with_a_boot_header_may_be_a_program_for_efi_as_well() {
        let mut file = pe(0x8664, b".linux\0\0");
        file[0x202..0x206].copy_from_slice(b"HdrS");
        assert_eq!(of(&file), Ok(Kind::BzImage));
        assert_eq!(of(&at(0, b"\x7fELF")), Ok(Kind::Elf));
    }
}
