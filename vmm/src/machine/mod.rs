// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The machine: memory, interrupts, vCPUs, power, and how a kernel is started
//! on it. It is hardware-reduced ACPI without PCI; see [`acpi`].
//!
//! Everything is made before the guest runs: a [`Machine`] is put together,
//! then [`Machine::start`] makes the vCPUs' threads.

pub mod acpi;
pub mod boot;
pub mod host;
pub mod i8042;
pub mod layout;
pub mod memory;
pub mod power;
pub mod vcpu;

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use anyhow::{Context, Result, ensure};
use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, kvm_userspace_memory_region};
use kvm_ioctls::{Cap, IoEventAddress, Kvm, VcpuFd, VmFd};
use vm_memory::{Address, GuestMemoryBackend, GuestMemoryRegion};
use vmm_sys_util::eventfd::EventFd;

use crate::bus::{Bus, BusDevice};
use crate::virtio::mmio::{self, MmioTransport};
use crate::virtio::{Interrupt, Memory, VirtioDevice};
use acpi::{Hardware, VirtioSlot};
use boot::{Boot, registers, reset_vector};
use i8042::I8042;
use power::Power;
use vcpu::control::{Control, Wanted};
use vcpu::{Surroundings, Vcpus};

/// What a machine tells of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The guest switched off.
    PowerOff,
    /// The guest reset.
    Reset,
    /// The guest cannot go on; a sentence.
    Crash(String),
    /// Somebody outside wants the end.
    Quit,
}

/// A machine that has not been started.
pub struct Machine {
    kvm: Kvm,
    vm: VmFd,
    memory: Memory,
    cpus: u8,
    hardware: Hardware,
    ports: Bus,
    registers: Bus,
    power: Arc<Power>,
    events: Sender<Event>,
    /// Where the first vCPU begins.
    entry: u64,
}

/// A machine whose guest runs, or waits.
#[derive(Debug)]
pub struct Running {
    vcpus: Vcpus,
    power: Arc<Power>,
    _vm: VmFd,
    /// Last: KVM uses it until the others are gone.
    _memory: Memory,
}

impl Machine {
    /// A machine with `memory` and `cpus` vCPUs, and no devices yet.
    ///
    /// # Errors
    /// A sentence about what KVM cannot do.
    pub fn new(memory: Memory, cpus: u8, events: Sender<Event>) -> Result<Self> {
        let kvm = host::open()?;
        let most = kvm.get_max_vcpus();
        ensure!(
            cpus > 0 && usize::from(cpus) <= most,
            "{cpus} vCPUs are not possible; this machine's KVM can have 1 to {most}"
        );
        let vm = kvm.create_vm().context("KVM cannot make a machine")?;
        let tss = usize::try_from(layout::KVM_TSS).unwrap_or_default();
        vm.set_tss_address(tss)
            .context("KVM does not take the address of its task state")?;
        if kvm.check_extension(Cap::SetIdentityMapAddr) {
            vm.set_identity_map_address(layout::KVM_IDENTITY_MAP)
                .context("KVM does not take the address of its identity map")?;
        }
        vm.create_irq_chip()
            .context("KVM cannot make interrupt controllers")?;
        give_memory(&vm, &memory)?;
        let power = Arc::new(Power::new(events.clone()).context("cannot make an event")?);
        let mut machine = Self {
            kvm,
            vm,
            memory,
            cpus,
            hardware: Hardware {
                cpus,
                ..Hardware::default()
            },
            ports: Bus::default(),
            registers: Bus::default(),
            power: power.clone(),
            events,
            entry: layout::KERNEL,
        };
        machine.wire(power.line(), layout::POWER_GSI)?;
        machine.add_ports(layout::POWER, power::PORTS, power)?;
        let events = machine.events.clone();
        let keyboard = I8042::new(move || {
            // The machine is at its end already if nobody listens.
            let _ = events.send(Event::Reset);
        });
        machine.add_ports(i8042::PORT, 1, Arc::new(keyboard))?;
        Ok(machine)
    }

    /// The guest's memory.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Where to report the guest's end.
    pub fn events(&self) -> &Sender<Event> {
        &self.events
    }

    /// Places `device` at the I/O ports from `first`.
    ///
    /// # Errors
    /// When another device is there.
    pub fn add_ports(&mut self, first: u16, len: u64, device: Arc<dyn BusDevice>) -> Result<()> {
        Ok(self.ports.insert(first.into(), len, device)?)
    }

    /// Adds the next serial port; `line` is its interrupt.
    ///
    /// # Errors
    /// When there are two already, or KVM refuses.
    pub fn add_serial(&mut self, line: &EventFd, device: Arc<dyn BusDevice>) -> Result<()> {
        let at = self.hardware.serial.len();
        let (port, gsi) = *layout::SERIAL
            .get(at)
            .context("a machine has at most two serial ports; leave out a --serial")?;
        self.wire(line, gsi)?;
        self.add_ports(port, 8, device)?;
        self.hardware.serial.push((port, gsi));
        Ok(())
    }

    /// Adds a virtio device behind the next free registers and interrupt.
    ///
    /// # Errors
    /// When there are too many, or the system refuses.
    pub fn add_virtio(&mut self, device: Box<dyn VirtioDevice>) -> Result<Arc<MmioTransport>> {
        let number = u32::try_from(self.hardware.virtio.len()).unwrap_or(u32::MAX);
        let gsi = layout::VIRTIO_GSIS
            .start()
            .checked_add(number)
            .filter(|gsi| layout::VIRTIO_GSIS.contains(gsi))
            .context("a machine has room for 18 devices; leave some of them out")?;
        let address = layout::VIRTIO + u64::from(number) * mmio::SIZE;
        let interrupt = Arc::new(Interrupt::new().context("cannot make an event")?);
        self.wire(interrupt.line(), gsi)?;
        let transport = MmioTransport::new(device, self.memory.clone(), interrupt)
            .context("cannot make a device's queues")?;
        let transport = Arc::new(transport);
        let doorbell = IoEventAddress::Mmio(address + mmio::NOTIFY);
        for (queue, kick) in (0u32..).zip(transport.kicks()) {
            self.vm
                .register_ioevent(kick, &doorbell, queue)
                .context("KVM cannot wire a device's notifications")?;
        }
        self.registers
            .insert(address, mmio::SIZE, transport.clone())?;
        self.hardware.virtio.push(VirtioSlot {
            address: u32::try_from(address).context("a device lies too high")?,
            gsi,
        });
        Ok(transport)
    }

    fn wire(&self, line: &EventFd, gsi: u32) -> Result<()> {
        self.vm
            .register_irqfd(line, gsi)
            .context("KVM cannot wire an interrupt")
    }

    /// Loads what the first vCPU is to begin with. Devices may still be added.
    ///
    /// # Errors
    /// A sentence about what cannot be loaded.
    pub fn load(&mut self, kernel: &Path, initrd: Option<&Path>, command_line: &str) -> Result<()> {
        let boot = Boot {
            kernel,
            initrd,
            command_line,
            acpi: layout::ACPI,
        };
        self.entry = boot::load(&self.memory, &boot)?;
        Ok(())
    }

    /// Starts the vCPUs. They wait at first, if `paused`.
    ///
    /// # Errors
    /// A sentence about what KVM cannot do.
    pub fn start(self, paused: bool) -> Result<Running> {
        acpi::write(&self.memory, &self.hardware)?;
        let vcpus = self.vcpus()?;
        let wanted = if paused { Wanted::Pause } else { Wanted::Run };
        let may_be_missing = memory::is_huge(&self.memory);
        let surroundings = Surroundings {
            memory: self.memory.clone(),
            ports: self.ports,
            registers: self.registers,
            events: self.events,
            hint: host::hint(),
        };
        Ok(Running {
            vcpus: Vcpus::start(vcpus, Control::new(wanted), surroundings, may_be_missing)?,
            power: self.power,
            _vm: self.vm,
            _memory: self.memory,
        })
    }

    fn vcpus(&self) -> Result<Vec<VcpuFd>> {
        let supported = self
            .kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .context("KVM does not say what its processors can do")?;
        let deadline = self.kvm.check_extension(Cap::TscDeadlineTimer);
        registers::write_tables(&self.memory)?;
        reset_vector::write(&self.memory)?;
        let mut vcpus = Vec::new();
        for id in 0..self.cpus {
            let vcpu = self
                .vm
                .create_vcpu(id.into())
                .with_context(|| format!("KVM cannot make vCPU {id}"))?;
            let cpuid = vcpu::cpuid::adapt(&supported, deadline, id, self.cpus);
            vcpu.set_cpuid2(&cpuid)
                .context("KVM does not take the vCPU's identification")?;
            registers::every_processor(&vcpu)?;
            // The others wait for the first to start them.
            if id == 0 {
                registers::boot_processor(&vcpu, self.entry)?;
            }
            vcpus.push(vcpu);
        }
        Ok(vcpus)
    }
}

impl Running {
    /// Stops the guest; returns when it stands still. Devices finish what they
    /// have begun.
    pub fn pause(&self) {
        self.vcpus.pause();
    }

    /// Lets the guest go on.
    pub fn resume(&self) {
        self.vcpus.resume();
    }

    /// Presses the power button.
    pub fn press_button(&self) {
        self.power.press_button();
    }
}

fn give_memory(vm: &VmFd, memory: &Memory) -> Result<()> {
    for (slot, region) in (0u32..).zip(memory.iter()) {
        let host = memory
            .get_host_address(region.start_addr())
            .context("the guest's memory is not mapped")?;
        let region = kvm_userspace_memory_region {
            slot,
            flags: 0,
            guest_phys_addr: region.start_addr().raw_value(),
            memory_size: region.len(),
            userspace_addr: host as u64,
        };
        // SAFETY: the region is mapped for as long as `memory` lives, which the
        // machine and then its devices hold as long as the VM exists; and it
        // overlaps no other region, since regions of a guest's memory do not.
        unsafe { vm.set_user_memory_region(region) }
            .context("KVM does not take the guest's memory")?;
    }
    Ok(())
}
