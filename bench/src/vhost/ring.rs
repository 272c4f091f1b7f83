// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The driver's side of one split virtqueue (VIRTIO 1.2, section 2.7), in
//! memory that is shared with the back end.

use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::poll::PollContext;

/// Time after which a request is taken for lost.
const LOST: Duration = Duration::from_secs(30);

pub(super) const DESC_NEXT: u16 = 1;
pub(super) const DESC_WRITE: u16 = 2;

/// Bytes that the three parts of a ring take at most, each page-aligned.
const PART: u64 = 4096;

/// One descriptor.
pub(super) struct Desc {
    pub(super) addr: u64,
    pub(super) len: u32,
    pub(super) flags: u16,
    pub(super) next: u16,
}

/// One virtqueue; its memory starts at `base`.
pub(super) struct Ring {
    memory: GuestMemoryMmap,
    base: u64,
    size: u16,
    /// Next slot of the available ring, not yet published beyond `published`.
    next_avail: u16,
    published: u16,
    last_used: u16,
    pub(super) kick: EventFd,
    pub(super) call: EventFd,
    interrupts: PollContext<()>,
}

impl Ring {
    /// Bytes of memory that a ring takes.
    pub(super) const BYTES: u64 = 3 * PART;

    pub(super) fn new(memory: GuestMemoryMmap, base: u64, size: u16) -> Result<Self> {
        let call = EventFd::new(0)?;
        let interrupts = PollContext::new()?;
        interrupts.add(&call, ())?;
        Ok(Self {
            memory,
            base,
            size,
            next_avail: 0,
            published: 0,
            last_used: 0,
            kick: EventFd::new(0)?,
            call,
            interrupts,
        })
    }

    pub(super) fn desc_table(&self) -> GuestAddress {
        GuestAddress(self.base)
    }

    pub(super) fn avail_ring(&self) -> GuestAddress {
        GuestAddress(self.base + PART)
    }

    pub(super) fn used_ring(&self) -> GuestAddress {
        GuestAddress(self.base + 2 * PART)
    }

    pub(super) fn write_desc(&self, index: u16, desc: &Desc) -> Result<()> {
        let mut bytes = [0; 16];
        let (addr, rest) = bytes.split_at_mut(8);
        let (len, rest) = rest.split_at_mut(4);
        let (flags, next) = rest.split_at_mut(2);
        addr.copy_from_slice(&desc.addr.to_le_bytes());
        len.copy_from_slice(&desc.len.to_le_bytes());
        flags.copy_from_slice(&desc.flags.to_le_bytes());
        next.copy_from_slice(&desc.next.to_le_bytes());
        let at = GuestAddress(self.base + 16 * u64::from(index));
        Ok(self.memory.write_slice(&bytes, at)?)
    }

    /// Adds a chain; the device sees it at the next [`Ring::publish`].
    pub(super) fn push(&mut self, head: u16) -> Result<()> {
        let slot = u64::from(self.next_avail % self.size);
        let at = GuestAddress(self.avail_ring().0 + 4 + 2 * slot);
        self.memory.write_obj(head.to_le(), at)?;
        self.next_avail = self.next_avail.wrapping_add(1);
        Ok(())
    }

    /// Shows the device all chains that were pushed, and kicks it if it asked
    /// to be kicked (`VIRTIO_F_EVENT_IDX`).
    pub(super) fn publish(&mut self) -> Result<()> {
        let old = self.published;
        let new = self.next_avail;
        if old == new {
            return Ok(());
        }
        let idx = GuestAddress(self.avail_ring().0 + 2);
        self.memory.store(new.to_le(), idx, Ordering::Release)?;
        self.published = new;
        fence(Ordering::SeqCst);
        let at = GuestAddress(self.used_ring().0 + 4 + 8 * u64::from(self.size));
        let event: u16 = u16::from_le(self.memory.load(at, Ordering::Relaxed)?);
        if new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old) {
            self.kick.write(1).context("cannot kick")?;
        }
        Ok(())
    }

    /// Head of the next chain that the device has used.
    pub(super) fn pop(&mut self) -> Result<Option<u16>> {
        let at = GuestAddress(self.used_ring().0 + 2);
        let idx: u16 = u16::from_le(self.memory.load(at, Ordering::Acquire)?);
        if idx == self.last_used {
            return Ok(None);
        }
        let slot = u64::from(self.last_used % self.size);
        let at = GuestAddress(self.used_ring().0 + 4 + 8 * slot);
        let head: u32 = self.memory.read_obj(at)?;
        self.last_used = self.last_used.wrapping_add(1);
        Ok(Some(u16::try_from(u32::from_le(head))?))
    }

    /// Sleeps until the device has used a chain beyond those popped.
    pub(super) fn wait(&mut self) -> Result<()> {
        let used_event = GuestAddress(self.avail_ring().0 + 4 + 2 * u64::from(self.size));
        let used_idx = GuestAddress(self.used_ring().0 + 2);
        loop {
            self.memory
                .store(self.last_used.to_le(), used_event, Ordering::Relaxed)?;
            fence(Ordering::SeqCst);
            let idx: u16 = u16::from_le(self.memory.load(used_idx, Ordering::Acquire)?);
            if idx != self.last_used {
                return Ok(());
            }
            if self.interrupts.wait_timeout(LOST)?.iter().next().is_none() {
                bail!("a request got no answer in {} s", LOST.as_secs());
            }
            self.call.read().context("cannot clear the interrupt")?;
        }
    }
}
