// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Daemons that hang, die, or talk nonsense.

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tmem_vmm::virtio::vhost_user::{Kind, VhostUserDevice};
use vhost::vhost_user::message::FrontendReq;
use virtio_blk_tmem::space::{self, space};
use virtio_tmem::device::{MAX_EXTENTS, MAX_POOLS, MAX_RUN};
use virtio_tmem::testing::Transport;
use virtio_tmem::wire::{Capabilities, Config, PAGE_SHIFT, PoolKind, Status};
use vm_memory::{GuestAddress, GuestMemoryMmap};

use crate::daemon::{Host, listen};
use crate::fake::{Act, Device, Fake};
use crate::guest::{Guest, memory, until};

/// Well above what a driver may have to wait, on a machine that has much to do.
const BOUND: Duration = Duration::from_secs(8);

fn config() -> Config {
    Config {
        magic: Config::MAGIC,
        version: Config::VERSION,
        capabilities: Capabilities::PERSISTENT,
        instance: [9; 16],
        page_shift: PAGE_SHIFT,
        max_run: MAX_RUN,
        max_extents: MAX_EXTENTS,
        max_pools: MAX_POOLS,
        request_queues: 2,
        max_ranges: 0,
    }
}

/// virtio-tmem of a daemon that offers whatever there may be.
fn tmem(config: Config) -> Device {
    Device {
        features: u64::MAX,
        space: config.encode().to_vec(),
        queues: 3,
    }
}

/// A daemon's plain disk.
pub(crate) fn disk() -> Device {
    Device {
        features: space::FEATURES | 1 << 32 | 1 << 30 | 1 << 29 | 1 << 28,
        space: space(100, 2, false).encode().to_vec(),
        queues: 2,
    }
}

fn device(kind: Kind) -> Device {
    match kind {
        Kind::Tmem => tmem(config()),
        Kind::Disk => disk(),
    }
}

fn reset_in_time(guest: &Guest) {
    let start = Instant::now();
    guest.reset();
    assert!(start.elapsed() < BOUND, "{:?}", start.elapsed());
}

/// The device with a daemon that does `act` at the first `request`, and behaves
/// well afterwards.
fn survives(kind: Kind, request: FrontendReq, act: Act) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("vm.sock");
    let device = device(kind);
    let count = usize::try_from(device.queues).unwrap();
    let fake = Fake::new(&path, device.clone(), Some((request, act)));
    let guest = Guest::with(kind, &path, 2);
    let served = || fake.seen(FrontendReq::SET_VRING_ENABLE) == count;
    guest.until_connected(1);
    assert_eq!(guest.space::<60>(), device.space[..60]);

    let start = || guest.start_as(guest.features(), count as u16);
    let queues = start();
    until("the queues are served", || {
        served() && guest.counters.is_connected()
    });
    drop(queues);
    reset_in_time(&guest);
    let queues = start();
    // Over the same connection, or over another one.
    until("the queues are served again", || {
        let enabled = fake.seen(FrontendReq::SET_VRING_ENABLE);
        let stopped = fake.seen(FrontendReq::GET_VRING_BASE);
        guest.counters.is_connected() && enabled == count + stopped
    });
    drop(queues);
    reset_in_time(&guest);
    assert!(!guest.needs_reset());
    assert_eq!(guest.counters.resets_asked(), 0);
    let expected = if act == Act::Twice || fake.connections() > 1 {
        2
    } else {
        1
    };
    until("the connection after the fault", || {
        fake.connections() >= expected
    });
}

#[test]
fn a_daemon_may_misbehave_at_any_message() {
    let requests = [
        FrontendReq::GET_FEATURES,
        FrontendReq::GET_PROTOCOL_FEATURES,
        FrontendReq::SET_OWNER,
        FrontendReq::GET_QUEUE_NUM,
        FrontendReq::GET_CONFIG,
        FrontendReq::SET_FEATURES,
        FrontendReq::SET_MEM_TABLE,
        FrontendReq::SET_VRING_NUM,
        FrontendReq::SET_VRING_ADDR,
        FrontendReq::SET_VRING_BASE,
        FrontendReq::SET_VRING_CALL,
        FrontendReq::SET_VRING_KICK,
        FrontendReq::SET_VRING_ENABLE,
        FrontendReq::GET_VRING_BASE,
    ];
    let acts = [
        Act::Close,
        Act::CloseMidway,
        Act::Other,
        Act::Garbage,
        Act::Twice,
        Act::Refuse,
    ];
    std::thread::scope(|scope| {
        for request in requests {
            for act in acts {
                scope.spawn(move || survives(Kind::Tmem, request, act));
            }
            // The first word may take long.
            if request != FrontendReq::GET_FEATURES {
                scope.spawn(move || survives(Kind::Tmem, request, Act::Silence));
            }
        }
        // What is said of no other device.
        for request in [FrontendReq::GET_CONFIG, FrontendReq::SET_CONFIG] {
            for act in [&acts[..], &[Act::Silence]].concat() {
                scope.spawn(move || survives(Kind::Disk, request, act));
            }
        }
    });
}

#[test]
fn a_daemon_that_never_says_a_word_keeps_nobody_waiting() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("vm.sock");
    let listener = listen(&path);
    let guest = Guest::new(&path, 2);
    let _silent = listener.accept().unwrap();
    let start = Instant::now();
    for _ in 0..20 {
        guest.config();
        drop(guest.start());
        guest.bell(1).kick();
        guest.reset();
    }
    drop(guest);
    assert!(start.elapsed() < BOUND, "{:?}", start.elapsed());
}

#[test]
fn a_daemon_that_does_not_stop_is_disconnected() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("vm.sock");
    let fault = (FrontendReq::GET_VRING_BASE, Act::Silence);
    let _fake = Fake::new(&path, tmem(config()), Some(fault));
    let guest = Guest::new(&path, 2);
    guest.until_connected(1);
    drop(guest.start());
    reset_in_time(&guest);
    // And is tried again.
    guest.until_connected(2);
}

#[test]
fn a_daemon_that_cannot_be_used_is_tried_again_until_it_can() {
    let host = Host::new();
    let strange = Config {
        version: 2,
        ..config()
    };
    let fake = Fake::new(&host.socket(), tmem(strange), None);
    let guest = Guest::new(&host.socket(), 2);
    until("it was tried", || fake.connections() >= 2);
    assert_eq!(guest.counters.connections(), 0);
    assert_eq!(guest.config().version, 1, "the driver sees nothing of it");
    guest.reset();
    drop(fake);
    let pools = host.pools(2);
    let _daemon = host.serve(&pools);
    guest.until_connected(1);
    let mut driver = guest.first_driver();
    assert_eq!(driver.create_pool(0, PoolKind::Persistent), Status::OK);
}

#[test]
fn the_configuration_is_read_at_any_offset_and_not_written() {
    use tmem_vmm::bus::BusDevice;
    let dir = TempDir::new().unwrap();
    let guest = Guest::new(&dir.path().join("vm.sock"), 2);
    let whole = guest.config().encode();
    for (offset, len) in [(0, 8), (3, 5), (60, 8), (64, 4), (0xeff, 1), (16, 1)] {
        let mut data = vec![0xff; len];
        guest.transport.read(0x100 + offset, &mut data);
        let from = usize::try_from(offset).unwrap();
        let padded = whole.iter().copied().chain(std::iter::repeat(0));
        let expected: Vec<u8> = padded.skip(from).take(len).collect();
        assert_eq!(data, expected, "{len} bytes at {offset}");
    }
    guest.transport.write(0x100 + 16, &[1; 8]);
    assert_eq!(guest.config().encode(), whole);
}

#[test]
fn what_cannot_work_is_refused_with_a_reason() {
    let refused = |path: &str, queues, memory: &_| {
        let path = Path::new(path);
        let error = VhostUserDevice::new(Kind::Disk, path, queues, memory).unwrap_err();
        error.to_string()
    };
    let shared = memory();
    assert!(refused("/run/x.sock", 0, &shared).contains("1 to 63"));
    assert!(refused("/run/x.sock", 64, &shared).contains("1 to 63"));
    assert!(refused(&"x".repeat(109), 2, &shared).contains("108"));
    assert!(refused("", 2, &shared).contains("108"));
    let private = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
    assert!(refused("/run/x.sock", 2, &private.into()).contains("memory"));
}

#[test]
fn a_full_backlog_is_waited_out() {
    let host = Host::new();
    let listener: UnixListener = listen(&host.socket());
    rustix::net::listen(&listener, 0).unwrap();
    let _first = std::os::unix::net::UnixStream::connect(host.socket()).unwrap();
    let guest = Guest::new(&host.socket(), 2);
    drop(guest.start());
    guest.reset();
    drop(listener);
    let _daemon = host.serve(&host.pools(2));
    guest.until_connected(1);
}
