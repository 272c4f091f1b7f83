// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A vCPU's thread: into the guest, and out again for what the guest cannot do
//! itself.

use kvm_bindings::kvm_run;
use kvm_ioctls::{VcpuExit, VcpuFd};

use super::Surroundings;
use super::control::Control;
use crate::machine::{Event, host};

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
        Ok(VcpuExit::MmioRead(address, data)) => around.registers.read(address, data),
        Ok(VcpuExit::MmioWrite(address, data)) => around.registers.write(address, data),
        Ok(VcpuExit::Intr | VcpuExit::Hlt | VcpuExit::IrqWindowOpen) => {}
        Ok(VcpuExit::Shutdown) => {
            return Some(format!("the guest crashed: triple fault{}", place(vcpu)));
        }
        Ok(VcpuExit::InternalError) => return Some(internal_error(vcpu)),
        Ok(VcpuExit::FailEntry(reason, _)) => {
            return Some(format!(
                "the processor refuses to run the guest (hardware reason {reason:#x}){}{}",
                place(vcpu),
                host::hint()
            ));
        }
        Ok(other) => {
            return Some(format!(
                "KVM stopped the guest for no known reason: {other:?}"
            ));
        }
        Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {}
        Err(error) => return Some(format!("KVM cannot run the guest: {error}{}", host::hint())),
    }
    None
}

/// KVM_INTERNAL_ERROR_*: what KVM could not do for the guest.
fn internal_error(vcpu: &mut VcpuFd) -> String {
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
        host::hint()
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
