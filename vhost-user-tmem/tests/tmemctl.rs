// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What an operator types, with both programs as they are.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod common;
#[path = "common/tmemctl.rs"]
mod tmemctl;

use std::fs;
use std::path::PathBuf;

use common::{Daemon, until};
use tempfile::TempDir;
use vhost_user_tmem::testing::{Ask, FrontEnd, Notifier, guest_memory};
use virtio_tmem::testing::{DriverQueue, Span, Transport, page_of};
use virtio_tmem::wire::{Event, EventKind, Hints, PoolKind, Status};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

const OBJECT: [u8; 24] = [3; 24];
const MEMORY: u64 = 64 << 20;

/// A daemon for tmemctl.
struct Host {
    dir: TempDir,
    daemon: Daemon,
}

impl Host {
    fn start() -> Self {
        let dir = TempDir::new().unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let daemon = Daemon::start(&[], &["--state", &at("state"), "--run", &at("run")]);
        Self { dir, daemon }
    }

    fn control(&self) -> PathBuf {
        self.daemon.socket("control")
    }

    fn says(&self, line: &str) -> String {
        tmemctl::says(&self.control(), line)
    }

    fn refuses(&self, line: &str) -> String {
        tmemctl::refuses(&self.control(), line)
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("run/{name}.sock"))
    }

    fn json(&self, line: &str) -> serde_json::Value {
        serde_json::from_str(&self.says(line)).unwrap()
    }
}

#[test]
fn the_commands_work_as_they_are_printed() {
    let host = Host::start();
    let none = host.says("vm list");
    assert!(none.contains("tmemctl vm add"), "{none}");
    let socket = host.says("vm add web1 --quota 8G --weight 200 --domain team-a");
    assert_eq!(socket.trim_end(), host.socket("web1").to_str().unwrap());
    host.says("vm add web2 --max-pools 3 --give-back any --grace 5 --swap-size 1G");

    let list = host.says("vm list");
    let lines: Vec<_> = list.lines().collect();
    assert!(lines[0].starts_with("NAME  STATE"), "{list}");
    assert!(
        lines[1].starts_with("web1  waiting") && lines[1].contains("8G"),
        "{list}"
    );
    assert!(lines.iter().all(|line| line.len() <= 80), "{list}");
    let long = host.says("vm list --long");
    for words in [
        "domain      team-a",
        "weight      200",
        "3 of 3",
        "kept over restarts",
    ] {
        let words = words.replace("3 of 3", "0 of 3");
        assert!(long.contains(&words), "'{words}' is not in {long}");
    }
    host.says("vm set web1 --quota 16G --weight 300 --codec zstd --ephemeral-quota 2G");
    let vm = &host.json("vm list --json")["vms"][0];
    assert_eq!((&vm["weight"], &vm["codec"]), (&300.into(), &"zstd".into()));
    assert_eq!(vm["quota"], 16u64 << 30);
    assert_eq!(vm["ephemeral_quota"], 2u64 << 30);
    assert!(host.says("vm list --long").contains(" of 2 GiB"));
    host.says("vm set web1 --ephemeral-quota none");
    let vm = &host.json("vm list --json")["vms"][0];
    assert!(vm["ephemeral_quota"].is_null());
    host.says("vm freeze web1");
    assert!(host.says("vm list").contains("frozen"));
    host.says("vm thaw web1");
    assert!(!host.says("vm list").contains("frozen"));
    let freeable = host.says("freeable");
    assert!(
        freeable.contains("promisable") && freeable.contains("web1"),
        "{freeable}"
    );
    assert_eq!(host.json("freeable --json")["freeable_bytes"], 0);
    assert!(
        host.says("vm flush web1 --bytes 2G")
            .starts_with("0 ephemeral pages")
    );
    assert!(host.says("vm detach web1").contains("0 pages"));
    host.says("vm remove web1");
    assert!(!host.socket("web1").exists());
    let kept: Vec<_> = fs::read_dir(host.dir.path().join("state/vms"))
        .unwrap()
        .collect();
    assert_eq!(kept.len(), 1);
}

#[test]
fn a_plain_disk_is_a_machine_like_others_but_for_what_it_has_not() {
    let host = Host::start();
    let socket = host.says("vm add swap1 --personality blk --size 8G --quota 4G");
    assert_eq!(socket.trim_end(), host.socket("swap1").to_str().unwrap());
    host.says("vm add swap2 --personality blk --swapspace off --quota credit:64M");
    host.says("vm add web1");
    let list = host.says("vm list");
    assert!(list.contains(" blk ") && list.contains(" tmem "), "{list}");
    assert!(list.lines().all(|line| line.len() <= 80), "{list}");
    let long = host.says("vm list --long");
    for words in [
        "disk        8 GiB, with a swap header, label 'tmem'",
        "disk        4 GiB, without a swap header",
        "swap disk   2 GiB",
    ] {
        assert!(long.contains(words), "'{words}' is not in {long}");
    }
    host.says("vm set swap1 --quota 6G --weight 300 --codec zstd --grace 5");
    let vm = &host.json("vm list --json")["vms"][0];
    assert_eq!(
        (&vm["quota"], &vm["weight"]),
        (&(6u64 << 30).into(), &300.into())
    );
    for (line, words) in [
        ("vm set swap1 --size 16G", "size stays what it is"),
        (
            "vm set swap1 --personality tmem",
            "personality stays what it is",
        ),
        ("vm set swap1 --swap-size 1G", "a disk has no swap_size"),
        (
            "vm set swap1 --ephemeral-quota 1G",
            "a disk has no ephemeral_quota",
        ),
        ("vm freeze swap1", "a disk cannot be frozen"),
        ("vm detach swap1", "swapoff"),
        ("vm add swap3 --size 8G", "personality blk"),
        (
            "vm add swap3 --personality net",
            "'net' is not a personality",
        ),
        (
            "vm add swap3 --personality blk --on-full spill",
            "nowhere to spill",
        ),
        (
            "vm add swap3 --personality blk --max-pools 3",
            "a disk has no max_pools",
        ),
    ] {
        let complaint = host.refuses(line);
        assert!(complaint.contains(words), "{line}: {complaint}");
    }
    host.says("vm remove swap1");
}

#[test]
fn refusals_are_one_sentence() {
    let host = Host::start();
    host.says("vm add web1");
    for (line, words) in [
        ("vm add web1", "already"),
        ("vm add ../web2", "is not a name"),
        ("vm add web2 --codec gzip", "gzip"),
        ("vm add web2 --quota 4K --swap-size 4K", "swap disk"),
        ("vm set web2 --weight 3", "no virtual machine"),
        ("vm set web1", "nothing is to be changed"),
        ("vm set web1 --weight 0", "weight"),
        ("vm set web1 --quota debit", "debit"),
        ("vm remove ../web1", "no virtual machine"),
        ("vm remove web1/detach", "no virtual machine"),
        ("vm flush web2 --bytes 1G", "no virtual machine"),
        ("vm detach web2", "no virtual machine"),
        ("vm freeze web2", "no virtual machine"),
    ] {
        let said = host.refuses(line);
        assert!(said.contains(words), "{line}: {said}");
    }
    let said = tmemctl::refuses(&host.dir.path().join("none.sock"), "vm list");
    assert!(
        said.contains("for the host") && said.contains("--control"),
        "{said}"
    );
    assert_eq!(
        tmemctl::run(&host.control(), "vm flush web1").status.code(),
        Some(2)
    );
}

/// Where the next event is to be.
const EVENT: u64 = MEMORY - 4096;

/// Waits for an event of this kind; others may come before.
fn hears(
    mem: &GuestMemoryMmap,
    events: &mut DriverQueue<'_, GuestMemoryMmap>,
    notifier: &mut Notifier,
    kind: EventKind,
) {
    loop {
        let span = Span {
            addr: EVENT,
            len: 32,
        };
        events.add(&[], &[span]).unwrap();
        notifier.kick();
        until("an event", || events.pop_used().is_some());
        let mut bytes = [0; Event::SIZE];
        mem.read_slice(&mut bytes, GuestAddress(EVENT)).unwrap();
        if Event::decode(&bytes).kind == kind as u32 {
            return;
        }
    }
}

#[test]
fn a_driver_is_asked_to_bring_its_pages_back() {
    let host = Host::start();
    host.says("vm add web1");
    let mem = guest_memory(MEMORY);
    let mut front_end = FrontEnd::connect(&host.socket("web1"), &mem, Ask::default()).unwrap();
    let (mut events, mut notifier) = front_end.queue(0);
    host.says("vm detach web1");
    hears(&mem, &mut events, &mut notifier, EventKind::Detach);
}

#[test]
fn a_driver_hears_that_it_is_frozen_and_may_do_what_a_frozen_one_may() {
    let host = Host::start();
    host.says("vm add web1");
    let mem = guest_memory(MEMORY);
    let mut front_end = FrontEnd::connect(&host.socket("web1"), &mem, Ask::default()).unwrap();
    let (mut events, mut notifier) = front_end.queue(0);
    let mut driver = front_end.driver(1);
    driver.create_pool(0, PoolKind::Persistent);
    assert_eq!(
        driver.put(0, &OBJECT, 0, &[page_of(1)]).pages(1),
        [Status::OK]
    );
    host.says("vm freeze web1");
    hears(&mem, &mut events, &mut notifier, EventKind::Limits);
    assert!(driver.limits().hints.contains(Hints::FROZEN));
    assert_eq!(
        driver.put(0, &OBJECT, 1, &[page_of(2)]).pages(1),
        [Status::FROZEN]
    );
    let replaced = driver.put(0, &OBJECT, 0, &[page_of(3)]);
    assert!(replaced.pages(1)[0].is_ok());
    assert_eq!(driver.get(0, &OBJECT, 0, 1).page(1, 0), page_of(3));
    assert_eq!(driver.flush_object(0, &OBJECT).header().pages, 1);
    host.says("vm thaw web1");
    until("it is thawed", || {
        !driver.limits().hints.contains(Hints::FROZEN)
    });
    assert_eq!(
        driver.put(0, &OBJECT, 1, &[page_of(2)]).pages(1),
        [Status::OK]
    );
}

#[test]
fn only_ephemeral_pages_are_flushed_and_the_host_says_what_that_gives() {
    let host = Host::start();
    host.says("vm add web1 --quota 64M --codec none");
    let mem = guest_memory(MEMORY);
    let mut front_end = FrontEnd::connect(&host.socket("web1"), &mem, Ask::default()).unwrap();
    let mut driver = front_end.driver(1);
    driver.create_pool(0, PoolKind::Persistent);
    driver.create_pool(1, PoolKind::Ephemeral);
    let pages: Vec<_> = (0..256).map(page_of).collect();
    for run in 0..8 {
        driver.put(0, &OBJECT, run * 256, &pages);
        driver.put(1, &OBJECT, run * 256, &pages);
    }
    let before = host.json("freeable --json");
    let freeable = before["freeable_bytes"].as_u64().unwrap();
    let held = before["held_bytes"].as_u64().unwrap();
    assert!(freeable > 0 && freeable < held, "{before}");
    let metrics = host.daemon.control("GET", "/metrics", "").unwrap().1;
    for metric in ["stored", "backed", "given_back", "freeable"] {
        let line = format!("tmem_vm_{metric}_bytes{{vm=\"web1\"}} ");
        // Its memory is looked at twice a second.
        until(&line, || {
            let metrics = host.daemon.control("GET", "/metrics", "").unwrap().1;
            metrics.contains(&line)
        });
    }
    assert!(metrics.contains("\ntmem_host_freeable_bytes "), "{metrics}");
    assert_eq!(before["promised_bytes"], 64 << 20);
    assert_eq!(before["promisable_bytes"], 192 << 20);

    let said = host.says("vm flush web1 --bytes 64M");
    assert!(
        said.starts_with("2048 ephemeral pages") && said.contains(" 0 ephemeral"),
        "{said}"
    );
    let after = host.json("freeable --json");
    assert_eq!(after["freeable_bytes"], 0);
    // About what was said.
    let given = held - after["held_bytes"].as_u64().unwrap();
    assert!(given.abs_diff(freeable) < (1 << 20), "{given} {freeable}");
    for run in 0..8 {
        assert_eq!(
            driver.get(0, &OBJECT, run * 256, 256).pages(256),
            [Status::OK; 256]
        );
        assert_eq!(
            driver.get(1, &OBJECT, run * 256, 256).pages(256),
            [Status::MISS; 256]
        );
    }
}

#[test]
fn pages_are_saved_restored_and_cloned() {
    let host = Host::start();
    for name in ["web1", "web2", "web3"] {
        host.says(&format!("vm add {name}"));
    }
    let mem = guest_memory(MEMORY);
    let mut front_end = FrontEnd::connect(&host.socket("web1"), &mem, Ask::default()).unwrap();
    let mut driver = front_end.driver(1);
    driver.create_pool(0, PoolKind::Persistent);
    driver.put(0, &OBJECT, 0, &[page_of(1), page_of(2), page_of(3)]);
    let image = host.dir.path().join("web1.tmem");
    let save = format!("vm save web1 {}", image.display());
    for line in [save.as_str(), "vm clone web1 web3"] {
        let said = host.refuses(line);
        assert!(said.contains("it runs; have its VMM pause it"), "{said}");
        assert!(!image.exists());
    }
    drop(driver);
    drop(front_end);
    until("the front end has left", || {
        !host.says("vm list").contains("web1  connected")
    });
    host.says(&save);
    host.says(&format!("vm restore web2 {}", image.display()));
    host.says("vm clone web1 web3");
    let vms = host.json("vm list --json");
    for vm in vms["vms"].as_array().unwrap() {
        assert_eq!(vm["persistent_pages"], 3, "{vms}");
    }
    let said = host.refuses("vm clone web1 web1");
    assert!(said.contains("no clone of its own"), "{said}");
    let said = host.refuses("vm clone web1 web4");
    assert!(said.contains("web4"), "{said}");
}

#[test]
fn virtual_machines_of_a_domain_are_given_a_share() {
    let host = Host::start();
    assert!(host.says("share list").contains("There is no share"));
    for name in ["web1", "web2"] {
        host.says(&format!("vm add {name} --domain team-a"));
    }
    host.says("vm add db1 --domain team-b");
    let uuid = host.says("share add golden --domain team-a --vms web1,web2 --quota 2G");
    let share: [u8; 16] = uuid::Uuid::parse_str(uuid.trim()).unwrap().into_bytes();
    let listed = host.says("share list");
    assert!(
        listed.contains(uuid.trim()) && listed.contains("web1,web2"),
        "{listed}"
    );

    let mem = guest_memory(MEMORY);
    let mut front_end = FrontEnd::connect(&host.socket("web1"), &mem, Ask::default()).unwrap();
    let mut driver = front_end.driver(1);
    assert_eq!(driver.create_shared_pool(9, share), Status::OK);
    driver.put(9, &OBJECT, 0, &[page_of(1)]);
    let shown = host.json("share list --json");
    let golden = &shown["shares"][0];
    assert_eq!(
        (&golden["pages"], &golden["quota_bytes"]),
        (&1.into(), &(2_u64 << 30).into())
    );

    let said = host.refuses("share set golden --vms web1,db1");
    assert!(
        said.contains("tmemctl vm set db1 --domain team-a"),
        "{said}"
    );
    let said = host.refuses("share add golden --domain team-a");
    assert!(said.contains("already"), "{said}");
    let said = host.refuses("share set golden");
    assert!(said.contains("nothing is to be changed"), "{said}");
    host.says("share set golden --vms web2");
    assert_eq!(driver.get(9, &OBJECT, 0, 1).status(), Status::NO_SHARE);
    host.says("share remove golden");
    let said = host.refuses("share remove golden");
    assert!(said.contains("there is no share"), "{said}");
}

#[test]
fn virtual_machines_of_different_domains_are_given_a_verified_share() {
    let host = Host::start();
    host.says("vm add web1 --domain team-a");
    host.says("vm add db1");
    let image = format!("--salt 00ff --root-hash {}", "ad".repeat(32));
    let uuid = host.says(&format!(
        "share add golden --verified {image} --vms web1,db1"
    ));
    let share: [u8; 16] = uuid::Uuid::parse_str(uuid.trim()).unwrap().into_bytes();
    let listed = host.says("share list");
    assert!(
        listed.contains("verified:adadadad") && listed.contains("db1,web1"),
        "{listed}"
    );

    let mem = guest_memory(MEMORY);
    let mut front_end = FrontEnd::connect(&host.socket("db1"), &mem, Ask::default()).unwrap();
    let mut driver = front_end.driver(1);
    assert_eq!(driver.create_shared_pool(9, share), Status::NO_SHARE);
    assert_eq!(driver.create_verified_pool(9, share), Status::OK);
    let put = driver.put(9, &OBJECT, 0, &[page_of(1)]);
    assert_eq!(put.pages(1), [Status::MISMATCH]);
    let hash = virtio_tmem::device::Verifier::new(&[0, 0xff]).hash(&page_of(1));
    let put = driver.put(9, &hash.object(), hash.index(), &[page_of(1)]);
    assert_eq!(put.pages(1), [Status::OK]);

    let said = host.refuses("share add other --verified --salt 0 --root-hash ad");
    assert!(said.contains("hexadecimal"), "{said}");
    let said = host.refuses("share set golden --vms nobody");
    assert!(said.contains("add it first"), "{said}");
    // None is as good a salt as any.
    host.says(&format!(
        "share add plain --verified --salt - --root-hash {}",
        "ad".repeat(32)
    ));
}
