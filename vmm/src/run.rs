// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The program's life: a machine, then waiting for its end.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use tmem_cli::ready;
use tmem_cli::signals::Signals;
use tmem_cli::socket::{Access, Socket};
use tmem_host::heap;
use tmem_host::http::Guard;

use crate::api::Api;
use crate::cli::Options;
use crate::confine::{self, Role};
use crate::machine::Event;
use crate::vm;

/// The program itself failed.
const BROKEN: i32 = 1;
/// The guest reset: start it again, if it should.
const RESET: u8 = 3;
/// The guest crashed.
const CRASHED: u8 = 4;

/// Runs a machine to its end. A crash of the guest is reported on stderr.
///
/// # Errors
/// A sentence about what keeps it from being run.
pub fn run(options: &Options) -> Result<ExitCode> {
    end_at_panic();
    let (events, happened) = channel();
    // Before anything is made that has to be given back.
    let signals = Signals::listen(&[SIGTERM, SIGINT, SIGHUP, SIGQUIT])
        .context("cannot listen for signals")?;
    let ended = events.clone();
    heap::open();
    confine::set_level(options.seccomp).context("cannot handle a signal")?;
    let access = Access::of(options.api_group.as_deref(), None)?;
    let socket = options.api_socket.as_deref();
    let socket = socket.map(|path| Socket::bind(path, access)).transpose()?;
    let (vm, serial) = vm::assemble(options, events)?;
    let vm = Arc::new(vm);
    confine::spawn("signals", Role::Main, move || forward(&signals, &ended))
        .context("cannot start a thread for signals")?;
    let guard = Guard::own().and_group(access.group);
    let api = socket.map(|socket| Api::start(socket, guard, vm.clone()));
    let api = api.transpose()?;
    // Makes a socket.
    ready::tell();
    confine::enter(Role::Main);
    vm.resume();
    // Not before: the guest would go on although a client has paused it.
    if let Some(api) = &api {
        api.open();
    }
    let event = happened.recv().unwrap_or(Event::Quit);
    // The API's thread has the machine, too.
    drop(api);
    drop(vm);
    // From here on the terminal is as it was.
    drop(serial);
    Ok(match event {
        Event::PowerOff | Event::Quit => ExitCode::SUCCESS,
        Event::Reset => ExitCode::from(RESET),
        Event::Crash(sentence) => {
            eprintln!("tmem-vmm: {sentence}");
            ExitCode::from(CRASHED)
        }
    })
}

/// Has a bug in any thread end the program: a machine without one of its parts
/// is worse than none.
fn end_at_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::exit(BROKEN);
    }));
}

/// Turns the first signal into the machine's end.
fn forward(signals: &Signals, events: &Sender<Event>) {
    if signals.wait() {
        // It is at its end already if nobody listens.
        let _ = events.send(Event::Quit);
    }
}
