// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Serving one front end of a virtual machine.

use std::os::fd::AsFd;

use anyhow::Result;
use vhost::vhost_user::Listener;

use super::connection;
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
    match ended? {
        Ok(()) => vm.say(|| log::info!("{name}: the front end left")),
        Err(error) => vm.say(|| log::warn!("{name}: the connection ended: {error:#}")),
    }
    Ok(())
}
