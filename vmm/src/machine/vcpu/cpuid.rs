// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a vCPU says it is: the host's processor, less what the host cannot run
//! in a guest, with this machine's own topology.

use std::arch::x86_64::__cpuid_count;

use kvm_bindings::{CpuId, kvm_cpuid_entry2};

/// Bits of leaf 1, ECX, that KVM provides without the processor: x2APIC, the
/// TSC deadline timer, and that there is a hypervisor.
const X2APIC: u32 = 1 << 21;
const TSC_DEADLINE: u32 = 1 << 24;
const HYPERVISOR: u32 = 1 << 31;
/// Leaf 1, EDX: more than one logical processor.
const HTT: u32 = 1 << 28;

/// Leaf 7, EBX: the TSC's adjustment, which KVM keeps itself.
const TSC_ADJUST: u32 = 1 << 1;
/// Leaf 7, EDX: what KVM offers against speculation, whatever it is made of.
const SPECULATION: u32 = 1 << 26 | 1 << 27 | 1 << 29 | 1 << 31;

/// Types of levels in the leaves 0xb and 0x1f.
const LEVEL_THREAD: u32 = 1;
const LEVEL_CORE: u32 = 2;

/// Gives the vCPU with APIC id `id` of `count` its view of `supported`, which
/// is what KVM offers. `deadline`: whether KVM has the TSC deadline timer, which
/// older ones tell of apart (Linux, Documentation/virt/kvm/api.rst,
/// KVM_GET_SUPPORTED_CPUID).
pub fn adapt(supported: &CpuId, deadline: bool, id: u8, count: u8) -> CpuId {
    let mut cpuid = supported.clone();
    for entry in cpuid.as_mut_slice() {
        mask(entry);
        if entry.function == 1 && deadline {
            entry.ecx |= TSC_DEADLINE;
        }
        topology(entry, id, count);
    }
    cpuid
}

/// Takes away the features that the host's processor lacks: a KVM without
/// hardware behind it offers some that end in an emulation failure.
fn mask(entry: &mut kvm_cpuid_entry2) {
    let host = || __cpuid_count_of(entry.function, entry.index);
    match (entry.function, entry.index) {
        (1, _) => {
            let host = host();
            entry.ecx &= host.1 | X2APIC | TSC_DEADLINE | HYPERVISOR;
            entry.edx &= host.2;
            entry.ecx |= HYPERVISOR;
        }
        (7, 0) => {
            let host = host();
            entry.ebx &= host.0 | TSC_ADJUST;
            entry.ecx &= host.1;
            entry.edx &= host.2 | SPECULATION;
        }
        (0x8000_0001, _) => {
            let host = host();
            entry.ecx &= host.1;
            entry.edx &= host.2;
        }
        _ => {}
    }
}

/// EBX, ECX and EDX of the processor itself.
fn __cpuid_count_of(leaf: u32, index: u32) -> (u32, u32, u32) {
    #[allow(unused_unsafe, reason = "safe since Rust 1.94")]
    // SAFETY: every x86-64 processor has the instruction, and it has no effect
    // beside its results.
    let found = unsafe { __cpuid_count(leaf, index) };
    (found.ebx, found.ecx, found.edx)
}

/// One package of `count` cores, with one thread each.
fn topology(entry: &mut kvm_cpuid_entry2, id: u8, count: u8) {
    let (id, count) = (u32::from(id), u32::from(count));
    let bits = count.next_power_of_two().trailing_zeros();
    match entry.function {
        1 => {
            entry.ebx = entry.ebx & 0xffff | count << 16 | id << 24;
            if count > 1 {
                entry.edx |= HTT;
            } else {
                entry.edx &= !HTT;
            }
        }
        // Caches: the last level is common, the others are each core's own.
        4 | 0x8000_001d => {
            let level = entry.eax >> 5 & 7;
            let sharing = if level >= 3 { count - 1 } else { 0 };
            entry.eax = entry.eax & 0x3fff | sharing << 14;
            if entry.function == 4 {
                entry.eax |= ((1 << bits) - 1) << 26;
            }
        }
        0xb | 0x1f => {
            let (kind, shift, number) = match entry.index {
                0 => (LEVEL_THREAD, 0, 1),
                1 => (LEVEL_CORE, bits, count),
                _ => (0, 0, 0),
            };
            entry.eax = shift;
            entry.ebx = number;
            entry.ecx = entry.index & 0xff | kind << 8;
            entry.edx = id;
        }
        0x8000_0008 => entry.ecx = entry.ecx & !0xf0ff | bits << 12 | (count - 1),
        0x8000_001e => {
            entry.eax = id;
            entry.ebx = entry.ebx & !0xffff | id & 0xff;
            entry.ecx &= !0x7ff;
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(function: u32, index: u32) -> kvm_cpuid_entry2 {
        kvm_cpuid_entry2 {
            function,
            index,
            eax: u32::MAX,
            ebx: u32::MAX,
            ecx: u32::MAX,
            edx: u32::MAX,
            ..kvm_cpuid_entry2::default()
        }
    }

    #[test]
    fn each_vcpu_is_a_core_with_its_own_id() {
        let offered = [entry(1, 0), entry(0xb, 0), entry(0xb, 1), entry(0xb, 2)];
        let offered = CpuId::from_entries(&offered).unwrap();
        let adapted = adapt(&offered, false, 2, 3);
        let [one, threads, cores, end] = adapted.as_slice() else {
            panic!("entries went");
        };
        assert_eq!(one.ebx >> 24, 2, "the APIC id");
        assert_eq!(one.ebx >> 16 & 0xff, 3, "logical processors");
        assert_eq!((threads.eax, threads.ebx, threads.ecx), (0, 1, 0x100));
        assert_eq!((cores.eax, cores.ebx, cores.ecx), (2, 3, 0x201));
        assert_eq!((end.eax, end.ebx, end.ecx), (0, 0, 2));
        assert!([threads, cores, end].iter().all(|level| level.edx == 2));
    }

    #[test]
    fn a_timer_that_is_told_of_apart_is_shown() {
        let none = kvm_cpuid_entry2 {
            ecx: 0,
            ..entry(1, 0)
        };
        let offered = CpuId::from_entries(&[none, entry(0xb, 0)]).unwrap();
        for (deadline, expected) in [(false, 0), (true, TSC_DEADLINE)] {
            let adapted = adapt(&offered, deadline, 0, 1);
            assert_eq!(adapted.as_slice()[0].ecx & TSC_DEADLINE, expected);
        }
    }

    #[test]
    fn features_that_the_processor_lacks_are_masked() {
        let offered = CpuId::from_entries(&[entry(1, 0), entry(7, 0)]).unwrap();
        let adapted = adapt(&offered, false, 0, 1);
        let [one, seven] = adapted.as_slice() else {
            panic!("entries went");
        };
        let (_, ecx, edx) = __cpuid_count_of(1, 0);
        assert_eq!(
            one.ecx & !(X2APIC | TSC_DEADLINE),
            (ecx | HYPERVISOR) & !(X2APIC | TSC_DEADLINE)
        );
        assert_eq!(one.edx, edx & !HTT);
        let (ebx, ..) = __cpuid_count_of(7, 0);
        assert_eq!(seven.ebx, ebx | TSC_ADJUST);
    }
}
