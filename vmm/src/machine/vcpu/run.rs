// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A vCPU's thread: into the guest, and out again for what the guest cannot do
//! itself.

use kvm_bindings::kvm_run;
use kvm_ioctls::{VcpuExit, VcpuFd};
use vm_memory::{GuestAddress, GuestMemoryBackend};

use super::Surroundings;
use super::control::Control;
use crate::machine::Event;

/// What is said when KVM finds no page of the host for one of the guest.
const NO_PAGE: &str = "the host has no page for memory that the guest touches, or it is broken";

/// Runs the guest until the thread is to end.
pub(super) fn run(mut vcpu: VcpuFd, control: &Control, around: &Surroundings) {
    let mut parked = false;
    while control.park(&mut parked) {
        if parked {
            // So that the guest's watchdogs do not take the pause for a hang.
            // Fails when the guest does not use KVM's clock.
            let _ = vcpu.kvmclock_ctrl();
        }
        let Some(crash) = step(&mut vcpu, around) else {
            continue;
        };
        // Nobody listens once the machine is at its end.
        let _ = around.events.send(Event::Crash(crash));
        // There is nothing more to run; wait for the end.
        while control.park(&mut parked) {
            std::thread::park_timeout(std::time::Duration::from_millis(10));
        }
    }
}

/// Enters the guest once; gives the sentence that says why it cannot go on.
fn step(vcpu: &mut VcpuFd, around: &Surroundings) -> Option<String> {
    match vcpu.run() {
        Ok(VcpuExit::IoIn(port, data)) => around.ports.read(port.into(), data),
        Ok(VcpuExit::IoOut(port, data)) => around.ports.write(port.into(), data),
        Ok(VcpuExit::MmioRead(address, data)) => {
            if is_memory(around, address) {
                return Some(no_page(address));
            }
            around.registers.read(address, data);
        }
        Ok(VcpuExit::MmioWrite(address, data)) => {
            if is_memory(around, address) {
                return Some(no_page(address));
            }
            around.registers.write(address, data);
        }
        Ok(VcpuExit::Intr | VcpuExit::Hlt | VcpuExit::IrqWindowOpen) => {}
        Ok(VcpuExit::Shutdown) => {
            return Some(format!("the guest crashed: triple fault{}", place(vcpu)));
        }
        Ok(VcpuExit::InternalError) => return Some(internal_error(vcpu, around)),
        Ok(VcpuExit::FailEntry(reason, _)) => {
            return Some(format!(
                "the processor refuses to run the guest (hardware reason {reason:#x}){}{}",
                place(vcpu),
                around.hint
            ));
        }
        Ok(VcpuExit::MemoryFault { gpa, .. }) => return Some(no_page(gpa)),
        Ok(other) => {
            return Some(format!(
                "KVM stopped the guest for no known reason: {other:?}"
            ));
        }
        Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {}
        Err(error) if matches!(error.errno(), libc::EFAULT | libc::EHWPOISON) => {
            return Some(format!("{NO_PAGE}{}", place(vcpu)));
        }
        Err(error) => return Some(format!("KVM cannot run the guest: {error}{}", around.hint)),
    }
    None
}

/// Whether `address` is in the guest's memory. An instruction that KVM emulates is taken
/// for one on a device's registers when it finds no page.
fn is_memory(around: &Surroundings, address: u64) -> bool {
    around.memory.address_in_range(GuestAddress(address))
}

fn no_page(address: u64) -> String {
    format!("{NO_PAGE} (at guest address {address:#x})")
}

/// KVM_INTERNAL_ERROR_*: what KVM could not do for the guest.
fn internal_error(vcpu: &mut VcpuFd, around: &Surroundings) -> String {
    let what = match suberror(vcpu.get_kvm_run()) {
        1 => "an instruction that it has to emulate is unknown to it",
        2 => "the guest took an exception while another was delivered",
        3 => "an event could not be delivered to the guest",
        4 => "the processor left the guest for an unknown reason",
        _ => "internal error",
    };
    format!(
        "KVM cannot run this guest: {what}{}{}",
        place(vcpu),
        around.hint
    )
}

fn suberror(run: &kvm_run) -> u32 {
    // SAFETY: the exit reason is an internal error, so KVM has filled in this
    // member; every bit pattern is a number.
    unsafe { run.__bindgen_anon_1.internal.suberror }
}

/// Where the vCPU is, for the sentence.
fn place(vcpu: &VcpuFd) -> String {
    vcpu.get_regs()
        .map(|regs| format!(" at instruction address {:#x}", regs.rip))
        .unwrap_or_default()
}
