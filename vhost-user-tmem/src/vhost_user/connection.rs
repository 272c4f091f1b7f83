// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One front end's connection, from its acceptance to its end.

use std::os::fd::AsFd;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use vhost::vhost_user::{Error as VhostUserError, Listener};
use vhost_user_backend::{Error, VhostUserDaemon};
use vm_memory::GuestMemoryMmap;

use super::backend::Backend;
use super::others::turn_away;
use crate::stop::Stop;
use crate::vm::{Memory, Vm};

/// Accepts a front end and serves it until it leaves or the daemon stops.
/// Whatever the connection set up (memory, vrings, threads) ends with it: the
/// next one begins afresh, on the same device.
///
/// Who connects to `socket`, that of the listener, meanwhile is turned away.
///
/// The outcome is how it ended: with a sentence if the front end did something wrong.
///
/// # Errors
/// When the connection cannot be had.
pub fn run(
    vm: &Vm,
    id: u64,
    listener: &mut Listener,
    socket: &(impl AsFd + Sync),
    stop: &Stop,
) -> Result<Result<()>> {
    // What the front end announces; queues use it only when it is watched over.
    let announced = Memory::new(GuestMemoryMmap::new());
    let mem = Memory::new(GuestMemoryMmap::new());
    let backend = Arc::new(Backend::new(vm, mem.clone())?);
    let mut daemon =
        VhostUserDaemon::new(vm.name().to_owned(), backend.clone(), announced).map_err(sentence)?;
    vm.set_memory(Some(mem));
    let served = backend
        .attach(&daemon.get_epoll_handlers())
        .map_err(anyhow::Error::from)
        .and_then(|()| daemon.start(listener).map_err(sentence))
        .and_then(|()| {
            let handle = daemon.shutdown_handle();
            backend.connected(handle.clone());
            let say = || {
                vm.say(|| log::warn!("{}: another front end was turned away", vm.name()));
            };
            let wait = || stop.guard(id, handle, || daemon.wait());
            let ended = turn_away(socket, stop, say, wait)?;
            if stop.is_asked() {
                return Ok(Ok(()));
            }
            Ok(judge(ended))
        });
    // Dropping the daemon joins the queues' threads.
    backend.end();
    drop(daemon);
    vm.set_trace(backend.trace());
    vm.set_memory(None);
    // The next front end maps its memory anew.
    let lost = vm.device().memory_lost();
    if lost.is_lost() {
        lost.reset();
        return Ok(Err(anyhow!(
            "the VM's memory is gone: its file was truncated, or the file system under it is full"
        )));
    }
    if let Some(trouble) = backend.trouble() {
        return Ok(Err(anyhow!("{trouble}")));
    }
    served
}

/// A front end may leave at any time, in the middle of a message as well.
fn judge(ended: vhost_user_backend::Result<()>) -> Result<()> {
    match ended {
        Err(Error::HandleRequest(
            VhostUserError::Disconnected
            | VhostUserError::PartialMessage
            | VhostUserError::SocketBroken(_),
        )) => Ok(()),
        other => other.map_err(sentence),
    }
}

fn sentence(error: Error) -> anyhow::Error {
    anyhow!("{error}")
}
