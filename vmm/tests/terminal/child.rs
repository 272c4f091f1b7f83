// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The programs on a terminal: one that runs a machine as the VMM does, and a
//! shell with jobs.

use std::io::{BufRead, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, WaitOptions, getpgrp, kill_process, waitpid};
use rustix::stdio::stdout;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr, tcsetpgrp};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1};
use signal_hook::low_level::pipe;
use tmem_vmm::bus::BusDevice;
use tmem_vmm::confine::{self, Level, Role};
use tmem_vmm::event;
use tmem_vmm::serial::{SerialPort, Target};
use tmem_vmm::terminal;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use vmm_sys_util::signal::block_signal;

use crate::user::program;

pub(crate) fn run() {
    let guest = std::env::var("TERMINAL_GUEST").unwrap();
    match std::env::var("TERMINAL_ROLE").unwrap().as_str() {
        "machine" => machine(&guest),
        _ => shell(&guest),
    }
}

/// Runs a guest until a key or a signal ends it.
fn machine(guest: &str) {
    let (events, happened) = channel();
    confine::set_level(Level::On).unwrap();
    listen(&events);
    let quit = events.clone();
    let connection = Target::Tty.open().unwrap().on_quit(move || {
        let _ = quit.send("quit");
    });
    let irq = EventFd::new(EFD_NONBLOCK).unwrap();
    let port = SerialPort::new("com1", irq.try_clone().unwrap(), connection).unwrap();
    let (device, kind) = (port.device(), guest.to_owned());
    let work = move || match kind.as_str() {
        "echo" => echo(&device, &irq),
        "flood" => flood(&device, &events),
        _ => say(&device, "guest runs\r\n"),
    };
    confine::spawn("vcpu", Role::Vcpu, work).unwrap();
    confine::enter(Role::Main);
    let event = happened.recv().unwrap();
    drop(port);
    if guest == "flood" {
        // The terminal takes no more words.
        std::process::exit(44);
    }
    println!("ended: {event}");
}

/// What the VMM does with signals; and one whose handler restores the terminal.
fn listen(events: &Sender<&'static str>) {
    let (mut ended, ends) = std::io::pipe().unwrap();
    for signal in [SIGTERM, SIGINT, SIGHUP, SIGQUIT] {
        pipe::register(signal, ends.try_clone().unwrap()).unwrap();
    }
    let events = events.clone();
    let end = move || {
        ended.read_exact(&mut [0]).unwrap();
        let _ = events.send("signal");
    };
    confine::spawn("signals", Role::Main, end).unwrap();
    let handler = || {
        terminal::restore();
        // SAFETY: it has no conditions.
        unsafe { libc::_exit(43) };
    };
    // SAFETY: both functions may be called in a signal handler.
    unsafe { signal_hook::low_level::register(SIGUSR1, handler) }.unwrap();
}

fn say(device: &Arc<dyn BusDevice>, text: &str) {
    for byte in text.bytes() {
        device.write(0, &[byte]);
    }
}

fn flood(device: &Arc<dyn BusDevice>, events: &Sender<&'static str>) {
    say(device, "guest runs\r\n");
    for _ in 0..3 << 20 {
        device.write(0, b"~");
    }
    let _ = events.send("flooded");
}

/// Tells the code of each byte; some have effects.
fn echo(device: &Arc<dyn BusDevice>, irq: &EventFd) {
    let read = |register| {
        let mut data = [0];
        device.read(register, &mut data);
        data[0]
    };
    device.write(1, &[0x01]);
    say(device, "guest runs\r\n");
    loop {
        // Signals interrupt it.
        let _ = poll(&mut [PollFd::new(&event::fd(irq), PollFlags::IN)], None);
        event::take(irq);
        while read(5) & 0x01 != 0 {
            let byte = read(0);
            say(device, &format!("[{byte:02x}]"));
            match byte {
                b'P' => panic!("the guest's thread panics"),
                b'E' => std::process::exit(42),
                b'S' => drop(std::fs::File::open("/dev/null")),
                _ => {}
            }
        }
    }
}

/// Does with a job what stdin says.
fn shell(guest: &str) {
    let mut settings = tcgetattr(stdout()).unwrap();
    // What it writes stops a job in the background that does not ignore it.
    settings.local_modes.insert(LocalModes::TOSTOP);
    let mut job = None;
    for order in std::io::stdin().lock().lines() {
        match (order.unwrap().as_str(), &mut job) {
            ("start", job) => {
                *job = Some(start(guest));
                // A shell takes the terminal also from the background. Not
                // before: a job inherits it.
                block_signal(libc::SIGTTOU).unwrap();
            }
            (order, Some(child)) => {
                obey(order, child, &settings);
                println!("done");
            }
            (order, None) => panic!("{order} without a job"),
        }
    }
}

/// Starts a job in the background.
fn start(guest: &str) -> Child {
    let terminal = || Stdio::from(stdout().try_clone_to_owned().unwrap());
    program("machine", guest)
        .stdin(terminal())
        .stdout(terminal())
        .process_group(0)
        .spawn()
        .unwrap()
}

fn obey(order: &str, child: &mut Child, settings: &Termios) {
    let pid = Pid::from_child(child);
    match order {
        "fg" => {
            tcsetpgrp(stdout(), pid).unwrap();
            kill_process(pid, Signal::CONT).unwrap();
        }
        "bg" => kill_process(pid, Signal::CONT).unwrap(),
        "stop" => {
            kill_process(pid, Signal::STOP).unwrap();
            waitpid(Some(pid), WaitOptions::UNTRACED).unwrap();
            tcsetpgrp(stdout(), getpgrp()).unwrap();
            tcsetattr(stdout(), OptionalActions::Now, settings).unwrap();
        }
        "term" => {
            kill_process(pid, Signal::TERM).unwrap();
            child.wait().unwrap();
        }
        _ => panic!("{order} is no order"),
    }
}
