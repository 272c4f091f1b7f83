// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
use super::*;
use crate::machine::memory;

fn hardware() -> Hardware {
    Hardware {
        cpus: 3,
        virtio: (0..18)
            .map(|nth| VirtioSlot {
                address: 0xd000_0000 + nth * 0x1000,
                gsi: 6 + nth,
            })
            .collect(),
        serial: layout::SERIAL.to_vec(),
    }
}

/// The table at `address`, which must add up to zero.
fn table(memory: &GuestMemoryMmap, address: u64) -> Vec<u8> {
    let len: u32 = memory.read_obj(GuestAddress(address + 4)).unwrap();
    let mut bytes = vec![0; len as usize];
    memory
        .read_slice(&mut bytes, GuestAddress(address))
        .unwrap();
    assert_eq!(
        bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)),
        0
    );
    bytes
}

fn address(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

#[test]
fn every_table_is_reached_from_the_root_pointer_and_adds_up() {
    let memory = memory::make(16 << 20, false).unwrap();
    write(&memory, &hardware()).unwrap();
    let mut pointer = [0; 36];
    memory
        .read_slice(&mut pointer, GuestAddress(layout::ACPI))
        .unwrap();
    assert_eq!(&pointer[..8], b"RSD PTR ");
    let xsdt = table(&memory, address(&pointer, 24));
    assert_eq!(&xsdt[..4], b"XSDT");
    let fadt = table(&memory, address(&xsdt, 36));
    assert_eq!(&fadt[..4], b"FACP");
    let madt = table(&memory, address(&xsdt, 44));
    assert_eq!(&madt[..4], b"APIC");
    // Three local APICs of 8 bytes, one I/O APIC of 12.
    assert_eq!(madt.len(), 44 + 3 * 8 + 12);
    let dsdt = table(&memory, address(&fadt, 140));
    assert_eq!(&dsdt[..4], b"DSDT");
    let devices = dsdt.windows(8).filter(|word| word == b"LNRO0005").count();
    assert_eq!(devices, 18);
}
