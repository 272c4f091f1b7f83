// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Topologies as a kernel reads them: the reader follows Linux' rules, not what is
//! written here.

use super::*;

/// The subleaves that a processor does not know.
fn nothing(_: u32, _: u32) -> Registers {
    (0, 0, 0, 0)
}

fn entry(function: u32, index: u32, registers: Registers) -> kvm_cpuid_entry2 {
    let (eax, ebx, ecx, edx) = registers;
    kvm_cpuid_entry2 {
        eax,
        ebx,
        ecx,
        edx,
        ..subleaf(function, index)
    }
}

fn vendor(name: &[u8; 4]) -> u32 {
    u32::from_le_bytes(*name)
}

/// What KVM tells on a host of Intel: no topology, and the host's caches: two of
/// the first level, one of the second, and one of the third that 64 share.
fn intel() -> Vec<kvm_cpuid_entry2> {
    vec![
        entry(0, 0, (0x1f, vendor(b"Genu"), 0, 0)),
        entry(1, 0, (0x50657, 0xffff_ffff, 0, HTT)),
        entry(4, 0, (0x7c00_4121, 0, 0, 0)),
        entry(4, 1, (0x7c00_4122, 0, 0, 0)),
        entry(4, 2, (0x7c00_4143, 0, 0, 0)),
        entry(4, 3, (0x7c0f_c163, 0, 0, 0)),
        entry(4, 4, (0, 0, 0, 0)),
        entry(0xb, 0, (0, 0, 0, 77)),
        entry(0x1f, 0, (0, 0, 0, 77)),
        entry(0x8000_0000, 0, (0x8000_0008, 0, 0, 0)),
        entry(0x8000_0008, 0, (0x3030, 0, 0, 0)),
    ]
}

/// What KVM tells on one of AMD: leaf 4 is empty, 0x8000001e zero.
fn zen() -> Vec<kvm_cpuid_entry2> {
    vec![
        entry(0, 0, (0x10, vendor(b"Auth"), 0, 0)),
        entry(1, 0, (0x0080_0f12, 0xffff_ffff, 0, HTT)),
        entry(4, 0, (0, 0, 0, 0)),
        entry(0xb, 0, (0, 0, 0, 77)),
        entry(0x8000_0000, 0, (0x8000_0022, 0, 0, 0)),
        entry(0x8000_0001, 0, (0, 0, TOPOLOGY, 0)),
        entry(0x8000_0008, 0, (0x3030, 0, 0xffff_ffff, 0)),
        entry(0x8000_001d, 0, (0x4121, 0, 0, 0)),
        entry(0x8000_001d, 1, (0x4122, 0, 0, 0)),
        entry(0x8000_001d, 2, (0x4143, 0, 0, 0)),
        entry(0x8000_001d, 3, (0x1_c163, 0, 0, 0)),
        entry(0x8000_001d, 4, (0, 0, 0, 0)),
        entry(0x8000_001e, 0, (0, 0, 0, 0)),
        entry(0x8000_0026, 0, (1, 2, 0x100, 77)),
    ]
}

fn placed(mut entries: Vec<kvm_cpuid_entry2>, id: u8, count: u8) -> Vec<kvm_cpuid_entry2> {
    place(&mut entries, Place { id, count }, &nothing);
    entries
}

fn read(entries: &[kvm_cpuid_entry2], function: u32, index: u32) -> Registers {
    let found: Vec<_> = entries
        .iter()
        .filter(|entry| (entry.function, entry.index) == (function, index))
        .collect();
    assert!(found.len() < 2, "{function:#x}.{index} is there twice");
    // KVM answers so for what is not there.
    found.first().map_or((0, 0, 0, 0), |entry| {
        (entry.eax, entry.ebx, entry.ecx, entry.edx)
    })
}

/// The APIC id, and how far to shift it for the number of the package: what
/// parse_topology_leaf() of Linux makes of it.
fn package_shift(entries: &[kvm_cpuid_entry2], leaf: u32) -> Option<(u32, u32)> {
    let mut found = None;
    for index in 0.. {
        let (eax, ebx, ecx, edx) = read(entries, leaf, index);
        if ebx & 0xffff == 0 || ecx >> 8 & 0xff == 0 {
            return found;
        }
        assert_eq!(ecx & 0xff, index, "the subleaf's own number");
        found = Some((edx, eax & 0x1f));
    }
    None
}

/// Level and sharing processors (as a width in bits) of each cache.
fn shared(entries: &[kvm_cpuid_entry2], leaf: u32) -> Vec<(u32, u32)> {
    (0..)
        .map(|index| read(entries, leaf, index).0)
        .take_while(|eax| eax & 0x1f != 0)
        .map(|eax| {
            let sharing = (eax >> 14 & 0xfff) + 1;
            (eax >> 5 & 7, sharing.next_power_of_two().trailing_zeros())
        })
        .collect()
}

#[test]
fn vcpus_are_cores_of_one_package_whatever_kvm_tells() {
    let bare = vec![entry(0xb, 0, (0, 0, 0, 77))];
    for offered in [intel(), zen(), bare, Vec::new()] {
        for count in [1, 2, 3, 4, 5, 64, 254] {
            for id in 0..count {
                let entries = placed(offered.clone(), id, count);
                let (apic, shift) = package_shift(&entries, 0xb).unwrap();
                assert_eq!(apic, u32::from(id));
                assert_eq!(apic >> shift, 0, "{id} of {count} is elsewhere");
                // No wider than needed.
                assert!(shift == 0 || u32::from(count) > 1 << (shift - 1));
                let threads = read(&entries, 0xb, 0);
                assert_eq!((threads.0, threads.1), (0, 1), "one thread a core");
                assert_eq!(read(&entries, 0xb, 1).1, u32::from(count));
            }
        }
    }
}

#[test]
fn leaf_0x1f_says_the_same_where_it_is() {
    let entries = placed(intel(), 3, 4);
    assert_eq!(package_shift(&entries, 0x1f), Some((3, 2)));
    assert_eq!(package_shift(&placed(zen(), 3, 4), 0x1f), None);
}

#[test]
fn the_leaves_that_are_made_are_below_the_highest() {
    let old = vec![entry(0, 0, (4, vendor(b"Genu"), 0, 0))];
    assert_eq!(read(&placed(old, 0, 4), 0, 0).0, 0xb);
    assert_eq!(read(&placed(intel(), 0, 4), 0, 0).0, 0x1f);
    let mut short = zen();
    short[4].eax = 0x8000_001a;
    assert_eq!(read(&placed(short, 0, 4), 0x8000_0000, 0).0, CORE_AMD);
}

#[test]
fn the_last_level_of_caches_is_common_and_the_others_are_not() {
    for (offered, leaf) in [(intel(), CACHES), (zen(), CACHES_AMD)] {
        for (count, bits) in [(1, 0), (2, 1), (3, 2), (4, 2), (100, 7), (254, 8)] {
            let entries = placed(offered.clone(), 0, count);
            let expected = [(1, 0), (1, 0), (2, 0), (3, bits)];
            assert_eq!(shared(&entries, leaf), expected, "{count}");
        }
    }
    // Also where it is the second.
    let mut two = intel();
    two.retain(|entry| (entry.function, entry.index) != (4, 3));
    assert_eq!(shared(&placed(two, 0, 4), CACHES), [(1, 0), (1, 0), (2, 2)]);
    // As many cores as the field can tell of.
    for (count, cores) in [(1, 0), (4, 3), (64, 63), (254, 63)] {
        let eax = read(&placed(intel(), 0, count), 4, 0).0;
        assert_eq!(eax >> 26, cores);
    }
}

#[test]
fn caches_that_kvm_does_not_tell_of_are_the_hosts() {
    let mut offered = zen();
    offered.retain(|entry| entry.function != CACHES_AMD);
    let host = |leaf: u32, index: u32| match (leaf, index) {
        (0x8000_0000, _) => (CORE_AMD, 0, 0, 0),
        (CACHES_AMD, 0) => (0x4121, 0, 0, 0),
        (CACHES_AMD, 1) => (0x1_c163, 0xabc, 0, 0),
        _ => (0, 0, 0, 0),
    };
    let mut entries = offered.clone();
    place(&mut entries, Place { id: 1, count: 4 }, &host);
    assert_eq!(shared(&entries, CACHES_AMD), [(1, 0), (3, 2)]);
    assert_eq!(read(&entries, CACHES_AMD, 1).1, 0xabc);
    // A processor whose last leaf is lower would answer with that one.
    let host = |leaf: u32, _: u32| match leaf {
        0x8000_0000 => (0x8000_0008, 0, 0, 0),
        _ => (0x4121, 0, 0, 0),
    };
    let mut entries = offered;
    place(&mut entries, Place { id: 1, count: 4 }, &host);
    assert_eq!(shared(&entries, CACHES_AMD), []);
}

#[test]
fn amd_has_the_same_in_leaves_of_its_own() {
    let entries = placed(zen(), 2, 3);
    // NC and ApicIdSize.
    let (.., ecx, _) = read(&entries, 0x8000_0008, 0);
    assert_eq!((ecx & 0xff, ecx >> 12 & 0xf), (2, 2));
    assert_eq!(read(&entries, CORE_AMD, 0), (2, 2, 0, 0));
    let (.., features, _) = read(&entries, 0x8000_0001, 0);
    assert_eq!(features & (CMP_LEGACY | TOPOLOGY), CMP_LEGACY | TOPOLOGY);
    let (.., alone, _) = read(&placed(zen(), 0, 1), 0x8000_0001, 0);
    assert_eq!(alone & CMP_LEGACY, 0);
    // It would take precedence.
    assert_eq!(package_shift(&entries, EXTENDED_TOPOLOGY), None);
    // Where KVM does not say that the leaves are there.
    let mut silent = zen();
    silent[5].ecx = 0;
    let entries = placed(silent.clone(), 2, 3);
    assert_eq!(read(&entries, CORE_AMD, 0), (2, 2, 0, 0));
    // Older ones have none, or mean something else by them.
    silent[1].eax = 0x0060_0f12;
    let entries = placed(silent, 2, 3);
    assert_eq!(read(&entries, CORE_AMD, 0), (0, 0, 0, 0));
}

#[test]
fn intels_reserved_bits_stay_as_they_are() {
    let entries = placed(intel(), 2, 3);
    assert_eq!(read(&entries, 0x8000_0008, 0), (0x3030, 0, 0, 0));
    assert_eq!(read(&entries, CORE_AMD, 0), (0, 0, 0, 0));
}

#[test]
fn the_first_leaf_has_id_and_number() {
    for count in [1u8, 2, 254] {
        let (_, ebx, _, edx) = read(&placed(intel(), count - 1, count), 1, 0);
        assert_eq!(ebx >> 24, u32::from(count) - 1);
        assert_eq!(ebx >> 16 & 0xff, u32::from(count));
        assert_eq!(edx & HTT != 0, count > 1);
    }
}
