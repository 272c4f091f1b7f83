// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The world that a schedule runs in, for those who do not know it: the driver, and what stands in
//! for the kernel.

use super::guest;
use super::schedule::Step;
use super::task;
use super::task::Task;
use super::Fault;
use super::Scene;
use super::World;
use crate::sys::bio::Bio;
use crate::sys::bio::Body;
use crate::sys::bio::Status;
use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

thread_local! {
    static WORLD: RefCell<Option<Rc<World>>> = const { RefCell::new(None) };
}

/// The one there is.
pub(crate) fn world() -> Rc<World> {
    WORLD.with_borrow(|world| world.clone().unwrap())
}

/// Others are faster.
pub(crate) fn interleave() {
    let Some(world) = WORLD.with_borrow(Clone::clone) else {
        return;
    };
    let coins = world.coins.get();
    if coins == 0 || world.locks.get() > 0 || world.depth.get() > 3 {
        return;
    }
    world.coins.set(coins >> 1);
    if coins & 1 != 0 {
        world.step();
    }
}

pub(crate) fn count_locks(more: isize) {
    if let Some(world) = WORLD.with_borrow(Clone::clone) {
        world.locks.set(world.locks.get() + more);
    }
}

/// Somebody waits for something.
pub(crate) fn wait() {
    let world = world();
    world.waited();
    if !world.step() {
        assert!(world.progress(), "waits for what does not come");
    }
}

/// Somebody tries something again and again.
pub(crate) fn pause() {
    let world = world();
    world.waited();
    if !world.step() {
        world.is_short.set(false);
    }
}

pub(crate) fn push(task: Task) {
    world().tasks.borrow_mut().push(task);
}

/// The rest of a bio that was cut is submitted.
pub(crate) fn rest(rest: Bio) {
    push(Task::Submit(rest));
}

/// These pages of an operation of the guest's were read, whatever becomes of the others.
pub(crate) fn marked_read(op: usize, pages: Range<usize>) {
    let world = world();
    if world.fault != Some(Fault::FailsWhole) {
        world.ops.borrow_mut()[op].read.extend(pages);
    }
}

/// The frame of a page of memory of an operation of the guest's.
pub(crate) fn frame_of(op: Option<usize>, at: usize) -> u64 {
    op.map_or(0, |op| guest::frame(op, at))
}

/// Which disk there is.
pub(crate) fn identity() -> u64 {
    world().disk.borrow().identity
}

/// A bio is submitted to the disk.
pub(crate) fn disk(bio: Bio) {
    push(Task::Disk(task::Io::new(bio)));
}

/// An operation of the guest's has ended.
pub(crate) fn ended(op: usize, status: Status) {
    world().ended(op, status);
}

/// A bio was forgotten.
pub(crate) fn dropped(body: &Body) {
    let world = WORLD.with_borrow(Clone::clone);
    if let Some(world) = world {
        world.is_wrong(format!(
            "a bio {:?} for the sectors {} to {} was dropped",
            body.op, body.from, body.to
        ));
    }
}

/// Runs a world along a schedule, and to its end. Gives it, to look at what was seen.
///
/// # Errors
///
/// What is wrong.
pub(crate) fn run(scene: Scene, schedule: Vec<Step>) -> Result<Rc<World>, String> {
    // That of a run that has panicked.
    drop(WORLD.take());
    let world = Rc::new(World::new(scene, schedule));
    WORLD.set(Some(world.clone()));
    while world.step() {}
    world.finish();
    if let (Some(victims), None) = (&world.filter.victims, &*world.wrong.borrow()) {
        // Each has the other.
        victims.remove(&world.filter);
    }
    drop(WORLD.take());
    match world.wrong.take() {
        None => Ok(world),
        Some(wrong) => Err(wrong),
    }
}
