// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
use std::fs;
use std::path::PathBuf;

use linux_loader::loader::bootparam::boot_params;
use tempfile::TempDir;

use super::*;
use crate::machine::memory;
use crate::virtio::Memory;

/// An ELF file with one segment of `code` at 1 MiB.
pub(crate) fn elf(code: &[u8]) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    let half = |value: u16| value.to_le_bytes().to_vec();
    let word = |value: u32| value.to_le_bytes().to_vec();
    let long = |value: u64| value.to_le_bytes().to_vec();
    for field in [
        half(2),
        half(62),
        word(1),
        long(layout::KERNEL),
        long(64),
        long(0),
        word(0),
        half(64),
        half(56),
        half(1),
        half(64),
        half(0),
        half(0),
        word(1),
        word(7),
        long(120),
        long(layout::KERNEL),
        long(layout::KERNEL),
        long(code.len() as u64),
        long(code.len() as u64),
        long(1),
    ] {
        file.extend(field);
    }
    file.extend_from_slice(code);
    file
}

struct Files {
    dir: TempDir,
    memory: Memory,
}

impl Files {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            memory: memory::make(32 << 20, false).unwrap(),
        }
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn load(&self, kernel: &Path, initrd: Option<&Path>) -> Result<u64> {
        let boot = Boot {
            kernel,
            initrd,
            command_line: "one two",
            acpi: 0xe_0000,
        };
        load(&self.memory, &boot)
    }

    fn refusal(&self, kernel: &Path, initrd: Option<&Path>) -> String {
        format!("{:#}", self.load(kernel, initrd).unwrap_err())
    }
}

#[test]
fn an_elf_kernel_and_its_initrd_are_in_memory_as_the_zero_page_says() {
    let files = Files::new();
    let kernel = files.file("vmlinux", &elf(b"\xf4code"));
    let initrd = files.file("initrd", &[7; 5000]);
    assert_eq!(files.load(&kernel, Some(&initrd)).unwrap(), layout::KERNEL);
    let mut code = [0; 5];
    files
        .memory
        .read_slice(&mut code, GuestAddress(layout::KERNEL))
        .unwrap();
    assert_eq!(&code, b"\xf4code");
    let params: boot_params = files
        .memory
        .read_obj(GuestAddress(layout::BOOT_PARAMS))
        .unwrap();
    let hdr = params.hdr;
    assert_eq!({ hdr.ramdisk_image }, (32 << 20) - 8192);
    assert_eq!({ hdr.ramdisk_size }, 5000);
    assert_eq!({ params.acpi_rsdp_addr }, 0xe_0000);
    assert_eq!(params.e820_entries, 3);
    let top = params.e820_table[2];
    assert_eq!({ top.addr } + { top.size }, 32 << 20);
    let mut line = [0; 8];
    files
        .memory
        .read_slice(&mut line, GuestAddress(hdr.cmd_line_ptr.into()))
        .unwrap();
    assert_eq!(&line, b"one two\0");
}

#[test]
fn files_that_cannot_be_booted_are_refused_in_a_sentence() {
    let files = Files::new();
    let good = files.file("vmlinux", &elf(b"\xf4"));
    let missing = files.dir.path().join("missing");
    let empty = files.file("empty", b"");
    let text = files.file("text", b"#!/bin/sh\nexit\n");
    let cut = files.file("cut", &elf(b"\xf4")[..80]);
    let large = files.file("large", &vec![1; 31 << 20]);
    for (kernel, initrd, words) in [
        (&missing, None, "cannot open the kernel"),
        (&files.dir.path().to_owned(), None, "is not a file"),
        (&empty, None, "is no kernel"),
        (&text, None, "is no kernel"),
        (&cut, None, "cut off"),
        (&good, Some(&missing), "cannot open the initrd"),
        (&good, Some(&empty), "is empty"),
        (&good, Some(&large), "does not fit beside the kernel"),
    ] {
        let refusal = files.refusal(kernel, initrd.map(PathBuf::as_path));
        assert!(refusal.contains(words), "{refusal}");
    }
}

#[test]
fn a_kernel_that_is_larger_than_memory_is_refused() {
    let files = Files::new();
    let kernel = files.file("vmlinux", &elf(&vec![0xf4; 40 << 20]));
    let refusal = files.refusal(&kernel, None);
    assert!(refusal.contains("give more with --memory"), "{refusal}");
}

#[test]
fn a_bzimage_that_was_cut_off_is_not_started() {
    let files = Files::new();
    let mut image = vec![0; 4096];
    image[0x1f1] = 1;
    image[0x202..0x206].copy_from_slice(b"HdrS");
    // A kernel of 4 KiB behind two sectors of setup.
    image[0x1f4..0x1f8].copy_from_slice(&256u32.to_le_bytes());
    let refusal = files.refusal(&files.file("vmlinuz", &image), None);
    assert!(refusal.contains("has 4096 of 5120 bytes"), "{refusal}");
    // Its signature may follow.
    image.resize(6000, 0);
    let refusal = files.refusal(&files.file("vmlinuz", &image), None);
    assert!(!refusal.contains("cut off"), "{refusal}");
}
