// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How the first vCPU finds itself: in 64-bit mode, with the first GiB mapped
//! where it is (Linux, Documentation/arch/x86/boot.rst, "64-bit Boot
//! Protocol").

use anyhow::{Context, Result};
use kvm_bindings::{Msrs, kvm_fpu, kvm_msr_entry, kvm_regs, kvm_segment};
use kvm_ioctls::VcpuFd;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::machine::layout;

/// Selectors that the boot protocol asks for.
const CODE: u16 = 0x10;
const DATA: u16 = 0x18;
const TASK: u16 = 0x20;

/// Control register bits (Intel SDM, volume 3, section 2.5).
const CR0_PE: u64 = 1;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;

/// Page table bits: present, writable, and a page of 2 MiB.
const TABLE: u64 = 0b11;
const PAGE_2M: u64 = 0b1000_0011;

/// Model-specific registers (Intel SDM, volume 4).
const MSR_MISC_ENABLE: u32 = 0x1a0;
const FAST_STRINGS: u64 = 1;
const MSR_MTRR_DEFAULT: u32 = 0x2ff;
const MTRR_ENABLED_WRITE_BACK: u64 = 1 << 11 | 6;

/// Local vector table of the local APIC: registers and delivery modes.
const APIC_LVT0: usize = 0x350;
const APIC_LVT1: usize = 0x360;
const MODE_EXTERNAL: u32 = 7;
const MODE_NMI: u32 = 4;

/// Writes the tables that [`boot_processor`] points to.
///
/// # Errors
/// When memory has no room for them.
pub fn write_tables(memory: &GuestMemoryMmap) -> Result<()> {
    let put = |value: u64, at: u64| memory.write_obj(value, GuestAddress(at));
    let (directories, pages) = (layout::PAGE_TABLES + 0x1000, layout::PAGE_TABLES + 0x2000);
    let mut written = put(directories | TABLE, layout::PAGE_TABLES);
    written = written.and_then(|()| put(pages | TABLE, directories));
    for nth in 0..512 {
        written = written.and_then(|()| put(nth << 21 | PAGE_2M, pages + nth * 8));
    }
    let segments = [(CODE, code()), (DATA, data()), (TASK, task())];
    for (selector, segment) in segments {
        let at = layout::GDT + u64::from(selector);
        written = written.and_then(|()| put(descriptor(&segment), at));
    }
    written.context("the guest's memory has no room for the boot tables")
}

/// Sets the first vCPU to begin at `entry`.
///
/// # Errors
/// When KVM refuses.
pub fn boot_processor(vcpu: &VcpuFd, entry: u64) -> Result<()> {
    let regs = kvm_regs {
        rip: entry,
        rsp: layout::BOOT_STACK,
        rbp: layout::BOOT_STACK,
        rsi: layout::BOOT_PARAMS,
        rflags: 2,
        ..kvm_regs::default()
    };
    vcpu.set_regs(&regs)
        .context("KVM does not take the vCPU's registers")?;
    let mut sregs = vcpu
        .get_sregs()
        .context("KVM does not give the vCPU's segments")?;
    sregs.cs = code();
    for segment in [
        &mut sregs.ds,
        &mut sregs.es,
        &mut sregs.fs,
        &mut sregs.gs,
        &mut sregs.ss,
    ] {
        *segment = data();
    }
    sregs.tr = task();
    sregs.gdt.base = layout::GDT;
    sregs.gdt.limit = TASK + 7;
    sregs.idt.base = 0;
    sregs.idt.limit = 0;
    sregs.cr3 = layout::PAGE_TABLES;
    sregs.cr4 |= CR4_PAE;
    sregs.cr0 |= CR0_PE | CR0_PG;
    sregs.efer |= EFER_LME | EFER_LMA;
    vcpu.set_sregs(&sregs)
        .context("KVM does not take the vCPU's segments")
}

/// What every vCPU starts with, beside what KVM gives it.
///
/// # Errors
/// When KVM refuses.
pub fn every_processor(vcpu: &VcpuFd) -> Result<()> {
    let fpu = kvm_fpu {
        fcw: 0x37f,
        mxcsr: 0x1f80,
        ..kvm_fpu::default()
    };
    vcpu.set_fpu(&fpu)
        .context("KVM does not take the vCPU's floating-point state")?;
    let entry = |index, data| kvm_msr_entry {
        index,
        data,
        ..kvm_msr_entry::default()
    };
    let msrs = Msrs::from_entries(&[
        entry(MSR_MISC_ENABLE, FAST_STRINGS),
        entry(MSR_MTRR_DEFAULT, MTRR_ENABLED_WRITE_BACK),
    ])
    .context("two registers are too many")?;
    // A KVM without one of them gives the guest one that reads as zero.
    vcpu.set_msrs(&msrs)
        .context("KVM does not take the vCPU's model-specific registers")?;
    let mut apic = vcpu
        .get_lapic()
        .context("KVM does not give the vCPU's interrupt controller")?;
    set_mode(&mut apic.regs, APIC_LVT0, MODE_EXTERNAL);
    set_mode(&mut apic.regs, APIC_LVT1, MODE_NMI);
    vcpu.set_lapic(&apic)
        .context("KVM does not take the vCPU's interrupt controller")
}

/// Sets the delivery mode in a register of the local vector table.
fn set_mode(registers: &mut [std::ffi::c_char], offset: usize, mode: u32) {
    let Some(register) = registers.get_mut(offset..offset + 4) else {
        return;
    };
    let mut bytes = [0; 4];
    for (byte, from) in bytes.iter_mut().zip(&*register) {
        *byte = from.to_le_bytes()[0];
    }
    let value = u32::from_le_bytes(bytes) & !0x700 | mode << 8;
    for (to, byte) in register.iter_mut().zip(value.to_le_bytes()) {
        *to = std::ffi::c_char::from_le_bytes([byte]);
    }
}

fn code() -> kvm_segment {
    kvm_segment {
        selector: CODE,
        type_: 0b1011,
        l: 1,
        db: 0,
        ..data()
    }
}

fn data() -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector: DATA,
        type_: 0b0011,
        present: 1,
        dpl: 0,
        db: 1,
        s: 1,
        l: 0,
        g: 1,
        avl: 0,
        unusable: 0,
        padding: 0,
    }
}

fn task() -> kvm_segment {
    kvm_segment {
        selector: TASK,
        type_: 0b1011,
        s: 0,
        db: 0,
        g: 0,
        limit: 0x67,
        ..data()
    }
}

/// The segment as an entry of a descriptor table (Intel SDM, volume 3, section
/// 3.4.5).
fn descriptor(segment: &kvm_segment) -> u64 {
    let limit = if segment.g == 1 {
        segment.limit >> 12
    } else {
        segment.limit
    };
    let limit = u64::from(limit);
    let bit = |value: u8, at: u32| u64::from(value) << at;
    let access = bit(segment.type_, 40)
        | bit(segment.s, 44)
        | bit(segment.dpl, 45)
        | bit(segment.present, 47)
        | bit(segment.avl, 52)
        | bit(segment.l, 53)
        | bit(segment.db, 54)
        | bit(segment.g, 55);
    let base = (segment.base & 0xff_ffff) << 16 | (segment.base >> 24 & 0xff) << 56;
    limit & 0xffff | (limit >> 16 & 0xf) << 48 | base | access
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_those_of_the_boot_protocol() {
        assert_eq!(descriptor(&code()), 0x00af_9b00_0000_ffff);
        assert_eq!(descriptor(&data()), 0x00cf_9300_0000_ffff);
    }

    #[test]
    fn a_delivery_mode_leaves_the_rest_of_the_register() {
        let mut registers = [-1; 8];
        set_mode(&mut registers, 4, MODE_NMI);
        assert_eq!(registers, [-1, -1, -1, -1, -1, -4, -1, -1]);
    }
}
