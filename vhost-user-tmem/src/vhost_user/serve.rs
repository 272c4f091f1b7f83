// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Serving one virtual machine: one front end after the other, and the grace
//! period in between.

use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::Result;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vhost::vhost_user::Listener;

use super::connection;
use crate::stop::Stop;
use crate::vm::Vm;

/// How long to wait after the system refused a connection, for example
/// because the daemon is out of file descriptors.
const BACK_OFF: Duration = Duration::from_secs(1);

/// Serves `vm` on `listener` until the daemon stops. `id` tells the machine
/// from the others.
pub fn serve(vm: &Vm, id: u64, listener: &mut Listener, socket: &(impl AsFd + Sync), stop: &Stop) {
    if let Some(ended) = connection::go_on(vm, id, socket, stop) {
        say(vm, ended, stop);
    }
    while !stop.is_asked() {
        match wait(socket, stop, vm.keeps_for()) {
            Event::Nothing => {}
            Event::Expired => vm.expire(),
            Event::FrontEnd => {
                vm.connected();
                let name = vm.name();
                vm.say(|| log::info!("{name}: a front end connected"));
                let ended = connection::run(vm, id, listener, socket, stop);
                vm.disconnected();
                say(vm, ended, stop);
            }
        }
    }
}

/// Has the log tell how a connection ended.
fn say(vm: &Vm, ended: Result<Result<()>>, stop: &Stop) {
    let name = vm.name();
    match ended {
        // It goes on with the next daemon, perhaps.
        Ok(Ok(())) if stop.is_asked() => {}
        Ok(Ok(())) => vm.say(|| log::info!("{name}: the front end left")),
        Ok(Err(error)) => {
            vm.say(|| log::warn!("{name}: the connection ended: {error:#}"));
        }
        Err(error) => {
            vm.say(|| log::warn!("{name}: a front end cannot be served: {error:#}"));
            stop.wait(BACK_OFF);
        }
    }
}

enum Event {
    FrontEnd,
    Expired,
    Nothing,
}

/// Waits for a front end, the end of the grace period or of the daemon.
fn wait(socket: &impl AsFd, stop: &Stop, timeout: Option<Duration>) -> Event {
    let mut fds = [
        PollFd::new(socket, PollFlags::IN),
        PollFd::new(stop, PollFlags::IN),
    ];
    // What does not fit never ends.
    let timeout = timeout.and_then(|time| Timespec::try_from(time).ok());
    match poll(&mut fds, timeout.as_ref()) {
        Ok(0) => Event::Expired,
        Ok(_) if !stop.is_asked() && !fds.first().is_none_or(|fd| fd.revents().is_empty()) => {
            Event::FrontEnd
        }
        // Interrupted, or the end.
        Ok(_) | Err(_) => Event::Nothing,
    }
}
