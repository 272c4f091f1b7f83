// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One front end's connection, from its acceptance to its end.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, anyhow};
use vhost::vhost_user::{Error as VhostUserError, Listener};
use vhost_user_backend::{Error, VhostUserDaemon};
use vm_memory::GuestMemoryMmap;

use super::backend::Backend;
use super::others::turn_away;
use super::queues::Queues;
use super::session::{Front, Relay, Waiting, pair};
use super::vring;
use crate::blame;
use crate::confine::{self, Role};
use crate::faults;
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
    let Some(note) = vm.note().filter(|note| note.keeps_fds()) else {
        return serve(vm, id, Way::Direct(listener), socket, stop);
    };
    match listener.accept()? {
        Some(stream) => {
            let waiting = Waiting::default();
            waiting.put(Front::connected(stream, note)?);
            let ended = serve(vm, id, Way::Relayed(&waiting), socket, stop);
            if let Some(front) = waiting.take() {
                // It has no relay. The keeper has its socket, too.
                front.end();
            }
            ended
        }
        None => Ok(Ok(())),
    }
}

/// Goes on with the front end that the daemon before this one has left, until it leaves or
/// the daemon stops; `None` if there is none. As [`run`], but if the connection cannot be
/// had, the front end is `waiting` to be gone on with later.
pub fn go_on(
    vm: &Vm,
    id: u64,
    waiting: &Waiting,
    socket: &(impl AsFd + Sync),
    stop: &Stop,
) -> Option<Result<Result<()>>> {
    let note = vm.note().filter(|note| note.keeps_fds())?;
    let left = waiting.take().map(Ok).or_else(|| Front::left(&note));
    match left {
        Some(Ok(front)) => {
            waiting.put(front);
            vm.connected();
            vm.say(|| log::info!("{}: took over its front end", vm.name()));
            let ended = serve(vm, id, Way::Relayed(waiting), socket, stop);
            vm.disconnected();
            if ended.is_ok()
                && let Some(front) = waiting.take()
            {
                // It never had a relay.
                front.end();
            }
            Some(ended)
        }
        Some(Err(error)) => Some(Ok(Err(error))),
        None => {
            note.forget_session();
            None
        }
    }
}

/// How messages come from the front end to the crate.
enum Way<'a> {
    Direct(&'a mut Listener),
    Relayed(&'a Waiting),
}

fn serve(
    vm: &Vm,
    id: u64,
    way: Way<'_>,
    socket: &(impl AsFd + Sync),
    stop: &Stop,
) -> Result<Result<()>> {
    faults::fails("connection")?;
    // What the front end announces; queues use it only when it is watched over.
    let announced = Memory::new(GuestMemoryMmap::new());
    let mem = Memory::new(GuestMemoryMmap::new());
    let backend = Arc::new(Backend::new(vm, mem.clone())?);
    let (daemon, vrings) =
        vring::collect(|| VhostUserDaemon::new(vm.name().to_owned(), backend.clone(), announced));
    let mut daemon = daemon.map_err(sentence)?;
    let queues = Queues::serve(&backend, vrings)?;
    vm.set_memory(Some(mem));
    let mut relay = None;
    let started = match way {
        Way::Direct(listener) => daemon.start(listener).map_err(sentence),
        Way::Relayed(waiting) => begin(&mut daemon, stop).and_then(|(inner, stop)| {
            let (waiting, note, name) = (waiting.clone(), vm.note(), vm.name().to_owned());
            let thread = thread::Builder::new().name(format!("relay {}", vm.name()));
            let run = move || {
                blame::take(note.as_ref());
                confine::enter(Role::Relay);
                faults::at("relay", &name);
                let front = waiting.take().context("its front end is gone")?;
                Relay::new(front, inner, stop).run()
            };
            relay = Some(thread.spawn(run).context("cannot start a thread")?);
            Ok(())
        }),
    };
    let served = started.map(|()| {
        let handle = daemon.shutdown_handle();
        backend.connected(handle.clone());
        let say = || {
            vm.say(|| log::warn!("{}: another front end was turned away", vm.name()));
        };
        // A relay hears of the end itself, and works on no message then.
        let handle = handle.filter(|_| relay.is_none());
        let wait = || stop.guard(id, handle, || daemon.wait());
        let ended = turn_away(socket, stop, say, wait);
        if stop.is_asked() {
            return Ok(());
        }
        judge(ended)
    });
    backend.end();
    // Waits for their threads.
    drop(queues);
    drop(daemon);
    vm.set_trace(backend.trace());
    vm.set_memory(None);
    let relayed = relay.map_or(Ok(()), |relay| {
        let front = relay
            .join()
            .map_err(|_| anyhow!("its relay has failed"))??;
        if !stop.is_asked() || stop.is_for_good() {
            front.end();
        }
        Ok(())
    });
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
    served.map(|served| relayed.and(served))
}

/// Has the crate serve this process; our end of that connection, and when the daemon stops.
fn begin(daemon: &mut VhostUserDaemon<Arc<Backend>>, stop: &Stop) -> Result<(UnixStream, OwnedFd)> {
    let (mut listener, inner) = pair().context("cannot connect to itself")?;
    let stop = stop.as_fd().try_clone_to_owned()?;
    daemon.start(&mut listener).map_err(sentence)?;
    Ok((inner, stop))
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
