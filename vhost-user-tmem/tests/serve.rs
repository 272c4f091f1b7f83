// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The daemon and a front end, over shared memory, without a guest.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod common;

use std::fs;
use std::time::Duration;

use common::{Daemon, until};
use rustix::process::Signal;
use vhost::VhostBackend;
use vhost_user_tmem::testing::{Ask, FrontEnd, guest_memory};
use virtio_tmem::testing::{Span, header, page_of, request};
use virtio_tmem::wire::{AnswerHeader, Event, EventKind, Hints, MemoryRange, Op, PoolKind, Status};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

const OBJECT: [u8; 24] = [3; 24];
const MEMORY: u64 = 64 << 20;

#[test]
fn what_is_put_is_got_on_any_queue() {
    let daemon = Daemon::start(&["vm"], &[]);
    let mem = guest_memory(MEMORY);
    let mut front_end = FrontEnd::connect(&daemon.socket("vm"), &mem, Ask::default()).unwrap();
    assert!(front_end.config().is_supported());
    assert_eq!(front_end.config().request_queues, 2);
    let mut first = front_end.driver(1);
    let mut second = front_end.driver(2);
    assert_eq!(first.create_pool(0, PoolKind::Persistent), Status::OK);
    assert_eq!(second.create_pool(0, PoolKind::Persistent), Status::EXISTS);

    let pages: Vec<_> = (0..256).map(page_of).collect();
    let put = first.put(0, &OBJECT, 1000, &pages);
    assert_eq!(put.pages(256), [Status::OK; 256]);
    let got = second.get(0, &OBJECT, 1000, 256);

    assert_eq!(got.pages(256), [Status::OK; 256]);
    for (nth, page) in (0..).zip(&pages) {
        assert_eq!(got.page(256, nth), page, "page {nth}");
    }
    let stats = daemon.vm_stats("vm");
    assert_eq!(stats["persistent_pages"], 256);
    assert_eq!(stats["device"]["put_page_status"]["ok"], 256);
    assert_eq!(stats["device"]["get_page_status"]["ok"], 256);
}

#[test]
fn without_event_idx_it_works_as_well() {
    let daemon = Daemon::start(&["vm"], &[]);
    let mem = guest_memory(MEMORY);
    let ask = Ask {
        event_idx: false,
        ..Ask::default()
    };
    let mut front_end = FrontEnd::connect(&daemon.socket("vm"), &mem, ask).unwrap();
    let mut driver = front_end.driver(1);
    driver.create_pool(0, PoolKind::Ephemeral);
    for index in 0..1000 {
        driver.put(0, &OBJECT, index, &[page_of(index)]);
        let got = driver.get(0, &OBJECT, index, 1);
        assert_eq!(got.page(1, 0), page_of(index));
    }
}

#[test]
fn config_space_is_answered_at_any_offset_with_the_exact_length() {
    let daemon = Daemon::start(&["vm"], &[]);
    let mem = guest_memory(MEMORY);
    let mut front_end = FrontEnd::connect(&daemon.socket("vm"), &mem, Ask::default()).unwrap();
    let whole = front_end.config().encode();
    for (offset, size) in [
        (0, 256),
        (0, 64),
        (3, 5),
        (60, 8),
        (64, 4),
        (1000, 100),
        (4095, 1),
    ] {
        let read = front_end.read_config(offset, size).unwrap();
        let start = whole.len().min(offset as usize);
        let mut expected = whole[start..].to_vec();
        expected.resize(size, 0);
        assert_eq!(read, expected, "{size} bytes at {offset}");
    }
    let flags = vhost::vhost_user::message::VhostUserConfigFlags::WRITABLE;
    use vhost::vhost_user::VhostUserFrontend;
    front_end
        .frontend()
        .set_config(16, flags, &[0; 16])
        .expect("a write is accepted");
    assert_eq!(front_end.read_config(0, 64).unwrap(), whole, "and ignored");
}

#[test]
fn two_vms_never_see_each_others_pages() {
    let daemon = Daemon::start(&["one", "two"], &[]);
    let (mem_one, mem_two) = (guest_memory(MEMORY), guest_memory(MEMORY));
    let mut one = FrontEnd::connect(&daemon.socket("one"), &mem_one, Ask::default()).unwrap();
    let mut two = FrontEnd::connect(&daemon.socket("two"), &mem_two, Ask::default()).unwrap();
    assert_ne!(one.config().instance, two.config().instance);
    let (mut one, mut two) = (one.driver(1), two.driver(1));
    let miss = Status::MISS;

    one.create_pool(0, PoolKind::Persistent);
    assert_eq!(two.get(0, &OBJECT, 0, 1).status(), Status::NO_POOL);
    two.create_pool(0, PoolKind::Persistent);
    one.put(0, &OBJECT, 0, &[page_of(1), page_of(2)]);
    assert_eq!(two.get(0, &OBJECT, 0, 2).pages(2), [miss, miss]);
    two.put(0, &OBJECT, 0, &[page_of(3)]);
    assert_eq!(two.flush_object(0, &OBJECT).header().pages, 1);
    two.destroy_pool(0);

    let got = one.get(0, &OBJECT, 0, 2);
    assert_eq!(got.page(2, 0), page_of(1));
    assert_eq!(got.page(2, 1), page_of(2));
    assert_eq!(two.limits().persistent_pages, 0);
    assert_eq!(one.limits().persistent_pages, 2);
}

/// The driver resets the device, and sets its queues up.
fn begin_anew(mem: &GuestMemoryMmap) {
    let zeros = vec![0; usize::try_from(MEMORY).unwrap()];
    mem.write_slice(&zeros, GuestAddress(0)).unwrap();
}

#[test]
fn a_front_end_that_comes_back_within_grace_finds_its_pages_and_instance() {
    let daemon = Daemon::start(&["vm"], &["--grace", "3600"]);
    let mut instances = Vec::new();
    let mem = guest_memory(MEMORY);
    for round in 0..20 {
        begin_anew(&mem);
        let mut front_end = FrontEnd::connect(&daemon.socket("vm"), &mem, Ask::default()).unwrap();
        instances.push(front_end.config().instance);
        let mut driver = front_end.driver(1);
        let made = driver.create_pool(0, PoolKind::Persistent);
        if round == 0 {
            assert_eq!(made, Status::OK);
            driver.put(0, &OBJECT, 5, &[page_of(5)]);
        } else {
            assert_eq!(made, Status::EXISTS);
            assert_eq!(driver.get(0, &OBJECT, 5, 1).page(1, 0), page_of(5));
        }
        front_end.stop().unwrap();
    }
    instances.dedup();
    assert_eq!(instances.len(), 1);
}

#[test]
fn reconnecting_leaves_no_threads_and_file_descriptors_behind() {
    let daemon = Daemon::start(&["vm"], &[]);
    let count = |what: &str| {
        let dir = format!("/proc/{}/{what}", daemon.pid());
        fs::read_dir(dir).unwrap().count()
    };
    let round = || {
        let mem = guest_memory(MEMORY);
        let mut front_end = FrontEnd::connect(&daemon.socket("vm"), &mem, Ask::default()).unwrap();
        front_end.driver(1).create_pool(0, PoolKind::Persistent);
        drop(front_end);
        until("the daemon saw it leave", || {
            daemon.vm_stats("vm")["connected"] == false
        });
    };
    round();
    // Something of this round may be there for a moment more.
    let before = (count("fd"), count("task"));
    for _ in 0..10 {
        round();
    }
    until("all that is more has gone", || {
        count("fd") <= before.0 && count("task") <= before.1
    });
}

#[test]
fn after_the_grace_period_the_pages_are_freed_and_the_instance_is_new() {
    let daemon = Daemon::start(&["vm"], &["--grace", "0"]);
    let mem = guest_memory(MEMORY);
    let mut front_end = FrontEnd::connect(&daemon.socket("vm"), &mem, Ask::default()).unwrap();
    let instance = front_end.config().instance;
    let mut driver = front_end.driver(1);
    driver.create_pool(0, PoolKind::Persistent);
    driver.put(0, &OBJECT, 0, &[page_of(1)]);
    drop(driver);
    drop(front_end);
    until("the grace period ended", || {
        daemon.vm_stats("vm")["expiries"] == 1
    });
    let stats = daemon.vm_stats("vm");
    assert_eq!(stats["persistent_pages"], 0);
    assert_eq!(stats["pools"], 0);

    let mem = guest_memory(MEMORY);
    let mut front_end = FrontEnd::connect(&daemon.socket("vm"), &mem, Ask::default()).unwrap();
    assert_ne!(front_end.config().instance, instance);
    let mut driver = front_end.driver(1);
    assert_eq!(driver.get(0, &OBJECT, 0, 1).status(), Status::NO_POOL);
}

#[test]
fn pages_are_kept_for_longer_than_the_clock_goes() {
    for grace in [1 << 63, u64::MAX] {
        let daemon = Daemon::start(&["vm"], &["--grace", &u64::to_string(&grace)]);
        let mem = guest_memory(MEMORY);
        for round in 0..3 {
            begin_anew(&mem);
            let mut front_end =
                FrontEnd::connect(&daemon.socket("vm"), &mem, Ask::default()).unwrap();
            let made = front_end.driver(1).create_pool(0, PoolKind::Persistent);
            assert_eq!(made == Status::EXISTS, round > 0, "{grace}");
            front_end.stop().unwrap();
            drop(front_end);
            until("the daemon saw it leave", || {
                daemon.vm_stats("vm")["connected"] == false
            });
            assert_eq!(daemon.vm_stats("vm")["expiries"], 0);
        }
    }
}

#[test]
fn a_stopped_queue_tells_where_it_was_and_the_next_connection_begins_afresh() {
    let daemon = Daemon::start(&["vm"], &[]);
    let mem = guest_memory(MEMORY);
    let mut front_end = FrontEnd::connect(&daemon.socket("vm"), &mem, Ask::default()).unwrap();
    let mut driver = front_end.driver(1);
    driver.create_pool(0, PoolKind::Persistent);
    for _ in 0..10 {
        driver.limits();
    }
    assert_eq!(front_end.stop().unwrap(), [0, 11, 0]);
    drop(front_end);
    begin_anew(&mem);
    let mut front_end = FrontEnd::connect(&daemon.socket("vm"), &mem, Ask::default()).unwrap();
    let mut driver = front_end.driver(1);
    assert_eq!(driver.create_pool(0, PoolKind::Persistent), Status::EXISTS);
}

#[test]
fn the_quota_is_changed_at_run_time_and_the_driver_hears_of_it() {
    let daemon = Daemon::start(&["vm"], &["--quota", "1M"]);
    let mem = guest_memory(MEMORY);
    let mut front_end = FrontEnd::connect(&daemon.socket("vm"), &mem, Ask::default()).unwrap();
    let buffer = mem_end_page();
    let (mut events, notifier) = front_end.queue(0);
    events
        .add(
            &[],
            &[Span {
                addr: buffer,
                len: 32,
            }],
        )
        .unwrap();
    let mut notifier = notifier;
    virtio_tmem::testing::Transport::kick(&mut notifier);
    let mut driver = front_end.driver(1);
    driver.create_pool(0, PoolKind::Persistent);
    let pages: Vec<_> = (0..256).map(page_of).collect();
    let mut refused = false;
    for run in 0..8 {
        let put = driver.put(0, &OBJECT, run * 256, &pages);
        refused |= put.pages(256).contains(&Status::QUOTA);
    }
    assert!(refused, "8 MiB do not fit into 1 MiB");
    assert!(driver.limits().hints.contains(Hints::FULL));
    assert!(daemon.vm_stats("vm")["held_bytes"].as_u64().unwrap() <= 1 << 20);
    // The end of room may have been told by now: take that event.
    while events.pop_used().is_some() {
        events
            .add(
                &[],
                &[Span {
                    addr: buffer,
                    len: 32,
                }],
            )
            .unwrap();
        virtio_tmem::testing::Transport::kick(&mut notifier);
    }

    let body = format!("{{\"quota\": {}}}", 64 << 20);
    let (status, _) = daemon.control("PATCH", "/v1/vms/vm", &body).unwrap();
    assert_eq!(status, 200);

    until("the driver got an event", || events.pop_used().is_some());
    let mut event = [0; Event::SIZE];
    mem.read_slice(&mut event, GuestAddress(buffer)).unwrap();
    assert_eq!(Event::decode(&event).kind, EventKind::Limits as u32);
    assert!(notifier.rings_within(Duration::from_secs(30)));
    assert_eq!(driver.limits().quota_bytes, 64 << 20);
    let put = driver.put(0, &[8; 24], 0, &pages);
    assert_eq!(put.pages(256), [Status::OK; 256]);
}

#[test]
fn a_vm_on_credit_may_put_as_much_as_it_gives_back() {
    let daemon = Daemon::start(&["vm"], &["--quota", "credit:1M"]);
    let mem = guest_memory(MEMORY);
    let mut front_end = FrontEnd::connect(&daemon.socket("vm"), &mem, Ask::default()).unwrap();
    let memory = vec![0x5a; usize::try_from(MEMORY / 2).unwrap()];
    mem.write_slice(&memory, GuestAddress(MEMORY / 2)).unwrap();
    let mut driver = front_end.driver(1);
    let before = driver.limits();
    assert_eq!(before.memory_bytes, MEMORY);
    assert!(before.backed_bytes >= MEMORY / 2);
    let answer = driver.relinquish(&[(MEMORY / 2, MEMORY / 2)]);
    assert_eq!(answer.pages(1), [Status::OK]);
    // At once, not when it is next looked.
    let after = driver.limits();
    assert!(after.quota_bytes >= (1 << 20) + MEMORY / 2);
    assert!(after.backed_bytes <= MEMORY / 2);
    // Memory that is taken again is found out.
    mem.write_slice(&memory, GuestAddress(MEMORY / 2)).unwrap();
    until("the quota falls", || {
        driver.limits().quota_bytes < (1 << 20) + MEMORY / 2
    });
    assert_eq!(daemon.vm_stats("vm")["memory_bytes"], MEMORY);
}

/// Each on credit, and all of them filled: what is held is within 5 % of what was given back.
#[test]
fn credit_holds_within_5_percent() {
    const SIZE: u64 = 32 << 20;
    const BASE: u64 = 1 << 20;
    let names = ["a", "b", "c"];
    let daemon = Daemon::start(&names, &["--quota", "credit:1M"]);
    let memories = names.map(|_| guest_memory(SIZE));
    let mut front_ends = Vec::new();
    for (name, mem) in names.iter().zip(&memories) {
        let socket = daemon.socket(name);
        front_ends.push(FrontEnd::connect(&socket, mem, Ask::default()).unwrap());
    }
    let mut drivers = Vec::new();
    for ((front_end, mem), given) in front_ends.iter_mut().zip(&memories).zip([4, 8, 16]) {
        let mut driver = front_end.driver(1);
        // All of it is in use, but what is given back.
        let memory = vec![0x5a; usize::try_from(SIZE / 2).unwrap()];
        for at in [SIZE / 4, SIZE / 2] {
            mem.write_slice(&memory, GuestAddress(at)).unwrap();
        }
        let given = given << 20;
        let answer = driver.relinquish(&[(SIZE - given, given)]);
        assert_eq!(answer.pages(1), [Status::OK]);
        driver.create_pool(0, PoolKind::Persistent);
        drivers.push((driver, given));
    }
    let pages: Vec<_> = (0..64).map(page_of).collect();
    for run in 0..300 {
        for (driver, _) in &mut drivers {
            driver.put(0, &OBJECT, run * 64, &pages);
        }
    }
    for ((driver, given), name) in drivers.iter_mut().zip(names) {
        let stats = daemon.vm_stats(name);
        let held = stats["held_bytes"].as_u64().unwrap() as f64;
        let mut credit = 0;
        until("the quota is what was given back", || {
            let limits = driver.limits();
            credit = limits.quota_bytes;
            credit == SIZE - limits.backed_bytes + BASE
        });
        assert!(credit >= *given + BASE);
        let part = held / credit as f64;
        // The driver takes some of its memory meanwhile, and so less is on credit.
        assert!((0.95..1.05).contains(&part), "{name}: {part} of {credit}");
        assert!(stats["puts_refused_quota"].as_u64().unwrap() > 0);
    }
}

#[test]
fn memory_is_not_taken_after_the_queue_was_stopped() {
    let daemon = Daemon::start(&["vm"], &[]);
    for round in 0..20 {
        stop_beside_a_relinquish(&daemon, round % 2 == 0);
    }
}

/// Stops a queue that has a request to take a page, of which the daemon may
/// have heard: it is taken before the stop is answered or not at all.
fn stop_beside_a_relinquish(daemon: &Daemon, heard: bool) {
    let mem = guest_memory(MEMORY);
    let mut front_end = FrontEnd::connect(&daemon.socket("vm"), &mem, Ask::default()).unwrap();
    let range = MemoryRange {
        address: mem_end_page(),
        bytes: 4096,
    };
    let page = GuestAddress(range.address);
    let content = || -> u32 { mem.read_obj(page).unwrap() };
    mem.write_obj(0x5a5a_5a5a_u32, page).unwrap();
    let bytes = request(
        &header(Op::Relinquish, 0, &[0; 24], 0, 1),
        &[&range.encode()],
    );
    let (mut queue, mut notifier) = front_end.queue(2);
    let area = front_end.free_memory();
    mem.write_slice(&bytes, GuestAddress(area)).unwrap();
    let len = u32::try_from(bytes.len()).unwrap();
    let answer = area + 4096;
    let (readable, writable) = (
        Span { addr: area, len },
        Span {
            addr: answer,
            len: 17,
        },
    );
    queue.add(&[readable], &[writable]).unwrap();
    if heard {
        virtio_tmem::testing::Transport::kick(&mut notifier);
    }
    // A queue is looked at when it is started too, so that even a request of
    // which nobody told may have been answered.
    let served = front_end.frontend().get_vring_base(2).unwrap() == 1;
    assert_eq!(queue.pop_used().is_some(), served);
    assert_eq!(content(), if served { 0 } else { 0x5a5a_5a5a });
    // From here on the page is the front end's.
    mem.write_obj(0xa5a5_a5a5_u32, page).unwrap();
    virtio_tmem::testing::Transport::kick(&mut notifier);
    // Whatever the daemon had to do, it has done before this is answered.
    let mut driver = front_end.driver(1);
    for _ in 0..100 {
        driver.limits();
    }
    assert_eq!(content(), 0xa5a5_a5a5);
    assert!(queue.pop_used().is_none());
}

/// The last page of guest memory, which nothing else uses.
fn mem_end_page() -> u64 {
    MEMORY - 4096
}

#[test]
fn a_front_end_that_leaves_in_the_middle_of_requests_harms_nobody() {
    let mut daemon = Daemon::start(&["gone", "stays"], &[]);
    let stays_mem = guest_memory(MEMORY);
    let mut stays = FrontEnd::connect(&daemon.socket("stays"), &stays_mem, Ask::default()).unwrap();
    let mut stays = stays.driver(1);
    stays.create_pool(0, PoolKind::Persistent);
    stays.put(0, &OBJECT, 0, &[page_of(1)]);
    for round in 0..20 {
        let mem = guest_memory(MEMORY);
        let mut gone = FrontEnd::connect(&daemon.socket("gone"), &mem, Ask::default()).unwrap();
        gone.driver(1).create_pool(0, PoolKind::Persistent);
        let (mut queue, mut notifier) = gone.queue(2);
        let area = gone.free_memory();
        let run = request(&header(Op::Put, 0, &OBJECT, round, 64), &[]);
        mem.write_slice(&run, GuestAddress(area)).unwrap();
        for nth in 0..64 {
            let span = |addr, len| Span { addr, len };
            let readable = [span(area, 48), span(area + 4096, 64 * 4096)];
            let writable = [span(area + (1 << 20) + nth * 4096, 16 + 64)];
            queue.add(&readable, &writable).unwrap();
        }
        virtio_tmem::testing::Transport::kick(&mut notifier);
        // Connection, memory and eventfds go while the daemon works.
        drop(gone);
    }
    assert!(daemon.is_running());
    assert_eq!(stays.get(0, &OBJECT, 0, 1).page(1, 0), page_of(1));
}

#[test]
fn a_driver_that_makes_nothing_but_mistakes_fills_no_log_and_stops_no_queue() {
    let daemon = Daemon::start(&["vm"], &[]);
    let mem = guest_memory(MEMORY);
    let mut front_end = FrontEnd::connect(&daemon.socket("vm"), &mem, Ask::default()).unwrap();
    let mut driver = front_end.driver(1);
    let bad = request(&header(Op::Get, 99, &OBJECT, 0, 1), &[]);
    for _ in 0..2_000 {
        let answer = driver.call(&bad, 16 + 4097, &Default::default());
        assert_eq!(answer.status(), Status::NO_POOL);
        driver.queue().push(u16::MAX);
        driver.submit();
    }
    assert_eq!(driver.create_pool(0, PoolKind::Persistent), Status::OK);
    let stats = daemon.vm_stats("vm");
    assert_eq!(stats["device"]["faults"]["unknown_pool"], 2_000);
    assert_eq!(stats["device"]["faults"]["head_range"], 2_000);
    let (status, log, _) = daemon.end(Signal::TERM);
    assert!(status.success());
    assert!(log.lines().count() < 20, "{log}");
}

#[test]
fn a_request_larger_than_the_queue_comes_in_an_indirect_table() {
    let daemon = Daemon::start(&["vm"], &[]);
    let mem = guest_memory(MEMORY);
    let ask = Ask {
        queue_size: 16,
        ..Ask::default()
    };
    let mut front_end = FrontEnd::connect(&daemon.socket("vm"), &mem, ask).unwrap();
    let mut driver = front_end.driver(1);
    driver.create_pool(0, PoolKind::Persistent);
    let pages: Vec<_> = (0..64).map(page_of).collect();
    let layout = virtio_tmem::testing::Layout {
        readable: (0..65).map(|page| 48 + page * 4096).collect(),
        indirect: true,
        ..Default::default()
    };
    let put = driver.put_as(0, &OBJECT, 0, &pages, &layout);
    assert_eq!(put.used as usize, AnswerHeader::SIZE + 64);
    assert_eq!(put.pages(64), [Status::OK; 64]);
}
