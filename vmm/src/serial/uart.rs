// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The 16550 on the bus.

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
/// Modem control register.
const MCR: u8 = 4;
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
const MCR_LOOP: u8 = 0x10;
const LSR_READY: u8 = 0x01;

/// How much of the receive FIFO (64 bytes) must be free for more input. Half
/// of it: the guest finds more while it still reads.
const ENOUGH_ROOM: usize = 32;

/// A 16550 whose output goes to an [`Output`], and whose input comes by
/// [`Uart::feed`].
///
/// An access of several bytes is as many accesses of one register: that is
/// what KVM makes of `rep outsb` and `rep insb`.
pub(super) struct Uart {
    registers: Mutex<Registers>,
    output: Option<Arc<Output>>,
    /// Set when there is room for input again.
    room: EventFd,
}

struct Registers {
    serial: Serial<Irq, NoEvents, Writer>,
    /// The transmitter's interrupt, while that of the receiver, which is
    /// before it, is shown.
    sent: bool,
    /// Input waits for room.
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
            waiting: false,
        });
        Ok(Self {
            registers,
            output,
            room: EventFd::new(EFD_NONBLOCK)?,
        })
    }

    /// Readable once a [`Uart::feed`] that did not take all can go on.
    pub(super) fn room(&self) -> &EventFd {
        &self.room
    }

    /// Puts input into the receive FIFO, and gives how many bytes fitted.
    pub(super) fn feed(&self, input: &[u8]) -> usize {
        let mut registers = self.lock();
        // A full FIFO is an error there, and no byte taken here.
        let taken = registers.serial.enqueue_raw_bytes(input).unwrap_or(0);
        registers.waiting = taken < input.len();
        taken
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
            return data.fill(0xff);
        };
        let mut registers = self.lock();
        for byte in data {
            *byte = registers.read(register);
        }
        if registers.has_room() {
            event::set(&self.room);
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
        }
        if registers.has_room() {
            event::set(&self.room);
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
        let ready = self.serial.read(LSR) & LSR_READY != 0;
        IIR_FIFOS
            | if ready && enabled & IER_RECEIVED != 0 {
                IIR_RECEIVED
            } else if std::mem::take(&mut self.sent) && enabled & IER_SENT != 0 {
                IIR_SENT
            } else {
                IIR_NONE
            }
    }

    /// Whether input that waits can go on; says so once.
    fn has_room(&mut self) -> bool {
        let room = self.waiting
            && self.serial.fifo_capacity() >= ENOUGH_ROOM
            && self.serial.read(MCR) & MCR_LOOP == 0;
        if room {
            self.waiting = false;
        }
        room
    }
}

fn register(offset: u64) -> Option<u8> {
    u8::try_from(offset).ok().filter(|offset| *offset <= LAST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn uart() -> (Uart, EventFd) {
        let irq = EventFd::new(EFD_NONBLOCK).unwrap();
        (Uart::new(irq.try_clone().unwrap(), None).unwrap(), irq)
    }

    fn read(uart: &Uart, register: u8) -> u8 {
        let mut data = [0];
        BusDevice::read(uart, register.into(), &mut data);
        data[0]
    }

    fn write(uart: &Uart, register: u8, value: u8) {
        BusDevice::write(uart, register.into(), &[value]);
    }

    #[test]
    fn received_data_interrupt_until_all_is_read() {
        let (uart, irq) = uart();
        write(&uart, IER, IER_RECEIVED);
        assert_eq!(read(&uart, IIR), 0xc1);
        assert_eq!(uart.feed(b"ab"), 2);
        assert!(event::take(&irq));
        for byte in *b"ab" {
            assert_eq!(read(&uart, IIR), 0xc4);
            assert_eq!(read(&uart, IIR), 0xc4, "looking takes nothing away");
            assert_eq!(read(&uart, DATA), byte);
        }
        assert_eq!(read(&uart, IIR), 0xc1);
    }

    #[test]
    fn a_sent_byte_is_told_after_received_ones() {
        let (uart, irq) = uart();
        uart.feed(b"a");
        write(&uart, IER, IER_RECEIVED | IER_SENT);
        assert!(event::take(&irq));
        assert_eq!(read(&uart, IIR), 0xc4);
        assert_eq!(read(&uart, DATA), b'a');
        assert_eq!(read(&uart, IIR), 0xc2);
        assert_eq!(read(&uart, IIR), 0xc1, "it is told once");
        write(&uart, DATA, b'x');
        assert!(event::take(&irq));
        assert_eq!(read(&uart, IIR), 0xc2);
    }

    #[test]
    fn input_that_does_not_fit_is_called_for_when_half_is_free() {
        let (uart, _irq) = uart();
        assert_eq!(uart.feed(&[7; 100]), 64);
        assert_eq!(uart.feed(&[7; 36]), 0);
        for _ in 0..31 {
            read(&uart, DATA);
        }
        assert!(!event::take(uart.room()));
        read(&uart, DATA);
        assert!(event::take(uart.room()));
        assert_eq!(uart.feed(&[7; 36]), 32);
        BusDevice::read(&uart, 0, &mut [0; 64]);
        assert!(event::take(uart.room()));
        assert_eq!(uart.feed(&[7; 4]), 4);
        BusDevice::read(&uart, 0, &mut [0; 64]);
        assert!(!event::take(uart.room()), "nobody waits");
    }

    #[test]
    fn a_string_instruction_is_as_many_accesses() {
        let output = Arc::<Output>::default();
        let irq = EventFd::new(EFD_NONBLOCK).unwrap();
        let uart = Uart::new(irq, Some(Arc::clone(&output))).unwrap();
        BusDevice::write(&uart, 0, b"hello\n");
        assert_eq!(output.next().unwrap(), b"hello\n");
        uart.feed(b"ab");
        let mut data = [0xff; 3];
        BusDevice::read(&uart, 0, &mut data);
        assert_eq!(data, *b"ab\0");
    }

    #[derive(Clone, Debug)]
    enum Step {
        Read(u64, usize),
        Write(u64, Vec<u8>),
        Feed(Vec<u8>),
    }

    fn step() -> impl Strategy<Value = Step> {
        let offset = || prop_oneof![9 => 0..8_u64, 1 => any::<u64>()];
        let bytes = |len| prop::collection::vec(any::<u8>(), 0..len);
        prop_oneof![
            (offset(), 0..9_usize).prop_map(|(offset, len)| Step::Read(offset, len)),
            (offset(), bytes(9)).prop_map(|(offset, bytes)| Step::Write(offset, bytes)),
            bytes(100).prop_map(Step::Feed),
        ]
    }

    proptest! {
        /// Whatever a driver does to its port, one that follows finds it
        /// working.
        #[test]
        fn no_access_breaks_the_port(steps in prop::collection::vec(step(), 0..200)) {
            let (uart, irq) = uart();
            for step in steps {
                match step {
                    Step::Read(offset, len) => BusDevice::read(&uart, offset, &mut vec![0; len]),
                    Step::Write(offset, bytes) => BusDevice::write(&uart, offset, &bytes),
                    Step::Feed(bytes) => prop_assert!(uart.feed(&bytes) <= bytes.len()),
                }
            }
            for (register, value) in [(LCR, 3), (MCR, 8), (IER, 0)] {
                write(&uart, register, value);
            }
            while read(&uart, LSR) & LSR_READY != 0 {
                read(&uart, DATA);
            }
            read(&uart, IIR);
            event::take(&irq);
            write(&uart, IER, IER_RECEIVED);
            prop_assert_eq!(read(&uart, IIR), 0xc1);
            prop_assert_eq!(uart.feed(b"a"), 1);
            prop_assert!(event::take(&irq));
            prop_assert_eq!(read(&uart, IIR), 0xc4);
            prop_assert_eq!(read(&uart, DATA), b'a');
        }
    }
}
