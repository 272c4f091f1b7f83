// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Serving one front end of a virtual machine.

use std::os::fd::AsFd;

use anyhow::Result;
use vhost::vhost_user::Listener;

use super::connection;
use super::session::Waiting;
use crate::stop::Stop;
use crate::vm::Vm;

/// Accepts the front end that waits at `listener`, and serves it until it leaves or `stop`.
///
/// # Errors
/// When it cannot be served, for example because the daemon is out of file descriptors:
/// not to be tried again at once.
pub fn attend(
    vm: &Vm,
    listener: &mut Listener,
    socket: &(impl AsFd + Sync),
    stop: &Stop,
) -> Result<()> {
    vm.connected();
    let name = vm.name();
    vm.say(|| log::info!("{name}: a front end connected"));
    // No other connection ends with this stop.
    let ended = connection::run(vm, 0, listener, socket, stop);
    vm.disconnected();
    say(vm, ended?, stop);
    Ok(())
}

/// Goes on with the front end that the daemon before this one has left, if there is one, until it
/// leaves or `stop`.
///
/// # Errors
/// As [`attend`]; the front end is `waiting` then.
pub fn go_on(vm: &Vm, waiting: &Waiting, socket: &(impl AsFd + Sync), stop: &Stop) -> Result<()> {
    if let Some(ended) = connection::go_on(vm, 0, waiting, socket, stop) {
        say(vm, ended?, stop);
    }
    Ok(())
}

/// Has the log tell how a connection ended.
fn say(vm: &Vm, ended: Result<()>, stop: &Stop) {
    let name = vm.name();
    match ended {
        // It goes on with the next daemon, perhaps.
        Ok(()) if stop.is_asked() => {}
        Ok(()) => vm.say(|| log::info!("{name}: the front end left")),
        Err(error) => vm.say(|| log::warn!("{name}: the connection ended: {error:#}")),
    }
}
