// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The daemon's life: sockets first, then threads, then a signal.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tmem_cli::signals::Signals;
use tmem_cli::socket::{self, Access, Socket};
use tmem_cli::{ready, size};
use tmem_host::heap::Trimmer;
use tmem_host::keeper::holder;
use tmem_store::StoreConfig;
use vhost::vhost_user::Listener;

use crate::cli::Options;
use crate::control::Control;
use crate::inherited;
use crate::room::Room;
use crate::settings::{self, Place, VmSettings};
use crate::stop::Stop;
use crate::takeover::Takeover;
use crate::vhost_user;
use crate::vm::Vm;

/// How often it is looked what a VM has given back, and whether a driver that heard
/// "full" may try again.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);

/// Runs the daemon until SIGTERM or SIGINT, unless these were ignored when it started.
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
    let config = StoreConfig::with_limit(memory_limit);
    let takeover = Takeover::begin(options.store.as_deref(), options.keep_in.as_deref(), config)?;
    let store = takeover.store().clone();
    let compressor = store.start_compressor();
    // Until the end: it is stopped when this is dropped.
    let _compressor = compressor.context("cannot start a thread")?;
    let room = Arc::new(Room::new(store.clone()));
    let mut machines = Vec::new();
    for settings in &settings {
        let vm = Vm::new(&takeover, settings, options.request_queues, options.grace)?;
        let vm = vm.within(room.clone());
        machines.push((Arc::new(vm), Entry::open(settings, access, &mut inherited)?));
    }
    takeover.end();
    let control_socket = options.control_socket.as_deref();
    let control_socket = control_socket
        .map(|path| Socket::bind(path, Access::OWNER_ONLY))
        .transpose()?;
    let stop = Stop::new().context("cannot make an event")?;
    raise_file_limit(machines.len(), options.request_queues);
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
                vhost_user::serve(vm, id, &mut listener, entry, stop);
                Ok(())
            };
            if let Err(error) = thread.spawn_scoped(scope, serve) {
                started = Err(error).context("cannot start a thread");
                break;
            }
        }
        if started.is_ok() {
            ready::tell();
            wait(&signals, &control, &room);
        }
        stop.ask();
        started
    })
}

/// Keeps for daemons what they leave, until SIGTERM or SIGINT.
///
/// # Errors
/// A sentence about what keeps it from running.
pub fn hold(path: &Path) -> Result<()> {
    let signals = signals().context("cannot listen for signals")?;
    let listener = holder::listener(path)?;
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    let most = setrlimit(Resource::Nofile, raised).map_or(limit.current, |()| limit.maximum);
    /// Its own descriptors.
    const OWN: u64 = 32;
    let most = most.unwrap_or(u64::MAX).saturating_sub(OWN);
    ready::tell();
    holder::run(
        &listener,
        usize::try_from(most).unwrap_or(usize::MAX),
        signals.as_fd(),
    )?;
    // Who starts next would remove it as well.
    let _ = std::fs::remove_file(path);
    Ok(())
}

/// Has the daemon use as many file descriptors as it may, and says when these are too few for
/// `machines` virtual machines.
fn raise_file_limit(machines: usize, request_queues: u32) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    // Refused, it stays as it is.
    let most = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    /// Of a machine: its sockets, events and thread pools, and a few regions of memory.
    const EACH: u64 = 32;
    /// Of a queue: its thread's epoll, kick, call and error events.
    const QUEUE: u64 = 4;
    let queues = u64::from(request_queues).saturating_add(1);
    let need = (machines as u64)
        .saturating_mul(queues.saturating_mul(QUEUE).saturating_add(EACH))
        .saturating_add(64);
    if most.is_some_and(|most| most < need) {
        log::warn!(
            "the daemon may have {} open files, and {machines} virtual machines may need {need}: raise its limit (LimitNOFILE= in the unit)",
            most.unwrap_or(u64::MAX)
        );
    }
}

/// Becomes readable when the daemon is to end.
fn signals() -> std::io::Result<Signals> {
    let signals = Signals::listen(&[SIGTERM, SIGINT])?;
    // Served machines outlive the terminal that the daemon was started from.
    signal_hook::flag::register(SIGHUP, Arc::default())?;
    Ok(signals)
}

/// Until a signal; looks after the VMs in between.
fn wait(signals: &Signals, control: &Control, room: &Room) {
    let mut trimmer = Trimmer::default();
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
        room.look();
        for vm in &control.vms {
            vm.look_after();
        }
        let stats = control.store.stats();
        trimmer.look(stats.held_bytes.saturating_sub(stats.mapped_bytes));
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
