// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a vCPU says of where it is: one package of cores with one thread each,
//! which have the cache of the last level in common.
//!
//! KVM leaves this to the VMM, and takes away what the host's processor says of it:
//! the leaves 0xb and 0x1f have one subleaf of zeros (a topology would begin with
//! subleaf 1), and 0x8000001e is zero. So they are made here, whether KVM has
//! them or not (Intel SDM, volume 2A, CPUID; AMD APM, volume 3, appendix E).

use kvm_bindings::{KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

/// Leaf 1, EDX: more than one logical processor.
pub(super) const HTT: u32 = 1 << 28;

/// Leaf 0x80000001, ECX, of AMD: the logical processors are cores (CmpLegacy), and
/// there are the leaves 0x8000001d and 0x8000001e (TopologyExtensions).
const CMP_LEGACY: u32 = 1 << 1;
const TOPOLOGY: u32 = 1 << 22;

/// Types of levels in the leaves 0xb and 0x1f.
const LEVEL_THREAD: u32 = 1;
const LEVEL_CORE: u32 = 2;

/// The extended topology of AMD (0x80000026) is left out: its levels are found in
/// leaf 0xb, too.
const EXTENDED_TOPOLOGY: u32 = 0x8000_0026;

/// The caches of Intel and of AMD, in the same form.
const CACHES: u32 = 4;
const CACHES_AMD: u32 = 0x8000_001d;
const CORE_AMD: u32 = 0x8000_001e;

/// More subleaves than a processor has caches.
const MOST_CACHES: u32 = 16;

/// First family of AMD whose leaf 0x8000001e is about cores (before, they were
/// halves of compute units).
const ZEN: u32 = 0x17;

/// EAX, EBX, ECX and EDX of a leaf.
pub(super) type Registers = (u32, u32, u32, u32);

/// The place of a vCPU.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Its APIC id.
    pub(super) id: u8,
    /// How many vCPUs there are.
    pub(super) count: u8,
}

impl Place {
    /// Width of the APIC ids in the package.
    fn bits(self) -> u32 {
        u32::from(self.count).next_power_of_two().trailing_zeros()
    }

    /// APIC ids in the package, less one.
    fn ids(self) -> u32 {
        (1 << self.bits()) - 1
    }
}

/// Gives `entries` the topology. `host` reads a subleaf of the host's processor.
pub(super) fn place(
    entries: &mut Vec<kvm_cpuid_entry2>,
    place: Place,
    host: &impl Fn(u32, u32) -> Registers,
) {
    entries.retain(|entry| entry.function != EXTENDED_TOPOLOGY);
    for entry in entries.iter_mut() {
        identify(entry, place);
    }
    levels(entries, 0xb, place);
    let most = find(entries, 0).map_or(0, |entry| entry.eax);
    if most >= 0x1f {
        levels(entries, 0x1f, place);
    }
    caches(entries, CACHES, place, host);
    if is_amd(entries) {
        amd(entries, place, host);
    }
}

fn find(entries: &mut [kvm_cpuid_entry2], function: u32) -> Option<&mut kvm_cpuid_entry2> {
    entries.iter_mut().find(|entry| entry.function == function)
}

fn is_amd(entries: &mut [kvm_cpuid_entry2]) -> bool {
    /// "Auth" of AuthenticAMD, "Hygo" of HygonGenuine.
    const VENDORS: [&[u8; 4]; 2] = [b"Auth", b"Hygo"];
    let vendor = find(entries, 0).map(|entry| entry.ebx.to_le_bytes());
    vendor.is_some_and(|vendor| VENDORS.contains(&&vendor))
}

/// The leaf that every processor has.
fn identify(entry: &mut kvm_cpuid_entry2, place: Place) {
    if entry.function != 1 {
        return;
    }
    let (id, count) = (u32::from(place.id), u32::from(place.count));
    entry.ebx = entry.ebx & 0xffff | count << 16 | id << 24;
    if count > 1 {
        entry.edx |= HTT;
    } else {
        entry.edx &= !HTT;
    }
}

/// Replaces the subleaves of `function`: threads, cores, and the end. Makes the
/// highest leaf as high.
fn levels(entries: &mut Vec<kvm_cpuid_entry2>, function: u32, place: Place) {
    entries.retain(|entry| entry.function != function);
    let levels = [
        (LEVEL_THREAD, 0, 1),
        (LEVEL_CORE, place.bits(), u32::from(place.count)),
        (0, 0, 0),
    ];
    for (index, (kind, shift, number)) in (0u32..).zip(levels) {
        entries.push(kvm_cpuid_entry2 {
            eax: shift,
            ebx: number,
            ecx: index | kind << 8,
            edx: place.id.into(),
            ..subleaf(function, index)
        });
    }
    raise(entries, 0, function);
}

fn subleaf(function: u32, index: u32) -> kvm_cpuid_entry2 {
    kvm_cpuid_entry2 {
        function,
        index,
        flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        ..kvm_cpuid_entry2::default()
    }
}

/// The highest leaf, which `range` tells of, is at least `function`.
fn raise(entries: &mut [kvm_cpuid_entry2], range: u32, function: u32) {
    if let Some(entry) = find(entries, range) {
        entry.eax = entry.eax.max(function);
    }
}

/// Shares the caches in the subleaves of `function`: the last level is common, the
/// others are each core's own. Gives whether there are any.
fn caches(
    entries: &mut Vec<kvm_cpuid_entry2>,
    function: u32,
    place: Place,
    host: &impl Fn(u32, u32) -> Registers,
) -> bool {
    let kind = |entry: &kvm_cpuid_entry2| entry.eax & 0x1f;
    let level = |entry: &kvm_cpuid_entry2| entry.eax >> 5 & 7;
    let is_known = |entry: &kvm_cpuid_entry2| entry.function == function && kind(entry) != 0;
    if !entries.iter().any(is_known) {
        // As KVM does not tell, the processor does. One that has no such leaf
        // answers with another.
        let range = function & 0x8000_0000;
        if host(range, 0).0 < function {
            return false;
        }
        entries.retain(|entry| entry.function != function);
        for index in 0..MOST_CACHES {
            let (eax, ebx, ecx, edx) = host(function, index);
            let entry = kvm_cpuid_entry2 {
                eax,
                ebx,
                ecx,
                edx,
                ..subleaf(function, index)
            };
            entries.push(entry);
            if kind(&entry) == 0 {
                break;
            }
        }
        if !entries.iter().any(is_known) {
            return false;
        }
        raise(entries, range, function);
    }
    let last = entries.iter().filter(|entry| is_known(entry)).map(level);
    let last = last.max().unwrap_or_default();
    for entry in entries.iter_mut().filter(|entry| is_known(entry)) {
        // The first level is never common.
        let sharing = if level(entry) == last && last > 1 {
            place.ids()
        } else {
            0
        };
        entry.eax = entry.eax & 0x3fff | sharing << 14;
        if function == CACHES {
            // The field has 6 bits; what is more is found in leaf 0xb.
            entry.eax |= place.ids().min(0x3f) << 26;
        }
    }
    true
}

/// What AMD's processors, and those after them, have on top.
fn amd(entries: &mut Vec<kvm_cpuid_entry2>, place: Place, host: &impl Fn(u32, u32) -> Registers) {
    let (id, count) = (u32::from(place.id), u32::from(place.count));
    if let Some(entry) = find(entries, 0x8000_0008) {
        entry.ecx = entry.ecx & !0xf0ff | place.bits() << 12 | (count - 1);
    }
    let family = find(entries, 1).map_or(0, |entry| family(entry.eax));
    let known = find(entries, 0x8000_0001).is_some_and(|entry| {
        entry.ecx &= !CMP_LEGACY;
        if count > 1 {
            entry.ecx |= CMP_LEGACY;
        }
        // Says nothing but that the leaves are there: no host is needed for it.
        if family >= ZEN {
            entry.ecx |= TOPOLOGY;
        }
        entry.ecx & TOPOLOGY != 0
    });
    if !known {
        return;
    }
    caches(entries, CACHES_AMD, place, host);
    entries.retain(|entry| entry.function != CORE_AMD);
    // One thread a core, one node in the package.
    entries.push(kvm_cpuid_entry2 {
        function: CORE_AMD,
        eax: id,
        ebx: id & 0xff,
        ..kvm_cpuid_entry2::default()
    });
    raise(entries, 0x8000_0000, CORE_AMD);
}

/// The family in EAX of leaf 1.
fn family(eax: u32) -> u32 {
    match eax >> 8 & 0xf {
        0xf => 0xf + (eax >> 20 & 0xff),
        base => base,
    }
}

#[cfg(test)]
mod tests;
