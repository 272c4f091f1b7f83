// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The daemon's life: sockets first, then threads, then a signal.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tmem_host::socket::{self, Access, Socket};
use tmem_host::{ready, size};
use tmem_store::{Store, StoreConfig};
use vhost::vhost_user::Listener;

use crate::cli::Options;
use crate::control::Control;
use crate::inherited;
use crate::settings::{self, Place, VmSettings};
use crate::stop::Stop;
use crate::vm::{self, Vm};

/// How often it is looked what a VM has given back, and whether a driver that heard
/// "full" may try again.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);

/// Runs the daemon until SIGTERM or SIGINT.
///
/// # Errors
/// A sentence about what keeps it from running.
pub fn run(options: &Options) -> Result<()> {
    // First of all: nothing may have been opened before.
    let mut inherited = options.fd.map(inherited::take).transpose()?;
    // Before any socket is made, so that it is removed whenever a signal comes.
    let signals = signals().context("cannot listen for signals")?;
    let settings = settings::vms(options)?;
    let memory_limit = settings::memory_limit(options)?;
    let access = access(options)?;
    let store = Store::new(StoreConfig::with_limit(memory_limit))?;
    let compressor = store.start_compressor();
    // Until the end: it is stopped when this is dropped.
    let _compressor = compressor.context("cannot start a thread")?;
    let mut machines = Vec::new();
    for settings in &settings {
        let vm = Vm::new(&store, settings, options.request_queues, options.grace)?;
        machines.push((Arc::new(vm), Entry::open(settings, access, &mut inherited)?));
    }
    let control_socket = options.control_socket.as_deref();
    let control_socket = control_socket
        .map(|path| Socket::bind(path, Access::OWNER_ONLY))
        .transpose()?;
    let stop = Stop::new().context("cannot make an event")?;
    log::info!(
        "serving {} virtual machines, at most {} of host memory",
        machines.len(),
        size::show(memory_limit)
    );
    let control = Control {
        store,
        vms: machines.iter().map(|(vm, _)| vm.clone()).collect(),
    };
    thread::scope(|scope| {
        let mut started = Ok(());
        if let Some(socket) = &control_socket {
            let (control, stop) = (&control, &stop);
            let thread = thread::Builder::new().name("control".into());
            let spawned = thread.spawn_scoped(scope, move || control.serve(socket, stop));
            started = spawned.map(drop).context("cannot start a thread");
        }
        for (id, (vm, entry)) in (0u64..).zip(&machines) {
            let stop = &stop;
            let thread = thread::Builder::new().name(vm.name().to_owned());
            let serve = move || -> Result<()> {
                let mut listener = Listener::from(entry.listener()?);
                vm::serve(vm, id, &mut listener, entry, stop);
                Ok(())
            };
            if let Err(error) = thread.spawn_scoped(scope, serve) {
                started = Err(error).context("cannot start a thread");
                break;
            }
        }
        if started.is_ok() {
            ready::tell();
            wait(&signals, &control.vms);
        }
        stop.ask();
        started
    })
}

/// Becomes readable when the daemon is to end.
fn signals() -> std::io::Result<UnixStream> {
    let (seen, raised) = UnixStream::pair()?;
    for signal in [SIGTERM, SIGINT] {
        signal_hook::low_level::pipe::register(signal, raised.try_clone()?)?;
    }
    // Served machines outlive the terminal that the daemon was started from.
    signal_hook::flag::register(SIGHUP, Arc::default())?;
    Ok(seen)
}

/// Until a signal; looks after the VMs in between.
fn wait(signals: &UnixStream, vms: &[Arc<Vm>]) {
    let interval = Timespec::try_from(WATCH_INTERVAL).unwrap_or_default();
    loop {
        let mut fds = [PollFd::new(signals, PollFlags::IN)];
        match poll(&mut fds, Some(&interval)) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return,
            Err(error) => {
                log::error!("cannot wait for signals: {error}");
                return;
            }
        }
        for vm in vms {
            vm.look_after();
        }
    }
}

fn access(options: &Options) -> Result<Access> {
    let group = options
        .socket_group
        .as_deref()
        .map(socket::group_id)
        .transpose()?;
    let default = if group.is_some() { 0o660 } else { 0o600 };
    Ok(Access {
        group,
        mode: options.socket_mode.unwrap_or(default),
    })
}

/// Where a VM's front ends come in.
enum Entry {
    Made(Socket),
    Inherited(UnixListener),
}

impl Entry {
    fn open(
        settings: &VmSettings,
        access: Access,
        inherited: &mut Option<UnixListener>,
    ) -> Result<Self> {
        match &settings.place {
            Place::Path(path) => Ok(Self::Made(Socket::bind(path, access)?)),
            Place::Fd(_) => inherited
                .take()
                .map(Self::Inherited)
                .context("only one virtual machine can have an inherited socket"),
        }
    }

    fn listener(&self) -> Result<UnixListener> {
        let listener = match self {
            Self::Made(socket) => socket.listener(),
            Self::Inherited(listener) => listener,
        };
        listener.try_clone().context("cannot copy a socket")
    }
}

impl AsFd for Entry {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Made(socket) => socket.as_fd(),
            Self::Inherited(listener) => listener.as_fd(),
        }
    }
}
