// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A driver for any vhost-user device that moves pages.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::fs::{MemfdFlags, memfd_create};
use tmem_store::{PAGE_SIZE, Page};
use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use virtio_tmem::wire::PAGE_SHIFT;
use vm_memory::{
    Bytes, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion,
};

use super::peer::Peer;
use super::ring::{DESC_NEXT, DESC_WRITE, Desc, Ring};
use super::{Direction, Protocol, Request};
use crate::samples::Samples;

/// [`PAGE_SIZE`] as a descriptor spells it.
const PAGE_BYTES: u32 = 1 << PAGE_SHIFT;
/// Most requests that are outstanding at once.
const SLOTS: u16 = 32;
/// Descriptors that a request takes at most: header, answer, page.
const DESCS_PER_SLOT: u16 = 4;
const QUEUE_SIZE: u16 = SLOTS * DESCS_PER_SLOT;
/// Bytes of a slot: header, answer and page, each in a part of its own.
const SLOT_BYTES: u64 = 8192;
const ANSWER_AT: u64 = 512;
const PAGE_AT: u64 = 4096;
/// Bytes of memory shared with the device.
const MEMORY: u64 = 2 << 20;

/// A connected device.
pub(crate) struct Driver<P> {
    protocol: P,
    memory: GuestMemoryMmap,
    ring: Ring,
    slots: u64,
    // Ends the device's process last.
    _idle: Vec<Ring>,
    _frontend: Frontend,
    peer: Option<Peer>,
}

impl<P: Protocol> Driver<P> {
    /// Connects to `peer` and makes the device ready for requests.
    pub(super) fn connect(mut peer: Peer, protocol: P) -> Result<Self> {
        let mut driver = Self::over(peer.connect()?, protocol)?;
        driver.peer = Some(peer);
        Ok(driver)
    }

    /// Makes the device behind a socket ready for requests.
    pub(crate) fn over(socket: UnixStream, protocol: P) -> Result<Self> {
        let (count, request_queue) = protocol.queues();
        let file = File::from(memfd_create("tmem-bench", MemfdFlags::CLOEXEC)?);
        file.set_len(MEMORY)?;
        let size = usize::try_from(MEMORY)?;
        let shared = FileOffset::new(file, 0);
        let memory =
            GuestMemoryMmap::from_ranges_with_files([(GuestAddress(0), size, Some(shared))])?;

        let mut rings = Vec::new();
        for number in 0..count {
            let base = Ring::BYTES * number as u64;
            rings.push(Ring::new(memory.clone(), base, QUEUE_SIZE)?);
        }
        let slots = Ring::BYTES * count as u64;
        let mut frontend = Frontend::from_stream(socket, count as u64);
        negotiate(&mut frontend, protocol.features())?;
        share(&frontend, &memory)?;
        for (number, ring) in rings.iter().enumerate() {
            start(&mut frontend, &memory, number, ring)?;
        }
        let ring = rings.remove(request_queue);
        let mut driver = Self {
            protocol,
            memory,
            ring,
            slots,
            _idle: rings,
            _frontend: frontend,
            peer: None,
        };
        if let Some(request) = driver.protocol.setup() {
            driver.submit(0, &request, None)?;
            driver.ring.publish()?;
            driver.ring.wait()?;
            driver.ring.pop()?;
            driver.check(0, &request)?;
        }
        Ok(driver)
    }

    /// Time that the threads of the device's process were on CPUs.
    pub(super) fn cpu_time(&self) -> Result<Duration> {
        self.peer.as_ref().context("no process")?.cpu_time()
    }

    /// Writes `pages` to indexes 0 and up, `depth` at a time.
    pub(crate) fn write_all(
        &mut self,
        pages: &[Page],
        depth: usize,
        times: &mut Samples,
    ) -> Result<()> {
        self.transfer(0, pages, depth, true, &mut |begin| times.push(begin))
            .map(|_| ())
    }

    /// Reads them back. Returns how many were not what they should be.
    pub(super) fn read_all(
        &mut self,
        pages: &[Page],
        depth: usize,
        times: &mut Samples,
    ) -> Result<usize> {
        self.transfer(0, pages, depth, false, &mut |begin| times.push(begin))
    }

    /// Writes `pages` to indexes from `first` on, or reads them back; tells `answered` of each
    /// when it was asked for. Returns how many were not what they should be.
    pub(crate) fn transfer(
        &mut self,
        first: u64,
        pages: &[Page],
        depth: usize,
        write: bool,
        answered: &mut dyn FnMut(Instant),
    ) -> Result<usize> {
        let mut todo = (first..).zip(pages);
        let mut free: Vec<u16> = (0..SLOTS).take(depth).collect();
        let mut started: Vec<Option<(Instant, Request, &Page)>> = Vec::new();
        started.resize_with(usize::from(SLOTS), || None);
        let mut outstanding = 0;
        let mut wrong = 0;
        loop {
            while let Some(slot) = free.pop() {
                let Some((index, page)) = todo.next() else {
                    free.push(slot);
                    break;
                };
                let request = self.protocol.request(index, write);
                let begin = Instant::now();
                self.submit(slot, &request, Some(page))?;
                if let Some(entry) = started.get_mut(usize::from(slot)) {
                    *entry = Some((begin, request, page));
                }
                outstanding += 1;
            }
            if outstanding == 0 {
                return Ok(wrong);
            }
            self.ring.publish()?;
            self.ring.wait()?;
            while let Some(head) = self.ring.pop()? {
                let slot = head / DESCS_PER_SLOT;
                let done = started.get_mut(usize::from(slot)).and_then(Option::take);
                let Some((begin, request, page)) = done else {
                    bail!("the device used chain {head}, which was not given to it");
                };
                answered(begin);
                self.check(slot, &request)?;
                if request.page == Some(Direction::Read) {
                    let mut back = [0; PAGE_SIZE];
                    let at = GuestAddress(self.slot(slot) + PAGE_AT);
                    self.memory.read_slice(&mut back, at)?;
                    wrong += usize::from(back != *page);
                }
                free.push(slot);
                outstanding -= 1;
            }
        }
    }

    fn slot(&self, slot: u16) -> u64 {
        self.slots + SLOT_BYTES * u64::from(slot)
    }

    /// Fills the slot's buffers and descriptors and pushes its chain.
    fn submit(&mut self, slot: u16, request: &Request, page: Option<&Page>) -> Result<()> {
        let base = self.slot(slot);
        self.memory
            .write_slice(&request.header, GuestAddress(base))?;
        if let (Some(Direction::Write), Some(page)) = (request.page, page) {
            self.memory
                .write_slice(page, GuestAddress(base + PAGE_AT))?;
        }
        let header = (base, u32::try_from(request.header.len())?, 0);
        let answer = (base + ANSWER_AT, u32::try_from(request.answer)?, DESC_WRITE);
        let page = request.page.map(|direction| {
            let flag = if direction == Direction::Read {
                DESC_WRITE
            } else {
                0
            };
            (base + PAGE_AT, PAGE_BYTES, flag)
        });
        let behind_answer = request.answer_first && request.page == Some(Direction::Read);
        let parts = match page {
            None => [Some(header), Some(answer), None],
            Some(page) if behind_answer => [Some(header), Some(answer), Some(page)],
            Some(page) => [Some(header), Some(page), Some(answer)],
        };
        let head = slot * DESCS_PER_SLOT;
        let last = head + u16::from(request.page.is_some()) + 1;
        for (number, (addr, len, flags)) in (head..).zip(parts.into_iter().flatten()) {
            let more = if number == last { 0 } else { DESC_NEXT };
            let desc = Desc {
                addr,
                len,
                flags: flags | more,
                next: if number == last { 0 } else { number + 1 },
            };
            self.ring.write_desc(number, &desc)?;
        }
        self.ring.push(head)
    }

    fn check(&self, slot: u16, request: &Request) -> Result<()> {
        let mut answer = vec![0; request.answer];
        let at = GuestAddress(self.slot(slot) + ANSWER_AT);
        self.memory.read_slice(&mut answer, at)?;
        if !self.protocol.is_ok(&answer) {
            bail!("the device refused a request: {answer:02x?}");
        }
        Ok(())
    }
}

fn negotiate(frontend: &mut Frontend, wanted: u64) -> Result<()> {
    frontend.set_owner()?;
    let offered = frontend.get_features()?;
    let protocol = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
    let needed = 1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_RING_F_EVENT_IDX | protocol;
    if offered & needed != needed {
        bail!("the device offers features {offered:#x}, of {needed:#x} that are needed");
    }
    let offered_protocol = frontend.get_protocol_features()?;
    let known = VhostUserProtocolFeatures::MQ
        | VhostUserProtocolFeatures::REPLY_ACK
        | VhostUserProtocolFeatures::CONFIG;
    frontend.set_protocol_features(offered_protocol & known)?;
    frontend.set_features(needed | (wanted & offered))?;
    Ok(())
}

fn share(frontend: &Frontend, memory: &GuestMemoryMmap) -> Result<()> {
    let mut regions = Vec::new();
    for region in memory.iter() {
        let file = region.file_offset().context("memory without a file")?;
        regions.push(VhostUserMemoryRegionInfo {
            guest_phys_addr: region.start_addr().0,
            memory_size: region.len(),
            userspace_addr: memory.get_host_address(region.start_addr())? as u64,
            mmap_offset: file.start(),
            mmap_handle: file.file().as_raw_fd(),
        });
    }
    frontend.set_mem_table(&regions)?;
    Ok(())
}

fn start(
    frontend: &mut Frontend,
    memory: &GuestMemoryMmap,
    number: usize,
    ring: &Ring,
) -> Result<()> {
    frontend.set_vring_num(number, QUEUE_SIZE)?;
    let config = VringConfigData {
        queue_max_size: QUEUE_SIZE,
        queue_size: QUEUE_SIZE,
        flags: 0,
        desc_table_addr: memory.get_host_address(ring.desc_table())? as u64,
        used_ring_addr: memory.get_host_address(ring.used_ring())? as u64,
        avail_ring_addr: memory.get_host_address(ring.avail_ring())? as u64,
        log_addr: None,
    };
    frontend.set_vring_addr(number, &config)?;
    frontend.set_vring_base(number, 0)?;
    frontend.set_vring_call(number, &ring.call)?;
    frontend.set_vring_kick(number, &ring.kick)?;
    frontend.set_vring_enable(number, true)?;
    Ok(())
}
