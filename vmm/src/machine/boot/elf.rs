// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Whether an ELF file is a kernel for this machine. Most ELF files are not:
//! programs, libraries, modules, files with nothing but debug information.

use std::os::unix::fs::FileExt;

use tmem_cli::size;

use super::field::{half, long, word};
use crate::machine::layout;

/// Bytes of the file's header, and of a program header (ELF-64 object file format).
const HEADER: usize = 64;
const SEGMENT: usize = 56;

/// e_machine: x86-64.
const X86_64: u16 = 62;

/// p_type.
const LOAD: u32 = 1;
const DYNAMIC: u32 = 2;
const INTERP: u32 = 3;

/// A segment that is loaded.
struct Segment {
    offset: u64,
    address: u64,
    /// Bytes in the file, and in memory.
    filled: u64,
    size: u64,
}

/// Judges `file`, of `len` bytes, for a machine with `memory` bytes below the gap.
///
/// # Errors
/// A sentence that begins with "it".
pub(super) fn judge(file: &impl FileExt, len: u64, memory: u64) -> Result<(), String> {
    let mut header = [0; HEADER];
    file.read_exact_at(&mut header, 0)
        .map_err(|_| "it is cut off: there is no whole ELF header".to_owned())?;
    kind(&header)?;
    let segments = segments(file, &header)?;
    let loaded = || segments.iter().filter(|segment| segment.filled > 0);
    if loaded().next().is_none() {
        return Err(
            "it has no code, as a file with nothing but debug information; give the kernel that \
             it belongs to"
                .into(),
        );
    }
    for segment in &segments {
        let end = segment.offset.checked_add(segment.filled);
        if end.is_none_or(|end| end > len) {
            return Err("it is cut off: a segment ends beyond the end of the file".into());
        }
        if segment.filled > segment.size {
            return Err("it is damaged: a segment is longer in the file than in memory".into());
        }
        if segment.size > 0 && segment.address < layout::KERNEL {
            return Err(format!(
                "it is to be loaded at {:#x}, where this machine keeps its tables: kernels are \
                 loaded from 1 MiB on",
                segment.address
            ));
        }
    }
    // The highest address of all, and beyond.
    let end = |segment: &Segment| segment.address.checked_add(segment.size);
    let needed = segments
        .iter()
        .map(|segment| end(segment).unwrap_or(u64::MAX));
    let needed = needed.max().unwrap_or_default();
    if needed > memory {
        return Err(format!(
            "it needs {} of memory to start, of which there are {}; give more with --memory",
            size::show(needed),
            size::show(memory)
        ));
    }
    let entry = long(&header, 24).unwrap_or_default();
    if !loaded().any(|segment| (segment.address..segment.address + segment.filled).contains(&entry))
    {
        return Err(format!(
            "it is no kernel: there is no code where it begins ({entry:#x}), as in a program or \
             in a file with nothing but debug information"
        ));
    }
    Ok(())
}

/// Class, byte order, machine and type.
fn kind(header: &[u8]) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("it is no kernel for this machine, but {what}"));
    if header.get(5) == Some(&2) {
        return wrong("an ELF file for a big-endian one");
    }
    let machine = half(header, 18).unwrap_or_default();
    let name = match machine {
        3 => "32-bit x86",
        8 => "MIPS",
        20 | 21 => "PowerPC",
        22 => "s390",
        40 => "32-bit ARM",
        183 => "arm64",
        243 => "RISC-V",
        247 => "BPF",
        258 => "LoongArch",
        _ => "another one",
    };
    if machine != X86_64 {
        return wrong(&format!("an ELF file for {name} (machine {machine})"));
    }
    if header.get(4) != Some(&2) {
        return wrong("an ELF file with 32-bit addresses");
    }
    match half(header, 16) {
        Some(2) => Ok(()),
        Some(1) => wrong("an object file, as kernel modules are"),
        Some(3) => wrong("a position-independent program or a library"),
        Some(4) => wrong("a core dump"),
        _ => wrong("an ELF file of an unknown type"),
    }
}

fn segments(file: &impl FileExt, header: &[u8]) -> Result<Vec<Segment>, String> {
    let at = long(header, 32).unwrap_or_default();
    let count = half(header, 56).unwrap_or_default();
    if usize::from(half(header, 54).unwrap_or_default()) != SEGMENT && count > 0 {
        return Err("it is damaged: its program headers have a wrong size".into());
    }
    let mut table = vec![0; usize::from(count) * SEGMENT];
    file.read_exact_at(&mut table, at)
        .map_err(|_| "it is cut off: the program headers are not in the file".to_owned())?;
    let mut segments = Vec::new();
    for entry in table.chunks_exact(SEGMENT) {
        match word(entry, 0) {
            Some(LOAD) => {}
            Some(DYNAMIC | INTERP) => {
                return Err(
                    "it is no kernel, but a program that needs a running system's libraries".into(),
                );
            }
            _ => continue,
        }
        let field = |at| long(entry, at).unwrap_or_default();
        segments.push(Segment {
            offset: field(8),
            address: field(24),
            filled: field(32),
            size: field(40),
        });
    }
    Ok(segments)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::boot::tests::elf;
    use std::io::Write;

    fn judged(content: &[u8]) -> Result<(), String> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        judge(&file, content.len() as u64, 8 << 20)
    }

    /// A kernel with these bytes changed.
    fn changed(at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut file = elf(b"\xf4code");
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    }

    /// Where the program header is.
    const FIRST: usize = 64;

    #[test]
    fn what_is_no_kernel_is_named() {
        judged(&elf(b"\xf4code")).unwrap();
        for (at, bytes, words) in [
            (18, &[183, 0][..], "an ELF file for arm64"),
            (18, &[0xff, 0xff], "another one (machine 65535)"),
            (5, &[2], "big-endian"),
            (4, &[1], "32-bit addresses"),
            (16, &[3, 0], "a position-independent program"),
            (16, &[1, 0], "kernel modules"),
            (16, &[4, 0], "a core dump"),
            // It begins elsewhere.
            (24, &[0x40, 0, 0, 0], "no code where it begins (0x40)"),
            (24, &[5], "no code where it begins (0x100005)"),
            (FIRST, &[3], "a running system's libraries"),
            // Nothing of the segment is in the file.
            (FIRST + 32, &[0; 8], "nothing but debug information"),
            // No segment at all.
            (56, &[0, 0], "nothing but debug information"),
            (54, &[55, 0], "damaged"),
            (32, &[0xff; 8], "cut off"),
            (FIRST + 8, &[0xff; 8], "cut off"),
            (FIRST + 8, &[121], "cut off"),
            (FIRST + 40, &[4, 0], "longer in the file"),
            (FIRST + 24, &[0, 0, 8, 0], "loaded at 0x80000"),
            (FIRST + 40, &[0, 0, 0x80], "give more with --memory"),
            (FIRST + 40, &[0xff; 8], "give more with --memory"),
        ] {
            let told = judged(&changed(at, bytes)).unwrap_err();
            assert!(told.contains(words), "{at}: {told}");
            assert!(
                words.contains("--memory") || !told.contains("--memory"),
                "{told}"
            );
        }
        assert!(judged(b"\x7fELF").unwrap_err().contains("cut off"));
    }
}
