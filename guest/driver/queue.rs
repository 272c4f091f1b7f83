// SPDX-License-Identifier: GPL-2.0

//! A request queue: the bios that wait, and the virtqueue that carries requests while a device is
//! there.

mod awaited;

pub(crate) use awaited::Awaited;

use self::awaited::Watch;
use super::{
    area::Area,
    counters::Counters,
    filter::purpose::Purpose,
    request::{
        Kind,
        Place,
        Request,
        Room,
        Stack, //
    },
    tuning, //
};
use crate::sys::{
    bio::{
        Bio,
        BioList, //
    },
    clone::Clones,
    irq_lock::{
        new_irq_lock,
        IrqLock, //
    },
    virtqueue::{
        Doorbell,
        Quiesced,
        Virtqueue, //
    },
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// What all queues share.
pub(crate) struct Shared {
    pub(crate) counters: Arc<Counters>,
    /// The area of bios that have no purpose.
    pub(crate) disk: Arc<Area>,
    pub(crate) clones: Clones<Purpose>,
}

impl Shared {
    /// Where the pages of a bio are.
    pub(crate) fn area_of(&self, bio: &Bio) -> Arc<Area> {
        let purpose = self.clones.purpose(bio);
        purpose
            .and_then(Purpose::area)
            .unwrap_or(&self.disk)
            .clone()
    }

    /// The same, as a request has it.
    fn place_of(&self, bio: &Bio) -> Place {
        Place {
            area: self.area_of(bio),
            name: self.clones.purpose(bio).and_then(Purpose::name),
        }
    }

    /// Whether a bio waits for a device that may come back. Others have a way to go on.
    pub(super) fn may_wait(&self, bio: &Bio) -> bool {
        self.clones.purpose(bio).is_none_or(Purpose::may_wait)
    }
}

/// What a queue does with bios.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// They wait for the device.
    Hold,
    /// They are sent.
    Open,
    /// They fail.
    Fail,
}

struct Inner {
    mode: Mode,
    room: Room,
    vq: Option<Virtqueue<Request>>,
    /// Requests for I/O that are not in use.
    free: Stack,
    /// Requests that go before all bios.
    ready: Stack,
    backlog: BioList,
    watch: Watch,
}

/// What came of trying to send.
#[derive(Default)]
pub(crate) struct Sent {
    doorbell: Option<Doorbell>,
    /// Something was added to the virtqueue.
    added: bool,
    /// Nothing is in flight that could lead to another try.
    stuck: bool,
}

impl Sent {
    /// Tells the device, outside of the queue's lock. Says whether to try again later.
    #[must_use]
    pub(crate) fn ring(self, counters: &Counters) -> bool {
        if let Some(doorbell) = self.doorbell {
            counters.kicks.add(1);
            doorbell.ring();
        }
        self.stuck
    }
}

/// See the module.
#[pin_data]
pub(crate) struct Queue {
    #[pin]
    inner: IrqLock<Inner>,
}

impl Queue {
    /// Without a device: bios wait.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        let requests = || {
            let mut free = Stack::new();
            for _ in 0..tuning::REQUESTS {
                free.push(Request::for_io()?);
            }
            Ok::<_, Error>(free)
        };
        try_pin_init!(Self {
            inner <- new_irq_lock!(Inner {
                mode: Mode::Hold,
                room: Room { run: 0, segments: 0, removes: false },
                vq: None,
                free: requests()?,
                ready: Stack::new(),
                backlog: BioList::new(),
                watch: Watch::default(),
            }, "tmem::Queue"),
        }? Error)
    }

    /// Takes bios. Gives back those that are to fail. Whoever waits for the others looks for their
    /// answers for at most `look` nanoseconds, unless that is 0.
    pub(crate) fn enqueue(
        &self,
        bios: BioList,
        shared: &Shared,
        look: u64,
    ) -> (Sent, BioList, Option<Awaited>) {
        let mut inner = self.inner.lock();
        let (waiting, failed) = match inner.mode {
            Mode::Fail => return (Sent::default(), bios, None),
            Mode::Hold => divide(bios, |bio| shared.may_wait(bio)),
            Mode::Open => (bios, BioList::new()),
        };
        shared.counters.backlog.add(waiting.pages());
        inner.backlog.append(waiting);
        let mut sent = inner.fill(shared);
        let may_look = look > 0 && sent.added && inner.backlog.is_empty();
        // Before the device learns of them.
        let awaited = may_look.then(|| inner.start_looking(look)).flatten();
        inner.publish(&mut sent);
        (sent, failed, awaited)
    }

    /// Takes the bios that wait, but should not.
    pub(crate) fn take_impatient(&self, shared: &Shared) -> BioList {
        let mut inner = self.inner.lock();
        if inner.mode != Mode::Hold {
            return BioList::new();
        }
        let all = inner.take_backlog(shared);
        let (waiting, impatient) = divide(all, |bio| shared.may_wait(bio));
        shared.counters.backlog.add(waiting.pages());
        inner.backlog = waiting;
        impatient
    }

    /// Takes the bios of filters that wait and have more than `most` pages.
    pub(crate) fn take_oversized(&self, most: u32, shared: &Shared) -> BioList {
        let mut inner = self.inner.lock();
        let all = inner.take_backlog(shared);
        let (oversized, others) = divide(all, |bio| {
            // The swap disk's limits are those that it was made with: see `Manager::resume`.
            shared.clones.purpose(bio).is_some()
                && bio.pages().is_some_and(|pages| pages.count > most)
        });
        shared.counters.backlog.add(others.pages());
        inner.backlog = others;
        oversized
    }

    /// Sends a request before all bios. Gives it back when there is no device.
    pub(crate) fn enqueue_ready(
        &self,
        request: KBox<Request>,
        shared: &Shared,
    ) -> Result<Sent, KBox<Request>> {
        let mut inner = self.inner.lock();
        if !inner.is_attached() {
            return Err(request);
        }
        inner.ready.push(request);
        Ok(inner.send(shared))
    }

    /// Sends what waits.
    pub(crate) fn send(&self, shared: &Shared) -> Sent {
        self.inner.lock().send(shared)
    }

    /// Takes the requests that the device has used.
    pub(crate) fn take_used(&self) -> Stack {
        self.inner.lock().take_used()
    }

    /// Takes back requests for I/O whose bios have ended, and sends what waits.
    pub(crate) fn recycle(&self, mut requests: Stack, shared: &Shared) -> Sent {
        let mut inner = self.inner.lock();
        while let Some(request) = requests.pop() {
            inner.free.push(request);
        }
        inner.send(shared)
    }

    /// Requests that the device has not answered.
    pub(crate) fn in_flight(&self) -> usize {
        self.inner.lock().vq.as_ref().map_or(0, |vq| vq.in_flight())
    }

    /// Parts of memory that fit into a request, while a device is there.
    pub(crate) fn segments(&self) -> Option<usize> {
        let inner = self.inner.lock();
        inner.is_attached().then_some(inner.room.segments)
    }

    /// A device is there. Bios wait until the mode is [`Mode::Open`].
    pub(crate) fn attach(&self, vq: Virtqueue<Request>, room: Room) {
        let mut inner = self.inner.lock();
        inner.room = room;
        inner.vq = Some(vq);
    }

    /// Sets what becomes of bios. In [`Mode::Fail`] gives those that waited.
    pub(crate) fn set_mode(&self, mode: Mode, shared: &Shared) -> BioList {
        let mut inner = self.inner.lock();
        inner.mode = mode;
        if mode == Mode::Fail {
            inner.take_backlog(shared)
        } else {
            BioList::new()
        }
    }

    /// Fails bios from here on if they wait, and gives those that waited.
    pub(crate) fn fail_if_held(&self, shared: &Shared) -> BioList {
        let mut inner = self.inner.lock();
        if inner.mode == Mode::Hold {
            inner.mode = Mode::Fail;
            return inner.take_backlog(shared);
        }
        BioList::new()
    }

    /// Takes the bios of the swap disk that wait.
    pub(crate) fn take_of_disk(&self, shared: &Shared) -> BioList {
        let mut inner = self.inner.lock();
        let all = inner.take_backlog(shared);
        let (disk, others) = divide(all, |bio| shared.clones.purpose(bio).is_none());
        shared.counters.backlog.add(others.pages());
        inner.backlog = others;
        disk
    }

    /// Takes the bios that wait, for another queue.
    pub(crate) fn take_backlog(&self, shared: &Shared) -> BioList {
        self.inner.lock().take_backlog(shared)
    }

    /// Lets bios wait, even when others would fail.
    pub(crate) fn give_backlog(&self, bios: BioList, shared: &Shared) {
        let mut inner = self.inner.lock();
        shared.counters.backlog.add(bios.pages());
        inner.backlog.append(bios);
    }

    /// Stops sending: from here on until [`Self::detach`] nothing is added to the virtqueue.
    pub(crate) fn stop(&self) {
        let mut inner = self.inner.lock();
        inner.mode = Mode::Hold;
        inner.room.run = 0;
    }

    /// The device is gone. Bios of requests that it has not answered wait again. Gives the requests
    /// that carried none.
    pub(crate) fn detach(&self, quiesced: &Quiesced, shared: &Shared) -> Stack {
        let (vq, mut orphans) = {
            let mut inner = self.inner.lock();
            let ready = core::mem::replace(&mut inner.ready, Stack::new());
            inner.watch.forget();
            (inner.vq.take(), ready)
        };
        let Some(mut vq) = vq else {
            return orphans;
        };
        while let Some(mut request) = vq.take_unused(quiesced) {
            if matches!(request.kind(), Kind::Io(_)) {
                let bios = request.unload();
                let mut inner = self.inner.lock();
                shared.counters.backlog.add(bios.pages());
                inner.backlog.append(bios);
                inner.free.push(request);
            } else {
                orphans.push(request);
            }
        }
        orphans
    }
}

impl Inner {
    /// Whether requests may be sent: there is a device, and it is not about to go.
    fn is_attached(&self) -> bool {
        self.vq.is_some() && self.room.run > 0
    }

    fn take_backlog(&mut self, shared: &Shared) -> BioList {
        shared.counters.backlog.sub(self.backlog.pages());
        core::mem::replace(&mut self.backlog, BioList::new())
    }

    /// Takes the requests that the device has used, and has it interrupt for the next, unless somebody
    /// looks.
    fn take_used(&mut self) -> Stack {
        let mut used = Stack::new();
        loop {
            if let Some(vq) = self.vq.as_mut() {
                vq.disable_interrupts();
            }
            self.drain_into(&mut used);
            let is_done = match self.vq.as_mut() {
                Some(vq) if !self.watch.is_on() => vq.enable_interrupts(),
                _ => true,
            };
            if is_done {
                return used;
            }
        }
    }

    fn send(&mut self, shared: &Shared) -> Sent {
        let mut sent = self.fill(shared);
        self.publish(&mut sent);
        sent
    }

    /// Shows the device what was added.
    fn publish(&mut self, sent: &mut Sent) {
        if let (Some(vq), true) = (self.vq.as_mut(), sent.added) {
            sent.doorbell = vq.publish();
        }
    }

    /// Adds what waits to the virtqueue, as far as it has room.
    fn fill(&mut self, shared: &Shared) -> Sent {
        let attached = self.is_attached();
        let Self {
            mode,
            room,
            vq,
            free,
            ready,
            backlog,
            watch,
        } = self;
        let (Some(vq), true) = (vq.as_mut(), attached) else {
            return Sent::default();
        };
        let mut added = false;
        let mut full = false;
        while let Some(request) = ready.pop() {
            if let Err(request) = vq.add(request) {
                ready.push(request);
                full = true;
                break;
            }
            added = true;
        }
        while *mode == Mode::Open && !full && !backlog.is_empty() {
            let Some(mut request) = free.pop() else {
                break;
            };
            let before = backlog.pages();
            request.load(backlog, *room, &|bio: &Bio| shared.place_of(bio));
            let pages = request.pages().count;
            match vq.add(request) {
                Ok(()) => {
                    added = true;
                    watch.sent();
                    shared.counters.requests.add(1);
                    shared.counters.request_pages.add(u64::from(pages));
                    shared.counters.backlog.sub(before - backlog.pages());
                }
                Err(mut request) => {
                    let mut bios = request.unload();
                    bios.append(core::mem::replace(backlog, BioList::new()));
                    *backlog = bios;
                    free.push(request);
                    full = true;
                }
            }
        }
        Sent {
            doorbell: None,
            added,
            stuck: full && vq.in_flight() == 0,
        }
    }
}

/// Divides bios into those that `are` and those that are not.
pub(crate) fn divide(mut bios: BioList, are: impl Fn(&Bio) -> bool) -> (BioList, BioList) {
    let (mut those, mut others) = (BioList::new(), BioList::new());
    while let Some(bio) = bios.pop() {
        if are(&bio) {
            those.push(bio);
        } else {
            others.push(bio);
        }
    }
    (those, others)
}

/// A list of one bio.
pub(crate) fn one(bio: Bio) -> BioList {
    let mut list = BioList::new();
    list.push(bio);
    list
}
