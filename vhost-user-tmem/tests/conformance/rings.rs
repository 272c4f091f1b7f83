// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Rings that make no sense.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::daemon::Daemon;
use crate::front_end::{
    AVAILABLE, FrontEnd, GUEST, SET_VRING_ADDR, SET_VRING_CALL, SET_VRING_NUM, USED, USER, pair,
    words,
};
use crate::request::{OK, create_pool, get, put, wait};

/// An available ring over the used ring: each buffer that the device marks
/// used makes the next one available.
#[test]
fn a_ring_that_feeds_itself_holds_up_neither_the_next_front_end_nor_the_end() {
    let mut daemon = Daemon::start();
    let mut a = FrontEnd::connect(&daemon.socket("a"), 1 << 20);
    assert_eq!(a.share_memory(1 << 20), Some(0));
    a.write(0, &words(&[GUEST, 0]));
    // One ahead before the device looks: so there is always one more.
    a.write(0x1002, &1u16.to_le_bytes());
    a.start_queue(0x1000, 0x1000);
    a.kick();
    let deadline = Instant::now() + Duration::from_millis(200);
    while Instant::now() < deadline && a.used_index(0x1000) < 3 {
        std::thread::yield_now();
    }
    assert_eq!(
        a.used_index(0x1000),
        1,
        "nothing is taken from such a queue"
    );
    drop(a);

    // Served only when the one before has ended.
    let mut next = FrontEnd::connect(&daemon.socket("a"), 1 << 20);
    assert_eq!(next.share_memory(1 << 20), Some(0));
    assert!(daemon.terminate().unwrap().success());
}

/// A socket that nobody reads, a pipe that nobody reads, and a file, in place of an eventfd.
#[test]
fn what_nobody_reads_to_notify_the_driver_holds_nothing_up() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut daemon = Daemon::start_with(log.reopen().unwrap().into());
    let mut a = FrontEnd::connect(&daemon.socket("a"), 1 << 20);
    assert_eq!(a.share_memory(1 << 20), Some(0));
    a.start();
    let (_unread, full) = rustix::pipe::pipe().unwrap();
    rustix::io::write(&full, &vec![0; 1 << 16]).unwrap();
    let (mut socket, _unread_either) = UnixStream::pair().unwrap();
    socket.set_nonblocking(true).unwrap();
    while socket.write(&[0; 1 << 12]).is_ok() {}
    socket.set_nonblocking(false).unwrap();
    let file = tempfile::tempfile().unwrap();
    for other in [socket.as_fd(), full.as_fd(), file.as_fd()] {
        for _ in 0..5 {
            assert_eq!(a.ask(SET_VRING_CALL, &words(&[1]), &[other]), Some(0));
        }
        for _ in 0..2 {
            a.offer(&[(0x3000, 48, false), (0x4000, 80, true)]);
            assert!(a.is_answered());
        }
    }
    assert_eq!(file.metadata().unwrap().len(), 0);
    drop(a);
    FrontEnd::connect(&daemon.socket("a"), 1 << 20);
    assert!(daemon.terminate().unwrap().success());
    let log = std::fs::read_to_string(log.path()).unwrap();
    assert_eq!(log.matches("no eventfd").count(), 1, "{log}");
}

/// The order of messages is the front end's to choose, and so is another size.
#[test]
fn a_queue_is_set_up_in_any_order_and_again() {
    let daemon = Daemon::start();
    let mut a = FrontEnd::connect(&daemon.socket("a"), 1 << 20);
    assert_eq!(a.share_memory(1 << 20), Some(0));
    let mut address = pair(1, 0);
    address.extend(words(&[USER, USER + 0x2000, USER + 0x1000, 0]));
    assert_eq!(a.ask(SET_VRING_ADDR, &address, &[]), Some(0));
    a.start();
    assert_eq!(create_pool(&mut a, 0), OK);
    assert_eq!(put(&mut a, 0, 3, 1), OK);

    for size in [64, 256] {
        a.stop_queue();
        // Addresses first, and a size after them.
        assert_eq!(a.ask(SET_VRING_NUM, &pair(1, 128), &[]), Some(0));
        assert_eq!(a.ask(SET_VRING_ADDR, &address, &[]), Some(0));
        a.set_size(size);
        a.start();
        assert_eq!(a.ask(SET_VRING_NUM, &pair(1, size.into()), &[]), Some(0));
        for _ in 0..300 {
            assert_eq!(get(&mut a, 0, 3), (OK, OK, 1), "{size}");
        }
    }
}

/// That it is the look that finds it, and not a kick, is tested without a daemon.
#[test]
fn an_index_that_turns_to_nonsense_while_it_is_looked_at_breaks_that_ring_alone() {
    let daemon = Daemon::start_polling(1000);
    let [mut a, mut b] = ["a", "b"].map(|name| {
        let mut front_end = FrontEnd::connect(&daemon.socket(name), 1 << 20);
        assert_eq!(front_end.share_memory(1 << 20), Some(0));
        front_end.start();
        assert_eq!(create_pool(&mut front_end, 0), OK);
        front_end
    });
    // Looks get longer with each request that comes soon after one. The device asks for no
    // notifications meanwhile (VIRTQ_USED_F_NO_NOTIFY).
    let deadline = Instant::now() + Duration::from_secs(20);
    let until_it_sleeps = |a: &FrontEnd| {
        let began = Instant::now();
        while a.read(USED) & 1 == 1 {
            assert!(Instant::now() < deadline, "it goes on looking");
            std::thread::yield_now();
        }
        began.elapsed()
    };
    let mut look = Duration::ZERO;
    while look < Duration::from_micros(200) {
        assert_eq!(put(&mut a, 0, 3, 1), OK);
        look = until_it_sleeps(&a);
    }
    assert_eq!(put(&mut a, 0, 3, 1), OK);
    let used = a.used_index(USED);
    // One more than the queue has room for, and nobody is notified.
    a.write(AVAILABLE + 2, &used.wrapping_add(257).to_le_bytes());
    until_it_sleeps(&a);
    for _ in 0..3 {
        a.kick();
        assert_eq!(put(&mut b, 0, 3, 2), OK);
        assert_eq!(get(&mut b, 0, 3), (OK, OK, 2));
    }
    assert_eq!(
        a.used_index(USED),
        used,
        "nothing is taken from such a ring"
    );

    // Once it makes sense again and is set up anew, it is as good as ever.
    a.write(AVAILABLE + 2, &used.to_le_bytes());
    a.stop_queue();
    a.start();
    assert_eq!(get(&mut a, 0, 3), (OK, OK, 1));
}

/// The parts of the second queue, behind the buffers of the first.
const SECOND: u64 = 0x1_0000;

#[test]
fn a_kick_that_queues_share_is_for_each_of_them() {
    let daemon = Daemon::start();
    let mut a = FrontEnd::connect(&daemon.socket("a"), 1 << 20);
    assert_eq!(a.share_memory(1 << 20), Some(0));
    a.share_kick();
    let queues = [(1, 0), (2, SECOND)];
    for (queue, parts) in queues {
        a.turn_to(queue, parts);
        a.start();
    }
    for _ in 0..2000 {
        for (queue, parts) in queues {
            a.turn_to(queue, parts);
            a.offer_unsaid(&[(parts + 0x3000, 48, false), (parts + 0x4000, 80, true)]);
        }
        a.kick();
        for (queue, parts) in queues {
            a.turn_to(queue, parts);
            wait(&a);
        }
    }
}
