// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What happens to the area, and what must not.
//!
//! Machine `a` has many times what memory has room for; `b` has little, and so all of it in memory.

use crate::area::Area;
use crate::daemon::{Daemon, wait_for};
use crate::machine::{AT_ONCE, Machine, Sum};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// Memory for pages, and pages of each machine: 2 MiB for 16.
const MEMORY: &str = "2M";
const MANY: u64 = 4_000;
const FEW: u64 = 64;

/// Pages for which all of the memory is too little.
const FULL: u64 = 512;

/// No machine has the same.
const SEED_OF_C: u64 = 1 << 20;

/// How slow the area is, and pages of each request then.
const DELAY: Duration = Duration::from_millis(100);
const SLOW: u64 = 1024;

/// A part that fails, in sectors: 1 MiB.
const PART: u64 = 2048;

/// Pages in a segment of the area, at most.
const SEGMENT: u64 = 32;

pub(crate) struct World {
    area: Area,
    daemon: Option<Daemon>,
    a: Machine,
    b: Machine,
    random: fastrand::Rng,
}

type Scene = fn(&mut World) -> String;

pub(crate) const ALL: &[(&str, Scene)] = &[
    ("healthy", healthy),
    ("killed", killed),
    ("slow", slow),
    ("held", held),
    ("terminated", terminated),
    ("writes fail", writes_fail),
    ("all fails", all_fails),
    ("part fails", part_fails),
    ("vanishes", vanishes),
];

impl World {
    pub(crate) fn new(disk: &Path, program: &Path, dir: &Path, seed: u64) -> Self {
        let area = Area::new(disk);
        let daemon = Daemon::start(program, dir, MEMORY);
        let a = Machine::connect(&daemon.socket("a"), 2 * seed);
        let b = Machine::connect(&daemon.socket("b"), 2 * seed + 1);
        Self {
            area,
            daemon: Some(daemon),
            a,
            b,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    fn daemon(&mut self) -> &mut Daemon {
        self.daemon.as_mut().unwrap()
    }

    fn number(&self, pointer: &str) -> u64 {
        self.daemon.as_ref().unwrap().number(pointer)
    }

    /// Pages of `a` that are in the area, and in memory.
    fn places(&self) -> [u64; 2] {
        let pages = ["/vms/a/spilled_pages", "/vms/a/persistent_pages"];
        let [spilled, all] = self.daemon.as_ref().unwrap().numbers(pages);
        [spilled, all - spilled]
    }

    /// Nothing can be read or written any more: pages of `a` in the area are errors, those in memory are
    /// there. Returns how many there are of both.
    fn has_lost_the_area(&mut self) -> [u64; 2] {
        let [spilled, memory] = self.places();
        let sum = self.a.get_all();
        let [spilled_later, memory_later] = self.places();
        assert_eq!(spilled + memory, spilled_later + memory_later);
        // What was written just before may be moved in between.
        let (failed, right) = (spilled..=spilled_later, memory_later..=memory);
        assert!(
            spilled_later - spilled <= SEGMENT,
            "{spilled} were in the area, then {spilled_later}"
        );
        assert!(failed.contains(&sum.failed), "{sum:?}, not {failed:?}");
        assert!(right.contains(&sum.right), "{sum:?}, not {right:?}");
        assert_eq!(
            (sum.right + sum.failed, sum.missing),
            (spilled + memory, 0),
            "{sum:?}"
        );
        self.b.is_whole();
        [spilled, memory]
    }

    fn some(&mut self, count: u64) -> Vec<u64> {
        (0..count).map(|_| self.random.u64(..MANY)).collect()
    }

    /// Both machines have all that they put.
    fn is_whole(&mut self) -> u64 {
        self.a.is_whole() + self.b.is_whole()
    }

    /// The daemon has said that the area fails, or does so soon.
    fn is_logged(&mut self) {
        let daemon = self.daemon();
        wait_for("a line in the log", || {
            daemon.log().contains("the spill area fails")
        });
    }

    /// Waits until no put of `a` is refused any more, and puts all pages anew.
    fn takes_puts(&mut self) {
        let mut all: Vec<u64> = (0..MANY).collect();
        self.random.shuffle(&mut all);
        let a = &mut self.a;
        // After some seconds all is tried again that has failed.
        wait_for("puts to be accepted again", || {
            let some = all.get(..1024).unwrap();
            a.put(some, AT_ONCE).refused == 0
        });
        put_all(self.daemon.as_ref().unwrap(), a, &all);
    }

    pub(crate) fn end(mut self) {
        let all = self.a.indexes();
        self.a.flush(&all);
        let mut daemon = self.daemon.take().unwrap();
        daemon.terminate();
        daemon.is_over();
        Area::remove();
    }
}

/// Puts all of these pages while the area works: none may be refused. On a machine that is busy with
/// others it may all the same stand still for so long that nobody waits for it. What is refused then,
/// and only then, is put again.
fn put_all(daemon: &Daemon, machine: &mut Machine, indexes: &[u64]) {
    let stalls = daemon.stalls();
    let mut indexes = indexes.to_vec();
    wait_for("all pages to be put", || {
        let sum = machine.put(&indexes, AT_ONCE);
        assert!(
            sum.refused == 0 || daemon.stalls() > stalls,
            "refused while the area works: {sum:?}"
        );
        indexes.retain(|index| !machine.has(*index));
        indexes.is_empty()
    });
}

/// Memory has a tenth of the pages.
fn healthy(world: &mut World) -> String {
    let [few, all] = [FEW, MANY].map(|pages| (0..pages).collect::<Vec<u64>>());
    let daemon = world.daemon.as_ref().unwrap();
    put_all(daemon, &mut world.b, &few);
    put_all(daemon, &mut world.a, &all);
    world.is_whole();
    let [spilled, memory] = world.places();
    assert!(spilled > MANY * 8 / 10, "{spilled} spilled");
    assert_eq!(world.number("/vms/b/spilled_pages"), 0);
    format!("{spilled} pages in the area, {memory} in memory")
}

/// The daemon is killed, and the next one has the same area.
fn killed(world: &mut World) -> String {
    let puts = world.some(500);
    world.a.put(&puts, AT_ONCE);
    world.daemon().kill();
    world.daemon().restart();
    format!("{} pages right afterwards", world.is_whole())
}

/// All waits for a slow area, and nothing is lost or refused for that.
fn slow(world: &mut World) -> String {
    let gets: Vec<u64> = world.some(SLOW / 16);
    let puts = world.some(SLOW);
    let milliseconds = DELAY.as_millis().try_into().unwrap();
    world.area.delay(milliseconds);
    let there: Vec<u64> = gets.into_iter().filter(|it| world.a.has(*it)).collect();
    let sum = world.a.get(&there, 2);
    assert!(sum.slowest >= DELAY, "the area is not slow: {sum:?}");
    assert_eq!(sum.right, there.len() as u64, "{sum:?}");
    put_all(world.daemon.as_ref().unwrap(), &mut world.a, &puts);
    world.area.heal();
    let pages = world.is_whole();
    format!("{pages} pages right afterwards")
}

/// What the operator asks for, and what is answered then.
const OPERATOR: &[(&str, &str, u16)] = &[
    ("GET", "/v1/stats", 200),
    ("GET", "/v1/tiers", 200),
    ("GET", "/v1/freeable", 200),
    ("GET", "/v1/vms", 200),
    ("GET", "/v1/vms/a", 200),
    ("GET", "/metrics", 200),
];

/// The area answers nothing, and nobody but `a` waits for it: neither other machines nor the operator,
/// who adds one and removes it meanwhile. The virtqueue of `a` cannot be stopped before the area
/// answers, and is stopped then.
fn held(world: &mut World) -> String {
    let pages: Vec<u64> = world.a.indexes().into_iter().take(AT_ONCE).collect();
    let World { daemon, a, b, .. } = world;
    let daemon = daemon.as_ref().unwrap();
    let area = Area::hold();
    a.begin_gets(&pages);
    let has_stopped = &AtomicBool::new(false);
    let (puts, pools, stalls) = std::thread::scope(move |scope| {
        let stops = scope.spawn(move || {
            a.stop_and_start();
            has_stopped.store(true, Relaxed);
            a.finish_gets(&pages)
        });
        let before = daemon.stalls();
        let of_b = b.indexes();
        let more: Vec<u64> = (FEW..FEW + FULL).collect();
        let (mut puts, mut pools) = (Sum::default(), 0);
        for _ in 0..3 {
            assert_eq!(b.get(&of_b, AT_ONCE).right, FEW);
            // Memory is full after some of these.
            let sum = b.put(&more, AT_ONCE);
            assert_eq!(sum.right + sum.refused, FULL);
            assert!(sum.refused > 0, "there is room for all: {sum:?}");
            puts.add(sum);
            for (method, path, status) in OPERATOR {
                daemon.answers(method, path, "", *status);
            }
            b.flush(&more);
            // Memory may be as full as before: what matters is that they are answered.
            pools += u64::from(b.make_and_destroy_pool());
            add_and_remove(daemon);
        }
        let stalls = daemon.stalls() - before;
        assert!(stalls > 0, "nobody has waited for the area");
        wait_for("a line about it in the log", || {
            daemon.log().contains("the spill area had answered nothing")
        });
        assert!(!has_stopped.load(Relaxed), "the area was not needed");
        drop(area);
        let sum = stops.join().unwrap();
        assert_eq!(sum.right, AT_ONCE as u64, "{sum:?}");
        (puts, pools, stalls)
    });
    world.is_whole();
    world.takes_puts();
    world.is_whole();
    assert_eq!(world.number("/vms/b/spilled_pages"), 0);
    format!(
        "of another machine's puts {} were refused and {} were not; {stalls} of them waited in vain; \
         {pools} of 3 pools were made",
        puts.refused, puts.right
    )
}

/// A machine comes, has some pages if there is memory for its pool, and goes.
fn add_and_remove(daemon: &Daemon) {
    daemon.answers("POST", "/v1/vms", r#"{"name": "c"}"#, 201);
    if let Some(mut c) = Machine::connect_if_room(&daemon.socket("c"), SEED_OF_C) {
        c.put(&(0..FEW).collect::<Vec<_>>(), AT_ONCE);
        c.is_whole();
    }
    daemon.answers("DELETE", "/v1/vms/c", "", 204);
}

/// A daemon that is to end while the area answers nothing ends once it does, and the next one goes on
/// with what was under way.
fn terminated(world: &mut World) -> String {
    let pages: Vec<u64> = world.a.indexes().into_iter().take(AT_ONCE).collect();
    let area = Area::hold();
    world.a.begin_gets(&pages);
    world.daemon().terminate();
    let socket = world.daemon().socket("b");
    wait_for("connections to be refused", || {
        UnixStream::connect(&socket).is_err()
    });
    assert!(!world.daemon().has_ended(), "nothing was under way");
    drop(area);
    world.daemon().is_over();
    world.daemon().restart();
    let sum = world.a.finish_gets(&pages);
    assert_eq!(sum.right, AT_ONCE as u64, "{sum:?}");
    format!("{} pages right afterwards", world.is_whole())
}

/// What cannot be written stays in memory, or is refused.
fn writes_fail(world: &mut World) -> String {
    let errors = world.number("/vms/a/spill_write_errors");
    world.area.fail_writes();
    let puts = world.some(1000);
    let sum = world.a.put(&puts, AT_ONCE);
    let pages = world.is_whole();
    let errors = world.number("/vms/a/spill_write_errors") - errors;
    assert!(errors > 0, "no write has failed: {sum:?}");
    world.is_logged();
    world.area.heal();
    world.takes_puts();
    world.is_whole();
    format!(
        "{errors} writes failed, {} of {} puts were refused, {pages} pages right",
        sum.refused,
        sum.refused + sum.right
    )
}

/// What is in the area is an error, and what is in memory is there.
fn all_fails(world: &mut World) -> String {
    let errors = world.number("/vms/a/spill_read_errors");
    world.area.fail();
    let [spilled, memory] = world.has_lost_the_area();
    let errors = world.number("/vms/a/spill_read_errors") - errors;
    assert!(
        errors >= spilled,
        "{errors} of {spilled} errors are counted"
    );
    // Segments are to be cleaned, and cannot be.
    let puts = world.some(MANY / 2);
    let put = world.a.put(&puts, AT_ONCE);
    world.is_logged();
    world.area.heal();
    world.is_whole();
    // What could not be read is cleaned again: without that the area would be full soon.
    world.takes_puts();
    world.is_whole();
    format!(
        "{spilled} pages were errors, {memory} were not; {} puts were refused meanwhile",
        put.refused
    )
}

/// A part of the area cannot be read, also by the next daemon.
fn part_fails(world: &mut World) -> String {
    let pages = world.a.indexes().len() as u64;
    let from = world.area.sectors() / 4 / 256 * 256;
    world.area.fail_part(from, PART);
    let before = world.a.get_all();
    assert_eq!((before.right + before.failed, before.missing), (pages, 0));
    assert!(before.failed > 0, "{before:?}");
    world.daemon().kill();
    world.daemon().restart();
    let after = world.a.get_all();
    // All of a segment of which a part cannot be read is lost.
    let most = before.failed + 2 * 32;
    assert!(
        after.failed + after.missing <= most,
        "{before:?}, then {after:?}"
    );
    world.b.is_whole();
    world.area.heal();
    world.takes_puts();
    world.is_whole();
    format!(
        "{} of {pages} pages were errors, {} after a restart",
        before.failed,
        after.failed + after.missing
    )
}

/// The device is taken away, and comes back.
fn vanishes(world: &mut World) -> String {
    Area::vanish();
    let [spilled, _] = world.has_lost_the_area();
    world.daemon().kill();
    let status = world.daemon().restart_in_vain();
    let log = world.daemon().log();
    assert!(!status.success(), "{log}");
    assert!(log.contains("cannot read /dev/mapper/spill"), "{log}");
    Area::remove();
    let status = world.daemon().restart_in_vain();
    assert!(!status.success(), "{}", world.daemon().log());
    world.area.create();
    world.daemon().restart();
    let pages = world.is_whole();
    format!("{spilled} pages were errors; with the device back all {pages} are right")
}
