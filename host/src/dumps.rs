// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a core dump of the program leaves out.

#![expect(unsafe_code, reason = "advises the kernel")]

use rustix::mm::{Advice, madvise};
use vm_memory::{GuestMemoryBackend, GuestMemoryMmap};

/// Keeps the memory of a guest out of core dumps: its secrets are not the program's
/// to write to a disk, and its size would fill that. Says whether all of it is left
/// out.
pub fn leave_out(memory: &GuestMemoryMmap) -> bool {
    memory.iter().all(|region| {
        // SAFETY: the region is mapped while `memory` is borrowed, and this advice
        // does not change what it holds.
        unsafe { madvise(region.as_ptr().cast(), region.size(), Advice::LinuxDontDump) }.is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::GuestAddress;

    #[test]
    fn every_region_is_left_out() {
        let regions = [(GuestAddress(0), 3 << 12), (GuestAddress(1 << 20), 5 << 12)];
        let memory = GuestMemoryMmap::<()>::from_ranges(&regions).unwrap();
        assert!(leave_out(&memory));
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        // Mappings beside each other that are alike are one to the kernel.
        let holds = |line: &str, address: usize| {
            let range = line
                .split(' ')
                .next()
                .and_then(|range| range.split_once('-'));
            let number = |text: &str| usize::from_str_radix(text, 16).ok();
            range.is_some_and(|(from, to)| {
                number(from).is_some_and(|from| from <= address)
                    && number(to).is_some_and(|to| address < to)
            })
        };
        for region in memory.iter() {
            let start = region.as_ptr().addr();
            let mut lines = maps.lines().skip_while(|line| !holds(line, start));
            let flags = lines.find_map(|line| line.strip_prefix("VmFlags:"));
            assert!(flags.unwrap().split(' ').any(|flag| flag == "dd"));
        }
    }
}
