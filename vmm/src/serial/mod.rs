// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Serial ports (16550) and what they are connected to.
//!
//! A [`Target`] is what `--serial` says, a [`Connection`] is that, opened, and
//! a [`SerialPort`] joins it to a 16550.
//!
//! No vCPU writes to a connection itself: the port has a thread that does
//! (`output`), so that a terminal that is stopped, a pipe or a socket that
//! nobody reads does not hold the guest. Another thread reads the connection
//! (`input`), never faster than the guest takes it.

mod connection;
mod input;
mod keys;
mod output;
mod target;
#[cfg(test)]
mod tests;
mod uart;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::bus::BusDevice;
use crate::confine::{self, Role};
use crate::event;
use crate::terminal::Raw;

pub use connection::{Connection, OpenError};
pub use target::{Target, check};

use input::Input;
use output::Output;
use uart::Uart;

/// How long the end of a port waits for the last output to be taken. More than
/// a disk or a program that reads needs, and not too long for a person whose
/// terminal hangs.
const LAST_WORDS: Duration = Duration::from_millis(if cfg!(test) { 200 } else { 2000 });

/// A serial port and the threads that serve its connection. They end when it
/// is dropped, which waits until the last output is written; the device may
/// live on, connected to nothing.
pub struct SerialPort {
    uart: Arc<Uart>,
    output: Option<Arc<Output>>,
    end: EventFd,
    threads: Vec<Thread>,
    /// The terminal, given back as the last thing.
    raw: Option<Raw>,
    /// Keeps the settings of a device of its own until the end.
    _device: Option<connection::Settings>,
}

impl SerialPort {
    /// A port that raises `irq` and talks to `connection`. `name` is what the
    /// system shows of its threads (`com1-in`, `com1-out` for `com1`). If the
    /// connection is the terminal, it is in raw mode from here on.
    ///
    /// # Errors
    /// When the system has no thread or file descriptor to give, or the
    /// terminal's settings cannot be read.
    pub fn new(name: &str, irq: EventFd, connection: Connection) -> io::Result<Self> {
        let output = connection.output.is_some().then(Arc::<Output>::default);
        let mut port = Self {
            uart: Arc::new(Uart::new(irq, output.clone())?),
            output,
            end: EventFd::new(EFD_NONBLOCK)?,
            threads: Vec::new(),
            raw: None,
            _device: connection.settings,
        };
        if let (Some(file), Some(output)) = (connection.output, &port.output) {
            let (output, what) = (Arc::clone(output), connection.name.clone());
            port.spawn(&format!("{name}-out"), move || {
                output.write_to(&file, &what);
            })?;
        }
        if let Some(source) = connection.input {
            if connection.stdin {
                port.raw = Raw::stdin()?;
            }
            let input = Input {
                source,
                terminal: port.raw.is_some(),
                uart: Arc::clone(&port.uart),
                output: port.output.clone(),
                end: port.end.try_clone()?,
                quit: connection.quit,
            };
            port.spawn(&format!("{name}-in"), move || input.run())?;
        }
        Ok(port)
    }

    /// What answers on the port's eight I/O addresses.
    pub fn device(&self) -> Arc<dyn BusDevice> {
        Arc::clone(&self.uart) as _
    }

    fn spawn(&mut self, name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let (alive, ended) = channel::<()>();
        let thread = confine::spawn(name, Role::Console, move || {
            let _alive = alive;
            body();
        })?;
        self.threads.push(Thread { thread, ended });
        Ok(())
    }
}

impl Drop for SerialPort {
    fn drop(&mut self) {
        event::set(&self.end);
        if let Some(output) = &self.output {
            output.finish();
        }
        for thread in self.threads.drain(..) {
            thread.finish();
        }
    }
}

/// A thread that can be waited for, but not for ever.
struct Thread {
    thread: JoinHandle<()>,
    /// Disconnected at its end.
    ended: Receiver<()>,
}

impl Thread {
    /// Waits for the thread's end. One that a terminal or a pipe holds is left
    /// behind: it ends with the process.
    fn finish(self) {
        if self.ended.recv_timeout(LAST_WORDS) == Err(RecvTimeoutError::Disconnected) {
            // A panic was reported when it happened.
            let _ = self.thread.join();
        }
    }
}
