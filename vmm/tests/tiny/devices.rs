// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A guest's programs that use a disk and get random numbers.

use std::fs;

use tempfile::TempDir;
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT,
};
use virtio_bindings::virtio_ids::{VIRTIO_ID_BLOCK, VIRTIO_ID_RNG};

use crate::asm::Width;
use crate::guest::Guest;
use crate::virtio::{Device, Queue};
use crate::vmm::{can_run, run};

const SECTOR: usize = 512;

/// What is read, and what is written.
pub(crate) const OLD: u8 = 0x5a;
const NEW: u8 = 0xc3;

fn header(kind: u32, sector: u64) -> Vec<u8> {
    let mut header = u64::from(kind).to_le_bytes().to_vec();
    header.extend(sector.to_le_bytes());
    header
}

/// The program: reads sector 3 of a disk of 8, writes sector 5, fails to read
/// sector 8.
pub(crate) fn use_disk(guest: &mut Guest, device: Device) {
    device.negotiate(guest, VIRTIO_ID_BLOCK);
    let mut queue = Queue::new(guest, 0);
    device.enable(guest, &queue);
    device.run(guest);
    let ok = VIRTIO_BLK_S_OK as u8;
    let old = [&[OLD; SECTOR][..], &[ok]].concat();
    let failed = [&[0; SECTOR][..], &[VIRTIO_BLK_S_IOERR as u8]].concat();
    for (what, kind, sector, data, expected) in [
        ("read", VIRTIO_BLK_T_IN, 3, &[][..], &old[..]),
        ("write", VIRTIO_BLK_T_OUT, 5, &[NEW; SECTOR], &[ok]),
        ("flush", VIRTIO_BLK_T_FLUSH, 0, &[], &[ok]),
        ("end", VIRTIO_BLK_T_IN, 8, &[], &failed),
    ] {
        let header = header(kind, sector);
        let readable = [&header, data];
        let readable = readable.as_slice();
        let readable = if data.is_empty() {
            &readable[..1]
        } else {
            readable
        };
        let answer = queue.add(guest, readable, expected.len());
        device.request(guest, &mut queue);
        device.wait(guest, &queue);
        guest.expect_bytes(what, answer, expected);
        device.interrupt(guest);
    }
}

/// The program: gets some random bytes.
pub(crate) fn use_rng(guest: &mut Guest, device: Device) {
    device.negotiate(guest, VIRTIO_ID_RNG);
    let mut queue = Queue::new(guest, 0);
    device.enable(guest, &queue);
    device.run(guest);
    let answer = queue.add(guest, &[], 64);
    device.request(guest, &mut queue);
    device.wait(guest, &queue);
    for at in [answer, answer + 56] {
        guest.read(Width::Eight, at);
        guest.expect_not("random numbers", u64::from_le_bytes([0xee; 8]));
        guest.read(Width::Eight, at);
        guest.expect_not("random numbers", 0);
    }
    device.interrupt(guest);
}

#[test]
fn sectors_are_read_from_the_file_and_written_to_it() {
    if !can_run() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("disk.raw");
    fs::write(&path, [OLD; 8 * SECTOR]).unwrap();
    let mut guest = Guest::new();
    use_disk(&mut guest, Device(0));
    guest.print("done\n");
    guest.power_off();
    let ended = run(&guest, &["--disk", path.to_str().unwrap()]);
    assert_eq!(ended.out, "done\n", "{ended:?}");
    ended.silently(0);
    let mut expected = [OLD; 8 * SECTOR];
    expected[5 * SECTOR..6 * SECTOR].fill(NEW);
    assert!(
        fs::read(&path).unwrap() == expected,
        "the file is as written"
    );
}

#[test]
fn a_disk_that_may_only_be_read_stays_as_it_is() {
    if !can_run() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("disk.raw");
    fs::write(&path, [OLD; 8 * SECTOR]).unwrap();
    let device = Device(0);
    let mut guest = Guest::new();
    device.negotiate(&mut guest, VIRTIO_ID_BLOCK);
    let mut queue = Queue::new(&mut guest, 0);
    device.enable(&mut guest, &queue);
    device.run(&mut guest);
    let header = header(VIRTIO_BLK_T_OUT, 5);
    let answer = queue.add(&mut guest, &[&header, &[NEW; SECTOR]], 1);
    device.request(&mut guest, &mut queue);
    device.wait(&mut guest, &queue);
    guest.expect_bytes("refusal", answer, &[VIRTIO_BLK_S_IOERR as u8]);
    guest.power_off();
    let disk = format!("path={},readonly=on", path.display());
    run(&guest, &["--disk", &disk]).silently(0);
    assert!(fs::read(&path).unwrap() == [OLD; 8 * SECTOR]);
}

#[test]
fn random_numbers_are_given() {
    if !can_run() {
        return;
    }
    let mut guest = Guest::new();
    use_rng(&mut guest, Device(0));
    guest.print("random\n");
    guest.power_off();
    let ended = run(&guest, &[]);
    assert_eq!(ended.out, "random\n", "{ended:?}");
    ended.silently(0);
}
