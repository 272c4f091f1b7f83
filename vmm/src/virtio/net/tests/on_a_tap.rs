// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Real taps, in a network of the test's own. Needs root, `/dev/net/tun` and
//! `ip`; says so otherwise.

use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::*;
use crate::virtio::net::TapError;

/// Addresses on the tap: the host's, the guest's.
const HOST: [u8; 4] = [10, 9, 8, 1];
const GUEST: [u8; 4] = [10, 9, 8, 2];
const PORT: u16 = 4711;

/// Runs `test` in a network that has nothing but the tap `tap0`, with [`HOST`]
/// on it.
fn in_a_network(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        // SAFETY: files are not unshared.
        let own = unsafe { unshare_unsafe(UnshareFlags::NEWNET) };
        let mac = MAC.to_string();
        let made = own.is_ok()
            && std::path::Path::new("/dev/net/tun").exists()
            && ip("tuntap add dev tap0 mode tap")
            && ip("address add 10.9.8.1/24 dev tap0")
            && ip("link set tap0 mtu 9000 up")
            && ip(&format!("neighbour add 10.9.8.2 lladdr {mac} dev tap0"));
        if made {
            test();
        } else {
            println!("skipped: no tap can be made here (it needs root, /dev/net/tun and 'ip')");
        }
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn ip(arguments: &str) -> bool {
    Command::new("ip")
        .args(arguments.split(' '))
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn host_socket() -> UdpSocket {
    let socket = UdpSocket::bind((std::net::Ipv4Addr::from(HOST), PORT)).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    socket
}

/// Waits until the host's kernel has noticed that somebody has opened the tap:
/// before, it drops what is sent there.
fn wait_for_link() {
    let end = Instant::now() + Duration::from_secs(20);
    let is_up = || {
        let shown = Command::new("ip")
            .args(["-o", "link", "show", "tap0"])
            .output();
        shown.is_ok_and(|shown| String::from_utf8_lossy(&shown.stdout).contains("state UP"))
    };
    while !is_up() {
        assert!(Instant::now() < end, "the tap has no link");
    }
}

/// Ones' complement sum, as the internet protocols have it.
fn sum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// What of the addresses goes into the checksum of UDP.
fn pseudo_header(from: [u8; 4], to: [u8; 4], len: usize) -> Vec<u8> {
    [&from[..], &to, &[0, 17], &(len as u16).to_be_bytes()].concat()
}

/// A frame from the guest to the host's socket. `checksum` is put where UDP's
/// goes.
fn datagram(host_mac: [u8; 6], payload: &[u8], checksum: u16) -> Vec<u8> {
    let len = 8 + payload.len();
    let mut ip = vec![0x45, 0];
    ip.extend((20 + len as u16).to_be_bytes());
    ip.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    ip.extend([GUEST, HOST].concat());
    let check = !sum(&[&ip]);
    ip[10..12].copy_from_slice(&check.to_be_bytes());
    let mut udp = [PORT.to_be_bytes(), PORT.to_be_bytes()].concat();
    udp.extend((len as u16).to_be_bytes());
    udp.extend(checksum.to_be_bytes());
    [&host_mac[..], &MAC.0, &[8, 0], &ip, &udp, payload].concat()
}

fn mac_of_tap() -> [u8; 6] {
    let output = Command::new("ip")
        .args(["-o", "link", "show", "tap0"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut words = text.split_whitespace();
    words.find(|word| *word == "link/ether").unwrap();
    let mac: MacAddress = words.next().unwrap().parse().unwrap();
    mac.0
}

/// Waits for the datagram with this `payload`; other things that the host's
/// kernel sends are passed over. Its bytes, with the header.
fn receive(driver: &mut Driver<'_>, spaces: &[Span], payload: &[u8]) -> Vec<u8> {
    let mut spaces = spaces.iter();
    loop {
        let mut bytes = driver.received(*spaces.next().expect("room for it"));
        for _ in 1..u16::from_le_bytes([bytes[10], bytes[11]]) {
            let more = driver.received(*spaces.next().unwrap());
            bytes.extend(more);
        }
        if bytes.ends_with(payload) {
            return bytes;
        }
    }
}

#[test]
fn the_host_gets_what_the_guest_sends_and_finishes_its_checksums() {
    in_a_network(|| {
        let memory = memory();
        let host = host_socket();
        let mut driver = Driver::new(&memory, Tap::open("tap0").unwrap(), 0, 16);
        let mac = mac_of_tap();
        let (mut bytes, mut len) = (vec![0; 9000], 0);
        let mut expect = |payload: &[u8]| {
            len = host.recv(&mut bytes).unwrap();
            assert!(bytes[..len] == *payload);
        };
        // Without a checksum.
        let payload = frame(1, 1000);
        driver.send_bytes(&header(0, 0), &datagram(mac, &payload, 0));
        expect(&payload);
        // A wrong one: it does not arrive.
        driver.send_bytes(&header(0, 0), &datagram(mac, &payload, 0x1234));
        // An unfinished one: that of the addresses, to be finished from byte 34
        // on, where UDP begins, 6 bytes on.
        let payload = frame(2, 8001);
        let unfinished = sum(&[&pseudo_header(GUEST, HOST, 8 + payload.len())]);
        let mut request = header(1, 0);
        request[6..10].copy_from_slice(&[34, 0, 6, 0]);
        driver.send_bytes(&request, &datagram(mac, &payload, unfinished));
        expect(&payload);
        assert_eq!(driver.stats.sent_packets.get(), 3);
    });
}

#[test]
fn what_makes_no_sense_to_the_host_is_counted() {
    in_a_network(|| {
        let memory = memory();
        let mut driver = Driver::new(&memory, Tap::open("tap0").unwrap(), 0, 16);
        let frame = datagram(mac_of_tap(), &frame(1, 100), 0);
        // A checksum far behind the end of the packet.
        let mut request = header(1, 0);
        request[6..10].copy_from_slice(&[0xff, 0xff, 0xff, 0xff]);
        driver.send_bytes(&request, &frame);
        // Segments of no size.
        driver.send_bytes(&header(1, 1), &frame);
        assert_eq!(driver.stats.send_failed.get(), 2);
        driver.send_bytes(&header(0, 0), &frame);
        assert_eq!(driver.stats.sent_packets.get(), 1);
        // Down.
        assert!(ip("link set tap0 down"));
        driver.send_bytes(&header(0, 0), &frame);
        assert_eq!(driver.stats.send_failed.get(), 3);
    });
}

#[test]
fn the_guest_gets_what_the_host_sends_finished_or_not_as_it_wants() {
    for without in [0, OFFLOADS] {
        in_a_network(move || {
            let memory = memory();
            let mut driver = Driver::new(&memory, Tap::open("tap0").unwrap(), without, 64);
            let spaces: Vec<_> = (0..40).map(|_| driver.offer(2000)).collect();
            wait_for_link();
            let payload = frame(3, 8001);
            let to = (std::net::Ipv4Addr::from(GUEST), PORT);
            assert_eq!(host_socket().send_to(&payload, to).unwrap(), 8001);
            let bytes = receive(&mut driver, &spaces, &payload);
            let (head, udp) = (&bytes[..12], &bytes[12 + 34..]);
            assert_eq!(head[10..], [5, 0], "buffers");
            assert_eq!(bytes[12..18], MAC.0);
            let pseudo = pseudo_header(HOST, GUEST, udp.len());
            if without == 0 {
                assert_eq!(head[..2], [1, 0], "the checksum is unfinished");
                assert_eq!(head[6..10], [34, 0, 6, 0]);
                assert_eq!(udp[6..8], sum(&[&pseudo]).to_be_bytes());
            } else {
                assert_eq!(head[..10], [0; 10]);
                assert_eq!(sum(&[&pseudo, udp]), 0xffff, "the checksum is right");
            }
        });
    }
}

#[test]
fn taps_that_cannot_be_used_are_told_apart() {
    in_a_network(|| {
        let told = |name: &str| Tap::open(name).unwrap_err();
        assert!(matches!(told("tap1"), TapError::Missing(_)));
        assert!(matches!(told("lo"), TapError::NoTap(_)));
        assert!(ip("tuntap add dev tun0 mode tun"));
        assert!(matches!(told("tun0"), TapError::NoTap(_)));
        assert!(ip("tuntap add dev many mode tap multi_queue"));
        assert!(matches!(told("many"), TapError::NoTap(_)));
        let tap = Tap::open("tap0").unwrap();
        assert!(matches!(told("tap0"), TapError::Busy(_)));
        assert!(told("tap0").to_string().contains("'tap0' is in use"));
        drop(tap);
        assert_eq!(Tap::open("tap0").unwrap().name(), "tap0");
    });
}

#[test]
fn a_tap_that_is_removed_takes_the_link_down() {
    in_a_network(|| {
        let memory = memory();
        let mut driver = Driver::new(&memory, Tap::open("tap0").unwrap(), 0, 16);
        driver.offer(2000);
        assert!(ip("link delete tap0"));
        while driver.guest.interrupted() & 2 == 0 {}
        assert_eq!(driver.guest.read(0x104) >> 16, 0);
        driver.send_bytes(&header(0, 0), &frame(1, 60));
        assert_eq!(driver.stats.send_failed.get(), 1);
    });
}
