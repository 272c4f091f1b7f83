// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Ports with their threads and connections, and a simulated guest.

use super::*;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, OutputModes, tcgetattr};
use tempfile::TempDir;

/// A guest's driver that works as Linux's does.
struct Guest {
    port: Arc<dyn BusDevice>,
    irq: EventFd,
}

/// Longer than any machine takes for what is waited for.
const LONG: Timespec = Timespec {
    tv_sec: 60,
    tv_nsec: 0,
};

impl Guest {
    fn write(&self, bytes: &[u8]) {
        for byte in bytes {
            assert_ne!(self.register(5) & 0x20, 0, "ready to send");
            self.port.write(0, &[*byte]);
        }
    }

    fn register(&self, offset: u64) -> u8 {
        let mut data = [0];
        self.port.read(offset, &mut data);
        data[0]
    }

    /// Waits for an interrupt and handles it: at most 256 bytes for each time
    /// that the device says there are some.
    fn handle_interrupt(&self, read: &mut Vec<u8>) {
        let irq = event::fd(&self.irq);
        let mut fds = [PollFd::new(&irq, PollFlags::IN)];
        assert_eq!(poll(&mut fds, Some(&LONG)), Ok(1), "no interrupt comes");
        event::take(&self.irq);
        while self.register(2) & 0x01 == 0 {
            for _ in 0..256 {
                if self.register(5) & 0x01 == 0 {
                    break;
                }
                read.push(self.register(0));
            }
        }
    }

    fn enable_interrupts(&self) {
        self.port.write(1, &[0x05]);
    }
}

fn connect(target: &str) -> (SerialPort, Guest) {
    let connection = target.parse::<Target>().unwrap().open().unwrap();
    let irq = EventFd::new(EFD_NONBLOCK).unwrap();
    let port = SerialPort::new("com1", irq.try_clone().unwrap(), connection).unwrap();
    let device = port.device();
    (port, Guest { port: device, irq })
}

fn refused(target: &str) -> String {
    let target = target.parse::<Target>().unwrap();
    target.open().err().unwrap().to_string()
}

/// A port that is connected to a socket, and the socket's other end.
fn socket(dir: &TempDir) -> (SerialPort, Guest, UnixStream) {
    let path = dir.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let (port, guest) = connect(&format!("socket={}", path.display()));
    (port, guest, listener.accept().unwrap().0)
}

/// A port that is connected to a terminal device, and who sits at it.
fn device() -> (SerialPort, Guest, File, String) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let path = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let (port, guest) = connect(&format!("path={path}"));
    (port, guest, master.into(), path)
}

fn read_exactly(from: &mut impl Read, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    from.read_exact(&mut bytes).unwrap();
    bytes
}

/// Bytes that do not repeat soon.
fn noise(len: usize) -> Vec<u8> {
    (0..len)
        .map(|n| u8::try_from(n * n / 257 % 251).unwrap())
        .collect()
}

#[test]
fn lines_and_prompts_reach_a_socket_while_the_guest_waits() {
    let dir = TempDir::new().unwrap();
    let (_port, guest, mut peer) = socket(&dir);
    for text in ["a line\n", "login: ", "\n", "x"] {
        guest.write(text.as_bytes());
        assert_eq!(read_exactly(&mut peer, text.len()), text.as_bytes());
    }
}

#[test]
fn a_slow_guest_gets_every_byte_of_a_long_line() {
    let dir = TempDir::new().unwrap();
    let (_port, guest, mut peer) = socket(&dir);
    let sent = noise(300_000);
    let line = sent.clone();
    let sender = std::thread::spawn(move || {
        peer.write_all(&line).unwrap();
        peer
    });
    let mut read = Vec::new();
    guest.enable_interrupts();
    while read.len() < sent.len() {
        guest.handle_interrupt(&mut read);
        // What Linux does around a message on its console.
        guest.port.write(1, &[0]);
        std::thread::yield_now();
        guest.enable_interrupts();
    }
    assert!(read == sent, "the bytes are not those that were sent");
    sender.join().unwrap();
}

#[test]
fn a_guest_that_polls_gets_every_byte() {
    let dir = TempDir::new().unwrap();
    let (_port, guest, mut peer) = socket(&dir);
    let sent = noise(10_000);
    peer.write_all(&sent).unwrap();
    let mut read = Vec::new();
    while read.len() < sent.len() {
        if guest.register(5) & 0x01 == 0 {
            std::thread::yield_now();
        } else {
            read.push(guest.register(0));
        }
    }
    assert!(read == sent, "the bytes are not those that were sent");
    assert!(!event::take(&guest.irq), "nobody asked for interrupts");
}

#[test]
fn a_guest_goes_on_although_nobody_reads_its_output() {
    let dir = TempDir::new().unwrap();
    let (port, guest, mut peer) = socket(&dir);
    let written = noise(3 << 20);
    guest.write(&written);
    // What was taken is what was written first, without holes.
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        peer.read_to_end(&mut bytes).unwrap();
        bytes
    });
    drop(port);
    let read = reader.join().unwrap();
    assert!(read.len() >= 1 << 20, "{} bytes were kept", read.len());
    assert!(written.starts_with(&read), "bytes are missing");
}

#[test]
fn a_port_ends_although_nobody_reads_its_output() {
    let dir = TempDir::new().unwrap();
    let (port, guest, _peer) = socket(&dir);
    guest.write(&noise(2 << 20));
    drop(port);
}

#[test]
fn a_guest_goes_on_when_the_peer_closes() {
    let dir = TempDir::new().unwrap();
    let (port, guest, peer) = socket(&dir);
    drop(peer);
    guest.write(&noise(3 << 20));
    drop(port);
    // The device outlives what it was connected to.
    guest.write(b"nobody hears this");
}

#[test]
fn all_output_is_in_the_file_when_the_port_has_ended() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("log");
    let written = noise(300_000);
    std::fs::write(&path, b"before\n").unwrap();
    for part in written.chunks(200_000) {
        let (_port, guest) = connect(&format!("file={}", path.display()));
        guest.write(part);
    }
    let read = std::fs::read(&path).unwrap();
    assert!(read == [b"before\n", &*written].concat());
}

#[test]
fn a_port_that_is_connected_to_nothing_swallows() {
    let (_port, guest) = connect("null");
    guest.write(&noise(100_000));
    assert_eq!(guest.register(5) & 0x01, 0, "there is no input");
}

#[test]
fn a_device_is_a_plain_line_until_the_port_ends() {
    let (port, guest, mut user, path) = device();
    guest.write(b"a\nb");
    assert_eq!(read_exactly(&mut user, 3), b"a\nb", "nothing is translated");
    user.write_all(b"\x03\x01x\r").unwrap();
    guest.enable_interrupts();
    let mut read = Vec::new();
    while read.len() < 4 {
        guest.handle_interrupt(&mut read);
    }
    assert_eq!(read, b"\x03\x01x\r", "no key means anything");
    let terminal = File::options()
        .read(true)
        .custom_flags(libc::O_NOCTTY)
        .open(path)
        .unwrap();
    let modes = |terminal: &File| tcgetattr(terminal).unwrap().local_modes;
    assert!(!modes(&terminal).contains(LocalModes::ECHO));
    drop(port);
    assert!(modes(&terminal).contains(LocalModes::ECHO));
    let output = tcgetattr(&terminal).unwrap().output_modes;
    assert!(output.contains(OutputModes::OPOST));
}

#[test]
fn a_device_whose_other_end_is_gone_holds_nobody() {
    let (port, guest, user, _) = device();
    drop(user);
    guest.write(&noise(3 << 20));
    drop(port);
}

#[test]
fn what_cannot_be_opened_is_told_in_a_sentence() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let here = |path: &Path| path.display().to_string();
    let missing = here(&dir.path().join("none/such"));

    let error = refused(&format!("path={}", here(&file)));
    assert!(error.contains("is no character device"), "{error}");
    assert!(error.contains(&here(&file)), "{error}");
    for kind in ["file", "path", "socket"] {
        let error = refused(&format!("{kind}={missing}"));
        assert!(error.contains(&missing), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
    // A file that is no socket, and a socket that is nobody's any more.
    drop(UnixListener::bind(dir.path().join("old")).unwrap());
    for name in ["file", "old"] {
        let error = refused(&format!("socket={}", here(&dir.path().join(name))));
        assert!(error.contains("something must listen there"), "{error}");
    }
}
