// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Requests that must fail, and what must not happen then.

use super::*;
use crate::virtio::block::layout::MAX_DATA;

const LAST: u64 = SIZE / 512 - 1;

#[test]
fn nothing_beyond_the_end_is_read_or_written() {
    let (image, memory) = (Image::new(), memory());
    let mut driver = Driver::new(&memory, image.disk(), 0);
    for sector in [LAST, LAST + 1, u64::MAX, u64::MAX / 512, u64::MAX / 512 + 1] {
        assert_eq!(driver.write(sector, &[7; 1024]), done(IOERR, 1));
        let (answer, data) = driver.read(sector, 1024);
        assert_eq!(answer, done(IOERR, 1025));
        assert_eq!(data, [0; 1024], "nothing is left of what was there");
    }
    assert_eq!(driver.stats.refused.get(), 10);
    assert_eq!(image.file.metadata().unwrap().len(), SIZE);
    assert_eq!(
        image.bytes(LAST * 512, 512),
        pattern((LAST * 512) as usize, 512)
    );
    let (answer, data) = driver.read(LAST, 512);
    assert_eq!(answer, done(0, 513), "the last sector is there");
    assert_eq!(data, pattern((LAST * 512) as usize, 512));
    assert_eq!(driver.write(LAST, &[7; 512]), done(0, 1));
    assert_eq!(image.bytes(LAST * 512, 512), [7; 512]);
}

#[test]
fn parts_of_sectors_are_refused() {
    let (image, memory) = (Image::new(), memory());
    let mut driver = Driver::new(&memory, image.disk(), 0);
    assert_eq!(driver.write(0, &[7; 511]), done(IOERR, 1));
    assert_eq!(driver.write(0, &[7; 513]), done(IOERR, 1));
    assert_eq!(driver.read(0, 100).0, done(IOERR, 101));
    assert_eq!(image.bytes(0, 1024), pattern(0, 1024));
    driver.check_alive();
}

#[test]
fn a_header_that_is_cut_off_is_refused() {
    let (image, memory) = (Image::new(), memory());
    let mut driver = Driver::new(&memory, image.disk(), 0);
    assert_eq!(driver.send(&header(OUT, 0)[..15]), done(IOERR, 1));
    assert_eq!(driver.request(&[], &[]), done(IOERR, 1));
    let room = driver.guest.space(16);
    assert_eq!(driver.request(&[], &[room]), done(IOERR, 17));
    driver.check_alive();
}

#[test]
fn a_request_without_room_for_a_status_is_given_back() {
    let (image, memory) = (Image::new(), memory());
    let mut driver = Driver::new(&memory, image.disk(), 0);
    let request = driver.guest.put(&[header(OUT, 0), vec![7; 512]].concat());
    let empty = driver.guest.space(0);
    for writable in [&[][..], &[empty]] {
        let head = driver.queue.add(&[request], writable).unwrap();
        driver.guest.kick(0, &mut driver.queue);
        let used = driver.guest.used(&mut driver.queue);
        assert_eq!((used.head, used.len), (head, 0));
    }
    assert_eq!(driver.stats.malformed.get(), 2);
    assert_eq!(image.bytes(0, 512), pattern(0, 512), "it is not run");
    driver.check_alive();
}

#[test]
fn requests_that_are_not_known_are_not_supported() {
    let (image, memory) = (Image::new(), memory());
    let mut driver = Driver::new(&memory, image.disk(), 0);
    for kind in [2, 3, 5, 10, 12, 14, 15, 16, 0x8000_0000, u32::MAX] {
        assert_eq!(driver.send(&header(kind, 0)), done(UNSUPP, 1), "{kind}");
    }
    assert_eq!(driver.stats.unsupported.get(), 10);
    driver.check_alive();
}

#[test]
fn a_read_only_disk_does_not_change() {
    let (image, memory) = (Image::new(), memory());
    let disk = Disk::open(&image.path, true).unwrap();
    let mut driver = Driver::new(&memory, disk, 0);
    let features = driver.guest.features();
    assert_ne!(features & (1 << 5), 0, "RO");
    assert_eq!(features & (1 << 13 | 1 << 14), 0, "DISCARD, WRITE_ZEROES");
    assert_eq!(driver.write(0, &[7; 512]), done(IOERR, 1));
    for kind in [11, 13] {
        let request = [header(kind, 0), range(0, 8, 0)].concat();
        assert_eq!(driver.send(&request), done(IOERR, 1));
    }
    assert_eq!(
        driver.send(&header(4, 0)),
        done(0, 1),
        "a flush is no write"
    );
    assert_eq!(image.bytes(0, 4096), pattern(0, 4096));
    driver.check_alive();
}

#[test]
fn a_file_that_shrinks_gives_errors() {
    let (image, memory) = (Image::new(), memory());
    let mut driver = Driver::new(&memory, image.disk(), 0);
    image.file.set_len(SIZE - 512).unwrap();
    let (answer, data) = driver.read(LAST - 1, 1024);
    assert_eq!(answer, done(IOERR, 1025));
    assert_eq!(data, [0; 1024]);
    assert_eq!(driver.stats.host_errors.get(), 1);
    driver.check_alive();
}

#[test]
fn a_request_is_not_larger_than_was_announced() {
    let (image, memory) = (Image::new(), memory());
    let mut driver = Driver::new(&memory, image.disk(), 0);
    let table = driver.guest.space(16 * 300).addr;
    let header = driver.guest.put(&header(IN, 0));
    let status = driver.guest.space(1);
    // The same megabyte over and over again.
    let space = driver.guest.space(1 << 20);
    let mut writable = vec![space; (MAX_DATA >> 20) as usize + 1];
    writable.push(status);
    driver
        .queue
        .add_indirect(table, &[header], &writable)
        .unwrap();
    driver.guest.kick(0, &mut driver.queue);
    assert_eq!(driver.guest.used(&mut driver.queue).len, 0);
    assert_eq!(driver.guest.bytes(&[status]), [IOERR]);
    driver.check_alive();
}
