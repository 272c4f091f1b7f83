// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Accesses that are made up, and the guest's program that does them one after
//! the other.

use tmem_vmm::machine::{i8042, layout, power};
use tmem_vmm::virtio::mmio;
use virtio_bindings::bindings::virtio_mmio as register;

use super::scratch::{AVAILABLE, Dice, SCRATCH, SIZE, STRIDE, USED, scratch};
use crate::asm::{If, Reg, Width};
use crate::guest::Guest;
use crate::virtio::Device;

/// Accesses of each guest.
const ROUNDS: usize = 4000;

const WIDTHS: [Width; 4] = [Width::One, Width::Two, Width::Four, Width::Eight];

/// What the guest's program can do, by its number.
fn kinds() -> Vec<(Space, Direction, Width)> {
    let mut kinds = Vec::new();
    for width in WIDTHS {
        for direction in [Direction::Read, Direction::Write] {
            kinds.push((Space::Memory, direction, width));
            if width != Width::Eight {
                kinds.push((Space::Ports, direction, width));
            }
        }
    }
    kinds
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Space {
    Memory,
    Ports,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Read,
    Write,
}

/// The accesses, as the program reads them.
struct Script {
    dice: Dice,
    devices: u64,
    /// Memory that devices may use, with anything in it.
    scratch: u64,
    kinds: Vec<(Space, Direction, Width)>,
    /// Kind, address and value of each.
    steps: Vec<[u64; 3]>,
}

impl Script {
    fn step(&mut self, kind: (Space, Direction, Width), at: u64, value: u64) {
        let number = self.kinds.iter().position(|known| *known == kind).unwrap();
        self.steps.push([number as u64, at, value]);
    }

    /// Writes one register as it should be written.
    fn write(&mut self, device: Device, register: u32, value: u64) {
        let kind = (Space::Memory, Direction::Write, Width::Four);
        self.step(kind, device.at(register), value);
    }

    /// Any access to a device.
    fn any_register(&mut self) {
        // One more than there are.
        let device = Device(self.dice.below(self.devices + 1));
        let usual = self.dice.below(4) != 0;
        let at = match self.dice.below(8) {
            0 => self.dice.below(mmio::SIZE),
            1 => 0x100 + self.dice.below(0x40),
            _ => self.dice.below(0x40) * 4,
        };
        let width = if usual {
            Width::Four
        } else {
            self.dice.one_of(&WIDTHS)
        };
        let direction = self.dice.one_of(&[Direction::Read, Direction::Write]);
        let register = at as u32;
        // Devices write where queues are: not to the program.
        let addresses = register::VIRTIO_MMIO_QUEUE_DESC_LOW..register::VIRTIO_MMIO_CONFIG;
        let value = match self.dice.below(4) {
            _ if addresses.contains(&register) => self.address(),
            0 => self.dice.roll(),
            1 => 0,
            _ => self.dice.below(0x20),
        };
        let at = device.at(0) + at;
        self.step((Space::Memory, direction, width), at, value);
    }

    /// In the scratch memory, or in none.
    fn address(&mut self) -> u64 {
        match self.dice.below(4) {
            0 => self.dice.roll() | 1 << 31,
            _ => self.scratch + self.dice.below(SCRATCH / 16) * 16,
        }
    }

    /// Any access to an I/O port that does not end the machine.
    fn any_port(&mut self) {
        let (first, count) = self.dice.one_of(&[
            (layout::POWER, power::PORTS),
            (layout::SERIAL[0].0, 8),
            (layout::SERIAL[1].0, 8),
            (i8042::PORT, 1),
        ]);
        let at = u64::from(first) + self.dice.below(count);
        // Neither the bit that enables sleep nor the values that reset.
        let harmless = self.dice.roll() & 0xdcdc_dcdc | 0x0202_0202;
        let width = self.dice.one_of(&WIDTHS[..3]);
        let direction = self.dice.one_of(&[Direction::Read, Direction::Write]);
        self.step((Space::Ports, direction, width), at, harmless);
    }

    /// Starts a device properly, but for the queues, which may be anything.
    fn start(&mut self) {
        let device = Device(self.dice.below(self.devices));
        for status in [0, 1, 3] {
            self.write(device, register::VIRTIO_MMIO_STATUS, status);
        }
        self.write(device, register::VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
        self.write(device, register::VIRTIO_MMIO_DRIVER_FEATURES, 1);
        self.write(device, register::VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
        // VIRTIO_RING_F_EVENT_IDX and VIRTIO_RING_F_INDIRECT_DESC, or neither.
        let features = self.dice.one_of(&[0, 3 << 28]);
        self.write(device, register::VIRTIO_MMIO_DRIVER_FEATURES, features);
        self.write(device, register::VIRTIO_MMIO_STATUS, 0xb);
        for queue in 0..3 {
            self.write(device, register::VIRTIO_MMIO_QUEUE_SEL, queue);
            self.write(device, register::VIRTIO_MMIO_QUEUE_NUM, SIZE);
            let descriptors = self.dice.below(AVAILABLE / SIZE - SIZE) * 16;
            let rings = self.dice.below((USED - AVAILABLE) / STRIDE) * STRIDE;
            for (part, at) in [
                (register::VIRTIO_MMIO_QUEUE_DESC_LOW, descriptors),
                (register::VIRTIO_MMIO_QUEUE_AVAIL_LOW, AVAILABLE + rings),
                (register::VIRTIO_MMIO_QUEUE_USED_LOW, USED + rings),
            ] {
                let address = self.scratch + at;
                self.write(device, part, address);
            }
            self.write(device, register::VIRTIO_MMIO_QUEUE_READY, 1);
        }
        self.write(device, register::VIRTIO_MMIO_STATUS, 0xf);
        for queue in 0..4 {
            self.write(device, register::VIRTIO_MMIO_QUEUE_NOTIFY, queue);
        }
    }

    /// Resets a device.
    fn reset(&mut self) {
        let device = Device(self.dice.below(self.devices));
        self.write(device, register::VIRTIO_MMIO_STATUS, 0);
    }
}

/// Has the guest do the accesses to that many devices that `seed` gives.
pub(super) fn misuse(guest: &mut Guest, seed: u64, devices: u64) {
    let mut dice = Dice(seed);
    // The longest buffer goes beyond the end.
    let at = guest.space(SCRATCH as usize + 4096, 0, 16);
    guest.poke(at, &scratch(&mut dice, at));
    let mut script = Script {
        dice,
        devices,
        scratch: at,
        kinds: kinds(),
        steps: Vec::new(),
    };
    while script.steps.len() < ROUNDS {
        match script.dice.below(100) {
            0..4 => script.start(),
            4..6 => script.reset(),
            6..30 => script.any_port(),
            _ => script.any_register(),
        }
    }
    for device in 0..devices {
        script.write(Device(device), register::VIRTIO_MMIO_STATUS, 0);
    }
    let bytes: Vec<u8> = script
        .steps
        .as_flattened()
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect();
    let begin = guest.put(&bytes, 8);
    let code = &mut guest.code;
    code.set(Reg::Rsi, begin);
    let (next, done) = (code.label(), code.label());
    let again = code.here();
    code.set(Reg::Rcx, begin + bytes.len() as u64);
    code.compare_with(Reg::Rsi, Reg::Rcx);
    code.jump_if(If::Equal, done);
    for register in [Reg::Rcx, Reg::Rdx, Reg::Rax] {
        code.load(Width::Eight, register, Reg::Rsi);
        code.add(Reg::Rsi, 8);
    }
    for (number, (space, direction, width)) in (0..).zip(&script.kinds) {
        let other = code.label();
        code.compare(Reg::Rcx, number);
        code.jump_if(If::Different, other);
        match (space, direction) {
            (Space::Memory, Direction::Read) => code.load(*width, Reg::Rax, Reg::Rdx),
            (Space::Memory, Direction::Write) => code.store(*width, Reg::Rdx, Reg::Rax),
            (Space::Ports, Direction::Read) => code.input(*width),
            (Space::Ports, Direction::Write) => code.out(*width),
        }
        code.jump(next);
        code.place(other);
    }
    code.place(next);
    code.jump(again);
    code.place(done);
}
