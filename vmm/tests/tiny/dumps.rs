// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a core dump of the program would hold.

use rustix::process::Signal;

use crate::guest::Guest;
use crate::vmm::{Vmm, can_run};

#[test]
fn neither_guest_memory_nor_the_stores_is_in_core_dumps() {
    if !can_run() {
        return;
    }
    let mut guest = Guest::new();
    guest.print("up\n");
    guest.halt();
    let mut vmm = Vmm::start(&guest, &["--tmem", "quota=1M"]);
    vmm.see("up\n");
    let maps = std::fs::read_to_string(format!("/proc/{}/smaps", vmm.id())).unwrap();
    for name in ["/memfd:guest-memory ", "/memfd:tmem-pages "] {
        // Behind the line with its name: the flags of the mapping.
        let mappings: Vec<&str> = maps.split(name).skip(1).collect();
        assert!(!mappings.is_empty(), "{name}");
        for mapping in mappings {
            let flags = mapping
                .lines()
                .find_map(|line| line.strip_prefix("VmFlags:"));
            assert!(flags.unwrap().contains(" dd"), "{name}: {mapping}");
        }
    }
    vmm.signal(Signal::TERM);
    vmm.end().silently(0);
}
