// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The 16550 on the bus.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vm_superio::serial::NoEvents;
use vm_superio::{Serial, Trigger};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::output::{Output, Writer};
use crate::bus::BusDevice;
use crate::event;

/// Receive buffer and transmit holding register.
const DATA: u8 = 0;
/// Interrupt enable register.
const IER: u8 = 1;
/// Interrupt identification register.
const IIR: u8 = 2;
/// Line control register.
const LCR: u8 = 3;
/// Line status register.
const LSR: u8 = 5;
/// The last register.
const LAST: u8 = 7;

const IER_RECEIVED: u8 = 0x01;
const IER_SENT: u8 = 0x02;
/// FIFOs are there and on.
const IIR_FIFOS: u8 = 0xc0;
const IIR_NONE: u8 = 0x01;
const IIR_SENT: u8 = 0x02;
const IIR_RECEIVED: u8 = 0x04;
const LCR_DIVISOR: u8 = 0x80;
const LSR_READY: u8 = 0x01;

/// How much input may wait for the guest before no more should come.
const BACKLOG: usize = 64 << 10;

/// A 16550 whose output goes to an [`Output`], and whose input comes by
/// [`Uart::feed`].
///
/// No byte of input is lost: what does not fit into the receive FIFO (64
/// bytes) waits behind it. Once the driver has emptied the FIFO it is filled
/// again in the same access, so that a long line costs no change of threads.
///
/// No command clears the FIFOs: a driver clears them when it starts, and what
/// was typed before would be lost.
///
/// An access of several bytes is as many accesses of one register: that is
/// what KVM makes of `rep outsb` and `rep insb`.
pub(super) struct Uart {
    registers: Mutex<Registers>,
    output: Option<Arc<Output>>,
    /// Set when more input may come.
    room: EventFd,
}

struct Registers {
    serial: Serial<Irq, NoEvents, Writer>,
    /// The transmitter's interrupt, while that of the receiver, which is
    /// before it, is shown.
    sent: bool,
    /// Input that waits for room in the FIFO.
    backlog: VecDeque<u8>,
    /// Whoever feeds waits for room in the backlog.
    waiting: bool,
}

/// The interrupt line.
struct Irq(EventFd);

impl Trigger for Irq {
    type E = Infallible;

    fn trigger(&self) -> Result<(), Infallible> {
        event::set(&self.0);
        Ok(())
    }
}

impl Uart {
    /// Without an `output`, what the guest writes is gone.
    pub(super) fn new(irq: EventFd, output: Option<Arc<Output>>) -> io::Result<Self> {
        let serial = Serial::new(Irq(irq), Writer(output.clone()));
        let registers = Mutex::new(Registers {
            serial,
            sent: false,
            backlog: VecDeque::new(),
            waiting: false,
        });
        Ok(Self {
            registers,
            output,
            room: EventFd::new(EFD_NONBLOCK)?,
        })
    }

    /// Readable when more input may come, after [`Uart::feed`] has said no.
    pub(super) fn room(&self) -> &EventFd {
        &self.room
    }

    /// Takes input, and says whether more may come.
    pub(super) fn feed(&self, input: &[u8]) -> bool {
        let mut registers = self.lock();
        registers.backlog.extend(input);
        registers.fill();
        registers.waiting = registers.backlog.len() >= BACKLOG;
        !registers.waiting
    }

    /// Goes on with input after an access.
    fn refill(&self, registers: &mut Registers) {
        if registers.backlog.is_empty() || registers.is_ready() {
            return;
        }
        registers.fill();
        if registers.waiting && registers.backlog.len() <= BACKLOG / 2 {
            registers.waiting = false;
            event::set(&self.room);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Registers> {
        self.registers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl BusDevice for Uart {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let Some(register) = register(offset) else {
            data.fill(0xff);
            return;
        };
        let mut registers = self.lock();
        for byte in data {
            *byte = registers.read(register);
            self.refill(&mut registers);
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let Some(register) = register(offset) else {
            return;
        };
        if register == DATA
            && let Some(output) = &self.output
        {
            // Not with the registers locked: input goes on meanwhile.
            output.wait_for_room();
        }
        let mut registers = self.lock();
        for byte in data {
            // Neither the writer nor the trigger fails.
            let _ = registers.serial.write(register, *byte);
            self.refill(&mut registers);
        }
    }
}

impl Registers {
    fn read(&mut self, register: u8) -> u8 {
        match register {
            IIR => self.identify(),
            _ => self.serial.read(register),
        }
    }

    /// The interrupt to serve first. The one for received data stays as long
    /// as there are data, as in the real chip: vm-superio forgets it when it
    /// is read, and a driver that leaves its handler with data left (Linux
    /// reads 256 bytes at a time) would never come back for them.
    fn identify(&mut self) -> u8 {
        self.sent |= self.serial.read(IIR) & IIR_SENT != 0;
        // The divisor hides the interrupt enable register. No driver that
        // sets it is waiting for an interrupt.
        let enabled = match self.serial.read(LCR) & LCR_DIVISOR {
            0 => self.serial.read(IER),
            _ => 0,
        };
        IIR_FIFOS
            | if self.is_ready() && enabled & IER_RECEIVED != 0 {
                IIR_RECEIVED
            } else if std::mem::take(&mut self.sent) && enabled & IER_SENT != 0 {
                IIR_SENT
            } else {
                IIR_NONE
            }
    }

    /// Whether the receive FIFO holds anything.
    fn is_ready(&mut self) -> bool {
        self.serial.read(LSR) & LSR_READY != 0
    }

    /// Moves what fits into the receive FIFO. Nothing does in loopback mode.
    fn fill(&mut self) {
        // Either part of the queue alone would do: the FIFO is smaller than
        // what usually waits, and is filled again when it is empty.
        let (part, _) = self.backlog.as_slices();
        // A full FIFO is an error there, and no byte taken here.
        let taken = self.serial.enqueue_raw_bytes(part).unwrap_or(0);
        self.backlog.drain(..taken);
    }
}

fn register(offset: u64) -> Option<u8> {
    u8::try_from(offset).ok().filter(|offset| *offset <= LAST)
}

#[cfg(test)]
mod tests;
