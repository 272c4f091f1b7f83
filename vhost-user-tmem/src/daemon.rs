// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The daemon's life: sockets first, then threads, then a signal.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tmem_cli::signals::Signals;
use tmem_cli::socket::Access;
use tmem_cli::{ready, size};
use tmem_host::api::Api;
use tmem_host::care::{self, Care};
use tmem_host::health::Health;
use tmem_host::heap::{self, Trimmer};
use tmem_host::image::{Begin, Workers};
use tmem_host::keeper::holder;
use tmem_host::registry::{Origin, Registry, Said, Shares, State, files};
use tmem_store::StoreConfig;

use crate::cli::Options;
use crate::confine::{self, Role};
use crate::control::Control;
use crate::door::Door;
use crate::doors::Doors;
use crate::faults;
use crate::inherited::Inherited;
use crate::locked;
use crate::remote;
use crate::room::Room;
use crate::scrape::Scrape;
use crate::settings::{self, Places};
use crate::spill::Watch;
use crate::takeover::Takeover;

/// Machines that are saved or restored at a time, for operators; and as many for front ends.
const IMAGES: usize = 4;

/// Runs the daemon until SIGTERM or SIGINT, unless these were ignored when it started.
///
/// # Errors
/// A sentence about what keeps it from running.
pub fn run(options: &Options) -> Result<()> {
    let defaults = settings::defaults(options)?;
    let machines = settings::machines(options, &defaults)?;
    // Nothing may have been opened before.
    let inherited = Inherited::take(&machines)?;
    // Before any socket is made, so that it is removed whenever a signal comes.
    let signals = signals().context("cannot listen for signals")?;
    let places = Places::of(options, |name| std::env::var(name).ok());
    let config = places
        .config
        .as_deref()
        .map(files::read::<Said>)
        .transpose()?;
    let config = config.unwrap_or_default();
    let memory_limit = settings::memory_limit(options)?;
    let access = Access::of(options.socket_group.as_deref(), options.socket_mode)?;
    let state = places.state.as_deref().map(State::open).transpose()?;
    let mut limit = StoreConfig::with_limit(memory_limit);
    if let Some(spill) = &options.spill {
        let area = spill.open().context("cannot spill")?;
        limit = limit.with_spill(area);
    }
    if let Some(settings) = &options.remote {
        limit = limit.with_spill(remote::open(settings, memory_limit)?);
    }
    let takeover = Takeover::begin(options.store.as_deref(), options.keep_in.as_deref(), limit)?;
    let takeover = Arc::new(takeover);
    let store = takeover.store().clone();
    heap::open();
    if options.lock_memory {
        locked::lock(&store)?;
    }
    let compressor = store.start_compressor_with(|| {
        faults::once_asked("compressor");
        confine::enter(Role::Store);
    });
    // Until the end: it is stopped when this is dropped.
    let _compressor = compressor.context("cannot start a thread")?;
    let is_remote = options.remote.is_some();
    let demoter = (options.spill.is_some() || is_remote).then(|| {
        store.start_demoter_with(move || {
            confine::enter(if is_remote { Role::Remote } else { Role::Store });
        })
    });
    let _demoter = demoter.transpose().context("cannot start a thread")?;
    let workers = Workers::start(
        IMAGES,
        Begin {
            starter: || confine::enter(Role::Images),
            worker: || confine::enter(Role::Image),
            remover: || confine::enter(Role::Removal),
        },
    );
    let workers = Arc::new(workers.context("cannot start a thread")?);
    let room = Arc::new(Room::new(store.clone()));
    let doors = Arc::new(Doors::start()?);
    let shares = Arc::new(Shares::new(store.clone(), state.as_ref()));
    // Before anybody is served who may ask for one.
    shares.restore()?;
    let door = Door {
        takeover: takeover.clone(),
        doors: doors.clone(),
        room: room.clone(),
        shares: shares.clone(),
        // Front ends that do nothing do not keep the operator from saving.
        workers: Arc::new(workers.apart()),
        access,
        run: places.run,
        request_queues: options.request_queues,
        poll_max: options.poll_max,
        inherited: Arc::new(inherited.machines),
    };
    let activated = door.inherited.clone();
    let registry = Registry::new(Box::new(door), defaults.clone(), state);
    let registry = Arc::new(registry.with_shares(shares));
    for machine in machines {
        registry.open(machine.name, machine.settings, Origin::CommandLine)?;
    }
    for (name, path, said) in config {
        let at = || format!("'{}'", path.display());
        let settings = said.over(&defaults).map_err(anyhow::Error::msg);
        registry
            .open(name, settings.with_context(at)?, Origin::File(path.clone()))
            .with_context(at)?;
    }
    registry.restore()?;
    for name in activated.keys() {
        if registry.get(name.as_str()).is_err() {
            let settings = Said::default()
                .over(&defaults)
                .map_err(anyhow::Error::msg)?;
            registry.open(name.clone(), settings, Origin::ServiceManager)?;
        }
    }
    // Whoever is served has its pages by now.
    takeover.end();
    let health = Arc::new(Health::default());
    health.recovery_failed(takeover.failures());
    let served = registry.list().len();
    ensure!(
        served > 0 || options.control_socket.is_some() || inherited.control.is_some(),
        "no virtual machine to serve; give --socket-path PATH, --vm socket=PATH, --fd N or a file in --config DIR, or --control-socket PATH to add some later, or pass sockets on with a socket unit"
    );
    let api = Api {
        store: Some(store.clone()),
        registry: registry.clone(),
        health: health.clone(),
    };
    let scrape = Scrape::open(options, inherited.metrics, api.clone())?;
    let control = Control::open(options, inherited.control, api)?;
    raise_file_limit(served, options.request_queues);
    if let Some((name, is_remote)) = store.spill_area() {
        let stats = store.stats();
        log::info!(
            "{} {name} has {}, of which {} are in use",
            if is_remote {
                "remote memory in"
            } else {
                "the spill area"
            },
            size::show(stats.spill_size_bytes),
            size::show(stats.spilled_bytes)
        );
    }
    log::info!(
        "serving {served} virtual machines, at most {} of host memory",
        size::show(memory_limit)
    );
    let control = control.map(|it| it.start(workers.clone())).transpose()?;
    let scrape = scrape.map(Scrape::start).transpose()?;
    ready::tell();
    confine::enter(Role::Main);
    wait(&signals, &takeover, &registry, &room, &health);
    if takeover.keeps_memory() {
        // While guests are still served: they would wait for it. Refused, they do.
        let _ = store.unmap();
    }
    doors.end();
    workers.end();
    drop((control, scrape));
    Ok(())
}

/// Keeps for daemons what they leave, until SIGTERM or SIGINT.
///
/// # Errors
/// A sentence about what keeps it from running.
pub fn hold(path: &Path) -> Result<()> {
    let signals = signals().context("cannot listen for signals")?;
    let listener = holder::listener(path)?;
    /// Its own descriptors.
    const OWN: u64 = 32;
    let most = raised_file_limit().unwrap_or(u64::MAX).saturating_sub(OWN);
    ready::tell();
    confine::enter(Role::Holder);
    holder::run(
        &listener,
        usize::try_from(most).unwrap_or(usize::MAX),
        signals.as_fd(),
    )?;
    // Who starts next would remove it as well.
    let _ = std::fs::remove_file(path);
    Ok(())
}

/// Has this process use as many file descriptors as it may; how many, unless there is no limit.
fn raised_file_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    // Refused, it stays as it is.
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    }
}

/// Has the daemon use as many file descriptors as it may, and says when these are too few for
/// `machines` virtual machines.
fn raise_file_limit(machines: usize, request_queues: u32) {
    let most = raised_file_limit();
    /// Of a machine: its sockets, events and thread pools, and a few regions of memory.
    const EACH: u64 = 32;
    /// Of a queue: its kick twice, call and error events, and one for its thread.
    const QUEUE: u64 = 5;
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
fn wait(signals: &Signals, takeover: &Takeover, registry: &Registry, room: &Room, health: &Health) {
    let mut trimmer = Trimmer::default();
    let mut spill = Watch::new(&takeover.store().stats());
    let mut care = Care::of_host();
    let interval = Timespec::try_from(care::INTERVAL).unwrap_or_default();
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
        faults::when_asked("main");
        takeover.look();
        room.look();
        health.set_group_short(room.is_short());
        care.look(registry, health);
        let stats = takeover.store().stats();
        spill.look(&stats);
        trimmer.look(stats.held_bytes.saturating_sub(stats.mapped_bytes));
    }
}
