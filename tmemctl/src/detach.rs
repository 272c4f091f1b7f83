// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `tmemctl detach`.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tmem_cli::size;

use crate::cli::Detach;
use crate::complain;
use crate::disk::{self, Number};
use crate::failure;
use crate::module::{Kernel, Module};
use crate::progress;
use crate::terms::PAGE_BYTES;
use crate::uapi::Kind;

/// How often the progress is shown.
const REFRESH: Duration = Duration::from_millis(500);

/// What can happen while a filter is being detached.
enum Event {
    /// The module is done with it.
    Done(Result<(), Errno>),
    /// The program was told to end.
    Interrupted,
}

/// How detaching ended.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    Detached,
    Failed(Errno),
    Interrupted,
}

/// Detaches what is wanted; says whether all of it is.
///
/// # Errors
/// When nothing can be detached at all, and when it was interrupted.
pub(crate) fn run(wanted: &Detach, out: &mut impl Write) -> Result<bool> {
    let mut devices = Vec::new();
    for name in &wanted.devices {
        devices.push((name.clone(), disk::named(name)?));
    }
    let module = if wanted.all {
        let Some(module) = Kernel::find()? else {
            writeln!(out, "Nothing is attached: the module is not loaded.")?;
            return Ok(true);
        };
        for filter in module.filters()? {
            let device = Number::of(&filter);
            devices.push((disk::name(Path::new(disk::SYS), device), device));
        }
        module
    } else {
        Kernel::open()?
    };
    let (sender, events) = channel();
    listen(sender.clone()).context("cannot listen for signals")?;
    let detacher = Detacher {
        module: Arc::new(module),
        sender,
        events,
    };
    let shown = progress::is_shown();
    let mut progress = |name: &str, pages: Option<u64>| {
        if shown {
            draw(name, pages);
        }
    };
    detacher.all(&devices, &mut progress, out)
}

/// Has the first signal that should end the program become an event.
///
/// There is a thread for the ioctl, and the program ends without waiting for
/// it: this takes the ioctl back, whichever signals it listens to itself.
fn listen(events: Sender<Event>) -> io::Result<()> {
    let (seen, raised) = pipe_with(PipeFlags::CLOEXEC)?;
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::low_level::pipe::register(signal, raised.try_clone()?)?;
    }
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            if File::from(seen).read_exact(&mut [0]).is_ok() {
                // Nobody listens when the program is at its end.
                let _ = events.send(Event::Interrupted);
            }
        })?;
    Ok(())
}

/// Shows how many pages are left to be written back, or takes that back.
fn draw(name: &str, pages: Option<u64>) {
    let line = pages.map(|pages| {
        let bytes = size::show(pages.saturating_mul(PAGE_BYTES));
        format!("{name}: {pages} pages left ({bytes})")
    });
    progress::draw(&line.unwrap_or_default());
}

/// What detaching needs.
struct Detacher<M> {
    module: Arc<M>,
    sender: Sender<Event>,
    events: Receiver<Event>,
}

impl<M: Module> Detacher<M> {
    fn all(
        &self,
        devices: &[(String, Number)],
        progress: &mut impl FnMut(&str, Option<u64>),
        out: &mut impl Write,
    ) -> Result<bool> {
        let mut complete = true;
        for (name, device) in devices {
            let ended = self.one(*device, |pages| progress(name, Some(pages)))?;
            progress(name, None);
            match ended {
                Ended::Detached => writeln!(out, "detached  {name}")?,
                Ended::Failed(errno) => {
                    complain(&failure::detach(name, errno));
                    complete = false;
                }
                Ended::Interrupted => return Err(failure::interrupted(name)),
            }
        }
        Ok(complete)
    }

    /// Detaches one filter, and tells the pages that are left now and then.
    fn one(&self, device: Number, mut progress: impl FnMut(u64)) -> Result<Ended> {
        let module = self.module.clone();
        let sender = self.sender.clone();
        thread::Builder::new()
            .name("detach".into())
            .spawn(move || {
                // The kind is not looked at.
                let result = module.detach(device.target(Kind::Precache));
                let _ = sender.send(Event::Done(result));
            })
            .context("cannot start a thread")?;
        loop {
            match self.events.recv_timeout(REFRESH) {
                Ok(Event::Done(Ok(()))) => return Ok(Ended::Detached),
                Ok(Event::Done(Err(errno))) => return Ok(Ended::Failed(errno)),
                Ok(Event::Interrupted) | Err(RecvTimeoutError::Disconnected) => {
                    return Ok(Ended::Interrupted);
                }
                Err(RecvTimeoutError::Timeout) => {
                    let filters = self.module.filters()?;
                    let filter = filters.iter().find(|filter| Number::of(filter) == device);
                    if let Some(filter) = filter {
                        progress(filter.pages);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Fake, number};

    fn detacher(devices: &[&str]) -> Detacher<Fake> {
        let module = Fake::default();
        for device in devices {
            module.attach(number(device).target(Kind::Preswap)).unwrap();
        }
        let (sender, events) = channel();
        Detacher {
            module: Arc::new(module),
            sender,
            events,
        }
    }

    fn devices(numbers: &[&str]) -> Vec<(String, Number)> {
        numbers
            .iter()
            .map(|text| (format!("<{text}>"), number(text)))
            .collect()
    }

    #[test]
    fn a_failure_does_not_keep_the_others_from_being_detached() {
        let detacher = detacher(&["254:1", "254:3"]);
        let mut out = Vec::new();
        let complete = detacher
            .all(
                &devices(&["254:1", "254:2", "254:3"]),
                &mut |_, _| {},
                &mut out,
            )
            .unwrap();
        assert!(!complete);
        assert_eq!(out, b"detached  <254:1>\ndetached  <254:3>\n");
        assert_eq!(detacher.module.filters().unwrap(), []);
    }

    #[test]
    fn progress_is_told_until_the_pages_are_home() {
        let detacher = detacher(&["254:2"]);
        detacher.module.hold(number("254:2"), 300);
        let mut told = Vec::new();
        let ended = detacher.one(number("254:2"), |pages| {
            told.push(pages);
            detacher.module.release();
        });
        assert_eq!(ended.unwrap(), Ended::Detached);
        assert_eq!(told.first(), Some(&300));
    }

    #[test]
    fn a_signal_ends_it_and_the_filter_stays() {
        let detacher = detacher(&["254:2"]);
        detacher.module.hold(number("254:2"), 300);
        detacher.sender.send(Event::Interrupted).unwrap();
        let error = detacher
            .all(&devices(&["254:2"]), &mut |_, _| {}, &mut Vec::new())
            .unwrap_err()
            .to_string();
        assert!(error.contains("<254:2> stays attached"), "{error}");
        assert_eq!(detacher.module.filters().unwrap().len(), 1);
        detacher.module.release();
    }
}
