// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The keyboard controller, of which a machine without a keyboard needs the
//! line to the processor's reset: drivers reset a PC with it.

use crate::bus::BusDevice;

/// The I/O port for commands (written) and the status (read); one byte.
pub const PORT: u16 = 0x64;

/// Pulls the reset line. (A command 0xf0 to 0xff pulls the lines whose bits
/// are 0; line 0 is the reset, and this is how everybody pulls it.)
const RESET: u8 = 0xfe;

/// Self-test passed and keyboard not locked; neither a byte to read nor a
/// command in work.
const STATUS: u8 = 0x14;

/// The controller at [`PORT`].
pub struct I8042 {
    reset: Box<dyn Fn() + Send + Sync>,
}

impl I8042 {
    /// A controller that calls `reset` when the guest pulls the line, perhaps
    /// more than once and on several vCPUs at a time.
    pub fn new(reset: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            reset: Box::new(reset),
        }
    }
}

impl BusDevice for I8042 {
    fn read(&self, _offset: u64, data: &mut [u8]) {
        data.fill(STATUS);
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if offset == 0 && data.first() == Some(&RESET) {
            (self.reset)();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn only_the_reset_command_resets() {
        let count = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&count);
        let device = I8042::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        for command in (0..=255).filter(|command| *command != 0xfe) {
            device.write(0, &[command]);
        }
        device.write(0, &[]);
        device.write(1, &[0xfe]);
        assert_eq!(count.load(Ordering::Relaxed), 0);
        device.write(0, &[0xfe]);
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn it_is_always_ready_for_a_command_and_has_nothing_to_read() {
        let device = I8042::new(|| {});
        let mut status = [0xff];
        device.read(0, &mut status);
        assert_eq!(status[0] & 0b11, 0);
    }
}
