// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! vCPUs, one thread each.

pub mod control;
pub mod cpuid;
mod faults;
mod progress;
mod run;
mod topology;

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow};
use kvm_ioctls::VcpuFd;
use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler, unblock_signal};

use super::Event;
use crate::bus::Bus;
use crate::confine::{self, Role};
use crate::virtio::Memory;
use control::Control;
use faults::Faults;
use progress::Progress;

/// Address spaces and where to report; the same for all vCPUs of a machine.
pub struct Surroundings {
    /// The guest's memory.
    pub memory: Memory,
    /// I/O ports.
    pub ports: Bus,
    /// Memory-mapped registers.
    pub registers: Bus,
    /// Hears of the guest's end.
    pub events: Sender<Event>,
    /// Ends a sentence about a guest that KVM cannot run.
    pub hint: &'static str,
}

/// The running vCPUs of a machine. Dropping them ends their threads.
#[derive(Debug)]
pub struct Vcpus {
    /// Dropped first.
    _progress: Option<Progress>,
    control: Arc<Control>,
    threads: Vec<JoinHandle<()>>,
}

impl Vcpus {
    /// Starts a thread for each of `vcpus`; they do what `control` says. If pages of
    /// the guest's memory `may_be_missing`, another looks whether they go on.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start(
        vcpus: Vec<VcpuFd>,
        control: Control,
        surroundings: Surroundings,
        may_be_missing: bool,
    ) -> Result<Self> {
        register_signal_handler(signal(), interrupted).context("cannot handle a signal")?;
        // It may have been blocked when the program started; threads inherit that.
        unblock_signal(signal()).map_err(|_| anyhow!("cannot unblock a signal"))?;
        let progress = may_be_missing
            .then(|| vcpus.iter().map(Faults::of).collect::<Option<Vec<_>>>())
            // On an old kernel there is nothing to look at.
            .flatten()
            .map(|faults| Progress::watch(faults, surroundings.events.clone()))
            .transpose()
            .context("cannot start a thread that watches the vCPUs")?;
        let surroundings = Arc::new(surroundings);
        let mut started = Self {
            _progress: progress,
            control: Arc::new(control),
            threads: Vec::new(),
        };
        for (number, vcpu) in vcpus.into_iter().enumerate() {
            let (control, surroundings) = (started.control.clone(), surroundings.clone());
            let body = move || run::run(vcpu, &control, &surroundings);
            let thread = confine::spawn(&format!("vcpu{number}"), Role::Vcpu, body)
                .context("cannot start a thread for a vCPU")?;
            started.threads.push(thread);
        }
        Ok(started)
    }

    /// Stops the guest; returns when no vCPU runs it any more.
    pub fn pause(&self) {
        self.control.pause(|| self.interrupt());
    }

    /// Lets the guest go on.
    pub fn resume(&self) {
        self.control.resume();
    }

    /// Makes all vCPUs leave the guest for a look at what is wanted; returns
    /// how many there are.
    fn interrupt(&self) -> usize {
        // One that has ended cannot be interrupted, and need not.
        let interrupted = |thread: &&JoinHandle<()>| thread.kill(signal()).is_ok();
        let alive = self.threads.iter().filter(|thread| !thread.is_finished());
        alive.filter(interrupted).count()
    }
}

impl Drop for Vcpus {
    fn drop(&mut self) {
        // Parked or out of the guest, each sees that it must end.
        self.pause();
        self.control.end();
        for thread in self.threads.drain(..) {
            // A panic was reported when it happened.
            let _ = thread.join();
        }
    }
}

/// Interrupts a vCPU. Its handler does nothing: that it came is enough.
fn signal() -> i32 {
    SIGRTMIN()
}

extern "C" fn interrupted(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}
