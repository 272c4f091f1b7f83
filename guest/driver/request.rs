// SPDX-License-Identifier: GPL-2.0

//! Requests: what the wire format says, around the memory that carries it.

use super::{
    area::Area,
    tuning, //
};
use crate::sys::{
    bio::{
        Bio,
        BioList,
        Op as BioOp,
        Pages,
        Started, //
    },
    chain::{
        Chain,
        Data, //
    },
    virtqueue::Carrier, //
};
use crate::wire::{
    AnswerHeader,
    Extent,
    Limits,
    MemoryRange,
    ObjectId,
    Op,
    PageHash,
    PoolSpec,
    RequestFlags,
    RequestHeader,
    Status, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// What answers are filled with before the device writes them: no status that the device has.
const UNWRITTEN: u8 = 0x7f;

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing: it is free.
    Idle,
    /// Moves or removes the pages of bios.
    Io(Op),
    /// Removes freed pages.
    Flush,
    /// Gives memory back.
    Relinquish,
    /// Is awaited by whoever sent it.
    Control(Control),
}

/// What is asked for beside pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Control {
    /// Make a pool.
    CreatePool(u32, PoolSpec),
    /// Remove a pool with all its pages.
    DestroyPool(u32),
    /// Remove the pages of an object.
    FlushObject(u32, ObjectId),
    /// Tell the limits.
    GetLimits,
}

/// A request, and room for its answer.
pub(crate) struct Request {
    chain: Chain,
    kind: Kind,
    /// Where its pages are. None for a request that is free, or about a pool as a whole.
    area: Option<Arc<Area>>,
    pages: Pages,
    /// What it gets is removed.
    removes: bool,
    started: Started,
    next: Option<KBox<Request>>,
}

impl Carrier for Request {
    fn chain_mut(&mut self) -> &mut Chain {
        &mut self.chain
    }
}

/// Where the pages of a bio are.
pub(crate) struct Place {
    pub(crate) area: Arc<Area>,
    /// What the device calls the one page, if not by its place.
    pub(crate) name: Option<PageHash>,
}

/// How long requests may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// Pages.
    pub(crate) run: u32,
    /// Parts of memory.
    pub(crate) segments: usize,
    /// What is got may be removed.
    pub(crate) removes: bool,
}

impl Request {
    fn new(segments: usize, payload: usize, answer: usize) -> Result<KBox<Self>> {
        let request = Self {
            chain: Chain::new(segments, payload, AnswerHeader::SIZE + answer)?,
            kind: Kind::Idle,
            area: None,
            pages: Pages { index: 0, count: 0 },
            removes: false,
            started: Started::default(),
            next: None,
        };
        Ok(KBox::new(request, GFP_KERNEL)?)
    }

    /// A request for I/O.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn for_io() -> Result<KBox<Self>> {
        Self::new(tuning::SEGMENTS, 0, tuning::RUN as usize)
    }

    /// A request that flushes.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn for_flush() -> Result<KBox<Self>> {
        Self::new(0, tuning::EXTENTS * Extent::SIZE, 0)
    }

    /// A request that gives memory back.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn for_ranges() -> Result<KBox<Self>> {
        Self::new(0, tuning::RANGES * MemoryRange::SIZE, tuning::RANGES)
    }

    /// A request that is awaited.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn for_control() -> Result<KBox<Self>> {
        Self::new(0, PoolSpec::SIZE, Limits::SIZE)
    }

    /// What the request does.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether it carries bios.
    pub(crate) fn is_io(&self) -> bool {
        matches!(self.kind, Kind::Io(_))
    }

    /// The pages of its bios.
    pub(crate) fn pages(&self) -> Pages {
        self.pages
    }

    /// Whether what it got was removed.
    pub(crate) fn removes(&self) -> bool {
        self.removes
    }

    /// Where its pages are.
    pub(crate) fn area(&self) -> Option<&Arc<Area>> {
        self.area.as_ref()
    }

    fn set_header(&mut self, op: Op, pages: Pages) {
        let (pool, object) = match &self.area {
            Some(area) => (area.pool, area.object),
            None => (0, ObjectId::default()),
        };
        self.set_header_for(op, pool, object, pages);
    }

    fn set_header_for(&mut self, op: Op, pool: u32, object: ObjectId, pages: Pages) {
        let flags = if op == Op::Get && self.removes {
            RequestFlags::REMOVE
        } else {
            RequestFlags::default()
        };
        let header = RequestHeader {
            op: op as u16,
            flags,
            pool,
            object,
            index: pages.index,
            count: pages.count,
        };
        self.chain.set_header(&header.encode());
    }

    fn expect(&mut self, bytes: usize) {
        self.chain
            .expect_answer(AnswerHeader::SIZE + bytes, UNWRITTEN);
    }

    /// Takes from the head of `bios` what makes one run; of pages with names, that is one page. `place_of`
    /// tells where a bio's pages are.
    pub(crate) fn load(
        &mut self,
        bios: &mut BioList,
        room: Room,
        place_of: &impl Fn(&Bio) -> Place,
    ) {
        let Some(first) = bios.pop() else {
            return;
        };
        let op = first.op();
        let wire_op = match op {
            BioOp::Read => Op::Get,
            BioOp::Write => Op::Put,
            BioOp::Discard | BioOp::Other => Op::Flush,
        };
        self.chain.set_data(match wire_op {
            Op::Get => Data::FromDevice,
            Op::Put => Data::ToDevice,
            _ => Data::None,
        });
        let mut run = first.pages().unwrap_or(Pages { index: 0, count: 0 });
        let Place { area, name } = place_of(&first);
        self.start(&area, &first);
        self.chain.push_bio(first);
        if wire_op != Op::Flush && name.is_none() {
            while let Some(bio) = Self::next_in_run(bios, op, run, &self.chain, room, |bio| {
                Arc::ptr_eq(&place_of(bio).area, &area)
            }) {
                run.count += bio.pages().map_or(0, |pages| pages.count);
                self.start(&area, &bio);
                self.chain.push_bio(bio);
            }
        }
        self.removes = room.removes && area.is_exclusive;
        self.area = Some(area);
        self.kind = Kind::Io(wire_op);
        self.pages = run;
        match name {
            None => self.set_header(wire_op, run),
            // What is known of the page goes by its place on the disk all the same.
            Some(hash) => self.set_header_for(
                wire_op,
                self.area.as_ref().map_or(0, |area| area.pool),
                hash.object(),
                Pages {
                    index: hash.index(),
                    count: run.count,
                },
            ),
        }
        self.expect(if wire_op == Op::Flush {
            0
        } else {
            run.count as usize
        });
    }

    /// Starts the accounting of a bio, unless it is one of the module's own.
    fn start(&mut self, area: &Area, bio: &Bio) {
        if area.is_disk() {
            self.started = bio.start_accounting();
        }
    }

    /// Ends the accounting of a bio.
    pub(crate) fn end_accounting(&self, bio: &Bio) {
        if self.area.as_ref().is_some_and(|area| area.is_disk()) {
            bio.end_accounting(self.started);
        }
    }

    fn next_in_run(
        bios: &mut BioList,
        op: BioOp,
        run: Pages,
        chain: &Chain,
        room: Room,
        is_of_area: impl FnOnce(&Bio) -> bool,
    ) -> Option<Bio> {
        let bio = bios.front()?;
        let pages = bio.pages()?;
        let fits = bio.op() == op
            && pages.index == run.index + u64::from(run.count)
            && pages.count <= room.run.saturating_sub(run.count)
            && chain.has_room_for(bio, room.segments)
            && is_of_area(bio);
        if fits {
            bios.pop()
        } else {
            None
        }
    }

    /// Takes the bios back, to be sent again.
    pub(crate) fn unload(&mut self) -> BioList {
        let bios = self.chain.take_bios();
        for bio in bios.iter() {
            self.end_accounting(bio);
        }
        self.clear();
        bios
    }

    /// Takes the bios, to be ended.
    pub(crate) fn take_bios(&mut self) -> BioList {
        self.kind = Kind::Idle;
        self.chain.take_bios()
    }

    /// Makes the request a flush of `extents` of `area`, at most [`tuning::EXTENTS`].
    pub(crate) fn set_extents(&mut self, area: &Arc<Area>, extents: impl Iterator<Item = Extent>) {
        self.area = Some(area.clone());
        self.chain.clear_payload();
        let mut run = Pages { index: 0, count: 0 };
        for extent in extents.take(tuning::EXTENTS) {
            // Fits: the room is for as many.
            let _ = self.chain.push_payload(&extent.encode());
            run.count += 1;
        }
        self.kind = Kind::Flush;
        self.set_header(Op::FlushExtents, run);
        self.expect(0);
    }

    /// Makes the request a flush of one extent, for a device without `FLUSH_EXTENTS`.
    pub(crate) fn set_extent(&mut self, area: &Arc<Area>, extent: Extent) {
        self.area = Some(area.clone());
        self.chain.clear_payload();
        self.kind = Kind::Flush;
        self.pages = Pages {
            index: extent.index,
            count: extent.count,
        };
        self.set_header(Op::Flush, self.pages);
        self.expect(0);
    }

    /// The extents of a flush, whichever way it says them.
    pub(crate) fn extents(&self) -> impl Iterator<Item = Extent> + '_ {
        let payload = self.chain.payload();
        let single = payload.is_empty().then_some(Extent {
            index: self.pages.index,
            count: self.pages.count,
        });
        let listed = payload
            .chunks_exact(Extent::SIZE)
            .filter_map(|bytes| Some(Extent::decode(bytes.try_into().ok()?)));
        // Not as a method: the kernel's prelude has another `chain`.
        Iterator::chain(listed, single)
    }

    /// Pages in the flush.
    pub(crate) fn pages_to_flush(&self) -> u32 {
        self.extents()
            .fold(0, |sum, extent| sum.saturating_add(extent.count))
    }

    /// Makes the request one that gives `ranges` back, at most [`tuning::RANGES`].
    pub(crate) fn set_memory(&mut self, ranges: impl Iterator<Item = MemoryRange>) {
        self.chain.clear_payload();
        let mut run = Pages { index: 0, count: 0 };
        for range in ranges.take(tuning::RANGES) {
            // Fits: the room is for as many.
            let _ = self.chain.push_payload(&range.encode());
            run.count += 1;
        }
        self.kind = Kind::Relinquish;
        self.pages = run;
        self.set_header(Op::Relinquish, run);
        self.expect(run.count as usize);
    }

    /// The ranges that it gives back, with what has become of each.
    pub(crate) fn memory(&self) -> impl Iterator<Item = (MemoryRange, Status)> + '_ {
        let ranges = self.chain.payload().chunks_exact(MemoryRange::SIZE);
        let statuses = (0..).map(|at| self.page_status(at));
        let ranges = ranges.filter_map(|bytes| Some(MemoryRange::decode(bytes.try_into().ok()?)));
        ranges.zip(statuses)
    }

    /// Forgets what the request was for.
    pub(crate) fn clear(&mut self) {
        self.chain.clear_payload();
        self.area = None;
        self.kind = Kind::Idle;
        self.pages = Pages { index: 0, count: 0 };
    }

    /// Makes the request one that is awaited.
    pub(crate) fn set_control(&mut self, control: Control) {
        self.chain.clear_payload();
        if let Control::CreatePool(_, spec) = control {
            // Fits: the room is for this.
            let _ = self.chain.push_payload(&spec.encode());
        }
        self.kind = Kind::Control(control);
        let (op, pool, object, answer) = match control {
            Control::CreatePool(pool, _) => (Op::CreatePool, pool, ObjectId::default(), 0),
            Control::DestroyPool(pool) => (Op::DestroyPool, pool, ObjectId::default(), 0),
            Control::FlushObject(pool, object) => (Op::FlushObject, pool, object, 0),
            Control::GetLimits => (Op::GetLimits, 0, ObjectId::default(), Limits::SIZE),
        };
        self.set_header_for(op, pool, object, Pages { index: 0, count: 0 });
        self.expect(answer);
    }

    /// The answer as a whole.
    pub(crate) fn answer(&self) -> AnswerHeader {
        let mut header = [UNWRITTEN; AnswerHeader::SIZE];
        if let Some(bytes) = self.chain.answer().get(..AnswerHeader::SIZE) {
            header.copy_from_slice(bytes);
        }
        AnswerHeader::decode(&header)
    }

    /// Whether the device says that it does not have a pool that the driver has made, or that a share
    /// is not this machine's any more.
    pub(crate) fn lacks_pool(&self) -> bool {
        let status = self.answer().status;
        let is_shared = self.area.as_ref().is_some_and(|area| area.is_shared());
        let is_lack =
            |status: Status| status == Status::NO_POOL || (is_shared && status == Status::NO_SHARE);
        match self.kind {
            Kind::Io(Op::Put) if status.is_ok() => {
                (0..self.pages.count).any(|at| is_lack(self.page_status(at).code()))
            }
            Kind::Io(_) | Kind::Flush => is_lack(status),
            // Of a pool that there need not be.
            Kind::Control(_) | Kind::Relinquish | Kind::Idle => false,
        }
    }

    /// The status of the page, or range, at `offset` in the run.
    pub(crate) fn page_status(&self, offset: u32) -> Status {
        let at = AnswerHeader::SIZE + offset as usize;
        Status(self.chain.answer().get(at).copied().unwrap_or(UNWRITTEN))
    }

    /// The limits in the answer.
    pub(crate) fn limits(&self) -> Limits {
        let mut limits = [0; Limits::SIZE];
        if let Some(bytes) = self.chain.answer().get(AnswerHeader::SIZE..) {
            if bytes.len() == limits.len() {
                limits.copy_from_slice(bytes);
            }
        }
        Limits::decode(&limits)
    }
}

/// Requests, last in, first out.
pub(crate) struct Stack(Option<KBox<Request>>);

impl Stack {
    /// Without requests.
    pub(crate) const fn new() -> Self {
        Self(None)
    }

    /// Puts a request on top.
    pub(crate) fn push(&mut self, mut request: KBox<Request>) {
        request.next = self.0.take();
        self.0 = Some(request);
    }

    /// Takes the request on top.
    pub(crate) fn pop(&mut self) -> Option<KBox<Request>> {
        let mut request = self.0.take()?;
        self.0 = request.next.take();
        Some(request)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // One by one: dropping the first would recurse.
        while self.pop().is_some() {}
    }
}
