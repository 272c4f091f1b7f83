// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A device's thread. It exists from the device's making to its end; what it
//! works on comes with the driver and goes with a reset.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, poll};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::Activation;
use crate::confine::{self, Role};
use crate::event;

/// What works on a device's queues.
pub trait Backend: Send + 'static {
    /// The driver is ready.
    fn start(&mut self, activation: Activation);

    /// The driver has reset the device: lets go of the guest's memory.
    fn stop(&mut self);

    /// What to wait for. Asked again after each event, so it may change. An
    /// event that is not consumed in [`Backend::ready`] comes again.
    fn sources(&self) -> Vec<Source<'_>>;

    /// The source with this number is readable (or broken).
    fn ready(&mut self, number: usize);
}

/// A file to wait for.
#[derive(Debug)]
pub struct Source<'a> {
    /// Waited for until it is readable.
    pub file: BorrowedFd<'a>,
    /// Handed to [`Backend::ready`].
    pub number: usize,
}

enum Command {
    Start(Activation),
    Stop(Sender<()>),
    End,
}

/// A thread that runs a [`Backend`]. Dropping it ends the thread.
#[derive(Debug)]
pub struct Worker {
    commands: Sender<Command>,
    wake: EventFd,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts a thread. `name` is what the system shows of it (15 bytes), `role`
    /// which system calls it may make.
    ///
    /// # Errors
    /// When the system has no thread or file descriptor to give.
    pub fn new(name: &str, role: Role, backend: impl Backend) -> io::Result<Self> {
        let wake = EventFd::new(EFD_NONBLOCK)?;
        let (commands, receiver) = channel();
        let woken = wake.try_clone()?;
        let thread = confine::spawn(name, role, move || run(backend, &woken, &receiver))?;
        Ok(Self {
            commands,
            wake,
            thread: Some(thread),
        })
    }

    /// Hands the queues over. Does not wait.
    pub fn start(&self, activation: Activation) {
        self.send(Command::Start(activation));
    }

    /// Takes the queues back; when this returns, the backend has let go of
    /// them.
    pub fn stop(&self) {
        let (done, stopped) = channel();
        self.send(Command::Stop(done));
        // An error means that the thread is gone, and the queues with it.
        let _ = stopped.recv();
    }

    fn send(&self, command: Command) {
        // Fails only when the thread is gone; then there is nobody to tell.
        let _ = self.commands.send(command);
        event::set(&self.wake);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.send(Command::End);
        if let Some(thread) = self.thread.take() {
            // A panic was reported when it happened.
            let _ = thread.join();
        }
    }
}

fn run(mut backend: impl Backend, wake: &EventFd, commands: &Receiver<Command>) {
    let mut active = false;
    loop {
        for number in wait(&backend, wake, active) {
            match number {
                Some(number) if active => backend.ready(number),
                Some(_) => {}
                None => {
                    event::take(wake);
                    while let Ok(command) = commands.try_recv() {
                        match command {
                            Command::Start(activation) => {
                                backend.start(activation);
                                active = true;
                            }
                            Command::Stop(done) => {
                                backend.stop();
                                active = false;
                                // The sender waits for it.
                                let _ = done.send(());
                            }
                            Command::End => return,
                        }
                    }
                    // What else was ready may be gone now.
                    break;
                }
            }
        }
    }
}

/// Waits for the first event; gives the numbers of the sources that are ready,
/// and `None` first if there are commands.
fn wait(backend: &impl Backend, wake: &EventFd, active: bool) -> Vec<Option<usize>> {
    let sources = if active {
        backend.sources()
    } else {
        Vec::new()
    };
    let wake = event::fd(wake);
    let mut fds = vec![PollFd::new(&wake, PollFlags::IN)];
    fds.extend(
        sources
            .iter()
            .map(|source| PollFd::new(&source.file, PollFlags::IN)),
    );
    // An interruption gives nothing, and the caller comes again.
    if poll(&mut fds, None).is_err() {
        return Vec::new();
    }
    let numbers = std::iter::once(None).chain(sources.iter().map(|source| Some(source.number)));
    fds.iter()
        .zip(numbers)
        .filter(|(fd, _)| !fd.revents().is_empty())
        .map(|(_, number)| number)
        .collect()
}
