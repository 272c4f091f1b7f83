// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a vCPU says it is: the host's processor, less what the host cannot run
//! in a guest, with this machine's own topology.

use std::arch::x86_64::__cpuid_count;

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2};

use super::topology::{self, Place, Registers};

/// Bits of leaf 1, ECX, that KVM provides without the processor: x2APIC, the
/// TSC deadline timer, and that there is a hypervisor.
const X2APIC: u32 = 1 << 21;
const TSC_DEADLINE: u32 = 1 << 24;
const HYPERVISOR: u32 = 1 << 31;

/// Leaf 7, EBX: the TSC's adjustment, which KVM keeps itself.
const TSC_ADJUST: u32 = 1 << 1;
/// Leaf 7, EDX: what KVM offers against speculation, whatever it is made of.
const SPECULATION: u32 = 1 << 26 | 1 << 27 | 1 << 29 | 1 << 31;

/// Gives the vCPU with APIC id `id` of `count` its view of `supported`, which
/// is what KVM offers. `deadline`: whether KVM has the TSC deadline timer, which
/// older ones tell of apart (Linux, Documentation/virt/kvm/api.rst,
/// KVM_GET_SUPPORTED_CPUID).
pub fn adapt(supported: &CpuId, deadline: bool, id: u8, count: u8) -> CpuId {
    let mut entries = supported.as_slice().to_vec();
    for entry in &mut entries {
        mask(entry);
        if entry.function == 1 && deadline {
            entry.ecx |= TSC_DEADLINE;
        }
    }
    topology::place(&mut entries, Place { id, count }, &host);
    // Far more than there are.
    entries.truncate(KVM_MAX_CPUID_ENTRIES);
    CpuId::from_entries(&entries).unwrap_or_else(|_| supported.clone())
}

/// Takes away the features that the host's processor lacks: a KVM without
/// hardware behind it offers some that end in an emulation failure.
fn mask(entry: &mut kvm_cpuid_entry2) {
    let own = || host(entry.function, entry.index);
    match (entry.function, entry.index) {
        (1, _) => {
            let (_, _, ecx, edx) = own();
            entry.ecx &= ecx | X2APIC | TSC_DEADLINE | HYPERVISOR;
            entry.edx &= edx;
            entry.ecx |= HYPERVISOR;
        }
        (7, 0) => {
            let (_, ebx, ecx, edx) = own();
            entry.ebx &= ebx | TSC_ADJUST;
            entry.ecx &= ecx;
            entry.edx &= edx | SPECULATION;
        }
        (0x8000_0001, _) => {
            let (_, _, ecx, edx) = own();
            entry.ecx &= ecx;
            entry.edx &= edx;
        }
        _ => {}
    }
}

/// A subleaf of the processor itself.
fn host(leaf: u32, index: u32) -> Registers {
    #[allow(unused_unsafe, reason = "safe since Rust 1.94")]
    // SAFETY: every x86-64 processor has the instruction, and it has no effect
    // beside its results.
    let found = unsafe { __cpuid_count(leaf, index) };
    (found.eax, found.ebx, found.ecx, found.edx)
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

    fn find(cpuid: &CpuId, function: u32, index: u32) -> kvm_cpuid_entry2 {
        let mut all = cpuid.as_slice().iter();
        *all.find(|entry| (entry.function, entry.index) == (function, index))
            .unwrap()
    }

    #[test]
    fn each_vcpu_is_a_core_with_its_own_id() {
        let offered = CpuId::from_entries(&[entry(1, 0), entry(0xb, 0)]).unwrap();
        let adapted = adapt(&offered, false, 2, 3);
        assert_eq!(find(&adapted, 1, 0).ebx >> 24, 2);
        let cores = find(&adapted, 0xb, 1);
        assert_eq!((cores.eax, cores.ebx, cores.edx), (2, 3, 2));
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
            assert_eq!(find(&adapted, 1, 0).ecx & TSC_DEADLINE, expected);
        }
    }

    #[test]
    fn features_that_the_processor_lacks_are_masked() {
        let offered = CpuId::from_entries(&[entry(1, 0), entry(7, 0)]).unwrap();
        let adapted = adapt(&offered, false, 0, 1);
        let (one, seven) = (find(&adapted, 1, 0), find(&adapted, 7, 0));
        let (_, _, ecx, edx) = host(1, 0);
        assert_eq!(
            one.ecx & !(X2APIC | TSC_DEADLINE),
            (ecx | HYPERVISOR) & !(X2APIC | TSC_DEADLINE)
        );
        assert_eq!(one.edx, edx & !topology::HTT);
        let (_, ebx, ..) = host(7, 0);
        assert_eq!(seven.ebx, ebx | TSC_ADJUST);
    }
}
