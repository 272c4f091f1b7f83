// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A guest's program that asks the host for its address, on a tap in a network
//! of its own.

use std::process::{Command, Stdio};

use tempfile::TempDir;
use virtio_bindings::virtio_ids::VIRTIO_ID_NET;

use crate::guest::Guest;
use crate::virtio::{Device, Queue};
use crate::vmm::{Vmm, can_run, machine, skip};

/// Hardware and internet addresses of both.
const HOST: ([u8; 6], [u8; 4]) = ([2, 0, 0, 0, 0, 1], [10, 9, 8, 1]);
const GUEST: ([u8; 6], [u8; 4]) = ([2, 0, 0, 0, 0, 2], [10, 9, 8, 2]);

/// Everybody.
const BROADCAST: [u8; 6] = [0xff; 6];

/// Bytes before each frame.
const HEADER: usize = 12;

/// Makes `tap0`, then becomes the program. Without an address of its own for
/// the sixth version of the protocol, the host says nothing by itself.
const SCRIPT: &str = "ip tuntap add dev tap0 mode tap \
    && ip link set dev tap0 addrgenmode none \
    && ip link set dev tap0 address 02:00:00:00:00:01 \
    && ip address add 10.9.8.1/24 dev tap0 \
    && ip link set dev tap0 up \
    && exec \"$0\" \"$@\"";

/// Starts `program` in a network that has nothing but `tap0`.
pub(crate) fn in_a_network(program: &Command) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net"]);
    command
        .args(["sh", "-c", SCRIPT])
        .arg(program.get_program());
    command.args(program.get_args());
    command
}

/// Whether taps can be made here. If not, says so, past the test's capture.
pub(crate) fn can_make_taps() -> bool {
    let made = in_a_network(&Command::new("true"))
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !made {
        skip("no tap can be made here (it needs user namespaces, /dev/net/tun and 'ip')");
    }
    made
}

/// A message of the address resolution protocol (RFC 826) in a frame.
fn arp(to: [u8; 6], operation: u8, from: ([u8; 6], [u8; 4]), about: ([u8; 6], [u8; 4])) -> Vec<u8> {
    [
        &to[..],
        &from.0,
        // The protocol; addresses of Ethernet (6 bytes) and IPv4 (4 bytes).
        &[8, 6, 0, 1, 8, 0, 6, 4, 0, operation],
        &from.0,
        &from.1,
        &about.0,
        &about.1,
    ]
    .concat()
}

#[test]
fn frames_go_to_the_host_and_come_back() {
    if !can_run() || !can_make_taps() {
        return;
    }
    let device = Device(0);
    let mut guest = Guest::new();
    device.negotiate(&mut guest, VIRTIO_ID_NET);
    let mut receive = Queue::new(&mut guest, 0);
    let mut transmit = Queue::new(&mut guest, 1);
    for queue in [&receive, &transmit] {
        device.enable(&mut guest, queue);
    }
    device.run(&mut guest);
    let answer = receive.add(&mut guest, &[], HEADER + 1514);
    device.request(&mut guest, &mut receive);
    let question = arp(BROADCAST, 1, GUEST, ([0; 6], HOST.1));
    transmit.add(&mut guest, &[&[0; HEADER], &question], 0);
    device.request(&mut guest, &mut transmit);
    device.wait(&mut guest, &transmit);
    device.wait(&mut guest, &receive);
    let expected = arp(GUEST.0, 2, HOST, GUEST);
    guest.expect_bytes("answer", answer + HEADER as u64, &expected);
    guest.print("answered\n");
    guest.power_off();
    let dir = TempDir::new().unwrap();
    let program = machine(dir.path(), &guest, &["--net", "tap=tap0"]);
    let ended = Vmm::spawn(in_a_network(&program), dir).end();
    assert_eq!(ended.out, "answered\n", "{ended:?}");
    ended.silently(0);
}
