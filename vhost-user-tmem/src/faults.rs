// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Faults of our own that a test asks for, in debug builds. `TMEM_FAULT` is what happens, the
//! place, and a file that has to be there first where no machine is served: `panic relay`,
//! `call main /tmp/now`. There are `panic`, `call` (a system call that nothing here makes),
//! `fail` (of the system) and `hold`, both until the file is there. A machine meets one if it is
//! called `faulty`.

use std::io;

/// The machine that meets faults.
#[cfg(debug_assertions)]
const MACHINE: &str = "faulty";

/// A place at which a test may want one, in a thread that works for this machine.
#[cfg(debug_assertions)]
pub(crate) fn at(place: &str, machine: &str) {
    if machine == MACHINE
        && let Some(fault) = asked_for(place)
    {
        fault.happen();
    }
}

/// A place in a thread that works for none, and may look at files.
#[cfg(debug_assertions)]
pub(crate) fn when_asked(place: &str) {
    if let Some(fault) = asked_for(place)
        && fault.is_due()
    {
        fault.happen();
    }
}

/// The same in a thread that may not look at files once it works: waits for it.
#[cfg(debug_assertions)]
pub(crate) fn once_asked(place: &str) {
    if let Some(fault) = asked_for(place) {
        while !fault.is_due() {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        fault.happen();
    }
}

/// A place that a test holds up until the file is there; the log says so.
#[cfg(debug_assertions)]
pub(crate) fn hold(place: &str) {
    let Some(fault) = asked_for(place).filter(|fault| fault.kind == Kind::Hold) else {
        return;
    };
    if !fault.is_due() {
        log::warn!("a test holds up: {place}");
    }
    while !fault.is_due() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// Where the system may refuse something; whether it does.
#[cfg(debug_assertions)]
pub(crate) fn fails(place: &str) -> io::Result<()> {
    match asked_for(place) {
        Some(fault) if fault.kind == Kind::Fail && !fault.is_due() => {
            Err(io::Error::other("a test has asked for it"))
        }
        _ => Ok(()),
    }
}

#[cfg(debug_assertions)]
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Panic,
    Call,
    Fail,
    Hold,
}

#[cfg(debug_assertions)]
struct Fault {
    kind: Kind,
    file: Option<String>,
}

#[cfg(debug_assertions)]
fn asked_for(place: &str) -> Option<Fault> {
    let asked = std::env::var("TMEM_FAULT").ok()?;
    let mut words = asked.split(' ');
    let kind = match words.next()? {
        "panic" => Kind::Panic,
        "call" => Kind::Call,
        "fail" => Kind::Fail,
        "hold" => Kind::Hold,
        _ => return None,
    };
    let file = (words.next()? == place).then(|| words.next().map(str::to_owned))?;
    Some(Fault { kind, file })
}

#[cfg(debug_assertions)]
impl Fault {
    fn is_due(&self) -> bool {
        let is_there = |file| std::fs::exists(file).unwrap_or(false);
        self.file.as_ref().is_some_and(is_there)
    }

    #[expect(clippy::panic, reason = "that is what it is for")]
    fn happen(&self) {
        match self.kind {
            Kind::Panic => panic!("a test has asked for it"),
            Kind::Call => {
                let _ = std::os::unix::process::parent_id();
            }
            Kind::Fail | Kind::Hold => {}
        }
    }
}

#[cfg(not(debug_assertions))]
pub(crate) fn at(_: &str, _: &str) {}

#[cfg(not(debug_assertions))]
pub(crate) fn when_asked(_: &str) {}

#[cfg(not(debug_assertions))]
pub(crate) fn once_asked(_: &str) {}

#[cfg(not(debug_assertions))]
pub(crate) fn hold(_: &str) {}

#[cfg(not(debug_assertions))]
#[expect(clippy::unnecessary_wraps, reason = "as in debug builds")]
pub(crate) fn fails(_: &str) -> io::Result<()> {
    Ok(())
}
