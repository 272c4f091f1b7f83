// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What happens to the area, and what must not.
//!
//! Machine `a` has many times what memory has room for; `b` has little, and so all of it in memory.

use crate::area::Area;
use crate::daemon::{Daemon, wait_for};
use crate::machine::{AT_ONCE, Machine, Sum};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Memory for pages, and pages of each machine: 2 MiB for 16.
const MEMORY: &str = "2M";
const MANY: u64 = 4_000;
const FEW: u64 = 64;

/// How slow the area is; half of it is what nobody else may notice of that.
const DELAY: Duration = Duration::from_secs(2);
const NOTICED: Duration = Duration::from_secs(1);

/// For how long machines go on with a slow area.
const SLOW: Duration = Duration::from_secs(8);

/// A part that fails, in sectors: 1 MiB.
const PART: u64 = 2048;

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
        let spilled = self.number("/vms/a/spilled_pages");
        [spilled, self.number("/vms/a/persistent_pages") - spilled]
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
        let sum = a.put(&all, AT_ONCE);
        assert_eq!(sum.refused, 0, "{sum:?}");
    }

    pub(crate) fn end(mut self) {
        let all = self.a.indexes();
        self.a.flush(&all);
        self.daemon.take().unwrap().stop();
        Area::remove();
    }
}

/// Memory has a tenth of the pages.
fn healthy(world: &mut World) -> String {
    let few: Vec<u64> = (0..FEW).collect();
    assert_eq!(world.b.put(&few, AT_ONCE).right, FEW);
    let all: Vec<u64> = (0..MANY).collect();
    assert_eq!(world.a.put(&all, AT_ONCE).right, MANY);
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

/// Others, and the control socket, do not wait for reads and writes of `a`.
fn slow(world: &mut World) -> String {
    let gets = world.some(4096);
    let puts = world.some(4096);
    let World {
        area, daemon, a, b, ..
    } = world;
    let daemon = daemon.as_ref().unwrap();
    area.delay(DELAY.as_millis().try_into().unwrap());
    let over = AtomicBool::new(false);
    let (of_a, of_b, puts_of_b, control) = std::thread::scope(|scope| {
        let over = &over;
        let load = scope.spawn(move || {
            let mut sum = Sum::default();
            for (get, put) in gets.chunks(2).zip(puts.chunks(16)) {
                if over.load(Relaxed) {
                    break;
                }
                let there: Vec<u64> = get.iter().copied().filter(|it| a.has(*it)).collect();
                sum.add(a.get(&there, 2));
                sum.add(a.put(put, 16));
            }
            sum
        });
        let control = scope.spawn(|| {
            let mut slowest = Duration::ZERO;
            while !over.load(Relaxed) {
                for path in ["/v1/stats", "/v1/tiers", "/metrics"] {
                    slowest = slowest.max(daemon.time(path));
                }
            }
            slowest
        });
        let indexes = b.indexes();
        let start = Instant::now();
        let mut of_b = Sum::default();
        while start.elapsed() < SLOW {
            of_b.add(b.get(&indexes, 8));
        }
        // These find memory full.
        let puts_of_b = b.put(&(FEW..2 * FEW).collect::<Vec<_>>(), 1);
        over.store(true, Relaxed);
        (
            load.join().unwrap(),
            of_b,
            puts_of_b,
            control.join().unwrap(),
        )
    });
    area.heal();
    assert!(of_a.slowest >= DELAY, "the area is not slow: {of_a:?}");
    assert_eq!((of_a.failed, of_a.missing), (0, 0), "{of_a:?}");
    assert!(
        of_b.slowest < NOTICED,
        "gets of another machine wait: {of_b:?}"
    );
    assert!(control < NOTICED, "the control socket waits: {control:?}");
    world.is_whole();
    format!(
        "gets of pages in memory took {:?}, the control socket {control:?}; the machine's own {:?}, {} of its puts were \
         refused; puts of another {:?}, {} of {FEW} were refused",
        of_b.slowest, of_a.slowest, of_a.refused, puts_of_b.slowest, puts_of_b.refused
    )
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
    let [spilled, memory] = world.places();
    let errors = world.number("/vms/a/spill_read_errors");
    world.area.fail();
    let sum = world.a.get_all();
    assert_eq!((sum.right, sum.failed, sum.missing), (memory, spilled, 0));
    world.b.is_whole();
    let errors = world.number("/vms/a/spill_read_errors") - errors;
    assert!(
        errors >= spilled,
        "{errors} of {spilled} errors are counted"
    );
    assert_eq!(world.places(), [spilled, memory]);
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
    let [spilled, memory] = world.places();
    Area::vanish();
    let sum = world.a.get_all();
    assert_eq!((sum.right, sum.failed, sum.missing), (memory, spilled, 0));
    world.b.is_whole();
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
