// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A device from a daemon: the front end of vhost-user.
//!
//! The daemon may come later than the guest, and may come back: as long as it
//! is away, requests wait in the driver's queues.
//!
//! If it comes back with this machine's pools
//! ([`Config::instance`](virtio_tmem::wire::Config)), those of virtio-tmem go on; if it does not,
//! or if it is the first to come, the driver is asked to reset the device (DEVICE_NEEDS_RESET),
//! and finds the daemon's configuration afterwards. Those of a disk go on in any case, once its
//! driver is told of another capacity: blocks that are gone are errors.
//!
//! Everything is said to the daemon by one thread (`front_end`), which the
//! device's methods leave commands for. `offer` is what it asks of a kind of device (`tmem`,
//! `disk`); neither of them knows the other, and `others` tells them apart.

mod counters;
mod disk;
mod front_end;
mod link;
mod offer;
mod others;
mod session;
mod shown;
mod tmem;

pub use counters::Counters;

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::SocketAddrUnix;
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::{Activation, Memory, VirtioDevice};
use crate::confine::{self, Role};
use crate::event;
use front_end::{Command, Daemon, FrontEnd, Said};
use link::Deadline;
use offer::{Device, QUEUE_SIZE};
use shown::Shown;

/// Most request queues: what a `u64` has bits for, less the event queue.
pub const MAX_REQUEST_QUEUES: u16 = 63;

/// Which device a daemon serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// virtio-tmem.
    Tmem,
    /// A plain disk.
    Disk,
}

impl Kind {
    fn device(self) -> &'static dyn Device {
        match self {
            Self::Tmem => &tmem::Tmem,
            Self::Disk => &disk::Disk,
        }
    }
}

/// A device that a vhost-user daemon serves.
#[derive(Debug)]
pub struct VhostUserDevice {
    device: &'static dyn Device,
    request_queues: u16,
    shown: Arc<Shown>,
    counters: Arc<Counters>,
    commands: Sender<Command>,
    wake: EventFd,
    /// The thread may have the driver's queues.
    is_active: bool,
    thread: Option<JoinHandle<()>>,
}

impl VhostUserDevice {
    /// A device of this kind with `request_queues` queues, whose daemon listens on the
    /// socket at `path`, sooner or later. It is given `memory`, when a driver
    /// is ready.
    ///
    /// # Errors
    /// When `request_queues` is 0 or above [`MAX_REQUEST_QUEUES`], `path` is
    /// empty or longer than a socket's may be (108 bytes), `memory` has regions that
    /// cannot be shared or too many of them (8), or the system has no thread or
    /// file descriptor to give.
    pub fn new(kind: Kind, path: &Path, request_queues: u16, memory: &Memory) -> io::Result<Self> {
        let wrong = |text: String| io::Error::new(ErrorKind::InvalidInput, text);
        if request_queues == 0 || request_queues > MAX_REQUEST_QUEUES {
            return Err(wrong(format!(
                "{request_queues} request queues are not possible; ask for 1 to {MAX_REQUEST_QUEUES}"
            )));
        }
        let address = SocketAddrUnix::new(path).ok();
        let address = address.filter(|_| !path.as_os_str().is_empty());
        let address = address.ok_or_else(|| {
            let path = path.display();
            wrong(format!(
                "'{path}' cannot be a socket's path; give one of 1 to 108 bytes"
            ))
        })?;
        let is_shared = memory.iter().all(|region| region.file_offset().is_some());
        if !is_shared || memory.num_regions() > link::MAX_FILES {
            return Err(wrong(format!(
                "guest memory is not in files, or in more than {}",
                link::MAX_FILES
            )));
        }
        let wake = EventFd::new(EFD_NONBLOCK)?;
        let (commands, receiver) = channel();
        let device = kind.device();
        let shown = Arc::new(Shown::new(device.placeholder(request_queues)));
        let counters = Arc::<Counters>::default();
        let front_end = FrontEnd {
            device,
            path: path.to_owned(),
            address,
            request_queues,
            commands: receiver,
            wake: wake.try_clone()?,
            shown: shown.clone(),
            counters: counters.clone(),
            daemon: Daemon::Away(Deadline::within(Duration::ZERO)),
            driver: None,
            said: Said::Nothing,
        };
        let thread = confine::spawn("tmem", Role::FrontEnd, move || front_end.run())?;
        Ok(Self {
            device,
            request_queues,
            shown,
            counters,
            commands,
            wake,
            is_active: false,
            thread: Some(thread),
        })
    }

    /// What is counted, to be shown.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    fn send(&self, command: Command) {
        // Fails only when the thread is gone; then there is nobody to tell.
        let _ = self.commands.send(command);
        event::set(&self.wake);
    }
}

impl VirtioDevice for VhostUserDevice {
    fn id(&self) -> u32 {
        self.device.id()
    }

    fn features(&self) -> u64 {
        self.shown.look().features
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE; usize::from(self.device.queues(self.request_queues))]
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        let space = self.shown.look().space;
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        for (to, from) in data.iter_mut().zip(space.iter().skip(offset)) {
            *to = *from;
        }
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        if self.device.may_write(&self.shown.look(), offset, data) {
            // Kept until the thread looks: a guest may write faster than a daemon answers.
            self.shown.write(offset, data);
            event::set(&self.wake);
        }
    }

    fn activate(&mut self, activation: Activation) {
        // The daemon uses the line itself.
        activation.interrupt.share();
        self.is_active = true;
        // What it has not looked at cannot change any more, either.
        self.shown.look();
        self.send(Command::Start(activation));
    }

    /// Waits for the daemon, for a few seconds at most: one that does not stop
    /// within `session::PATIENCE` is disconnected.
    fn reset(&mut self) {
        // Otherwise the thread has nothing of the driver's, and may be waiting.
        if std::mem::take(&mut self.is_active) {
            let (done, stopped) = channel();
            self.send(Command::Stop(done));
            // An error means that the thread is gone, and the connection with
            // it.
            let _ = stopped.recv();
        }
        self.shown.reset();
    }
}

impl Drop for VhostUserDevice {
    fn drop(&mut self) {
        self.send(Command::End);
        if let Some(thread) = self.thread.take() {
            // A panic was reported when it happened.
            let _ = thread.join();
        }
    }
}
