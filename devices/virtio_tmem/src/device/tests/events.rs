// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The event queue.

use virtio_queue::Queue;
use vm_memory::Bytes;

use super::*;
use crate::device::{EventQueue, Step};
use crate::testing::Span;
use tmem_wire::{Event, EventKind};

const BUFFER: u64 = AREA;

struct Rig<'m> {
    mem: &'m Memory,
    device: Arc<Device>,
    driver: DriverQueue<'m, Memory>,
    side: Queue,
    events: EventQueue,
}

impl<'m> Rig<'m> {
    fn new(mem: &'m Memory) -> Self {
        let driver = DriverQueue::new(mem, 0, 16, true);
        Self {
            mem,
            device: device(&store(), "vm", MIB),
            side: driver.device_side(),
            driver,
            events: EventQueue::default(),
        }
    }

    fn post(&mut self, len: u32) {
        let span = Span { addr: BUFFER, len };
        self.driver.add(&[], &[span]).unwrap();
    }

    fn step(&mut self) -> Step {
        self.events.step(&self.device, self.mem, &mut self.side)
    }

    /// The events that the driver has got, by kind.
    fn got(&mut self) -> Vec<u32> {
        let mut kinds = Vec::new();
        while self.step() != Step::Idle {
            if let Some(used) = self.driver.pop_used()
                && used.len == 32
            {
                let mut bytes = [0; Event::SIZE];
                self.mem
                    .read_slice(&mut bytes, GuestAddress(BUFFER))
                    .unwrap();
                kinds.push(Event::decode(&bytes).kind);
            }
        }
        kinds
    }
}

#[test]
fn an_event_waits_for_a_buffer_and_is_told_once() {
    let mem = memory();
    let mut rig = Rig::new(&mem);
    rig.device.set_quota(2 * MIB);
    assert_eq!(rig.step(), Step::Idle, "no buffer");
    rig.post(32);
    rig.post(32);
    assert_eq!(rig.got(), [EventKind::Limits as u32]);
    assert!(!rig.device.events().is_pending());
}

#[test]
fn a_buffer_waits_for_an_event() {
    let mem = memory();
    let mut rig = Rig::new(&mem);
    rig.post(64);
    assert_eq!(rig.step(), Step::Idle, "no event");
    rig.device.events().raise(EventKind::Detach);
    assert_eq!(rig.got(), [EventKind::Detach as u32]);
}

#[test]
fn events_of_one_kind_are_merged_those_of_two_are_not() {
    let mem = memory();
    let mut rig = Rig::new(&mem);
    rig.device.set_quota(2 * MIB);
    rig.device.set_frozen(true);
    rig.device.events().raise(EventKind::Detach);
    for _ in 0..3 {
        rig.post(32);
    }
    assert_eq!(
        rig.got(),
        [EventKind::Limits as u32, EventKind::Detach as u32]
    );
}

#[test]
fn a_buffer_that_is_too_short_or_outside_is_used_with_0_and_costs_no_event() {
    let mem = memory();
    let mut rig = Rig::new(&mem);
    rig.device.set_quota(2 * MIB);
    rig.post(31);
    let outside = Span {
        addr: SIZE as u64,
        len: 32,
    };
    rig.driver.add(&[], &[outside]).unwrap();
    rig.driver
        .add(
            &[Span {
                addr: BUFFER,
                len: 32,
            }],
            &[],
        )
        .unwrap();
    rig.post(32);
    assert_eq!(rig.got(), [EventKind::Limits as u32]);
    assert_eq!(rig.device.metrics().faults(Fault::EventBuffer), 3);
}

#[test]
fn hints_that_change_are_an_event() {
    let mem = memory();
    let rig = Rig::new(&mem);
    rig.device.watch_hints();
    assert!(!rig.device.events().is_pending(), "nothing changed");
    // Behind the device's back, as another VM's puts would.
    rig.device.client().set_quota(0);
    rig.device.watch_hints();
    assert!(rig.device.events().is_pending());
}

#[test]
fn whoever_serves_the_queue_is_woken() {
    let mem = memory();
    let rig = Rig::new(&mem);
    let woken = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let count = woken.clone();
    rig.device.events().set_wake(Some(Box::new(move || {
        count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    })));
    rig.device.set_quota(5 * MIB);
    rig.device.events().set_wake(None);
    rig.device.set_quota(6 * MIB);
    assert_eq!(woken.load(std::sync::atomic::Ordering::SeqCst), 1);
}
