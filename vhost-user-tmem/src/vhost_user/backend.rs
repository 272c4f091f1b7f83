// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What messages and queues ask of a device, for one connection.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use tmem_host::personality::{self, GoOn, Handler, Lane, Poller, Step, VmDevice};
use tmem_host::registry::Refusal;
use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserProtocolFeatures,
    VhostUserVirtioFeatures,
};
use vhost_user_backend::{VhostUserBackend, VringState, VringT};
use virtio_bindings::bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::bindings::virtio_ring::{
    VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC,
};
use virtio_queue::{Queue, QueueT};
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::epoll::EventSet;

use super::served::Served;
use super::transfer::Transfer;
use super::vring::Vring;
use crate::attendant::{Kick, Ready};
use crate::blame;
use crate::confine::{self, Role};
use crate::faults;
use crate::room::Room;
use crate::takeover::Note;
use crate::trace::{Found, Trace, Verdict};
use crate::vm::{Memory, Vm};

/// How soon to look again when others still work with earlier memory, or have to show
/// which driver this is.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// How long a queue that shows nothing waits for another that does.
const SHOWS_WITHIN: Duration = Duration::from_secs(5);

/// The device towards one front end.
pub(super) struct Backend {
    device: Arc<dyn VmDevice>,
    mem: Served,
    room: Option<Arc<Room>>,
    /// For the next daemon.
    note: Option<Arc<Note>>,
    /// By queue.
    handlers: Vec<Mutex<(Box<dyn Handler>, Poller)>>,
    /// Readable when there is an event for the driver.
    raised: Arc<Kick>,
    /// The connection has ended.
    ended: AtomicBool,
    /// The connection is to be ended.
    is_over: AtomicBool,
    /// Readable then.
    over: Arc<OwnedFd>,
    /// Why the host cannot serve it any more.
    trouble: OnceLock<String>,
    past: Arc<Mutex<Past>>,
    vm: Arc<Vm>,
    /// What is being saved or restored for the front end.
    transfer: Mutex<Option<Transfer>>,
    /// Which memory this is: another number for each that is announced, an odd one while
    /// that changes.
    epoch: AtomicU64,
}

fn event() -> io::Result<OwnedFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

/// What is known of the machine, from earlier connections too.
#[derive(Default)]
struct Past {
    trace: Trace,
    /// The memory that was compared last.
    epoch: Option<u64>,
    /// It was said that this is another machine.
    is_said: bool,
    /// Since when a queue waits for another that shows which driver this is.
    unclear: Option<Instant>,
}

impl Past {
    fn of(trace: Trace) -> Self {
        Self {
            trace,
            ..Self::default()
        }
    }
}

impl Backend {
    /// `mem` is where queues find their memory.
    pub(super) fn new(vm: &Arc<Vm>, mem: Memory) -> io::Result<Self> {
        let (device, earlier) = (vm.device().clone(), vm.trace());
        let queues = (0..).take(device.queue_sizes().len());
        Ok(Self {
            mem: Served::new(mem, device.memory_lost().clone()),
            room: vm.room(),
            note: vm.note(),
            handlers: queues
                .map(|queue| (device.clone().handler(queue), Poller::new(vm.poll())))
                .map(Mutex::new)
                .collect(),
            device,
            raised: Arc::new(Kick::new(event()?)?),
            ended: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            over: Arc::new(event()?),
            trouble: OnceLock::new(),
            past: Arc::new(Mutex::new(Past::of(earlier.unwrap_or_default()))),
            vm: vm.clone(),
            transfer: Mutex::new(None),
            epoch: AtomicU64::new(0),
        })
    }

    /// Hears of events for the driver.
    pub(super) fn attach(&self) {
        let raised = self.raised.clone();
        self.device.set_wake(Some(Box::new(move || {
            // Fails only when it is readable already.
            let _ = rustix::io::write(&*raised, &1u64.to_ne_bytes());
        })));
    }

    /// Has whoever serves a queue end soon.
    pub(super) fn end(&self) {
        self.device.set_wake(None);
        self.ended.store(true, Ordering::Release);
        // Waits for it: what the machine has is not to change after that.
        let transfer = self.transfer().take();
        drop(transfer);
    }

    /// What becomes readable when there is an event for the driver, if `queue` is to tell it.
    pub(super) fn raised(&self, queue: usize) -> Option<&Kick> {
        let woken = self.device.woken_queue().map(usize::from);
        (woken == Some(queue)).then_some(&*self.raised)
    }

    /// Takes what has become readable, calls `taken` if that was a kick, and serves the queue;
    /// `false` if it is not to be served any more.
    pub(super) fn work(
        &self,
        queue: usize,
        vring: &Vring<Memory>,
        ready: Ready,
        taken: impl FnOnce(),
    ) -> bool {
        self.set_up_thread();
        if self.has_ended() {
            return false;
        }
        if ready.raised {
            // Fails only when it was read already.
            let _ = rustix::io::read(&*self.raised, &mut [0; 8]);
        }
        if ready.kick {
            faults::at("queue", self.vm.name());
            // An error is trouble.
            let _ = vring.read_kick();
            taken();
        }
        if self.end_if_in_trouble(queue, vring) {
            return false;
        }
        self.serve(queue, vring);
        true
    }

    /// Ends the connection if kicks of a queue cannot be had; whether it is so.
    pub(super) fn end_if_in_trouble(&self, queue: usize, vring: &Vring<Memory>) -> bool {
        let Some(error) = vring.trouble() else {
            return false;
        };
        self.fail(format!("queue {queue}: cannot read kicks: {error}"));
        true
    }

    /// The connection is there.
    pub(super) fn connected(&self) {
        self.end_if_lost();
    }

    /// Whether the connection is to be ended, whatever the front end says.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// Readable once [`Self::is_over`].
    pub(super) fn over(&self) -> &Arc<OwnedFd> {
        &self.over
    }

    /// Ends the connection because of what happened on the host.
    fn fail(&self, why: String) {
        // The first is as good as any.
        let _ = self.trouble.set(why);
        self.shut_down();
    }

    /// What happened on the host that ended the connection.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.get().map(String::as_str)
    }

    fn shut_down(&self) {
        self.is_over.store(true, Ordering::Release);
        // Fails only if it is readable already.
        let _ = rustix::io::write(&*self.over, &1u64.to_ne_bytes());
    }

    /// A VM whose memory is gone is served again when it is mapped anew.
    fn end_if_lost(&self) {
        if self.device.memory_lost().is_lost() {
            self.shut_down();
        }
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Confines the calling thread, which works on queues of this machine only, once.
    fn set_up_thread(&self) {
        thread_local! {
            static IS_SET_UP: Cell<bool> = const { Cell::new(false) };
        }
        if !IS_SET_UP.replace(true) {
            blame::take(self.note.as_ref());
            confine::enter(Role::Queue);
        }
    }

    /// Works through a queue until it is empty or the connection ends.
    fn serve(&self, queue: usize, vring: &Vring<Memory>) {
        while !self.has_ended() && self.serve_while_unwanted(queue, vring) {
            // The front end waits for the lock.
            while vring.is_wanted() {
                std::thread::yield_now();
            }
        }
        self.end_if_lost();
    }

    /// Works through a queue; `true` if it stopped early because the front end
    /// wants to change the vring.
    fn serve_while_unwanted(&self, queue: usize, vring: &Vring<Memory>) -> bool {
        let mut state = vring.get_mut();
        if !state.is_enabled() || !state.get_queue().ready() {
            return false;
        }
        let epoch = self.epoch();
        let mem = self.mem.memory();
        match self.judge(queue, state.get_queue(), &mem, epoch) {
            Verdict::Same | Verdict::Anew => {}
            Verdict::Busy | Verdict::Unclear => {
                drop(state);
                std::thread::sleep(LOOK_AGAIN);
                return true;
            }
            Verdict::Other => return false,
        }
        drop(mem);
        let Some(handler) = self.handlers.get(queue) else {
            return false;
        };
        let mut both = handler.lock().unwrap_or_else(PoisonError::into_inner);
        let (handler, poller) = &mut *both;
        let wanted = personality::serve(
            &mut **handler,
            &mut VringLane {
                backend: self,
                queue,
                vring,
                state: &mut state,
                epoch,
            },
            poller,
        );
        self.past().trace.left(queue, state.get_queue());
        wanted
    }

    fn transfer(&self) -> MutexGuard<'_, Option<Transfer>> {
        self.transfer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn past(&self) -> MutexGuard<'_, Past> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Sees to it, before a queue is worked on, that a machine which has gone back in time
    /// does not meet the pools of its future. What may be served begins to be.
    fn judge(&self, at: usize, queue: &Queue, mem: &GuestMemoryMmap, epoch: u64) -> Verdict {
        if !epoch.is_multiple_of(2) || self.epoch() != epoch {
            return Verdict::Busy;
        }
        let mut past = self.past();
        // After what is held by all queues: they would be in each other's way.
        let Some(_held) = self.vm.resting().try_hold() else {
            return Verdict::Busy;
        };
        let Past {
            trace,
            epoch: compared,
            is_said,
            unclear,
        } = &mut *past;
        let memory = (*compared != Some(epoch)).then(|| Trace::of(mem));
        let is_other = !trace.is_empty()
            && memory
                .as_ref()
                .is_some_and(|memory| !trace.is_memory_of(memory));
        let verdict = if trace.is_busy(at, epoch) {
            Verdict::Busy
        } else if is_other {
            Verdict::Other
        } else {
            trace.judge(at, Found::of(queue, mem), mem, epoch)
        };
        if verdict == Verdict::Busy {
            return verdict;
        }
        let verdict = if self.device.is_for_any_driver() {
            self.judge_driver(verdict, at, queue, trace, is_said)
        } else {
            verdict
        };
        // What gives no pages need not wait.
        let is_woken = self.device.woken_queue().map(usize::from) == Some(at);
        let waits = verdict == Verdict::Unclear && !is_woken;
        // Rather no pages than no answer.
        let is_over = waits && unclear.get_or_insert_with(Instant::now).elapsed() >= SHOWS_WITHIN;
        if (verdict == Verdict::Other || is_over) && !self.renew(trace, is_said) {
            return Verdict::Other;
        }
        if let Some(memory) = memory {
            trace.set_memory(memory);
            *compared = Some(epoch);
        }
        if waits && !is_over {
            return verdict;
        }
        if !is_woken {
            *unclear = None;
        }
        self.vm.resting().begins();
        trace.begin(at, Found::as_set(queue), epoch);
        if let Some(note) = &self.note {
            note.set_used(at, queue.next_used());
        }
        if !self.take_note(trace) {
            self.fail("cannot note for the next daemon which machine this is".to_owned());
            return Verdict::Other;
        }
        Verdict::Same
    }

    /// What becomes of a queue of a disk: it has the same pages for every driver, whichever
    /// memory that brings, unless one goes on that knows others.
    fn judge_driver(
        &self,
        verdict: Verdict,
        at: usize,
        queue: &Queue,
        trace: &mut Trace,
        is_said: &mut bool,
    ) -> Verdict {
        let begins = queue.next_used() == 0;
        let misses = match verdict {
            Verdict::Other if begins => {
                trace.forget();
                Some(false)
            }
            Verdict::Other => {
                if !self.renew(trace, is_said) {
                    return Verdict::Other;
                }
                Some(true)
            }
            Verdict::Anew => Some(false),
            // It goes on, and nothing is known of what it has done.
            _ if !begins && !trace.knows(at) => Some(true),
            _ if !trace.was_served() => Some(false),
            _ => None,
        };
        if let Some(misses) = misses {
            if misses && !trace.misses_pages() {
                log::warn!(
                    "{}: its driver goes on with a disk whose pages are gone: it gets errors \
                     where it reads what it has not written since",
                    self.vm.name()
                );
            }
            trace.set_misses_pages(misses);
            self.device.set_misses_pages(misses);
        }
        Verdict::Same
    }

    /// Notes for the next daemon what has changed; whether it could.
    fn take_note(&self, trace: &mut Trace) -> bool {
        let has_changed = trace.take_changed();
        let note = self.note.as_ref().filter(|_| has_changed);
        note.is_none_or(|note| note.set_trace(trace))
    }

    /// This is another machine: has it begin without pools; `false` if it cannot be served.
    fn renew(&self, trace: &mut Trace, is_said: &mut bool) -> bool {
        let pages = match crate::vm::renew(&*self.device, self.note.as_deref()) {
            Ok(pages) => pages,
            Err(error) => {
                self.fail(format!("{error:#}"));
                return false;
            }
        };
        trace.forget();
        // A guest could have this written again and again.
        if !std::mem::replace(is_said, true) {
            log::warn!(
                "{}: this is another machine, or one that was restored; freed {pages} pages of the \
                 one before it",
                self.vm.name()
            );
        }
        true
    }

    /// What is known of the machine, for its next front end.
    pub(super) fn trace(&self) -> Option<Trace> {
        let mut trace = std::mem::take(&mut self.past().trace);
        trace.leave();
        (!trace.is_empty()).then_some(trace)
    }
}

impl Backend {
    /// Has a thread save the machine to what the front end reads from, or restore it from there.
    fn begin_transfer(
        &self,
        direction: VhostTransferStateDirection,
        phase: VhostTransferStatePhase,
        end: File,
    ) -> Result<(), String> {
        if phase != VhostTransferStatePhase::STOPPED {
            return Err("the state of a device can be transferred while it is stopped only".into());
        }
        let mut place = self.transfer();
        if place.as_ref().is_some_and(|earlier| !earlier.is_over()) {
            return Err("a state is being transferred already".into());
        }
        *place = None;
        let still = self.vm.stands_still()?;
        let transfer = match direction {
            VhostTransferStateDirection::SAVE => Transfer::save(&self.vm, end.into()),
            VhostTransferStateDirection::LOAD => {
                let (past, vm) = (self.past.clone(), self.vm.clone());
                // Whoever works on a queue notes that before, with this lock.
                let keep = move |trace: Trace| {
                    let mut past = past.lock().unwrap_or_else(PoisonError::into_inner);
                    if vm
                        .stands_still()
                        .is_ok_and(|now| now.number == still.number)
                    {
                        vm.resting().rests(trace.clone());
                        *past = Past::of(trace);
                        return Ok(());
                    }
                    let why = "a queue was used before all of the state was loaded";
                    Err(Refusal::Conflict(why.into()))
                };
                Transfer::load(&self.vm, end.into(), keep)
            }
        };
        *place = Some(transfer?);
        Ok(())
    }
}

/// A vring whose lock is held.
struct VringLane<'a> {
    backend: &'a Backend,
    /// Its number.
    queue: usize,
    vring: &'a Vring<Memory>,
    state: &'a mut VringState<Memory>,
    /// The memory that its rings were compared in.
    epoch: u64,
}

impl Lane for VringLane<'_> {
    fn with<R>(&mut self, with: impl FnOnce(&GuestMemoryMmap, &mut Queue, GoOn<'_>) -> R) -> R {
        // Anew for each request: memory may have been plugged in meanwhile.
        let mem = self.backend.mem.memory();
        let mut go_on = || !self.vring.is_wanted() && !self.backend.has_ended();
        with(&mem, self.state.get_queue_mut(), &mut go_on)
    }

    fn step(&mut self, handler: &mut dyn Handler) -> Step {
        let mem = self.backend.mem.memory();
        if self.backend.epoch() != self.epoch {
            // To be compared first.
            return Step::Stopped;
        }
        let (backend, epoch) = (self.backend, self.epoch);
        let mut go_on =
            || !self.vring.is_wanted() && !backend.has_ended() && backend.epoch() == epoch;
        let step = handler.step(&mem, self.state.get_queue_mut(), &mut go_on);
        if let Some(note) = &backend.note {
            note.set_used(self.queue, self.state.get_queue().next_used());
        }
        step
    }

    fn begin(&mut self) {
        if let Some(room) = &self.backend.room {
            room.count();
        }
    }

    fn signal(&mut self) {
        // Fails only when the front end is gone.
        let _ = self.state.signal_used_queue();
    }

    fn is_wanted(&mut self) -> bool {
        self.vring.is_wanted() || self.backend.has_ended() || self.backend.epoch() != self.epoch
    }
}

impl VhostUserBackend for Backend {
    type Bitmap = ();
    type Vring = Vring<Memory>;

    fn num_queues(&self) -> usize {
        self.handlers.len()
    }

    fn max_queue_size(&self) -> usize {
        let sizes = self.device.queue_sizes();
        sizes.into_iter().max().map_or(0, usize::from)
    }

    fn features(&self) -> u64 {
        // The first thing that a front end asks for, on the thread of its messages.
        blame::take(self.note.as_ref());
        faults::at("messages", self.vm.name());
        self.device.features()
            | 1 << VIRTIO_F_VERSION_1
            | 1 << VIRTIO_RING_F_INDIRECT_DESC
            | 1 << VIRTIO_RING_F_EVENT_IDX
            | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
    }

    fn acked_features(&self, features: u64) {
        self.device.negotiated(features);
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::CONFIG
            | VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS
            | VhostUserProtocolFeatures::DEVICE_STATE
    }

    fn set_event_idx(&self, _enabled: bool) {
        // The vrings know.
    }

    fn get_config(&self, offset: u32, size: u32) -> Vec<u8> {
        self.device.read_config(offset, size)
    }

    fn set_config(&self, offset: u32, buf: &[u8]) -> io::Result<()> {
        self.device.write_config(offset, buf);
        Ok(())
    }

    fn set_device_state_fd(
        &self,
        direction: VhostTransferStateDirection,
        phase: VhostTransferStatePhase,
        file: File,
    ) -> io::Result<Option<File>> {
        match self.begin_transfer(direction, phase, file) {
            Ok(()) => Ok(None),
            Err(why) => {
                // Front ends stop all queues before they ask, and Cloud Hypervisor starts none of them
                // again after a refusal; when it connects anew it does.
                self.fail(format!("{why}; the front end may connect anew"));
                Err(io::Error::other(why))
            }
        }
    }

    fn check_device_state(&self) -> io::Result<()> {
        let transfer = self.transfer().take();
        let Some(transfer) = transfer else {
            return Err(io::Error::other("no state of a device is transferred"));
        };
        transfer.outcome().map_err(io::Error::other)
    }

    fn update_memory(&self, announced: Memory) -> io::Result<()> {
        // Odd while it may be either.
        self.epoch.fetch_add(1, Ordering::AcqRel);
        let outcome = self.mem.follow(&announced);
        self.epoch.fetch_add(1, Ordering::AcqRel);
        outcome
    }

    fn stop_vring(&self, queue: u32) -> io::Result<()> {
        if let Ok(queue) = usize::try_from(queue) {
            let trace = &mut self.past().trace;
            trace.stopped(queue);
            self.take_note(trace);
            if !trace.runs() {
                self.vm.resting().rests(trace.clone());
            }
        }
        Ok(())
    }

    /// The crate has no threads here.
    fn queues_per_thread(&self) -> Vec<u64> {
        Vec::new()
    }

    fn handle_event(
        &self,
        _event: u16,
        _evset: EventSet,
        _vrings: &[Vring<Memory>],
        _thread: usize,
    ) -> io::Result<()> {
        Ok(())
    }
}
