// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! From the command line to a machine: everything is opened and every thread
//! made here, in the order in which mistakes are best reported.

use std::sync::Mutex;
use std::sync::mpsc::Sender;

use anyhow::{Context, Error, Result};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::{Reported, State, Tmem, Vm};
use crate::cli::Options;
use crate::guest;
use crate::machine::{Event, Machine, memory};
use crate::serial::{SerialPort, Target};
use crate::virtio::block::{Block, Disk, DiskOptions};
use crate::virtio::net::{MacAddress, Net, NetOptions, Tap};
use crate::virtio::rng::Rng;
use crate::virtio::tmem::{Tmem as Asked, TmemInProcess};
use crate::virtio::vhost_user::{Kind, VhostUserDevice};

/// Puts a machine together and starts its guest, paused. The serial ports are
/// to be dropped last: the terminal is as it was, once they are gone.
///
/// # Errors
/// A sentence about what was asked for and cannot be.
pub fn assemble(options: &Options, events: Sender<Event>) -> Result<(Vm, Vec<SerialPort>)> {
    options.check().map_err(Error::msg)?;
    let disks = open_disks(&options.disk)?;
    let partitioned = disks.first().map(Disk::is_partitioned);
    let cards = open_cards(&options.net)?;
    let memory = memory::make(options.memory, options.hugepages)?;
    memory::gone::catch(&memory)?;
    let mut machine = Machine::new(memory, options.cpus, events.clone())?;
    machine.load(
        &options.kernel,
        guest::initrd(options).as_deref(),
        &guest::command_line(options, partitioned),
    )?;
    let mut reported = Vec::new();
    add_disks(&mut machine, disks, &mut reported)?;
    add_cards(&mut machine, cards, &mut reported)?;
    add_rng(&mut machine, &mut reported)?;
    let tmem = add_tmem(&mut machine, options, &mut reported)?;
    // Last, because it may change the terminal.
    let serial = add_serial(&mut machine, &options.serial, &events)?;
    let running = machine.start(true)?;
    let vm = Vm {
        running,
        state: Mutex::new(State::Paused),
        cpus: options.cpus,
        memory: options.memory,
        control: tmem.control(),
        tmem,
        reported,
        events,
    };
    Ok((vm, serial))
}

fn add_serial(
    machine: &mut Machine,
    asked: &[Target],
    events: &Sender<Event>,
) -> Result<Vec<SerialPort>> {
    let targets = match asked {
        [] => &[Target::Tty],
        asked => asked,
    };
    let mut ports = Vec::new();
    for (number, target) in (1..).zip(targets) {
        let events = events.clone();
        let connection = target.open()?.on_quit(move || {
            // The machine is at its end if nobody listens.
            let _ = events.send(Event::Quit);
        });
        let line = EventFd::new(EFD_NONBLOCK).context("cannot make an event")?;
        let wired = line.try_clone().context("cannot make an event")?;
        let port = SerialPort::new(&format!("com{number}"), line, connection)
            .with_context(|| format!("cannot make a serial port on {target}"))?;
        machine.add_serial(&wired, port.device())?;
        ports.push(port);
    }
    Ok(ports)
}

fn open_disks(asked: &[DiskOptions]) -> Result<Vec<Disk>> {
    let open = |disk: &DiskOptions| {
        let open = if disk.is_raw {
            Disk::open_raw
        } else {
            Disk::open
        };
        Ok(open(&disk.path, disk.read_only)?)
    };
    asked.iter().map(open).collect()
}

fn add_disks(machine: &mut Machine, disks: Vec<Disk>, reported: &mut Vec<Reported>) -> Result<()> {
    for (at, disk) in disks.into_iter().enumerate() {
        let name = disk_name(at);
        let device = Block::new(&name, disk);
        let stats = device.stats();
        let device = device.virtio().context("cannot make a disk")?;
        reported.push(Reported::new("disk", name, move || stats.metrics()));
        machine.add_virtio(Box::new(device))?;
    }
    Ok(())
}

/// What the guest's kernel calls the disk that comes after `before` others.
fn disk_name(before: usize) -> String {
    let letter = ('a'..='z').nth(before).unwrap_or('?');
    format!("vd{letter}")
}

fn open_cards(asked: &[NetOptions]) -> Result<Vec<(Tap, MacAddress)>> {
    let mut cards = Vec::new();
    for asked in asked {
        let mac = match asked.mac {
            Some(mac) => mac,
            None => MacAddress::random().context("cannot get random numbers")?,
        };
        cards.push((Tap::open(&asked.tap)?, mac));
    }
    Ok(cards)
}

fn add_cards(
    machine: &mut Machine,
    cards: Vec<(Tap, MacAddress)>,
    reported: &mut Vec<Reported>,
) -> Result<()> {
    for (tap, mac) in cards {
        let name = tap.name().to_owned();
        let device =
            Net::new(tap, mac).with_context(|| format!("cannot make a network card on {name}"))?;
        let stats = device.stats();
        reported.push(Reported::new("net", name, move || stats.metrics()));
        machine.add_virtio(Box::new(device))?;
    }
    Ok(())
}

fn add_rng(machine: &mut Machine, reported: &mut Vec<Reported>) -> Result<()> {
    let device = Rng::default();
    let stats = device.stats();
    let device = device.virtio();
    let device = device.context("cannot make the random number device")?;
    reported.push(Reported::new("rng", "rng0".into(), move || stats.metrics()));
    machine.add_virtio(Box::new(device))?;
    Ok(())
}

fn add_tmem(
    machine: &mut Machine,
    options: &Options,
    reported: &mut Vec<Reported>,
) -> Result<Tmem> {
    match options.tmem() {
        None => Ok(Tmem::None),
        Some(Asked::InProcess(options)) => {
            let tmem = TmemInProcess::new(&options, machine.memory())?;
            let device = tmem
                .virtio(options.serve)
                .context("cannot make the tmem device")?;
            machine.add_virtio(Box::new(device))?;
            Ok(Tmem::InProcess(tmem))
        }
        Some(Asked::Daemon {
            kind,
            socket,
            queues,
        }) => {
            let (option, name) = match kind {
                Kind::Tmem => ("--tmem", "tmem0".to_owned()),
                Kind::Disk => ("--tmem-swap", disk_name(options.disk.len())),
            };
            let device = VhostUserDevice::new(kind, &socket, queues, machine.memory())
                .with_context(|| format!("{option} socket={}", socket.display()))?;
            let counters = device.counters().clone();
            reported.push(Reported::new("tmem", name, move || counters.metrics()));
            machine.add_virtio(Box::new(device))?;
            Ok(Tmem::Daemon)
        }
    }
}
