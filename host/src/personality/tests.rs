// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The loop, with handlers that know nothing of tmem.

use std::time::Duration;

use virtio_queue::{Queue, QueueOwnedT, QueueT};
use virtio_serve::testing::{DriverQueue, Span};
use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryMmap};

use super::{GoOn, Handler, Lane, Poller, Step, serve};

fn memory() -> GuestMemoryMmap {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap()
}

/// A driver's queue with `count` buffers for the device to use.
fn driver(memory: &GuestMemoryMmap, count: u64) -> DriverQueue<'_, GuestMemoryMmap> {
    let mut driver = DriverQueue::new(memory, 0, 16, true);
    for nth in 0..count {
        let addr = 0x8000 + 16 * nth;
        driver.add(&[], &[Span { addr, len: 16 }]).unwrap();
    }
    driver
}

/// A queue that nobody else wants before so many steps.
struct Alone<'m> {
    memory: &'m GuestMemoryMmap,
    queue: Queue,
    begun: u32,
    wanted_after: u32,
    signals: u32,
}

impl<'m> Alone<'m> {
    fn new(memory: &'m GuestMemoryMmap, queue: Queue) -> Self {
        Self {
            memory,
            queue,
            begun: 0,
            wanted_after: 1000,
            signals: 0,
        }
    }
}

impl Lane for Alone<'_> {
    fn with<R>(&mut self, with: impl FnOnce(&GuestMemoryMmap, &mut Queue, GoOn<'_>) -> R) -> R {
        with(self.memory, &mut self.queue, &mut || true)
    }

    fn begin(&mut self) {
        self.begun += 1;
    }

    fn signal(&mut self) {
        self.signals += 1;
    }

    fn is_wanted(&mut self) -> bool {
        self.begun >= self.wanted_after
    }
}

/// Uses each buffer with a length of 1.
#[derive(Default)]
struct UseAll {
    /// How often it was told how long that took.
    times: u32,
}

impl Handler for UseAll {
    fn step(&mut self, memory: &GuestMemoryMmap, queue: &mut Queue, _: GoOn<'_>) -> Step {
        let Some(chain) = queue.iter(memory).unwrap().next() else {
            return Step::Idle;
        };
        queue.add_used(memory, chain.head_index(), 1).unwrap();
        Step::Used { notify: true }
    }

    fn took(&mut self, _: Duration) {
        self.times += 1;
    }
}

/// The same as a device does it, for which a ring can be broken.
struct UseAllOrBreak(UseAll);

impl Handler for UseAllOrBreak {
    fn step(&mut self, memory: &GuestMemoryMmap, queue: &mut Queue, go_on: GoOn<'_>) -> Step {
        match queue.iter(memory).is_ok() {
            true => self.0.step(memory, queue, go_on),
            false => Step::Broken,
        }
    }

    fn took(&mut self, time: Duration) {
        self.0.took(time);
    }
}

/// Has nothing to write to the buffers yet.
struct Wait;

impl Handler for Wait {
    fn step(&mut self, _: &GuestMemoryMmap, _: &mut Queue, _: GoOn<'_>) -> Step {
        Step::Idle
    }

    fn has_work(&self) -> bool {
        false
    }
}

#[test]
fn all_buffers_are_used_and_the_driver_is_told() {
    let memory = memory();
    let mut driver = driver(&memory, 3);
    let mut lane = Alone::new(&memory, driver.device_side());
    let mut handler = UseAll::default();
    assert!(!serve(&mut handler, &mut lane, &mut Poller::never()));
    assert_eq!(handler.times, 3, "each is timed");
    let lens: Vec<_> = std::iter::from_fn(|| driver.pop_used())
        .map(|used| used.len)
        .collect();
    assert_eq!(lens, [1, 1, 1]);
    assert!((1..=3).contains(&lane.signals), "{}", lane.signals);
    // The device waits for a notification again.
    driver
        .add(
            &[],
            &[Span {
                addr: 0x9000,
                len: 1,
            }],
        )
        .unwrap();
    assert!(driver.needs_kick());
}

#[test]
fn buffers_that_wait_to_be_written_are_no_work() {
    let memory = memory();
    let driver = driver(&memory, 3);
    let mut lane = Alone::new(&memory, driver.device_side());
    assert!(!serve(&mut Wait, &mut lane, &mut Poller::never()));
    assert_eq!((lane.begun, lane.signals), (1, 0));
}

#[test]
fn a_queue_that_is_wanted_is_let_go() {
    let memory = memory();
    let mut driver = driver(&memory, 5);
    let mut lane = Alone::new(&memory, driver.device_side());
    lane.wanted_after = 2;
    assert!(serve(
        &mut UseAll::default(),
        &mut lane,
        &mut Poller::never()
    ));
    let used = std::iter::from_fn(|| driver.pop_used()).count();
    assert_eq!(used, 2);
    assert!(lane.signals > 0, "used buffers are not kept quiet about");
}

/// A queue whose driver adds a buffer when it was looked at so often, and that somebody else
/// wants later.
struct Late<'m> {
    alone: Alone<'m>,
    driver: DriverQueue<'m, GuestMemoryMmap>,
    looks: u32,
    /// Whether the driver was to notify of the buffer.
    needed_kick: bool,
    /// The available index that it writes instead.
    nonsense: Option<u16>,
}

impl<'m> Late<'m> {
    const ADDED: u32 = 1000;
    const WANTED: u32 = 2000;

    /// With one buffer at first.
    fn new(memory: &'m GuestMemoryMmap) -> Self {
        let mut driver = driver(memory, 1);
        assert!(driver.needs_kick());
        Self {
            alone: Alone::new(memory, driver.device_side()),
            driver,
            looks: 0,
            needed_kick: false,
            nonsense: None,
        }
    }
}

impl Lane for Late<'_> {
    fn with<R>(&mut self, with: impl FnOnce(&GuestMemoryMmap, &mut Queue, GoOn<'_>) -> R) -> R {
        self.alone.with(with)
    }

    fn signal(&mut self) {
        self.alone.signal();
    }

    fn is_wanted(&mut self) -> bool {
        self.looks += 1;
        if self.looks == Self::ADDED {
            match self.nonsense {
                None => {
                    let (addr, len) = (0x9000, 16);
                    self.driver.add(&[], &[Span { addr, len }]).unwrap();
                }
                Some(index) => {
                    let ring = GuestAddress(self.alone.queue.avail_ring());
                    let index = index.to_le_bytes();
                    self.alone
                        .memory
                        .write_slice(&index, ring.unchecked_add(2))
                        .unwrap();
                }
            }
            self.needed_kick = self.driver.needs_kick();
        }
        self.looks >= Self::WANTED
    }
}

#[test]
fn a_request_that_comes_while_the_ring_is_looked_at_needs_no_notification() {
    let memory = memory();
    let mut lane = Late::new(&memory);
    let mut handler = UseAll::default();
    let poller = &mut Poller::open(Duration::from_secs(3600));
    // It ends because somebody wants the queue, not after an hour.
    assert!(serve(&mut handler, &mut lane, poller));
    assert_eq!(handler.times, 2);
    assert!(!lane.needed_kick);
    assert_eq!(lane.alone.signals, 2, "the driver hears of each before");
}

#[test]
fn an_index_that_turns_to_nonsense_while_the_ring_is_looked_at_ends_the_look() {
    let memory = memory();
    for nonsense in [18, 0x8000, 0xffff] {
        let mut lane = Late::new(&memory);
        lane.nonsense = Some(nonsense);
        let mut handler = UseAllOrBreak(UseAll::default());
        let poller = &mut Poller::open(Duration::from_secs(3600));
        // Neither after an hour nor because somebody wants the queue.
        assert!(!serve(&mut handler, &mut lane, poller), "{nonsense}");
        assert!(lane.looks < Late::WANTED);
        assert_eq!((handler.0.times, lane.alone.signals), (1, 1));
        // A driver that comes to its senses is asked to say so.
        let (addr, len) = (0x9000, 16);
        lane.driver.add(&[], &[Span { addr, len }]).unwrap();
        assert!(lane.driver.needs_kick());
        let poller = &mut Poller::never();
        assert!(!serve(&mut handler, &mut lane, poller));
        assert_eq!(handler.0.times, 2);
    }
}

#[test]
fn the_ring_is_looked_at_for_longer_when_somebody_waits() {
    let memory = memory();
    let driver = driver(&memory, 3);
    let mut lane = Alone::new(&memory, driver.device_side());
    let mut poller = Poller::new(Duration::from_micros(200));
    for (was_awaited, most) in [(true, 200), (false, 50), (true, 200)] {
        // The window is closed yet.
        assert!(!poller.finds(&mut lane, was_awaited));
        assert_eq!(poller.most(), Duration::from_micros(most));
    }
}

#[test]
fn a_ring_without_work_is_not_looked_at() {
    let memory = memory();
    let driver = driver(&memory, 3);
    let mut lane = Alone::new(&memory, driver.device_side());
    let poller = &mut Poller::open(Duration::from_secs(3600));
    assert!(!serve(&mut Wait, &mut lane, poller));
}
