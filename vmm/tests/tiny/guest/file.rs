// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Files that a VMM takes for a kernel.

/// An ELF file with one segment, loaded to and entered at `at`.
pub(super) fn elf(at: u64, segment: &[u8]) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    let half = |value: u16| value.to_le_bytes().to_vec();
    let word = |value: u32| value.to_le_bytes().to_vec();
    let long = |value: u64| value.to_le_bytes().to_vec();
    let fields = [
        // An executable for x86-64.
        half(2),
        half(62),
        word(1),
        long(at),
        // Program headers follow this one, which has 64 bytes.
        long(64),
        long(0),
        word(0),
        half(64),
        half(56),
        half(1),
        half(64),
        half(0),
        half(0),
        // To be loaded: where it is in the file and in memory, and how long.
        word(1),
        word(7),
        long(120),
        long(at),
        long(at),
        long(segment.len() as u64),
        long(segment.len() as u64),
        long(1),
    ];
    file.extend(fields.concat());
    file.extend_from_slice(segment);
    file
}

/// How far into a bzImage's kernel its 64-bit entry point is.
pub(super) const ENTRY_64: usize = 0x200;

/// Most bytes of the command line that a bzImage here takes.
pub(crate) const COMMAND_LINE: usize = 255;

/// A bzImage (Linux, Documentation/arch/x86/boot.rst) that needs as many bytes
/// of memory, from the first on.
pub(super) fn bzimage(needed: u32, kernel: &[u8]) -> Vec<u8> {
    // The part for 16-bit mode: two sectors, the first of which is not counted.
    let mut file = vec![0; 1024];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x1f1, &[1]);
    put(0x1fe, &0xaa55u16.to_le_bytes());
    // The header's end, for which there is a jump; then signature and version.
    put(0x200, &[0xeb, 0x66]);
    put(0x202, b"HdrS");
    put(0x206, &0x020fu16.to_le_bytes());
    // It is loaded high, and has a 64-bit entry point.
    put(0x211, &[1]);
    put(0x214, &(1u32 << 20).to_le_bytes());
    put(0x236, &1u16.to_le_bytes());
    put(0x238, &(COMMAND_LINE as u32).to_le_bytes());
    // The preferred address, and what is needed there.
    put(0x258, &(1u64 << 20).to_le_bytes());
    put(0x260, &(needed - (1 << 20)).to_le_bytes());
    file.extend_from_slice(kernel);
    file
}
