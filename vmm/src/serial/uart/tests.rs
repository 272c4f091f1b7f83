// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A driver's registers, without threads.

use super::*;
use proptest::prelude::*;

/// Modem control register.
const MCR: u8 = 4;
const MCR_LOOP: u8 = 0x10;

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
    uart.feed(b"ab");
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
fn input_that_does_not_fit_waits_behind_the_fifo() {
    let (uart, irq) = uart();
    let input: Vec<u8> = (0..=255).collect();
    write(&uart, IER, IER_RECEIVED);
    assert!(uart.feed(&input));
    assert!(event::take(&irq));
    let mut data = [0; 255];
    BusDevice::read(&uart, 0, &mut data);
    assert_eq!(data, input[..255]);
    assert!(event::take(&irq), "it says that there is more");
    assert_eq!(read(&uart, DATA), 255);
    assert_eq!(read(&uart, LSR) & LSR_READY, 0);
}

#[test]
fn more_input_is_called_for_when_half_has_been_read() {
    let (uart, _irq) = uart();
    assert!(uart.feed(&[7; BACKLOG]));
    assert!(!uart.feed(&[7; 64]));
    let half = &mut [0; BACKLOG / 2 - 1];
    BusDevice::read(&uart, 0, half);
    assert!(!event::take(uart.room()));
    read(&uart, DATA);
    assert!(event::take(uart.room()));
    BusDevice::read(&uart, 0, half);
    assert!(!event::take(uart.room()), "it is said once");
}

#[test]
fn input_waits_while_the_driver_tests_its_port_in_loopback() {
    let (uart, irq) = uart();
    write(&uart, IER, IER_RECEIVED);
    write(&uart, MCR, MCR_LOOP);
    uart.feed(b"input");
    assert!(!event::take(&irq));
    write(&uart, DATA, b'L');
    assert_eq!(read(&uart, DATA), b'L');
    event::take(&irq);
    write(&uart, MCR, 0);
    assert!(event::take(&irq));
    assert_eq!(read(&uart, IIR), 0xc4);
    let mut data = [0; 5];
    BusDevice::read(&uart, 0, &mut data);
    assert_eq!(data, *b"input");
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
                Step::Feed(bytes) => prop_assert!(uart.feed(&bytes)),
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
        prop_assert!(uart.feed(b"a"));
        prop_assert!(event::take(&irq));
        prop_assert_eq!(read(&uart, IIR), 0xc4);
        prop_assert_eq!(read(&uart, DATA), b'a');
    }
}
