// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Power: how the guest switches off or resets, and a button that asks it to.
//!
//! These are the sleep and reset registers of a hardware-reduced ACPI machine
//! (ACPI 6.5, sections 4.8.3.6 and 4.8.3.7), and one byte from which a
//! generic event device learns that the button was pressed (section 5.6.9).

use std::io;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::sync::mpsc::Sender;

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::Event;
use crate::bus::BusDevice;
use crate::event;

/// I/O ports, from [`layout::POWER`](super::layout::POWER).
pub const PORTS: u64 = 4;

/// Offset of the sleep control register.
pub const SLEEP_CONTROL: u16 = 0;
/// Offset of the sleep status register.
pub const SLEEP_STATUS: u16 = 1;
/// Offset of the reset register.
pub const RESET: u16 = 2;
/// Offset of the byte that says what has happened; reading clears it.
pub const HAPPENED: u16 = 3;

/// Written to [`RESET`] to reset.
pub const RESET_VALUE: u8 = 1;

/// Sleep type of "soft off" (S5), as the tables say.
pub const SOFT_OFF: u8 = 5;

/// Bit of [`HAPPENED`]: the button was pressed.
pub const BUTTON: u8 = 1;

const SLEEP_ENABLE: u8 = 1 << 5;

/// The registers.
#[derive(Debug)]
pub struct Power {
    events: Sender<Event>,
    happened: AtomicU8,
    /// The generic event device's interrupt.
    line: EventFd,
}

impl Power {
    /// Tells `events` of what the guest does.
    ///
    /// # Errors
    /// When the process is out of file descriptors.
    pub fn new(events: Sender<Event>) -> io::Result<Self> {
        Ok(Self {
            events,
            happened: AtomicU8::new(0),
            line: EventFd::new(EFD_NONBLOCK)?,
        })
    }

    /// The interrupt line, for KVM.
    pub fn line(&self) -> &EventFd {
        &self.line
    }

    /// Presses the button: a guest that listens shuts down.
    pub fn press_button(&self) {
        self.happened.fetch_or(BUTTON, SeqCst);
        event::set(&self.line);
    }

    fn tell(&self, event: Event) {
        // The machine is at its end already if nobody listens.
        let _ = self.events.send(event);
    }
}

impl BusDevice for Power {
    fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if offset == u64::from(HAPPENED)
            && let [byte] = data
        {
            *byte = self.happened.swap(0, SeqCst);
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let (Ok(offset), Some(value)) = (u16::try_from(offset), data.first()) else {
            return;
        };
        let soft_off = SLEEP_ENABLE | SOFT_OFF << 2;
        match offset {
            SLEEP_CONTROL if *value & 0x3c == soft_off => self.tell(Event::PowerOff),
            RESET if *value == RESET_VALUE => self.tell(Event::Reset),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn only_the_right_values_switch_off_or_reset() {
        let (events, happened) = channel();
        let power = Power::new(events).unwrap();
        for value in 0..=u8::MAX {
            power.write(0, &[value]);
            let off = happened.try_recv().is_ok();
            assert_eq!(off, value & 0x3c == 0x34, "{value:#x}");
        }
        power.write(2, &[0]);
        assert!(happened.try_recv().is_err());
        power.write(2, &[1]);
        assert_eq!(happened.try_recv(), Ok(Event::Reset));
    }

    #[test]
    fn a_pressed_button_is_reported_once() {
        let (events, _) = channel();
        let power = Power::new(events).unwrap();
        power.press_button();
        assert!(event::take(power.line()));
        let mut data = [0xff];
        power.read(3, &mut data);
        assert_eq!(data, [BUTTON]);
        power.read(3, &mut data);
        assert_eq!(data, [0]);
    }
}
