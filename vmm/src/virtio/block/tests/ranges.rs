// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Discarding and zeroing.

use std::os::unix::fs::MetadataExt;

use super::*;

const DISCARD: u32 = 11;
const ZEROES: u32 = 13;
const UNMAP: u32 = 1;

fn request(kind: u32, ranges: &[Vec<u8>]) -> Vec<u8> {
    [header(kind, 0), ranges.concat()].concat()
}

/// Bytes that the file has storage for.
fn stored(image: &Image) -> u64 {
    image.file.sync_all().unwrap();
    image.file.metadata().unwrap().blocks() * 512
}

#[test]
fn a_discard_gives_storage_back_and_leaves_the_rest() {
    let (image, memory) = (Image::new(), memory());
    let mut driver = Driver::new(&memory, image.disk(), 0);
    let before = stored(&image);
    let ranges = [range(1024, 2048, 0), range(4096, 0, 0), range(6000, 800, 0)];
    assert_eq!(driver.send(&request(DISCARD, &ranges)), done(0, 1));
    assert!(stored(&image) <= before - (1 << 20), "{before} before");
    assert_eq!(image.file.metadata().unwrap().len(), SIZE);
    for (begin, end) in [(0, 1024), (3072, 6000), (6800, 8192)] {
        let (offset, len) = (begin * 512, (end - begin) * 512);
        assert!(image.bytes(offset as u64, len) == pattern(offset, len));
    }
    assert_eq!(driver.stats.discards.get(), 1);
    assert_eq!(driver.stats.discarded_bytes.get(), 2848 * 512);
}

#[test]
fn zeroed_ranges_read_as_zeros_whether_their_storage_may_go_or_not() {
    for flags in [0, UNMAP] {
        let (image, memory) = (Image::new(), memory());
        let mut driver = Driver::new(&memory, image.disk(), 0);
        // Neither end is the end of a block of the host.
        let ranges = [range(1021, 2050, flags)];
        assert_eq!(driver.send(&request(ZEROES, &ranges)), done(0, 1));
        let (offset, len) = (1021 * 512, 2050 * 512);
        let end = offset + len;
        assert!(
            image
                .bytes(offset as u64, len)
                .iter()
                .all(|byte| *byte == 0)
        );
        assert!(image.bytes(0, offset) == pattern(0, offset));
        let rest = SIZE as usize - end;
        assert!(image.bytes(end as u64, rest) == pattern(end, rest));
        assert_eq!(driver.stats.zeroings.get(), 1);
        assert_eq!(driver.stats.zeroed_bytes.get(), 2050 * 512);
        if flags == 0 {
            assert!(stored(&image) >= SIZE, "the storage stays");
        }
    }
}

#[test]
fn ranges_beyond_the_end_are_refused_and_none_of_them_is_run() {
    let (image, memory) = (Image::new(), memory());
    let mut driver = Driver::new(&memory, image.disk(), 0);
    let sectors = SIZE / 512;
    let good = range(0, 8, 0);
    for bad in [
        range(sectors, 1, 0),
        range(sectors - 1, 2, 0),
        range(u64::MAX, 1, 0),
        range(u64::MAX / 512, 1, 0),
        range(1, u32::MAX, 0),
    ] {
        assert_eq!(
            driver.send(&request(ZEROES, std::slice::from_ref(&bad))),
            done(IOERR, 1)
        );
        assert_eq!(
            driver.send(&request(DISCARD, &[good.clone(), bad])),
            done(IOERR, 1)
        );
    }
    assert_eq!(image.bytes(0, 4096), pattern(0, 4096));
    assert_eq!(driver.stats.discarded_bytes.get(), 0);
}

#[test]
fn the_number_of_ranges_is_what_was_announced() {
    let (image, memory) = (Image::new(), memory());
    let mut driver = Driver::new(&memory, image.disk(), 0);
    let some = |count| vec![range(16, 8, 0); count];
    assert_eq!(driver.send(&request(DISCARD, &some(16))), done(0, 1));
    for (kind, count) in [(DISCARD, 17), (ZEROES, 2), (DISCARD, 0), (ZEROES, 0)] {
        let answer = driver.send(&request(kind, &some(count)));
        assert_eq!(answer, done(IOERR, 1), "{kind}: {count}");
    }
    let mut cut_off = request(DISCARD, &some(2));
    cut_off.pop();
    assert_eq!(driver.send(&cut_off), done(IOERR, 1));
}

#[test]
fn a_range_is_not_larger_than_was_announced() {
    let (image, memory) = (Image::new(), memory());
    // A disk with room for more than a request may cover; most of it a hole.
    image.file.set_len(2 << 30).unwrap();
    let mut driver = Driver::new(&memory, image.disk(), 0);
    for (kind, most, flags) in [(DISCARD, 1 << 21, 0), (ZEROES, 1 << 17, UNMAP)] {
        let at_most = request(kind, &[range(SIZE / 512, most, flags)]);
        let more = request(kind, &[range(SIZE / 512, most + 1, 0)]);
        assert_eq!(driver.send(&at_most).status, 0, "{kind}");
        assert_eq!(driver.send(&more), done(IOERR, 1), "{kind}");
    }
    assert_eq!(image.bytes(0, 4096), pattern(0, 4096));
}

#[test]
fn flags_that_are_not_known_are_not_supported() {
    let (image, memory) = (Image::new(), memory());
    let mut driver = Driver::new(&memory, image.disk(), 0);
    for (kind, flags) in [
        (DISCARD, UNMAP),
        (DISCARD, 2),
        (ZEROES, 2),
        (ZEROES, 1 << 31 | 1),
    ] {
        let answer = driver.send(&request(kind, &[range(0, 8, flags)]));
        assert_eq!(answer, done(UNSUPP, 1), "{kind}: {flags}");
    }
    assert_eq!(image.bytes(0, 4096), pattern(0, 4096));
}

#[test]
fn what_was_not_negotiated_is_not_supported() {
    let (image, memory) = (Image::new(), memory());
    let mut driver = Driver::new(&memory, image.disk(), 1 << 13 | 1 << 14);
    for kind in [DISCARD, ZEROES] {
        let answer = driver.send(&request(kind, &[range(0, 8, 0)]));
        assert_eq!(answer, done(UNSUPP, 1));
    }
    assert_eq!(image.bytes(0, 4096), pattern(0, 4096));
}

#[test]
fn zeros_are_written_where_the_host_has_no_better_way() {
    // memfds cannot zero ranges.
    let memfd = rustix::fs::memfd_create("disk", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    let file = File::from(memfd);
    file.write_all_at(&pattern(0, 1 << 20), 0).unwrap();
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    let disk = Disk::open(path.as_ref(), false).unwrap();
    disk.zero(512, 200_000, false).unwrap();
    let mut bytes = vec![1; 1 << 20];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes[512..200_512].iter().all(|byte| *byte == 0));
    assert_eq!(bytes[..512], pattern(0, 512));
    assert!(bytes[200_512..] == pattern(200_512, (1 << 20) - 200_512));
}
