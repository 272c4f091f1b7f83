// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! From a chain's bytes to its answer: parse, run against the store, answer.

use std::sync::Arc;

use tmem_store::{
    Created, Found, Get, ObjectId, PAGE_SIZE, Page, Pool, PoolConfig, PoolError, Put, Refused,
};

use super::Device;
use super::config::{MAX_EXTENTS, MAX_RUN};
use super::fault::Fault;
use super::frames::{Frames, Unreleased};
use super::latency::{Served, Work};
use super::parse::{Entries, Request, Run, WantedShare};
use super::shares::SharedPool;
use super::verifier::Verifier;
use tmem_wire::{AnswerHeader, Extent, Limits, MemoryRange, PageHash, PoolKind, Status};
use virtio_serve::{GoOn, Sink, Source};

/// Bytes of an answer header, as a used length.
const HEADER_LEN: u32 = 16;
const _: () = assert!(HEADER_LEN as usize == AnswerHeader::SIZE);

/// Runs requests, one at a time. Each queue has its own, so that nothing has
/// to be allocated or shared while a request runs.
#[derive(Debug)]
pub struct Executor {
    /// A page, or as many extents or ranges, on their way.
    page: Box<Page>,
    /// Statuses of the pages or ranges of the request that runs.
    statuses: [Status; MAX_RUN as usize],
    /// The last request, if its time is of interest.
    served: Option<Served>,
}

/// A request that had its effect.
struct Done {
    status: Status,
    /// [`AnswerHeader::pages`].
    pages: u64,
    /// Page statuses to be written.
    statuses: u32,
    /// Bytes after the page statuses that count as written.
    payload: u64,
}

impl Done {
    fn ok(pages: u64) -> Self {
        Self {
            status: Status::OK,
            pages,
            statuses: 0,
            payload: 0,
        }
    }
}

/// Why a request has no effect to answer.
enum Undone {
    /// The driver's mistake.
    Fault(Fault),
    /// It was stopped before its end, and is to be run again.
    Stopped,
}

impl From<Fault> for Undone {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl Default for Executor {
    fn default() -> Self {
        Self {
            page: Box::new([0; PAGE_SIZE]),
            statuses: [Status::OK; MAX_RUN as usize],
            served: None,
        }
    }
}

impl Executor {
    /// Runs the request in `source`, of a VM whose memory is `frames`, and writes
    /// the answer to `sink`; returns how many bytes of it count as written, 0 if no
    /// answer could be given. `None`: `go_on` stopped it, nothing was answered, and it
    /// is to be run again; what it had done by then does no harm.
    pub fn run<S: Sink>(
        &mut self,
        device: &Device,
        frames: &impl Frames,
        source: &mut impl Source,
        sink: S,
        go_on: GoOn<'_>,
    ) -> Option<u32> {
        self.answer(device, sink, |executor, sink| {
            let request = Request::parse(source)?;
            device.metrics.request(request.op());
            if let Request::Relinquish { count } = request {
                return Ok(executor.relinquish(device, frames, count, source, sink)?);
            }
            let _using = device.frames_in_use.shared();
            executor.execute(device, frames, request, source, sink, go_on)
        })
    }

    /// What the last request was, once; `None` if its time is of no interest.
    pub fn served(&mut self) -> Option<Served> {
        self.served.take()
    }

    /// Answers a chain that is malformed itself, if there is room for it.
    pub fn refuse<S: Sink>(device: &Device, fault: Fault, mut sink: S) -> u32 {
        device.metrics.fault(fault);
        let header = AnswerHeader::SIZE as u64;
        match fault.status() {
            Some(status) if sink.is_mapped(header) => {
                write_header(device, &mut sink, status, 0).unwrap_or(0)
            }
            _ => 0,
        }
    }

    /// Writes the answer to what `run` does. `run` gets what is writable after
    /// the answer header and leaves the page statuses in the executor.
    fn answer<S: Sink>(
        &mut self,
        device: &Device,
        mut sink: S,
        run: impl FnOnce(&mut Self, &mut S) -> Result<Done, Undone>,
    ) -> Option<u32> {
        let header = AnswerHeader::SIZE as u64;
        if sink.remaining() < header {
            device.metrics.fault(Fault::AnswerMissing);
            return Some(0);
        }
        if !sink.is_mapped(header) {
            device.metrics.fault(Fault::AnswerUnmapped);
            return Some(0);
        }
        let mut head = sink.split_off_front(header);
        let mut rest_sink = sink;
        let done = match run(self, &mut rest_sink) {
            Ok(done) => done,
            Err(Undone::Stopped) => return None,
            Err(Undone::Fault(fault)) => {
                device.metrics.fault(fault);
                let Some(status) = fault.status() else {
                    return Some(0);
                };
                Done {
                    status,
                    ..Done::ok(0)
                }
            }
        };
        match write_header(device, &mut head, done.status, done.pages) {
            Ok(len) => {
                let more = u64::from(done.statuses) + done.payload;
                Some(len.saturating_add(u32::try_from(more).unwrap_or(u32::MAX)))
            }
            Err(fault) => {
                device.metrics.fault(fault);
                Some(0)
            }
        }
    }

    fn execute<S: Sink>(
        &mut self,
        device: &Device,
        frames: &impl Frames,
        request: Request,
        source: &mut impl Source,
        sink: &mut S,
        go_on: GoOn<'_>,
    ) -> Result<Done, Undone> {
        match request {
            Request::CreatePool { pool, kind, share } => Ok(match share {
                Some(share) => open_share(device, pool, share)?,
                None => create_pool(device, pool, kind)?,
            }),
            Request::DestroyPool { pool } => destroy_pool(device, pool, go_on),
            Request::Put(run) => Ok(self.put(device, &run, source, sink)?),
            Request::Get { run, remove } => self.get(device, &run, remove, sink, go_on),
            Request::Flush(run) => {
                let more = u64::from(run.count.saturating_sub(1));
                let ranges = &mut [(run.index, run.index.saturating_add(more))];
                self.flush(device, Work::Flush, run.pool, &run.object, ranges, go_on)
            }
            Request::FlushObject { pool, object } => {
                let all = &mut [(0, u64::MAX)];
                self.flush(device, Work::FlushObject, pool, &object, all, go_on)
            }
            Request::FlushExtents {
                pool,
                object,
                count,
            } => {
                let extents = Entries::<Extent>::read(source, count, self.page.as_mut_slice())?;
                let mut ranges = [(0, 0); MAX_EXTENTS as usize];
                for (range, extent) in ranges.iter_mut().zip(extents.iter()) {
                    // The extent was judged: it has pages, and its last index is below 2^64.
                    let more = u64::from(extent.count.saturating_sub(1));
                    *range = (extent.index, extent.index.saturating_add(more));
                }
                let ranges = ranges.get_mut(..count as usize).ok_or(Fault::TooLong)?;
                self.flush(device, Work::FlushExtents, pool, &object, ranges, go_on)
            }
            // Was run before.
            Request::Relinquish { .. } => Err(Fault::UnknownOp.into()),
            Request::GetLimits => {
                room(sink, Limits::SIZE as u64)?;
                let limits = device.limits(frames).encode();
                sink.write(&limits).map_err(|_| Fault::DataUnmapped)?;
                Ok(Done {
                    payload: Limits::SIZE as u64,
                    ..Done::ok(0)
                })
            }
        }
    }

    fn relinquish<S: Sink>(
        &mut self,
        device: &Device,
        frames: &impl Frames,
        count: u32,
        source: &mut impl Source,
        sink: &mut S,
    ) -> Result<Done, Fault> {
        status_room(sink, count)?;
        let ranges = Entries::<MemoryRange>::read(source, count, self.page.as_mut_slice())?;
        let mut bytes = 0;
        for (range, slot) in ranges.iter().zip(&mut self.statuses) {
            *slot = release(device, frames, &range);
            device.metrics.range(*slot, range.bytes);
            if slot.is_ok() {
                bytes += range.bytes;
            }
        }
        device.watch_memory(frames);
        self.write_statuses(sink, count)?;
        Ok(Done {
            statuses: count,
            ..Done::ok(bytes / PAGE_SIZE as u64)
        })
    }

    fn put<S: Sink>(
        &mut self,
        device: &Device,
        run: &Run,
        source: &mut impl Source,
        sink: &mut S,
    ) -> Result<Done, Fault> {
        status_room(sink, run.count)?;
        let (pool, owner) = pool_of(device, run.pool)?;
        let accepted = match &owner {
            Owner::Share(Some(verifier)) => self.put_verified(device, &pool, verifier, run, source),
            _ => self.put_run(device, &pool, run, source),
        };
        self.write_statuses(sink, run.count)?;
        let work = match accepted {
            0 => Work::PutRefused,
            _ => Work::PutKept,
        };
        self.serve(work, &pool);
        Ok(Done {
            statuses: run.count,
            ..Done::ok(accepted)
        })
    }

    /// Puts the pages of a run; gives how many were accepted.
    fn put_run(
        &mut self,
        device: &Device,
        pool: &Pool,
        run: &Run,
        source: &mut impl Source,
    ) -> u64 {
        let mut accepted = 0;
        let mut unmapped = false;
        let statuses = &mut self.statuses;
        pool.put_run(
            &run.object,
            run.index,
            run.count,
            &mut |_, page| {
                let read = source.read(page.as_mut_slice());
                unmapped |= read.is_err();
                read.is_ok()
            },
            &mut |nth, put| {
                let status = put_status(put);
                device.metrics.put_page(status);
                accepted += u64::from(status.is_ok());
                if let Some(slot) = statuses.get_mut(nth as usize) {
                    *slot = status;
                }
            },
        );
        if unmapped {
            device.metrics.fault(Fault::PageUnmapped);
        }
        accepted
    }

    /// Puts those pages of a run whose hash is their handle; gives how many were accepted. What is
    /// refused here leaves what is there: that is what belongs there.
    fn put_verified(
        &mut self,
        device: &Device,
        pool: &Pool,
        verifier: &Verifier,
        run: &Run,
        source: &mut impl Source,
    ) -> u64 {
        let mut accepted = 0;
        let (mut unmapped, mut mismatched) = (false, false);
        for (nth, slot) in (0..run.count).zip(&mut self.statuses) {
            // The run was judged: its last index is below 2^64.
            let index = run.index.saturating_add(u64::from(nth));
            // Copied first, so that what is kept is what was hashed.
            *slot = if source.read(self.page.as_mut_slice()).is_err() {
                unmapped = true;
                Status::IO_ERROR
            } else if verifier.hash(&self.page) != PageHash::of_handle(&run.object, index) {
                mismatched = true;
                Status::MISMATCH
            } else {
                put_status(pool.put(&run.object, index, &self.page))
            };
            device.metrics.put_page(*slot);
            accepted += u64::from(slot.is_ok());
        }
        for (happened, fault) in [
            (unmapped, Fault::PageUnmapped),
            (mismatched, Fault::HashMismatch),
        ] {
            if happened {
                device.metrics.fault(fault);
            }
        }
        accepted
    }

    fn get<S: Sink>(
        &mut self,
        device: &Device,
        run: &Run,
        remove: bool,
        sink: &mut S,
        go_on: GoOn<'_>,
    ) -> Result<Done, Undone> {
        status_room(sink, run.count)?;
        let mut data = {
            let status_sink = sink.split_off_front(u64::from(run.count));
            std::mem::replace(sink, status_sink)
        };
        room(&data, u64::from(run.count) * PAGE_SIZE as u64)?;
        let (pool, owner) = pool_of(device, run.pool)?;
        match (owner, pool.kind()) {
            _ if !remove => {}
            (Owner::Share(_), _) => return Err(Fault::RemoveShared.into()),
            (_, tmem_store::PoolKind::Persistent) => return Err(Fault::RemovePersistent.into()),
            _ => {}
        }
        let mut tally = Tally::default();
        let statuses = &mut self.statuses;
        let mut deliver = |nth: u32, found: Result<Option<&Page>, ()>| {
            let status = match found {
                Ok(Some(page)) => match data.write(page) {
                    Ok(()) => Status::OK,
                    Err(_) => Status::IO_ERROR,
                },
                Ok(None) => Status::MISS,
                Err(()) => Status::IO_ERROR,
            };
            if !matches!(found, Ok(Some(_))) {
                data.skip(PAGE_SIZE as u64);
            }
            device.metrics.get_page(status);
            tally.add(status.is_ok());
            if let Some(slot) = statuses.get_mut(nth as usize) {
                *slot = status;
            }
        };
        if remove {
            for nth in 0..run.count {
                // The run was judged: its last index is below 2^64.
                let index = run.index.saturating_add(u64::from(nth));
                let found = match pool.take(&run.object, index, &mut self.page) {
                    Get::Hit => Ok(Some(&*self.page)),
                    Get::Miss => Ok(None),
                    Get::Lost => Err(()),
                };
                deliver(nth, found);
            }
        } else {
            let (object, first) = (&run.object, run.index);
            let sink = &mut |nth, found: Found<'_>| deliver(nth, found.map_err(|_| ()));
            if !pool.get_run_while(object, first, run.count, go_on, sink) {
                return Err(Undone::Stopped);
            }
        }
        self.write_statuses(sink, run.count)?;
        let work = match tally.delivered {
            0 => Work::GetMiss,
            _ => Work::GetHit,
        };
        self.serve(work, &pool);
        Ok(Done {
            statuses: run.count,
            payload: tally.leading * PAGE_SIZE as u64,
            ..Done::ok(tally.delivered)
        })
    }

    fn flush(
        &mut self,
        device: &Device,
        work: Work,
        id: u32,
        object: &ObjectId,
        ranges: &mut [(u64, u64)],
        go_on: GoOn<'_>,
    ) -> Result<Done, Undone> {
        let (pool, owner) = pool_of(device, id)?;
        let pages = match owner {
            // Whatever is there is right, and others read it.
            Owner::Share(Some(_)) => Some(0),
            _ => pool.flush_ranges_while(object, ranges, go_on),
        };
        let pages = pages.ok_or(Undone::Stopped)?;
        device.metrics.flushed(pages);
        self.serve(work, &pool);
        Ok(Done::ok(pages))
    }

    /// Notes what is served, for who knows how long that takes.
    fn serve(&mut self, work: Work, pool: &Pool) {
        let pool = pool.kind();
        self.served = Some(Served { work, pool });
    }

    /// Writes the statuses of `count` pages or ranges.
    fn write_statuses(&self, sink: &mut impl Sink, count: u32) -> Result<(), Fault> {
        let mut bytes = [0; MAX_RUN as usize];
        for (byte, status) in bytes.iter_mut().zip(&self.statuses) {
            *byte = status.0;
        }
        let bytes = bytes.get(..count as usize).ok_or(Fault::TooLong)?;
        // Was found to be mapped before the request had an effect.
        sink.write(bytes).map_err(|_| Fault::AnswerUnmapped)
    }
}

/// Gives a range back to the host.
fn release(device: &Device, frames: &impl Frames, range: &MemoryRange) -> Status {
    match frames.release(range, device.give_back, &device.frames_in_use) {
        Ok(()) => Status::OK,
        Err(Unreleased::Foreign) => {
            device.metrics.fault(Fault::RangeForeign);
            Status::NOT_MEMORY
        }
        Err(Unreleased::Kept) => Status::NOT_MEMORY,
        Err(Unreleased::Failed) => Status::IO_ERROR,
    }
}

/// Writes an answer header; returns its length.
fn write_header(
    device: &Device,
    sink: &mut impl Sink,
    status: Status,
    pages: u64,
) -> Result<u32, Fault> {
    let answer = AnswerHeader {
        status,
        hints: device.hints(),
        pages,
    };
    sink.write(&answer.encode())
        .map_err(|_| Fault::AnswerUnmapped)?;
    device.metrics.answer(status);
    Ok(HEADER_LEN)
}

/// What a GET delivered.
#[derive(Default)]
struct Tally {
    delivered: u64,
    /// Pages before the first that was not delivered.
    leading: u64,
    broken: bool,
}

impl Tally {
    fn add(&mut self, delivered: bool) {
        self.broken |= !delivered;
        self.delivered += u64::from(delivered);
        self.leading += u64::from(!self.broken);
    }
}

/// Whose a pool is.
enum Owner {
    /// The VM.
    Vm,
    /// A share, which other VMs have, too; and what verifies its pages, if they are.
    Share(Option<Arc<Verifier>>),
}

fn pool_of(device: &Device, id: u32) -> Result<(Pool, Owner), Fault> {
    if let Some(pool) = device.client.pool(id) {
        return Ok((pool, Owner::Vm));
    }
    let share = device.shared.pool(id).ok_or(Fault::UnknownPool)?;
    let SharedPool { pool, verifier } = share?;
    Ok((pool, Owner::Share(verifier)))
}

fn pool(device: &Device, id: u32) -> Result<Pool, Fault> {
    Ok(pool_of(device, id)?.0)
}

/// Has a pool id stand for a share.
fn open_share(device: &Device, id: u32, share: WantedShare) -> Result<Done, Fault> {
    let mut ids = device.shared.change();
    if id >= device.config().max_pools {
        return Err(Fault::PoolRange);
    }
    if device.client.pool(id).is_some() {
        return Err(Fault::PoolConflict);
    }
    let status = match ids.add(id, share)? {
        true => Status::OK,
        false => Status::EXISTS,
    };
    Ok(Done {
        status,
        ..Done::ok(0)
    })
}

fn destroy_pool(device: &Device, id: u32, go_on: GoOn<'_>) -> Result<Done, Undone> {
    if device.shared.change().remove(id) {
        return Ok(Done::ok(0));
    }
    let drained = pool(device, id)?.drain_while(go_on);
    let drained = drained.ok_or(Undone::Stopped)?;
    // Another queue may have destroyed it meanwhile.
    let pages = drained
        + device
            .change_pools(|client| client.destroy_pool(id).unwrap_or(0))
            .0;
    device.metrics.destroyed(pages);
    Ok(Done::ok(pages))
}

/// Room for the page statuses, which must be writable before anything is done.
fn status_room(sink: &impl Sink, count: u32) -> Result<(), Fault> {
    if sink.remaining() < u64::from(count) {
        return Err(Fault::AnswerShort);
    }
    if !sink.is_mapped(u64::from(count)) {
        return Err(Fault::DataUnmapped);
    }
    Ok(())
}

/// Room for what follows the page statuses.
fn room(sink: &impl Sink, bytes: u64) -> Result<(), Fault> {
    if sink.remaining() < bytes {
        return Err(Fault::AnswerShort);
    }
    if !sink.is_mapped(bytes) {
        return Err(Fault::DataUnmapped);
    }
    Ok(())
}

fn create_pool(device: &Device, id: u32, kind: PoolKind) -> Result<Done, Fault> {
    let config = PoolConfig::new(match kind {
        PoolKind::Persistent => tmem_store::PoolKind::Persistent,
        PoolKind::Ephemeral => tmem_store::PoolKind::Ephemeral,
    });
    let ids = device.shared.change();
    if ids.has(id) {
        return Err(Fault::PoolConflict);
    }
    let (created, is_noted) = device.change_pools(|client| client.create_pool(id, config));
    let status = match created {
        Ok(Created::New) if !is_noted => {
            device.change_pools(|client| client.destroy_pool(id));
            Status::NO_MEMORY
        }
        Ok(Created::New) => Status::OK,
        Ok(Created::Existing) => Status::EXISTS,
        Err(PoolError::Conflict) => return Err(Fault::PoolConflict),
        Err(PoolError::TooMany) => return Err(Fault::PoolRange),
        // Not the driver's fault: a refusal, but nobody's mistake.
        Err(_) => Status::NO_MEMORY,
    };
    Ok(Done {
        status,
        ..Done::ok(0)
    })
}

fn put_status(put: Put) -> Status {
    let status = match put.result {
        Ok(()) => Status::OK,
        Err(Refused::Quota) => Status::QUOTA,
        Err(Refused::Frozen) => Status::FROZEN,
        Err(Refused::PoolGone) => Status::NO_POOL,
        Err(Refused::Unreadable) => Status::IO_ERROR,
        // No memory, or a reason that is not known here.
        Err(_) => Status::NO_MEMORY,
    };
    status.with_prior_removed(put.prior_removed)
}
