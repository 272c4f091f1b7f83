// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Requests that succeed.

use super::*;
use crate::virtio::testing::{REGION, cut};

const EVENT_IDX: u64 = 1 << 29;
const FLUSH: u64 = 1 << 9;

#[test]
fn what_is_written_is_in_the_file_and_is_read_back() {
    for without in [0, EVENT_IDX] {
        let (image, memory) = (Image::new(), memory());
        let mut driver = Driver::new(&memory, image.disk(), without);
        let data = pattern(12345, 5 * 512);
        assert_eq!(driver.write(9, &data), done(0, 1));
        assert_eq!(image.bytes(9 * 512, data.len()), data);
        let before = pattern(0, 9 * 512);
        assert_eq!(image.bytes(0, before.len()), before, "what lies before");
        let after = pattern(14 * 512, 512);
        assert_eq!(image.bytes(14 * 512, 512), after, "what lies behind");
        let (answer, read) = driver.read(8, 7 * 512);
        assert_eq!(answer, done(0, 7 * 512 + 1));
        assert_eq!(read[512..6 * 512], data);
        assert_eq!(read[6 * 512..], after);
        assert_eq!(driver.stats.reads.get(), 1);
        assert_eq!(driver.stats.read_bytes.get(), 7 * 512);
        assert_eq!(driver.stats.writes.get(), 1);
        assert_eq!(driver.stats.written_bytes.get(), 5 * 512);
    }
}

#[test]
fn buffers_may_be_cut_anywhere() {
    let (image, memory) = (Image::new(), memory());
    let mut driver = Driver::new(&memory, image.disk(), 0);
    let data = pattern(777, 2048);
    let request = driver.guest.put(&[header(OUT, 3), data.clone()].concat());
    let cuts = [1, 0, 14, 2, 1000, 0, 1, 511];
    assert_eq!(driver.request(&cut(request, &cuts), &[]), done(0, 1));
    assert_eq!(image.bytes(3 * 512, 2048), data);

    let header = driver.guest.put(&header(IN, 3));
    let room = driver.guest.space(2049);
    let mut spans = cut(room, &[3, 0, 600, 1, 1444]);
    spans.push(Span {
        len: 0,
        addr: room.addr,
    });
    let head = driver.queue.add(&cut(header, &[7, 8]), &spans).unwrap();
    driver.guest.kick(0, &mut driver.queue);
    let used = driver.guest.used(&mut driver.queue);
    assert_eq!((used.head, used.len), (head, 2049));
    let bytes = driver.guest.bytes(&[room]);
    assert_eq!(bytes[..2048], data);
    assert_eq!(bytes[2048], 0, "the last byte is the status");
}

#[test]
fn a_buffer_may_cross_from_one_region_of_memory_into_the_next() {
    let (image, memory) = (Image::new(), memory());
    let mut driver = Driver::new(&memory, image.disk(), 0);
    let header = driver.guest.put(&header(IN, 0));
    driver.guest.seek(REGION - 700);
    let space = driver.guest.space(1536);
    assert_eq!(driver.request(&[header], &[space]), done(0, 1537));
    assert_eq!(driver.guest.bytes(&[space]), pattern(0, 1536));
}

#[test]
fn an_indirect_table_may_have_more_buffers_than_the_queue() {
    let (image, memory) = (Image::new(), memory());
    let mut driver = Driver::new(&memory, image.disk(), 0);
    let table = driver.guest.space(16 * 3000).addr;
    let header = driver.guest.put(&header(IN, 1));
    let space = driver.guest.space(4096 + 1);
    let parts = cut(space, &[2; 2000]);
    driver.queue.add_indirect(table, &[header], &parts).unwrap();
    driver.guest.kick(0, &mut driver.queue);
    assert_eq!(driver.guest.used(&mut driver.queue).len, 4097);
    let bytes = driver.guest.bytes(&[space]);
    assert_eq!(bytes[..4096], pattern(512, 4096));
    assert_eq!(bytes[4096], 0);
}

#[test]
fn many_requests_at_once_are_all_served() {
    for without in [0, EVENT_IDX] {
        let (image, memory) = (Image::new(), memory());
        let mut driver = Driver::new(&memory, image.disk(), without);
        let mut waiting = Vec::new();
        for sector in 0..64 {
            let header = driver.guest.put(&header(IN, sector));
            let space = driver.guest.space(513);
            let head = driver.queue.add(&[header], &[space]).unwrap();
            driver.guest.kick(0, &mut driver.queue);
            waiting.push((head, space, sector));
        }
        for (head, space, sector) in waiting {
            let used = driver.guest.used(&mut driver.queue);
            assert_eq!((used.head, used.len), (head, 513), "in order");
            let bytes = driver.guest.bytes(&[space]);
            assert_eq!(bytes[..512], pattern(sector as usize * 512, 512));
        }
    }
}

#[test]
fn a_flush_succeeds_and_writes_are_not_flushed_on_their_own() {
    let (image, memory) = (Image::new(), memory());
    let mut driver = Driver::new(&memory, image.disk(), 0);
    assert_eq!(driver.write(0, &[1; 512]), done(0, 1));
    assert_eq!(driver.stats.flushes.get(), 0);
    assert_eq!(driver.send(&header(4, 0)), done(0, 1));
    assert_eq!(driver.stats.flushes.get(), 1);
}

#[test]
fn without_flush_every_change_is_stable_at_once() {
    let (image, memory) = (Image::new(), memory());
    let mut driver = Driver::new(&memory, image.disk(), FLUSH);
    assert_eq!(driver.write(0, &[1; 512]), done(0, 1));
    assert_eq!(driver.stats.flushes.get(), 1);
    let zeroes = [header(13, 0), range(0, 1, 0)].concat();
    assert_eq!(driver.send(&zeroes), done(0, 1));
    assert_eq!(driver.stats.flushes.get(), 2);
    let discard = [header(11, 0), range(8, 8, 0)].concat();
    assert_eq!(driver.send(&discard), done(0, 1));
    assert_eq!(driver.stats.flushes.get(), 3);
    let _ = driver.read(0, 512);
    assert_eq!(driver.stats.flushes.get(), 3, "a read changes nothing");
}

#[test]
fn the_id_is_the_same_each_time_and_padded_with_zeros() {
    let (image, memory) = (Image::new(), memory());
    let mut ids = Vec::new();
    for _ in 0..2 {
        let mut driver = Driver::new(&memory, image.disk(), 0);
        let header = driver.guest.put(&header(8, 0));
        let space = driver.guest.space(24);
        assert_eq!(driver.request(&[header], &[space]), done(0, 25));
        ids.push(driver.guest.bytes(&[space]));
    }
    assert_eq!(ids[0], ids[1]);
    let text: Vec<_> = ids[0].iter().take_while(|byte| **byte != 0).collect();
    assert!((3..=20).contains(&text.len()), "{ids:?}");
    assert!(text.iter().all(|byte| byte.is_ascii_graphic()));
    assert_eq!(ids[0][20..], [0; 4]);
}
