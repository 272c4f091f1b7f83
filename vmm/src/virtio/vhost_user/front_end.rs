// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The thread that speaks with the daemon: looks for it, hands it the driver's
//! queues, and looks for it again when it is lost.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::SocketAddrUnix;
use vmm_sys_util::eventfd::EventFd;

use super::counters::Counters;
use super::link::{Broken, Deadline};
use super::offer::{Device, Fit, Knows, Offer};
use super::session::{Greeting, Session};
use super::shown::Shown;
use crate::event;
use crate::virtio::Activation;

/// How often to look for a daemon where nobody listens.
const SEEK: Duration = Duration::from_millis(100);

/// How long to leave a daemon alone that cannot be used.
const LEAVE: Duration = Duration::from_secs(1);

/// How long a daemon may take for its first word: it may serve another front
/// end, or its host may be short of memory, and to connect again would only
/// lengthen its queue. Nothing waits for it.
const FIRST_WORD: Duration = Duration::from_secs(30);

/// What the device asks of its thread.
pub(super) enum Command {
    /// The driver is ready.
    Start(Activation),
    /// The driver has reset the device. Answered when nothing is done for it
    /// any more.
    Stop(Sender<()>),
    /// The device is dropped.
    End,
}

/// The thread's state.
pub(super) struct FrontEnd {
    pub(super) device: &'static dyn Device,
    pub(super) path: PathBuf,
    pub(super) address: SocketAddrUnix,
    pub(super) request_queues: u16,
    pub(super) commands: Receiver<Command>,
    pub(super) wake: EventFd,
    pub(super) shown: Arc<Shown>,
    pub(super) counters: Arc<Counters>,
    pub(super) daemon: Daemon,
    pub(super) driver: Option<Driver>,
    pub(super) said: Said,
}

/// What was last said of the daemon, so that it is not said again.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    Nothing,
    Waiting,
    Connected,
    Lost,
    Unfit(String),
}

/// How the thread stands to the daemon.
pub(super) enum Daemon {
    /// To be looked for at this time.
    Away(Deadline),
    /// Connected; should say its first word by this time.
    Greeted(Greeting, Deadline),
    /// Can be used.
    There(Session),
}

/// A driver that is ready.
pub(super) struct Driver {
    activation: Activation,
    /// Its queues were served before.
    was_served: bool,
    /// It was asked to reset the device.
    is_to_reset: bool,
}

impl FrontEnd {
    /// Runs until the device is dropped.
    pub(super) fn run(mut self) {
        loop {
            let (commands, daemon) = self.wait();
            if commands {
                event::take(&self.wake);
                while let Ok(command) = self.commands.try_recv() {
                    match command {
                        Command::Start(activation) => self.start(activation),
                        Command::Stop(done) => {
                            self.stop();
                            // Whoever asked waits for it.
                            let _ = done.send(());
                        }
                        Command::End => return,
                    }
                }
                if self.shown.take_written() {
                    self.pass_on();
                }
            }
            // Also then: a guest can have something to say all the time.
            self.look(daemon);
        }
    }

    /// Waits for something to do: commands, or the daemon (or its absence).
    fn wait(&self) -> (bool, bool) {
        let wake = event::fd(&self.wake);
        let mut fds = vec![PollFd::new(&wake, PollFlags::IN)];
        let until = match &self.daemon {
            Daemon::Away(until) => Some(*until),
            Daemon::Greeted(greeting, until) => {
                fds.push(PollFd::new(greeting, PollFlags::IN));
                Some(*until)
            }
            Daemon::There(session) => {
                fds.push(PollFd::new(session, PollFlags::IN));
                None
            }
        };
        let left = until.map(|until| Timespec::try_from(until.left()).unwrap_or_default());
        // An interruption is nothing to do.
        if poll(&mut fds, left.as_ref()).is_err() {
            return (false, false);
        }
        let is_ready = |at| {
            fds.get(at)
                .is_some_and(|fd: &PollFd<'_>| !fd.revents().is_empty())
        };
        (is_ready(0), is_ready(1))
    }

    /// Looks after the daemon; `is_ready`: it has said something, or left.
    fn look(&mut self, is_ready: bool) {
        let overdue = |until: &Deadline| until.left().is_zero();
        let daemon = std::mem::replace(&mut self.daemon, Daemon::Away(Deadline::within(LEAVE)));
        self.daemon = match daemon {
            Daemon::Away(until) if overdue(&until) => self.seek(),
            Daemon::Greeted(greeting, _) if is_ready => return self.meet(greeting),
            Daemon::Greeted(_, until) if overdue(&until) => {
                self.say_unfit("it does not speak");
                return;
            }
            Daemon::There(session) if is_ready => return self.lose(&session.judge()),
            other => other,
        };
    }

    /// Looks whether a daemon listens.
    fn seek(&mut self) -> Daemon {
        match Greeting::new(&self.address) {
            Ok(greeting) => return Daemon::Greeted(greeting, Deadline::within(FIRST_WORD)),
            // Nobody listens, or nobody accepts.
            Err(Broken::System(Errno::NOENT | Errno::CONNREFUSED | Errno::AGAIN)) => {
                if self.said == Said::Nothing {
                    self.said = Said::Waiting;
                    let path = self.path.display();
                    log::info!("tmem: nobody listens on '{path}' yet; waiting for a daemon");
                }
            }
            Err(error) => self.say_unfit(&error.to_string()),
        }
        Daemon::Away(Deadline::within(SEEK))
    }

    /// Gets to know a daemon that has said its first word.
    fn meet(&mut self, greeting: Greeting) {
        let met = greeting.finish(self.device, self.request_queues);
        let met = met.and_then(|session| {
            self.shown.learn(session.offer().clone());
            self.daemon = Daemon::There(session);
            self.serve()
        });
        match met {
            Ok(()) => {
                self.said = Said::Connected;
                self.counters.connect();
                let path = self.path.display();
                log::info!("tmem: connected to the daemon on '{path}'");
            }
            // The last of the one that was lost.
            Err(Broken::Closed) if self.said == Said::Lost => {
                self.daemon = Daemon::Away(Deadline::within(SEEK));
            }
            Err(error) => {
                self.daemon = Daemon::Away(Deadline::within(LEAVE));
                self.say_unfit(&error.to_string());
            }
        }
    }

    /// The connection is over.
    fn lose(&mut self, why: &Broken) {
        // It is closed when the session is dropped.
        self.daemon = Daemon::Away(Deadline::within(SEEK));
        self.counters.disconnect();
        self.said = Said::Lost;
        let path = self.path.display();
        log::warn!("tmem: lost the daemon on '{path}': {why}; requests wait until it is back");
    }

    /// Complains of a daemon that cannot be used; once, if it is always for
    /// the same reason.
    fn say_unfit(&mut self, why: &str) {
        let said = Said::Unfit(why.to_owned());
        if self.said != said {
            let path = self.path.display();
            log::error!("tmem: cannot use the daemon on '{path}': {why}; trying again");
            self.said = said;
        }
    }

    /// What was there cannot be used any more.
    fn fail(&mut self, error: &Broken) {
        match error {
            Broken::Unfit(why) => {
                self.daemon = Daemon::Away(Deadline::within(LEAVE));
                self.counters.disconnect();
                self.say_unfit(why);
            }
            error => self.lose(error),
        }
    }

    fn start(&mut self, activation: Activation) {
        self.driver = Some(Driver {
            activation,
            was_served: false,
            is_to_reset: false,
        });
        if let Err(error) = self.serve() {
            self.fail(&error);
        }
    }

    fn stop(&mut self) {
        self.driver = None;
        if let Daemon::There(session) = &mut self.daemon
            && let Err(error) = session.stop()
        {
            self.lose(&error);
        }
    }

    /// Tells the daemon what the driver has written to the configuration space. One that does not
    /// serve the driver is told when it begins to.
    fn pass_on(&mut self) {
        let (Daemon::There(session), Some(driver)) = (&mut self.daemon, &self.driver) else {
            return;
        };
        let offer = self.shown.look();
        if let Some((at, bytes)) = self.device.written(driver.knows(&offer))
            && let Err(error) = session.write_config(at, &bytes)
        {
            self.fail(&error);
        }
    }

    /// Has the daemon serve the driver, if both are there and fit together.
    fn serve(&mut self) -> Result<(), Broken> {
        let (Daemon::There(session), Some(driver)) = (&mut self.daemon, &mut self.driver) else {
            return Ok(());
        };
        if driver.is_to_reset {
            return Ok(());
        }
        let offer = self.shown.look();
        let path = self.path.display();
        match self.device.fit(driver.knows(&offer), session.offer()) {
            Fit::Good => {}
            Fit::Changed(bytes) => {
                let interrupt = &driver.activation.interrupt;
                self.shown.change(&bytes, || interrupt.config_changed());
                if driver.was_served {
                    log::warn!(
                        "tmem: the disk of the daemon on '{path}' has another size; the guest is \
                         told"
                    );
                }
            }
            Fit::Reset(why) => {
                driver.is_to_reset = true;
                self.counters.ask_for_reset();
                if let Some(why) = why {
                    log::warn!(
                        "tmem: the daemon on '{path}' {why}; the guest is asked to reset the device"
                    );
                }
                driver.activation.interrupt.needs_reset();
                return Ok(());
            }
            Fit::Bad(why) => return Err(Broken::Unfit(why)),
        }
        let written = self.device.written(driver.knows(&offer));
        session.start(&driver.activation, &offer, written)?;
        if std::mem::replace(&mut driver.was_served, true) {
            // What the daemon before used may have gone unsaid.
            driver.activation.interrupt.used();
        }
        Ok(())
    }
}

impl Driver {
    /// What it knows, having been shown `offer`.
    fn knows<'a>(&self, offer: &'a Offer) -> Knows<'a> {
        let queues = self.activation.queues.iter().map(|queue| queue.index);
        // It may have set up more than it was shown.
        let last = queues.filter(|index| *index < offer.queues).max();
        Knows {
            offer,
            features: self.activation.features,
            queues: last.map_or(0, |last| last.saturating_add(1)),
        }
    }
}
